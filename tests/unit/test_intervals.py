from __future__ import annotations

import math

import pytest

from plaudit.evaluation.figures import figure
from plaudit.intervals import (
    intercept_interval,
    mean_interval,
    paired_difference,
    proportion_interval,
    share_interval,
)
from plaudit.types import InputError


def test_wilson_by_hand() -> None:
    # 8 of 10: centre (.8 + 3.8415/20) / 1.38415 = .71674, half 1.95996/1.38415 * sqrt(.016 + 3.8415/400) = .22658
    estimate = proportion_interval(8, 10)
    assert estimate.value == 0.8
    assert estimate.low == pytest.approx(0.4902, abs=5e-5)
    assert estimate.high == pytest.approx(0.9433, abs=5e-5)


def test_wilson_has_width_where_all_succeed() -> None:
    # all of n: low = n / (n + z²) = 10 / 13.8415
    estimate = proportion_interval(10, 10)
    assert (estimate.value, estimate.high) == (1.0, 1.0)
    assert estimate.low == pytest.approx(0.7225, abs=5e-5)
    assert proportion_interval(0, 10).high == pytest.approx(0.2775, abs=5e-5)


def test_whole_groups_are_drawn() -> None:
    # Two prompts, three zeros and a one. By prompt the resamples are {0, .25, 1} with 1/4, 1/2, 1/4: interval 0..1.
    # Item by item P(mean = 1) = 1/256 and P(mean >= .75) = 13/256 = .051: the upper end is .75.
    by_prompt = mean_interval([0, 0, 0, 1], groups=["p", "p", "p", "q"], resamples=8000)
    assert (by_prompt.value, by_prompt.low, by_prompt.high) == (0.25, 0.0, 1.0)
    by_item = mean_interval([0, 0, 0, 1], resamples=8000)
    assert (by_item.value, by_item.low, by_item.high) == (0.25, 0.0, 0.75)


def test_large_sample_agrees_with_the_normal_interval() -> None:
    estimate = mean_interval([0.0, 1.0] * 200)
    half = 1.96 * 0.5 / math.sqrt(400)
    assert estimate.low == pytest.approx(0.5 - half, abs=0.006)
    assert estimate.high == pytest.approx(0.5 + half, abs=0.006)


def test_the_seed_alone_decides() -> None:
    values = [math.sin(i) for i in range(40)]
    assert mean_interval(values, seed=3) == mean_interval(values, seed=3)
    assert mean_interval(values, seed=3) != mean_interval(values, seed=4)


def test_pairing_takes_the_shared_part_away() -> None:
    # The prompts differ by hundreds, the checkpoints by exactly one.
    estimate = paired_difference([101, 202, 303], [100, 201, 302])
    assert (estimate.value, estimate.low, estimate.high) == (1.0, 1.0, 1.0)


def test_intercept_by_hand() -> None:
    # means 2 and 4; slope ((-2)(-3) + 0 + 2 * 4) / 8 = 1.75; intercept 4 - 1.75 * 2 = .5
    assert intercept_interval([1, 3, 8], [0, 2, 4]).value == pytest.approx(0.5)


def test_intercept_of_an_exact_line_has_no_width() -> None:
    estimate = intercept_interval([2 + 3 * x for x in range(-5, 9)], list(range(-5, 9)))
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((2.0, 2.0, 2.0), abs=1e-9)


def test_gain_that_is_all_length_vanishes_at_equal_length() -> None:
    lengths = [5 + i % 7 for i in range(70)]
    gains = [0.1 * length + 0.05 * (-1) ** i for i, length in enumerate(lengths)]
    assert mean_interval(gains).low > 0.5
    estimate = intercept_interval(gains, lengths)
    assert estimate.low < 0 < estimate.high


def test_intercept_without_spread_in_x_is_the_mean() -> None:
    assert intercept_interval([1.0, 3.0], [0.1, 0.1]).value == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: mean_interval([]), "at least one number"),
        (lambda: mean_interval([1.0, math.nan]), "number 1 is not finite"),
        (lambda: mean_interval([1.0, 2.0], groups=["a"]), "1 groups for 2 values"),
        (lambda: mean_interval([1.0], resamples=0), "resamples is 0"),
        (lambda: paired_difference([1.0, 2.0], [1.0]), "must be paired"),
        (lambda: proportion_interval(0, 0), "0 of 0"),
        (lambda: proportion_interval(3, 2), "3 of 2"),
    ],
)
def test_bad_input_is_named(call: object, said: str) -> None:
    assert callable(call)
    with pytest.raises(InputError, match=said):
        call()


def test_shares_that_are_all_alike_keep_a_width() -> None:
    """Wilson's, with each prompt once: of three prompts, all right, the lower end is 3 / (3 + z^2)."""
    z2 = 1.959963984540054**2
    found = share_interval([1.0] * 9, groups=["a"] * 3 + ["b"] * 3 + ["c"] * 3)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(3 / (3 + z2))
    alone = share_interval([1.0, 0.0], groups=["a", "a"])
    assert (alone.value, alone.low, alone.high) == pytest.approx((0.5, 0.5 - 0.4453, 0.5 + 0.4453), abs=1e-3)
    mixed = [1.0, 0.0, 1.0, 1.0]
    assert share_interval(mixed, groups=list("abcd")) == mean_interval(mixed, groups=list("abcd"))


def test_an_interval_of_one_prompt_is_no_verdict() -> None:
    point = mean_interval([1.0, 1.0], groups=["a", "a"]).as_dict()
    one = figure({"gain": point}, "gain")
    assert one is not None
    assert not one.is_up
    assert not one.is_down
