"""Signs of doubt, against a count over every two pairs."""

from __future__ import annotations

import numpy as np
import pytest

from plaudit.evaluation.foresight import auroc, auroc_interval
from plaudit.types import InputError


def test_by_hand() -> None:
    # wrong: 3 and 1; right: 2, 1 and 0. Of six couples 3 beats all three, 1 beats 0 and ties with 1
    assert auroc(np.array([3.0, 1, 2, 1, 0]), np.array([1.0, 1, 0, 0, 0])) == pytest.approx(4.5 / 6)
    assert auroc(np.zeros(4), np.array([1.0, 0, 1, 0])) == 0.5


def test_as_counted_one_by_one() -> None:
    rng = np.random.default_rng(0)
    doubt, wrong = rng.integers(6, size=60).astype(float), (rng.random(60) < 0.3).astype(float)
    couples = [(a, b) for a in doubt[wrong == 1] for b in doubt[wrong == 0]]
    counted = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in couples) / len(couples)
    assert auroc(doubt, wrong) == pytest.approx(counted)


def test_the_interval_holds_the_value_and_narrows_with_more_prompts() -> None:
    rng = np.random.default_rng(1)

    def width(count: int) -> float:
        wrong = (rng.random(count) < 0.4).astype(float)
        found = auroc_interval(
            (rng.normal(size=count) + wrong).tolist(), wrong.tolist(), groups=list(range(count)), resamples=300
        )
        assert found.low < found.value < found.high
        return found.high - found.low

    assert width(2000) < width(100) / 2


def test_without_errors_there_is_nothing_to_foresee() -> None:
    with pytest.raises(InputError, match="pairs that are wrong and pairs that are right"):
        auroc(np.ones(3), np.zeros(3))
