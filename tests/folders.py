"""What tests read in a run folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

ACTS = ("sft", "responses", "reward", "ppo", "evaluation")


def timeless(value: Any) -> Any:
    """Without what a clock says."""
    if isinstance(value, dict):
        clock = ("seconds", "time", "finished", "tokens_per_second", "utilisation")
        return {
            k: timeless(v)
            for k, v in value.items()
            if k not in clock and not k.startswith(("seconds/", "tokens_per_second/", "utilisation/"))
        }
    return [timeless(v) for v in value] if isinstance(value, list) else value


def rows(path: Path) -> list[dict[str, Any]]:
    return [timeless(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def manifests(folder: Path) -> dict[str, str]:
    """Each act's manifest as it stands: an act that was done again has another time in it."""
    return {p.parent.name: p.read_text() for p in sorted(folder.glob("round_*/*/manifest.json"))}


def equal_weights(one: Path, other: Path) -> None:
    """The same tensors to the bit, in every file of weights of a folder."""
    files = sorted(p.relative_to(one) for p in one.rglob("*.safetensors"))
    assert files
    assert files == sorted(p.relative_to(other) for p in other.rglob("*.safetensors"))
    for file in files:
        first, second = load_file(one / file), load_file(other / file)
        assert first.keys() == second.keys(), file
        assert all(torch.equal(first[name], second[name]) for name in first), file
