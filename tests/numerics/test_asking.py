"""What to ask next: what choices would tell worked by hand and by a slow formula, and which answers are shown by it."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from plaudit.reward.asking import ask_next, best_of, told


def scores(count: int, members: int = 3, objectives: int = 1, *, seed: int = 1) -> Tensor:
    return torch.randn(count, members, objectives, generator=torch.Generator().manual_seed(seed)) * 2


def told_by(scores_KEO: Tensor, some: tuple[int, ...] | list[int] | None = None) -> float:
    return told((scores_KEO if some is None else scores_KEO[list(some)]).unsqueeze(0)).item()


def entropy(chances: list[float]) -> float:
    return -sum(p * math.log(p) for p in chances if p)


def slowly_told(scores_KEO: Tensor) -> float:
    count, members, objectives = scores_KEO.shape
    total = 0.0
    for objective, sign in itertools.product(range(objectives), (1, -1)):
        foreseen: list[list[float]] = []
        for member in range(members):
            weights = [math.exp(sign * float(scores_KEO[k, member, objective])) for k in range(count)]
            foreseen.append([weight / sum(weights) for weight in weights])
        mean = [sum(each[k] for each in foreseen) / members for k in range(count)]
        total += entropy(mean) - sum(map(entropy, foreseen)) / members
    return total


def test_what_a_pair_tells_by_hand() -> None:
    # One member gives the first three chances in four, the other one in four: together they cannot tell, ln 2, and
    # each by itself has 2 ln 2 - 3/4 ln 3 left. Of two the worst is named with the best: the same once more.
    contrary = torch.tensor([[math.log(3), 0.0], [0.0, math.log(3)]]).unsqueeze(2)
    assert told_by(contrary) == pytest.approx(2 * (0.75 * math.log(3) - math.log(2)))
    # Members who agree have nothing to learn from a choice, be they sure or not.
    for lead in (0.0, 1.0, 30.0):
        assert told_by(torch.tensor([[lead, lead], [0.0, 0.0]]).unsqueeze(2)) == pytest.approx(0.0, abs=1e-12)


def test_members_who_are_sure_of_the_contrary() -> None:
    # Of three answers one member names the first as best and the last as worst, the other the other way round: either
    # choice says who is right.
    sure = torch.tensor([[60.0, -60.0], [0.0, 0.0], [-60.0, 60.0]]).unsqueeze(2)
    assert told_by(sure) == pytest.approx(2 * math.log(2))
    # Where they agree on the best, only the worst tells.
    half = torch.tensor([[60.0, 60.0], [0.0, -60.0], [-60.0, 0.0]]).unsqueeze(2)
    assert told_by(half) == pytest.approx(math.log(2))
    # On two objectives both are told.
    assert told_by(torch.cat([sure, half], dim=2)) == pytest.approx(3 * math.log(2))


def test_what_choices_tell_is_that_of_the_slow_formula() -> None:
    for count, members, objectives in ((2, 4, 1), (5, 3, 2), (8, 4, 1)):
        of_all = scores(count, members, objectives, seed=count)
        assert told_by(of_all) == pytest.approx(slowly_told(of_all), rel=1e-5)


def test_the_pair_that_tells_most_then_whoever_adds_most() -> None:
    of_all = scores(6, members=4)
    pair = max(itertools.combinations(range(6), 2), key=lambda some: slowly_told(of_all[list(some)]))
    assert best_of(of_all, 2)[0] == list(pair)
    chosen = list(pair)
    for many in (3, 4, 5):
        others = [one for one in range(6) if one not in chosen]
        chosen.append(max(others, key=lambda one: slowly_told(of_all[[*chosen, one]])))
        found, gain = best_of(of_all, many)
        assert found == sorted(chosen)
        assert gain == pytest.approx(slowly_told(of_all[chosen]), rel=1e-5)


def test_a_question_is_asked_of_every_prompt_in_its_order() -> None:
    each = [scores(count, seed=count) for count in (4, 2, 6, 3)]
    found = ask_next(each, shown=3)
    assert [one.place for one in found] == [0, 1, 2, 3]
    assert [len(one.shown) for one in found] == [3, 2, 3, 3]
    for one, scores_KEO in zip(found, each, strict=True):
        assert list(one.shown) == best_of(scores_KEO, 3)[0]
        assert one.gain == pytest.approx(told_by(scores_KEO, one.shown))
    assert [one.shown for one in ask_next(each, shown=None)] == [tuple(range(n)) for n in (4, 2, 6, 3)]


def test_only_differences_of_one_prompt_count_and_no_order_does() -> None:
    of_all = scores(6)
    moved = of_all + torch.tensor([3.0, -2.0, 0.5]).view(1, 3, 1)  # each member's own level
    for other in (moved, of_all.flip(1)):
        assert told_by(other) == pytest.approx(told_by(of_all), rel=1e-5)
        assert best_of(other, 3)[0] == best_of(of_all, 3)[0]
    assert sorted(5 - one for one in best_of(of_all.flip(0), 3)[0]) == best_of(of_all, 3)[0]


def test_answers_that_are_alike_and_members_that_are() -> None:
    (alike,) = ask_next([torch.ones(3, 2, 1)], shown=2)
    assert alike.shown == (0, 1)
    assert alike.gain == pytest.approx(0.0, abs=1e-12)
    (one_judge,) = ask_next([scores(4, members=1)], shown=2)
    assert one_judge.gain == pytest.approx(0.0, abs=1e-12)
    assert ask_next([], shown=2) == []
