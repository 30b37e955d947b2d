"""A sample of every format, read: the rankings, demonstrations and prompts that its rows say, worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plaudit.data.formats import Reading, read_prompts
from plaudit.data.inspection import inspect
from plaudit.data.registry import FORMATS
from plaudit.types import InputError, Judgement

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "tests" / "data"
SHARED = ROOT.parent / "shared" / "data"
BEES = "What do bees make?"


def sample(name: str) -> Path:
    (path,) = SAMPLES.glob(f"{name}.*")
    return path


def said(one: Judgement) -> str:
    """`annotator/objective [flags]: best > tied = tied > worst`, by their texts; `?` before unranked ones."""
    ranking = " > ".join(" = ".join(one.responses[i].text for i in group) for group in one.ranking)
    flags = f" [{', '.join(one.flags)}]" if one.flags else ""
    return f"{one.annotator}/{one.objective}{flags}: {ranking or '? ' + ' '.join(r.text for r in one.responses)}"


def judgements(name: str) -> list[Judgement]:
    return list(Reading(sample(name)).judgements())


RANKINGS: dict[str, list[str]] = {
    "hh": [
        "/overall: Honey, from nectar. > Cheese.",
        "/overall: It scatters all light. > It is painted.",
    ],
    "trl": [
        "/overall: Honey, from nectar. > Cheese.",
        "/overall: It scatters all light. > Paint.",
        "/overall: Mars. > Moon.",
    ],
    "ultrafeedback-binarized": ["/overall: Honey, from nectar. > Cheese."],
    "rewardbench": ["/overall: Honey, from nectar. > Cheese."],
    "rewardbench-2": [
        "/overall: Honey, from nectar. > Cheese. = Silk. = Glass.",
        "/overall: Red. = Blue. > Beige.",
    ],
    "openai": ["/overall: Honey, from nectar. > Cheese."],
    "llama-factory": ["/overall: Bees: honey. > Cows.", "/overall: Honey, from nectar. > Cheese."],
    "llama-factory-kto": ["/overall: Honey, from nectar.", "/overall [all_bad]: Cheese."],
    "trl-unpaired": ["/overall: Honey, from nectar. > Cheese. = Silk.", "/overall [all_bad]: The moon."],
    "native": [
        "ann/helpful: Wax and honey. > Honey, from nectar. > Cheese. = Silk.",
        "/overall: Honey, from nectar. > Cheese.",
        "/overall: Honey, from nectar. > Cheese.",
    ],
    # the first person's answers fit one ranking, the second's run in a circle
    "comparisons": [
        "annotator1/overall: Honey, from nectar. > Cheese. = Silk.",
        "annotator2/overall: Honey, from nectar. > Cheese.",
        "annotator2/overall: Cheese. > Silk.",
        "annotator2/overall: Silk. > Honey, from nectar.",
    ],
    "shp": ["/overall: Honey, from nectar. > Cheese. > Silk.", "/overall: Mars. > The moon."],
    "summarize-from-feedback": ["w1/overall: Ten jars of honey. > Bees exist.", "w2/overall: Bridge open. > Bridge."],
    "summarize-from-feedback-axis": ["w1/overall: Ten jars of honey. > Bees exist.", "w2/overall: Bees exist."],
    "webgpt": ["/overall: Honey, from nectar. > Cheese.", "/overall: Mars. = Venus."],
    "helpsteer": ["/overall: Honey, from nectar. > Cheese.", "/overall: Mars. = Venus."],
    "helpsteer3": [
        "annotator1/overall: Honey, from nectar. > Cheese.",
        "annotator2/overall: Honey, from nectar. = Cheese.",
        "annotator3/overall: Cheese. > Honey, from nectar.",
        "/overall: Mars. > Moon.",
    ],
    "pku-saferlhf": [
        "/helpful: Wash it, blade away from you. > Do not.",
        "/harmless: Do not. > Wash it, blade away from you.",
        "/helpful [harmful]: With knives. > With fire.",
        "/harmless [harmful]: With knives. > With fire.",
    ],
    "arena": [
        "j1/overall: Honey, from nectar. > Cheese.",
        "j1/overall [all_bad]: Moon. = Sun.",
        "/overall [all_bad]: Cheese. = Silk.",
    ],
    "arena-texts": ["/overall: Honey, from nectar. > Cheese.", "/overall: Mars. = Venus."],
    "alpaca-farm": [
        "/overall: Bees: honey. > Cows.",
        "judge-model/overall: Honey, from nectar. > Cheese.",
        "/overall: Mars. = Venus.",
    ],
    "pandalm": [
        "annotator1/overall: Bees: honey. > Cows.",
        "annotator2/overall: Bees: honey. = Cows.",
        "annotator3/overall: Cows. > Bees: honey.",
    ],
    "nemo": ["/overall: Honey, from nectar. > Cheese. = Silk."],
    "nectar": ["/overall: Honey, from nectar. > Honey, I think. > Silk."],
    # the overall 10 of the first is the error that its aspects (2 and 1) tell: it was a 1
    "ultrafeedback": ["/overall: Honey, from nectar. > Silk. > Cheese."],
    "lm-human-preferences": [
        "/overall: made honey. > slept.",
        "/overall: made honey. > sang.",
        "/overall: made honey. > left.",
    ],
    "oasst": [
        "/overall: Honey, from nectar. > Cheese.",
        "ann/overall: Mars. > Venus. > Moon.",
        "bob/overall [all_bad]: ? Venus. Mars. Moon.",
    ],
    "oasst-messages": ["/overall: Honey, from nectar. > Cheese."],
    "argilla": [
        "ann/overall: Honey, from nectar. > Cheese. = Silk.",
        "bob/overall: Honey, from nectar. > Silk. > Cheese.",
    ],
    "argilla-columns": [
        "ann/overall: Honey, from nectar. > Cheese.",
        "bob/overall [skip]: Cheese. > Honey, from nectar.",
    ],
    "label-studio": [
        "ann@example.org/overall: Honey, from nectar. > Cheese. > Silk.",
        "7/overall: Honey, from nectar. > Cheese.",
        "7/overall [skip]: Mars. > Moon.",
    ],
    "potato": [
        "ann/overall: Honey, from nectar. > Cheese.",
        "ann/overall: Honey, from nectar. > Wax. = Cheese. > Silk.",
        "bob/overall: Mars. = Venus.",
    ],
}

DEMONSTRATIONS: dict[str, list[tuple[list[str], str]]] = {
    "messages": [(["system: Be brief.", f"user: {BEES}"], "Honey, from nectar.")],
    "sharegpt": [(["system: Be brief.", f"user: {BEES}"], "Honey, from nectar.")],
    "alpaca": [
        (["user: Sum up.\n\nBees make honey."], "Bees: honey."),
        ([f"user: {BEES}"], "Honey, from nectar."),
    ],
    "completion": [([f"user: {BEES}"], "Honey, from nectar."), (["user: Name a planet."], "Mars.")],
    "trl-stepwise": [(["user: What is 2 times 3 plus 1?"], "2 times 3 is 6.\n6 plus 1 is 7.")],
    "question-answer": [(["user: What is 2 times 3?"], "2 times 3 is 6.\n#### 6")],
    "trl-unpaired": [([f"user: {BEES}"], "Honey, from nectar.")],
    "oasst": [
        ([f"user: {BEES}"], "Honey, from nectar."),
        ([f"user: {BEES}", "assistant: Honey, from nectar.", "user: And wax?"], "Wax too."),
        (["user: Name a planet."], "Mars."),
    ],
    "oasst-messages": [
        ([f"user: {BEES}"], "Honey, from nectar."),
        ([f"user: {BEES}", "assistant: Honey, from nectar.", "user: And wax?"], "Wax too."),
    ],
}

PROMPTS = {
    "hh-red-team": ["Say something rude."],
    "prompts": [BEES, "[1, 2, 3]: what comes next?"],
}

NEITHER = ["multiple-choice", "text"]


@pytest.mark.parametrize("name", RANKINGS)
def test_a_sample_says_these_rankings(name: str) -> None:
    assert [said(one) for one in judgements(name)] == RANKINGS[name]


@pytest.mark.parametrize("name", DEMONSTRATIONS)
def test_a_sample_shows_these_answers(name: str) -> None:
    shown = Reading(sample(name)).demonstrations()
    assert [
        ([f"{turn.role}: {turn.content}" for turn in one.prompt.messages], one.response) for one in shown
    ] == DEMONSTRATIONS[name]


@pytest.mark.parametrize("name", PROMPTS)
def test_a_sample_asks_this(name: str) -> None:
    assert [one.messages[-1].content for one in Reading(sample(name)).prompts()] == PROMPTS[name]


@pytest.mark.parametrize("path", sorted(SAMPLES.iterdir()), ids=lambda path: path.stem)
def test_every_sample_is_recognised_and_has_no_bad_row(path: Path) -> None:
    facts = inspect(path).as_dict()
    assert facts["format"] == path.stem.removesuffix("-columns")
    assert (facts["bad"], facts["bad_rows"]) == (0, [])


@pytest.mark.parametrize("name", NEITHER)
def test_what_holds_none_of_it_is_named_and_refused(name: str) -> None:
    assert inspect(sample(name)).as_dict()["holds"] == []
    with pytest.raises(InputError, match="unknown format"):
        read_prompts(sample(name))


def test_every_format_has_a_sample_whose_content_is_tested() -> None:
    tested = {*RANKINGS, *DEMONSTRATIONS, *PROMPTS, *NEITHER}
    assert set(FORMATS) == tested - {"argilla-columns"}
    assert {name for name, one in FORMATS.items() if one.judgements} == set(RANKINGS) - {"argilla-columns"}
    assert {name for name, one in FORMATS.items() if one.demonstrations} == set(DEMONSTRATIONS)


# What goes beyond the order


def test_conversations_keep_their_turns() -> None:
    assert [turn.content for turn in judgements("hh")[1].prompt.messages] == ["Hi", "Hello.", "Why is snow white?"]
    spelled = judgements("llama-factory")[0].prompt.messages
    assert [(turn.role, turn.content) for turn in spelled] == [
        ("system", "Be brief."),
        ("user", "Hi"),
        ("assistant", "Hello."),
        ("user", "Sum up.\n\nBees make honey."),
    ]
    assert [turn.content for turn in judgements("nectar")[0].prompt.messages] == [BEES]
    assert judgements("arena")[2].prompt.messages[0].content == BEES  # from a list of parts
    assert judgements("native")[2].prompt.messages[0].content == "What do they make?\n\nBees make honey."


def test_what_is_to_be_summed_up_is_asked_for() -> None:
    first, second = judgements("summarize-from-feedback")
    post = "SUBREDDIT: r/gardening\nTITLE: Bees\nPOST: Our bees made ten jars of honey.\nTL;DR:"
    assert first.prompt.messages[0].content == post
    assert second.prompt.messages[0].content == "Article:\n\nA bridge opened.\n\nTL;DR:"
    assert judgements("summarize-from-feedback-axis")[0].prompt == first.prompt


@pytest.mark.parametrize(
    ("name", "margins"),
    [
        ("trl", [2.0, None, None]),
        ("webgpt", [1.0, 0.0]),
        ("helpsteer3", [3.0, 0.0, 1.0, 3.0]),
        ("native", [1.5, None, None]),
    ],
)
def test_margins_are_kept(name: str, margins: list[float | None]) -> None:
    assert [one.strength for one in judgements(name)] == margins


@pytest.mark.parametrize(
    ("name", "ratings"),
    [
        ("ultrafeedback-binarized", {"score": (8.5, 3.0)}),
        ("webgpt", {"score": (-0.5, 0.5)}),
        ("shp", {"score": (9.0, 3.0, 2.0)}),
        ("summarize-from-feedback", {"confidence": (None, 7.0)}),
        ("summarize-from-feedback-axis", {"overall": (3.0, 6.0), "accuracy": (7.0, 7.0), "coverage": (2.0, None)}),
        (
            "helpsteer",
            {
                "helpfulness": (1.0, 4.0),
                "correctness": (0.0, 4.0),
                "coherence": (4.0, 4.0),
                "complexity": (1.0, 1.0),
                "verbosity": (2.0, 2.0),
            },
        ),
        ("pku-saferlhf", {"safe": (1.0, 1.0), "severity": (0.0, 0.0)}),
        (
            "ultrafeedback",
            {"helpfulness": (2.0, 5.0, 1.0), "truthfulness": (1.0, None, 1.0), "overall_score": (1.0, 9.0, 2.0)},
        ),
        ("oasst", {"quality": (0.25, 1.0)}),
        ("oasst-messages", {"quality": (0.5, 0.5)}),
    ],
)
def test_ratings_are_kept_by_aspect(name: str, ratings: dict[str, Any]) -> None:
    assert judgements(name)[0].ratings == ratings


def test_the_chance_that_an_output_is_preferred_is_kept() -> None:
    assert [one.ratings for one in judgements("alpaca-farm")] == [
        {},
        {"preferred": (0.75, 0.25)},
        {"preferred": (0.5, 0.5)},
    ]


@pytest.mark.parametrize(
    ("name", "models"),
    [
        ("rewardbench", ["careful", "hasty"]),
        ("arena", ["m1", "m2"]),
        ("pandalm", ["m-1", "m-2"]),
        ("nectar", ["m1", "m2", "m3"]),
        ("ultrafeedback", ["m1", "m2", "m3"]),
        ("summarize-from-feedback", ["sup1", "ref"]),
    ],
)
def test_names_of_models_are_kept(name: str, models: list[str]) -> None:
    assert [response.checkpoint for response in judgements(name)[0].responses] == models


def test_reasons_and_circumstances_are_kept() -> None:
    assert judgements("helpsteer3")[0].rationale == "The first is right.\nRight.\nWrong."
    assert judgements("summarize-from-feedback")[0].rationale == "Too little."
    first = judgements("label-studio")[0]
    assert (first.seconds, first.created) == (12.5, "2025-01-01T00:00:00Z")
