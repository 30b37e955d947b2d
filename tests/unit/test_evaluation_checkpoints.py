"""Win rates, truth tables, the skill and the counts of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from plaudit.contest import Contest
from plaudit.evaluation.compare import SCORE, Answers, compare
from plaudit.evaluation.text import text_statistics, text_table
from plaudit.evaluation.truth import skill, truth_gains, truth_table
from plaudit.evaluation.winrate import from_scores, win_rate
from plaudit.recipe import PPO, Recipe
from plaudit.types import InputError, Message, Prompt, Sampling, SkillItem


def prompts(count: int) -> list[Prompt]:
    return [Prompt(id=f"p{i}", messages=(Message(role="user", content=f"question {i}"),)) for i in range(count)]


def test_win_rate_finds_the_better_text_on_either_side() -> None:
    sides: list[str] = []

    def prefer(prompt: Prompt, text_1: str, text_2: str) -> float:
        sides.append(text_1)
        return 1.0 if text_1 == "good" else 0.0

    estimate = win_rate(prompts(40), ["good"] * 40, ["bad"] * 40, prefer)
    assert estimate.value == 1.0
    assert estimate.low == pytest.approx(40 / (40 + 3.8415), abs=1e-4)
    assert 10 < sides.count("good") < 30  # A is first about half of the time


def test_a_judge_that_loves_the_first_place_learns_nothing() -> None:
    estimate = win_rate(prompts(400), ["a"] * 400, ["b"] * 400, lambda prompt, text_1, text_2: 1.0)
    assert estimate.low < 0.5 < estimate.high
    assert 0.4 < estimate.value < 0.6


def test_equal_texts_are_not_asked_about() -> None:
    def never(prompt: Prompt, text_1: str, text_2: str) -> float:
        raise AssertionError("asked")

    assert win_rate(prompts(3), ["x"] * 3, ["x"] * 3, never).value == 0.5


def test_the_order_of_prompts_does_not_matter() -> None:
    def by_place(prompt: Prompt, text_1: str, text_2: str) -> float:
        return 0.9 if text_1 == "a" else 0.3

    items = prompts(15)
    forward = win_rate(items, ["a"] * 15, ["b"] * 15, by_place, seed=5)
    backward = win_rate(items[::-1], ["a"] * 15, ["b"] * 15, by_place, seed=5)
    assert forward.value == pytest.approx(backward.value)
    other = win_rate(items, ["a"] * 15, ["b"] * 15, by_place, seed=6)
    assert other.value != pytest.approx(forward.value)


def test_repeated_prompts_are_resampled_whole() -> None:
    estimate = from_scores([1, 1, 1, 0], [0, 0, 0, 1], groups=["p", "p", "p", "q"])
    assert (estimate.value, estimate.low, estimate.high) == (0.75, 0.0, 1.0)


def test_from_scores_counts_ties_as_half() -> None:
    assert from_scores([2.0, 1.0, 5.0, 0.0], [1.0, 1.0, 4.0, 3.0]).value == 0.625


def test_win_rate_bad_input() -> None:
    with pytest.raises(InputError, match="2 prompts, 1 texts of A"):
        win_rate(prompts(2), ["x"], ["y", "z"], lambda *_: 0.5)
    with pytest.raises(InputError, match="prompt p0"):
        win_rate(prompts(1), ["x"], ["y"], lambda *_: float("nan"))
    with pytest.raises(InputError, match="paired"):
        from_scores([1.0], [1.0, 2.0])


def counting_truth(prompt: Prompt, text: str) -> dict[str, float]:
    return {"total": len(text) / 10, "kind": float("please" in text)}


def test_truth_table_and_gains() -> None:
    texts = {"sft": ["a", "aaa", "aaaaa"], "rlhf": ["aaa", "aaaaa", "please."]}
    table = truth_table(counting_truth, prompts(3), texts, resamples=4000)
    assert table["sft"]["total"].value == pytest.approx(0.3)
    assert table["rlhf"]["kind"].value == pytest.approx(1 / 3)
    # three prompts: P(all draws are the lowest) = 1/27 = .037 > .025, and so for the highest
    assert (table["sft"]["total"].low, table["sft"]["total"].high) == pytest.approx((0.1, 0.5))
    gains = truth_gains(counting_truth, prompts(3), texts["sft"], texts["rlhf"])
    assert gains["total"].as_dict() == pytest.approx({"value": 0.2, "low": 0.2, "high": 0.2})


def test_truth_bad_input() -> None:
    with pytest.raises(InputError, match="2 prompts and 1 answers"):
        truth_table(counting_truth, prompts(2), {"sft": ["x"]})

    def moody(prompt: Prompt, text: str) -> dict[str, float]:
        return {"total": 1.0} if prompt.id == "p0" else {"other": 1.0}

    with pytest.raises(InputError, match="p1"):
        truth_table(moody, prompts(2), {"sft": ["x", "y"]})


@pytest.mark.parametrize(
    ("answer", "continuation", "right"),
    [
        ("12", " 12", True),
        ("12", "12.", True),
        ("12", "12, and then", True),
        ("12", "123", False),
        ("1", "12", False),
        ("1", "1.5", False),
        ("New Delhi", " New\n Delhi is", True),
        ("New Delhi", "Delhi", False),
        ("Paris", "Parisian", False),
        ("Paris", "in Paris", False),
        ("a.b", "axb", False),
        ("yes", "", False),
    ],
)
def test_skill(answer: str, continuation: str, right: bool) -> None:
    items = [SkillItem(text="q", answer=answer)]
    assert skill(items, lambda texts: [continuation for _ in texts]).value == float(right)


def test_skill_bad_input() -> None:
    with pytest.raises(InputError, match="0 continuations for 1"):
        skill([SkillItem(text="q", answer="a")], lambda texts: [])
    with pytest.raises(InputError, match="empty answer"):
        skill([SkillItem(text="q", answer=" ")], lambda texts: ["x"])


def test_text_statistics_by_hand() -> None:
    # "a b a b a": pairs ab ba ab ba, triples aba bab aba (one comes again); "A b": pair ab. Pairs in all: 5, 2 kinds.
    figures = text_statistics(["a b a b a", "A  b", ""], [True, False, True])
    assert figures == pytest.approx({"words": 7 / 3, "distinct_2": 2 / 5, "repeated_3": 1 / 3, "finished": 2 / 3})


def test_a_triple_in_another_text_is_no_repetition() -> None:
    assert text_statistics(["a b c", "a b c"])["repeated_3"] == 0.0


def test_short_texts_have_figures_too() -> None:
    assert text_statistics([""]) == {"words": 0.0, "distinct_2": 1.0, "repeated_3": 0.0}
    assert text_table({"sft": ["a"], "rlhf": ["a b"]})["rlhf"]["words"] == 2.0
    with pytest.raises(InputError, match="at least one text"):
        text_statistics([])


def by_length(asked: Sequence[Prompt], said: Sequence[str]) -> dict[str, list[float]]:
    """A judge of two objectives that pull apart: words, and minus twice the words."""
    words = [float(len(text.split())) for text in said]
    return {"score": words, "long": words, "short": [-2 * n for n in words]}


def test_compare_puts_every_figure_in_its_place() -> None:
    texts = {"base": ("", ""), "sft": ("a a", "b b"), "rlhf": ("a a a", "b b b"), "ceiling": ("a a a a", "b b b b")}
    result = compare(
        prompts(2),
        {name: Answers(texts=said, finished=(True, False)) for name, said in texts.items()},
        truth=lambda prompt, text: {"total": len(text.split()) / 4},
        prefer=lambda prompt, text_1, text_2: float(len(text_1) > len(text_2)),
        scorers={"judge": by_length},
        resamples=50,
        seed=0,
    )
    assert result["win_rate"]["value"] == 1.0
    assert {name: row["total"]["value"] for name, row in result["truth"].items()} == {
        "base": 0.0,
        "sft": 0.5,
        "rlhf": 0.75,
        "ceiling": 1.0,
    }
    assert result["truth_gain"]["total"] == {"value": 0.25, "low": 0.25, "high": 0.25}
    assert result["share_of_ceiling"] == 0.5  # a quarter gained, a half to be had
    assert result["judge"]["gain"]["value"] == 1.0
    assert {name: row["gain"]["value"] for name, row in result["judge"]["objectives"].items()} == {
        "long": 1.0,
        "short": -2.0,
    }
    assert result["judge"]["objectives"]["short"]["rlhf"]["value"] == -6.0
    assert result["text"]["rlhf"]["words"] == 3.0
    assert "rivals" not in result


def test_rivals_are_taken_off_and_not_the_other_way_round() -> None:
    texts = {"sft": ("a", "b"), "rlhf": ("a a a", "b b b"), "dpo": ("a a", "b b"), "best_of_n": ("a a a a", "b b b b")}
    result = compare(
        prompts(2),
        {name: Answers(texts=said, finished=(True, True)) for name, said in texts.items()},
        truth=lambda prompt, text: {"total": len(text.split()) / 4},
        prefer=lambda prompt, text_1, text_2: float(len(text_1) > len(text_2)),
        scorers={"judge": by_length},
        resamples=50,
        seed=0,
    )
    found = {
        rival: {measure: one["value"] for measure, one in measures.items()}
        for rival, measures in result["rivals"].items()
    }
    assert found == {
        "dpo": {"win_rate": 1.0, "truth": 0.25, "judge": 1.0},
        "best_of_n": {"win_rate": 0.0, "truth": -0.25, "judge": -1.0},
    }
    assert result["judge"]["dpo"]["value"] == 2.0


class TwoObjectives:
    """One of them has the name under which the weighted score goes."""

    objectives = (SCORE, "kind")

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        return torch.tensor([[1.0, 10.0]] * len(responses))


def test_an_objective_named_score_does_not_take_the_scores_place() -> None:
    recipe = Recipe(name="a", world="some.world:load", ppo=PPO(objective_weights={"kind": 0.5}))
    made: Any = {"workshop": None, "world": None, "judges": {"judge": TwoObjectives()}, "sampling": Sampling()}
    scorer = Contest(recipe=recipe, **made).scorers["judge"]
    assert scorer(prompts(1), ["yes"])[SCORE] == [6.0]  # 1 + 0.5 x 10, and not 1
