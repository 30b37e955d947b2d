"""The same numbers on a CUDA device as on the CPU: replayed decoding, states, gradients, and whole steps of PPO."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import tiny
from plaudit.models.fitting import micro_batches
from plaudit.models.fused import FusedDecoder
from plaudit.models.generate import Generated, generate, sample_key
from plaudit.models.sequences import bundle, last_states, predicting_states, run_lower
from plaudit.models.trunk import Trunk
from plaudit.progress import Journal
from plaudit.recipe import Optimizer
from plaudit.rl import ppo as room
from plaudit.rl.ppo import minibatch_gradients, ppo
from plaudit.rl.rollout import POLICY
from plaudit.tensors import token_logprobs
from plaudit.types import Sampling
from steps import config, rolled_out

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

KINDS = ("llama", "qwen2", "qwen3")
PROMPTS = [one.tolist() for one in tiny.sequences([3, 7, 1, 5, 9, 2])]
SAMPLING = Sampling(max_new_tokens=40, temperature=1.3)


def trunk_on(device: str, kind: str = "llama", depth: int = 1, *, dtype: torch.dtype = torch.float32) -> Trunk:
    """A trunk with two adapters that are not nothing, the same on every device."""
    made = Trunk(tiny.model(kind, layers=3).to(device=device, dtype=dtype), depth)  # pyright: ignore
    for seed, name in enumerate(("policy", "value")):
        made.add_part(name, "lora", rank=4, seed=seed)
        tiny.move(made, name, seed=seed, by=0.05)
    return made


def said_by(made: Trunk, *, closing: int | None = None, rows: int = 6) -> list[Generated]:
    decoder = made.decoder("policy")
    assert isinstance(decoder, FusedDecoder)
    prompts = (PROMPTS * 3)[:rows]
    keys = [sample_key(0, 0, str(i), 0) for i in range(rows)]
    return generate(decoder, prompts, keys, SAMPLING, eos_ids=(tiny.END,), closing=closing)


@pytest.mark.parametrize("kind", KINDS)
def test_replayed_steps_say_what_the_cpu_says(kind: str) -> None:
    """Forty steps of eighteen rows, of which most end on the way: graphs are recorded for several numbers of rows."""
    here, there = (said_by(trunk_on(device, kind), rows=18) for device in ("cpu", "cuda"))
    assert len({len(one.tokens) for one in here}) > 5
    assert [one.tokens for one in here] == [one.tokens for one in there]
    for one, other in zip(here, there, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_a_graph_is_recorded_anew_where_rows_outgrow_it(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = said_by(trunk_on("cuda"))
    monkeypatch.setattr("plaudit.models.fused.LOOKED_AT", 16)
    found = said_by(trunk_on("cuda"))
    assert [one.tokens for one in found] == [one.tokens for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


def test_new_weights_are_heard() -> None:
    made = trunk_on("cuda")
    decoder = made.decoder("policy")
    keys = [sample_key(0, 0, str(i), 0) for i in range(len(PROMPTS))]
    first = generate(decoder, PROMPTS, keys, SAMPLING, eos_ids=(tiny.END,))
    tiny.move(made, "policy", seed=5, by=0.05)
    made.refresh(decoder, "policy")
    second = generate(decoder, PROMPTS, keys, SAMPLING, eos_ids=(tiny.END,))
    assert [one.tokens for one in first] != [one.tokens for one in second]
    fresh = generate(made.decoder("policy"), PROMPTS, keys, SAMPLING, eos_ids=(tiny.END,))
    assert [one.tokens for one in second] == [one.tokens for one in fresh]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.1)])
@torch.no_grad()
def test_what_generation_keeps_is_what_the_trunk_computes(dtype: torch.dtype, tolerance: float) -> None:
    """Log-probs of the sampler, and boundary states."""
    made = trunk_on("cuda", "qwen2", dtype=dtype)
    said = said_by(made, closing=tiny.END)
    for prompt, one in zip(PROMPTS, said, strict=True):
        ids = [bundle(torch.tensor(prompt), [torch.tensor(one.tokens[:-1], dtype=torch.long)])]
        (states,) = run_lower(made, ids)
        assert one.prompt_states is not None
        assert one.states is not None
        kept = torch.cat([one.prompt_states, one.states[: len(one.tokens) - 1]]).float()
        assert (kept - states.inputs.float()).abs().max() <= tolerance * max(1.0, float(kept.abs().max()))
        found, _ = token_logprobs(
            predicting_states(made, ids, part="policy"),
            torch.tensor(one.tokens, device="cuda"),
            made.head("policy"),
            temperature=SAMPLING.temperature,
        )
        assert (found.cpu() - torch.tensor(one.logprobs)).abs().max() <= tolerance


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", [0, 1])
def test_states_and_gradients_are_those_of_the_cpu(kind: str, depth: int) -> None:
    def computed(device: str) -> list[Tensor]:
        made = trunk_on(device, kind, depth)
        assert made.fused is not None
        assert made.shares_prompts
        out = [
            torch.cat([predicting_states(made, tiny.lines(), part=name), last_states(made, tiny.lines(), part=name)])
            for name in ("policy", "value")
        ]
        generator = torch.Generator().manual_seed(3)
        for states in out:
            (states * torch.randn(states.shape, generator=generator).to(device)).sum().backward()
        weights = [p for name in ("policy", "value") for p in made.part(name).parameters()]
        return [x.detach().cpu() for x in (*out, *(p.grad for p in weights if p.grad is not None))]

    here, there = computed("cpu"), computed("cuda")
    assert len(here) == len(there) > 2
    for one, other in zip(here, there, strict=True):
        assert (one - other).norm() <= 1e-4 * one.norm()


def test_prompts_are_shared_in_half_precision() -> None:
    made = trunk_on("cuda", dtype=torch.bfloat16)
    assert made.fused is not None
    assert made.shares_prompts


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.1)])
def test_the_first_ratio_is_1(dtype: torch.dtype, tolerance: float) -> None:
    settings = config()
    made = Trunk(tiny.model(layers=3).to(device="cuda", dtype=dtype), 1)  # pyright: ignore
    learner = room.Learner(made, settings, seed=0, value_start=None)
    tiny.move(made, POLICY, by=0.05)
    rollout = rolled_out(learner, made, settings)
    generator = torch.Generator(device="cuda").manual_seed(0)
    shape = rollout.response_mask_BT.shape
    advantages, returns = (torch.randn(shape, generator=generator, device="cuda") for _ in range(2))
    seen = minibatch_gradients(learner, rollout, advantages, returns, list(range(len(rollout.bundles))), 64)
    assert seen["ratio_error"] <= tolerance


def test_steps_of_ppo_learn(tmp_path: Path) -> None:
    """In bfloat16, with a reward that counts one word: more of it is said in the end."""
    made = Trunk(tiny.model(layers=3).to(device="cuda", dtype=torch.bfloat16), 1)  # pyright: ignore
    optimizer = Optimizer(learning_rate=1e-2, warmup=0.0, schedule="constant")
    settings = config(steps=40, prompts_per_step=16, responses_per_prompt=4, optimizer=optimizer)
    rewards: list[float] = []

    class Noted(Journal):
        def log(self, step: int, metrics: object) -> None:
            rewards.append(metrics["score"])  # pyright: ignore
            super().log(step, metrics)  # pyright: ignore

    with Noted(tmp_path, quiet=True) as journal:
        found = ppo(
            made, tiny.chat(), tiny.CountWord(), tiny.questions(40), settings, seed=0, journal=journal, folder=tmp_path
        )
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 3.0
    assert found["sampler_mismatch/kl"] < 0.05


def test_memory_that_runs_out_halves_the_micro_batch() -> None:
    """Forced for real: the step goes on in smaller pieces, with the gradients that small pieces have."""
    total = torch.cuda.get_device_properties(0).total_memory
    asked: list[int] = []

    def attempt(tokens: int) -> int:
        asked.append(tokens)
        torch.empty(int(tokens / 4096 * total), dtype=torch.uint8, device="cuda")
        return tokens

    micro = micro_batches(8192)
    assert micro.run(attempt, drop=lambda: None, where="here") in (1024, 2048)
    assert asked[:3] == [8192, 4096, 2048]
    assert micro.count == asked[-1]
