"""The best linear judge on frozen states: ridge-penalised Bradley-Terry, a convex problem with one answer.

Fine-tuning from a random head pulls the features about before the head knows what it wants; from a probe it begins at
a judge that is already good (Kumar et al. 2022, "Fine-tuning can distort pretrained features").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

RIDGES = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)
"""Strengths that are tried, from stiff to soft, on features of deviation 1 between the two of a pair."""
FOLDS = 5
NEWTON_STEPS = 50


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Pairs of one objective: feature differences [M, D], what they should come to (1, or 0.5 for a tie) [M], margins
    [M], weights [M] (1/C(K,2), as in the ranking loss), and the prompt of each."""

    differences_MD: Tensor
    targets_M: Tensor
    margins_M: Tensor
    weights_M: Tensor
    prompts: Sequence[str]


def fit_probe(pairs: Pairs, *, seed: int) -> tuple[Tensor, float, float]:
    """(weights of the head [D], the ridge chosen, its cross-validated loss in nats per ranking)."""
    differences = pairs.differences_MD.double()
    scale_D = differences.square().mean(dim=0).sqrt().clamp(min=1e-8)
    x_MD, y_M, shift_M, w_M = differences / scale_D, pairs.targets_M, pairs.margins_M, pairs.weights_M
    fold_M = folds_by_prompt(pairs.prompts, seed)
    losses = [0.0] * len(RIDGES)
    for fold in range(int(fold_M.max()) + 1):
        seen, unseen = fold_M != fold, fold_M == fold
        start_D = torch.zeros_like(scale_D)
        for i, ridge in enumerate(RIDGES):
            start_D = solve(x_MD[seen], y_M[seen], shift_M[seen], w_M[seen], ridge, start_D)
            losses[i] += float(cost(x_MD[unseen] @ start_D, y_M[unseen], shift_M[unseen], w_M[unseen]))
    best = int(np.argmin(losses))
    found_D = solve(x_MD, y_M, shift_M, w_M, RIDGES[best], torch.zeros_like(scale_D))
    return (found_D / scale_D).float(), RIDGES[best], losses[best] / float(w_M.sum())


def folds_by_prompt(prompts: Sequence[str], seed: int) -> Tensor:
    """A fold for each pair, the same for all pairs of a prompt."""
    distinct = sorted(set(prompts))
    order = np.random.default_rng(seed).permutation(len(distinct))
    fold = {distinct[i]: place % min(FOLDS, len(distinct)) for place, i in enumerate(order)}
    return torch.tensor([fold[p] for p in prompts])


def cost(scores_M: Tensor, targets_M: Tensor, margins_M: Tensor, weights_M: Tensor) -> Tensor:
    """The ranking loss, summed over rankings (nats)."""
    return (binary_cross_entropy_with_logits(scores_M - margins_M, targets_M, reduction="none") * weights_M).sum()


def solve(x_MD: Tensor, y_M: Tensor, shift_M: Tensor, w_M: Tensor, ridge: float, start_D: Tensor) -> Tensor:
    """argmin over w of (weighted mean of the pairs' losses at x_m w) + ridge / 2 |w|^2, by Newton's method."""
    penalty = ridge * float(w_M.sum())
    eye = torch.eye(x_MD.shape[1], dtype=x_MD.dtype)
    now_D = start_D.clone()
    for _ in range(NEWTON_STEPS):
        chance_M = torch.sigmoid(x_MD @ now_D - shift_M)
        gradient_D = x_MD.T @ (w_M * (chance_M - y_M)) + penalty * now_D
        if float(gradient_D.norm()) < 1e-7 * max(1.0, float(w_M.sum())):
            break
        curvature_M = w_M * chance_M * (1 - chance_M)
        now_D = now_D - torch.linalg.solve(x_MD.T @ (curvature_M[:, None] * x_MD) + penalty * eye, gradient_D)
    return now_D
