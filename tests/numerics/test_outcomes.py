"""Models of ties, mistakes and whole rankings: worked numbers, sums to 1, and slow references in float64."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from plaudit.rankings import (
    LOSES,
    TIES,
    WINS,
    Ties,
    aims_of,
    cross_entropy,
    mistaken,
    outcome_logprobs,
    pairs_of,
    plackett_luce_loss,
    ranking_loss,
    ranks_of,
)

ALL: list[Ties] = ["half", "davidson", "rao_kupper"]


def chances(difference: float, ties: Ties, log_tie: float = 0.0) -> list[float]:
    differences = torch.tensor([difference], dtype=torch.float64)
    return (
        outcome_logprobs(differences, ties=ties, log_tie=torch.tensor(log_tie, dtype=torch.float64))[0].exp().tolist()
    )


def test_the_chances_worked_by_hand() -> None:
    # D = ln 4, nu = 1: e^(D/2) = 2, e^(-D/2) = 1/2, so 2 : 1 : 1/2 of 3.5
    assert chances(math.log(4), "davidson") == pytest.approx([2 / 3.5, 1 / 3.5, 0.5 / 3.5], abs=1e-12)
    # D = ln 4, theta = 2: a win 4 / 6, a loss 1 / (1 + 8), a tie (4 - 1) 4 / (6 x 9)
    assert chances(math.log(4), "rao_kupper") == pytest.approx([2 / 3, 12 / 54, 1 / 9], abs=1e-12)
    assert chances(math.log(4), "half") == pytest.approx([0.8, 0.0, 0.2], abs=1e-12)


@pytest.mark.parametrize("ties", ALL)
@pytest.mark.parametrize("log_tie", [-3.0, 0.0, 1.7])
@pytest.mark.parametrize("difference", [-30.0, -2.0, 0.0, 0.4, 9.0])
def test_chances_sum_to_1_and_turn_round(ties: Ties, log_tie: float, difference: float) -> None:
    found = chances(difference, ties, log_tie)
    assert sum(found) == pytest.approx(1.0, abs=1e-12)
    assert chances(-difference, ties, log_tie) == pytest.approx(found[::-1], abs=1e-12)


@pytest.mark.parametrize("ties", ["davidson", "rao_kupper"])
def test_where_ties_are_rare_it_is_bradley_terry(ties: Ties) -> None:
    found = chances(1.3, ties, -25.0)
    assert found == pytest.approx(chances(1.3, "half"), abs=1e-9)
    assert 0 < found[TIES] < 1e-9  # and is not lost to rounding


@pytest.mark.parametrize("ties", ["davidson", "rao_kupper"])
def test_a_tie_is_likeliest_between_equals(ties: Ties) -> None:
    at = [chances(d, ties)[TIES] for d in (-2.0, -0.5, 0.0, 0.5, 2.0)]
    assert max(at) == at[2]
    assert at[0] < at[1]


def test_somebody_who_errs() -> None:
    """(1 - 2 eta) sigma(D) + eta, and an outcome that is a tie stays one."""
    sure = outcome_logprobs(torch.tensor([math.log(4)]), ties="half")
    assert mistaken(sure, torch.tensor([0.1])).exp()[0].tolist() == pytest.approx([0.74, 0.0, 0.26], abs=1e-6)
    assert mistaken(sure, torch.tensor([0.5])).exp()[0].tolist() == pytest.approx([0.5, 0.0, 0.5], abs=1e-6)
    tied = outcome_logprobs(torch.tensor([math.log(4)]), ties="davidson", log_tie=torch.tensor(0.0))
    found = mistaken(tied, torch.tensor([0.25])).exp()[0]
    assert found.tolist() == pytest.approx([(1.5 + 0.125) / 3.5, 1 / 3.5, (0.5 + 0.375) / 3.5], abs=1e-6)


def test_what_is_aimed_at() -> None:
    chance = torch.tensor([1.0, 0.5, 0.0])
    assert aims_of(chance, ties="half").tolist() == [[1, 0, 0], [0.5, 0, 0.5], [0, 0, 1]]
    assert aims_of(chance, ties="davidson").tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    smoothed = aims_of(chance, ties="half", smoothing=0.1)
    assert smoothed.flatten().tolist() == pytest.approx([0.9, 0, 0.1, 0.5, 0, 0.5, 0.1, 0, 0.9])
    # What is impossible and not aimed at costs nothing, and no gradient is lost over it.
    difference = torch.tensor([2.0], requires_grad=True)
    cost = cross_entropy(outcome_logprobs(difference, ties="half"), aims_of(torch.tensor([1.0]), ties="half"))
    cost.sum().backward()
    assert cost.item() == pytest.approx(math.log1p(math.exp(-2.0)))
    assert difference.grad is not None
    assert difference.grad.item() == pytest.approx(-1 / (1 + math.exp(2.0)))


def test_a_smoothed_pair_is_at_rest_at_the_chance_aimed_at() -> None:
    difference = torch.tensor([math.log(0.9 / 0.1), 0.0], requires_grad=True)
    ranking_loss(difference, torch.tensor([0, 1]), smoothing=0.1).backward()
    assert difference.grad is not None
    assert difference.grad.tolist() == pytest.approx([0.0, 0.0], abs=1e-7)


@pytest.mark.parametrize("ties", ALL)
@pytest.mark.parametrize("ranks", [(0, 1, 2), (1, 0, 0), (0, 0, 0), (2, 0, 1, 1)])
def test_pairs_against_a_slow_sum(ties: Ties, ranks: tuple[int, ...]) -> None:
    scores = [0.7, -0.4, 1.9, 0.1][: len(ranks)]
    log_tie, margin = -0.3, 0.6
    costs: list[float] = []
    for i, j in itertools.combinations(range(len(ranks)), 2):
        shift = margin * (ranks[j] - ranks[i]) / max(max(ranks), 1)
        d = scores[i] - scores[j] - shift
        if ties == "davidson":
            weights = [math.exp(d / 2), math.exp(log_tie), math.exp(-d / 2)]
            p = [w / sum(weights) for w in weights]
        elif ties == "rao_kupper":
            theta = 1 + math.exp(log_tie)
            win, loss = math.exp(d) / (math.exp(d) + theta), 1 / (1 + theta * math.exp(d))
            p = [win, 1 - win - loss, loss]
        else:
            p = [1 / (1 + math.exp(-d)), 0.0, 1 / (1 + math.exp(d))]
        if ranks[i] == ranks[j]:
            costs.append(-math.log(p[TIES]) if ties != "half" else -(math.log(p[WINS]) + math.log(p[LOSES])) / 2)
        else:
            costs.append(-math.log(p[WINS] if ranks[i] < ranks[j] else p[LOSES]))
    found = ranking_loss(
        torch.tensor(scores, dtype=torch.float64),
        torch.tensor(ranks),
        margin=margin,
        ties=ties,
        log_tie=torch.tensor(log_tie, dtype=torch.float64),
    )
    assert found.item() == pytest.approx(sum(costs) / len(costs), abs=1e-6)


def test_what_nobody_compared_costs_nothing() -> None:
    """Of four the best and the worst: five pairs of six, by hand."""
    scores = [0.7, -0.4, 1.9, 0.1]
    ranking, between = ((2,), (0, 3), (1,)), (0, 3)
    better = [(2, 0), (2, 3), (2, 1), (0, 1), (3, 1)]
    costs = [math.log(1 + math.exp(scores[worse] - scores[one])) for one, worse in better]
    found = ranking_loss(torch.tensor(scores, dtype=torch.float64), ranks_of(ranking, 4), unordered=between)
    assert found.item() == pytest.approx(sum(costs) / 5, abs=1e-12)
    first, second, chance, _ = pairs_of(ranks_of(ranking, 4), unordered=between)
    said = {(i, j): c for i, j, c in zip(first.tolist(), second.tolist(), chance.tolist(), strict=True)}
    assert said == {(0, 1): 1.0, (0, 2): 0.0, (1, 2): 0.0, (1, 3): 0.0, (2, 3): 1.0}


# -- Plackett-Luce --------------------------------------------------------------------------------------------------


def order_by_order(scores: list[float], ranks: list[int]) -> float:
    """The mean of -log P over every order that agrees with the ranks, each as a row of choices, over K - 1."""
    costs: list[float] = []
    for order in itertools.permutations(range(len(scores))):
        if all(ranks[a] <= ranks[b] for a, b in itertools.pairwise(order)):
            chance = 1.0
            for place in range(len(order) - 1):
                chance *= math.exp(scores[order[place]]) / sum(math.exp(scores[i]) for i in order[place:])
            costs.append(-math.log(chance))
    return sum(costs) / len(costs) / (len(scores) - 1)


def whole(scores: list[float], ranks: list[int]) -> float:
    return plackett_luce_loss(torch.tensor(scores, dtype=torch.float64), torch.tensor(ranks)).item()


@pytest.mark.parametrize(
    "ranks",
    [[0, 1], [1, 0], [0, 0], [0, 1, 2], [2, 0, 1], [0, 0, 1], [1, 0, 0], [0, 0, 0], [1, 0, 1, 2, 0], [0, 2, 1, 1, 1]],
)
def test_a_ranking_is_a_row_of_choices(ranks: list[int]) -> None:
    scores = [0.3, -1.1, 2.0, 0.9, -0.2][: len(ranks)]
    assert whole(scores, ranks) == pytest.approx(order_by_order(scores, ranks), abs=1e-6)


def test_two_responses_are_bradley_terry_here_too() -> None:
    for ranks in ([0, 1], [1, 0], [0, 0]):
        scores = torch.tensor([0.4, 1.3], dtype=torch.float64)
        pairwise = ranking_loss(scores, torch.tensor(ranks)).item()
        assert plackett_luce_loss(scores, torch.tensor(ranks)).item() == pytest.approx(pairwise, abs=1e-6)


def test_a_shift_and_the_order_of_candidates_change_nothing() -> None:
    scores, ranks = [0.3, -1.0, 2.0, 0.5], [1, 2, 0, 1]
    expected = whole(scores, ranks)
    for order in itertools.permutations(range(4)):
        assert whole([scores[i] for i in order], [ranks[i] for i in order]) == pytest.approx(expected, abs=1e-6)
    assert whole([s + 50.0 for s in scores], ranks) == pytest.approx(expected, abs=1e-5)


def test_nine_that_are_all_tied_are_pulled_together() -> None:
    def gradient(scores: list[float]) -> Tensor:
        tensor = torch.tensor(scores, requires_grad=True)
        plackett_luce_loss(tensor, torch.zeros(9, dtype=torch.long)).backward()
        assert tensor.grad is not None
        return tensor.grad

    assert gradient([0.5] * 9).abs().max().item() < 1e-6
    assert gradient([1.0] + [0.0] * 8)[0].item() > 0.05  # the one above is drawn down
