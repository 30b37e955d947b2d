"""The settings of a project as a form: every field of `Settings`, in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from starlette.datastructures import FormData

from plaudit.feedback.records import BadAnswer, Settings
from plaudit.feedback.web.room import field

LABELS: Mapping[str, tuple[str, str]] = {
    "overlap": ("People per task", "How many different people judge each task."),
    "quota": ("Judgements wanted", "The work ends after so many. Empty: every task, by as many people as above."),
    "lease_seconds": ("Time for one task, in seconds", "Afterwards somebody else may be given it."),
    "order": ("Order of tasks", "random, or active: a judge chooses which answers to a prompt are shown."),
    "random_share": ("Share chosen by nobody", "Between 0 and 0.9, of an active order. The judge is measured on them."),
    "ask": ("What is asked", "ranking: all answers in order. best_and_worst: two choices, however many there are."),
    "shown": ("Answers at a time", "2 to 9, of tasks that are added from now on. Empty: all there are, 9 at most."),
    "gold_share": ("Share of gold tasks", "Between 0 and 1. Their answer is known; nobody can tell them apart."),
    "repeat_share": ("Share of repeats", "Between 0 and 1. Seen before by the same person: how steady is he?"),
    "qualification": ("Tasks to qualify", "Gold tasks that a new person does before the real work."),
    "qualification_pass": ("Share to pass", "Of their pairs, to be had right."),
    "adjudicate_below": ("Adjudicate below", "Agreement under which an adjudicator decides. Empty: never."),
    "aspects": ("Aspects", "Rated from 1 to 5 for each answer, such as: helpful, harmless, honest."),
    "ask_strength": ("Ask how much better", "The best over the worst, in three steps."),
    "ask_rationale": ("Ask why", "A sentence or two in their own words."),
    "blur": ("Cover sensitive texts", "Until the person asks to see them."),
    "review_demonstrations": ("Review demonstrations", "A second person accepts what one has written."),
    "objective": ("Objective", "What the rankings speak about."),
    "seed": ("Seed", "Redraws the order of tasks, gold and repeats."),
}
CHOICES: Mapping[str, tuple[str, ...]] = {"order": ("random", "active"), "ask": ("ranking", "best_and_worst")}


def changes_of(form: FormData, settings: Settings) -> dict[str, object]:
    """What differs from the present settings. BadAnswer where a value cannot be read; whether it makes sense is for
    the desk to say."""
    changes: dict[str, object] = {}
    for one in dataclasses.fields(Settings):
        if one.name not in form and f"{one.name}-asked" not in form:
            continue
        value = _value(one.name, str(one.type), field(form, one.name).strip())
        if value != getattr(settings, one.name):
            changes[one.name] = value
    return changes


def _value(name: str, kind: str, text: str) -> object:
    label = LABELS[name][0]
    if kind == "bool":
        return bool(text)
    if kind.startswith("tuple"):
        return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if kind.endswith("| None") and not text:
        return None
    try:
        if kind.startswith("int"):
            return int(text)
        if kind.startswith("float"):
            return float(text)
    except ValueError:
        raise BadAnswer(f"{label}: {text!r} is no number") from None
    if name in CHOICES and text not in CHOICES[name]:
        raise BadAnswer(f"{label}: one of {', '.join(CHOICES[name])}")
    return text
