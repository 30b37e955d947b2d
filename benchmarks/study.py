"""What the learning benchmarks share: results that are measured once, curves, intervals, tables."""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import RESULTS, WORK, run_process, say
from matplotlib import rc_context
from matplotlib.figure import Figure
from scipy.stats import t as student

Record = dict[str, Any]
RATES = (0.5, 1.0, 2.0, 4.0)
"""Shares of a first guess that are tried as learning rates."""
MOST_RATES = 6


class Study:
    """One JSON file of parts, each with the settings it was measured at. A part that is there is not measured again.

    A trial (`quick`) is written beside the peers, so that it never passes for a result.
    """

    def __init__(self, name: str, *, quick: bool) -> None:
        self.path = (WORK if quick else RESULTS) / f"{name}.json"
        self.content: Record = {"machine": {}, "parts": [], "summary": {}}
        if self.path.is_file():
            self.content = json.loads(self.path.read_text())
        WORK.mkdir(parents=True, exist_ok=True)
        self.machine = self.content["machine"] = run_process("prepare", {"side": "facts"})

    def part(self, settings: Record, measure: Callable[[], Mapping[str, Any]]) -> Record:
        """What was measured at these settings, measured now unless it is there."""
        wanted = json.loads(json.dumps(settings))
        for part in self.content["parts"]:
            if part["settings"] == wanted:
                return part
        part = {"settings": wanted, "threads": self.machine["threads"], "load": load(), **measure()}
        self.content["parts"].append(part)
        self.save()
        return part

    def conclude(self, name: str, summary: object) -> None:
        self.content["summary"][name] = summary
        self.save()
        say(f"written to {self.path}")

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(".partial")
        beside.write_text(json.dumps(self.content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        beside.replace(self.path)


def load() -> float | None:
    """Processes that wanted a core in the last minute, before a part began: times beside others mean less."""
    told = Path("/proc/loadavg")
    return float(told.read_text().split()[0]) if told.is_file() else None


def tuned(
    measure: Callable[[float], float], guess: float, shares: Sequence[float] = RATES, *, most: int = MOST_RATES
) -> Record:
    """The learning rate with the highest `measure`. Where the best one stands at the grid's edge the grid goes on, up
    to `most` rates."""
    found = {guess * share: measure(guess * share) for share in shares}
    while True:
        best = max(found, key=lambda rate: found[rate])
        further = {min(found): best / 2, max(found): best * 2}.get(best)
        if len(found) == 1 or further is None or len(found) >= most or further > 1:
            break
        found[further] = measure(further)
    return {"rate": best, "at_edge": best in (min(found), max(found)), "tried": sorted(found.items())}


# -- curves ---------------------------------------------------------------------------------------------------------


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """Mean of each value and those before it, `window` in all (fewer at the start)."""
    return [statistics.mean(values[max(0, i + 1 - window) : i + 1]) for i in range(len(values))]


def time_to(level: float, values: Sequence[float], seconds: Sequence[float], window: int) -> float | None:
    """Seconds of training until the smoothed curve first reaches the level; None: never.

    `values[i]` was had by the policy that `seconds[:i]` made. Means over fewer than `window` values do not count.
    """
    reached = (i for i, mean in enumerate(smoothed(values, window)) if i + 1 >= window and mean >= level)
    first = next(reached, None)
    return None if first is None else sum(seconds[:first])


def best_of(values: Sequence[float], window: int) -> float:
    """The highest smoothed value, over whole windows."""
    return max(smoothed(values, window)[window - 1 :])


# -- figures --------------------------------------------------------------------------------------------------------


def t_interval(values: Sequence[float]) -> Record:
    """Mean with Student's 95 % interval; with one value, or none, there is no interval."""
    count = len(values)
    mean = statistics.mean(values) if values else None
    if mean is None or count < 2:
        return {"value": mean, "low": None, "high": None, "n": count}
    half = float(student.ppf(0.975, count - 1)) * statistics.stdev(values) / math.sqrt(count)
    return {"value": mean, "low": mean - half, "high": mean + half, "n": count}


def shown(figure: Mapping[str, Any], digits: int = 3) -> str:
    """A figure with its interval, as text."""
    if figure["value"] is None:
        return "–"
    if figure["low"] is None:
        return f"{figure['value']:.{digits}f}"
    return f"{figure['value']:.{digits}f} ({figure['low']:.{digits}f} to {figure['high']:.{digits}f})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def draw(figure: Figure, path: Path) -> None:
    """As an SVG that is the same to the byte whenever it is drawn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.hashsalt": path.stem}):
        figure.savefig(path, format="svg", metadata={"Date": None})
    say(f"drawn in {path}")


# -- models on the command line -------------------------------------------------------------------------------------


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, help="a model folder (SmolLM2-135M-Instruct for the published figures)")
    parser.add_argument("--data", type=Path, help="folder with prompts/, sft/ and hh/; without it, random tokens")
    parser.add_argument("--quick", action="store_true", help="a tiny random model: does everything still work?")


def model_of(arguments: argparse.Namespace, parser: argparse.ArgumentParser, *, random: str = "tiny-llama") -> str:
    """The folder of the model to measure: the one that was named, or a random one that is made now."""
    if arguments.model is not None and not arguments.quick:
        if not (arguments.model / "config.json").is_file():
            parser.error(f"--model: {arguments.model} is no model folder")
        return str(arguments.model.resolve())
    if not arguments.quick and random == "tiny-llama":
        parser.error("--model names no model folder (or use --quick)")
    folder = WORK / random
    if not (folder / "config.json").is_file():
        run_process("prepare", {"side": "random_model", "name": random, "model_to": str(folder), "dtype": "float32"})
    return str(folder)
