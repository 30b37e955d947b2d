"""What a judge takes for strange: distances by hand, shares of the held-out, and a judge that is saved with them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny
from plaudit.recipe import Adapter
from plaudit.reward.familiarity import Familiarity
from plaudit.reward.model import RewardModel
from plaudit.rl.shaping import is_unfamiliar
from plaudit.types import Judged

LORA = Adapter(rank=4, alpha=8.0)


def test_distance_by_hand() -> None:
    """One axis of deviation 2 about (1, 0), and a deviation of a half beside it: (5, 1) is 2 and 2 of them away."""
    known = Familiarity(
        mean_D=torch.tensor([1.0, 0.0]),
        axes_DP=torch.tensor([[0.5], [0.0]]),
        rest_D=torch.tensor([0.5]),
        held_out_Q=torch.tensor([0.5, 1.0, 1.5, 3.0]),
    )
    distance = known.distance(torch.tensor([[5.0, 1.0], [1.0, 0.0]]))
    assert distance.tolist() == pytest.approx([((4 + 4) / 2) ** 0.5, 0.0], abs=1e-6)
    assert known.strangeness(torch.tensor([[5.0, 1.0], [1.0, 0.0], [99.0, 0.0]])).tolist() == [0.75, 0.0, 1.0]


def test_what_is_drawn_alike_is_familiar_and_what_is_not_is_strange() -> None:
    generator = torch.Generator().manual_seed(0)
    spread = torch.linspace(0.1, 3.0, 24)

    def drawn(count: int, shift: float = 0.0) -> torch.Tensor:
        return torch.randn(count, 24, generator=generator) * spread + shift

    known = Familiarity.of(drawn(2000), drawn(500))
    assert known is not None
    shares = known.strangeness(drawn(1000))
    assert shares.mean().item() == pytest.approx(0.5, abs=0.05)
    assert is_unfamiliar(
        Judged(scores_BEO=torch.zeros(1000, 1, 1), strange_B=shares)
    ).float().mean().item() == pytest.approx(0.05, abs=0.03)
    assert known.strangeness(drawn(200, shift=3.0)).min().item() > 0.95
    assert Familiarity.of(drawn(5), drawn(500)) is None
    assert Familiarity.of(drawn(2000), drawn(5)) is None


def test_who_cannot_say_calls_nothing_strange() -> None:
    assert is_unfamiliar(Judged(scores_BEO=torch.zeros(3, 1, 1))).tolist() == [False] * 3


def test_a_judge_is_saved_with_what_it_knows(tmp_path: Path) -> None:
    trunk, chat = tiny.trunk(), tiny.chat()
    judge = RewardModel(trunk, chat, ["overall"], part="reward", adapter=LORA, seed=0)
    prompts, texts = tiny.questions(5), tiny.answers(5)
    assert judge.judged(prompts, texts).strange_B is None
    many = tiny.questions(60, seed=1)
    judge.learn_what_is_usual((many, tiny.answers(60)), (many[:30], tiny.answers(30, seed=3)))
    judge.save(tmp_path, export=False)
    trunk.remove_part("reward")
    again = RewardModel.load(tmp_path, trunk, chat)
    assert again.familiarity is not None
    before, after = judge.familiarity, again.familiarity
    assert before is not None
    assert all(torch.equal(a, b) for a, b in zip(before.tensors().values(), after.tensors().values(), strict=True))
    strange_B = again.judged(prompts, texts).strange_B
    assert strange_B is not None
    assert strange_B.shape == (5,)
