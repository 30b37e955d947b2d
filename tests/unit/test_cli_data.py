"""`plaudit data`: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from plaudit.cli import app

SAMPLES = Path(__file__).parents[1] / "data"


def plaudit(*words: object) -> Result:
    return CliRunner().invoke(app, ["data", *map(str, words)])


@pytest.fixture
def spoilt(tmp_path: Path) -> Path:
    file = tmp_path / "spoilt.jsonl"
    file.write_text(
        '{"prompt": "Q", "chosen": "a", "rejected": "b"}\n{"prompt": "Q", "chosen": 1, "rejected": "b"}\n{\n'
    )
    return file


def test_inspect_as_json() -> None:
    done = plaudit("inspect", SAMPLES / "ultrafeedback.jsonl", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {
        "file": str(SAMPLES / "ultrafeedback.jsonl"),
        "format": "ultrafeedback",
        "why": "it has instruction and completions",
        "others": [],
        "is": "completions with ratings by aspect and an overall score (UltraFeedback)",
        "holds": ["judgements", "prompts"],
        "rows": 1,
        "bad": 0,
        "bad_rows": [],
        "left_out": {},
        "repaired": {},
        "prompts": 1,
        "judgements": 1,
        "ties": 0,
        "responses_per_prompt": {"3": 1},
        "annotators": 0,
        "objectives": {"overall": 1},
        "aspects": {"helpfulness": 1, "truthfulness": 1, "overall_score": 1},
        "flags": {},
        "margins": 0,
    }


def test_inspect_for_people() -> None:
    done = plaudit("inspect", SAMPLES / "arena.jsonl")
    assert done.stdout.splitlines() == [
        f"{SAMPLES / 'arena.jsonl'}: arena, battles of two models in conversations (Chatbot Arena)",
        "  because it has conversation_a, conversation_b and winner",
        "  4 rows, 0 bad",
        "  3 judgements",
        "  2 different prompts",
        "  responses: 3 of 2; with ties: 2; with a margin: 0",
        "  annotators named: 1",
        "  objectives: overall (3)",
        "  flags: all_bad (2)",
        "  left out: earlier turns differ (1)",
    ]


def test_inspect_says_what_holds_nothing_of_ours() -> None:
    assert "  it holds neither rankings, demonstrations nor prompts" in plaudit("inspect", SAMPLES / "text.txt").stdout


def test_inspect_counts_bad_rows_and_goes_on(spoilt: Path) -> None:
    facts = json.loads(plaudit("inspect", spoilt, "--json").stdout)
    assert (facts["rows"], facts["bad"], facts["judgements"]) == (3, 2, 1)
    assert [row.partition(": ")[0] for row in facts["bad_rows"]] == [f"{spoilt}:2", f"{spoilt}:3"]


def test_what_a_file_says_has_no_power_over_the_terminal(tmp_path: Path) -> None:
    """Keys, names of aspects, tags and what an error quotes: shown, or taken out where a row is read."""
    hostile = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e"
    native = {
        "id": "j1",
        "prompt": {"id": "p1", "messages": [{"role": "user", "content": "Q"}]},
        "responses": [{"text": "A"}, {"text": "B"}],
        "ranking": [[0], [1]],
        "objective": hostile,
        "ratings": {hostile: [1.0, 2.0]},
    }
    rows = {"native": native, "unknown": {hostile: 1}, "field": native | {hostile: 1}, "name": native}
    for name, row in rows.items():
        file = tmp_path / ("\x1b[2J.jsonl" if name == "name" else f"{name}.jsonl")
        file.write_text(json.dumps(row) + "\n")
        for words in (("inspect", file), ("inspect", file, "--json"), ("validate", file)):
            done = plaudit(*words)
            assert all(sign.isprintable() for sign in done.output.replace("\n", "")), done.output
    assert "aspects: [2J]0;owned<U+009B>31m<U+202E> (1)" in plaudit("inspect", tmp_path / "native.jsonl").stdout
    said = json.loads(plaudit("inspect", tmp_path / "native.jsonl", "--json").stdout)
    assert list(said["aspects"]) == ["[2J]0;owned\x9b31m\u202e"]


def test_validate_names_bad_rows_and_ends_with_2(spoilt: Path) -> None:
    done = plaudit("validate", spoilt)
    assert done.exit_code == 2
    assert done.stderr.splitlines()[0].startswith(f"{spoilt}:2: chosen: expected a text or a list of messages, found 1")
    assert done.stderr.splitlines()[-1] == f"error: {spoilt}: 2 of 3 rows are malformed"
    done = plaudit("validate", SAMPLES / "hh.jsonl")
    assert (done.exit_code, done.stdout) == (0, f"{SAMPLES / 'hh.jsonl'}: 2 rows, none malformed\n")


def test_many_bad_rows_are_counted_and_not_all_shown(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"prompt": "Q", "chosen": "a", "rejected": "b"}\n' + "x\n" * 1005)
    lines = plaudit("validate", file).stderr.splitlines()
    assert len(lines) == 1002
    assert lines[1000:] == ["and 5 more", f"error: {file}: 1005 of 1006 rows are malformed"]
    assert len(json.loads(plaudit("inspect", file, "--json").stdout)["bad_rows"]) == 20


def test_convert_says_what_was_lost(tmp_path: Path) -> None:
    source, out = SAMPLES / "nemo.jsonl", tmp_path / "out.csv"
    done = plaudit("convert", source, out, "--to", "trl-standard")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        f"{source} (nemo): 1 rows, 1 judgements",
        f"{out} (trl-standard): 2 rows",
        "lost: ties within a ranking (1), rankings of three or more, kept as pairs (1)",
    ]
    assert out.read_text() == (
        "prompt,chosen,rejected,margin,annotator,subset\n"
        'What do bees make?,"Honey, from nectar.",Cheese.,,,\n'
        'What do bees make?,"Honey, from nectar.",Silk.,,,\n'
    )
    again = plaudit("convert", source, out, "--to", "native")
    assert again.exit_code == 2
    assert "exists already and is left as it is" in again.stderr
    assert "lost: nothing" in plaudit("convert", source, out, "--to", "native", "--force").stdout


def test_convert_stops_at_a_bad_row_or_passes_over_it(spoilt: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    done = plaudit("convert", spoilt, out, "--to", "native")
    assert (done.exit_code, out.exists()) == (2, False)
    assert done.stderr.startswith(f"error: {spoilt}:2: chosen: expected")
    done = plaudit("convert", spoilt, out, "--to", "native", "--skip-bad")
    assert done.exit_code == 0
    assert "bad rows left out: malformed (2)" in done.stdout
    assert f"{spoilt}:3: malformed line" in done.stderr
    assert len(out.read_text().splitlines()) == 1


def test_formats_lists_both_directions() -> None:
    read, written = plaudit("formats").stdout.split("written:")
    assert "  pku-saferlhf " in read
    assert "  trl-implicit " in written
    assert "  trl-implicit " not in read


@pytest.mark.parametrize("verb", ["inspect", "validate"])
def test_a_missing_file_or_format_is_named(verb: str) -> None:
    assert "error: none.jsonl: no such file" in plaudit(verb, "none.jsonl").stderr
    done = plaudit(verb, SAMPLES / "hh.jsonl", "--format", "hhh")
    assert (done.exit_code, done.stderr) == (2, "error: there is no format 'hhh'; did you mean hh?\n")
