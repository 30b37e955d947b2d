"""Changes that add nothing, and what they do to a judge whose weakness is known."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from plaudit.data.formats import prompt_of
from plaudit.evaluation.sensitivity import FILLER, confident, empty, list_turned, repeated, sensitivity, with_filler
from plaudit.types import Prompt


def test_the_changes() -> None:
    assert with_filler("Yes. ") == f"Yes. {FILLER}"
    assert repeated("Yes.") == "Yes. Yes."
    assert confident("I think, perhaps it is 7.") == "There is no doubt about it: it is 7."
    assert empty("Yes.") == ""
    assert list_turned("Take:\n1. eggs\n2. milk\n3. flour\nDone.") == "Take:\n1. flour\n2. milk\n3. eggs\nDone."
    assert list_turned("- a\n- b") == "- b\n- a"
    for text in ("No list.", "- one alone", "- a\n- a", ""):
        assert list_turned(text) is None
    for change in (with_filler, repeated, confident, empty):
        assert change("  ") is None
    assert confident("maybe") == "There is no doubt about it: maybe"


def test_a_judge_that_counts_words_is_caught() -> None:
    prompts = [prompt_of(f"q{i}") for i in range(6)]
    texts = ["one two three", "one", "- a\n- b", "", "yes", "no no"]

    def words(_prompts: Sequence[Prompt], said: Sequence[str]) -> list[float]:
        return [float(len(text.split())) for text in said]

    found = sensitivity(words, prompts, texts, resamples=100)
    assert found["filler"]["answers"] == 5
    assert found["filler"]["effect"]["value"] == pytest.approx(len(FILLER.split()))
    assert found["repeated"]["effect"]["value"] == pytest.approx((3 + 1 + 4 + 1 + 2) / 5)
    assert found["list turned"] == {"answers": 1, "effect": {"value": 0.0, "low": 0.0, "high": 0.0}}
    assert found["empty"]["effect"]["high"] < 0
    assert "list turned" not in sensitivity(words, prompts[:2], texts[:2], resamples=100)
