"""PPO against a scripted reward, several contestants side by side: reward against seconds, and the time to a level.

Every run has a process of its own, contestants take turns within each seed, and each has a learning rate chosen on
seeds that are not reported.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import WORK, run_process, say
from environments import SOURCE, python_of
from settings import QUICK, Scale
from study import MOST_RATES, RATES, Record, Study, best_of, shown, t_interval, table, time_to, tuned

TUNING_SEED = 100


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One program and its settings; `guess` is the learning rate around which the best one is looked for."""

    name: str
    module: str
    guess: float
    trl: str | None = None
    options: Record = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Course:
    """What every contestant starts from: the model, prompts in a file, and the reward that is to be had."""

    name: str
    model: str
    inputs: Path
    reward: str
    prompts: Record
    """Of them, in figures."""


def ours(depth: int, guess: float, name: str = "", **more: Any) -> Contestant:
    """Plaudit with adapters on the layers above a depth; `more`: options of its side."""
    options = {"depth": "default", "split_depth": depth, **more}
    return Contestant(name=name or f"depth {depth}", module="learning", guess=guess, options=options)


def add_contest(parser: argparse.ArgumentParser, *, epochs: int) -> None:
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds that are reported")
    parser.add_argument("--shares", type=float, nargs="+", default=list(RATES), help="of the guess: rates tried first")
    parser.add_argument("--most-rates", type=int, default=MOST_RATES, help="tried where the best is at the grid's edge")
    parser.add_argument("--untuned", action="store_true", help="take the guessed learning rates as they are")
    parser.add_argument("--updates", type=int, default=16)
    parser.add_argument("--batch", type=int, default=32, help="prompts per update, one answer each")
    parser.add_argument("--prompt", type=int, default=48, help="longest prompt, in tokens")
    parser.add_argument("--response", type=int, default=24, help="longest answer, in tokens")
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--micro-batch", type=int, default=16, help="rows of a micro-batch")
    parser.add_argument("--kl", type=float, default=0.02, help="KL coefficient")
    parser.add_argument("--window", type=int, default=3, help="updates that a smoothed reward is the mean of")
    parser.add_argument("--levels", type=float, nargs="+", help="rewards to be reached (default: see the summary)")


def scale_of(arguments: argparse.Namespace) -> Scale:
    quick = arguments.quick
    return Scale(
        dtype="float32",
        batch=8 if quick else arguments.batch,
        prompt=QUICK.prompt if quick else arguments.prompt,
        response=QUICK.response if quick else arguments.response,
        micro_batch=8 if quick else min(arguments.micro_batch, arguments.batch),
        epochs=2 if quick else arguments.epochs,
        updates=4 if quick else arguments.updates,
    )


def real_course(study: Study, model: str, arguments: argparse.Namespace) -> Callable[[int], Course]:
    """A model folder, one course for all seeds: friendly answers to people's first messages where there are data."""
    data = None if arguments.data is None or arguments.quick else str(arguments.data.resolve())
    inputs, scale = WORK / f"{study.path.stem}.prompts.json", scale_of(arguments)
    sizes = {"count": scale.batch * scale.updates, "longest": scale.prompt, "data": data}
    prompts = run_process("learning", {"side": "inputs", "model": model, "inputs_to": str(inputs), **sizes})
    reward = "even" if data is None else "friendly"
    course = Course(name=model.rsplit("/", 1)[-1], model=model, inputs=inputs, reward=reward, prompts=prompts)
    return lambda _seed: course


class Contest:
    """Contestants on the same course, seed by seed. `run` is done once for each of its settings."""

    def __init__(self, study: Study, course_of: Callable[[int], Course], arguments: argparse.Namespace) -> None:
        self.study, self.course_of, self.arguments = study, course_of, arguments
        self.scale = scale_of(arguments)
        self.window = min(arguments.window, self.scale.updates)

    def run(self, one: Contestant, rate: float, seed: int) -> Record:
        course = self.course_of(seed)
        shared = {"scale": asdict(self.scale), "kl": self.arguments.kl, "reward": course.reward, "rate": rate}
        settings = {"contestant": one.name, "seed": seed, "model": course.name, **shared, **one.options}

        def measure() -> Record:
            task = {"side": "ppo", "model": course.model, "inputs": str(course.inputs), "run": seed, **shared}
            # Where Plaudit is not installed, its world is read from here.
            options = {"python": python_of(one.trl), "first_path": SOURCE} if one.trl else {}
            made = run_process(one.module, task | one.options, **options)
            last = made["rewards"][-1]
            say(f"{one.name}  rate {rate:.2g}  seed {seed}: reward {last:.3f} after {sum(made['seconds']):.0f} s")
            return made

        return self.study.part(settings, measure)

    def rate_of(self, one: Contestant) -> Record:
        """The rate that ends highest on the tuning seed (mean of the last `window` updates)."""
        if self.arguments.untuned:
            return {"rate": one.guess, "at_edge": None, "tried": []}
        window = self.window

        def end(rate: float) -> float:
            return statistics.mean(self.run(one, rate, TUNING_SEED)["rewards"][-window:])

        return tuned(end, one.guess, self.arguments.shares, most=self.arguments.most_rates)

    def hold(self, contestants: Sequence[Contestant], baseline: str) -> Record:
        """Tune, run every seed, and set each contestant against the `baseline`, seed by seed."""
        seeds = self.arguments.seeds[:1] if self.arguments.quick else self.arguments.seeds
        rates = {one.name: self.rate_of(one) for one in contestants}
        runs: dict[str, list[Record]] = {one.name: [] for one in contestants}
        for seed in seeds:
            for one in contestants:
                runs[one.name].append(self.run(one, rates[one.name]["rate"], seed))
        start = statistics.mean(run["rewards"][0] for found in runs.values() for run in found)
        levels = self.arguments.levels or self.levels(runs, start)
        summary: Record = {"seeds": seeds, "start": start, "levels": levels, "baseline": baseline}
        summary |= {"prompts": self.course_of(seeds[0]).prompts, "window": self.window, "contestants": {}}
        for one in contestants:
            summary["contestants"][one.name] = rates[one.name] | self.against(runs, one.name, baseline, levels)
        return summary

    def levels(self, runs: dict[str, list[Record]], start: float) -> list[float]:
        """Half, four fifths and all of the way to the reward that every run of every contestant has reached."""
        window = self.window
        reached = min(best_of(run["rewards"], window) for found in runs.values() for run in found)
        return [(1 - share) * start + share * reached for share in (0.5, 0.8, 1.0)]

    def against(self, runs: dict[str, list[Record]], name: str, baseline: str, levels: Sequence[float]) -> Record:
        window, mine, theirs = self.window, runs[name], runs[baseline]
        ends = {key: [statistics.mean(run["rewards"][-window:]) for run in runs[key]] for key in (name, baseline)}
        per_update = [statistics.median(run["seconds"][1:]) for run in mine]
        times = [[time_to(level, run["rewards"], run["seconds"], window) for run in mine] for level in levels]
        rival = [[time_to(level, run["rewards"], run["seconds"], window) for run in theirs] for level in levels]
        return {
            "reward": t_interval(ends[name]),
            "reward_difference": t_interval([a - b for a, b in zip(ends[name], ends[baseline], strict=True)]),
            "kl": t_interval([statistics.mean(run["kl"][-window:]) for run in mine]),
            "seconds_per_update": t_interval(per_update),
            "memory_gb": statistics.median(run["memory_gb"] for run in mine),
            "time_to": [t_interval([t for t in found if t is not None]) | {"by_seed": found} for found in times],
            "times_faster": [ratio(*both) for both in zip(rival, times, strict=True)],
        }


def ratio(theirs: Sequence[float | None], mine: Sequence[float | None]) -> Record:
    """Geometric mean over the seeds of how many times sooner mine got there; pairs without both are left out."""
    both = [(a, b) for a, b in zip(theirs, mine, strict=True) if a and b]
    logs = t_interval([math.log(a / b) for a, b in both])
    return {k: math.exp(v) if v is not None and k != "n" else v for k, v in logs.items()}


def contest_table(summary: Record) -> str:
    levels: list[Any] = [f"{level:.3f}" for level in summary["levels"]]
    head = ["", "rate", "reward at the end", "less the baseline's", "KL", "s/update"]
    head += [f"s to {level}" for level in levels] + [f"times sooner to {level}" for level in levels]
    rows = [
        [name, f"{one['rate']:.2g}{' (edge)' if one['at_edge'] else ''}"]
        + [shown(one[key]) for key in ("reward", "reward_difference")]
        + [shown(one[key], 1) for key in ("kl", "seconds_per_update")]
        + [f"{shown(found, 0)} [{found['n']}/{len(found['by_seed'])}]" for found in one["time_to"]]
        + [shown(found, 2) for found in one["times_faster"]]
        for name, one in summary["contestants"].items()
    ]
    foot = f"Baseline: {summary['baseline']}. Before training: {summary['start']:.3f}. Seeds: {summary['seeds']}."
    return f"{table(head, rows)}\n\n{foot} In brackets: runs that got there, of all."
