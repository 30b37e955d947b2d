"""Best of n against brute force, and the published curves: fitted back, with their peaks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest

from plaudit.cli.overoptimization import where_it_peaks
from plaudit.evaluation.overoptimization import Curve, Form, best_of_n, fit, kl_of_best_of
from plaudit.types import InputError


def brute_force(judged: list[float], measured: list[float], n: int) -> float:
    """Every choice of n samples; among equals for the judge, each as likely."""
    worth: list[float] = []
    for chosen in itertools.combinations(range(len(judged)), n):
        top = max(judged[i] for i in chosen)
        equals = [measured[i] for i in chosen if judged[i] == top]
        worth.append(sum(equals) / len(equals))
    return sum(worth) / len(worth)


@pytest.mark.parametrize("n", [1, 2, 3, 6])
@pytest.mark.parametrize("judged", [[0.3, -1.0, 2.0, 0.7, 0.1, 5.0], [1.0, 1.0, 2.0, 2.0, 2.0, 0.0], [0.0] * 6])
def test_best_of_n_is_the_mean_over_all_choices(n: int, judged: list[float]) -> None:
    measured = [0.5, -0.2, 0.9, 0.0, 3.0, -2.0]
    found = best_of_n(np.array([judged]), np.array([measured]), n)
    assert found.tolist() == pytest.approx([brute_force(judged, measured, n)])


def test_prompts_are_by_themselves() -> None:
    judged, measured = np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([[5.0, 7.0], [5.0, 7.0]])
    assert best_of_n(judged, measured, 2).tolist() == [7.0, 5.0]
    assert best_of_n(judged, judged, 2).tolist() == [2.0, 2.0]
    assert best_of_n(judged, measured, 1).tolist() == [6.0, 6.0]
    for n in (0, 3):
        with pytest.raises(InputError, match=f"best of {n} needs"):
            best_of_n(judged, measured, n)


def test_the_distance_of_best_of_n() -> None:
    assert kl_of_best_of(1) == 0.0
    assert kl_of_best_of(4) == pytest.approx(math.log(4) - 0.75)


def test_the_peaks_worked_by_hand() -> None:
    # d (2 - 0.5 d): at d = 2, 2. d (1 - 0.5 ln d): at d = e, e / 2.
    assert Curve(form="best_of_n", a=2.0, b=0.5).peak == pytest.approx((2.0, 2.0))
    assert Curve(form="rl", a=1.0, b=0.5).peak == pytest.approx((math.e, math.e / 2))
    assert Curve(form="rl", a=1.0, b=-0.1).peak is None
    assert Curve(form="best_of_n", a=-1.0, b=0.5).peak is None  # it falls from the start
    assert Curve(form="rl", a=1.0, b=0.5).at(0.0) == 0.0


@pytest.mark.parametrize("b", [1e-3, 5e-4, 1e-160, 5e-324])
def test_a_curve_that_hardly_bends_has_no_peak(b: float) -> None:
    """For b = .001 it would lie at d = e^999: no such number, nor its square, the KL."""
    assert Curve(form="rl", a=1.0, b=b).peak is None
    if b < 1e-100:
        assert Curve(form="best_of_n", a=1.0, b=b).peak is None


def test_a_curve_is_found_again() -> None:
    for curve in (Curve(form="best_of_n", a=1.3, b=0.4), Curve(form="rl", a=0.9, b=0.35)):
        distances = [0.0, 0.5, 1.0, 1.7, 2.4, 3.0]
        found = fit(distances, [curve.at(d) for d in distances], curve.form)
        assert (found.a, found.b) == pytest.approx((curve.a, curve.b))
        # A peak is where its neighbours are lower.
        assert found.peak is not None
        top, gain = found.peak
        assert gain > max(found.at(top * 0.97), found.at(top * 1.03))
    with pytest.raises(InputError, match="two distances"):
        fit([0.0, 1.0, 1.0], [0.0, 1.0, 1.1], "rl")


def told(form: Form, gains: Sequence[float], distances: Sequence[float]) -> str:
    """What the verb says of gains at these KLs."""
    curve = fit([kl**0.5 for kl in distances], gains, form)
    peak = None if curve.peak is None else {"kl": curve.peak[0] ** 2, "gain": curve.peak[1]}
    points = [{"kl": kl, "measured": {"value": gain}} for kl, gain in zip(distances, gains, strict=True)]
    (line,) = where_it_peaks({"measured": {"peak": peak}}, points)
    return line.strip()


def test_a_judge_that_misleads_from_the_start_is_not_said_to_help() -> None:
    best_of = [kl_of_best_of(n) for n in (2, 4, 8, 16)]
    assert told("best_of_n", [-0.05, -0.12, -0.22, -0.34], best_of).startswith("what is measured falls from the start")
    assert told("rl", [-0.02, -0.1, -0.3], [1.0, 4.0, 16.0]).startswith("what is measured falls from the start")
    assert told("best_of_n", [0.05, 0.12, 0.2, 0.3], best_of) == "what is measured still rises where this ends"
    assert told("rl", [0.2, 0.3, -0.1], [1.0, 4.0, 16.0]).startswith("what is measured peaks near a KL of ")
