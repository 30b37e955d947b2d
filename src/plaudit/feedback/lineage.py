"""From labels to checkpoints: which of a run's models learned from given judgements and demonstrations."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from plaudit.data.formats import content_hash
from plaudit.types import InputError

PRODUCTS: Mapping[str, str] = {
    "sft": "model",
    "reward": "judge.safetensors",
    "ppo": "state.safetensors",
    "dpo": "state.safetensors",
    "ceiling": "state.safetensors",
}
"""Act -> what later acts name by its hash."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """A checkpoint that learned from the labels, by itself or through another one."""

    act: str
    """As round_0/reward; with .old1 and so on, what was put aside."""
    judgements: int
    """Of those asked about, how many it was trained or tested on itself."""
    demonstrations: int
    through: str
    """The act whose product it starts from, where it did not see the labels itself."""


def trained_on(run: Path, *, judgements: Collection[str] = (), demonstrations: Collection[int] = ()) -> list[Trained]:
    """In the order of the acts. InputError where there is no run."""
    if not run.is_dir():
        raise InputError(f"{run}: no such run folder")
    found: list[Trained] = []
    products: dict[str, str] = {}
    for folder, manifest in _acts(run):
        labels = manifest.get("labels", {})
        own = len(set(labels.get("judgements", ())) & set(judgements))
        written = len(set(labels.get("demonstrations", ())) & set(demonstrations))
        sources = set(_values(manifest.get("inputs", {}).get("sources", {})))
        through = next((act for digest, act in products.items() if digest in sources), "")
        if own or written or through:
            act = folder.relative_to(run).as_posix()
            found.append(Trained(act=act, judgements=own, demonstrations=written, through=through))
            product = folder / PRODUCTS[_act_of(folder)]
            if product.exists():
                products[content_hash(product)] = act
    return found


def _acts(run: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every act that makes a checkpoint, those put aside among them; what others start from comes first."""
    order = list(PRODUCTS)
    folders = [path.parent for path in run.glob("round_*/*/manifest.json") if _act_of(path.parent) in PRODUCTS]
    rounds = {folder: int(folder.parent.name.removeprefix("round_")) for folder in folders}
    for folder in sorted(folders, key=lambda f: (rounds[f], order.index(_act_of(f)), f.name)):
        try:
            yield folder, json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{folder / 'manifest.json'} is no JSON ({error})") from error


def _act_of(folder: Path) -> str:
    return folder.name.partition(".old")[0]


def _values(value: object) -> Iterator[str]:
    """The texts in a nest of mappings."""
    if isinstance(value, dict):
        for inner in cast("dict[str, object]", value).values():
            yield from _values(inner)
    elif isinstance(value, str):
        yield value
