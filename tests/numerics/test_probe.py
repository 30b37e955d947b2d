"""The linear judge that heads may start from: its optimum, its weights, and the penalty it chooses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from plaudit.reward.probe import RIDGES, Pairs, fit_probe, folds_by_prompt, solve


def pairs(differences: Tensor, targets: Tensor | None = None, weights: Tensor | None = None) -> Pairs:
    count = len(differences)
    return Pairs(
        differences_MD=differences,
        targets_M=torch.ones(count).double() if targets is None else targets.double(),
        margins_M=torch.zeros(count).double(),
        weights_M=torch.ones(count).double() if weights is None else weights.double(),
        prompts=[f"p{i}" for i in range(count)],
    )


def noise(count: int, width: int, seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((count, width)))


def test_one_feature_by_hand() -> None:
    """Three of four pairs are right: the optimum solves sigma(w) + 0.1 w = 0.75, found here by bisection."""
    low, high = 0.0, 5.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if 1 / (1 + math.exp(-middle)) + 0.1 * middle < 0.75 else (low, middle)
    ones = torch.ones(4, dtype=torch.float64)
    targets = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    found = solve(ones[:, None], targets, ones * 0, ones, 0.1, torch.zeros(1, dtype=torch.float64))
    assert found.item() == pytest.approx(low, abs=1e-9)
    half = solve(ones[:, None], ones * 0.5, ones * 0, ones, 0.1, torch.ones(1, dtype=torch.float64))
    assert half.item() == pytest.approx(0.0, abs=1e-9)  # ties alone say that nothing is better


def test_no_direction_leads_lower() -> None:
    """With margins, ties and weights: the loss, written out, rises whichever way one goes from the optimum."""
    x, rng = noise(60, 5, 0), np.random.default_rng(1)
    y, shift = torch.from_numpy(rng.choice([0.0, 0.5, 1.0], 60)), torch.from_numpy(rng.uniform(0, 0.5, 60))
    weights = torch.from_numpy(rng.uniform(0.2, 1.0, 60))

    def objective(w: Tensor) -> float:
        total = 0.0
        for row, target, margin, weight in zip(x.tolist(), y.tolist(), shift.tolist(), weights.tolist(), strict=True):
            score = sum(a * b for a, b in zip(row, w.tolist(), strict=True)) - margin
            total += weight * (math.log1p(math.exp(score)) - target * score)
        return total / float(weights.sum()) + 0.3 / 2 * float(w.square().sum())

    best = solve(x, y, shift, weights, 0.3, torch.zeros(5, dtype=torch.float64))
    for step in noise(40, 5, 2):
        assert objective(best + 0.01 * step) > objective(best)
        assert objective(best - 0.01 * step) > objective(best)


def test_the_ridge_is_stiff_for_noise_and_soft_for_a_signal() -> None:
    features = noise(400, 20, 3)
    _, for_noise, loss = fit_probe(
        pairs(features * torch.from_numpy(np.random.default_rng(4).choice([-1, 1], (400, 1)))), seed=0
    )
    assert for_noise == max(RIDGES)
    assert loss == pytest.approx(math.log(2), abs=0.01)
    signal = features * features[:, :1].sign()
    weight, for_signal, loss = fit_probe(pairs(signal), seed=0)
    assert for_signal < 1.0
    assert loss < 0.4
    assert weight[0] == weight.max()
    assert (signal.float() @ weight > 0).float().mean() > 0.95


def test_units_of_a_feature_do_not_matter() -> None:
    features = noise(200, 4, 5).abs() + noise(200, 4, 6)
    units = torch.tensor([1.0, 1000.0, 0.001, 5.0], dtype=torch.float64)
    one, ridge, _ = fit_probe(pairs(features), seed=0)
    other, same, _ = fit_probe(pairs(features * units), seed=0)
    assert ridge == same
    torch.testing.assert_close(other.double() * units, one.double(), rtol=1e-4, atol=1e-6)


def test_pairs_of_a_prompt_are_in_one_fold() -> None:
    prompts = [f"p{i // 3}" for i in range(30)]
    folds = folds_by_prompt(prompts, 0)
    assert set(folds.tolist()) == set(range(5))
    assert all(len(set(folds[3 * i : 3 * i + 3].tolist())) == 1 for i in range(10))
    assert folds_by_prompt(["a", "b"], 0).tolist() in ([0, 1], [1, 0])  # never an empty fold
