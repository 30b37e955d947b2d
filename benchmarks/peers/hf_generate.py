"""transformers' `generate` and its continuous batching, in Plaudit's own environment."""

from __future__ import annotations

import time
from typing import Any

import torch
from meter import device, limit_of, prompts_of, rate, serve, synchronise
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig, PreTrainedModel

PATIENCE = 300.0
"""Seconds for which an answer is waited for."""


def generation(task: dict[str, Any]) -> dict[str, Any]:
    scale = task["scale"]
    model = load(task)
    calls = [sample(model, task, call) for call in range(scale["generation_calls"] + 1)]
    return rate(calls[1:])


def continuous(task: dict[str, Any]) -> dict[str, Any]:
    """All prompts handed in at once, through the manager behind `generate_batch`."""
    model, scale, (limit, stops) = load(task), task["scale"], limit_of(task)
    config = GenerationConfig(
        max_new_tokens=limit,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        eos_token_id=stops,
        pad_token_id=task["pad_id"],
    )
    batching = ContinuousBatchingConfig(seed=task["run"], use_cuda_graph=None if torch.cuda.is_available() else False)
    manager = model.init_continuous_batching(generation_config=config, continuous_batching_config=batching)
    manager.start()
    calls: list[dict[str, float]] = []
    for _ in range(scale["generation_calls"] + 1):
        synchronise()
        began = time.perf_counter()
        for prompt in task["generation_prompts"]:
            manager.add_request(prompt)
        said = [manager.get_result(timeout=PATIENCE) for _ in task["generation_prompts"]]
        synchronise()
        seconds = time.perf_counter() - began
        if any(one is None or one.error for one in said):
            raise RuntimeError(f"continuous batching did not answer every prompt within {PATIENCE} seconds")
        calls.append({"tokens": sum(len(o.generated_tokens) for o in said), "rows": len(said), "seconds": seconds})
    manager.stop(block=False)
    return rate(calls[1:])


def load(task: dict[str, Any]) -> PreTrainedModel:
    dtype = getattr(torch, task.get("decoding_dtype", task["scale"]["dtype"]))
    return AutoModelForCausalLM.from_pretrained(task["model"], dtype=dtype, attn_implementation="sdpa").to(device())


def sample(model: PreTrainedModel, task: dict[str, Any], call: int) -> dict[str, float]:
    """All prompts, batch after batch, those of like length together as Plaudit has them; useful tokens are those up to
    and including the one that ended the row."""
    prompts, size = sorted(prompts_of(task), key=len, reverse=True), task["scale"]["generation_batch"]
    torch.manual_seed(1000 * task["run"] + call)
    batches = [sample_batch(model, task, prompts[at : at + size]) for at in range(0, len(prompts), size)]
    return {name: sum(one[name] for one in batches) for name in batches[0]}


def sample_batch(model: PreTrainedModel, task: dict[str, Any], prompts: list[list[int]]) -> dict[str, float]:
    limit, stops = limit_of(task)
    longest = max(map(len, prompts))
    ids = torch.tensor([[task["pad_id"]] * (longest - len(p)) + p for p in prompts], device=model.device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=model.device)
    synchronise()
    began = time.perf_counter()
    out = model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=limit,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        eos_token_id=stops,
        pad_token_id=task["pad_id"],
    )
    synchronise()
    seconds = time.perf_counter() - began
    useful = useful_lengths(out[:, longest:], torch.tensor(stops, device=model.device))
    return {"tokens": useful.sum().item(), "rows": len(prompts), "seconds": seconds}


def useful_lengths(tokens_BT: torch.Tensor, stops: torch.Tensor) -> torch.Tensor:
    ended_BT = torch.isin(tokens_BT, stops)
    before_BT = ended_BT.long().cumsum(1) - ended_BT.long()
    return (before_BT == 0).sum(1)


if __name__ == "__main__":
    serve({"generation": generation, "continuous": continuous})
