"""Time to an equal held-out loss: SFT and reward training, Plaudit's and TRL 1.16's, both with LoRA.

    python benchmarks/heldout.py --model DIR --data DIR
    python benchmarks/heldout.py --quick        # a tiny random model: does everything still work?

Writes benchmarks/results/heldout.json. Ours adapts the layers above the default depth, runs those below once per
sequence and keeps their states in memory; the peer adapts all layers. The held-out loss (per completion token, or per
pair) is looked at every few steps, by the same definition, on a clock that stands still meanwhile. Each side tries
several constant learning rates; the one that is soonest at the level counts. The level is the worse of the sides' best
losses, so that both have reached it.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bench import WORK, run_process, say
from curves import Contestant, ratio
from environments import python_of
from prepare import default_depth
from settings import Scale
from study import Record, Study, add_model, model_of, shown, t_interval, table

TASKS = ("sft", "reward")
PEER = "TRL 1.16, LoRA on all layers"


def sides(depth: int, task: str, wanted: Collection[str]) -> list[Contestant]:
    """Whoever takes part in a task; the rates are guesses around which some are tried."""
    default = {"depth": "default", "split_depth": depth}
    found = {
        "default": Contestant(name=f"Plaudit, adapters above {depth}", module="learning", guess=8e-4, options=default),
        "probe": Contestant(
            name=f"Plaudit, probe, then adapters above {depth}",
            module="learning",
            guess=4e-4,
            options=default | {"head_start": "probe"},
        ),
        "full": Contestant(
            name="Plaudit, adapters on all layers",
            module="learning",
            guess=2e-4,
            options={"depth": "full", "split_depth": 0},
        ),
        "trl": Contestant(name=PEER, module="peers.trl_heldout", guess=2e-4, trl="1.16.0"),
    }
    return [one for name, one in found.items() if name in wanted and not (name == "probe" and task == "sft")]


class Race:
    """Runs of one model on one set of examples, each done once."""

    def __init__(self, study: Study, model: str, arguments: argparse.Namespace) -> None:
        self.study, self.model, self.arguments = study, model, arguments
        self.inputs = WORK / f"{study.path.stem}.examples.json"
        self.scale = Scale(
            dtype="float32",
            batch=0,
            prompt=0,
            response=0,
            micro_batch=arguments.peer_micro or arguments.batch,
            epochs=arguments.epochs,
            training_batch=arguments.batch,
        )
        data = None if arguments.data is None else str(arguments.data.resolve())
        self.data = {"examples": arguments.train, "held": arguments.held, "longest": arguments.longest, "data": data}
        task = {"side": "examples", "model": model, "inputs_to": str(self.inputs), **self.data}
        self.found = run_process("learning", task)

    def run(self, one: Contestant, task: str, rate: float, seed: int) -> Record:
        shared = {"scale": asdict(self.scale), "every": self.arguments.every, "rate": rate}
        sizes = self.data | {"data": self.arguments.data.name if self.arguments.data else "random tokens"}
        settings = {"contestant": one.name, "task": task, "seed": seed, **sizes, **shared, **one.options}

        def measure() -> Record:
            given = {"side": task, "model": self.model, "inputs": str(self.inputs), "run": seed}
            options = {"python": python_of(one.trl)} if one.trl else {}
            made = run_process(one.module, given | shared | one.options, **options)
            last = made["rows"][-1]
            say(f"{task}  {one.name}  rate {rate:.2g}  seed {seed}: {last['loss']:.4f} after {last['seconds']:.0f} s")
            return made

        return self.study.part(settings | {"model": self.model.rsplit("/", 1)[-1]}, measure)

    def hold(self, task: str, contestants: Sequence[Contestant]) -> Record:
        arguments = self.arguments
        runs: dict[str, dict[int, dict[float, Record]]] = {one.name: {} for one in contestants}
        for seed in arguments.seeds:
            for one in contestants:
                rates = [one.guess * share for share in arguments.shares]
                runs[one.name][seed] = {rate: self.run(one, task, rate, seed) for rate in rates}
        levels = [max(best_loss(runs[one.name][seed]) for one in contestants) for seed in arguments.seeds]
        arrivals = {
            name: [soonest(found[seed], level) for seed, level in zip(arguments.seeds, levels, strict=True)]
            for name, found in runs.items()
        }
        summary: Record = {"seeds": arguments.seeds, "levels": levels, "baseline": PEER, "sides": {}}
        for name, found in runs.items():
            mine, theirs = ([a["seconds"] for a in arrivals[key]] for key in (name, PEER))
            firsts = [run["rows"][0]["loss"] for rates in found.values() for run in rates.values()]
            summary["sides"][name] = {
                "start": statistics.mean(firsts),
                "best_loss": t_interval([best_loss(rates) for rates in found.values()]),
                "best_accuracy": t_interval([best_accuracy(r) for r in found.values()]) if task == "reward" else None,
                "arrivals": arrivals[name],
                "seconds": t_interval(mine),
                "times_faster": ratio(theirs, mine),
                "per_step": statistics.median(pace(run) for rates in found.values() for run in rates.values()),
                "memory_gb": max(run["memory_gb"] for rates in found.values() for run in rates.values()),
            }
        return summary


def best_loss(rates: Mapping[float, Record]) -> float:
    return min(row["loss"] for run in rates.values() for row in run["rows"])


def best_accuracy(rates: Mapping[float, Record]) -> float:
    """At the lowest loss, so that no lucky moment counts."""
    return min((row["loss"], row["accuracy"]) for run in rates.values() for row in run["rows"])[1]


def soonest(rates: Mapping[float, Record], level: float) -> Record:
    """The first look at which a loss is at the level, by the rate that is there first."""
    found = [row | {"rate": rate} for rate, run in rates.items() for row in run["rows"] if row["loss"] <= level]
    return min(found, key=lambda row: row["seconds"])


def pace(run: Record) -> float:
    """Seconds per step behind the first look, which warms up."""
    first, last = run["rows"][1 if len(run["rows"]) > 2 else 0], run["rows"][-1]
    return (last["seconds"] - first["seconds"]) / (last["step"] - first["step"])


def race_table(task: str, summary: Record) -> str:
    head = [task, "rates", "loss before", "lowest loss", "accuracy there", "s to the level", "steps", "times sooner"]
    rows: list[list[str]] = []
    for name, one in summary["sides"].items():
        rates = ", ".join(f"{a['rate']:.2g}" for a in one["arrivals"])
        accuracy = "–" if one["best_accuracy"] is None else shown(one["best_accuracy"])
        steps = ", ".join(str(a["step"]) for a in one["arrivals"])
        cells = [name, rates, f"{one['start']:.4f}", shown(one["best_loss"], 4), accuracy]
        cells += [shown(one["seconds"], 1), steps, shown(one["times_faster"], 2)]
        rows.append([*cells, f"{one['per_step']:.2f}", f"{one['memory_gb']:.2f}"])
    levels = ", ".join(f"{level:.4f}" for level in summary["levels"])
    return f"{table([*head, 's/step', 'GB'], rows)}\n\nLevels by seed: {levels}. Seeds: {summary['seeds']}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model(parser)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    names = ("default", "probe", "full")
    parser.add_argument("--sides", nargs="+", choices=names, default=["default"], help="of ours, beside TRL")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--shares", type=float, nargs="+", default=[1.0, 3.0], help="of the guess: rates that are tried"
    )
    parser.add_argument("--train", type=int, default=64, help="examples to train on")
    parser.add_argument("--held", type=int, default=32, help="examples held out")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--every", type=int, default=2, help="steps between two looks at the held-out loss")
    parser.add_argument(
        "--longest", type=int, default=128, help="tokens of a pair's longer side; twice, of a demonstration"
    )
    parser.add_argument("--peer-micro", type=int, help="the peer's rows at a time (default: the whole batch)")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.train, arguments.held, arguments.batch, arguments.longest, arguments.data = 16, 8, 4, 48, None
    folder = model_of(arguments, parser)
    study = Study("heldout", quick=arguments.quick)
    race = Race(study, folder, arguments)
    say(f"examples: {race.found}")
    tables: list[Any] = []
    for task in arguments.tasks:
        contestants = sides(default_depth(folder), task, {*arguments.sides, "trl"})
        study.conclude(task, race.hold(task, contestants))
        tables.append(race_table(task, study.content["summary"][task]))
    print("\n\n".join(tables))


if __name__ == "__main__":
    main()
