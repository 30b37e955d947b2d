from __future__ import annotations

import math

import pytest

from plaudit.evaluation.pairs import (
    beats_length,
    cross_fitted_length_baseline,
    display_baseline,
    length_baseline,
    pair_accuracy,
    pair_outcomes,
)
from plaudit.types import InputError, Judgement, Message, Prompt, Response


def judgement(
    name: str, texts: list[str], ranking: tuple[tuple[int, ...], ...], shown: tuple[int, ...] = ()
) -> Judgement:
    return Judgement(
        id=f"j-{name}",
        prompt=Prompt(id=name, messages=(Message(role="user", content=name),)),
        responses=tuple(Response(text=text) for text in texts),
        ranking=ranking,
        display_order=shown,
    )


def longer_wins(name: str) -> Judgement:
    return judgement(name, ["long answer", "short"], ((0,), (1,)))


def shorter_wins(name: str) -> Judgement:
    return judgement(name, ["long answer", "short"], ((1,), (0,)))


def test_three_way_ranking_with_a_tie() -> None:
    # 2 beats 0 (scores 3 > 1: right) and 2 beats 1 (3 = 3: half); 0 and 1 are tied by people and left out.
    ranked = judgement("p", ["aaaa", "aa", "aaa"], ((2,), (0, 1)))
    outcomes = pair_outcomes([ranked], [[1.0, 3.0, 3.0]])
    assert [(o.prompt, o.correct, o.length_sign) for o in outcomes] == [("p", 1.0, -1), ("p", 0.5, 1)]
    assert pair_accuracy(outcomes).value == 0.75


def test_wrong_order_counts_nothing() -> None:
    full = judgement("p", ["a", "b", "c"], ((0,), (1,), (2,)))
    assert [o.correct for o in pair_outcomes([full], [[1.0, 2.0, 1.5]])] == [0.0, 0.0, 1.0]


def test_pairs_of_a_prompt_are_resampled_together() -> None:
    # One prompt all right, one all wrong: by prompt the mean is 0, 1/2 or 1, whatever the number of pairs.
    ranking = tuple((i,) for i in range(6))
    ranked = [judgement(name, list("abcdef"), ranking) for name in ("p", "q")]
    scores = [[6.0, 5, 4, 3, 2, 1], [1.0, 2, 3, 4, 5, 6]]
    estimate = pair_accuracy(pair_outcomes(ranked, scores))
    assert (estimate.value, estimate.low, estimate.high) == (0.5, 0.0, 1.0)


def test_length_baseline() -> None:
    same = judgement("e", ["aa", "bb"], ((0,), (1,)))
    rules = length_baseline([shorter_wins("a"), shorter_wins("b"), longer_wins("c"), same])
    assert rules == {"longer": 0.375, "shorter": 0.625, "best": 0.625}


def test_display_baseline_knows_positions_not_indices() -> None:
    shown_last = judgement("a", ["x", "y"], ((0,), (1,)), shown=(1, 0))
    shown_first = judgement("b", ["x", "y"], ((1,), (0,)), shown=(1, 0))
    unknown = judgement("c", ["x", "y"], ((0,), (1,)))
    assert display_baseline([shown_last]) == {"first": 0.0, "last": 1.0, "best": 1.0}
    assert display_baseline([shown_last, shown_first]) == {"first": 0.5, "last": 0.5, "best": 0.5}
    assert display_baseline([unknown])["best"] == 0.5


def test_cross_fitted_rule_on_four_pairs() -> None:
    # Left out one at a time: without D the others say longer, without A, B or C they say longer too (2 to 1).
    three_to_one = [longer_wins("a"), longer_wins("b"), longer_wins("c"), shorter_wins("d")]
    assert cross_fitted_length_baseline(three_to_one, folds=4).tolist() == [1.0, 1.0, 1.0, 0.0]
    # Two to two: what is left out is always in the minority, so the rule is wrong each time.
    even = [longer_wins("a"), longer_wins("b"), shorter_wins("c"), shorter_wins("d")]
    assert cross_fitted_length_baseline(even, folds=4).tolist() == [0.0, 0.0, 0.0, 0.0]


def test_a_prompt_is_never_in_two_folds() -> None:
    # Prompt a has four pairs. Were they spread over folds, three would teach the rule for the fourth.
    items = [longer_wins("a")] * 4 + [shorter_wins("b")]
    for seed in range(5):
        assert cross_fitted_length_baseline(items, folds=2, seed=seed).tolist() == [0.0] * 5


def test_one_prompt_has_no_others_to_learn_from() -> None:
    assert cross_fitted_length_baseline([longer_wins("a")], folds=5).tolist() == [0.5]


def test_beats_length_is_the_paired_difference() -> None:
    items = [longer_wins("a"), longer_wins("b"), longer_wins("c"), shorter_wins("d")]
    right_always = [[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    estimate = beats_length(items, right_always, folds=4)  # 1 - 3/4
    assert (estimate.value, estimate.low) == (0.25, 0.0)
    length_alone = [[1.0, 0.0]] * 4
    nothing = beats_length(items, length_alone, folds=4)
    assert (nothing.value, nothing.low, nothing.high) == (0.0, 0.0, 0.0)


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="1 rows of scores for 2"):
        pair_outcomes([longer_wins("a"), longer_wins("b")], [[1.0, 0.0]])
    with pytest.raises(InputError, match="j-a: needs 2 finite scores"):
        pair_outcomes([longer_wins("a")], [[1.0]])
    with pytest.raises(InputError, match="j-a"):
        pair_outcomes([longer_wins("a")], [[1.0, math.nan]])
    tied = judgement("t", ["x", "y"], ((0, 1),))
    with pytest.raises(InputError, match="one tie"):
        pair_accuracy(pair_outcomes([tied], [[0.0, 0.0]]))
    with pytest.raises(InputError, match="folds is 1"):
        cross_fitted_length_baseline([longer_wins("a")], folds=1)
