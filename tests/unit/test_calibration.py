"""Calibration: worked numbers, a judge that means what it says, and one that exaggerates."""

from __future__ import annotations

import math

import numpy as np
import pytest

from plaudit.evaluation.calibration import (
    Differences,
    best_temperature,
    brier,
    calibration,
    calibration_error,
    error_of_a_perfect_judge,
    nll,
    reliability,
    scaled,
)
from plaudit.types import InputError

LOG_4 = math.log(4)  # sigma: 0.8


def pairs(differences: list[float], wins: list[float], prompts: list[str] | None = None) -> Differences:
    names = prompts or [f"p{i}" for i in range(len(wins))]
    return Differences(differences_M=np.array(differences), first_wins_M=np.array(wins), prompts=names)


def drawn(count: int, *, temperature: float, seed: int = 0) -> Differences:
    """Differences of a judge that exaggerates by `temperature`: at that temperature its chances are true."""
    rng = np.random.default_rng(seed)
    true = rng.normal(size=count) * 1.5
    wins = (rng.random(count) < 1 / (1 + np.exp(-true))).astype(float)
    return Differences(
        differences_M=true * temperature, first_wins_M=wins, prompts=[f"p{i // 2}" for i in range(count)]
    )


def test_the_figures_worked_by_hand() -> None:
    some = pairs([LOG_4, LOG_4, -LOG_4, LOG_4], [1, 0, 0, 0.5])
    expected = [-math.log(0.8), -math.log(0.2), -math.log(0.8), -(math.log(0.8) + math.log(0.2)) / 2]
    assert nll(some).tolist() == pytest.approx(expected)
    assert brier(some).tolist() == pytest.approx([0.04, 0.64, 0.04, 0.09])
    # One bin: the judge gives 0.8 to the likelier answer, and 1 + 0 + 1 + 0.5 of 4 are right.
    (only,) = reliability(some)
    assert (only.chance, only.right, only.pairs) == (pytest.approx(0.8), 0.625, 4)
    assert calibration_error(some) == pytest.approx(0.175)
    # Two bins, one of them perfect: |0.8 - 0.8| x 5 and |sigma(0.4) - 1| x 1, of 6 pairs.
    two = pairs([LOG_4] * 5 + [0.4], [1, 1, 1, 1, 0, 1])
    assert calibration_error(two) == pytest.approx((1 - 1 / (1 + math.exp(-0.4))) / 6)
    # A judge that says nothing is right half of the time and says so.
    assert calibration_error(pairs([0.0, 0.0], [1, 1])) == 0.0


def test_nothing_overflows() -> None:
    far = pairs([800.0, -800.0], [1, 0])
    assert nll(far).tolist() == [0.0, 0.0]
    assert calibration_error(far) == 0.0
    assert nll(pairs([800.0], [0]))[0] == pytest.approx(800.0)


def test_who_means_what_he_says_is_inside_the_band() -> None:
    judge = drawn(4000, temperature=1.0)
    error, band = calibration_error(judge), error_of_a_perfect_judge(judge)
    assert 0 < error < band < 0.05
    assert best_temperature(judge) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("temperature", [0.4, 3.0])
def test_who_exaggerates_is_found_and_put_right(temperature: float) -> None:
    judge = drawn(4000, temperature=temperature)
    assert best_temperature(judge) == pytest.approx(temperature, rel=0.1)
    assert calibration_error(judge) > 2 * error_of_a_perfect_judge(judge)
    better = scaled(judge)
    assert calibration_error(better) < error_of_a_perfect_judge(better)
    assert nll(better).mean() < nll(judge).mean()
    assert np.sign(better.differences_M).tolist() == np.sign(judge.differences_M).tolist()


def test_the_temperature_of_a_prompt_is_found_on_others() -> None:
    """Five prompts in five folds. Turning one prompt's answers round leaves its own temperature as it is."""
    rng = np.random.default_rng(1)
    differences = rng.normal(size=40) * 3
    wins = (rng.random(40) < 0.7).astype(float)
    names = [f"p{i % 5}" for i in range(40)]
    own = np.array([name == "p2" for name in names])
    before = scaled(pairs(differences.tolist(), wins.tolist(), names)).differences_M
    turned = np.where(own, 1 - wins, wins)
    after = scaled(pairs(differences.tolist(), turned.tolist(), names)).differences_M
    assert after[own].tolist() == pytest.approx(before[own].tolist())
    assert not np.allclose(after[~own], before[~own])


def test_all_of_it_for_the_summary() -> None:
    found = calibration(drawn(600, temperature=2.0), resamples=200)
    assert found["temperature"] == pytest.approx(2.0, rel=0.3)
    assert found["scaled"]["ece"] < found["ece"]
    assert found["nll"]["low"] < found["nll"]["value"] < found["nll"]["high"]
    assert sum(one["pairs"] for one in found["reliability"]) == 600
    assert "scaled" not in calibration(pairs([1.0, 2.0], [1, 1], ["p", "p"]), resamples=50)
    with pytest.raises(InputError, match="no pairs"):
        pairs([], [])
    with pytest.raises(InputError, match="one prompt alone"):
        scaled(pairs([1.0, 2.0], [1, 1], ["p", "p"]))
