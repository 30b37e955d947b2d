"""Which format a file is in, rows that are read together, bad rows, and real files whole."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from plaudit.data.formats import Reading, read_judgements
from plaudit.data.inspection import inspect
from plaudit.data.registry import format_named, recognise
from plaudit.types import InputError, Judgement

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "tests" / "data"
SHARED = ROOT.parent / "shared" / "data"


def texts(one: Judgement) -> list[list[str]]:
    """The tie groups, best first, as texts."""
    return [[one.responses[index].text for index in group] for group in one.ranking]


# Which format it is


@pytest.mark.parametrize(
    ("fields", "name", "other"),
    [
        ({"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}, "hh", "trl"),
        ({"prompt": "a", "completion": "b", "label": True}, "trl-unpaired", "completion"),
        ({"prompt": "a", "chosen": ["b"], "rejected": ["c"]}, "rewardbench-2", "trl"),
        ({"prompt": "a", "response": "b", "helpfulness": 1}, "helpsteer", "completion"),
        ({"instruction": "a", "output": "b", "kto_tag": True}, "llama-factory-kto", "alpaca"),
        ({"messages": [], "responses": ["a", "b"]}, "native", "messages"),
        ({"prompt": "a", "responses": ["a", "b"], "ranking": "A,B"}, "potato", "native"),
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
    assert found.others == (("trl", "rewardbench accounts for chosen_model and rejected_model too"),)


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
    assert [texts(one) for one in reading.judgements()] == [[["b"], ["a"]]]
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
    (source,) = SAMPLES.glob(f"{name}.*")
    text = source.read_text()
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
