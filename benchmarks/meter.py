"""What every side of a benchmark reads and reports. Standard library and torch alone: it runs in every environment."""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch


def serve(sides: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]]) -> None:
    """Run the side that the task file names, and write what it measured where the task says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("task", type=Path)
    task = json.loads(parser.parse_args().task.read_text())
    if "inputs" in task:
        task |= json.loads(Path(task["inputs"]).read_text())
    torch.manual_seed(0)
    Path(task["result"]).write_text(json.dumps(sides[task["side"]](task)))


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def limit_of(task: Mapping[str, Any]) -> tuple[int, list[int]]:
    """How many tokens an answer may have, and the ids at which it ends."""
    name = task.get("limit", "generation_limit")
    return task["scale"][name], task["stops"][name]


def prompts_of(task: Mapping[str, Any]) -> list[list[int]]:
    """What is to be answered, one row each."""
    return task[task.get("asked", "generation_prompts")]


def synchronise() -> None:
    """Wait for the device, so that the clock sees finished work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class StoppedClock:
    """Figures every few steps and after the last one, on a clock that stands still while they are computed."""

    def __init__(self, evaluate: Callable[[], dict[str, float]], *, every: int, last: int) -> None:
        self.evaluate, self.every, self.last = evaluate, every, last
        self.spent = self.since = 0.0
        self.rows: list[dict[str, float]] = []

    def start(self) -> None:
        synchronise()
        self.since = time.perf_counter()

    def after(self, step: int) -> None:
        synchronise()
        self.spent += time.perf_counter() - self.since
        if step % self.every == 0 or step == self.last:
            self.rows.append({"step": step, "seconds": self.spent, **self.evaluate()})
        self.start()


def peak_gb() -> float:
    """Most memory held so far: on the CUDA device where there is one, else by the process, in GB."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9


def medians(records: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Key by key, over the records (all have the same keys)."""
    return {key: statistics.median(record[key] for record in records) for key in records[0]} if records else {}


def rate(calls: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Tokens per second over all calls together, and the tokens per row."""
    tokens, seconds, rows = (sum(call[key] for call in calls) for key in ("tokens", "seconds", "rows"))
    return {"value": tokens / seconds, "mean_length": tokens / rows, "memory_gb": peak_gb()}


def lora_targets(model: torch.nn.Module) -> list[str]:
    """Names of the linear layers inside the decoder's blocks: what Plaudit adapts, so that peers adapt the same."""
    linears = (name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear))
    return sorted({name.split(".")[-1] for name in linears if ".layers." in name})
