"""Responses go to annotators, judgements come back and are written down."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from plaudit.data.formats import append_judgements, read_log
from plaudit.types import Annotator, InputError, Judgement, Prompt, Response


def collect_judgements(
    tasks: Sequence[tuple[Prompt, Sequence[Response]]],
    annotators: Sequence[Annotator],
    *,
    per_prompt: int,
    seed: int,
    path: Path,
) -> list[Judgement]:
    """Have each task judged by `per_prompt` different annotators, appending to `path` (judgements.jsonl).

    Who gets which task is drawn by `seed`. What is already in the file is not written again. Returns what is new.
    """
    if per_prompt > len(annotators):
        raise InputError(f"feedback.judgements_per_prompt is {per_prompt}, but there are {len(annotators)} annotators")
    written = {j.id for j in read_log(path)[0]} if path.exists() else set[str]()
    new: list[Judgement] = []
    for prompt, responses in tasks:
        ranked = sorted(annotators, key=lambda a: hashlib.sha256(f"{seed}/{prompt.id}/{a.name}".encode()).digest())
        for annotator in ranked[:per_prompt]:
            judgement = annotator.judge(prompt, responses, seed=seed)
            if judgement.id not in written:
                new.append(judgement)
                written.add(judgement.id)
    append_judgements(path, new)
    return new
