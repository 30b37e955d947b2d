"""What to ask next: gains worked by hand, a slow search, and what was asked already."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from plaudit.reward.asking import Belief, ask_next

FLOAT = torch.float64


def slow_gain(states_KD: Tensor, precision_DD: Tensor, scale: float) -> float:
    """1/2 ln det(I + C S C') with the centring and the inverse written out."""
    covariance_DD = torch.linalg.inv(precision_DD)
    count = len(states_KD)
    centring_KK = torch.eye(count, dtype=FLOAT) - torch.full((count, count), 1 / count, dtype=FLOAT)
    centred_KD = centring_KK @ states_KD.double() * scale
    return 0.5 * math.log(float(torch.det(torch.eye(count, dtype=FLOAT) + centred_KD @ covariance_DD @ centred_KD.T)))


def test_the_gain_of_a_pair_by_hand() -> None:
    # Two answers 2 apart in one direction: centred they are +-1, the sum of squares is 2, with one degree of freedom,
    # so the scale is 1/2: the difference has variance 1, half of it after centring. ln(1 + 1/2) / 2.
    pair_KD = torch.tensor([[0.0, 0.0], [2.0, 0.0]], dtype=FLOAT)
    belief = Belief.before([pair_KD.numpy()])
    assert belief.scale == pytest.approx(0.5)
    assert belief.best(pair_KD.numpy(), None) == ((0, 1), pytest.approx(math.log(1.5) / 2))
    # Learned once, what is left of the variance is 1 / (1 + 1/2) of it: ln(1 + 1/3) / 2.
    belief.learn(pair_KD.numpy())
    assert belief.best(pair_KD.numpy(), None) == ((0, 1), pytest.approx(math.log(4 / 3) / 2))
    # In the other direction nothing was learned.
    assert belief.best(pair_KD.flip(1).numpy(), None)[1] == pytest.approx(math.log(1.5) / 2)


def test_gains_are_those_of_the_slow_formula() -> None:
    generator = torch.Generator().manual_seed(1)
    states = [torch.randn(5, 4, generator=generator) for _ in range(6)]
    belief = Belief.before([one.double().numpy() for one in states])
    precision_DD = torch.eye(4, dtype=FLOAT)
    for learned in states[:3]:
        belief.learn(learned.double().numpy())
        centred_KD = (learned.double() - learned.double().mean(dim=0)) * belief.scale
        precision_DD += centred_KD.T @ centred_KD
    torch.testing.assert_close(torch.from_numpy(belief.covariance_DD), torch.linalg.inv(precision_DD))
    for states_KD in states:
        shown, gain = belief.best(states_KD.double().numpy(), 3)
        assert gain == pytest.approx(slow_gain(states_KD[list(shown)], precision_DD, belief.scale))
        # The pair of the greatest distance is among them, and the third is the best third.
        pairs = itertools.combinations(range(5), 2)
        furthest = max(pairs, key=lambda p: slow_gain(states_KD[list(p)], precision_DD, belief.scale))
        assert set(furthest) <= set(shown)
        thirds = [
            slow_gain(states_KD[sorted({*furthest, i})], precision_DD, belief.scale)
            for i in range(5)
            if i not in furthest
        ]
        assert gain == pytest.approx(max(thirds))


def test_every_next_question_is_the_best_after_those_before() -> None:
    generator = torch.Generator().manual_seed(2)
    states = [torch.randn(4, 3, generator=generator) * (1 + i % 3) for i in range(12)]
    asked = [torch.randn(3, 3, generator=generator)]
    found = ask_next(states, asked, shown=2)
    assert sorted(one.place for one in found) == list(range(12))
    belief = Belief.before([one.double().numpy() for one in [*states, *asked]])
    belief.learn(asked[0].double().numpy())
    left = {place: states_KD.double().numpy() for place, states_KD in enumerate(states)}
    for one in found:
        best = max(belief.best(states_KD, 2)[1] for states_KD in left.values())
        assert one.gain == pytest.approx(best)
        assert one.shown == belief.best(left[one.place], 2)[0]
        belief.learn(left.pop(one.place)[list(one.shown)])
    gains = [one.gain for one in found]
    assert gains == sorted(gains, reverse=True)


def test_the_same_in_other_words_comes_late() -> None:
    along, across = torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 1.8]])
    found = ask_next([along, along, along, across], [], shown=None)
    assert [one.place for one in found][:2] == [0, 3]
    # What was ranked already counts in the same way.
    assert ask_next([along, across], [along, along], shown=None)[0].place == 1


def test_the_mean_of_a_prompt_says_nothing() -> None:
    generator = torch.Generator().manual_seed(3)
    states = [torch.randn(4, 3, generator=generator) for _ in range(8)]
    moved = [one + torch.randn(1, 3, generator=generator) for one in states]
    before, after = (ask_next(each, [], shown=3) for each in (states, moved))
    assert [(one.place, one.shown) for one in before] == [(one.place, one.shown) for one in after]


def test_answers_that_are_alike() -> None:
    same = torch.ones(3, 2)
    assert ask_next([same], [], shown=2)[0].shown == (0, 1)
    assert ask_next([same], [], shown=2)[0].gain == pytest.approx(0.0)
    assert ask_next([], [], shown=2) == []


def test_after_the_count_the_rest_is_there_too() -> None:
    generator = torch.Generator().manual_seed(4)
    states = [torch.randn(4, 3, generator=generator) for _ in range(9)]
    whole, some = (ask_next(states, [], shown=2, count=count) for count in (None, 3))
    assert [one.place for one in some[:3]] == [one.place for one in whole[:3]]
    assert sorted(one.place for one in some) == list(range(9))
