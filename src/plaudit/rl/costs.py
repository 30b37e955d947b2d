"""The arithmetic of one PPO step, by phase."""

from __future__ import annotations

from plaudit.models.costs import Network, passes
from plaudit.recipe import PPO


def ppo_flops(
    network: Network,
    config: PPO,
    split_depth: int,
    *,
    tokens: float,
    said: float,
    checkpointing: bool = False,
    recomputed: bool = False,
) -> dict[str, float]:
    """Floating-point operations of the matrix products with weights: two per weight and token.

    `tokens` are those of all lines, prompts and responses; `said` are response tokens, at which alone there are
    logits. With `checkpointing` the backward pass begins with a second forward pass; `recomputed`: the policy's
    log-probs are read off the trunk too, and not taken from the sampler. The layers below the split are generation's
    alone: what is computed there again, because it was not kept, comes on top. Attention between tokens and
    adapters are left out: for short responses they are a few per cent.
    """
    top = (network.layers - split_depth) * network.layer_flops
    adapters = [adapter for adapter in (config.adapter, config.value_adapter) if adapter is not None]
    # The reference, the value, and the policy, whose states the value reads where it has no part of its own.
    read = 1 + (config.value_adapter is not None) + (recomputed or config.value_adapter is None)
    parts = sum(passes(adapter) + checkpointing for adapter in adapters)
    return {
        "generate": tokens * network.layers * network.layer_flops + said * network.head_flops,
        "score": read * tokens * top + (1 + recomputed) * said * network.head_flops,
        "train": config.epochs * (parts * tokens * top + passes(config.adapter) * said * network.head_flops),
    }
