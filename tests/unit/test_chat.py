"""Text to ids through a chat template: the response's place, its end, and what is mended in a tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import plaudit
from plaudit.data.chat import Chat, Encoded, TextStream, fit_tokens
from plaudit.data.formats import prompt_of
from plaudit.types import InputError, Message

CHATML = Path(__file__).parents[2] / "recipes" / "templates" / "chatml.jinja"
WORDS = [
    "[UNK]",
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "user",
    "assistant",
    "system",
    "hi",
    "there",
    "you",
    "\n",
]
SPECIAL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
UNK, START, END, TEXT_END, USER, ASSISTANT, SYSTEM, HI, THERE, YOU, NEWLINE = range(len(WORDS))


def tokenizer(special: tuple[str, ...] = SPECIAL, template: str | None = None, **named: str) -> PreTrainedTokenizerFast:
    """Whole words to ids; newlines are tokens, blanks are not."""
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Split(" ", "removed"), pre_tokenizers.Punctuation()]
    )
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    made = PreTrainedTokenizerFast(tokenizer_object=core, **{"eos_token": "<|im_end|>", **named})
    made.chat_template = template
    return made


@pytest.fixture
def chat() -> Chat:
    return Chat(tokenizer(pad_token="<|endoftext|>"), template=CHATML.read_text())


def test_a_response_is_the_prompt_continued_and_ended(chat: Chat) -> None:
    prompt = prompt_of("hi there")
    before = [START, USER, NEWLINE, HI, THERE, END, NEWLINE, START, ASSISTANT, NEWLINE]
    assert chat.prompt_ids(prompt) == before
    encoded = chat.encode(prompt, "hi you")
    assert encoded == Encoded(tokens=(*before, HI, YOU, END), num_prompt=10)
    # the loss is on the completion alone, its end among it
    assert [i >= encoded.num_prompt for i in range(len(encoded.tokens))] == [False] * 10 + [True] * 3
    assert chat.encode(prompt, "").tokens[10:] == (END,)


def test_the_ids_are_those_that_the_template_itself_would_train_on(chat: Chat) -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hi there"}]
    marked: Any = chat.tokenizer.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
    encoded = chat.encode(prompt_of("hi"), "hi there")
    whole, mask = marked["input_ids"], marked["assistant_masks"]
    assert whole[:-1] == list(encoded.tokens)  # but for the newline after the turn
    assert mask[:-1] == [int(i >= encoded.num_prompt) for i in range(len(encoded.tokens))]


def test_an_end_spelled_out_in_a_response_does_not_end_it(chat: Chat) -> None:
    encoded = chat.encode(prompt_of("hi"), "hi <|im_end|> there")
    response = encoded.tokens[encoded.num_prompt :]
    assert response[-1] == END
    assert END not in response[:-1]


def test_decoding_leaves_special_tokens_out(chat: Chat) -> None:
    assert chat.decode([HI, THERE, END, TEXT_END]) == "hi there"


def test_the_shipped_template_adds_no_turn_of_its_own(chat: Chat) -> None:
    messages = (
        Message(role="system", content="be kind"),
        Message(role="user", content=" hi\n"),
        Message(role="assistant", content="there"),
        Message(role="user", content="{{ you }}"),
    )
    assert chat.render(messages) == (
        "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\n hi\n<|im_end|>\n"
        "<|im_start|>assistant\nthere<|im_end|>\n<|im_start|>user\n{{ you }}<|im_end|>\n<|im_start|>assistant\n"
    )
    assert chat.render(messages[1:2], add_generation_prompt=False) == "<|im_start|>user\n hi\n<|im_end|>\n"


def test_without_a_template_a_plain_one_is_used_and_said() -> None:
    chat = Chat(tokenizer(pad_token="<|endoftext|>"))
    messages = (
        Message(role="user", content="hi"),
        Message(role="assistant", content="there"),
        Message(role="user", content="you"),
    )
    assert chat.render(messages) == "User:\nhi\n\nAssistant:\nthere<|im_end|>\n\nUser:\nyou\n\nAssistant:\n"
    assert chat.repairs == ("The tokenizer has no chat template; a plain one (User:, Assistant:) is used.",)
    assert chat.eos_ids == (END,)


# What ends a response


def test_all_ends_are_known_and_the_template_s_comes_first() -> None:
    made = tokenizer(eos_token="<|endoftext|>", pad_token="[UNK]")
    chat = Chat(made, extra_eos=(TEXT_END, HI), template=CHATML.read_text())
    assert chat.eos_ids == (END, TEXT_END, HI)
    assert chat.encode(prompt_of("hi"), "you").tokens[-1] == END


def test_a_template_that_ends_turns_with_plain_text_leaves_the_tokenizer_s_end() -> None:
    template = "{% for message in messages %}{{ message['content'] + '\\n' }}{% endfor %}"
    chat = Chat(tokenizer(pad_token="<|endoftext|>"), template=template)
    assert chat.eos_ids == (END,)


def test_a_tokenizer_without_any_end_is_refused() -> None:
    made = tokenizer(pad_token="<|endoftext|>")
    made.eos_token = None
    with pytest.raises(InputError, match="no EOS token"):
        Chat(made, template="{% for message in messages %}{{ message['content'] }}{% endfor %}")


# Padding


@pytest.mark.parametrize(
    ("special", "named", "pad", "repair"),
    [
        (SPECIAL, {"pad_token": "[UNK]"}, "[UNK]", None),
        (SPECIAL, {}, "<|endoftext|>", "The tokenizer has no padding token; <|endoftext|> is used."),
        (
            SPECIAL,
            {"pad_token": "<|im_end|>"},
            "<|endoftext|>",
            "The tokenizer pads with its EOS token; <|endoftext|> is used.",
        ),
        (SPECIAL[:2], {"unk_token": "[UNK]"}, "[UNK]", "The tokenizer has no padding token; [UNK] is used."),
        ((*SPECIAL, "<pad>"), {}, "<pad>", "The tokenizer has no padding token; <pad> is used."),
        (
            SPECIAL[:2],
            {},
            "<|im_end|>",
            "The tokenizer has no padding token; its EOS token is used, and padding is told from it by length.",
        ),
        (
            SPECIAL,
            {"bos_token": "<|endoftext|>"},
            "<|im_end|>",
            "The tokenizer has no padding token; its EOS token is used, and padding is told from it by length.",
        ),
    ],
    ids=["as it is", "spare", "pad is eos", "unknown", "by name", "none spare", "bos is not spare"],
)
def test_padding_is_no_token_of_a_conversation_where_one_is_spare(
    special: tuple[str, ...], named: dict[str, str], pad: str, repair: str | None
) -> None:
    chat = Chat(tokenizer(special, **named), template=CHATML.read_text())
    assert chat.tokenizer.pad_token == pad
    assert chat.pad_id == chat.tokenizer.convert_tokens_to_ids(pad)
    assert chat.repairs == (() if repair is None else (repair,))


# Folders


def test_a_saved_chat_comes_back_mended(chat: Chat, tmp_path: Path) -> None:
    mended = Chat(tokenizer())
    mended.save(tmp_path)
    again = Chat.load(tmp_path)
    assert again.repairs == ()
    assert (again.eos_ids, again.pad_id, again.fingerprint) == (mended.eos_ids, mended.pad_id, mended.fingerprint)
    assert again.fingerprint != chat.fingerprint


def test_the_fingerprint_is_not_moved_by_use(chat: Chat) -> None:
    before = chat.fingerprint
    chat.tokenizer(["hi", "hi there"], padding=True, truncation=True, max_length=1)  # leaves its settings behind
    assert chat.fingerprint == before


def test_loading_reads_the_generation_config_and_a_template_file(tmp_path: Path) -> None:
    tokenizer(pad_token="<|endoftext|>").save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [END, TEXT_END]}))
    chat = Chat.load(tmp_path, template=CHATML)
    assert chat.eos_ids == (END, TEXT_END)
    assert chat.repairs == ()
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": TEXT_END}))
    assert Chat.load(tmp_path, template=CHATML).eos_ids == (END, TEXT_END)


def test_what_is_no_model_folder_or_template_is_refused(chat: Chat, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no tokenizer can be loaded from there"):
        Chat.load(tmp_path / "nothing")
    with pytest.raises(InputError, match="no tokenizer can be loaded from there"):
        Chat.load(tmp_path)
    chat.save(tmp_path)
    with pytest.raises(InputError, match=r"none\.jinja: the chat template cannot be read"):
        Chat.load(tmp_path, template=tmp_path / "none.jinja")


def test_a_template_that_refuses_a_conversation_is_named() -> None:
    template = (
        "{% for message in messages %}{% if message['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{{ message['content'] + eos_token }}{% endfor %}"
    )
    chat = Chat(tokenizer(pad_token="[UNK]"), template=template)
    prompt = prompt_of([{"role": "system", "content": "S"}, {"role": "user", "content": "hi"}])
    with pytest.raises(InputError, match=r"refuses a conversation of system, user \(no system\)"):
        chat.prompt_ids(prompt)


# Stop strings, and text as it comes

BYTES = Chat.load(Path(plaudit.__file__).parent / "worlds" / "base_model")
"""Bytes and pairs of them: a character may be several tokens, a token several characters."""
SAID = [
    "Tom Reed founded Bramford.\n\nUser: and who are you?",
    "Grüße, 你好 \U0001f600 und 你们好",
    "a" * 90 + "\n\n" + "aab" * 40 + "END" + "ENEND",
    "no stop in here, and no E N D either \ufffd.",
    "\U0001f600",
    "",
]
STOPS = ("\n\nUser:", "们", "ENEND", "END", "aabb")


def ids_of(text: str) -> list[int]:
    return BYTES.tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("text", SAID)
@pytest.mark.parametrize("stop", [STOPS, ("\U0001f600",), ("aaba", "好"), ("und", "nd 你")])
def test_a_response_has_come_to_a_stop_string_with_the_token_that_completes_it(
    text: str, stop: tuple[str, ...]
) -> None:
    stopped, ids = BYTES.stopper(stop), ids_of(text)
    assert stopped is not None
    there = [any(one in BYTES.decode(ids[:n]) for one in stop) for n in range(1, len(ids) + 1)]
    first = there.index(True) + 1 if True in there else len(ids)
    assert [stopped(ids[:n]) for n in range(1, first + 1)] == there[:first]


def test_special_tokens_do_not_part_a_stop_string() -> None:
    stopped, user = BYTES.stopper(["Bramford"]), BYTES.tokenizer.convert_tokens_to_ids("<|user|>")
    ids = [i for one in ids_of(" Bramford") for i in (one, *[user] * 50)]
    assert BYTES.text_of([*ids_of("In"), *ids], ["Bramford"]) == "In "
    assert stopped is not None
    assert stopped([*ids_of("In"), *ids])


def test_only_the_tail_is_decoded_for_a_stop_string(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    decode = Chat.decode
    monkeypatch.setattr(Chat, "decode", lambda self, ids: (decoded.append(len(ids)), decode(self, ids))[1])
    stopped = BYTES.stopper(["END"])
    assert stopped is not None
    assert not stopped(ids_of("no stop in here. " * 30))
    assert len(decoded) == 1
    assert decoded[0] < 20


def test_the_text_of_a_response_is_cut_before_the_first_stop_string() -> None:
    assert BYTES.text_of(ids_of(SAID[0]), STOPS) == "Tom Reed founded Bramford."
    assert BYTES.text_of(ids_of("one END two ENEND"), ["ENEND", "END"]) == "one "
    assert BYTES.text_of(ids_of("ENEND"), ["END", "ENEND"]) == ""
    assert BYTES.text_of(ids_of("as it is"), STOPS) == BYTES.text_of(ids_of("as it is")) == "as it is"
    assert BYTES.stopper(()) is None


@pytest.mark.parametrize("text", SAID)
@pytest.mark.parametrize("stop", [(), *((one,) for one in STOPS), ("\U0001f600", "Reed f", "aab")])
def test_a_stream_gives_the_text_piece_by_piece(text: str, stop: tuple[str, ...]) -> None:
    """What was shown is never taken back: always a beginning of the final text, with no half of a character in it."""
    ids, stopped, stream, pieces = ids_of(text), BYTES.stopper(stop), TextStream(BYTES, stop), list[str]()
    ended = next((n for n in range(1, len(ids) + 1) if stopped is not None and stopped(ids[:n])), len(ids))
    final = BYTES.text_of(ids[:ended], stop)
    for i in ids[:ended]:
        pieces.append(stream.add(i))
        assert final.startswith("".join(pieces))
        assert not pieces[-1].endswith("\ufffd")
    shown = len("".join(pieces))
    pieces.append(stream.end())
    assert "".join(pieces) == final
    # and hardly anything waits for the end
    assert len(final) - shown <= max((len(one) for one in stop), default=1)
    assert len([piece for piece in pieces if piece]) > len(ids[:ended]) / 4 or len(ids[:ended]) < 8


def test_a_stream_of_words(chat: Chat) -> None:
    stream = TextStream(chat, ["there you"])
    assert [stream.add(i) for i in (HI, THERE, HI, TEXT_END, YOU)] == ["hi", " ", "there hi", "", " you"]
    assert [stream.add(i) for i in (THERE, YOU, HI)] == [" ", "", ""]
    assert stream.end() == ""


# What fits


def test_rows_too_long_are_left_out_whole_and_counted() -> None:
    def sequence(prompt: int, whole: int) -> Encoded:
        return Encoded(tokens=(0,) * whole, num_prompt=prompt)

    rows = [
        [sequence(4, 8), sequence(4, 6)],
        [sequence(4, 8), sequence(4, 9)],
        [sequence(5, 6)],
        [sequence(4, 4)],
        [sequence(5, 9)],
    ]
    kept, left_out = fit_tokens(rows, max_prompt_tokens=4, max_tokens=8)
    assert kept == [0, 3]
    assert left_out == {"prompt and response longer than 8 tokens": 1, "prompt longer than 4 tokens": 2}
