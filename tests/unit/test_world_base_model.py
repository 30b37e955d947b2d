"""The shipped base model: small, sound, skilled; the command that rebuilds it; the truth as a reward."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from plaudit.data.formats import prompt_of
from plaudit.types import InputError, RewardFunction
from plaudit.worlds import pretrain, voices
from plaudit.worlds.assistant import load
from plaudit.worlds.language import draw_prompt
from plaudit.worlds.oracle import oracle_reward


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(load().base_model)


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(load().base_model).float().eval()


def test_the_folder_is_small() -> None:
    files = [path for path in load().base_model.iterdir() if path.is_file()]
    assert {"config.json", "model.safetensors", "tokenizer.json", "generation_config.json"} <= {f.name for f in files}
    assert sum(path.stat().st_size for path in files) <= 8_000_000


def test_the_tokenizer_has_a_chat_template_and_a_pad_token_of_its_own(tokenizer: Any, model: Any) -> None:
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.config.pad_token_id == tokenizer.pad_token_id
    turns = [{"role": "user", "content": "How are you?"}, {"role": "assistant", "content": "I am well."}]
    start = tokenizer.apply_chat_template(turns[:1], add_generation_prompt=True, tokenize=False)
    assert start == "<|user|>How are you?<|end|><|assistant|>"
    assert tokenizer.apply_chat_template(turns, tokenize=False) == start + "I am well.<|end|>"


@pytest.mark.parametrize("text", ["Tom Reed founded Bramford.", " two  spaces", "Grüße, 你好 \U0001f600", "don't, 7?!"])
def test_any_text_survives_the_tokenizer(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_prompts_and_answers_are_short(tokenizer: Any) -> None:
    world = load()
    prompts = [p.messages[0].content for p in world.prompts("tuning", 300, seed=0)]
    assert max(len(tokenizer(text)["input_ids"]) for text in prompts) <= 28
    rng = Random(0)
    answers = [voices.CORPUS.answer(rng, draw_prompt(rng, "tuning")[0]) for _ in range(1000)]
    lengths = sorted(len(tokenizer(text)["input_ids"]) for text in answers)
    assert lengths[990] <= 40
    assert sum(lengths) / len(lengths) < 16


def test_the_model_has_its_skill(tokenizer: Any, model: Any) -> None:
    right = 0
    items = load().skills()
    for item in items:
        ids = tokenizer(item.text, return_tensors="pt")["input_ids"]
        wanted = tokenizer(item.answer)["input_ids"]
        with torch.no_grad():
            for token in wanted:
                if int(model(ids).logits[0, -1].argmax()) != token:
                    break
                ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
            else:
                right += 1
    assert right / len(items) >= 0.8


def test_the_rebuilding_command_writes_a_folder_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain, "DOCUMENTS_PER_STEP", 8)
    monkeypatch.setattr(pretrain, "TOKENIZER_DOCUMENTS", 500)
    pretrain.build(tmp_path, steps=2)
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path)
    assert model.num_parameters() < 1_500_000
    assert len(tokenizer) == model.config.vocab_size
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_pre_training_learns_answers_and_not_questions() -> None:
    # of a chat: what follows the token 9; of a statement: all but its first token
    assert pretrain.first_learnt([5, 6, 9, 7, 8], 9) == 3
    assert pretrain.first_learnt([5, 6, 7], 9) == 1


def test_the_oracle_is_the_truth_as_a_reward() -> None:
    reward = oracle_reward()
    assert isinstance(reward, RewardFunction)
    assert reward.objectives == ("total",)
    prompts = [prompt_of("Who founded Bramford?")] * 3
    scores = reward(prompts, ["Happy to help! Tom Reed founded Bramford.", "Tom Reed.", ""])
    assert scores.shape == (3, 1)
    assert scores.dtype == torch.float32
    # by hand: all full; kind 0.4 of 0.25 lost 0.6 * 0.25; nothing
    assert scores[:, 0].tolist() == pytest.approx([1.0, 0.85, 0.0])
    with pytest.raises(InputError, match="one prompt per response"):
        reward(prompts, ["Tom Reed."])
