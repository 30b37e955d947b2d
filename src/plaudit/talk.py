"""Conversations with a model, or with what a run has made of it: in a terminal, or through a pipe."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from plaudit.data.chat import Chat, TextStream
from plaudit.data.formats import clean_text, prompt_of
from plaudit.material import Material
from plaudit.models.fused import decoder_of
from plaudit.models.generate import generate, sample_key
from plaudit.models.loading import context_of, load_causal_lm, may_be_model
from plaudit.recipe_file import load_recipe
from plaudit.run_folder import RunFolder
from plaudit.terminal import printable
from plaudit.types import InputError, Message, Sampling
from plaudit.workshop import Workshop

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TALK = -3_000_000
"""The occasion of a conversation, beside those on which a run's models speak."""
LONGEST_ANSWER = 256
"""Tokens, where no recipe says how long answers are."""
HELP = """\
/reset   forget the conversation
/help    show this
/quit    leave (so does Ctrl-D)
Ctrl-C   end the answer that is being written"""
MODEL = "model"
"""The name of a speaker that belongs to no run."""

Show = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Manner:
    """How to talk. None: as a run's recipe has its answers drawn, else `Sampling`'s defaults."""

    temperature: float | None = None
    """0: always the likeliest token."""
    top_p: float | None = None
    max_new_tokens: int | None = None
    seed: int = 0
    system: str | None = None


class Speaker:
    """One model, and its own memory of a conversation."""

    def __init__(
        self, name: str, chat: Chat, model: PreTrainedModel, sampling: Sampling, *, context: int, system: str | None
    ) -> None:
        """`context`: the most tokens that the model reads. `sampling.temperature` 0: always the likeliest token."""
        self.name, self.chat, self.sampling, self.context = name, chat, sampling, context
        self.decoder = decoder_of(model, few=True)
        self.system = [] if system is None else [Message(role="system", content=clean_text(system))]
        self.turns: list[Message] = []
        self._times: Counter[str] = Counter()

    def forget(self) -> None:
        self.turns = []

    def answer(self, message: str, show: Show, note: Show) -> bool:
        """Says the next turn to `show` as it comes, and what the person should know to `note`.

        True: Ctrl-C ended it; what had come stays said. The n-th answer to the same conversation is its n-th sample.
        """
        turns, ids = self._fitting([*self.turns, Message(role="user", content=clean_text(message))])
        if len(ids) >= self.context:
            note(f"{self.name}: that is {len(ids)} tokens and {self.context} can be read; please say it more briefly")
            return False
        if dropped := (len(self.turns) + 1 - len(turns)) // 2:
            turns_said = "turn has" if dropped == 1 else f"{dropped} turns have"
            note(f"{self.name}: the conversation is longer than it can read; the oldest {turns_said} been dropped")
        prompt = prompt_of([*self.system, *turns])
        key = sample_key(self.sampling.seed, TALK, prompt.id, self._times[prompt.id])
        self._times[prompt.id] += 1
        stream, said = TextStream(self.chat, self.sampling.stop), list[str]()

        def tell(text: str) -> None:
            said.append(text)
            show(text)

        interrupted = False
        greedy = self.sampling.temperature == 0
        try:
            (made,) = generate(
                self.decoder,
                [ids],
                None if greedy else [key],
                replace(
                    self.sampling,
                    temperature=self.sampling.temperature or 1.0,
                    max_new_tokens=min(self.sampling.max_new_tokens, self.context - len(ids)),
                ),
                eos_ids=self.chat.eos_ids,
                stopped=self.chat.stopper(self.sampling.stop),
                on_token=lambda _, token: tell(stream.add(token)),
            )
            rest = stream.end()
            tell(rest if made.finished else rest.rstrip("\ufffd"))  # the limit may cut within a character
        except KeyboardInterrupt:
            interrupted = True
        text = "".join(said)
        # stopped before its first word: as if it had not been asked
        self.turns = [*turns, Message(role="assistant", content=text)] if text or not interrupted else turns[:-1]
        return interrupted

    def _fitting(self, turns: list[Message]) -> tuple[list[Message], list[int]]:
        """The latest turns that leave room for an answer, and their ids; the last one in any case."""
        room = self.context - min(self.sampling.max_new_tokens, self.context // 2)
        while len(ids := self.chat.prompt_ids(prompt_of([*self.system, *turns]))) > room and len(turns) > 1:
            turns = turns[2:]
        return turns, ids


def talk(path: str, manner: Manner, *, compare: bool = False) -> None:
    """A conversation over stdin and stdout, until the input ends. InputError where nothing at `path` can speak.

    `path`: a model folder, a Hugging Face name, or a run folder. `compare`: a run's SFT model answers, then its policy.
    """
    if manner.top_p is not None and not 0 < manner.top_p <= 1:
        raise InputError(f"--top-p is {manner.top_p:g}; it is a share above 0, and at most 1")
    speakers = speakers_of(path, manner, compare=compare)
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        _forgive(stream)
    if interactive:
        names = " and ".join(speaker.name for speaker in speakers)
        _note(f"you talk with {path if names == MODEL else f'{names} of {path}'}; /help says more")
    converse(speakers, _typed() if interactive else _piped(), interactive=interactive)


def converse(speakers: Sequence[Speaker], lines: Iterator[str], *, interactive: bool) -> None:
    """Answer message after message; Ctrl-C ends an answer where somebody sits there, else everything."""
    for line in lines:
        message = line.strip()
        if message == "/quit":
            return
        if message == "/help":
            _note(HELP)
        elif message == "/reset":
            for speaker in speakers:
                speaker.forget()
            _note("the conversation is forgotten")
        elif message:
            for speaker in speakers:
                if len(speakers) > 1:
                    _write(f"{speaker.name}: ")
                interrupted = speaker.answer(message, lambda text: _write(printable(text)), _note)
                _write("\n\n" if interactive else "\n")
                if interrupted and not interactive:
                    raise KeyboardInterrupt


def speakers_of(path: str, manner: Manner, *, compare: bool) -> list[Speaker]:
    """Who speaks for a model or a run."""
    folder = Path(path)
    if (folder / "recipe.yaml").is_file():
        return _speakers_of_run(folder, manner, compare=compare)
    if compare:
        raise InputError(f"{path}: --compare needs the folder of a run, and there is no recipe.yaml in it")
    if not may_be_model(path):
        raise InputError(f"{path}: there is no such folder, and it is no Hugging Face name (owner/name)")
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise InputError(f"{path}: neither a model (it has no config.json) nor a run (it has no recipe.yaml)")
    chat, model = Chat.load(path), load_causal_lm(path)
    sampling = _sampling(manner, Sampling(max_new_tokens=LONGEST_ANSWER))
    return [Speaker(MODEL, chat, model, sampling, context=context_of(path), system=manner.system)]


def _speakers_of_run(folder: Path, manner: Manner, *, compare: bool) -> list[Speaker]:
    recipe = load_recipe(folder / "recipe.yaml")
    run = RunFolder(folder, cache=None, quiet=True)
    workshop = Workshop(recipe, Material(recipe), run)
    done = [i for i in range(recipe.rounds) if run.done(f"round_{i}/{recipe.align}") is not None]
    if compare and not done:
        raise InputError(f"{folder}: there is no trained policy to compare yet; `plaudit run` trains it")
    paths: dict[str, str] = {}
    if compare or not done:
        paths["sft"] = workshop.sft_model
    if done:
        paths["rlhf"] = str(folder / f"round_{done[-1]}" / recipe.align / "model")
    drawn = Sampling(
        temperature=recipe.evaluation.temperature,
        top_p=recipe.evaluation.top_p,
        max_new_tokens=recipe.ppo.max_new_tokens,
        stop=recipe.ppo.stop,
    )
    return [
        Speaker(
            name,
            # what a run exports has its template with it
            workshop.load_chat(path) if name == "sft" and recipe.sft is None else Chat.load(path),
            workshop.load_model(path),
            _sampling(manner, drawn),
            context=context_of(path),
            system=manner.system,
        )
        for name, path in paths.items()
    ]


def _sampling(manner: Manner, default: Sampling) -> Sampling:
    return replace(
        default,
        temperature=default.temperature if manner.temperature is None else manner.temperature,
        top_p=manner.top_p or default.top_p,
        max_new_tokens=manner.max_new_tokens or default.max_new_tokens,
        seed=manner.seed,
    )


def _typed() -> Iterator[str]:
    with contextlib.suppress(ImportError):
        import_module("readline")  # lines can be edited, and come again
    while True:
        try:
            yield input("> ")
        except EOFError:
            _write("\n")
            return
        except KeyboardInterrupt:
            _write("\n")
            _note("Ctrl-D or /quit leaves")


def _piped() -> Iterator[str]:
    return iter(sys.stdin)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _note(text: str) -> None:
    sys.stderr.write(f"{printable(text)}\n")
    sys.stderr.flush()


def _forgive(stream: TextIO) -> None:
    """A sign that the stream cannot spell is replaced: neither a message nor an answer ends a conversation."""
    if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
        reconfigure(errors="replace")
