"""The judge's figures by objective, the panel that compares answers, and any reward on the judge's scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from plaudit.data.formats import prompt_of
from plaudit.evaluation.judge import hear, judge_figures
from plaudit.evaluation.winrate import by_panel, by_scores
from plaudit.reward.scale import Standardised
from plaudit.types import Judgement, Prompt, Response, RewardFunction


@dataclass(frozen=True)
class Table:
    """A reward that looks its scores up: text -> one score per objective."""

    scores: dict[str, tuple[float, ...]]
    objectives: tuple[str, ...] = ("helpful", "harmless")

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        return torch.tensor([self.scores[text] for text in responses])


@dataclass(frozen=True)
class Voter:
    """Always votes the same way."""

    ranking: tuple[tuple[int, ...], ...]
    name: str = "voter"

    def judge(self, prompt: Prompt, responses: Sequence[Response], *, seed: int) -> Judgement:
        return Judgement(id="v", prompt=prompt, responses=tuple(responses), ranking=self.ranking)


def pair(number: int, objective: str, better: str, worse: str) -> Judgement:
    responses = (Response(text=better), Response(text=worse))
    prompt = prompt_of(f"question {number}")
    return Judgement(id=str(number), prompt=prompt, responses=responses, ranking=((0,), (1,)), objective=objective)


def rows_of(judge: RewardFunction, held_out: Sequence[Judgement]) -> list[list[float]]:
    return [one.scores_K for one in hear(judge, held_out)]


def test_each_ranking_is_scored_by_its_own_objective() -> None:
    """Helpful prefers the longer, harmless the shorter: a length rule of its own for each is right every time."""
    held_out = [pair(i, "helpful", "long answer", "short") for i in range(5)]
    held_out += [pair(i + 5, "harmless", "short", "long answer") for i in range(5)]
    right = Table({"long answer": (2.0, 0.0), "short": (1.0, 3.0)})  # each head is wrong about the other's pairs
    figures = judge_figures(right.objectives, held_out, rows_of(right, held_out), resamples=50, seed=0)
    assert figures["accuracy"]["value"] == 1.0
    assert figures["beats_length"]["value"] == 0.0
    half = Table({"long answer": (2.0, 3.0), "short": (1.0, 0.0)})  # right on helpful, wrong on harmless
    figures = judge_figures(half.objectives, held_out, rows_of(half, held_out), resamples=50, seed=0)
    assert figures["accuracy"]["value"] == 0.5
    assert figures["objectives"]["helpful"]["accuracy"]["value"] == 1.0
    assert figures["objectives"]["harmless"]["accuracy"]["value"] == 0.0
    assert figures["beats_length"]["value"] == -0.5
    assert figures["length_baseline"] == 1.0
    assert figures["pairs"] == 10


def test_nothing_held_out_gives_no_figures() -> None:
    assert judge_figures(["helpful"], [], [], resamples=50, seed=0) == {"objectives": {"helpful": {}}}


def test_a_panel_votes_and_a_tie_counts_half() -> None:
    panel = [Voter(((0,), (1,))), Voter(((0, 1),)), Voter(((1,), (0,))), Voter(((0,), (1,)))]
    assert by_panel(panel)(prompt_of("?"), "a", "b") == pytest.approx((1 + 0.5 + 0 + 1) / 4)


def test_scores_prefer_the_higher() -> None:
    prefer = by_scores(lambda prompts, texts: [float(len(t)) for t in texts])
    assert prefer(prompt_of("?"), "aaa", "b") == 1.0
    assert prefer(prompt_of("?"), "a", "bbb") == 0.0
    assert prefer(prompt_of("?"), "aa", "bb") == 0.5


def test_standardised_by_hand() -> None:
    """Scores 1 and 3 have mean 2 and population deviation 1; 0 and 10 have 5 and 5."""
    reward = Table({"a": (1.0, 0.0), "b": (3.0, 10.0), "c": (4.0, -5.0)})
    scaled = Standardised(reward, [prompt_of("?")] * 2, ["a", "b"])
    assert scaled.objectives == ("helpful", "harmless")
    assert scaled([prompt_of("?")], ["c"]).tolist() == [[2.0, -2.0]]


def test_answers_that_score_the_same_say_nothing_of_the_scale() -> None:
    reward = Table({"a": (1.0, 0.0), "b": (1.0, 10.0), "c": (4.0, -5.0)})
    scaled = Standardised(reward, [prompt_of("?")] * 2, ["a", "b"])
    assert scaled([prompt_of("?")], ["c"]).tolist() == [[3.0, -2.0]]
