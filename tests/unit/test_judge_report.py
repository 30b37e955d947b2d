"""The figures of a judge whose rule is known, on rankings made for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from plaudit.data.formats import prompt_of
from plaudit.evaluation.judge import hear
from plaudit.evaluation.judge_report import judged_pairs, length_correlation, report_on_judge
from plaudit.types import InputError, Judgement, Prompt, Response


class Counts:
    """Scores by the number of "a" (helpful) and of words (kind)."""

    objectives = ("helpful", "kind")

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        rows = [[float(text.split().count("a")), float(len(text.split()))] for text in responses]
        return torch.tensor(rows).reshape(-1, 2)


def ranked(
    prompt: str,
    texts: Sequence[str],
    ranking: tuple[tuple[int, ...], ...],
    *,
    objective: str = "helpful",
    strength: float | None = None,
    annotator: str = "ann",
) -> Judgement:
    return Judgement(
        id=prompt,
        prompt=prompt_of(prompt),
        responses=tuple(Response(text=text) for text in texts),
        ranking=ranking,
        objective=objective,
        strength=strength,
        annotator=annotator,
    )


SAID = [
    ranked("p1", ["a a a", "b"], ((0,), (1,)), strength=3.0),
    ranked("p2", ["b", "a a b b b b b b"], ((0,), (1,)), strength=1.0, annotator="ben"),
    ranked("p3", ["a a", "a b", "b b"], ((0,), (1, 2)), strength=2.0),
    ranked("p4", ["b b b b", "b"], ((1,), (0,)), objective="kind"),
]


def test_pairs_are_seen_from_the_preferred_one() -> None:
    heard = hear(Counts(), SAID)
    assert [one.scores_K for one in heard] == [[3, 0], [0, 2], [2, 1, 0], [4, 1]]
    pairs = judged_pairs(SAID, heard, ["x", "x", "y", "y"])
    assert [(p.difference, p.tied, p.longer_by, p.correct) for p in pairs] == [
        (3, False, 2, 1.0), (-2, False, -7, 0.0), (1, False, 0, 1.0), (2, False, 0, 1.0), (1, True, 0, 1.0),
        (-3, False, -3, 0.0),
    ]  # fmt: skip
    assert [p.source for p in pairs] == ["x", "x", "y", "y", "y", "y"]


def test_what_nobody_compared_is_no_pair() -> None:
    """Of "a a a", "a", "b b" and "a a" the first is the best and the third the worst."""
    ends = replace(ranked("p", ["a a a", "a", "b b", "a a"], ((0,), (1, 3), (2,))), unordered=(1, 3))
    pairs = judged_pairs([ends], hear(Counts(), [ends]), ["x"])
    assert sorted((p.difference, p.tied) for p in pairs) == [(d, False) for d in (1, 1, 2, 2, 3)]


def test_the_report_worked_by_hand() -> None:
    found = report_on_judge(Counts(), SAID, sources=["x", "x", "y", "y"], resamples=100)
    assert found["accuracy"]["value"] == pytest.approx(3 / 5)  # of p1, p2, two of p3, p4
    assert found["pairs"] == 5
    assert found["objectives"]["helpful"]["accuracy"]["value"] == pytest.approx(3 / 4)
    slices = found["slices"]
    assert {name: (one["accuracy"]["value"], one["pairs"]) for name, one in slices["length"].items()} == {
        "shorter by 5 words or more": (0.0, 1),
        "as long, to 4 words": (0.75, 4),
    }
    assert {name: one["accuracy"]["value"] for name, one in slices["source"].items()} == {
        "x": 0.5, "y": pytest.approx(2 / 3),
    }  # fmt: skip
    assert {name: one["accuracy"]["value"] for name, one in slices["annotator"].items()} == {
        "ann": pytest.approx(3 / 4), "ben": 0.0,
    }  # fmt: skip
    # strengths 1, 2, 2, 3: both limits are at 2, so that the middle third is empty
    assert list(slices["strength"]) == ["weakest third", "strongest third"]
    assert found["ece"] == found["calibration"]["ece"]
    assert found["sensitivity"]["kind"]["repeated"]["effect"]["value"] == 1.0  # "b" twice is one word more
    assert found["sensitivity"]["helpful"]["empty"]["effect"]["value"] == pytest.approx(-5 / 3)


def test_length_is_correlated_over_all_and_within_a_prompt() -> None:
    """Longer prompts' answers score higher, but of two answers to one prompt the shorter does."""
    some = [ranked("p1", ["a", "b b"], ((0,), (1,))), ranked("p2", ["a a a a", "a a a b b b"], ((0,), (1,)))]
    found = length_correlation(some, [[2.0, 1.0], [6.0, 5.0]])
    assert found["all"] == pytest.approx(12.5 / (14.75 * 17) ** 0.5, abs=1e-6)
    assert found["within_prompt"] == pytest.approx(-3 / (10**0.5), abs=1e-6)  # (-.5, .5, -1, 1) and (.5, -.5, .5, -.5)
    assert length_correlation(some[:1], [[1.0, 1.0]]) == {"all": None, "within_prompt": None}


def test_what_cannot_be_measured_is_said() -> None:
    with pytest.raises(InputError, match="speak of 'honest', the judge of helpful, kind"):
        report_on_judge(Counts(), [ranked("p", ["a", "b"], ((0,), (1,)), objective="honest")])
    assert "accuracy" not in report_on_judge(Counts(), [ranked("p", ["a", "b"], ((0, 1),))])
    assert report_on_judge(Counts(), []) == {}
