"""Act I's loss: the completion alone, and the same gradient however the batch is cut."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import tiny
from plaudit.data.batching import token_budget_batches
from plaudit.data.chat import Encoded
from plaudit.models.trunk import Trunk
from plaudit.sft.train import PART, completion_loss, evaluate, prepare

ROWS = [
    ((4, 16, 17, 5), (6, 7, 2)),
    ((4, 18, 5), (8, 2)),
    ((4, 9, 9, 9, 9, 9, 5), (10, 11, 12, 13, 2)),
    ((4, 20, 5), (2,)),
]
"""Prompt and completion ids; each completion ends with the EOS."""


def encoded() -> list[Encoded]:
    return [Encoded(tokens=(*prompt, *completion), num_prompt=len(prompt)) for prompt, completion in ROWS]


def ready(kind: str = "llama", split_depth: int = 0, way: str = "lora") -> Trunk:
    made = tiny.trunk(kind, split_depth)
    made.add_part(PART, way, rank=4, seed=1)  # pyright: ignore[reportArgumentType]
    tiny.move(made, PART, by=0.05)
    return made


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@torch.no_grad()
def test_the_loss_is_on_the_completion_alone(kind: str) -> None:
    """Against a mask made by hand: of the first row the tokens 6, 7, 2 count, read at places 3, 4, 5."""
    made = ready(kind)
    merged = made.decoding_copy(PART)
    places = {0: [3, 4, 5], 1: [2, 3], 2: [6, 7, 8, 9, 10], 3: [2]}
    expected = 0.0
    for row, (prompt, completion) in enumerate(ROWS):
        logprobs = merged(input_ids=torch.tensor([[*prompt, *completion]])).logits[0].double().log_softmax(-1)
        expected -= sum(logprobs[p, token].item() for p, token in zip(places[row], completion, strict=True))
    examples = prepare(made, encoded())
    assert completion_loss(made, examples).item() == pytest.approx(expected, abs=1e-4)
    # The held-out loss is a mean over all completion tokens (11), not over rows or batches.
    for budget in (1, 12, 10_000):
        assert evaluate(made, examples, budget) == pytest.approx(expected / 11, abs=1e-5)


def test_what_the_prompt_says_before_its_end_is_no_target() -> None:
    """A prompt token is context, so a change of it moves the loss; but no prompt token's own log-prob is in it."""
    made = ready()
    examples = prepare(made, encoded())
    lengths: list[int] = []
    made.register_forward_pre_hook(lambda _module, inputs: lengths.append(inputs[0].shape[1]))
    completion_loss(made, examples)
    assert [e.completion.tolist() for e in examples] == [list(completion) for _, completion in ROWS]
    assert lengths == [11]  # nothing is read from the last token


@pytest.mark.parametrize(("kind", "depth", "way"), [("llama", 0, "lora"), ("llama", 1, "lora"), ("gpt2", 0, "full")])
def test_any_packing_gives_the_same_gradient(kind: str, depth: int, way: str) -> None:
    made = ready(kind, depth, way)
    examples = prepare(made, encoded())

    def gradients(budget: int) -> list[Tensor]:
        made.part(PART).zero_grad()
        for rows in token_budget_batches([len(e.bundle) for e in examples], budget):
            (completion_loss(made, [examples[r] for r in rows]) / 11).backward()
        return [p.grad.clone() for p in made.part(PART).parameters() if p.grad is not None]

    expected = gradients(1)
    for budget in (14, 24, 10_000):
        found = gradients(budget)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert (one - other).norm() <= 1e-5 * other.norm() + 1e-8
