"""What a form says about a task, as an answer; and an answer, as what the form shows again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast

from starlette.datastructures import FormData

from plaudit.feedback.records import Answer, BadAnswer, HandOut, Settings, Verdict
from plaudit.types import Flag

FLAGS: Mapping[Flag, str] = {"harmful": "harmful", "unsure": "I am unsure"}
"""What can be said beside the ranking; skip and all_bad have buttons of their own."""
STRENGTHS: Mapping[float, str] = {1.0: "slightly", 2.0: "clearly", 3.0: "by far"}
RATINGS = (1, 2, 3, 4, 5)
LONGEST_TEXT = 100_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What the form starts from: nothing, or what was said before it was taken back."""

    ranks: Mapping[int, int] = field(default_factory=dict[int, int])
    flags: tuple[str, ...] = ()
    strength: float | None = None
    ratings: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict[str, tuple[float | None, ...]])
    rationale: str = ""
    edited: Mapping[int, str] = field(default_factory=dict[int, str])


def said_before(hand_out: HandOut) -> Said:
    before = hand_out.corrects
    if before is None:
        return Said()
    ranks: dict[int, int] = {}
    for group in before.ranking:
        # as in a race: after two firsts comes a third
        place = len(ranks) + 1
        ranks |= dict.fromkeys(group, place)
    return Said(
        ranks=ranks,
        flags=before.flags,
        strength=before.strength,
        ratings=before.ratings,
        rationale=before.rationale,
        edited=before.edited,
    )


def answer_of(form: FormData, hand_out: HandOut, settings: Settings) -> Answer:
    """BadAnswer where it is incomplete or makes no sense."""
    seconds = _seconds(form, hand_out, settings)
    if hand_out.kind == "demonstration":
        flags: tuple[Flag, ...] = ("skip",) if _text(form, "action") == "skip" else ()
        return Answer(text=_text(form, "text"), flags=flags, seconds=seconds)
    if hand_out.kind == "review":
        return _review(form, hand_out, seconds)
    return _judgement(form, hand_out, settings, seconds)


def _review(form: FormData, hand_out: HandOut, seconds: float) -> Answer:
    action, text = _text(form, "action"), _text(form, "text")
    if action == "skip":
        return Answer(flags=("skip",), seconds=seconds)
    if action not in ("accept", "reject"):
        raise BadAnswer("accept it or reject it")
    verdict = cast(Verdict, action)
    if verdict == "accept" and text.strip() and _plain(text) != _plain(hand_out.draft):
        verdict = "amend"
    return Answer(verdict=verdict, text=text if verdict == "amend" else "", seconds=seconds)


def _judgement(form: FormData, hand_out: HandOut, settings: Settings, seconds: float) -> Answer:
    action = _text(form, "action")
    chosen: list[Flag] = [flag for flag in FLAGS if flag in form.getlist("flag")]
    if action == "skip":
        return Answer(flags=("skip", *chosen), rationale=_text(form, "rationale"), seconds=seconds)
    all_bad = action == "all_bad" or "all_bad" in form.getlist("flag")
    ranking, unordered = _ranking(form, hand_out, settings, may_be_empty=all_bad)
    return Answer(
        ranking=ranking,
        unordered=unordered,
        flags=("all_bad", *chosen) if all_bad else tuple(chosen),
        strength=_strength(form, settings, ranking),
        ratings=_ratings(form, hand_out, settings),
        rationale=_text(form, "rationale"),
        edited=_edited(form, hand_out),
        seconds=seconds,
    )


def asks_for_ends(hand_out: HandOut, settings: Settings) -> bool:
    """Whether the best and the worst are all that is asked: of two responses that is a ranking."""
    return settings.ask == "best_and_worst" and len(hand_out.responses) > 2


def _ranking(
    form: FormData, hand_out: HandOut, settings: Settings, *, may_be_empty: bool
) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]:
    """The ranking, and whose order in it was not asked for."""
    count = len(hand_out.responses)
    places: dict[int, list[int]] = {}
    for index in range(count):
        if (place := _whole(form, f"rank-{index}", 1, count)) is not None:
            places.setdefault(place, []).append(index)
    placed = sum(map(len, places.values()))
    if placed == count:
        return tuple(tuple(places[place]) for place in sorted(places)), ()
    if may_be_empty:
        return (), ()
    if asks_for_ends(hand_out, settings):
        best, worst = places.get(1, []), places.get(count, [])
        if len(best) != 1 or len(worst) != 1 or placed != 2:
            raise BadAnswer("name one answer as the best and one as the worst, or skip")
        between = tuple(index for index in range(count) if index not in (*best, *worst))
        return (tuple(best), between, tuple(worst)), between if len(between) > 1 else ()
    raise BadAnswer(f"{placed} of {count} answers are placed; give every one a rank, or skip")


def _strength(form: FormData, settings: Settings, ranking: tuple[tuple[int, ...], ...]) -> float | None:
    if not settings.ask_strength or len(ranking) < 2:
        return None
    text = _text(form, "strength")
    if not text:
        return None
    value = _number(text)
    if value not in STRENGTHS:
        raise BadAnswer("the strength is none of those on the page")
    return value


def _ratings(form: FormData, hand_out: HandOut, settings: Settings) -> dict[str, tuple[float | None, ...]]:
    """By the aspects' names: others may be asked for by now than when the page was made."""
    ratings: dict[str, tuple[float | None, ...]] = {}
    for aspect in settings.aspects:
        given = [_whole(form, f"rate-{i}-{aspect}", RATINGS[0], RATINGS[-1]) for i in range(len(hand_out.responses))]
        if any(value is not None for value in given):
            ratings[aspect] = tuple(None if value is None else float(value) for value in given)
    return ratings


def _edited(form: FormData, hand_out: HandOut) -> dict[int, str]:
    edited: dict[int, str] = {}
    for index, response in enumerate(hand_out.responses):
        text = _text(form, f"edit-{index}")
        if text.strip() and _plain(text) != _plain(response.text):
            edited[index] = text
    return edited


def _seconds(form: FormData, hand_out: HandOut, settings: Settings) -> float:
    value = _number(_text(form, "seconds"))
    if value is None:
        # without a script: since it was handed out
        left = (hand_out.expires - datetime.now(UTC)).total_seconds()
        value = settings.lease_seconds - left
    return min(max(value, 0.0), float(settings.lease_seconds))


def _plain(text: str) -> str:
    """What two texts are compared by: a browser writes newlines its own way, and a zero as a replacement sign."""
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd").strip()


def _text(form: FormData, name: str) -> str:
    value = form.get(name, "")
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        raise BadAnswer(f"a text has at most {LONGEST_TEXT} characters")
    return value.replace("\r\n", "\n").strip()


def _whole(form: FormData, name: str, low: int, high: int) -> int | None:
    text = _text(form, name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and low <= int(text[:9]) <= high):
        raise BadAnswer(f"{name} goes from {low} to {high}")
    return int(text)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value == value and abs(value) < 1e9 else None
