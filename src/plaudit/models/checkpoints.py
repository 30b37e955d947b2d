"""Parts on disk: safetensors in float32, with the hash of the trunk they belong to.

Written beside, then renamed, so that a crash or a full disk leaves the last good file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from plaudit.models.lora import LoRA
from plaudit.models.trunk import Trunk
from plaudit.types import InputError


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".partial")
    save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, beside, metadata=dict(metadata))
    beside.replace(path)


def load_tensors(path: Path, *, trunk_hash: str | None = None) -> dict[str, Tensor]:
    """The tensors of a file; `trunk_hash` must be the one they were trained on."""
    from safetensors import safe_open

    if not path.is_file():
        raise InputError(f"there is no checkpoint {path}")
    with safe_open(path, framework="pt") as file:
        found = (file.metadata() or {}).get("trunk")
    if trunk_hash is not None and found != trunk_hash:
        raise InputError(f"{path} belongs to another trunk ({found}, here {trunk_hash}): train it again on this model")
    return load_file(path)


def save_peft(trunk: Trunk, part: str, folder: Path, *, task: str = "CAUSAL_LM") -> None:
    """The adapter in PEFT's format, for `PeftModel.from_pretrained(model, folder)`."""
    adapter = trunk.part(part)
    if not isinstance(adapter, LoRA):
        return
    tensors: dict[str, Tensor] = {}
    for path in adapter.paths:
        update = adapter.at(path)
        tensors[f"base_model.model.{path}.lora_A.weight"] = update.A
        tensors[f"base_model.model.{path}.lora_B.weight"] = update.B
    save_tensors(folder / "adapter_model.safetensors", tensors, {"format": "pt", "trunk": trunk.hash()})
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": task,
        "base_model_name_or_path": trunk.model.name_or_path,
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(adapter.paths),
        "inference_mode": True,
        "init_lora_weights": True,
        "fan_in_fan_out": False,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
