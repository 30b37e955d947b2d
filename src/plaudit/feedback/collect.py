"""Responses go to annotators, judgements come back and are written down."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from random import Random

from plaudit.data.conversation import clean_text
from plaudit.data.formats import append_judgements, best_and_worst, read_log
from plaudit.types import Annotator, InputError, Judgement, Prompt, Question, QuestionForm, Response

Asked = tuple[str, str, tuple[str, ...]]
"""Who is asked, about which prompt (its id), and which texts."""


def collect_judgements(
    tasks: Sequence[tuple[Prompt, Sequence[Response]]],
    annotators: Sequence[Annotator],
    *,
    per_prompt: int,
    seed: int,
    path: Path,
    ask: QuestionForm = "ranking",
    costly: bool = False,
) -> list[Judgement]:
    """Have each task judged by `per_prompt` different annotators, appending to `path` (judgements.jsonl).

    Who gets which task is drawn by `seed`. Returns what they say; what of it is already in the file is not written
    again. `costly`: annotators are not asked again about what they have judged, and what they say is written down as it
    comes, so that nothing is paid for twice when this is stopped.
    """
    if per_prompt > len(annotators):
        raise InputError(f"feedback.judgements_per_prompt is {per_prompt}, but there are {len(annotators)} annotators")
    log = read_log(path)[0] if path.exists() else []
    written = {j.id for j in log}
    paid = {question(j.annotator, j.prompt, j.responses): j for j in log} if costly else dict[Asked, Judgement]()
    said: list[Judgement] = []
    new: list[Judgement] = []
    for prompt, responses in tasks:
        for annotator in drawn_annotators(annotators, per_prompt, seed, prompt):
            before = paid.get(question(annotator.name, prompt, responses))
            judgement = before or annotator.judge(prompt, responses, seed=seed)
            if ask == "best_and_worst":
                judgement = best_and_worst(judgement)
            said.append(judgement)
            if judgement.id not in written:
                new.append(judgement)
                written.add(judgement.id)
                if costly:
                    append_judgements(path, [judgement])
    if not costly:
        append_judgements(path, new)
    return said


def drawn_annotators(annotators: Sequence[Annotator], many: int, seed: int, prompt: Prompt) -> list[Annotator]:
    """Who judges a prompt: so many, drawn anew for each."""
    return sorted(annotators, key=lambda a: hashlib.sha256(f"{seed}/{prompt.id}/{a.name}".encode()).digest())[:many]


def drawn(count: int, shown: int | None, seed: int, prompt: Prompt) -> tuple[int, ...]:
    """Which of a prompt's responses are shown where nobody has chosen them: so many at random, ascending."""
    if shown is None or shown >= count:
        return tuple(range(count))
    return tuple(sorted(Random(f"shown {seed} {prompt.id}").sample(range(count), shown)))


def by_chance(tasks: Sequence[tuple[Prompt, Sequence[Response]]], shown: int | None, seed: int) -> list[Question]:
    """One question for each task, chosen by nobody."""
    return [
        Question(place=place, shown=drawn(len(responses), shown, seed, prompt), gain=0.0)
        for place, (prompt, responses) in enumerate(tasks)
    ]


def question(annotator: str, prompt: Prompt, responses: Sequence[Response]) -> Asked:
    """As a log has it, which cleans texts when it is read."""
    return annotator, prompt.id, tuple(clean_text(response.text) for response in responses)
