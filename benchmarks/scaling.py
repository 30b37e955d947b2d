"""Seconds of one PPO update against its tokens: is the cost linear?

    python benchmarks/scaling.py                                # a small random model
    python benchmarks/scaling.py --model DIR --lengths 32 64 128 --batches 8 16 32
    python benchmarks/scaling.py --quick                        # a tiny one: does everything still work?

Writes benchmarks/results/scaling.json and docs/images/scaling.svg. Answers grow at a fixed batch, then the batch grows
at a fixed length. No token ends an answer, all prompts are of one length, and micro-batches have about as many tokens
everywhere, so that nothing but the number of tokens changes. Each point has processes of its own, which take turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench import WORK, run_process, say
from matplotlib.figure import Figure
from prepare import FIRST_WORD, LAST_WORD, default_depth, load_chat, pad_unlike
from scipy.stats import linregress
from scipy.stats import t as student
from settings import Scale
from study import Record, Study, draw, model_of, shown, table
from transformers import AutoConfig

from plaudit.evaluation.plots import SERIES_COLOURS

PLOT = Path(__file__).parents[1] / "docs" / "images" / "scaling.svg"
MICRO_TOKENS = 1024
SWEEPS = {"response length": "response", "batch": "batch"}


def measure(study: Study, model: str, scale: Scale, run: int) -> Record:
    """One process at one size."""
    name = model.rsplit("/", 1)[-1]
    settings = {"model": name, "split_depth": default_depth(model), "scale": asdict(scale), "run": run}

    def now() -> Record:
        inputs = WORK / "scaling.inputs.json"
        inputs.write_text(json.dumps(inputs_of(model, scale)))
        task = {"side": "endless", "model": model, "inputs": str(inputs), "depth": "default", **settings}
        made = run_process("learning", task | {"model": model})
        say(f"batch {scale.batch}, {scale.response} tokens, run {run}: {made['value']:.2f} s")
        return made

    return study.part(settings, now)


def inputs_of(model: str, scale: Scale) -> Record:
    """Random prompts, all of one length."""
    chat, last = load_chat(model), min(LAST_WORD, AutoConfig.from_pretrained(model).vocab_size)
    shape = (scale.batch * scale.updates, scale.prompt)
    ids = torch.randint(FIRST_WORD, last, shape, generator=torch.Generator().manual_seed(1))
    end = chat.eos_ids[0]
    return {"prompts": ids.tolist(), "eos_id": end, "pad_id": pad_unlike(end, chat)}


def sweep(study: Study, model: str, scales: Sequence[Scale], runs: int) -> Record:
    """Medians over the runs of each size, and what they say about linearity."""
    found: dict[Scale, list[Record]] = {scale: [] for scale in scales}
    for run in range(runs):
        for scale in scales:
            found[scale].append(measure(study, model, scale, run))
    tokens = [scale.batch * (scale.prompt + scale.response) for scale in scales]
    seconds = [statistics.median(record["value"] for record in found[scale]) for scale in scales]
    line: Any = linregress(tokens, seconds)
    return {
        "sizes": [{"batch": scale.batch, "response": scale.response} for scale in scales],
        "tokens": tokens,
        "seconds": seconds,
        "spread": [[record["value"] for record in found[scale]] for scale in scales],
        "memory_gb": [statistics.median(record["memory_gb"] for record in found[scale]) for scale in scales],
        "phases": [found[scale][0]["phases"] for scale in scales],
        "milliseconds_per_token": float(line.slope) * 1000,
        "seconds_at_zero": float(line.intercept),
        "r_squared": float(line.rvalue) ** 2,
        "exponent": exponent_of(tokens, seconds),
        "exponent_of_answers": exponent_of([scale.batch * scale.response for scale in scales], seconds),
    }


def exponent_of(tokens: Sequence[int], seconds: Sequence[float]) -> Record:
    """e of seconds ~ tokens^e, with its 95 % interval."""
    power: Any = linregress(np.log(tokens), np.log(seconds))
    exponent = float(power.slope)
    half = float(student.ppf(0.975, len(tokens) - 2) * power.stderr) if len(tokens) > 2 else None
    ends = {"low": exponent - half, "high": exponent + half} if half is not None else {"low": None, "high": None}
    return {"value": exponent, **ends}


def plot(summary: Record, path: Path) -> None:
    """Both sweeps with their fitted lines, as a deterministic SVG."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes: Any = figure.subplots(1, len(SWEEPS))
    for axis, (name, colour) in zip(axes, zip(SWEEPS, SERIES_COLOURS, strict=True), strict=True):
        one = summary["sweeps"][name]
        tokens, ends = one["tokens"], np.array([0, max(one["tokens"])])
        line = one["seconds_at_zero"] + one["milliseconds_per_token"] / 1000 * ends
        axis.plot(ends, line, color="#8a8f98", linewidth=1, label=f"line, R² = {one['r_squared']:.4f}")
        for size, seconds in zip(tokens, one["spread"], strict=True):
            axis.plot([size] * len(seconds), seconds, ".", color=colour, alpha=0.4)
        axis.plot(tokens, one["seconds"], "o", color=colour, label=f"median, tokens^{one['exponent']['value']:.2f}")
        values = [size[SWEEPS[name]] for size in one["sizes"]]
        axis.set_title(f"{name} {min(values)} to {max(values)}", fontsize=10)
        axis.set_xlabel("tokens of an update, prompts and answers")
        axis.set_ylabel("seconds of an update")
        axis.set_xlim(left=0)
        axis.locator_params(axis="x", nbins=6)
        axis.set_ylim(bottom=0)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=9)
    draw(figure, path)


def scaling_table(summary: Record) -> str:
    rows: list[list[str]] = []
    for name in SWEEPS:
        one = summary["sweeps"][name]
        sizes = zip(one["sizes"], one["tokens"], one["seconds"], one["memory_gb"], strict=True)
        for size, count, seconds, memory in sizes:
            cells = [f"batch {size['batch']}, answers of {size['response']}", str(count), f"{seconds:.2f}"]
            rows.append([*cells, f"{1000 * seconds / count:.2f}", f"{memory:.2f}"])
    lines = [
        f"{name}: tokens^{shown(one['exponent'])}, answers' tokens^{shown(one['exponent_of_answers'])}, R² of the line "
        f"{one['r_squared']:.4f}, {one['milliseconds_per_token']:.2f} ms per token and {one['seconds_at_zero']:.2f} s "
        "besides"
        for name, one in summary["sweeps"].items()
    ]
    return "\n\n".join([table(["", "tokens", "s/update", "ms/token", "GB"], rows), "\n".join(lines)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model folder (default: a random Llama, 8 layers of width 256)")
    parser.add_argument("--quick", action="store_true", help="a tiny random model, three points")
    parser.add_argument("--lengths", type=int, nargs="+", default=[32, 64, 128, 256, 512, 1024])
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 16, 32, 64, 128, 256])
    parser.add_argument("--prompt", type=int, default=32, help="tokens of every prompt")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--updates", type=int, default=3, help="of each process; the first one warms up")
    parser.add_argument("--runs", type=int, default=3, help="processes of each size")
    arguments = parser.parse_args()
    quick = arguments.quick
    if quick:
        arguments.lengths, arguments.batches, arguments.prompt, arguments.runs = [8, 16, 32], [4, 8, 16], 8, 1
    if min(len(set(arguments.lengths)), len(set(arguments.batches))) < 2:
        parser.error("--lengths and --batches need two sizes at least")
    model = model_of(arguments, parser, random="tiny-llama" if quick else "small-llama")

    def scale(batch: int, response: int) -> Scale:
        rows = max(1, MICRO_TOKENS // (arguments.prompt + response))
        sizes = {"epochs": arguments.epochs, "updates": arguments.updates, "prompt": arguments.prompt}
        return Scale(dtype="float32", batch=batch, response=response, micro_batch=rows, **sizes)

    batches, lengths = sorted(set(arguments.batches)), sorted(set(arguments.lengths))
    study = Study("scaling", quick=quick)
    longer = sweep(study, model, [scale(batches[0], length) for length in lengths], arguments.runs)
    wider = sweep(study, model, [scale(batch, lengths[0]) for batch in batches], arguments.runs)
    summary = {"model": model.rsplit("/", 1)[-1], "sweeps": dict(zip(SWEEPS, (longer, wider), strict=True))}
    study.conclude(f"scaling of {summary['model']}", summary)
    plot(summary, WORK / "scaling.svg" if quick else PLOT)
    print(scaling_table(summary))


if __name__ == "__main__":
    main()
