"""Which of PPO's answers people are to see next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import tiny
from plaudit.rl.doubtful import DOUBTFUL, is_doubtful, most_doubtful, note_doubtful, telling
from plaudit.rl.records import rewind
from plaudit.run_folder import read_rows
from plaudit.types import Prompt, Response, Rollout, Sampling

SAMPLING = Sampling(max_new_tokens=4, seed=0)


def rollout(texts: list[str], *, spread: list[list[float]] | None = None, strange: list[bool] | None = None) -> Rollout:
    many = len(texts)
    grid = torch.zeros(many, 1)
    return Rollout(
        prompts=tuple(tiny.questions(many)),
        texts=tuple(texts),
        finished_B=torch.tensor([text != "two" for text in texts]),
        response_tokens_BT=grid.long(),
        response_mask_BT=grid.bool(),
        logprobs_BT=grid,
        sampler_logprobs_BT=grid,
        ref_logprobs_BT=grid,
        values_BT=grid,
        scores_BO=grid,
        spread_BO=torch.tensor(spread or [[0.0]] * many),
        unfamiliar_B=torch.tensor(strange or [False] * many),
        bundles=(),
    )


def test_an_answer_stands_for_each_reason() -> None:
    """The strangest are weighed by their score, the disputed by the mean over objectives, and nobody comes twice."""
    said = rollout(
        ["one", "two", "cat", "dog", "red"],
        spread=[[0.1, 0.1], [0.9, 0.0], [0.3, 0.5], [0.4, 0.6], [0.0, 0.0]],
        strange=[True, False, False, True, False],
    )
    score_B = torch.tensor([0.5, 1.0, 2.0, 3.0, 0.0])
    # 3 is the higher of the strange, the most disputed (.5) and the highest: then 1 (.45) and 2 are the next.
    assert telling(said, score_B) == {"unfamiliar": 3, "disputed": 1, "highest": 2}


def test_a_judge_without_doubt_names_its_highest_alone() -> None:
    assert telling(rollout(["one", "two", "cat"]), torch.tensor([-1.0, -0.5, -2.0])) == {"highest": 1}


def test_an_empty_answer_is_passed_over() -> None:
    said = rollout(["one", "  ", ""], strange=[False, True, True])
    assert telling(said, torch.tensor([0.0, 3.0, 2.0])) == {"highest": 0}
    assert telling(rollout([" ", ""]), torch.tensor([1.0, 2.0])) == {}


def test_what_is_noted_can_be_read_and_rewound(tmp_path: Path) -> None:
    said = rollout(["one\u2028two", "two"], spread=[[0.5], [0.0]])  # a line separator to Unicode, and to no file
    for step in range(3):
        note_doubtful(said, torch.tensor([0.25, 1.0]), SAMPLING, step=step, folder=tmp_path)
    rows = read_rows(tmp_path / DOUBTFUL)
    assert [(row["step"], row["reason"], row["score"], row["spread"]) for row in rows] == [
        (0, "disputed", 0.25, 0.5), (0, "highest", 1.0, 0.0),
        (1, "disputed", 0.25, 0.5), (1, "highest", 1.0, 0.0),
        (2, "disputed", 0.25, 0.5), (2, "highest", 1.0, 0.0),
    ]  # fmt: skip
    ((prompt, response),) = most_doubtful(rows[-1:], 1, run="round_4/ppo")
    assert (prompt, response.text, response.finished) == (said.prompts[1], "two", False)
    assert (response.checkpoint, response.sampling) == ("round_4/ppo, step 2", SAMPLING)
    assert is_doubtful(response)
    assert not is_doubtful(Response(text="two", checkpoint="round_4/ppo@0a1b2c3d"))

    with (tmp_path / DOUBTFUL).open("a") as file:
        file.write('{"step": 2, "torn')
    rewind(tmp_path, 2)
    assert read_rows(tmp_path / DOUBTFUL) == rows[:4]


def row(step: int, reason: str, prompt: Prompt, text: str) -> dict[str, Any]:
    said = {"text": text, "checkpoint": f"step {step}", "sampling": {"seed": 0}, "finished": True}
    return {
        "step": step,
        "reason": reason,
        "prompt": [{"role": "user", "content": prompt.messages[0].content}],
        "response": said,
    }


def test_reasons_take_turns_and_the_latest_comes_first() -> None:
    a, b, c, d, e = tiny.questions(5)
    rows = [
        row(0, "highest", a, "first"),
        row(1, "highest", b, "second"),
        row(1, "unfamiliar", c, "third"),
        row(2, "highest", d, "fourth"),
        row(3, "unfamiliar", d, "fifth"),
        row(3, "highest", e, "sixth"),
    ]
    found = most_doubtful(rows, 9, run="r")
    # Of d the newest stands; no member differed, so "disputed" has no turn.
    assert [response.text for _, response in found] == ["fifth", "sixth", "third", "second", "first"]
    assert [prompt.id for prompt, _ in most_doubtful(rows, 2, run="r")] == [d.id, e.id]
    assert most_doubtful(rows, 0, run="r") == []
