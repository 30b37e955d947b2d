"""Figures of labels, against values worked out by hand and by other people's libraries."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import kendalltau

from plaudit.data.formats import prompt_of
from plaudit.feedback.orders import agreement, right_pairs, signs
from plaudit.feedback.statistics import (
    Labels,
    ceiling,
    figures_of,
    kendall_tau_b,
    krippendorff_alpha,
    shared_items,
)
from plaudit.types import Estimate, Judgement, Response

Groups = Sequence[Sequence[int]]


def judged(prompt: str, annotator: str, ranking: Groups, *, texts: Sequence[str] = ("a", "bb", "ccc"), **more):
    return Judgement(
        id=f"{prompt} {annotator} {ranking}",
        prompt=prompt_of(prompt),
        responses=tuple(Response(text=text) for text in texts),
        ranking=tuple(tuple(group) for group in ranking),
        annotator=annotator,
        **more,
    )


def test_signs_of_a_ranking() -> None:
    assert signs(((2,), (0, 1))) == {(0, 1): 0, (0, 2): -1, (1, 2): -1}
    assert signs(()) == {}


def test_agreement_counts_pairs_of_responses_and_of_judges() -> None:
    # 0>1>2 and 0>2>1 say the same of (0,1) and (0,2): 2/3.
    first, second = signs(((0,), (1,), (2,))), signs(((0,), (2,), (1,)))
    assert agreement([first, second]) == pytest.approx(2 / 3)
    # A third who ties all agrees on nothing: (2 + 0 + 0) / 9.
    assert agreement([first, second, signs(((0, 1, 2),))]) == pytest.approx(2 / 9)
    assert agreement([first]) is None
    assert agreement([first, signs(())]) is None
    # Of four with an end each, and nothing asked between: (0,1), (0,2), (0,3), (1,3), (2,3) by both, as they say.
    whole, ends = signs(((0,), (1,), (2,), (3,))), signs(((0,), (1, 2), (3,)), (1, 2))
    assert agreement([whole, ends]) == 1.0
    assert agreement([whole, signs(((1,), (0, 2), (3,)), (0, 2))]) == pytest.approx(4 / 5)


def test_right_pairs() -> None:
    truth = ((2,), (1,), (0,))
    assert right_pairs(((2,), (1,), (0,)), truth) == (3, 3)
    assert right_pairs(((2, 1), (0,)), truth) == (2.5, 3)
    assert right_pairs((), truth) == (1.5, 3)
    assert right_pairs(((2,), (0, 1)), truth, unordered=(0, 1)) == (2, 2)
    assert right_pairs(((0,), (1,), (2,)), ((2,), (0, 1))) == (0, 2)  # what the truth ties cannot be wrong


@pytest.mark.parametrize(
    ("p", "a"), [(1.0, 1.0), (0.5, 0.5), (0.63, 0.755), (0.726, 0.836), (0.773, 0.869), (0.3, 0.5)]
)
def test_the_ceiling(p: float, a: float) -> None:
    found = ceiling(Estimate(value=p, low=p, high=p))
    assert found.value == found.low == found.high == pytest.approx(a, abs=5e-4)


def test_the_ceiling_inverts_the_agreement_of_independent_judges() -> None:
    for accuracy in (0.6, 0.75, 0.9):
        p = accuracy**2 + (1 - accuracy) ** 2
        assert ceiling(Estimate(value=p, low=p, high=p)).value == pytest.approx(accuracy)


def rankings(count: int, seed: int) -> list[Groups]:
    rng = np.random.default_rng(seed)
    made: list[Groups] = []
    for _ in range(count):
        ranks = rng.integers(0, 4, size=4)
        made.append([[i for i in range(4) if ranks[i] == rank] for rank in sorted(set(ranks.tolist()))])
    return made


def test_kendalls_tau_is_scipys() -> None:
    for one, other in itertools.pairwise(rankings(40, seed=1)):
        ranks = [[next(p for p, group in enumerate(r) if i in group) for i in range(4)] for r in (one, other)]
        expected = float(kendalltau(*ranks)[0])  # pyright: ignore[reportArgumentType]
        found = kendall_tau_b(signs(one), signs(other))
        assert (found is None) == math.isnan(expected)
        if found is not None:
            assert found == pytest.approx(expected)


def test_alpha_worked_out_by_hand() -> None:
    # Two annotators, two responses, four prompts: agree on +, +, -, and once + against -.
    # Coincidences: (+,+) 4, (-,-) 2, (+,-) 1, (-,+) 1; n = 5 and 3 of 8.
    # Between the ends lies the empty middle: distance (8 - 8/2)^2 = 16 for both kinds, so it cancels.
    # alpha = 1 - (8 - 1) * (2 * 16) / (2 * 5 * 3 * 16) = 1 - 14 / 30.
    said = [("1", 1, 1), ("2", 1, 1), ("3", -1, -1), ("4", 1, -1)]
    made = [
        judged(prompt, name, [[0], [1]] if sign > 0 else [[1], [0]], texts=("a", "b"))
        for prompt, one, other in said
        for name, sign in (("x", one), ("y", other))
    ]
    found = krippendorff_alpha(shared_items(made))
    assert found is not None
    assert found.value == pytest.approx(1 - 14 / 30)
    assert found.low < found.value < found.high


def test_alpha_is_evalicas() -> None:
    import evalica
    import pandas as pd

    rng = np.random.default_rng(5)
    made: list[Judgement] = []
    for prompt in range(60):
        truth = rankings(1, seed=prompt)[0]
        for name in ("x", "y", "z"):
            if rng.random() < 0.8:  # some have not judged everything
                ranking = truth if rng.random() < 0.6 else rankings(1, seed=1000 * prompt + ord(name))[0]
                made.append(judged(str(prompt), name, ranking, texts="abcd"))
    items = shared_items(made)
    table = {
        name: [
            dict(said)[name][pair] if name in dict(said) else math.nan
            for said in items.values()
            for pair in itertools.combinations(range(4), 2)
        ]
        for name in ("x", "y", "z")
    }
    expected = evalica.alpha(pd.DataFrame(table).T, distance="ordinal").alpha
    found = krippendorff_alpha(items)
    assert found is not None
    assert found.value == pytest.approx(expected)
    assert 0.3 < found.value < 0.9


def test_alpha_where_nothing_could_disagree() -> None:
    assert krippendorff_alpha(shared_items([judged("1", "x", [[0], [1]])])) is None
    both = [judged("1", name, [[0], [1]], texts=("a", "b")) for name in ("x", "y")]
    assert krippendorff_alpha(shared_items(both)) is None


def test_the_figures_of_three_people() -> None:
    """Two prompts; x and y agree but for one pair, z has judged the first alone, in reverse."""
    first, reverse, other = [[0], [1], [2]], [[2], [1], [0]], [[0], [2], [1]]
    work = [
        judged("1", "x", first, display_order=(0, 1, 2), seconds=10.0),
        judged("1", "y", first, display_order=(2, 1, 0), seconds=20.0),
        judged("1", "z", reverse, display_order=(2, 0, 1), seconds=1.0),
        judged("2", "x", first, display_order=(1, 0, 2), seconds=14.0),
        judged("2", "y", other, display_order=(0, 1, 2), seconds=30.0),
    ]
    found = figures_of(Labels(work=work))
    assert (found.judgements, found.prompts, found.annotators, found.pairs) == (5, 2, 3, 15)
    assert found.tie_share == 0
    # Prompt 1: x-y 3 of 3, x-z 0, y-z 0. Prompt 2: x-y 2 of 3. 5 of 12.
    assert found.agreement is not None
    assert found.agreement.value == pytest.approx(5 / 12)
    assert found.decided_agreement == found.agreement
    # tau: 1, -1, -1 and 1/3: mean -1/6.
    assert found.kendall_tau is not None
    assert found.kendall_tau.value == pytest.approx(-1 / 6)
    # Shown further ahead and won, of three pairs each: x 3, y 0, z (2 before 0, 2 before 1, 0 before 1: 2>0, 2>1 won,
    # 1>0 lost) 2, x in order 1 0 2: (0,1) lost, others won 2, y in order 0 1 2: 0>1, 0>2 won, 2>1 lost: 2. 9 of 15.
    assert found.first_preferred is not None
    assert found.first_preferred.value == pytest.approx(9 / 15)
    # The longer (later) won: x 0, y 0, z 3, x 0, y 1 (2 over 1): 4 of 15.
    assert found.longer_preferred is not None
    assert found.longer_preferred.value == pytest.approx(4 / 15)
    x, y, z = found.people
    assert (x.annotator, x.judgements, x.median_seconds, x.total_seconds) == ("x", 2, 12.0, 24.0)
    assert x.agreement is not None
    assert x.agreement.value == pytest.approx(5 / 9)  # 3 + 2 of y, 0 of z
    assert y.agreement is not None
    assert y.agreement.value == pytest.approx(5 / 9)
    assert z.agreement is not None
    assert z.agreement.value == 0.0
    assert z.agreement.high > 0  # one prompt says little: Wilson's interval
    assert z.longer_preferred is not None
    assert z.longer_preferred.value == 1.0
    # Without z: 5 of 6.
    without = figures_of(Labels(work=work, excluded=frozenset({"z"})))
    assert without.agreement is not None
    assert without.agreement.value == pytest.approx(5 / 6)
    assert without.judgements == 4
    assert [one.excluded for one in without.people] == [False, False, True]


def test_ties_agree_with_ties_alone() -> None:
    work = [judged("1", "x", [[0, 1], [2]]), judged("1", "y", [[0, 1], [2]]), judged("2", "x", [[0, 1, 2]])]
    work.append(judged("2", "y", [[0], [1], [2]]))
    found = figures_of(Labels(work=work))
    assert found.agreement is not None
    assert found.agreement.value == 0.5  # 3 of 3, and 0 of 3
    assert found.decided_agreement is not None
    assert found.decided_agreement.value == 1.0  # two pairs, both alike
    assert found.tie_share == pytest.approx(5 / 12)


def test_gold_and_repeats_of_a_person() -> None:
    truth = ((0,), (1,), (2,))
    mine = judged("1", "x", [[0], [1], [2]])
    again = judged("1", "x", [[0], [2], [1]])
    found = figures_of(
        Labels(
            work=[mine],
            gold=[(judged("g", "x", [[0, 1], [2]]), truth), (judged("h", "y", [[0]]), truth)],
            repeats=[(mine, again)],
            names={"x": "Ada"},
            seconds={"x": [3.0, 4.0, 8.0]},
        )
    )
    (x,) = found.people
    assert x.name == "Ada"
    assert x.gold is not None
    assert x.gold.value == pytest.approx(2.5 / 3)
    assert x.self_consistency is not None
    assert x.self_consistency.value == pytest.approx(2 / 3)
    assert (x.median_seconds, x.total_seconds) == (4.0, 15.0)
    assert x.agreement is None


def test_nothing_is_no_figure() -> None:
    found = figures_of(Labels(work=[]))
    assert (found.judgements, found.agreement, found.alpha, found.ceiling, found.people) == (0, None, None, None, ())


def test_intervals_draw_whole_prompts() -> None:
    # Ten prompts of 20 pairs that agree wholly or not at all: the interval is that of ten coins, not of 200.
    work = [
        judged(str(n), name, [[0], [1]] if name == "x" or n % 2 else [[1], [0]], texts=("a", "b"), objective=str(k))
        for n in range(10)
        for k in range(20)
        for name in ("x", "y")
    ]
    found = figures_of(Labels(work=work)).agreement
    assert found is not None
    assert found.value == 0.5
    assert found.high - found.low > 0.5  # 2 * 1.96 * sqrt(.25 / 10) = .62; of 200 pairs it would be .14
