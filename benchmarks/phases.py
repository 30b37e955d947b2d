"""The phases of a PPO update at several revisions of Plaudit, in turn: what has a change given, and where?

    python benchmarks/phases.py --model DIR --revisions HEAD~1 HEAD [--runs 3]
    python benchmarks/phases.py --model DIR --revisions HEAD --full-depth --set value_adapter=null
    python benchmarks/phases.py --quick        # a tiny random model: does everything still work?

Writes benchmarks/results/phases.json. Every measurement has a process of its own, in which `plaudit` is that of the
revision, checked out beside the peers; the task and the clock around it are the benchmark's own (`make bench`). They
know revisions since 2178017, whose steps say their phases.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import WORK, Model, prepare, run_process, say
from settings import CPU, QUICK, ROWS
from study import Record, Study, model_of, table

REPOSITORY = Path(__file__).resolve().parents[1]
PHASES = ("generate", "reward", "score", "train")


def git(*arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(REPOSITORY), *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def checked_out(commit: str) -> Path:
    """Its sources, in a folder of their own."""
    folder = WORK / "revisions" / commit
    if not folder.is_dir():
        beside = folder.with_suffix(".partial")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        archive = subprocess.run(
            ["git", "-C", str(REPOSITORY), "archive", commit, "src"], check=True, capture_output=True
        ).stdout
        subprocess.run(["tar", "-x", "-C", str(beside)], input=archive, check=True)
        beside.rename(folder)
    return folder / "src"


def measure(study: Study, model: Model, commit: str, options: Record, run: int) -> Record:
    """One process at one revision."""
    settings: Record = {"commit": commit, "model": model.name, "scale": asdict(model.scale), "run": run, **options}

    def now() -> Record:
        task = settings | {"side": "ppo", "model": model.folder, "inputs": str(model.inputs)}
        task["split_depth"] = model.prepared["split_depth"]
        made = run_process("ours", task, first_path=checked_out(commit))
        say(f"{commit[:7]}, run {run}: {made['value']:.2f} s")
        return made

    return study.part(settings, now)


def middle(runs: list[Record], *path: str) -> float:
    """The median of a figure over the runs."""
    found: list[Any] = list(runs)
    for key in path:
        found = [one[key] for one in found]
    return statistics.median(found)


def phases_table(rows: list[Record]) -> str:
    head = ["", *PHASES, "update, s", "of it training", "GB"]
    cells: list[list[str]] = []
    for row in rows:
        phases = [f"{row['phases'][phase]:.2f}" for phase in PHASES]
        share = f"{row['phases']['train'] / row['seconds']:.0%}"
        name = f"{row['commit'][:7]} {row['subject']}"
        cells.append([name, *phases, f"{row['seconds']:.2f}", share, f"{row['memory_gb']:.1f}"])
    return table(head, cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model folder (SmolLM2-135M-Instruct for the published table)")
    parser.add_argument("--revisions", nargs="+", default=["HEAD"], help="as git names them")
    parser.add_argument("--runs", type=int, default=1, help="processes of each revision")
    parser.add_argument("--full-depth", action="store_true", help="adapters on all layers")
    parser.add_argument("--set", nargs="+", default=[], metavar="FIELD=JSON", help="of the recipe's ppo section")
    parser.add_argument("--quick", action="store_true", help="a tiny random model, one run")
    arguments = parser.parse_args()
    quick = arguments.quick
    folder = model_of(arguments, parser)
    model = Model(Path(folder).name, folder, QUICK if quick else CPU, None)
    prepare(model, [row for row in ROWS if row.name == "ppo_update"], None)
    try:
        commits = [git("rev-parse", "--verify", f"{revision}^{{commit}}") for revision in arguments.revisions]
    except subprocess.CalledProcessError as error:
        parser.error(f"--revisions: {error.stderr.strip()}")
    options: Record = {"depth": "full" if arguments.full_depth else "default"}
    if changes := {name: json.loads(value) for name, _, value in (one.partition("=") for one in arguments.set)}:
        options["ppo"] = changes
    study = Study("phases", quick=quick)
    found: dict[str, list[Record]] = {commit: [] for commit in commits}
    for run in range(arguments.runs):
        for commit in commits:
            found[commit].append(measure(study, model, commit, options, run))
    rows = [
        {
            "commit": commit,
            "subject": git("log", "-1", "--format=%s", commit),
            "seconds": middle(runs, "value"),
            "phases": {phase: middle(runs, "phases", phase) for phase in PHASES},
            "memory_gb": middle(runs, "memory_gb"),
        }
        for commit, runs in found.items()
    ]
    study.conclude(json.dumps(options), rows)
    print(phases_table(rows))


if __name__ == "__main__":
    main()
