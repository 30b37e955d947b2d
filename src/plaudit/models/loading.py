"""From a folder or a Hugging Face name to a network, and back to a folder that `from_pretrained` opens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from plaudit.models.quantised import quantise
from plaudit.types import InputError

# Its bars would stand on the terminal even where Plaudit is quiet.
transformers_logging.disable_progress_bar()


def choose_device(wish: str) -> torch.device:
    """ "auto": CUDA, else the CPU."""
    if wish == "auto":
        wish = "cuda" if torch.cuda.is_available() else "cpu"
    if wish == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "model.device is cuda, but this machine has no CUDA device that torch can use; set model.device: auto"
        )
    return torch.device(wish)


def load_causal_lm(
    path: str, *, dtype: str = "float32", device: str = "auto", quantised: bool = False
) -> PreTrainedModel:
    """A causal language model from safetensors alone (no pickle), dropout off, frozen; where `quantised`, its layers'
    linear weights in 4 bits."""
    check_model_path(path)
    try:
        config = AutoConfig.from_pretrained(path)
        model = AutoModelForCausalLM.from_pretrained(
            path, config=config, dtype=getattr(torch, dtype), attn_implementation="sdpa", use_safetensors=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{path!r} cannot be loaded as a causal language model in safetensors: {_reason(error)}"
        ) from error
    if quantised:
        quantise(model, choose_device(device))
    cast(torch.nn.Module, model).to(choose_device(device)).eval().requires_grad_(False)
    _check_causal(model, path)
    return model


def may_be_model(path: str) -> bool:
    """A folder that is there, or what may be a Hugging Face name."""
    return Path(path).exists() or (path.count("/") == 1 and not path.startswith((".", "/", "~")))


def check_model_path(path: str) -> None:
    """InputError unless the recipe's model may be one."""
    if not may_be_model(path):
        raise InputError(f"model.path: there is no folder {path!r}, and it is no Hugging Face name (owner/name)")


def context_of(path: str) -> int:
    """The most tokens the model at a path can read at once; 2^30 where its configuration names no limit."""
    check_model_path(path)
    try:
        config = AutoConfig.from_pretrained(path).get_text_config()
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path!r} has no configuration of a model that is known: {_reason(error)}") from error
    return int(getattr(config, "max_position_embeddings", 1 << 30))


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@torch.no_grad()
def _check_causal(model: PreTrainedModel, path: str) -> None:
    """What comes later must not change what was said before: encoders load under the same name, with a warning."""
    one, other = torch.tensor([[1, 2, 3], [1, 2, 4]], device=model.device).split(1)
    before, after = (model(input_ids=ids, use_cache=False).logits[0, :2] for ids in (one, other))
    if not torch.allclose(before, after, atol=1e-5, rtol=1e-5):
        raise InputError(f"{path!r} is no causal language model: {type(model).__name__} reads the tokens that follow")


def save_causal_lm(model: PreTrainedModel, folder: Path, *, eos_ids: Sequence[int], pad_id: int) -> None:
    """A plain Hugging Face folder; the caller saves the tokenizer beside it."""
    model.config.pad_token_id = pad_id
    model.generation_config.pad_token_id = pad_id
    model.generation_config.eos_token_id = list(eos_ids)
    model.save_pretrained(folder, safe_serialization=True)
