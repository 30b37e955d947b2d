"""Files to rows: what holds them, what is malformed, and names of the hub."""

from __future__ import annotations

import gzip
import json
import sys
import tracemalloc
import types
from pathlib import Path
from typing import Any

import pytest

from plaudit.data.cells import cell_of_value, text_of_cell, value_of_cell
from plaudit.data.formats import Reading, prompt_of, read_judgements, read_prompts, read_rows
from plaudit.data.writing import write_rows
from plaudit.types import InputError


def test_the_container_of_the_rows_does_not_matter(tmp_path: Path) -> None:
    rows = [
        {"prompt": "R", "chosen": "A", "rejected": "B", "margin": 1.0},
        {"prompt": "Q\u2028", "chosen": "A", "rejected": "B"},
    ]
    lines = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "a.jsonl").write_text(lines, encoding="utf-8")
    expected = read_judgements(tmp_path / "a.jsonl")
    (tmp_path / "b.json").write_text(json.dumps(rows), encoding="utf-8")
    (tmp_path / "c.json").write_text("\ufeff" + lines, encoding="utf-8")
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    arrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(arrow.Table.from_pylist(rows), tmp_path / "e.parquet")
    for name in ("b.json", "c.json", "d.jsonl.gz", "e.parquet"):
        loaded = read_judgements(tmp_path / name)
        assert loaded == expected, name
    assert [one.strength for one in expected.items] == [1.0, None]


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        (
            "a.jsonl",
            b'{"prompt": "Q"}\n{"prompt": \n{"prompt": "R"}\n',
            r"a\.jsonl:2: malformed line: .* expected one JSON object",
        ),
        ("a.jsonl", b'{"prompt": "Q"}\n{"prompt": ', r"a\.jsonl:2: malformed line"),
        ("a.jsonl", b'{"prompt": "Q"}\n\n3\n', r"a\.jsonl:3: expected a JSON object, found int"),
        ("a.json", b'[{"prompt": "Q"},\n {"prompt"}]', r"a\.json:2: malformed JSON"),
        ("a.json", b'[{"prompt": "Q"}, 4]', r"a\.json, item 2: expected a JSON object, found int"),
        ("a.jsonl", b'{"prompt": "Q"}\n{"prompt": "\xff"}\n', r"a\.jsonl:2: is not UTF-8"),
        ("a.jsonl.gz", b"no gzip", r"a\.jsonl\.gz: cannot be read"),
        ("a.parquet", b"no parquet", r"a\.parquet: is no Parquet file"),
        ("a.xls", b"prompt\nQ\n", r"a\.xls: unknown format '\.xls'; expected JSON"),
        ("a", b"", r"a: unknown format '\(no suffix\)'"),
        ("a.jsonl", b'{"question": "Q"}\n', r"a\.jsonl:1: unknown format: the fields are question; expected"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str, content: bytes, complaint: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=complaint):
        read_prompts(tmp_path / name)


@pytest.mark.parametrize("name", ["missing.jsonl", "owner/missing.jsonl.gz", "a/b/c/d e"])
def test_a_missing_file_is_named(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: no such file$"):
        read_judgements(name)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder; name the file"):
        read_judgements(tmp_path)


def test_a_hub_name_goes_to_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, object, object]] = []

    def load_dataset(name: str, *, data_dir: str | None, split: str) -> list[dict[str, Any]]:
        asked.append((name, data_dir, split))
        if name == "owner/gone":
            raise ConnectionError("offline\nand more")
        return [{"prompt": "Q"}]

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    assert read_prompts("owner/name").items == (prompt_of("Q"),)
    read_prompts("Anthropic/hh-rlhf/helpful-base:test")
    assert asked == [("owner/name", None, "train"), ("Anthropic/hh-rlhf", "helpful-base", "test")]
    complaint = (
        r"owner/gone: no such file, and no Hugging Face data set that can be reached \(ConnectionError: offline\)$"
    )
    with pytest.raises(InputError, match=complaint):
        read_prompts("owner/gone")


@pytest.mark.parametrize("suffix", ["jsonl", "json", "in one line json", "csv", "jsonl.gz", "json.zst"])
def test_a_file_is_never_held_whole(tmp_path: Path, suffix: str) -> None:
    rows = ({"prompt": f"{number} {'long ' * 400}", "chosen": "A", "rejected": "B"} for number in range(6000))
    file = tmp_path / f"a.{suffix.removeprefix('in one line ')}"
    write_rows(file, rows, {"prompt": "text", "chosen": "text", "rejected": "text"})  # 12 MB of text
    if suffix == "in one line json":
        file.write_bytes(file.read_bytes().replace(b"\n", b""))
    tracemalloc.start()
    try:
        count = sum(1 for _ in Reading(file).judgements())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 6000
    assert peak < 3e6


def test_an_object_over_many_lines_is_a_row(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"prompt": "Q", "source": "s"}, indent=2) + "\n" + json.dumps({"prompt": "R"}, indent=2))
    assert [prompt.messages[0].content for prompt in Reading(file).prompts()] == ["Q", "R"]


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "parquet"])
def test_keys_hold_no_control_characters(tmp_path: Path, suffix: str) -> None:
    """Nested ones neither; what reads them, names them or prints them need not think of it."""
    file, fields = tmp_path / f"a.{suffix}", {"a\x1b[2J": 1, "b": {"c\x07": [{"d\r": 2}]}}
    if suffix == "csv":
        file.write_text("a\x1b[2J,b\n1,2\n")
    elif suffix == "parquet":
        arrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(arrow.Table.from_pylist([fields]), file)
    else:
        file.write_text(json.dumps([fields] if suffix == "json" else fields) + "\n")
    (row,) = read_rows(file)
    assert row.repaired
    assert row.fields == ({"a[2J": "1", "b": "2"} if suffix == "csv" else {"a[2J": 1, "b": {"c": [{"d": 2}]}})


def test_cells_of_text_say_numbers_lists_and_objects(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text(
        "prompt,chosen,rejected,margin,notes\n"
        '"[{""role"": ""user"", ""content"": ""Q""}]","[{""role"": ""assistant"", ""content"": ""A""}]",'
        '"[{""role"": ""assistant"", ""content"": ""B""}]",2,x\n'
        '"[3, 1]","""quoted""","5",,y\n'
    )
    first, second = Reading(file).judgements()
    assert (first.prompt, first.strength, first.responses[0].text) == (prompt_of("Q"), 2.0, "A")
    # what only looks like a list, a quotation or a number is a text where a text is asked for
    assert (second.prompt, second.strength) == (prompt_of("[3, 1]"), None)
    assert [response.text for response in second.responses] == ['"quoted"', "5"]


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, ""),
        ("", '""'),
        ("a", "a"),
        ("5", "5"),
        ('"a"', '"a"'),
        ("[", "["),
        ("[1]", '"[1]"'),
        ('"[1]"', '"\\"[1]\\""'),
        (2.5, "2.5"),
        (True, "true"),
        ([1], "[1]"),
    ],
)
def test_a_cell_says_what_was_written(value: object, cell: str) -> None:
    assert cell_of_value(value) == cell
    if isinstance(value, str):
        assert (text_of_cell(cell), text_of_cell(cell) == value) == (value, True)
    if isinstance(value, list):
        assert value_of_cell(cell) == value
