"""Scores with their far ends drawn in."""

from __future__ import annotations

import math

import pytest
import torch

from plaudit.rl.shaping import bend_scores


def bent(scores: list[float], way: str, limit: float = 2.0) -> list[float]:
    return bend_scores(torch.tensor(scores), way, limit=limit).tolist()  # pyright: ignore[reportArgumentType]


def test_by_hand() -> None:
    scores = [-50.0, -1.0, 0.0, 3.0]
    assert bent(scores, "none") == scores
    assert bent(scores, "clip") == [-2.0, -1.0, 0.0, 2.0]
    # limit 2: 4 (sigma(s) - 1/2); at 1: 4 (0.7310586 - 0.5)
    assert bent(scores, "sigmoid") == pytest.approx([-2.0, -4 * 0.2310586, 0.0, 4 / (1 + math.exp(-3.0)) - 2], abs=1e-6)


@pytest.mark.parametrize("limit", [0.5, 2.0, 7.0])
def test_the_slope_at_the_first_model_is_1_and_order_stays(limit: float) -> None:
    score = torch.tensor([0.0], requires_grad=True)
    bend_scores(score, "sigmoid", limit=limit).sum().backward()
    assert score.grad is not None
    assert score.grad.item() == pytest.approx(1.0)
    many = bent([-9.0, -0.3, 0.1, 0.4, 2.0, 3.0], "sigmoid", limit)
    assert many == sorted(many)
    assert max(map(abs, many)) <= limit
