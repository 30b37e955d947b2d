"""What the figures of a round say in words: the verdict, and what did not improve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from plaudit.evaluation.figures import (
    Figure,
    figure,
    gain,
    interval,
    look_up,
    mapping,
    number,
    objects,
    percent,
    plain,
    signed,
)

Tone = Literal["up", "down", "unclear"]

CHECKPOINTS: Mapping[str, str] = {
    "base": "Base",
    "sft": "SFT",
    "rlhf": "RLHF",
    "dpo": "DPO",
    "best_of_n": "Best of n",
    "ceiling": "Oracle",
}
"""Name in the files -> on the page. The oracle is PPO against the truth itself: what a perfect judge would give."""


CALLED: Mapping[str, str] = {"ppo": "PPO", "dpo": "DPO"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """One thing measured on several checkpoints."""

    name: str
    values: Mapping[str, Figure]
    gain: Figure | None
    """RLHF less SFT."""
    known_range: tuple[float, float] | None = None

    @property
    def tone(self) -> Tone:
        if self.gain is None:
            return "unclear"
        return "up" if self.gain.is_up else "down" if self.gain.is_down else "unclear"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    tone: Tone
    title: str
    text: str


def measures(evaluation: Mapping[str, object]) -> list[Measure]:
    """Truth per objective (`total` first), then every judge that says a gain, at equal length too."""
    found: list[Measure] = []
    truth = mapping(evaluation, "truth")
    objectives = list(dict.fromkeys(key for name in CHECKPOINTS for key in mapping(truth, name)))
    for objective in sorted(objectives, key=lambda key: key != "total"):
        values = _values(truth, objective)
        paired = figure(evaluation, "truth_gain", objective)
        change = gain(values.get("sft"), values.get("rlhf"), paired)
        if values:
            name = "hidden total" if objective == "total" else objective
            found.append(Measure(name=name, values=values, gain=change, known_range=(0.0, 1.0)))
    for key, section in evaluation.items():
        judge = f"{key.replace('_', ' ')}’s"
        found += _gains(f"{judge} score", section)
        for objective, apart in mapping(section, "objectives").items():
            found += _gains(f"{judge} {objective} score", apart)
    return found


def _gains(name: str, section: object) -> list[Measure]:
    """A judge's score before and after, and its gain at equal length; nothing where there is no gain."""
    change, level = figure(section, "gain"), figure(section, "gain_at_equal_length")
    if change is None:
        return []
    found = [Measure(name=name, values=_values(mapping(section)), gain=change)]
    return found + ([Measure(name=f"{name} at equal length", values={}, gain=level)] if level is not None else [])


def weightiest(rows: Sequence[Measure]) -> Measure | None:
    """The measure that decides: the truth, else the judge that PPO never saw, else the judge."""
    names = ("hidden total", "second judge’s score", "judge’s score")
    return next((row for name in names for row in rows if row.name == name and row.gain is not None), None)


def maker_of(summary: Mapping[str, object]) -> Literal["ppo", "dpo"]:
    """The act that made the policy. Where both are there, DPO stands beside PPO."""
    return "dpo" if "dpo" in summary and "ppo" not in summary else "ppo"


def verdict(row: Measure | None, summary: Mapping[str, object]) -> Finding:
    """One sentence on the weightiest measure; where nothing was scored (a ready reward), on who wins."""
    by = CALLED[maker_of(summary)]
    if row is None or row.gain is None:
        people = contest_of(summary)
        wins = people or figure(summary, "evaluation", "win_rate")
        if wins is None or wins.low is None or wins.high is None:
            return Finding(tone="unclear", title="Not evaluated yet", text="What the run has so far is below.")
        share = f"preferred to the SFT model’s in {percent(wins.value)} of pairs ({interval(wins, as_percent=True)})"
        tone: Tone = "up" if wins.low > 0.5 else "down" if wins.high < 0.5 else "unclear"
        title = {"up": "Better", "down": "Worse", "unclear": "No clear change"}[tone]
        whose = ", by people who compared them blind" if people is not None else ""
        return Finding(tone=tone, title=title, text=f"The answers of {by} are {share}{whose}.")
    measured = figure(summary, "evaluation", "kl", "rlhf")
    kl = number(summary, "ppo", "kl") if measured is None else measured.value
    leash = f", at a KL of {plain(kl)} nats from the SFT model" if kl is not None else ""
    limits = interval(row.gain, digits=3, with_sign=True)
    how_much = f"{signed(row.gain.value)}" + (f" (95 % interval {limits})" if limits else "")
    if row.tone == "up":
        return Finding(tone="up", title="Better", text=f"{by} raised the {row.name} by {how_much}{leash}.")
    if row.tone == "down":
        return Finding(tone="down", title="Worse", text=f"{by} lowered the {row.name}: {how_much}{leash}.")
    return Finding(
        tone="unclear", title="No clear change", text=f"The {row.name} moved by {how_much}, within the noise{leash}."
    )


def shortfalls(rows: Sequence[Measure], summary: Mapping[str, object]) -> list[Finding]:
    """Everything that got worse or did not clearly get better, the worse first."""
    found = [_shortfall(row) for row in rows if row.gain is not None and row.tone != "up"]
    found += _judge_shortfalls(summary) + _contradictions(rows, CALLED[maker_of(summary)]) + _text_shortfalls(summary)
    return sorted(found, key=lambda finding: finding.tone != "down")


def contest_of(summary: Mapping[str, object]) -> Figure | None:
    """How often people who compared RLHF and SFT blind preferred RLHF."""
    asked = (one for one in objects(summary, "contests") if (one.get("first"), one.get("second")) == ("rlhf", "sft"))
    return next((figure(one, "share") for one in asked), None)


def _shortfall(row: Measure) -> Finding:
    assert row.gain is not None
    limits = interval(row.gain, digits=3, with_sign=True)
    text = f"{signed(row.gain.value)} from SFT to RLHF" + (f", 95 % interval {limits}." if limits else ".")
    title = row.name[:1].upper() + row.name[1:]
    if row.tone == "down":
        return Finding(tone="down", title=f"{title} fell", text=text)
    return Finding(tone="unclear", title=f"{title}: no clear gain", text=text)


def _judge_shortfalls(summary: Mapping[str, object]) -> list[Finding]:
    found: list[Finding] = []
    margin = figure(summary, "reward", "beats_length")
    if margin is not None and not margin.is_up:
        limits = interval(margin, digits=3, with_sign=True)
        text = f"Accuracy less the length rule’s: {signed(margin.value)}" + (f" ({limits})." if limits else ".")
        tone: Tone = "down" if margin.is_down else "unclear"
        found.append(Finding(tone=tone, title="The judge does not clearly beat a length rule", text=text))
    people = contest_of(summary)
    for wins, whose in ((figure(summary, "evaluation", "win_rate"), ""), (people, " by people, blind")):
        if wins is not None and wins.low is not None and wins.low <= 0.5:
            share = f"{percent(wins.value)} of pairs ({interval(wins, as_percent=True)})"
            lost = wins.high is not None and wins.high < 0.5
            title = f"No clear win against SFT{whose}"
            text = f"RLHF is preferred to SFT{whose}, in {share}." if whose else f"RLHF is preferred to SFT in {share}."
            found.append(Finding(tone="down" if lost else "unclear", title=title, text=text))
    return found


def _contradictions(rows: Sequence[Measure], by: str) -> list[Finding]:
    """The judge is pleased and the truth is not: what PPO does to a judge that can be fooled."""
    by_name = {row.name: row for row in rows}
    judge = by_name.get("judge’s score")
    measured = by_name.get("hidden total") or by_name.get("second judge’s score")
    if judge is None or measured is None or judge.tone != "up" or measured.tone == "up" or measured.gain is None:
        return []
    text = f"The judge’s score rose, the {measured.name} did not: {by} found what pleases the judge alone."
    return [Finding(tone="down", title="Over-optimised", text=text)]


def _text_shortfalls(summary: Mapping[str, object]) -> list[Finding]:
    before, after = (mapping(summary, "evaluation", "text", name) for name in ("sft", "rlhf"))
    checks = (
        ("distinct_2", -0.1, "Answers have become more alike", "Different word pairs, of all"),
        ("repeated_3", 0.05, "Answers repeat themselves more", "Word triples that came before in the same answer"),
        ("finished", -0.1, "Fewer answers end by themselves", "Finished"),
    )
    found: list[Finding] = []
    for key, limit, title, label in checks:
        old, new = number(before, key), number(after, key)
        if old is not None and new is not None and (new - old) * (1 if limit > 0 else -1) > abs(limit):
            found.append(Finding(tone="down", title=title, text=f"{label}: {percent(old)} → {percent(new)}."))
    return found


def _values(section: Mapping[str, object], *keys: str) -> dict[str, Figure]:
    found = {name: figure(look_up(section, name, *keys)) for name in CHECKPOINTS}
    return {name: value for name, value in found.items() if value is not None}
