"""What a judgement says about scores: how likely a pair or a whole ranking is under them, in nats.

Two models of a ranking: every pair by itself (Bradley and Terry 1952; over all pairs of one prompt, Ouyang et al.
2022, eq. 1), and the ranking as a row of choices (Plackett 1975, Luce 1959). Three of a tie: it aims at one half, or
it is an outcome of its own (Davidson 1970; Rao and Kupper 1967).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

Ties = Literal["half", "davidson", "rao_kupper"]
WINS, TIES, LOSES = 0, 1, 2
"""Columns of an outcome: the first of a pair wins, neither does, the second does."""


def ranks_of(ranking: Sequence[Sequence[int]], num_responses: int) -> Tensor:
    """Tie groups, best first -> rank of each response [K], 0 the best; equal ranks are ties."""
    ranks_K = torch.zeros(num_responses, dtype=torch.long)
    for rank, group in enumerate(ranking):
        ranks_K[list(group)] = rank
    return ranks_K


# -- pair by pair ---------------------------------------------------------------------------------------------------


def pairs_of(
    ranks_K: Tensor, *, unordered: Sequence[int] = (), margin: float = 0.0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All C(K,2) pairs but those within `unordered`, which were not compared: (first response, second, chance aimed at
    that the first is better, margin between them)."""
    first, second = torch.triu_indices(len(ranks_K), len(ranks_K), offset=1)
    if unordered:
        open_K = torch.zeros(len(ranks_K), dtype=torch.bool)
        open_K[list(unordered)] = True
        compared = ~(open_K[first] & open_K[second])
        first, second = first[compared], second[compared]
    ranks = ranks_K.float()
    better_by = ranks[second] - ranks[first]  # > 0: the first of the pair is better
    return first, second, (better_by.sign() + 1) / 2, margin * better_by / ranks.max().clamp(min=1)


def outcome_logprobs(differences_M: Tensor, *, ties: Ties, log_tie: Tensor | None = None) -> Tensor:
    """Log-probs [M, 3] of (the first wins, a tie, the second wins) at differences of score D, the first's less the
    second's.

    half: no tie is ever foreseen (its column is -inf), P = sigma(D). davidson: a tie is nu / (e^(D/2) + e^(-D/2) + nu).
    rao_kupper: a win is e^D / (e^D + theta), theta > 1. `log_tie` is log nu, or log(theta - 1).
    """
    if ties == "half":
        nothing = torch.full_like(differences_M, float("-inf"))
        return torch.stack([logsigmoid(differences_M), nothing, logsigmoid(-differences_M)], dim=-1)
    assert log_tie is not None, "a tie that is an outcome of its own needs its parameter"
    if ties == "davidson":
        nu_M = log_tie.expand_as(differences_M)
        return torch.stack([differences_M / 2, nu_M, -differences_M / 2], dim=-1).log_softmax(dim=-1)
    theta = 1 + log_tie.exp()
    wins_M, loses_M = logsigmoid(differences_M - theta.log()), logsigmoid(-differences_M - theta.log())
    # theta^2 - 1 = (theta - 1)(theta + 1), so that nothing cancels where ties are rare
    return torch.stack([wins_M, log_tie + (theta + 1).log() + wins_M + loses_M, loses_M], dim=-1)


def mistaken(logprobs_M3: Tensor, flip_M: Tensor) -> Tensor:
    """The same by somebody who names the wrong one of a pair with chance `flip`: (1 - 2 flip) sigma(D) + flip."""
    right_M, wrong_M = torch.log1p(-flip_M), flip_M.log()
    wins_M, ties_M, loses_M = logprobs_M3.unbind(dim=-1)
    either = [torch.logaddexp(right_M + a, wrong_M + b) for a, b in ((wins_M, loses_M), (loses_M, wins_M))]
    return torch.stack([either[0], ties_M, either[1]], dim=-1)


def aims_of(chance_M: Tensor, *, ties: Ties, smoothing: float = 0.0) -> Tensor:
    """What the outcomes should come to [M, 3], from the chance aimed at that the first is better (0.5: a tie).

    `smoothing` takes so much from the winner and gives it to the loser.
    """
    tied_M = chance_M == 0.5
    as_outcome_M = torch.zeros_like(chance_M) if ties == "half" else tied_M.to(chance_M)
    wins_M = torch.where(tied_M, (1 - as_outcome_M) / 2, chance_M.clamp(smoothing, 1 - smoothing))
    return torch.stack([wins_M, as_outcome_M, 1 - wins_M - as_outcome_M], dim=-1)


def cross_entropy(logprobs_M3: Tensor, aims_M3: Tensor) -> Tensor:
    """-sum of aim x log-prob [M]; what is not aimed at costs nothing, however unlikely."""
    return -torch.where(aims_M3 > 0, aims_M3 * logprobs_M3, torch.zeros_like(logprobs_M3)).sum(dim=-1)


def ranking_loss(
    scores_K: Tensor,
    ranks_K: Tensor,
    *,
    unordered: Sequence[int] = (),
    margin: float = 0.0,
    ties: Ties = "half",
    log_tie: Tensor | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    """Mean over the pairs that were compared of -log P(what was said of the pair | s_first - s_second - margin).

    The weight 1/C(K,2) makes a ranking of nine count as one sitting, not as 36 independent pairs.
    `margin` is the distance of the best from the worst (Touvron et al. 2023); pairs between share it by rank.
    """
    first, second, chance_M, shift_M = pairs_of(ranks_K, unordered=unordered, margin=margin)
    differences_M = scores_K[first.to(scores_K.device)] - scores_K[second.to(scores_K.device)]
    logprobs_M3 = outcome_logprobs(differences_M - shift_M.to(scores_K), ties=ties, log_tie=log_tie)
    return cross_entropy(logprobs_M3, aims_of(chance_M.to(scores_K), ties=ties, smoothing=smoothing)).mean()


# -- the ranking as a whole -----------------------------------------------------------------------------------------


def plackett_luce_loss(scores_K: Tensor, ranks_K: Tensor) -> Tensor:
    """-log P(ranking) / (K - 1): the best is chosen among all, the next among the rest, and so on.

    A tie leaves the order open, as it is where nobody asked for it: the mean over all orders of the tied. At K = 2 it
    is `ranking_loss`, ties included.
    """
    among_CK, weights_C = _choices(tuple(ranks_K.tolist()))
    open_CK = scores_K.expand(len(among_CK), -1).masked_fill(~among_CK.to(scores_K.device), float("-inf"))
    return (weights_C.to(scores_K) @ open_CK.logsumexp(dim=-1) - scores_K.sum()) / (len(scores_K) - 1)


@lru_cache(maxsize=4096)
def _choices(ranks: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Among whom the choices of a ranking were made [C, K], and how often each, on average over the orders that ties
    leave open [C]. Of those that are tied, each m are equally often the m that are left."""
    among: list[list[bool]] = []
    weights: list[float] = []
    for rank in sorted(set(ranks)):
        tied = [i for i, other in enumerate(ranks) if other == rank]
        for left in range(len(tied), 0, -1):
            subsets = list(combinations(tied, left))
            for chosen in subsets:
                among.append([other > rank or i in chosen for i, other in enumerate(ranks)])
                weights.append(1 / len(subsets))
    return torch.tensor(among), torch.tensor(weights)


def pair_accuracy(scores_K: Tensor, ranks_K: Tensor) -> tuple[float, int]:
    """(pairs in the right order, pairs that are no ties); equal scores count half."""
    first, second = torch.triu_indices(len(scores_K), len(scores_K), offset=1)
    better_by = (ranks_K[second] - ranks_K[first]).sign()
    agreement = better_by * (scores_K[first] - scores_K[second]).sign()
    decided = better_by != 0
    return float(((agreement[decided] + 1) / 2).sum()), int(decided.sum())
