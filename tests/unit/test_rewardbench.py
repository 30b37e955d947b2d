"""Both benchmarks' rules on rows made by hand."""

from __future__ import annotations

import math

import pytest

from plaudit.evaluation.rewardbench import Scored, first_version, second_version
from plaudit.types import InputError


def row(subset: str, right: list[float], wrong: list[float], id: str = "0") -> Scored:
    return Scored(id=id, subset=subset, right=right, wrong=wrong)


def test_the_first_version() -> None:
    rows = [
        *(row("alpacaeval-easy", [1.0], [0.0]) for _ in range(3)),
        row("mt-bench-easy", [0.0], [1.0]),
        row("math-prm", [1.0], [0.0]),
        row("hep-go", [1.0], [1.0]),  # equal is not higher
        row("hep-go", [2.0], [1.0]),
        row("elsewhere", [2.0], [1.0]),
    ]
    found = first_version(rows)
    assert found["subsets"] == {
        "alpacaeval-easy": 1.0, "mt-bench-easy": 0.0, "math-prm": 1.0, "hep-go": 0.5, "elsewhere": 1.0,
    }  # fmt: skip
    assert found["sections"] == {"Chat": 0.75, "Reasoning": pytest.approx((984 + 1) / 986)}
    assert found["score"] == pytest.approx((0.75 + 985 / 986) / 2)
    assert first_version([])["score"] is None


def test_best_of_four() -> None:
    rows = [
        row("Math", [3.0], [1.0, 2.0, 0.0]),
        row("Math", [3.0], [3.0, 2.0, 3.0]),  # one of three that are the highest
        row("Safety", [0.0], [1.0, 2.0, 0.0]),
    ]
    found = second_version(rows)
    assert found["subsets"] == {"Math": pytest.approx(2 / 3), "Safety": 0.0}
    assert found["score"] == pytest.approx(1 / 3)
    with pytest.raises(InputError, match="needs right answers and wrong ones"):
        second_version([row("Math", [1.0], [])])


def test_ties_worked_by_hand() -> None:
    """Prompt 1: gaps 2 (tied) and 1 (ref), spread 0.5: both wider. Prompt 2: gaps 1 and -1, spread 2: neither."""
    rows = [
        row("Ties", [3.0, 3.5], [1.0, 0.0], "tied:1"),
        row("Ties", [2.0], [1.0], "ref:1"),
        row("Ties", [2.0, 4.0], [1.0], "tied:2"),
        row("Ties", [0.0], [1.0], "ref:2"),
    ]
    margin = (math.tanh(1 / 0.5 - 1) + math.tanh(-1 / 2 - 1)) / 2
    expected = 0.3 * 1.0 + 0.3 * 0.5 + 0.2 * 0.5 + 0.2 * 0.5 + 0.01 * margin
    assert second_version(rows)["subsets"]["Ties"] == pytest.approx(expected)
    # Right answers that all score the same have no spread to compare with.
    same = [row("Ties", [3.0, 3.0], [1.0], "tied:1"), row("Ties", [2.0], [1.0], "ref:1")]
    assert second_version(same)["subsets"]["Ties"] == pytest.approx(1.0)
    assert second_version(rows[:1])["subsets"]["Ties"] == pytest.approx(0.3)
    with pytest.raises(InputError, match="expected ref:n or tied:n"):
        second_version([row("Ties", [1.0], [0.0], "7")])
