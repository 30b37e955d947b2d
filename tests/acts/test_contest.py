"""Best-of-n and the distance of a checkpoint, on a tiny model: chosen by what is paid, measured against float64."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from plaudit.contest import Contest
from plaudit.models.generate import generate, sample_key
from plaudit.overoptimization import Pursuit
from plaudit.progress import Journal
from plaudit.types import Prompt, Sampling

SAMPLING = Sampling(temperature=0.8, max_new_tokens=6, seed=0)


def contest(tmp_path: Path, **workshop: Any) -> Contest:
    recipe = tiny.recipe(tmp_path, "nowhere", ppo={"reward": "tiny:count_yes"})
    made: Any = SimpleNamespace(chat=tiny.chat(), load_model=lambda path: None, **workshop)
    return Contest(recipe=recipe, workshop=made, world=None, judges={}, sampling=SAMPLING)


def test_the_distance_is_that_of_two_whole_models_in_float64(tmp_path: Path) -> None:
    trunk, chat, prompts = tiny.trunk(), tiny.chat(), tiny.questions(12)
    trunk.add_part("policy", "full", rank=1, alpha=1.0, seed=0)
    tiny.move(trunk, "policy", by=0.3)
    model = trunk.decoding_copy("policy")
    asked = [chat.prompt_ids(prompt) for prompt in prompts]
    keys = [sample_key(0, 1, prompt.id, 0) for prompt in prompts]
    said = generate(model, asked, keys, SAMPLING, eos_ids=chat.eos_ids)
    found = contest(tmp_path, trunk=trunk).distance(prompts, said)

    def logprob(of: torch.nn.Module, ids: list[int], tokens: list[int]) -> float:
        with torch.no_grad():
            logits = of(input_ids=torch.tensor([ids + tokens])).logits[0] / SAMPLING.temperature
        logprobs = logits.log_softmax(dim=-1)
        return sum(float(logprobs[len(ids) - 1 + i, token]) for i, token in enumerate(tokens))

    far, near = model.double(), tiny.trunk().model.double()
    gaps = [
        logprob(far, ids, one.tokens) - logprob(near, ids, one.tokens) for ids, one in zip(asked, said, strict=True)
    ]
    assert np.mean(gaps) > 0.1
    assert found.value == pytest.approx(float(np.mean(gaps)), abs=1e-4)


def test_best_of_n_is_what_is_paid_best(tmp_path: Path) -> None:
    chat, drawn = tiny.chat(), iter(["no", "yes yes", "yes", "the cat", "no", "yes", "yes yes yes", "a"])
    prompts = tiny.questions(2)

    def speak(_: object, asked: Sequence[Prompt], *args: object, **more: object) -> list[Any]:
        texts = [next(drawn) for _ in asked]
        return [
            SimpleNamespace(tokens=chat.tokenizer(t, add_special_tokens=False)["input_ids"], finished=i % 2 == 0)
            for i, t in enumerate(texts)
        ]

    with Journal(tmp_path, quiet=True) as journal:
        found = contest(tmp_path, speak=speak).best_of(4, prompts, "sft", journal)
    assert found.texts == ("yes yes", "yes yes yes")
    assert found.finished == (False, True)


def test_gains_are_over_the_sft_model_s_own_answers(tmp_path: Path) -> None:
    with Journal(tmp_path, quiet=True) as journal:
        pursuit = Pursuit(contest(tmp_path), tiny.questions(2), journal)
    pursuit.before = np.array([1.0, 2.0]), np.array([10.0, 20.0])
    found = pursuit.gained(4, kl=0.5, judged_P=np.array([3.0, 3.0]), measured_P=np.array([11.0, 19.0]))
    assert (found.label, found.kl) == (4, 0.5)
    assert found.judged_P.tolist() == [2.0, 1.0]
    assert found.measured_P.tolist() == [1.0, -1.0]
