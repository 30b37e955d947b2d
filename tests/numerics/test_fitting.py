"""Memory that runs out in the middle of a step: less is done at a time from then on, and the step is the same."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from plaudit.models.fitting import tokens_read
from plaudit.progress import Journal
from plaudit.recipe import DPO, SFT, Optimizer, Reward
from plaudit.reward.model import RewardModel
from plaudit.reward.train import train_judge
from plaudit.rl.dpo import dpo
from plaudit.sft.train import train_sft
from plaudit.types import Demonstration, TrainingError
from steps import LORA

AT_FIRST, FITS = 96, 48
"""Tokens at a time."""
WORKED_THROUGH = {
    "sft": "plaudit.sft.train.completion_loss",
    "reward": "plaudit.reward.train.judge_rankings",
    "dpo": "plaudit.rl.dpo.judge_by_policy",
}
"""What each act does to a group of rows, before their backward pass."""
PARTS = {"sft": "sft", "reward": "reward", "dpo": "policy"}


def trained(act: str, folder: Path) -> tuple[list[Tensor], list[str]]:
    """Two steps of an act: what it has trained, and what it has told the person."""
    sizes: dict[str, Any] = {"batch_size": 6, "adapter": LORA, "tokens_per_microbatch": AT_FIRST}
    sizes |= {"optimizer": Optimizer(learning_rate=1e-3)}
    asked, made = tiny.questions(12), tiny.trunk("llama", 1)
    ranked = [tiny.judgement(p, ["yes yes no " * 3, "no " * 7, "cat red " * 4], [[0], [1], [2]]) for p in asked]
    judge = RewardModel(made, tiny.chat(), ["overall"], part="reward", adapter=LORA, seed=0)
    told: list[str] = []
    with Journal(folder, quiet=True) as journal:
        journal.say = told.append  # pyright: ignore[reportAttributeAccessIssue]
        given: dict[str, Any] = {"seed": 0, "journal": journal}
        if act == "sft":
            said = [Demonstration(prompt=p, response="yes yes no " * 3) for p in asked]
            train_sft(made, tiny.chat(), said, SFT(**sizes, held_out=0.0), folder=folder, **given)
        elif act == "reward":
            train_judge(judge, ranked, [], Reward(**sizes, head_start="random"), **given)
        else:
            dpo(made, tiny.chat(), ranked, [], DPO(**sizes), objective_weights={}, folder=folder, **given)
    return [p.detach().clone() for p in made.part(PARTS[act]).parameters()], told


@pytest.mark.parametrize("act", WORKED_THROUGH)
def test_a_step_that_ran_out_of_memory_is_the_same_step(
    act: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs out when an earlier group's gradient is there already, which must not count twice."""
    expected, told = trained(act, tmp_path / "ample")
    assert told == []
    path, _, name = WORKED_THROUGH[act].rpartition(".")
    module = importlib.import_module(path)
    real, failed = getattr(module, name), list[str]()

    def tight(first: Any, *rest: Any) -> Any:
        trunk = first.trunk if act == "reward" else first
        begun = any(p.grad is not None and bool(p.grad.any()) for p in trunk.part(PARTS[act]).parameters())
        if begun and torch.is_grad_enabled() and not failed:
            failed.append(act)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(first, *rest)

    monkeypatch.setattr(module, name, tight)
    found, told = trained(act, tmp_path / "tight")
    assert len(failed) == 1
    (line,) = told
    assert line.endswith(f"memory has run out; from here on {FITS} tokens at a time")
    assert not all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))  # it was worked through otherwise
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)
    steps = [json.loads(row) for row in (tmp_path / "tight" / "metrics.jsonl").read_text().splitlines()]
    assert [one["step"] for one in steps if one["step"] > 0] == [1, 2]


def test_what_halves_within_an_attempt_is_not_halved_once_more() -> None:
    """A pass within a pass counts by the same number: the one outside tries again with what the inner has found."""
    one = tokens_read(64)
    told: list[str] = []
    one.say = told.append
    asked: list[tuple[int, int]] = []

    def within(count: int) -> int:
        if count > 32:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return count

    def outside(count: int) -> int:
        asked.append((count, one.run(within, where="within")))
        if count > 32:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return count

    assert one.run(outside, where="outside") == 32
    assert asked == [(64, 32), (32, 32)]
    assert told == ["within: memory has run out; from here on 32 tokens at a time"]


def test_the_least_that_was_tried_is_named() -> None:
    def never(_: int) -> int:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(TrainingError, match=r"reading: memory does not suffice even for 16 tokens .* smaller model"):
        tokens_read(64).run(never, where="reading")
