"""Plaudit against what a user could pick instead: time and memory, side by side.

    python benchmarks/bench.py --model DIR [--data DIR] [--runs 3] [--only ppo_update,generation]
    python benchmarks/bench.py --random qwen2-1.5b     # of this shape, as for the rows of a CUDA machine
    python benchmarks/bench.py --quick        # a tiny random model, one run: does everything still work?

Prints one table and writes benchmarks/results/cpu.json (cuda.json on a CUDA machine). Every measurement has a process
of its own; all sides of a family take turns, so that a machine that grows slower is slower for everybody. `ratio` says
how many times faster Plaudit is, `memory_ratio` how much of the peer's peak memory it needs. The peers live in
environments of their own under benchmarks/.peers, made on demand. On a machine that reaches no registry, bring them:
`pip install --target DIR/trl-1.12.0 trl==1.12.0 ...`, and `--peers DIR`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from environments import ROOM, paths_of, python_of
from settings import CPU, CUDA, QUICK, RANDOM_MODELS, REWARD, ROWS, SFT, SIDES, USEFUL, Row, Scale, Side

HERE = Path(__file__).resolve().parent
WORK = ROOM / "work"
RESULTS = HERE / "results"
SHOWN_OF_A_LOG = 25
"""Lines of a failed process that are shown."""

Record = dict[str, Any]


class Failed(Exception):
    """A process that measures or prepares ended badly; the message ends with its last words."""


@dataclass
class Model:
    """A model under measurement, and what was prepared for it."""

    name: str
    folder: str
    scale: Scale
    peers: Path | None
    prepared: Record = field(default_factory=dict)

    @property
    def inputs(self) -> Path:
        return WORK / f"{self.name}.inputs.json"


# -- processes ------------------------------------------------------------------------------------------------------


def run_process(
    module: str, task: Record, *, python: Path | str = sys.executable, first_path: Path | None = None
) -> Record:
    """Run one module on one task, in a fresh process and an empty folder; returns what it wrote."""
    folder = WORK / "run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    result = folder / "result.json"
    (folder / "task.json").write_text(json.dumps(task | {"folder": str(folder / "out"), "result": str(result)}))
    with (folder / "log").open("w", encoding="utf-8") as log:
        code = subprocess.run(
            [str(python), "-m", module, str(folder / "task.json")],
            cwd=folder,
            env=environment(first_path),
            stdout=log,
            stderr=subprocess.STDOUT,
        ).returncode
    if code or not result.is_file():
        lines = (folder / "log").read_text(encoding="utf-8", errors="replace").splitlines()[-SHOWN_OF_A_LOG:]
        raise Failed(f"{module} ended with code {code}:\n  " + "\n  ".join(lines))
    return json.loads(result.read_text())


def environment(first_path: Path | None) -> dict[str, str]:
    paths = [*([] if first_path is None else [str(first_path)]), str(HERE), os.environ.get("PYTHONPATH", "")]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # Else memory that is free in pieces too small would decide what fits; without a GPU it says nothing.
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    }


def measure(side: Side, model: Model, run: int) -> Record:
    task = {
        "side": side.side,
        "model": model.folder,
        "scale": asdict(model.scale),
        "inputs": str(model.inputs),
        "split_depth": model.prepared["split_depth"],
        "run": run,
        **side.options,
    }
    if side.trl is None:
        return run_process(side.module, task)
    if model.peers is not None:
        return run_process(side.module, task, first_path=paths_of(side.trl, model.peers).resolve())
    return run_process(side.module, task, python=python_of(side.trl))


# -- what is measured -----------------------------------------------------------------------------------------------


def models_for(arguments: argparse.Namespace, *, cuda: bool) -> list[Model]:
    scale = QUICK if arguments.quick else CUDA if cuda else CPU
    models: list[Model] = []
    for name in ["tiny-llama"] if arguments.quick else arguments.random:
        folder = str(WORK / name)
        run_process("prepare", {"side": "random_model", "name": name, "model_to": folder, "dtype": scale.dtype})
        models.append(Model(name, folder, scale, arguments.peers))
    if arguments.model and not arguments.quick:
        path = arguments.model.resolve()
        models.append(Model(path.name, str(path), scale, arguments.peers))
    return models


def limit_of(side: Side) -> str:
    return side.options.get("limit", "generation_limit")


def prepare(model: Model, rows: list[Row], data: Path | None) -> None:
    task = {
        "side": "inputs",
        "model": model.folder,
        "scale": asdict(model.scale),
        "data": str(data.resolve()) if data else None,
        "limits": sorted({limit_of(SIDES[row.ours]) for row in rows if row.family.unit == USEFUL}),
        "inputs_to": str(model.inputs),
    }
    model.prepared = run_process("prepare", task)


def measure_family(model: Model, sides: list[str], runs: int, failures: list[str]) -> dict[str, list[Record]]:
    """Every side once, then every side again, and so on; a side that fails is left out from then on."""
    found: dict[str, list[Record]] = {side: [] for side in sides}
    for number in range(runs):
        for side in [side for side in sides if side in found]:
            began, load = time.monotonic(), os.getloadavg()[0]
            try:
                record = measure(SIDES[side], model, number)
            except (Failed, subprocess.CalledProcessError) as error:
                failures.append(f"{side} on {model.name}: {error}")
                del found[side]
                continue
            found[side].append(record | {"load": load})
            say(
                f"{model.name}  run {number + 1}/{runs}  {side}: {record['value']:.4g}, {record['memory_gb']:.2f} GB "
                f"({time.monotonic() - began:.0f} s)"
            )
    return found


def row_of(row: Row, model: Model, found: dict[str, list[Record]], machine: Record, data: Path | None) -> Record:
    ours, peer = found[row.ours], found[row.peer]
    value, rival = middle(ours, "value"), middle(peer, "value")
    memory, rival_memory = middle(ours, "memory_gb"), middle(peer, "memory_gb")
    sizes = asdict(model.scale)
    made: Record = {
        "name": row.name,
        "model": model.name,
        "unit": row.family.unit,
        "ours": value,
        "peer": rival,
        "ratio": rival / value if row.family.lower_is_better else value / rival,
        "ours_memory_gb": memory,
        "peer_memory_gb": rival_memory,
        "memory_ratio": memory / rival_memory,
        "runs": len(ours),
        "ours_is": row.about[0],
        "peer_is": row.about[1],
        "ours_runs": [record["value"] for record in ours],
        "peer_runs": [record["value"] for record in peer],
        # Of the machine before each run: much more than the threads that a run has says that others worked beside it.
        "loads": {"ours": [record["load"] for record in ours], "peer": [record["load"] for record in peer]},
        "dtype": sizes["dtype"],
        **{name: sizes[name] for name in (*row.family.sizes, "peer_micro_batch") if name in sizes},
        **{key: ours[0][key] for key in ("split_depth",) if key in ours[0]},
        **{
            key: pair(ours, peer, key)
            for key in ("response_length", "mean_length")
            if key in ours[0] and key in peer[0]
        },
        "phases": {"ours": phases(ours), "peer": phases(peer)},
        "machine": machine,
        **({"utilisation": ours[-1]["utilisation"]} if "utilisation" in ours[-1] else {}),
    }
    if row.family in (SFT, REWARD):
        made |= {"tokens": ours[0]["tokens"], "data": data.name if data else "random tokens"}
    return made


def middle(records: list[Record], key: str) -> float:
    return statistics.median(record[key] for record in records)


def pair(ours: list[Record], peer: list[Record], key: str) -> Record:
    return {"ours": middle(ours, key), "peer": middle(peer, key)}


def phases(records: list[Record]) -> dict[str, float]:
    """Seconds by phase, where the side tells them."""
    told = [record["phases"] for record in records if record.get("phases")]
    return {name: middle(told, name) for name in told[0]} if told else {}


# -- what is shown --------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def keep(rows: list[Record], path: Path) -> None:
    """Write the rows, over those of the same name and model; others that are there stay."""
    old: list[Record] = json.loads(path.read_text()) if path.is_file() else []
    new = {(row["name"], row["model"]) for row in rows}
    order = {row.name: place for place, row in enumerate(ROWS)}
    merged = [row for row in old if (row["name"], row["model"]) not in new] + rows
    merged.sort(key=lambda row: (row["model"], order.get(row["name"], len(order))))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(merged, indent=1, ensure_ascii=False) + "\n")


def table(rows: list[Record]) -> str:
    head = ["", "model", "unit", "ours", "peer", "times faster", "GB ours", "GB peer", "of its memory"]
    lines = ["| " + " | ".join(head) + " |", "|---|---|---|" + "---:|" * (len(head) - 3)]
    for row in rows:
        cells = [row["name"], row["model"], row["unit"], f"{row['ours']:.4g}", f"{row['peer']:.4g}"]
        cells += [f"{row['ratio']:.2f} ×", f"{row['ours_memory_gb']:.2f}", f"{row['peer_memory_gb']:.2f}"]
        lines.append("| " + " | ".join([*cells, f"{row['memory_ratio']:.2f}"]) + " |")
    return "\n".join(lines)


# -- the command ----------------------------------------------------------------------------------------------------


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Plaudit against its peers: time and memory.")
    parser.add_argument("--model", type=Path, help="a model folder (SmolLM2-135M-Instruct for the published table)")
    parser.add_argument("--data", type=Path, help="folder with sft/ and hh/; without it those rows use random tokens")
    parser.add_argument("--random", nargs="+", default=[], choices=sorted(RANDOM_MODELS), help="shapes, random weights")
    parser.add_argument("--peers", type=Path, help="a folder with the peers, where they cannot be installed")
    parser.add_argument("--runs", type=int, default=3, help="processes per side (default 3)")
    parser.add_argument("--only", default="", help="names of rows, with commas: " + ", ".join(r.name for r in ROWS))
    parser.add_argument("--quick", action="store_true", help="a tiny random model, one run, results under .peers")
    arguments = parser.parse_args()
    unknown = set(filter(None, arguments.only.split(","))) - {row.name for row in ROWS}
    if unknown:
        parser.error(f"no such rows: {', '.join(sorted(unknown))}")
    if not arguments.quick and arguments.model is None and not arguments.random:
        parser.error("name a model folder with --model, or a shape with --random (or use --quick)")
    if arguments.model is not None and not (arguments.model / "config.json").is_file():
        parser.error(f"--model: {arguments.model} is no model folder")
    if arguments.data is not None and not arguments.data.is_dir():
        parser.error(f"--data: there is no folder {arguments.data}")
    return arguments


def main() -> int:
    arguments = parse()
    WORK.mkdir(parents=True, exist_ok=True)
    rows = [row for row in ROWS if not arguments.only or row.name in arguments.only.split(",")]
    machine = run_process("prepare", {"side": "facts"})
    for trl in sorted({SIDES[row.peer].trl or "" for row in rows} - {""}):
        if arguments.peers is None:
            python_of(trl)
        elif not paths_of(trl, arguments.peers).is_dir():
            say(f"error: --peers: there is no {paths_of(trl, arguments.peers)}")
            return 2
    name = "quick" if arguments.quick else "cuda" if machine["cuda"] else "cpu"
    path = (WORK if arguments.quick else RESULTS) / f"{name}.json"
    done: list[Record] = []
    failures: list[str] = []
    for model in models_for(arguments, cuda=machine["cuda"]):
        prepare(model, rows, arguments.data)
        for family in dict.fromkeys(row.family for row in rows):
            mine = [row for row in rows if row.family is family]
            sides = list(dict.fromkeys(side for row in mine for side in (row.ours, row.peer)))
            found = measure_family(model, sides, 1 if arguments.quick else arguments.runs, failures)
            whole = [row for row in mine if found.get(row.ours) and found.get(row.peer)]
            done += [row_of(row, model, found, machine, arguments.data) for row in whole]
            keep(done, path)
    print(table(done))
    say(f"written to {os.path.relpath(path)}")
    for failure in failures:
        say(f"FAILED {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
