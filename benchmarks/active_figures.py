"""What `active.py` found, in figures: what a choice of an annotator is worth, the curves, the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from study import Record, draw, shown, t_interval, table

RESAMPLES = 10_000
ACTIONS = {"random": 3, "active": 3, "members": 3, "wide": 3, "ends": 2, "active_ends": 2}
"""Choices that a person makes for one prompt: three put four answers in order."""
COLOURS = {
    "random": "#8a8f98",
    "active": "#2563eb",
    "members": "#d97706",
    "wide": "#15803d",
    "ends": "#9333ea",
    "active_ends": "#db2777",
}
LABELS = {
    "random": "whole rankings of four, chosen by nobody",
    "active": "what members name otherwise (order: active)",
    "members": "the same by their deviation, prompts too",
    "wide": "furthest apart by the truth (nobody has it)",
    "ends": "best and worst of eight, chosen by nobody",
    "active_ends": "best and worst of nine of sixteen, order: active",
}


def summary_of(parts: Sequence[Record]) -> Record:
    """Accuracy of each way at each budget, what its judgements took, and how much random labelling would have taken for
    the same accuracy: for each draw of the seeds (bootstrap) the random curve is a line over the logarithm of the
    actions (least squares)."""
    found: Record = {}
    ways = parts[0]["accuracy"]
    curves = {way: {int(k): [p["accuracy"][way][k] for p in parts] for k in ways[way]} for way in ways}
    random = {budget * ACTIONS["random"]: values for budget, values in curves["random"].items()}
    draws = np.random.default_rng(0).integers(len(parts), size=(RESAMPLES, len(parts)))
    for way, of_way in curves.items():
        for budget, values in of_way.items():
            actions = budget * ACTIONS[way]
            found[f"{way}, {budget}"] = {"accuracy": t_interval(values), "actions": actions}
            if way == "random":
                continue
            differences = [a - b for a, b in zip(values, curves["random"][budget], strict=True)]
            drawn = [worth(random, values, actions, rows) for rows in draws] if len(parts) > 1 else []
            low, high = np.quantile(drawn, [0.025, 0.975]).tolist() if drawn else (None, None)
            point = worth(random, values, actions, np.arange(len(parts)))
            found[f"{way}, {budget}"] |= {
                "less random": t_interval(differences),
                "worth": {"value": point, "low": low, "high": high, "n": len(parts)},
            }
    return found


def worth(random: Mapping[int, Sequence[float]], values: Sequence[float], actions: int, seeds: Any) -> float:
    """Actions of random labelling with which as much is reached, over those that were made."""
    means = [float(np.mean(np.asarray(of_budget)[seeds])) for of_budget in random.values()]
    slope, start = np.polyfit(np.log(list(random)), means, 1)
    return float(np.exp((float(np.mean(np.asarray(values)[seeds])) - start) / slope) / actions)


def inverted(parts: Sequence[Record]) -> Record:
    """Of the choices that random labelling takes for what it reaches with each budget, the share with which a way
    reaches the same: its own curve read backwards, lines between its points (bootstrap over the seeds)."""
    found: Record = {}
    draws = [np.arange(len(parts)), *np.random.default_rng(0).integers(len(parts), size=(RESAMPLES, len(parts)))]
    curves = {way: _by_actions(parts, way) for way in parts[0]["accuracy"]}
    for way, curve in curves.items():
        for actions, values in [] if way == "random" else list(curves["random"].items())[:-1]:
            shares = [_actions_for(float(values[rows].mean()), curve, rows) / actions for rows in draws]
            low, high = np.quantile(shares[1:], [0.025, 0.975]).tolist()
            found[f"{way}, as {actions} random choices"] = {"value": shares[0], "low": low, "high": high}
    return found


def _by_actions(parts: Sequence[Record], way: str) -> dict[int, Any]:
    budgets = parts[0]["accuracy"][way]
    return {int(k) * ACTIONS[way]: np.array([part["accuracy"][way][k] for part in parts]) for k in budgets}


def _actions_for(level: float, curve: Mapping[int, Any], seeds: Any) -> float:
    """Where the curve comes to a level; beyond its points its nearest line goes on."""
    logs, means = np.log(list(curve)), [float(values[seeds].mean()) for values in curve.values()]
    after = min(max(1, int(np.searchsorted(means, level))), len(means) - 1)
    slope = (means[after] - means[after - 1]) / (logs[after] - logs[after - 1])
    return float(np.exp(logs[after - 1] + (level - means[after - 1]) / slope))


def plot(summary: Record, path: Path) -> None:
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axis: Any = figure.subplots()
    for way, colour in COLOURS.items():
        points = [one for k, one in summary.items() if k.startswith(f"{way}, ")]
        if not points:
            continue
        actions, found = [one["actions"] for one in points], [one["accuracy"] for one in points]
        axis.plot(
            actions, [one["value"] for one in found], "o-", color=colour, label=LABELS[way], linewidth=1.5, markersize=4
        )
        if all(one["low"] is not None for one in found):
            edges = [[one[edge] for one in found] for edge in ("low", "high")]
            axis.fill_between(actions, *edges, color=colour, alpha=0.12, linewidth=0)
    random = [one["actions"] for k, one in summary.items() if k.startswith("random, ")]
    ticks = [random[0] // 2, *random]
    axis.set_xscale("log")
    axis.set_xticks(ticks, [f"{n:,}" for n in ticks])
    axis.minorticks_off()
    axis.set_xlabel("choices that people made")
    axis.set_ylabel("pairs in the order of the truth")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8)
    draw(figure, path)


def accuracy_table(summary: Record) -> str:
    rows: list[list[str]] = []
    for name, one in summary.items():
        compared = [shown(one["less random"]), shown(one["worth"], 2)] if "worth" in one else ["", "1"]
        rows.append([name, str(one["actions"]), shown(one["accuracy"]), *compared])
    heads = ["way, judgements", "choices", "accuracy", "less that of as many rankings", "random choices worth one"]
    return table(heads, rows)
