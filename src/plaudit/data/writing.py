"""Rows into files: JSON, JSON lines, CSV (each also .gz or .zst) and Parquet, row by row."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from pydantic_core import to_json

from plaudit.data.bytestream import writing
from plaudit.data.cells import JSON_COLUMNS, cell_of_value
from plaudit.data.rows import KNOWN_FILES, kind_of
from plaudit.data.targets.target import Column
from plaudit.types import InputError, PlauditError

Rows = Iterable[Mapping[str, Any]]
_ROWS_AT_ONCE = 4096


def write_rows(path: str | Path, rows: Rows, columns: Mapping[str, Column]) -> int:
    """Write the rows in the container that the suffix names, and return how many there were.

    The file appears when it is whole: whatever goes wrong, also while the rows are made, what was there stays.
    """
    file = Path(path)
    kind = kind_of(file)
    if kind == ".txt":
        raise InputError(f"{file}: plain text holds no fields; expected {KNOWN_FILES}")
    if not file.parent.is_dir():
        raise InputError(f"{file}: there is no folder {file.parent}")
    part = file.with_name(f".{file.name}.part")
    try:
        if kind == ".parquet":
            count = _write_parquet(part, rows, columns)
        else:
            with writing(part, file.suffix.lower()) as stream:
                count = _WRITERS[kind](stream, rows, columns)
        part.replace(file)
    except OSError as error:
        raise PlauditError(f"{file}: cannot be written ({error.strerror or error})") from error
    finally:
        part.unlink(missing_ok=True)
    return count


def _write_lines(stream: BinaryIO, rows: Rows, _: Mapping[str, Column]) -> int:
    count = 0
    for row in rows:
        stream.write(_json(row) + b"\n")
        count += 1
    return count


def _write_array(stream: BinaryIO, rows: Rows, _: Mapping[str, Column]) -> int:
    count = 0
    for row in rows:
        stream.write((b",\n" if count else b"[\n") + _json(row))
        count += 1
    stream.write(b"\n]\n" if count else b"[]\n")
    return count


def _write_cells(delimiter: str) -> Callable[[BinaryIO, Rows, Mapping[str, Column]], int]:
    def write(stream: BinaryIO, rows: Rows, columns: Mapping[str, Column]) -> int:
        with _text(stream) as text:
            lines = csv.writer(text, delimiter=delimiter, lineterminator="\n")
            lines.writerow(columns)
            count = 0
            for row in rows:
                lines.writerow([cell_of_value(row.get(name)) for name in columns])
                count += 1
        return count

    return write


@contextmanager
def _text(stream: BinaryIO) -> Generator[TextIOWrapper]:
    text = TextIOWrapper(stream, encoding="utf-8", newline="")
    yield text
    text.flush()
    text.detach()  # the stream is closed by whoever opened it


_WRITERS: Mapping[str, Callable[[BinaryIO, Rows, Mapping[str, Column]], int]] = {
    ".jsonl": _write_lines,
    ".ndjson": _write_lines,
    ".json": _write_array,
    ".csv": _write_cells(","),
    ".tsv": _write_cells("\t"),
}


def _write_parquet(file: Path, rows: Rows, columns: Mapping[str, Column]) -> int:
    """Texts, numbers, truth values and messages in types of their own, anything else as JSON in a text."""
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    turn = arrow.struct([("role", arrow.string()), ("content", arrow.string())])
    types = {
        "text": arrow.string(),
        "number": arrow.float64(),
        "truth": arrow.bool_(),
        "messages": arrow.list_(turn),
        "json": arrow.string(),
    }
    spelled = [name for name, column in columns.items() if column == "json"]
    schema = arrow.schema(
        [(name, types[column]) for name, column in columns.items()],
        metadata={JSON_COLUMNS: json.dumps(spelled).encode()},
    )
    waiting, count = iter(rows), 0
    with parquet.ParquetWriter(file, schema) as table:
        while batch := list(islice(_spelled(waiting, spelled), _ROWS_AT_ONCE)):
            table.write_table(arrow.Table.from_pylist(batch, schema=schema))
            count += len(batch)
    return count


def _spelled(rows: Iterator[Mapping[str, Any]], columns: list[str]) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield {**row, **{name: json.dumps(row[name]) for name in columns if row.get(name) is not None}}


def _json(row: Mapping[str, Any]) -> bytes:
    return to_json(row)  # three times as fast as the standard library's
