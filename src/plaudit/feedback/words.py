"""Figures as a table for the terminal, and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from plaudit.feedback.records import Figures, ProjectProgress
from plaudit.types import Estimate


def figures_to_dict(figures: Figures) -> dict[str, Any]:
    """JSON's types; an estimate is {value, low, high}, what could not be counted is null."""
    return asdict(figures)


def figures_as_text(figures: Figures, progress: ProjectProgress) -> str:
    """A page of it, within 100 columns."""
    if not figures.judgements and not figures.people:
        return "Nobody has judged anything yet."
    rows = [
        ("judgements", f"{figures.judgements}, of {figures.prompts} prompts, by {figures.annotators} annotators"),
        (
            "pairs compared",
            f"{figures.pairs}" + ("" if figures.tie_share is None else f", {figures.tie_share:.0%} ties"),
        ),
        ("agreement of two", _share(figures.agreement)),
        ("  where neither ties", _share(figures.decided_agreement)),
        ("Krippendorff's alpha", _number(figures.alpha)),
        ("Kendall's tau-b", _number(figures.kendall_tau)),
        ("best judge's accuracy", _share(figures.ceiling)),
        ("the first shown wins", _share(figures.first_preferred)),
        ("the longer wins", _share(figures.longer_preferred)),
        ("this round", f"{progress.done} of {progress.wanted} judgements" + (", done" if progress.finished else "")),
    ]
    lines = [f"{name:<24}{value}" for name, value in rows]
    header = ("annotator", "judged", "skipped", "agrees", "gold", "same twice", "seconds", "first", "longer")
    table: list[tuple[str, ...]] = [header]
    for one in figures.people:
        shares = [one.agreement, one.gold, one.self_consistency]
        seconds = "–" if one.median_seconds is None else f"{one.median_seconds:.0f}"
        biases = [_brief(one.first_preferred), _brief(one.longer_preferred)]
        name = (one.name or one.annotator) + (" (excluded)" if one.excluded else "")
        table.append((name, str(one.judgements), str(one.skipped), *map(_brief, shares), seconds, *biases))
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    written = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join([*lines, "", *written])


def nobody_may_decide(count: int) -> str:
    """That a dispute waits for somebody who is not there."""
    tasks = "1 disputed task is one" if count == 1 else f"{count} disputed tasks are ones"
    return (
        f"{tasks} that nobody may decide: it takes an adjudicator or administrator who has not judged it before. "
        "Invite one, or make somebody one, under Administration › People"
    )


def _share(found: Estimate | None) -> str:
    return "–" if found is None else f"{found.value:.1%} ({found.low:.1%}–{found.high:.1%})"


def _number(found: Estimate | None) -> str:
    return "–" if found is None else f"{found.value:.2f} ({found.low:.2f}–{found.high:.2f})"


def _brief(found: Estimate | None) -> str:
    return "–" if found is None else f"{found.value:.0%}"
