"""A sample of every format, read: the rankings, demonstrations and prompts that its rows say, worked out by hand."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from plaudit.data.formats import Reading, read_judgements, read_prompts
from plaudit.data.inspection import inspect
from plaudit.data.registry import FORMATS, format_named, recognise
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


# Which format it is


@pytest.mark.parametrize(
    ("fields", "name", "other"),
    [
        ({"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}, "hh", "trl"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "trl", "prompts"),
        ({"prompt": "a", "chosen": ["b"], "rejected": ["c"]}, "rewardbench-2", "trl"),
        ({"prompt": "a", "response": "b", "helpfulness": 1}, "helpsteer", "completion"),
        ({"instruction": "a", "output": "b", "kto_tag": True}, "llama-factory-kto", "alpaca"),
        ({"messages": [], "prompt": "a", "prompt_id": "x"}, "messages", "prompts"),
        ({"prompt": "a", "responses": ["a", "b"], "ranking": "A,B"}, "potato", "native"),
        ({"prompt": "a", "responses": ["a", "b"], "ranking": [[0], [1]]}, "native", "prompts"),
    ],
)
def test_the_format_that_accounts_for_most_goes_first_and_the_others_are_named(
    fields: dict[str, Any], name: str, other: str
) -> None:
    found = recognise(fields)
    assert found is not None
    assert found.format.name == name
    assert other in dict(found.others)
    assert name in dict(found.others)[other]


def test_what_gave_way_is_told_why() -> None:
    found = recognise({"prompt": "a", "chosen": "b", "rejected": "c", "chosen_model": "m", "rejected_model": "n"})
    assert found is not None
    assert found.why == "it has prompt, chosen, rejected, chosen_model and rejected_model"
    assert found.others == (
        ("trl", "rewardbench accounts for chosen_model and rejected_model too"),
        ("prompts", "rewardbench accounts for chosen, rejected, chosen_model and rejected_model too"),
    )


def test_a_named_format_is_taken_at_its_word(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        json.dumps({"chosen": "\n\nHuman: a b\n\nAssistant: b", "rejected": "\n\nHuman: a b\n\nAssistant: c"})
    )
    (one,) = read_judgements(path, format="trl").items
    assert one.prompt.messages[0].content == "Human: a b\n\nAssistant:"
    with pytest.raises(InputError, match="there is no format 'trll'; did you mean trl"):
        format_named("trll")
    with pytest.raises(InputError, match="the format alpaca holds no judgements"):
        read_judgements(path, format="alpaca")


# Rows that belong together, and rows that are bad


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_bad_row_spoils_none_of_those_it_would_be_read_with(tmp_path: Path) -> None:
    row = {"prompt": "Q", "response": "a", "helpfulness": 1}
    path = lines(tmp_path / "a.jsonl", row, {**row, "helpfulness": "high"}, {**row, "response": "b", "helpfulness": 2})
    reading = Reading(path, skip_bad=True)
    assert [said(one) for one in reading.judgements()] == ["/overall: b > a"]
    assert (reading.rows, reading.bad) == (3, 1)
    assert str(reading.bad_rows[0]) == f"{path}:2: helpfulness: expected a number, found 'high'"
    with pytest.raises(InputError, match=r"a\.jsonl:2: helpfulness"):
        list(Reading(path).judgements())


def test_no_more_rows_are_read_as_one_than_memory_allows(tmp_path: Path) -> None:
    rows = [{"prompt": "Q", "completion": str(number), "label": number % 2 == 0} for number in range(150)]
    found = list(Reading(lines(tmp_path / "a.jsonl", *rows)).judgements())
    assert [len(one.responses) for one in found] == [64, 64, 22]


@pytest.mark.parametrize(
    ("name", "changes", "complaint"),
    [
        ("arena", {"winner": "model_c"}, "winner: expected model_a or model_b or tie .*, found 'model_c'"),
        ("pku-saferlhf", {"better_response_id": 2}, "better_response_id: expected 0 or 1, found 2"),
        ("pku-saferlhf", {"is_response_0_safe": "yes"}, "is_response_0_safe: expected true or false, found 'yes'"),
        ("pandalm", {"annotator2": None}, None),
        ("pandalm", {"annotator2": 3}, "annotator2: expected 0 or 1 or 2, found 3"),
        ("nemo", {"completions": [{"rank": "first", "completion": []}]}, "completions, item 1: completion: expected"),
        ("nectar", {"answers": [{"answer": 1, "rank": 1}]}, "answers, item 1: answer: expected a text, found 1"),
        ("nectar", {"answers": ["a"]}, "answers, item 1: expected an object, found 'a'"),
        ("webgpt", {"score_0": None}, "score_0: expected a number, found no such field"),
        ("alpaca-farm", {"preference": 3}, "preference: expected a number from 1 to 2, or 0 for a tie, found 3"),
        ("summarize-from-feedback", {"summaries": []}, "summaries: expected two summaries"),
        ("lm-human-preferences", {"best": 4}, "best: expected 0 or 1 or 2 or 3, found 4"),
        ("ultrafeedback", {"completions": {}}, r"completions: expected a list, found \{\}"),
        ("shp", {"labels": "A"}, "labels: expected 0 or 1, found 'A'"),
        ("potato", {"selection": "C"}, "selection: expected A, B or tie, of two responses, found 'C'"),
        ("openai", {"input": "Q"}, "input: expected an object, found 'Q'"),
        ("comparisons", {"comparisons": [{"a": 0, "b": 9, "labels": []}]}, "comparisons, item 1: b: expected 0 or 1"),
        ("rewardbench-2", {"rejected": "B"}, "rejected: expected a list, found 'B'"),
    ],
)
def test_a_bad_row_is_told_by_line_field_expected_and_found(
    tmp_path: Path, name: str, changes: dict[str, Any], complaint: str | None
) -> None:
    text = sample(name).read_text()
    row = json.loads(text)[0] if text.startswith("[") else json.loads(text.partition("\n")[0])
    path = lines(tmp_path / "a.jsonl", row, {**row, **changes})
    if complaint is None:
        assert len(list(Reading(path, format=name).judgements())) == 5
        return
    with pytest.raises(InputError, match=rf"a\.jsonl:2: {complaint}"):
        list(Reading(path, format=name).judgements())


# Real files, whole

COUNTS = {
    "hh/helpful.train.jsonl.gz": ("hh", 2779),
    "hh/harmless.train.jsonl.gz": ("hh", 1336),
    "prefs/ultrafeedback_short.train.jsonl.gz": ("trl", 556),
    "prefs/pandalm_3annotators.jsonl.gz": ("pandalm", 999),
    "kwise/pandalm_human_k.jsonl.gz": ("comparisons", 159),
    "kwise/oasst_human_rank.jsonl.gz": ("native", 212),
    "kwise/qa_feedback_k4.jsonl.gz": ("native", 500),
    "kwise/alpacaeval_gpt4.train.jsonl.gz": ("native", 665),
    "sft/alpaca5k.train.jsonl.gz": ("alpaca", 4450),
    "sft/human_written.jsonl.gz": ("messages", 608),
    "prompts/hh_first_turn.train.jsonl.gz": ("prompts", 6771),
    "prompts/vicuna80.jsonl.gz": ("prompts", 80),
    "prompts/xstest.jsonl.gz": ("prompts", 450),
    "prompts/simple_safety_tests.jsonl.gz": ("prompts", 100),
    "capability/gsm8k.train.jsonl.gz": ("question-answer", 7473),
    "capability/arc-easy.jsonl.gz": ("multiple-choice", 2376),
    "capability/openbookqa.jsonl.gz": ("multiple-choice", 500),
    "capability/commonsenseqa.jsonl.gz": ("multiple-choice", 1221),
    "capability/wikitext2.valid.txt.gz": ("text", 3760),
}


@pytest.mark.skipif(not SHARED.exists(), reason="the shared data sets are not here")
@pytest.mark.parametrize("name", COUNTS)
def test_real_files_are_recognised_and_loaded_whole(name: str) -> None:
    facts = inspect(SHARED / name).as_dict()
    assert (facts["format"], facts["rows"], facts["bad"], facts["left_out"]) == (*COUNTS[name], 0, {})


@pytest.mark.skipif(not SHARED.exists(), reason="the shared data sets are not here")
def test_no_real_file_is_forgotten() -> None:
    readme = (SHARED / "README.md").read_text(encoding="utf-8")
    for path in SHARED.glob("*/*.gz"):
        name = path.relative_to(SHARED).as_posix()
        assert f"| {name} | {COUNTS[name][1]:,} |" in readme, name


@pytest.mark.skipif(not SHARED.exists(), reason="the shared data sets are not here")
def test_three_people_are_three_judgements_of_one_row() -> None:
    with gzip.open(SHARED / "prefs" / "pandalm_3annotators.jsonl.gz", "rt") as rows:
        labels = [row[f"annotator{n}"] for row in map(json.loads, rows) for n in (1, 2, 3)]
    found = list(Reading(SHARED / "prefs" / "pandalm_3annotators.jsonl.gz").judgements())
    assert [{((0, 1),): 0, ((0,), (1,)): 1, ((1,), (0,)): 2}[one.ranking] for one in found] == labels
