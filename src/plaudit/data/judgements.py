"""Judgements as JSON lines: the append-only log, and what stands once corrections are followed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from io import FileIO
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, RootModel, TypeAdapter, ValidationError

from plaudit.data.conversation import spelled_list
from plaudit.data.rows import Bad, read_rows_or_bad
from plaudit.types import OVERALL, Flag, InputError, Judgement, PlauditError, Prompt, Response

_FIELDS = frozenset(field.name for field in fields(Judgement))
FEWER_THAN_TWO, SKIPPED = "fewer than two responses", "skipped by the annotator"
SUPERSEDED = "superseded by a correction"
TEXTS = frozenset({"id", "objective", "rationale", "annotator", "guideline_version", "created", "supersedes"})
"""Those of a judgement's fields that are texts."""


class _Strict(RootModel[Judgement]):
    """A judgement from JSON, in which Python takes NaN and Infinity for numbers: training would end in a nan."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


@cache
def _adapter() -> TypeAdapter[Judgement]:
    return TypeAdapter(Judgement)


def judgement_to_dict(judgement: Judgement) -> dict[str, Any]:
    """The judgement in JSON's types, every field spelled out."""
    return _adapter().dump_python(judgement, mode="json")


def judgement_from_dict(fields: Mapping[str, Any], where: str = "judgement") -> Judgement:
    """The judgement that judgement_to_dict wrote; InputError, naming `where` and the field, on anything else."""
    unknown = sorted(set(fields) - _FIELDS)
    if unknown:
        raise InputError(f"{where}: unknown field {unknown[0]!r}; a judgement has {', '.join(sorted(_FIELDS))}")
    try:
        judgement = _Strict.model_validate_json(json.dumps(fields)).root
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{where}: field {place!r}: {first['msg']}") from error
    check_ranking(judgement.ranking, len(judgement.responses), where, unordered=judgement.unordered)
    return judgement


def check_ranking(ranking: Sequence[Sequence[int]], count: int, where: str, *, unordered: Sequence[int] = ()) -> None:
    """InputError unless the tie groups name each of `count` responses once (or none: nothing was ranked), and
    `unordered` is one of several groups."""
    named = [index for group in ranking for index in group]
    if named and sorted(named) != list(range(count)):
        raise InputError(
            f"{where}: the ranking names responses {named}, expected each of 0..{count - 1} once; "
            "it lists groups of equal responses from best to worst, such as [[2], [0, 1]]"
        )
    if any(not group for group in ranking):
        raise InputError(f"{where}: the ranking has an empty group")
    if unordered and (len(ranking) < 2 or list(unordered) not in [sorted(group) for group in ranking]):
        raise InputError(
            f"{where}: unordered names responses {list(unordered)}, which are no group of the ranking "
            f"{[list(group) for group in ranking]}: it says, ascending, whose order in it was not asked for"
        )


def judgement_id(
    prompt: Prompt,
    responses: Sequence[Response],
    ranking: Sequence[Sequence[int]],
    objective: str,
    annotator: str,
    flags: Sequence[Flag] = (),
    *,
    unordered: Sequence[int] = (),
) -> str:
    """An id drawn from what was judged and how (16 hex): equal rankings have equal ids, in whatever order shown."""
    groups = [sorted(responses[index].text for index in group) for group in ranking]
    open_texts = [sorted(responses[index].text for index in unordered)] if unordered else []
    spelled = spelled_list([prompt.id, groups, objective, annotator, *flags, *open_texts])
    return hashlib.sha256(spelled.encode()).hexdigest()[:16]


def judged(
    prompt: Prompt,
    responses: Sequence[Response],
    ranking: Sequence[Sequence[int]],
    *,
    objective: str = OVERALL,
    annotator: str = "",
    flags: Sequence[Flag] = (),
    unordered: Sequence[int] = (),
    **more: Any,
) -> Judgement:
    """A judgement with the id that is drawn from it; `more`: its other fields."""
    return Judgement(
        id=judgement_id(prompt, responses, ranking, objective, annotator, flags, unordered=unordered),
        prompt=prompt,
        responses=tuple(responses),
        ranking=tuple(tuple(group) for group in ranking),
        objective=objective,
        annotator=annotator,
        flags=tuple(flags),
        unordered=tuple(unordered),
        **more,
    )


def best_and_worst(judgement: Judgement) -> Judgement:
    """What a ranking leaves where no more was asked than which is best and which is worst; of several that are equal
    the one that was shown first is named."""
    if len(judgement.ranking) < 2 or len(judgement.responses) < 3:
        return judgement
    place = {index: position for position, index in enumerate(judgement.display_order)}
    best, worst = (min(group, key=lambda i: place.get(i, i)) for group in (judgement.ranking[0], judgement.ranking[-1]))
    between = tuple(i for i in range(len(judgement.responses)) if i not in (best, worst))
    return replace(
        judgement,
        id=hashlib.sha256(spelled_list([judgement.id, "best and worst"]).encode()).hexdigest()[:16],
        ranking=((best,), between, (worst,)),
        unordered=between if len(between) > 1 else (),
    )


def tied_groups(judgement: Judgement) -> list[tuple[int, ...]]:
    """Groups of responses that somebody said are equal."""
    return [group for group in judgement.ranking if len(group) > 1 and sorted(group) != list(judgement.unordered)]


def why_useless(judgement: Judgement) -> str | None:
    """Why nothing can be learned from this ranking, if so."""
    texts = [response.text.strip() for response in judgement.responses]
    reasons = {
        SKIPPED: "skip" in judgement.flags,
        "empty prompt": not judgement.prompt.messages[-1].content.strip(),
        FEWER_THAN_TWO: len(texts) < 2,
        "empty response": not all(texts),
        "not ranked": not judgement.ranking,
        "fully tied": len(judgement.ranking) == 1,
        "all responses equal": len(set(texts)) == 1,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def append_judgements(path: str | Path, judgements: Iterable[Judgement]) -> None:
    """Add judgements to the log, one line each, on the disk when this returns.

    A full disk leaves the log as it was (PlauditError). A line that an earlier crash cut short is removed first: it
    was never acknowledged, and would spoil the line that follows it.
    """
    lines = "".join(json.dumps(judgement_to_dict(one), ensure_ascii=False) + "\n" for one in judgements)
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+", buffering=0) as log:
            size = _end_of_records(log)
            try:
                _write_whole(log, lines.encode())
                os.fsync(log.fileno())
            except OSError:
                log.truncate(size)
                raise
    except OSError as error:
        raise PlauditError(
            f"{path}: the judgements could not be written ({error.strerror}); the log is as it was"
        ) from error


def _end_of_records(log: FileIO) -> int:
    """The size of the log once it ends with a whole line: a torn one is cut, a missing newline is added."""
    size = log.seek(0, os.SEEK_END)
    log.seek(0)
    start = log.readall().rfind(b"\n") + 1
    if start == size:
        return size
    log.seek(start)
    try:
        json.loads(log.readall())
    except ValueError:
        log.truncate(start)
        return start
    _write_whole(log, b"\n")
    return size + 1


def _write_whole(log: FileIO, data: bytes) -> None:
    while data:  # an unbuffered write may take only a part
        data = data[log.write(data) :]


def read_log(path: str | Path) -> tuple[list[Judgement], bool]:
    """Every judgement of a log, corrected ones among them, and whether a last line cut short was passed over."""
    judgements: list[Judgement] = []
    for row in read_rows_or_bad(path):
        if isinstance(row, Bad):
            if row.torn:
                return judgements, True
            raise row.error
        judgements.append(judgement_from_dict(row.fields, row.where))
    return judgements, False


def current_judgements(judgements: Iterable[Judgement]) -> list[Judgement]:
    """Those that no other one supersedes, in their order."""
    judgements = list(judgements)
    superseded = {one.supersedes for one in judgements}
    return [one for one in judgements if one.id not in superseded]
