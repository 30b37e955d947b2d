"""From a folder or a Hugging Face name to a network, and back to a folder that `from_pretrained` opens."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from plaudit.types import InputError


def choose_device(wish: str) -> torch.device:
    """"auto": CUDA, then Apple's MPS, then the CPU."""
    if wish == "auto":
        wish = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if wish == "cuda" and not torch.cuda.is_available():
        raise InputError("model.device is cuda, but this machine has no CUDA device that torch can use; set model.device: auto")
    return torch.device(wish)


def load_causal_lm(path: str, *, dtype: str = "float32", device: str = "auto") -> PreTrainedModel:
    """A causal language model from safetensors alone (no pickle), dropout off, frozen."""
    if not Path(path).exists() and (path.startswith((".", "/", "~")) or path.count("/") != 1):
        raise InputError(f"model.path: there is no folder {path!r}, and it is no Hugging Face name (owner/name)")
    try:
        config = AutoConfig.from_pretrained(path)
        model = AutoModelForCausalLM.from_pretrained(
            path, config=config, dtype=getattr(torch, dtype), attn_implementation="sdpa", use_safetensors=True
        )
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path!r} cannot be loaded as a causal language model in safetensors: {reason}") from error
    return model.to(choose_device(device)).eval().requires_grad_(False)


def save_causal_lm(model: PreTrainedModel, folder: Path, *, eos_ids: tuple[int, ...], pad_id: int) -> None:
    """A plain Hugging Face folder; the caller saves the tokenizer beside it."""
    model.config.pad_token_id = pad_id
    if model.generation_config is not None:
        model.generation_config.pad_token_id = pad_id
        model.generation_config.eos_token_id = list(eos_ids) if len(eos_ids) > 1 else eos_ids[0]
    model.save_pretrained(folder, safe_serialization=True)
