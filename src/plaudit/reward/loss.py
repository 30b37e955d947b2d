"""What a ranking says about scores: Bradley-Terry over all pairs of one prompt (Ouyang et al. 2022, eq. 1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def ranks_of(ranking: Sequence[Sequence[int]], num_responses: int) -> Tensor:
    """Tie groups, best first -> rank of each response [K], 0 the best; equal ranks are ties."""
    ranks_K = torch.zeros(num_responses, dtype=torch.long)
    for rank, group in enumerate(ranking):
        ranks_K[list(group)] = rank
    return ranks_K


def ranking_loss(scores_K: Tensor, ranks_K: Tensor, *, margin: float = 0.0) -> Tensor:
    """Mean over the C(K,2) pairs of -log sigma(s_better - s_worse - margin), in nats; a tie aims at 0.5.

    The weight 1/C(K,2) makes a ranking of nine count as one sitting, not as 36 independent pairs.
    `margin` is the distance of the best from the worst (Touvron et al. 2023); pairs between share it by rank.
    """
    first, second, targets, shift = pairs_of(ranks_K, margin=margin)
    differences = scores_K[first.to(scores_K.device)] - scores_K[second.to(scores_K.device)]
    return binary_cross_entropy_with_logits(differences - shift.to(scores_K), targets.to(scores_K))


def pairs_of(ranks_K: Tensor, *, margin: float = 0.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All C(K,2) pairs: (first response, second, chance aimed at that the first is better, margin between them)."""
    first, second = torch.triu_indices(len(ranks_K), len(ranks_K), offset=1)
    ranks = ranks_K.float()
    better_by = ranks[second] - ranks[first]  # > 0: the first of the pair is better
    return first, second, (better_by.sign() + 1) / 2, margin * better_by / ranks.max().clamp(min=1)


def pair_accuracy(scores_K: Tensor, ranks_K: Tensor) -> tuple[float, int]:
    """(pairs in the right order, pairs that are no ties); equal scores count half."""
    first, second = torch.triu_indices(len(scores_K), len(scores_K), offset=1)
    better_by = (ranks_K[second] - ranks_K[first]).sign()
    agreement = better_by * (scores_K[first] - scores_K[second]).sign()
    decided = better_by != 0
    return float(((agreement[decided] + 1) / 2).sum()), int(decided.sum())
