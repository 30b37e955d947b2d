"""How far a judge can be trusted, as the report tells it: calibration, doubts, what moves it, where it is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plaudit.evaluation.figures import Figure, figure, interval, mapping, number, objects, percent, plain, shown, signed
from plaudit.evaluation.plots import Plot, draw_learning_curve

_DOUBTS: Mapping[str, str] = {
    "close": "The two scores are close",
    "members differ": "The judge’s members differ",
    "members differ for their mean": "They differ more than the scores do",
    "strange": "An answer is unlike those it learned from",
}
_CHANGES: Mapping[str, str] = {
    "filler": "A polite sentence at the end",
    "repeated": "The answer said twice",
    "list turned": "The items of a list turned round",
    "confident": "Said as if there were no doubt",
    "empty": "Nothing said at all",
}
MOST_SLICES = 12
"""Of a kind that are shown; annotators and files can be many."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A bin of the reliability diagram, on a square of 200."""

    x: float
    y: float
    radius: float
    words: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Slice:
    name: str
    accuracy: Figure
    pairs: int


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgePage:
    calibration: Sequence[tuple[str, str, str]]
    """(figure, as it is, at the best temperature)."""
    temperature: str
    diagram: Sequence[Point]
    doubts: Sequence[tuple[str, str, str]]
    """(sign of doubt, chance that a wrong pair is doubted more, its interval)."""
    changes: Sequence[tuple[str, str, str, str]]
    """(change, objective, mean effect, interval)."""
    length: Sequence[tuple[str, str]]
    slices: Sequence[tuple[str, Sequence[Slice]]]
    annotators: Sequence[tuple[str, str, str, str]]
    """(name, judgements, mistakes, what the first place is worth)."""
    learning: Sequence[Plot]
    """None or one: accuracy against rankings."""
    price: str
    """Of the next hundredth of accuracy, in words."""


def judge_page(reward: Mapping[str, object], *, prefix: str) -> JudgePage | None:
    """None where the summary holds nothing of it. `prefix`: of the ids of its plots."""
    calibration = mapping(reward, "calibration")
    if not calibration:
        return None
    correlations, curve = mapping(reward, "length_correlation"), mapping(reward, "learning_curve")
    labels = (("all", "over all answers"), ("within_prompt", "between the answers to one prompt"))
    return JudgePage(
        calibration=_calibration(calibration),
        temperature=plain(number(calibration, "temperature")),
        diagram=_diagram(objects(calibration, "reliability")),
        doubts=[
            (label, plain(found.value), interval(found))
            for key, label in _DOUBTS.items()
            if (found := figure(reward, "foresight", key)) is not None
        ],
        changes=_changes(mapping(reward, "sensitivity")),
        length=[(label, signed(value, 2)) for key, label in labels if (value := number(correlations, key)) is not None],
        slices=_slices(mapping(reward, "slices")),
        annotators=_annotators(mapping(reward, "annotators")),
        learning=[] if (plot := draw_learning_curve(curve, prefix=f"{prefix}-learning")) is None else [plot],
        price=_price(curve),
    )


def _calibration(found: Mapping[str, object]) -> list[tuple[str, str, str]]:
    scaled = mapping(found, "scaled")

    def row(label: str, key: str, *, share: bool = False) -> tuple[str, str, str]:
        def write(one: Figure | None) -> str:
            return "–" if one is None else percent(one.value, 1) if share else plain(one.value, 3)

        return label, write(figure(found, key)), write(figure(scaled, key))

    return [
        row("Calibration error", "ece", share=True),
        row("A perfectly calibrated judge stays below", "ece_of_a_perfect_judge", share=True),
        row("Negative log-likelihood, nats per pair", "nll"),
        row("Brier score", "brier"),
    ]


def _price(curve: Mapping[str, object]) -> str:
    price = mapping(curve, "next_point")
    if not price:
        return ""
    rankings, low, high = (number(price, key) for key in ("rankings", "low", "high"))
    if rankings is None:
        return "No number of such labels is foreseen to bring another point."
    ends = f"{'–' if low is None else plain(low, 0)} to {'no number' if high is None else plain(high, 0)}"
    more = f"{plain(rankings, 0)} rankings more that the judge learns from ({ends})"
    said = f"One point more is to be expected of {more}."
    judgements, hours = number(price, "judgements"), number(price, "hours")
    if judgements is None:
        return said
    work = "" if hours is None else f": {plain(hours, 1)} hours of their work"
    return f"{said} With those that are held out or another judge’s, people make {plain(judgements, 0)}{work}."


def _diagram(bins: Sequence[Mapping[str, object]]) -> list[Point]:
    known = [(number(one, "chance"), number(one, "right"), number(one, "pairs")) for one in bins]
    whole = [(c, r, p) for c, r, p in known if c is not None and r is not None and p is not None]
    most = max((pairs for _, _, pairs in whole), default=1.0)
    return [
        Point(
            x=round(400 * (chance - 0.5), 1),
            y=round(200 * (1 - right), 1),
            radius=round(2 + 6 * (pairs / most) ** 0.5, 1),
            words=f"said {percent(chance)}, right {percent(right)}, {plain(pairs, 0)} pairs",
        )
        for chance, right, pairs in whole
    ]


def _changes(found: Mapping[str, object]) -> list[tuple[str, str, str, str]]:
    rows: list[tuple[str, str, str, str]] = []
    for objective, changes in found.items():
        for key, label in _CHANGES.items():
            effect = figure(changes, key, "effect")
            if effect is not None:
                name = shown(objective) if len(found) > 1 else ""
                rows.append((label, name, signed(effect.value, 2), interval(effect, with_sign=True)))
    return rows


def _slices(found: Mapping[str, object]) -> list[tuple[str, list[Slice]]]:
    kinds: list[tuple[str, list[Slice]]] = []
    for kind, members in found.items():
        known = [
            Slice(name=shown(name), accuracy=accuracy, pairs=int(number(one, "pairs") or 0))
            for name, one in mapping(members).items()
            if (accuracy := figure(one, "accuracy")) is not None
        ]
        if known:
            kinds.append((shown(kind), known[:MOST_SLICES]))
    return kinds


def _annotators(found: Mapping[str, object]) -> list[tuple[str, str, str, str]]:
    rows = [
        (shown(name), number(one, "judgements"), number(one, "mistakes"), number(one, "first_place"))
        for name, one in found.items()
    ]
    rows.sort(key=lambda row: -(row[2] or 0.0))
    return [
        (name, plain(many, 0), percent(mistakes), "–" if first is None else signed(first, 2))
        for name, many, mistakes, first in rows
    ]
