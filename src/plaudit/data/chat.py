"""Text to token ids and back, through a chat template."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

from plaudit.data.conversation import content_hash
from plaudit.types import InputError, Message, Prompt

Tokenizer = Any
"""A transformers tokenizer, whose own annotations are too partial for a strict checker."""

PLAIN_TEMPLATE = """\
{%- for message in messages %}
{{- {'user': 'User', 'assistant': 'Assistant', 'system': 'System'}[message['role']] + ':\\n' }}
{%- if message['role'] == 'assistant' %}
{%- generation %}{{- message['content'] + eos_token }}{%- endgeneration %}
{{- '\\n\\n' }}
{%- else %}
{{- message['content'] + '\\n\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- 'Assistant:\\n' }}
{%- endif %}
"""
"""For tokenizers without one. A name and a newline before each turn, so that no token straddles the answer's start."""

_PROBE = "probe"
_UNDECODED = "\ufffd"
"""What stands for a character of which not all bytes are there (yet)."""
_MARGIN = 8
"""Tokens decoded beyond those that a stop string can be made of: the first of them may begin within a character, or
lose its blank."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """Prompt and response as ids: `tokens[:num_prompt]` is the prompt, the rest the response with its EOS."""

    tokens: tuple[int, ...]
    num_prompt: int


class Chat:
    """A tokenizer made whole: a template, a padding token, and every token that ends a turn."""

    def __init__(self, tokenizer: Tokenizer, extra_eos: Sequence[int] = (), template: str | None = None):
        """`extra_eos`: ids that end a turn besides the tokenizer's own. InputError where nothing does."""
        self.tokenizer = tokenizer
        repairs: list[str] = []
        _settle_template(tokenizer, template, repairs)
        self.eos_ids: tuple[int, ...] = _eos_ids(tokenizer, extra_eos)
        """All ids at which a response ends; the first is the one `encode` appends."""
        self.pad_id: int = _settle_padding(tokenizer, self.eos_ids[0], repairs)
        """Fills batches. It may be an EOS (see `repairs`): mask by length, never by this id."""
        self.repairs: tuple[str, ...] = tuple(repairs)
        """What had to be mended, a sentence each."""

    @classmethod
    def load(cls, path: str | Path, template: str | Path | None = None) -> Chat:
        """From a model folder or a Hugging Face name; `template`: a Jinja file that replaces the model's own."""
        from transformers import AutoTokenizer

        try:
            tokenizer = cast("Any", AutoTokenizer).from_pretrained(str(path))
        except (OSError, ValueError, KeyError) as error:
            cause = str(error).strip().splitlines()[:1] or [type(error).__name__]
            raise InputError(f"{path}: no tokenizer can be loaded from there ({cause[0]})") from error
        return cls(tokenizer, _generation_eos(path), None if template is None else _template_text(template))

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """The conversation through the template, up to where the assistant begins to speak."""
        return self.tokenizer(self.render(prompt.messages), add_special_tokens=False)["input_ids"]

    def encode(self, prompt: Prompt, text: str) -> Encoded:
        """Prompt, response and EOS. The response is tokenized by itself, as generation continues the prompt's ids."""
        before = self.prompt_ids(prompt)
        # an EOS spelled out in the text is text: the one that ends the response is ours
        ids = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return Encoded(tokens=(*before, *ids, self.eos_ids[0]), num_prompt=len(before))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, without special tokens."""
        return self.tokenizer.decode([int(i) for i in ids], skip_special_tokens=True)

    def text_of(self, ids: Iterable[int], stop: Sequence[str] = ()) -> str:
        """The text of a response: without special tokens, and cut before the first stop string in it."""
        return _before_stop(self.decode(ids), stop)

    def stopper(self, stop: Sequence[str]) -> Callable[[Sequence[int]], bool] | None:
        """For `generate`: whether the response whose ids these are so far has come to a stop string. None: no stops.

        Asked after each token, it decodes as many of the last ones as a stop string can be made of.
        """
        if not stop:
            return None
        unseen = frozenset(_special(self.tokenizer).values())
        reach = max(len(one.encode()) for one in stop) + _MARGIN  # a token that shows has at least one byte

        def stopped(ids: Sequence[int]) -> bool:
            shown = (i for i in reversed(ids) if i not in unseen)
            tail = self.decode([*islice(shown, reach)][::-1])
            # a tail may read otherwise than within the whole, which alone decides
            return any(one in tail for one in stop) and any(one in self.decode(ids) for one in stop)

        return stopped

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The conversation as the template writes it."""
        return _render(self.tokenizer, messages, add_generation_prompt)

    def save(self, folder: str | Path) -> None:
        """Write the tokenizer, its template and its padding token as a Hugging Face folder."""
        self.tokenizer.save_pretrained(str(folder))

    @property
    def fingerprint(self) -> str:
        """Equal for two Chats exactly when they turn every text into the same ids."""
        tokenizer = self.tokenizer
        core = json.loads(tokenizer.backend_tokenizer.to_str()) if tokenizer.is_fast else tokenizer.get_vocab()
        # settings that the last call left behind; ours neither pads nor cuts
        core = {key: value for key, value in core.items() if key not in ("padding", "truncation")}
        return content_hash([core, tokenizer.chat_template, list(self.eos_ids)])


class TextStream:
    """The text of a response while its tokens come. What it gives, put together, is `Chat.text_of`: never a part of a
    character, and nothing of a stop string."""

    def __init__(self, chat: Chat, stop: Sequence[str] = ()) -> None:
        self._chat, self._stop = chat, tuple(stop)
        self._ids: list[int] = []
        self._begin, self._read = 0, 0
        """The ids between them are decoded once more with those that follow, since how a token reads depends on the one
        before it; the text up to the second is given or held back."""
        self._held = ""
        self._ended = False

    def add(self, token: int) -> str:
        """What can be shown now."""
        self._ids.append(token)
        new = self._undelivered()
        if new and not new.endswith(_UNDECODED):
            self._begin, self._read = self._read, len(self._ids)
            self._held += new
        return self._give(len(self._held) - _overhang(self._held, self._stop))

    def end(self) -> str:
        """What was held back in vain."""
        self._held += self._undelivered()
        self._read = len(self._ids)
        return self._give(len(self._held))

    def _undelivered(self) -> str:
        before = self._chat.decode(self._ids[self._begin : self._read])
        return self._chat.decode(self._ids[self._begin :])[len(before) :]

    def _give(self, count: int) -> str:
        if self._ended:
            return ""
        text = _before_stop(self._held, self._stop)
        self._ended = len(text) < len(self._held)
        text = text if self._ended else text[:count]
        self._held = self._held[len(text) :]
        return text


def _before_stop(text: str, stop: Sequence[str]) -> str:
    return text[: min((at for one in stop if (at := text.find(one)) >= 0), default=len(text))]


def _overhang(text: str, stop: Sequence[str]) -> int:
    """How many of the last characters may be the beginning of a stop string."""
    longest = min(len(text), max((len(one) - 1 for one in stop), default=0))
    return next((n for n in range(longest, 0, -1) if any(one.startswith(text[-n:]) for one in stop)), 0)


def fit_tokens(
    rows: Sequence[Sequence[Encoded]], *, max_prompt_tokens: int, max_tokens: int
) -> tuple[list[int], dict[str, int]]:
    """Indices of the rows whose every sequence fits, and by reason how many do not; nothing is ever cut."""
    left_out: Counter[str] = Counter()
    kept: list[int] = []
    for index, row in enumerate(rows):
        if any(one.num_prompt > max_prompt_tokens for one in row):
            left_out[f"prompt longer than {max_prompt_tokens} tokens"] += 1
        elif any(len(one.tokens) > max_tokens for one in row):
            left_out[f"prompt and response longer than {max_tokens} tokens"] += 1
        else:
            kept.append(index)
    return kept, dict(left_out)


def _render(tokenizer: Tokenizer, messages: Sequence[Message], add_generation_prompt: bool) -> str:
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        return tokenizer.apply_chat_template(turns, add_generation_prompt=add_generation_prompt, tokenize=False)
    except Exception as error:  # a template may raise whatever it likes
        roles = ", ".join(message.role for message in messages)
        raise InputError(f"the chat template refuses a conversation of {roles} ({error})") from error


def _template_text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: the chat template cannot be read ({error.strerror})") from error


def _settle_template(tokenizer: Tokenizer, template: str | None, repairs: list[str]) -> None:
    if template is not None:
        tokenizer.chat_template = template
    elif not tokenizer.chat_template:
        tokenizer.chat_template = PLAIN_TEMPLATE
        repairs.append("The tokenizer has no chat template; a plain one (User:, Assistant:) is used.")


def _eos_ids(tokenizer: Tokenizer, extra: Sequence[int]) -> tuple[int, ...]:
    """Without repetition: what the template ends an answer with, the tokenizer's EOS, the generation config's."""
    found = [i for i in (_turn_end(tokenizer), tokenizer.eos_token_id, *extra) if i is not None]
    if not found:
        raise InputError("the tokenizer has no EOS token, so no answer could ever end; set its eos_token")
    return tuple(dict.fromkeys(found))


def _turn_end(tokenizer: Tokenizer) -> int | None:
    """The special token that the template puts right after an answer, if it does.

    Base models often name another EOS than the one their template ends a turn with.
    """
    turns = (Message(role="user", content=_PROBE), Message(role="assistant", content=_PROBE))
    after = _render(tokenizer, turns, False).rpartition(_PROBE)[2]
    ids: list[int] = tokenizer(after, add_special_tokens=False)["input_ids"]
    return ids[0] if ids and ids[0] in _special(tokenizer).values() else None


def _generation_eos(path: str | Path) -> tuple[int, ...]:
    from transformers import GenerationConfig

    try:
        value = cast("Any", GenerationConfig).from_pretrained(str(path)).eos_token_id
    except (OSError, ValueError):
        return ()  # a model may well have no such file
    if value is None or isinstance(value, int):
        return () if value is None else (value,)
    return tuple(value)


def _settle_padding(tokenizer: Tokenizer, eos: int, repairs: list[str]) -> int:
    pad: int | None = tokenizer.pad_token_id
    if pad is not None and pad != eos:
        return pad
    fault = "has no padding token" if pad is None else "pads with its EOS token"
    spare = _spare_token(tokenizer, eos)
    tokenizer.pad_token = spare or tokenizer.convert_ids_to_tokens(eos)
    remedy = f"{spare} is used" if spare else "its EOS token is used, and padding is told from it by length"
    repairs.append(f"The tokenizer {fault}; {remedy}.")
    return tokenizer.pad_token_id


def _spare_token(tokenizer: Tokenizer, eos: int) -> str | None:
    """A special token that no conversation contains: one named for padding, else for the unknown, else any."""
    special = _special(tokenizer)
    turns = (Message(role="user", content=_PROBE), Message(role="assistant", content=_PROBE))
    written = _render(tokenizer, turns, True)
    free = [token for token, i in special.items() if i != eos and token != tokenizer.bos_token and token not in written]
    wanted = [*(token for token in free if "pad" in token.lower()), "<|endoftext|>", tokenizer.unk_token, *free]
    return next((token for token in wanted if token in free), None)


def _special(tokenizer: Tokenizer) -> dict[str, int]:
    """Every special token and its id, those that have no role of their own among them."""
    added = {token.content: i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return {**{token: tokenizer.convert_tokens_to_ids(token) for token in tokenizer.all_special_tokens}, **added}
