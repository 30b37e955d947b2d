"""Whatever a file holds, it ends in a reading or in one InputError: never in another exception."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plaudit.data.formats import Reading
from plaudit.data.inspection import inspect
from plaudit.data.registry import FORMATS
from plaudit.types import InputError

# The same examples every time, and no opinion of how fast the machine is.
CALM = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
SAMPLES = Path(__file__).parents[1] / "data"
SUFFIXES = ("jsonl", "json", "csv", "tsv", "txt", "parquet", "jsonl.gz", "json.zst", "csv.gz")

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("\n\nHuman: a")
names = st.sampled_from(
    [*{name for one in FORMATS.values() for shape in one.shapes for name in shape}, "role", "content", "text", "rank"]
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names | st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def survives(data: bytes, suffix: str, format: str = "auto") -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"rows.{suffix}")
        file.write_bytes(data)
        try:
            inspect(file, format=format)
        except InputError as error:
            assert str(file) in str(error)  # noqa: PT017  (most files are read without an error)


@given(st.binary(max_size=200), st.sampled_from(SUFFIXES))
@settings(CALM, max_examples=300)
def test_any_bytes(data: bytes, suffix: str) -> None:
    survives(data, suffix)


@given(st.sampled_from(sorted(SAMPLES.iterdir())), st.data())
@settings(CALM, max_examples=300)
def test_real_rows_with_bytes_changed(path: Path, data: st.DataObject) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    survives(bytes(content), path.suffix[1:], path.stem.removesuffix("-columns"))


@given(st.sampled_from(list(FORMATS)), st.lists(st.dictionaries(names, values, max_size=6), max_size=3))
@settings(CALM, max_examples=400)
def test_any_json_as_any_format(format: str, rows: list[dict[str, Any]]) -> None:
    survives("".join(json.dumps(row) + "\n" for row in rows).encode(), "jsonl", format)
    survives(json.dumps(rows).encode(), "json")


@given(st.sampled_from([path for path in sorted(SAMPLES.iterdir()) if path.suffix in (".json", ".jsonl")]), st.data())
@settings(CALM, max_examples=600)
def test_real_rows_with_any_value_at_any_place(path: Path, data: st.DataObject) -> None:
    text = path.read_text(encoding="utf-8")
    rows = json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]
    place: Any = rows
    while True:  # down to a random place
        keys = list(range(len(place))) if isinstance(place, list) else list(place)
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], list | dict) or not place[key] or data.draw(st.integers(0, 3)) == 0:
            break
        place = place[key]
    place[key] = data.draw(values)
    survives(json.dumps(rows).encode(), "json", path.stem.removesuffix("-columns"))
    survives(json.dumps(rows).encode(), "json")


@pytest.mark.parametrize(
    ("suffix", "data", "complaint"),
    [
        ("jsonl", b"[" * 100_000, "malformed JSON: maximum recursion"),
        ("jsonl", b'{"a":' * 100_000, "malformed line: maximum recursion"),
        ("jsonl", b'{"messages": ' + b"9" * 5000 + b"}\n", "malformed line: Exceeds the limit"),
        ("json", b'[{"prompt": "a"}', r"rows\.json:1: malformed JSON: expected ','"),
        ("json", b'[{"prompt": "a"}] x', r"rows\.json:1: malformed JSON: Extra data"),
        ("json", b'[{"prompt": "a"},\n{"prompt": "\xff"}]', r"rows\.json:2: is not UTF-8"),
        ("csv", b"prompt,prompt\na,b\n", "a header of different names"),
        ("csv", b"prompt,source\na\n", r"rows\.csv:2: expected 2 cells, as in the header, found 1"),
        ("csv", b"prompt\n\xff\n", "is not UTF-8"),
        ("txt", b"a\n\xff\n", r"rows\.txt:2: is not UTF-8"),
        ("jsonl.gz", gzip.compress(b'{"prompt": "a"}\n' * 99, mtime=0)[:-9], "cannot be read"),
        ("jsonl.zst", zstandard.compress(b'{"prompt": "a"}\n' * 99)[:-3], "cannot be read .*within a Zstandard frame"),
        ("jsonl.zst", b"no frame", "cannot be read"),
        ("parquet", b"PAR1", "is no Parquet file that can be read"),
        ("jsonl", b"", "has no rows"),
        ("csv", b"", "has no rows"),
    ],
)
def test_what_is_broken_is_named(tmp_path: Path, suffix: str, data: bytes, complaint: str) -> None:
    file = tmp_path / f"rows.{suffix}"
    file.write_bytes(data)
    with pytest.raises(InputError, match=complaint):
        inspect(file)


def test_numbers_beyond_all_bounds_are_told(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    for number in ("1e999", "NaN", "9" * 400):
        file.write_text('{"prompt": "a", "chosen": "b", "rejected": "c", "margin": ' + number + "}\n")
        with pytest.raises(InputError, match=r"rows\.jsonl:1: margin: expected a number, found"):
            list(Reading(file).judgements())


NATIVE = {
    "id": "j",
    "prompt": {"id": "p", "messages": [{"role": "user", "content": "a"}]},
    "responses": [{"text": "b"}, {"text": "c"}],
    "ranking": [[0], [1]],
}
PLAIN = {"prompt": "a", "responses": ["b", "c"], "ranking": [[0], [1]]}


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        (NATIVE | {"strength": "@"}, "strength"),
        (NATIVE | {"seconds": "@"}, "seconds"),
        (NATIVE | {"ratings": {"kind": [1, "@"]}}, "ratings.kind.1"),
        (
            NATIVE | {"responses": [{"text": "b"}, {"text": "c", "sampling": {"top_p": "@"}}]},
            "responses.1.sampling.top_p",
        ),
        (PLAIN | {"strength": "@"}, "strength"),
        (PLAIN | {"responses": [{"text": "b", "score": 1}, {"text": "c", "score": "@"}]}, "score"),
    ],
)
@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999", "9" * 400])
def test_our_own_rows_hold_finite_numbers(tmp_path: Path, fields: dict[str, Any], key: str, number: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(NATIVE) + "\n" + json.dumps(fields).replace('"@"', number) + "\n")
    with pytest.raises(InputError, match=rf"rows\.jsonl:2: .*{key}.*(a finite|a) number"):
        list(Reading(file).judgements())


def test_several_frames_and_members_are_one_file(tmp_path: Path) -> None:
    line = b'{"prompt": "a"}\n'
    for suffix, pack in (("gz", gzip.compress), ("zst", zstandard.compress)):
        file = tmp_path / f"rows.jsonl.{suffix}"
        file.write_bytes(pack(line) + pack(line * 2))
        assert len(list(Reading(file).prompts())) == 3
