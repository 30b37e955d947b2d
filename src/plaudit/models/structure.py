"""Where a network of transformers keeps its layers, and how it is parted in two."""

from __future__ import annotations

import copy

from torch import nn
from transformers import PreTrainedModel

from plaudit.types import InputError

FINAL_NORMS = ("norm", "final_layer_norm", "ln_f", "final_layernorm")


def find_layers(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    """The decoder layers, with their path in the model."""
    count = model.config.get_text_config().num_hidden_layers
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return path, module
    raise InputError(
        f"{type(model).__name__}: its list of {count} decoder layers was not found; is it a causal language model?"
    )


def name_of_layers(decoder: nn.Module, layers: nn.ModuleList) -> str | None:
    """Under which name the layers are a child of the decoder; None where they stand deeper."""
    return next((name for name, child in decoder.named_children() if child is layers), None)


def split_decoder(
    model: PreTrainedModel, decoder: nn.Module, layers: nn.ModuleList, depth: int
) -> tuple[nn.Module, nn.Module] | None:
    """Two views of one decoder that share its weights: the layers below `depth` without the final norm; the rest."""
    layers_name = name_of_layers(decoder, layers)
    norm_name = next((name for name in FINAL_NORMS if name in dict(decoder.named_children())), None)
    if layers_name is None or norm_name is None:
        return None

    def view(start: int, stop: int) -> nn.Module:
        shown = copy.copy(decoder)
        shown.__dict__["_modules"] = dict(decoder._modules)  # pyright: ignore[reportPrivateUsage]
        shown._modules[layers_name] = nn.ModuleList(list(layers)[start:stop])  # pyright: ignore[reportPrivateUsage]
        config = copy.deepcopy(model.config.get_text_config())
        config.num_hidden_layers = stop - start
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[start:stop]
        shown.__dict__["config"] = config
        return shown

    lower, top = view(0, depth), view(depth, len(layers))
    lower._modules[norm_name] = nn.Identity()  # pyright: ignore[reportPrivateUsage]
    return lower, top
