"""The learning curve: a power law worked by hand, found again from points, with its price and its band."""

from __future__ import annotations

import math

import pytest

from plaudit.evaluation.learning_curve import PowerLaw, Tried, fit_power_law, learning_curve
from plaudit.evaluation.pairs import PairOutcome
from plaudit.types import InputError


def test_a_power_law_worked_by_hand() -> None:
    # .9 - .8 / sqrt(n): at 16, .9 - .2 = .7; a gap of .19 needs (.8 / .19)^2 = 17.73 rankings.
    law = PowerLaw(ceiling=0.9, distance=0.8, steepness=0.5)
    assert law.at(16) == pytest.approx(0.7)
    assert law.needed(0.71) == pytest.approx((0.8 / 0.19) ** 2)
    assert law.needed(0.9) == math.inf
    assert PowerLaw(ceiling=0.9, distance=0.2, steepness=0.0).needed(0.71) == math.inf


def test_it_is_found_again() -> None:
    law = PowerLaw(ceiling=0.85, distance=0.6, steepness=0.25)
    numbers = [100.0, 200.0, 400.0, 800.0]
    found = fit_power_law(numbers, [law.at(n) for n in numbers], ceiling=0.85)
    assert (found.distance, found.steepness) == pytest.approx((0.6, 0.25))


def test_points_near_the_ceiling_count_less() -> None:
    # Weights .04 and .01 and .0001 of the gaps squared: by hand, a line through the first two leaves the third alone.
    numbers, accuracy = [math.e**0, math.e**1, math.e**2], [0.8, 0.9, 0.99]
    x, y, w = [0.0, 1.0, 2.0], [math.log(0.2), math.log(0.1), math.log(0.01)], [0.04, 0.01, 0.0001]
    mean_x, mean_y = (sum(a * b for a, b in zip(w, one, strict=True)) / sum(w) for one in (x, y))
    slope = sum(a * (b - mean_x) * (c - mean_y) for a, b, c in zip(w, x, y, strict=True))
    slope /= sum(a * (b - mean_x) ** 2 for a, b in zip(w, x, strict=True))
    assert fit_power_law(numbers, accuracy, ceiling=1.0).steepness == pytest.approx(-slope)


def test_a_curve_that_falls_is_flat() -> None:
    found = fit_power_law([10.0, 20.0], [0.7, 0.6], ceiling=1.0)
    assert found.steepness == 0.0
    # Level at the weighted mean of the gaps' logarithms: weights .09 and .16.
    assert math.log(1 - found.at(40)) == pytest.approx((0.09 * math.log(0.3) + 0.16 * math.log(0.4)) / 0.25)
    with pytest.raises(InputError, match="two numbers"):
        fit_power_law([10.0, 10.0], [0.5, 0.6], ceiling=1.0)


def pairs(right: int, of: int) -> list[PairOutcome]:
    return [PairOutcome(prompt=f"{i}", correct=float(i < right), length_sign=0) for i in range(of)]


def test_what_is_to_come_and_what_it_costs() -> None:
    # Gaps of .4, .2 under a ceiling of 1: steepness 1, so twice the rankings halve the gap again.
    found = learning_curve(
        [Tried(rankings=100, outcomes=pairs(60, 100)), Tried(rankings=200, outcomes=pairs(80, 100))],
        ceiling=None,
        judgements_per_ranking=2.5,
        seconds_per_judgement=36.0,
    )
    assert [one["rankings"] for one in found["points"]] == [100, 200]
    assert [one["accuracy"]["value"] for one in found["points"]] == [0.6, 0.8]
    assert [one["rankings"] for one in found["to_come"]] == [200, 400, 800]
    assert [one["accuracy"]["value"] for one in found["to_come"]] == pytest.approx([0.8, 0.9, 0.95])
    # A gap of .19 instead of .2: 200 * .2 / .19 rankings.
    assert found["next_point"]["rankings"] == pytest.approx(200 / 0.95 - 200)
    # People make two and a half for each that is learned from, a hundred an hour.
    assert found["next_point"]["judgements"] == pytest.approx(2.5 * (200 / 0.95 - 200))
    assert found["next_point"]["hours"] == pytest.approx(2.5 * (200 / 0.95 - 200) / 100)
    band = found["to_come"][1]["accuracy"]
    assert 0.8 < band["low"] < 0.9 < band["high"] < 1.0
    assert found["next_point"]["low"] <= found["next_point"]["rankings"] <= found["next_point"]["high"]


def test_the_ceiling_bounds_what_is_to_come() -> None:
    tried = [Tried(rankings=100, outcomes=pairs(60, 100)), Tried(rankings=200, outcomes=pairs(68, 100))]
    found = learning_curve(tried, ceiling=0.7, judgements_per_ranking=1.0, seconds_per_judgement=None)
    assert all(one["accuracy"]["value"] < 0.7 for one in found["to_come"])
    assert found["ceiling"] == 0.7
    # Gaps .1 and .02, weighted by their squares, at steepness 1 (the steepest): distance / n is what is left.
    weights = (0.01 / 0.0104, 0.0004 / 0.0104)
    distance = math.exp(
        sum(w * (math.log(gap) + math.log(n)) for w, gap, n in zip(weights, (0.1, 0.02), (100, 200), strict=True))
    )
    assert found["next_point"]["rankings"] == pytest.approx(distance / (distance / 200 - 0.01) - 200)
    assert (found["next_point"]["high"], found["next_point"]["hours"]) == (None, None)


def test_no_price_where_labels_bring_nothing() -> None:
    tried = [Tried(rankings=100, outcomes=pairs(60, 100)), Tried(rankings=200, outcomes=pairs(60, 100))]
    found = learning_curve(tried, ceiling=None, judgements_per_ranking=1.0, seconds_per_judgement=10.0)
    assert found["next_point"] == dict.fromkeys(("rankings", "low", "high", "judgements", "hours"))


def test_parts_are_measured_on_the_same_pairs() -> None:
    tried = [Tried(rankings=100, outcomes=pairs(60, 100)), Tried(rankings=200, outcomes=pairs(60, 99))]
    with pytest.raises(InputError, match="same pairs"):
        learning_curve(tried, ceiling=None, judgements_per_ranking=1.0, seconds_per_judgement=None)
