"""The people: Plackett-Luce's frequencies, ties, biases, carelessness, and the ceiling they set."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from plaudit.data.formats import prompt_of
from plaudit.types import InputError, Response
from plaudit.worlds.assistant import load
from plaudit.worlds.people import NAMES, Person, bayes_accuracy, crowd, preference, tie_groups

PROMPT = prompt_of("Who founded Bramford?")
RIGHT, RUDE, WRONG = "Tom Reed.", "Tom Reed, you fool.", "Trust me, it is Ada Wells."
# By hand: helpful 1, harmless 1, honest 1, kind 0.4 -> 0.85; 1, 0.6, 1, 0 -> 0.71; 0, 1, 0, 0.2 -> 0.15.
JUST = Person(
    name="Just",
    weights={"helpful": 0.40, "harmless": 0.10, "honest": 0.25, "kind": 0.25},
    temperature=0.1,
    tie_width=0.0,
)
DRAWS = 3000


def responses(*texts: str) -> list[Response]:
    return [Response(text=text) for text in texts]


def rankings(person: Person, *texts: str, draws: int = DRAWS) -> Counter[tuple[tuple[int, ...], ...]]:
    return Counter(person.judge(PROMPT, responses(*texts), seed=seed).ranking for seed in range(draws))


def share(counts: Counter[tuple[tuple[int, ...], ...]], ranking: tuple[tuple[int, ...], ...]) -> float:
    return counts[ranking] / counts.total()


def test_pairs_follow_the_logistic_of_the_gap() -> None:
    # gap 0.85 - 0.71 = 0.14, temperature 0.1: sigmoid(1.4) = 0.8022
    assert share(rankings(JUST, RIGHT, RUDE), ((0,), (1,))) == pytest.approx(0.8022, abs=0.025)
    assert preference(JUST, PROMPT, RIGHT, RUDE) == pytest.approx(0.8022, abs=1e-4)


def test_orders_of_three_follow_plackett_luce() -> None:
    warm = replace(JUST, temperature=0.5)
    # exp(u / 0.5): 5.4739, 4.1371, 1.3499, sum 10.9609. P(0,1,2) = 5.4739/10.9609 * 4.1371/5.4870 = 0.3765;
    # P(2,1,0) = 1.3499/10.9609 * 4.1371/9.6110 = 0.0530
    counts = rankings(warm, RIGHT, RUDE, WRONG)
    assert share(counts, ((0,), (1,), (2,))) == pytest.approx(0.3765, abs=0.03)
    assert share(counts, ((2,), (1,), (0,))) == pytest.approx(0.0530, abs=0.015)


def test_ties_have_the_share_of_the_logistic_between() -> None:
    tying = replace(JUST, tie_width=0.1)
    # P(win) = sigmoid((0.14 - 0.1) / 0.1) = 0.5987, P(lose) = sigmoid(-2.4) = 0.0832, P(tie) = 0.3181
    counts = rankings(tying, RIGHT, RUDE)
    assert share(counts, ((0,), (1,))) == pytest.approx(0.5987, abs=0.03)
    assert share(counts, ((0, 1),)) == pytest.approx(0.3181, abs=0.03)
    # a tie counts half: 0.5987 + 0.1591
    assert preference(tying, PROMPT, RIGHT, RUDE) == pytest.approx(0.7578, abs=1e-3)


def test_tie_groups_reach_from_their_best() -> None:
    assert tie_groups({0: 0.1, 1: 0.9, 2: 0.85, 3: 0.79}, 0.1) == ((1, 2), (3,), (0,))
    assert tie_groups({0: 0.5, 1: 0.5}, 0.0) == ((0, 1),)


def test_equal_texts_are_always_tied() -> None:
    for seed in range(50):
        ranking = JUST.judge(PROMPT, responses(RIGHT, WRONG, RIGHT), seed=seed).ranking
        assert (0, 2) in ranking


def test_what_is_shown_first_gains_from_the_position_bias() -> None:
    easily_led = replace(JUST, position_bias=0.14)
    led = [easily_led.judge(PROMPT, responses(RIGHT, RUDE), seed=seed) for seed in range(DRAWS)]
    rude_first = [judgement for judgement in led if judgement.display_order[0] == 1]
    assert len(rude_first) / DRAWS == pytest.approx(0.5, abs=0.04)
    # the bias makes up for the gap of 0.14: even chances
    won = sum(judgement.ranking == ((1,), (0,)) for judgement in rude_first)
    assert won / len(rude_first) == pytest.approx(0.5, abs=0.05)


def test_length_tone_and_flattery_mislead() -> None:
    boast, flattery, hedge = "Trust me, it is Ada Wells.", "You are so clever!", "Maybe Tom Reed."
    for field, text, gain in (
        ("length_bias", "Trust me, it is Ada Wells.", 0.2 * 6 / 20),  # six words
        ("confidence_bias", boast, 0.2),
        ("confidence_bias", hedge, -0.2),
        ("flattery_bias", flattery, 0.2),
    ):
        biased = replace(JUST, **{field: 0.2})
        assert biased.utility(PROMPT, text) - JUST.utility(PROMPT, text) == pytest.approx(gain), field
        assert biased.utility(PROMPT, "") == JUST.utility(PROMPT, "")


def test_the_careless_toss_a_coin() -> None:
    careless = replace(JUST, carelessness=1.0)
    assert share(rankings(careless, RIGHT, WRONG), ((0,), (1,))) == pytest.approx(0.5, abs=0.03)
    assert preference(careless, PROMPT, RIGHT, WRONG) == pytest.approx(0.5)


def test_the_ceiling_by_hand() -> None:
    # pairs: sigmoid(1.4) = 0.80218, sigmoid(5.6) = 0.99632, sigmoid(7.0) = 0.99909; their mean
    assert bayes_accuracy([JUST], PROMPT, [WRONG, RIGHT, RUDE, RIGHT]) == pytest.approx(0.93253, abs=1e-4)
    # a second person who blindly tosses a coin: half of (0.80218 + 0.5)
    blind = replace(JUST, name="Blind", carelessness=1.0)
    assert bayes_accuracy([JUST, blind], PROMPT, [RIGHT, RUDE]) == pytest.approx(0.65109, abs=1e-4)
    with pytest.raises(InputError, match="no two different"):
        bayes_accuracy([JUST], PROMPT, [RIGHT, RIGHT])


def test_judgements_depend_on_person_seed_and_prompt_alone() -> None:
    texts = responses(RIGHT, RUDE, WRONG, "")
    assert JUST.judge(PROMPT, texts, seed=1) == JUST.judge(PROMPT, texts, seed=1)
    several = {JUST.judge(PROMPT, texts, seed=seed).display_order for seed in range(20)}
    assert len(several) > 5
    other = replace(JUST, seed=1)
    assert any(other.judge(PROMPT, texts, seed=s) != JUST.judge(PROMPT, texts, seed=s) for s in range(5))


def test_a_judgement_is_complete() -> None:
    judgement = JUST.judge(PROMPT, responses(RIGHT, WRONG), seed=0)
    assert judgement.objective == "overall"
    assert judgement.annotator == "Just"
    assert sorted(judgement.display_order) == [0, 1]
    assert judgement.prompt == PROMPT
    assert judgement.strength is not None
    assert judgement.strength > 0
    with pytest.raises(InputError, match="two responses"):
        JUST.judge(PROMPT, responses(RIGHT), seed=0)


def test_the_crowd_differs_and_its_noise_and_bias_can_be_set() -> None:
    people = crowd(10, seed=0)
    assert len({person.name for person in people}) == 10
    assert len({person.temperature for person in people}) == 10
    assert people == crowd(10, seed=0)
    assert people != crowd(10, seed=1)
    assert any(person.carelessness > 0 for seed in range(5) for person in crowd(10, seed=seed))
    for calm in crowd(12, seed=0, noise=0.0, bias=0.0):
        assert calm.carelessness == 0.0
        assert calm.position_bias == calm.length_bias == calm.flattery_bias == calm.confidence_bias == 0.0
        assert calm.weights["helpful"] == pytest.approx(0.40)
        assert calm.judge(PROMPT, responses(WRONG, RUDE, RIGHT), seed=9).ranking == ((2,), (1,), (0,))
    with pytest.raises(InputError, match="1 to 12"):
        crowd(len(NAMES) + 1, seed=0)


def test_a_person_that_cannot_be_is_an_input_error() -> None:
    for wrong in ({"temperature": 0.0}, {"tie_width": -1.0}, {"carelessness": 1.5}):
        with pytest.raises(InputError, match="annotator Just"):
            replace(JUST, **wrong)


def test_the_worlds_own_people() -> None:
    people = load().annotators(seed=7)
    assert len(people) >= 8
    judgement = people[0].judge(PROMPT, responses(RIGHT, WRONG), seed=0)
    assert sorted(index for group in judgement.ranking for index in group) == [0, 1]
