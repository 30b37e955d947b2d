"""Rows to rankings, demonstrations and prompts: every form, every refusal, what is left out, what is repaired."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from plaudit.data.conversation import spelled_list
from plaudit.data.formats import (
    clean_text,
    content_hash,
    prompt_of,
    read_demonstrations,
    read_judgements,
    read_prompts,
)
from plaudit.types import InputError, Judgement, Message

SHARED = Path(__file__).parents[3] / "shared" / "data"


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def only(path: Path, *rows: object, **options: Any) -> Judgement:
    (judgement,) = read_judgements(write(path, *rows), **options).items
    return judgement


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def hh(*turns: str) -> str:
    return "".join(f"\n\n{('Human', 'Assistant')[i % 2]}: {turn}" for i, turn in enumerate(turns))


# Prompts and hashes


def test_the_id_of_a_prompt_is_drawn_from_its_messages_alone() -> None:
    text = prompt_of("Why?")
    assert text.messages == (Message(role="user", content="Why?"),)
    assert text == prompt_of([Message(role="user", content="Why?")]) == prompt_of([user("Why?")])
    assert prompt_of("Why?", tags=("hard",)).id == text.id
    assert len({text.id, prompt_of("Why").id, prompt_of([user("Why?"), assistant(""), user("")]).id}) == 3
    # worked out apart: sha256 of [["user", "Why?"]]
    assert text.id == "d60ffbcae18616ca"


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([user("a"), assistant("b")], "ends with a user's turn"),
        ([], "expected a text or a list of messages"),
        (
            [{"role": "human", "content": "a"}],
            "message 1: the role is 'human', expected one of system, user, assistant",
        ),
        ([user("a"), {"role": "user", "content": 3}], "message 2: the content is 3"),
        (["a"], "message 1: expected"),
    ],
)
def test_what_is_no_prompt_is_refused(messages: Any, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        prompt_of(messages)


def test_what_ids_are_drawn_from_is_plain_json() -> None:
    for value in ([], ["a"], ['é\u2028"\\', ["b", []], [["c", "d"]]]):
        assert spelled_list(value) == json.dumps(value)


def test_the_hash_of_a_file_is_of_its_bytes_and_of_a_folder_of_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert content_hash(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    before = content_hash(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert content_hash(tmp_path) != before
    assert content_hash({"x": 1, "y": 2}) == content_hash({"y": 2, "x": 1}) != content_hash({"x": 1, "y": 3})


def test_control_characters_go_and_tabs_and_newlines_stay() -> None:
    assert clean_text("a\x00\x04\x06b\tc\nd\r\n\x1f\x7fé\ud800") == "ab\tc\nd\n\x7fé"


# HH


def test_hh_transcripts_become_messages(file: Path) -> None:
    row = {
        "chosen": hh("Hi", "Hello.", "Why?", "Because."),
        "rejected": hh("Hi", "Hello.", "Why?", " No. "),
        "subset": "base",
    }
    judgement = only(file, row, objective="helpful")
    assert [(m.role, m.content) for m in judgement.prompt.messages] == [
        ("user", "Hi"),
        ("assistant", "Hello."),
        ("user", "Why?"),
    ]
    assert [r.text for r in judgement.responses] == ["Because.", "No."]
    assert judgement.ranking == ((0,), (1,))
    assert (judgement.objective, judgement.strength, judgement.prompt.tags) == ("helpful", None, ("base",))


def test_hh_rows_without_a_usable_pair_are_left_out_and_counted(file: Path) -> None:
    good = {"chosen": hh("Q", "A"), "rejected": hh("Q", "B")}
    rows = [
        good,
        {"chosen": hh("Q", "A", "R", "C"), "rejected": hh("Q", "X", "R", "D")},
        {"chosen": hh("Q", "A", "R"), "rejected": hh("Q", "A", "S")},
        {"chosen": hh("Q", ""), "rejected": hh("Q", "B")},
        {"chosen": hh("Q", "same"), "rejected": hh("Q", "same")},
        {"chosen": hh("", "A"), "rejected": hh("", "B")},
        good,
        {**good, "subset": "other"},
    ]
    loaded = read_judgements(write(file, *rows))
    assert len(loaded.items) == 1
    assert loaded.left_out == {
        "earlier turns differ": 1,
        "does not end with an answer": 1,
        "empty response": 1,
        "all responses equal": 1,
        "empty prompt": 1,
        "duplicate ranking": 2,
    }
    assert loaded.share_left_out == 7 / 8


def test_an_hh_file_with_another_kind_of_row_names_file_and_line(file: Path) -> None:
    write(file, {"chosen": hh("Q", "A"), "rejected": hh("Q", "B")}, {"chosen": "A", "rejected": "B"})
    with pytest.raises(InputError, match=r"rows\.jsonl:2: chosen: expected a transcript that begins with"):
        read_judgements(file)


# TRL


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Q", "chosen": "good one", "rejected": "bad one"},
        {"prompt": [user("Q")], "chosen": [assistant("good one")], "rejected": [assistant("bad one")]},
        {"chosen": [user("Q"), assistant("good one")], "rejected": [user("Q"), assistant("bad one")]},
        {"prompt": "Q", "chosen": [user("Q"), assistant("good one")], "rejected": [user("Q"), assistant("bad one")]},
        {"chosen": "Q good one", "rejected": "Q bad one", "prompt": None},
    ],
    ids=["texts", "messages", "implicit", "repeated", "implicit text"],
)
def test_every_form_of_a_trl_pair_means_the_same(file: Path, row: dict[str, Any]) -> None:
    judgement = only(file, {**row, "margin": 1.5})
    assert judgement.prompt == prompt_of("Q")
    assert [r.text for r in judgement.responses] == ["good one", "bad one"]
    assert judgement.ranking == ((0,), (1,))
    assert judgement.strength == 1.5


def test_an_implicit_text_prompt_ends_at_a_whole_word(file: Path) -> None:
    judgement = only(file, {"chosen": "The sky is blue.", "rejected": "The sky is black."})
    assert judgement.prompt == prompt_of("The sky is")
    assert [r.text for r in judgement.responses] == ["blue.", "black."]


def test_implicit_pairs_that_part_earlier_are_left_out(file: Path) -> None:
    rows = [
        {"chosen": [user("Q"), assistant("a"), user("R"), assistant("b")], "rejected": [user("Q"), assistant("c")]},
        {"chosen": [assistant("a")], "rejected": [assistant("c")]},
        {"chosen": [user("Q"), assistant("a")], "rejected": [user("Q"), assistant("c")]},
    ]
    assert read_judgements(write(file, *rows)).left_out == {
        "earlier turns differ": 1,
        "the answer follows no question": 1,
    }


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"prompt": "Q", "chosen": "A"}, "unknown format: the fields are chosen, prompt"),
        ({"prompt": "Q", "chosen": "A", "rejected": "B", "margin": "big"}, "margin: expected a number, found 'big'"),
        ({"prompt": "Q", "chosen": "A", "rejected": [assistant("B")]}, "chosen and rejected are of two kinds"),
        ({"prompt": "Q", "chosen": 1, "rejected": 2}, "chosen: expected a text or a list of messages, found 1"),
        ({"prompt": 7, "chosen": "A", "rejected": "B"}, "prompt: expected a text or a list of messages, found 7"),
    ],
)
def test_a_malformed_pair_is_refused(file: Path, row: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=rf"rows\.jsonl:1.*{complaint}"):
        read_judgements(write(file, row))


# K-wise


@pytest.mark.parametrize(
    ("responses", "ranked", "groups"),
    [
        (["a", "b", "c", "d"], {"ranking": [[2], [0, 1], [3]]}, ((2,), (0, 1), (3,))),
        (["a", "b", "c"], {"ranking": [2, 0, 1]}, ((2,), (0,), (1,))),
        (["a", "b", "c"], {"ranking": ["C", ["A", "B"]]}, ((2,), (0, 1))),
        (["a", "b", "c", "d"], {"ranks": [2, 2, 1, 3]}, ((2,), (0, 1), (3,))),
        ([{"text": "a", "rank": 1}, {"text": "b", "rank": 0}], {}, ((1,), (0,))),
        ([{"text": "a", "score": 0.5}, {"text": "b", "score": 3}, {"text": "c", "score": 0.5}], {}, ((1,), (0, 2))),
    ],
)
def test_every_spelling_of_a_ranking_gives_groups_from_best_to_worst(
    file: Path, responses: Any, ranked: dict[str, Any], groups: Any
) -> None:
    row = {"prompt": "Q", "responses": responses, **ranked, "annotator": "ann", "strength": 2, "flags": ["unsure"]}
    judgement = only(file, row, objective="kind")
    assert judgement.ranking == groups
    assert (judgement.annotator, judgement.strength, judgement.flags, judgement.objective) == (
        "ann",
        2.0,
        ("unsure",),
        "kind",
    )
    assert only(file, {**row, "objective": "harmless"}, objective="kind").objective == "harmless"


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"responses": ["a", "b"], "ranking": [[0]]}, r"names responses \[0\], expected each of 0..1 once"),
        ({"responses": ["a", "b"], "ranking": [[0], [1], [1]]}, r"names responses \[0, 1, 1\]"),
        ({"responses": ["a", "b"], "ranking": [[1], [2]]}, r"names responses \[1, 2\]"),
        ({"responses": ["a", "b"], "ranking": [[1], ["0"]]}, "ranking: expected groups of response numbers"),
        ({"responses": ["a", "b"], "ranking": ["B", "C"]}, r"names responses \[1, 2\]"),
        ({"responses": ["a", "b"], "ranking": "ab"}, "ranking: expected groups of response numbers"),
        ({"responses": ["a", "b"], "ranks": [1]}, "ranks: expected 2 numbers, one per response"),
        ({"responses": ["a", "b"], "ranks": [1, True]}, "ranks: expected a number, found True"),
        ({"responses": ["a", "b"]}, "there is no ranking"),
        ({"responses": "ab", "ranks": [1, 2]}, "responses: expected a list of texts"),
        ({"responses": ["a", 4], "ranks": [1, 2]}, "responses, item 1: expected a text"),
        ({"responses": ["a", "b"], "ranks": [1, 2], "flags": ["boring"]}, "flags: expected some of skip, all_bad"),
    ],
)
def test_a_malformed_ranking_is_refused(file: Path, row: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=rf"rows\.jsonl:1: .*{complaint}"):
        read_judgements(write(file, {"prompt": "Q", **row}))


def test_useless_rankings_are_left_out_and_counted(file: Path) -> None:
    pair = {"prompt": "Q", "responses": ["a", "b"], "ranking": [[0], [1]], "annotator": "ann"}
    rows = [
        {**pair, "flags": ["skip"]},  # first, and yet it does not stand for those that follow
        pair,
        {**pair, "responses": ["b", "a"], "ranking": [[1], [0]]},  # the same said again, shown the other way round
        {**pair, "annotator": "bob"},
        {**pair, "ranking": [[1], [0]]},
        {**pair, "ranking": [[0, 1]]},
        {**pair, "responses": ["a", " "]},
        {**pair, "responses": ["a"], "ranking": [[0]]},
        {"prompt": "Q", "responses": ["a", "b"], "flags": ["all_bad"]},
    ]
    loaded = read_judgements(write(file, *rows))
    assert [(j.annotator, j.ranking) for j in loaded.items] == [
        ("ann", ((0,), (1,))),
        ("bob", ((0,), (1,))),
        ("ann", ((1,), (0,))),
    ]
    assert loaded.left_out == {
        "duplicate ranking": 1,
        "fully tied": 1,
        "empty response": 1,
        "fewer than two responses": 1,
        "skipped by the annotator": 1,
        "not ranked": 1,
    }


def test_one_response_everywhere_is_fatal(file: Path) -> None:
    row = {"responses": ["a"], "ranking": [[0]]}
    with pytest.raises(InputError, match="every row has fewer than two responses"):
        read_judgements(write(file, {"prompt": "Q", **row}, {"prompt": "R", **row}))


def test_nothing_usable_is_fatal_and_says_why(file: Path) -> None:
    with pytest.raises(InputError, match=r"no usable ranking \(1 fully tied\)"):
        read_judgements(write(file, {"prompt": "Q", "responses": ["a", "b"], "ranks": [1, 1]}))
    with pytest.raises(InputError, match="the file has no rows"):
        read_judgements(write(file))


def test_ids_depend_on_what_was_said_and_not_on_the_row(file: Path) -> None:
    first = {"prompt": "Q", "responses": ["a", "b"], "ranking": [[0], [1]]}
    turned = {"prompt": "Q", "responses": ["a", "b"], "ranking": [[1], [0]]}
    one, two = read_judgements(write(file, first, turned)).items
    again_two, again_one = read_judgements(write(file, turned, {**first, "source": "x"})).items
    assert (one.id, two.id) == (again_one.id, again_two.id)
    assert one.id != two.id


def test_repairs_are_counted_by_row(file: Path) -> None:
    rows = [{"prompt": f"Q{i}", "chosen": "a\x04b\x06", "rejected": "b"} for i in range(2)]
    loaded = read_judgements(write(file, *rows, {"prompt": "Q", "chosen": "a", "rejected": "b"}))
    assert loaded.repaired == {"control characters removed": 2}
    assert loaded.items[0].responses[0].text == "ab"


# Demonstrations and prompts


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [user("Q"), assistant("A")]},
        {"prompt": "Q", "completion": "A"},
        {"prompt": [user("Q")], "completion": [assistant("A")]},
        {"prompt": "Q", "response": "A"},
        {"prompt": {"id": "x", "messages": [user("Q")], "tags": []}, "response": "A", "source": ""},
        {"instruction": "Q", "input": "", "output": "A"},
    ],
)
def test_every_form_of_a_demonstration_means_the_same(file: Path, row: dict[str, Any]) -> None:
    (one,) = read_demonstrations(write(file, row)).items
    assert (one.prompt, one.response) == (prompt_of("Q"), "A")


def test_an_instruction_with_an_input_has_both(file: Path) -> None:
    (one,) = read_demonstrations(write(file, {"instruction": "Add.", "input": "1 2", "output": "3"})).items
    assert one.prompt == prompt_of("Add.\n\n1 2")


def test_useless_demonstrations_are_left_out_and_others_refused(file: Path) -> None:
    rows = [{"prompt": "Q", "completion": text} for text in ("A", "A", " ", "B")]
    loaded = read_demonstrations(write(file, *rows, {"prompt": "", "completion": "A"}))
    assert [one.response for one in loaded.items] == ["A", "B"]
    assert loaded.left_out == {"duplicate demonstration": 1, "empty response": 1, "empty prompt": 1}
    with pytest.raises(InputError, match=r"rows\.jsonl:1: expected a demonstration, found the fields prompt"):
        read_demonstrations(write(file, {"prompt": "Q"}))


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Q"},
        {"messages": [user("Q")]},
        {"messages": [user("Q"), assistant("A")]},
        {"prompt": [user("Q")], "response": {"text": "A", "checkpoint": "sft"}},
        {"turns": ["Q", "R"]},
        {"instruction": "Q"},
        {"chosen": hh("Q", "A"), "rejected": hh("Q", "B")},
        {"chosen": [user("Q"), assistant("A")], "rejected": [user("Q"), assistant("B")]},
        {"prompt": "Q", "responses": ["a", "b"]},
    ],
)
def test_prompts_are_taken_from_whatever_has_one(file: Path, row: dict[str, Any]) -> None:
    loaded = read_prompts(write(file, row, row))
    assert loaded.items == (prompt_of("Q"),)
    assert (loaded.left_out, loaded.repaired) == ({}, {"repeated prompt merged": 1})


# Whole


@pytest.mark.skipif(not SHARED.exists(), reason="the shared data sets are not here")
@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("hh/helpful.train.jsonl.gz", 2779),
        ("hh/harmless.train.jsonl.gz", 1336),
        ("prefs/ultrafeedback_short.train.jsonl.gz", 556),
        ("kwise/oasst_human_rank.jsonl.gz", 212),
    ],
)
def test_real_preferences_load_whole(name: str, rows: int) -> None:
    loaded = read_judgements(SHARED / name)
    assert (len(loaded.items), loaded.left_out) == (rows, {})
    assert len({one.id for one in loaded.items}) == rows


def test_reading_needs_no_torch() -> None:
    code = "import sys, plaudit.data.formats; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
