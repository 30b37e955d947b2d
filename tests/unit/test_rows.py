"""Files to rows: what holds them, what is malformed, and names of the hub."""

from __future__ import annotations

import gzip
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from plaudit.data.formats import prompt_of, read_judgements, read_prompts
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
