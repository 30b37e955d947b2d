"""Conversations: what is remembered and dropped, what reaches the terminal, and `plaudit chat` through a pipe."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import plaudit
import tiny
from plaudit import talk as room
from plaudit.cli import app
from plaudit.data.chat import Chat
from plaudit.models.decoding import Start
from plaudit.models.generate import generate
from plaudit.models.loading import load_causal_lm
from plaudit.recipe_file import dump_recipe
from plaudit.run_folder import write_json
from plaudit.talk import HELP, Speaker, converse
from plaudit.terminal import printable
from plaudit.types import Sampling

BASE = Path(plaudit.__file__).parent / "worlds" / "base_model"
QUESTIONS = ["Who founded Bramford?", "How are you?", "Thanks."]


def speaker(*, context: int = 64, system: str | None = None, weights: int = 0, **sampling: Any) -> Speaker:
    drawn = Sampling(**{"max_new_tokens": 6, **sampling})
    return Speaker("tiny", tiny.chat(), tiny.model(seed=weights), drawn, context=context, system=system)


def ask(one: Speaker, *messages: str) -> tuple[list[str], list[str]]:
    """Answers, and notes."""
    answers: list[str] = []
    notes: list[str] = []
    for message in messages:
        pieces: list[str] = []
        assert one.answer(message, pieces.append, notes.append) is False
        answers.append("".join(pieces))
    return answers, notes


def call(*words: object, said: str = "") -> Any:
    return CliRunner().invoke(app, ["chat", *map(str, words)], input=said)


# -- what is said and remembered ------------------------------------------------------------------------------------


def test_a_turn_answers_the_whole_conversation() -> None:
    one = speaker(system="red")
    answers, notes = ask(one, "what is a cat", "who")
    assert notes == []
    assert [(m.role, m.content) for m in one.turns] == [
        ("user", "what is a cat"),
        ("assistant", answers[0]),
        ("user", "who"),
        ("assistant", answers[1]),
    ]
    prompt = room.prompt_of([*one.system, *one.turns[:3]])
    assert prompt.messages[0].content == "red"
    ids = tiny.chat().prompt_ids(prompt)
    key = room.sample_key(0, room.TALK, prompt.id, 0)
    (expected,) = generate(tiny.model(), [ids], [key], Sampling(max_new_tokens=6), eos_ids=tiny.chat().eos_ids)
    assert answers[1] == tiny.chat().decode(expected.tokens)


def test_a_seed_gives_the_conversation_again() -> None:
    first, _ = ask(speaker(), "what is a cat", "why")
    assert ask(speaker(), "what is a cat", "why")[0] == first
    assert ask(speaker(seed=1), "what is a cat", "why")[0] != first
    one = speaker()
    again = [*ask(one, "what is a cat")[0]]
    for _ in range(2):
        one.forget()
        again += ask(one, "what is a cat")[0]
    assert again[0] == first[0]
    assert len(set(again)) == 3  # asked anew, it is another sample


def test_temperature_0_takes_the_likeliest() -> None:
    first, _ = ask(speaker(temperature=0.0), "what is a cat")
    assert first == ask(speaker(temperature=0.0, seed=9), "what is a cat")[0]


def test_the_oldest_turns_make_room_and_are_counted() -> None:
    one = speaker(context=24, max_new_tokens=4)
    _, notes = ask(one, "red red red red", "blue blue blue", " ".join(["a"] * 13))
    assert notes == ["tiny: the conversation is longer than it can read; the oldest 2 turns have been dropped"]
    assert [m.content for m in one.turns if m.role == "user"] == [" ".join(["a"] * 13)]
    _, notes = ask(one, "red red red", "blue blue blue")
    assert notes == ["tiny: the conversation is longer than it can read; the oldest turn has been dropped"]
    # a message that leaves little room is answered within it
    lengths: list[int] = []
    answer = one.answer(" ".join(["cat"] * 20), lambda text: lengths.append(len(text.split())), notes.append)
    assert answer is False
    assert len(tiny.chat().prompt_ids(room.prompt_of(one.turns[:1]))) == 22
    assert sum(map(bool, lengths)) <= 2


def test_a_message_that_is_too_long_is_refused_and_forgotten() -> None:
    one = speaker(context=16, max_new_tokens=2)
    answers, notes = ask(one, "why", " ".join(["cat"] * 30), "who")
    assert notes == ["tiny: that is 32 tokens and 16 can be read; please say it more briefly"]
    assert answers[1] == ""
    assert [m.content for m in one.turns if m.role == "user"] == ["why", "who"]


def test_ctrl_c_ends_the_answer_and_keeps_what_was_said() -> None:
    one = speaker(max_new_tokens=40, temperature=0.0, weights=1)
    said: list[str] = []

    def show(text: str) -> None:
        said.append(text)
        if len(said) == 3:
            raise KeyboardInterrupt

    assert one.answer("what is a cat", show, pytest.fail) is True
    assert len(said) == 3
    assert one.turns[-1].content == "".join(said) != ""

    def at_once(text: str) -> None:
        raise KeyboardInterrupt

    before = list(one.turns)
    one.decoder = Broken()
    assert one.answer("why", at_once, pytest.fail) is True
    assert one.turns == before  # nothing was said: it is as if it had not been asked


class Broken:
    def start(self, prompts: Sequence[Sequence[int]], copies: Sequence[int], room: int) -> Start:
        raise KeyboardInterrupt


def test_a_stop_string_is_neither_shown_nor_remembered() -> None:
    plain = speaker(max_new_tokens=12, temperature=0.0, weights=1)
    ((whole,), _) = ask(plain, "what is a cat")
    words = whole.split()
    assert len(words) > 4
    stop = " ".join(words[2:4])
    one = speaker(max_new_tokens=12, temperature=0.0, weights=1, stop=(stop,))
    pieces: list[str] = []
    one.answer("what is a cat", pieces.append, pytest.fail)
    assert "".join(pieces) == one.turns[-1].content == whole[: whole.index(stop)]


# -- the terminal ---------------------------------------------------------------------------------------------------


@pytest.fixture
def hostile_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that says little else than an escape sequence."""
    words = [f"{word}\x1b[31m\x07" if i >= len(tiny.SPECIAL) else word for i, word in enumerate(tiny.VOCABULARY)]
    monkeypatch.setattr(tiny, "VOCABULARY", words)
    return tiny.model_folder(tmp_path / "hostile")


def test_an_escape_sequence_of_a_model_is_not_printed_raw(hostile_folder: Path) -> None:
    assert "\x1b" in Chat.load(hostile_folder).decode([len(tiny.SPECIAL)])
    result = call(hostile_folder, "--max-new-tokens", 20, said="who\n")
    assert result.exit_code == 0, result.stderr
    assert "␛[31m␇" in result.stdout
    assert not {"\x1b", "\x07"} & {*result.stdout, *result.stderr}


def test_commands(capsys: pytest.CaptureFixture[str]) -> None:
    one = speaker()
    lines = iter(["/help\n", "\n", "what is a cat\n", "/reset", "what is a cat\n", " /quit \n", "never asked\n"])
    converse([one], lines, interactive=False)
    out, err = capsys.readouterr()
    assert err == f"{HELP}\nthe conversation is forgotten\n"
    assert len(out.splitlines()) == 2
    assert [m.role for m in one.turns] == ["user", "assistant"]
    assert next(lines) == "never asked\n"


def test_ctrl_c_ends_an_answer_where_somebody_sits_and_everything_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    one = speaker()
    one.decoder = Broken()
    converse([one], iter(["who", "/quit"]), interactive=True)
    assert capsys.readouterr().out == "\n\n"
    with pytest.raises(KeyboardInterrupt):
        converse([one], iter(["who"]), interactive=False)


# -- the verb -------------------------------------------------------------------------------------------------------


def test_chat_through_a_pipe() -> None:
    """The built-in world's model in a process of its own, and the same answers from the parts."""
    words = ["--seed", "3", "--max-new-tokens", "24", "--temperature", "0.7"]
    done = subprocess.run(
        [sys.executable, "-m", "plaudit", "chat", str(BASE), *words],
        input="".join(f"{q}\n" for q in QUESTIONS).encode() + b"\xff\xfe?",
        capture_output=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    sampling = Sampling(seed=3, max_new_tokens=24, temperature=0.7)
    one = Speaker("model", Chat.load(BASE), load_causal_lm(str(BASE)), sampling, context=256, system=None)
    answers, notes = ask(one, *QUESTIONS, "\ufffd\ufffd?")
    assert notes == []
    assert done.stdout.decode() == "".join(f"{printable(answer)}\n" for answer in answers)
    assert all(answers[:2])


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """What a run of two rounds leaves, the second of which has no policy yet."""
    folder = tmp_path / "runs" / "tiny"
    for seed, act in enumerate(("round_0/sft", "round_0/ppo", "round_1/ppo")):
        tiny.model_folder(folder / act / "model", seed=seed)
        status = "running" if act == "round_1/ppo" else "done"
        write_json(folder / act / "manifest.json", {"status": status, "result": {}})
    recipe = tiny.recipe(tmp_path / "elsewhere", "a/base", rounds=2, ppo={"stop": ("dog",), "max_new_tokens": 7})
    (folder / "recipe.yaml").write_text(dump_recipe(recipe))
    return folder


def test_a_run_speaks_by_its_newest_policy(run_folder: Path) -> None:
    (one,) = room.speakers_of(str(run_folder), room.Manner(seed=4), compare=False)
    assert (one.name, one.context) == ("rlhf", 64)
    assert one.sampling == Sampling(max_new_tokens=7, stop=("dog",), seed=4)
    assert ask(one, "what is a cat", "why") == ask(
        Speaker("rlhf", tiny.chat(), tiny.model(seed=1), one.sampling, context=64, system=None), "what is a cat", "why"
    )
    (run_folder / "round_0" / "ppo" / "manifest.json").unlink()
    (sft,) = room.speakers_of(str(run_folder), room.Manner(), compare=False)
    assert sft.name == "sft"


def test_two_models_are_compared_each_with_its_own_history(run_folder: Path) -> None:
    words = ("--compare", "--temperature", 0, "--max-new-tokens", 9, "--top-p", 0.9)
    result = call(run_folder, *words, said="what is a cat\nwhy\n")
    assert (result.exit_code, result.stderr) == (0, "")
    sampling = Sampling(temperature=0.0, top_p=0.9, max_new_tokens=9, stop=("dog",))
    alone = [
        ask(
            Speaker(name, tiny.chat(), tiny.model(seed=seed), sampling, context=64, system=None), "what is a cat", "why"
        )
        for seed, name in enumerate(("sft", "rlhf"))
    ]
    (sft, _), (rlhf, _) = alone
    assert sft != rlhf
    assert result.stdout == f"sft: {sft[0]}\nrlhf: {rlhf[0]}\nsft: {sft[1]}\nrlhf: {rlhf[1]}\n"


def no_policy(folder: Path) -> None:
    (folder / "round_0" / "ppo" / "manifest.json").unlink()


def no_acts(folder: Path) -> None:
    no_policy(folder)
    (folder / "round_0" / "sft" / "manifest.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "words", "told"),
    [
        (None, ("nowhere",), "nowhere: there is no such folder, and it is no Hugging Face name (owner/name)"),
        (None, ("runs",), "runs: neither a model (it has no config.json) nor a run (it has no recipe.yaml)"),
        (None, ("runs", "--compare"), "runs: --compare needs the folder of a run, and there is no recipe.yaml in it"),
        (None, ("runs/tiny", "--top-p", "0"), "--top-p is 0; it is a share above 0, and at most 1"),
        (
            no_policy,
            ("runs/tiny", "--compare"),
            "runs/tiny: there is no trained policy to compare yet; `plaudit run` trains it",
        ),
        (
            no_acts,
            ("runs/tiny",),
            "Act I is not done in runs/tiny: run `plaudit sft` first, or set sft: null",
        ),
    ],
)
def test_what_cannot_speak_is_told_in_one_line(
    run_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path], None] | None,
    words: tuple[str, ...],
    told: str,
) -> None:
    if spoil is not None:
        spoil(run_folder)
    monkeypatch.chdir(run_folder.parents[1])
    result = call(*words, said="who\n")
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"error: {told}\n")


def test_a_template_without_a_system_turn_says_so(tmp_path: Path) -> None:
    folder = tiny.model_folder(tmp_path / "model")
    (folder / "chat_template.jinja").write_text(
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}" + tiny.TEMPLATE
    )
    result = call(folder, "--system", "red", said="who\n")
    assert result.exit_code == 2
    assert result.stderr == "error: the chat template refuses a conversation of system, user (no)\n"


def test_interrupted_in_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "decoder_of", lambda model, **_: Broken())
    result = call(tiny.model_folder(tmp_path / "model"), said="who\n")
    assert (result.exit_code, result.stderr) == (130, "stopped\n")


def test_an_answer_that_the_terminal_cannot_spell(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("grün\n".encode()), encoding="ascii"))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    monkeypatch.setattr(room, "printable", lambda text: "ü")
    room.talk(str(BASE), room.Manner(max_new_tokens=1))
    assert raw.getvalue().endswith(b"?\n")
