"""The arithmetic of one PPO step, by phase."""

from __future__ import annotations

from plaudit.models.costs import Network
from plaudit.recipe import PPO, Adapter


def ppo_flops(
    network: Network, config: PPO, split_depth: int, *, tokens: float, said: float, checkpointing: bool = False
) -> dict[str, float]:
    """Floating-point operations of the matrix products with weights: two per weight and token.

    `tokens` are those of all lines, prompts and responses; `said` are response tokens, at which alone there are
    logits. With `checkpointing` the backward pass begins with a second forward pass. Attention between tokens and
    adapters are left out: for short responses they are a few per cent.
    """
    top = (network.layers - split_depth) * network.layer_flops
    adapters = [adapter for adapter in (config.adapter, config.value_adapter) if adapter is not None]
    parts = sum(passes(adapter) + checkpointing for adapter in adapters)
    return {
        "generate": tokens * network.layers * network.layer_flops + said * network.head_flops,
        "score": 2 * tokens * top + said * network.head_flops,
        "train": config.epochs * (parts * tokens * top + 2 * said * network.head_flops),
    }


def passes(adapter: Adapter) -> int:
    """Forward, and backward to the inputs; where all weights are trained, backward to the weights too."""
    return 2 if adapter.kind == "lora" else 3
