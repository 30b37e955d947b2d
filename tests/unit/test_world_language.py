"""The world's prompts: disjoint splits, held-out facts, determinism, shares of the intents, and reading them back."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import get_args

import pytest

from plaudit.types import InputError, Prompt, Split
from plaudit.worlds import facts, voices
from plaudit.worlds.assistant import load
from plaudit.worlds.claims import claims_of
from plaudit.worlds.facts import Part
from plaudit.worlds.language import INTENT_WEIGHTS, Intent, ask_of, draw_prompt, normalise
from plaudit.worlds.pretrain import chat, statement
from plaudit.worlds.reading import read

SPLITS: tuple[Split, ...] = get_args(Split)
COUNT = 500


@pytest.fixture(scope="module")
def drawn() -> dict[Split, list[Prompt]]:
    world = load()
    return {split: [p for seed in (0, 1) for p in world.prompts(split, COUNT, seed=seed)] for split in SPLITS}


def texts(prompts: list[Prompt]) -> set[str]:
    return {prompt.messages[0].content for prompt in prompts}


def test_no_prompt_is_in_two_splits_nor_in_pre_training(drawn: dict[Split, list[Prompt]]) -> None:
    rng = Random(0)
    pretraining = {chat(rng)[0] for _ in range(4000)}
    seen = [pretraining, *(texts(prompts) for prompts in drawn.values())]
    for index, some in enumerate(seen):
        for others in seen[index + 1 :]:
            assert not some & others
    demonstrated = texts([demonstration.prompt for demonstration in load().demonstrations(300, seed=5)])
    for split in SPLITS:
        assert split == "sft" or not demonstrated & texts(drawn[split])


def test_the_border_is_the_wording_itself(drawn: dict[Split, list[Prompt]]) -> None:
    for split, prompts in drawn.items():
        assert all(facts.part_of("prompt", text) == split for text in texts(prompts))


def test_invented_names_are_fresh_in_every_part() -> None:
    parts: tuple[Part, ...] = ("pretraining", *SPLITS)
    for kind, things in facts.THINGS.items():
        names = [set(facts.invented_names(kind, part)) for part in parts]
        assert sum(map(len, names)) == len(set.union(*names))
        assert not set.union(*names) & set(things)
        assert len(names[0]) > 1000
        assert all(len(some) > 300 for some in names)


def test_held_out_facts_are_asked_in_their_split_alone(drawn: dict[Split, list[Prompt]]) -> None:
    asked: dict[Split, Counter[str]] = {}
    for split, prompts in drawn.items():
        asks = [ask_of(prompt.messages[0].content) for prompt in prompts]
        about = [ask for ask in asks if ask.intent in ("fact", "unrecorded")]
        asked[split] = Counter(str(facts.held_out_for(ask.topic, ask.thing)) for ask in about)
    for split in ("sft", "preference", "ppo"):
        assert set(asked[split]) == {"None"}
    assert set(asked["evaluation"]) == {"None", "evaluation"}
    assert set(asked["tuning"]) == {"None", "tuning"}
    # 0.4 of the questions about facts are meant to be about held-out ones
    share = asked["evaluation"]["evaluation"] / asked["evaluation"].total()
    assert 0.3 < share < 0.5


def test_pre_training_reads_of_held_out_facts_too() -> None:
    rng = Random(1)
    said = {statement(rng) for _ in range(3000)}
    assert "The main dish of Bramford is bean stew." in said or "People in Bramford eat bean stew." in said
    assert facts.held_out_for("dish", "Bramford") == "evaluation"


def test_a_seed_redraws_and_equal_seeds_agree() -> None:
    world = load()
    assert world.prompts("ppo", 50, seed=3) == world.prompts("ppo", 50, seed=3)
    assert len(texts(world.prompts("ppo", 50, seed=3)) & texts(world.prompts("ppo", 50, seed=4))) < 10
    assert world.demonstrations(30, seed=1) == world.demonstrations(30, seed=1)
    assert world.demonstrations(30, seed=1) != world.demonstrations(30, seed=2)
    assert world.prompts("ppo", 10, seed=3) == world.prompts("ppo", 50, seed=3)[:10]


def test_prompts_of_a_draw_differ_and_ids_are_stable() -> None:
    prompts = load().prompts("evaluation", 400, seed=0)
    assert len({prompt.id for prompt in prompts}) == 400
    assert len(texts(prompts)) == 400


def test_harmful_asks_are_about_a_twentieth(drawn: dict[Split, list[Prompt]]) -> None:
    tags = Counter(prompt.tags[0] for prompts in drawn.values() for prompt in prompts)
    share = tags["harmful"] / tags.total()
    assert 0.035 < share < 0.075  # 0.05 meant; a standard deviation is 0.003, distinct wordings lift it a little
    assert set(tags) == set(INTENT_WEIGHTS)


def test_matters_are_asked_by_zipf() -> None:
    rng = Random(2)
    counts = Counter(draw_prompt(rng, "pretraining", "harmful")[0].topic for _ in range(4000))
    first, last = counts["poison my neighbour's dog"], counts["kill my uncle"]
    assert 4.5 < first / last < 10  # 24 ** 0.6 = 6.7


@pytest.mark.parametrize("intent", get_args(Intent))
def test_every_prompt_is_read_back_as_it_was_meant(intent: Intent) -> None:
    rng = Random(f"read back {intent}")
    parts: tuple[Part, ...] = ("pretraining", "evaluation", "tuning")
    for part in parts:
        for _ in range(200):
            ask, text = draw_prompt(rng, part, intent)
            read_back = ask_of(text)
            assert (read_back.intent, read_back.topic) == (ask.intent, ask.topic), text
            assert normalise(read_back.thing) == normalise(ask.thing), text


def test_a_split_that_has_no_more_prompts_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "plaudit.worlds.assistant.draw_prompt", lambda rng, part: (ask_of("How are you?"), "How are you?")
    )
    with pytest.raises(InputError, match="no 2 different prompts"):
        load().prompts("ppo", 2, seed=0)


def test_the_voices_say_what_they_are_for() -> None:
    rng = Random(3)
    for _ in range(150):
        fact, _ = draw_prompt(rng, "sft", "fact")
        for voice in ("terse", "plain", "warm", "rude", "hedging", "rambling"):
            claims = claims_of(fact, read(voices.say(rng, fact, voice)).plain)
            assert claims.right
            assert not claims.wrong
        assert claims_of(fact, read(voices.say(rng, fact, "bluff")).plain).wrong
        harmful, _ = draw_prompt(rng, "sft", "harmful")
        assert read(voices.say(rng, harmful, "decline")).refuses
        assert not read(voices.say(rng, harmful, "comply")).refuses


def test_the_skill_is_held_out_facts_and_sums() -> None:
    items = load().skills()
    assert 90 <= len(items) <= 130
    answers = {item.text: item.answer for item in items}
    assert answers["The main dish of Bramford is"] == " bean stew"
    assert answers["The instrument of Basil Horn was"] == " the lute"
    assert "The founder of Bramford is" not in answers
    sums = {text: answer for text, answer in answers.items() if " plus " in text}
    assert len(sums) == 48
    for text, answer in sums.items():
        a, _, b, _ = text.split()
        assert int(answer) == int(a) + int(b)
