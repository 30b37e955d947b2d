"""Rows from files, one after the other, never the whole file: JSON, JSON lines, CSV (each also .gz or .zst), plain
text, Parquet, or a data set of the Hugging Face hub."""

from __future__ import annotations

import codecs
import csv
import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import BinaryIO, cast

from plaudit.data.bytestream import COMPRESSED, reading
from plaudit.data.cells import JSON_COLUMNS
from plaudit.data.json_values import values_in_a_row, values_of_array
from plaudit.data.row import Row, row_of
from plaudit.types import InputError

_JSON_SUFFIXES = (".jsonl", ".json", ".ndjson")
_CSV_SUFFIXES = {".csv": ",", ".tsv": "\t"}
KNOWN_FILES = (
    "JSON (.json), JSON lines (.jsonl), CSV (.csv, .tsv) or plain text (.txt), each also packed (.gz, .zst), "
    "or Parquet (.parquet)"
)
# owner/name, then a folder of the repository, then a split: Anthropic/hh-rlhf/helpful-base:train
_HUB_NAME = re.compile(r"(?P<name>[\w-][\w.-]*/[\w-][\w.-]*)(?:/(?P<folder>[\w./-]+))?(?::(?P<split>[\w\[\]:%]+))?")
# JSON has no raw control characters, so texts hold what is to be cleaned only where one of these spells it.
_SPELLED_CONTROL = re.compile(rb"\\(?:[bfr]|u(?:00[01]|[dD][89a-fA-F]))")


@dataclass(frozen=True, slots=True)
class Bad:
    """What stands where a row should, and does not keep the next one from being read."""

    error: InputError
    torn: bool = False
    """True: a last line that a crash cut short: no newline, no JSON."""


def read_rows(path: str | Path) -> Iterator[Row]:
    """Every row of a file or hub data set; InputError (file, line, what was expected) where one cannot be read."""
    for row in read_rows_or_bad(path):
        if isinstance(row, Bad):
            raise row.error
        yield row


def read_rows_or_bad(path: str | Path) -> Iterator[Row | Bad]:
    """Like read_rows, but a row that is malformed by itself comes as Bad, and the rest follows."""
    file = Path(path).expanduser()
    if file.is_dir():
        raise InputError(f"{path}: is a folder; name the file, {KNOWN_FILES}")
    if not file.exists():
        yield from _hub_rows(str(path))
        return
    kind = kind_of(file)
    if kind == ".parquet":
        yield from _parquet_rows(file)
        return
    with reading(file) as stream:
        if kind in _JSON_SUFFIXES:
            yield from _json_rows(file, stream, kind)
        elif kind in _CSV_SUFFIXES:
            yield from _csv_rows(file, stream, _CSV_SUFFIXES[kind])
        else:
            yield from (Row(f"{file}:{number}", {"text": text}) for number, text in _text_lines(file, stream))


def kind_of(file: Path) -> str:
    """The suffix that says what the file holds, whatever packs it; InputError where it is none that is known."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    kind = (
        suffixes[-2] if suffixes[-1:] and suffixes[-1] in COMPRESSED and len(suffixes) > 1 else "".join(suffixes[-1:])
    )
    packed = suffixes[-1:] != [kind]
    if kind in (*_JSON_SUFFIXES, *_CSV_SUFFIXES, ".txt") or (kind == ".parquet" and not packed):
        return kind
    raise InputError(f"{file}: unknown format {kind or '(no suffix)'!r}; expected {KNOWN_FILES}")


def _json_rows(file: Path, stream: BinaryIO, kind: str) -> Iterator[Row | Bad]:
    head = cast("BufferedReader", stream).peek(1).removeprefix(codecs.BOM_UTF8).lstrip()
    if head.startswith(b"["):
        for count, item in enumerate(values_of_array(file, stream), 1):
            yield _row_or_bad(item, f"{file}, item {count}")
        return
    for number, line in enumerate(stream, 1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
            if kind == ".json" and line.strip() and not _is_json(line):  # objects that are written over many lines
                for count, item in enumerate(values_in_a_row(file, stream, line), 1):
                    yield _row_or_bad(item, f"{file}, item {count}")
                return
        if line.strip():
            yield _row_of_line(line, f"{file}:{number}")


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _row_of_line(line: bytes, where: str) -> Row | Bad:
    torn = not line.endswith(b"\n")
    try:
        value: object = json.loads(line.decode())
        return row_of(value, where, may_hold_controls=_SPELLED_CONTROL.search(line) is not None)
    except UnicodeDecodeError as error:
        problem = f"{where}: is not UTF-8 (byte {error.start} of the line); save the file as UTF-8"
    except json.JSONDecodeError as error:
        found = f"{error.msg} at column {error.colno}"
        problem = f"{where}: malformed line: {found}; expected one JSON object per line"
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; lists within lists within lists
        problem = f"{where}: malformed line: {str(error)[:80]}; expected one JSON object per line"
    except InputError as error:
        return Bad(error)
    return Bad(InputError(problem), torn)


def _row_or_bad(value: object, where: str, *, loose: bool = False) -> Row | Bad:
    try:
        return row_of(value, where, loose=loose)
    except InputError as error:
        return Bad(error)


def _csv_rows(file: Path, stream: BinaryIO, delimiter: str) -> Iterator[Row | Bad]:
    csv.field_size_limit(sys.maxsize)  # long texts are no mistake
    with TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
        lines = csv.reader(text, delimiter=delimiter)
        try:
            header = next(lines, [])
            if len(set(header)) < len(header):
                raise InputError(f"{file}:1: expected a header of different names, found {', '.join(header)!r:.80}")
            number = lines.line_num + 1
            for cells in lines:
                if cells:
                    yield _row_of_cells(header, cells, f"{file}:{number}")
                number = lines.line_num + 1
        except csv.Error as error:
            raise InputError(f"{file}:{lines.line_num}: malformed CSV: {error}") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{file}: is not UTF-8 (after line {lines.line_num}); save the file as UTF-8") from error


def _row_of_cells(header: list[str], cells: list[str], where: str) -> Row | Bad:
    if len(cells) != len(header):
        return Bad(InputError(f"{where}: expected {len(header)} cells, as in the header, found {len(cells)}"))
    fields = {name: cell for name, cell in zip(header, cells, strict=True) if cell}
    return _row_or_bad(fields, where, loose=True)


def _text_lines(file: Path, stream: BinaryIO) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(stream, 1):
        try:
            yield number, line.decode("utf-8-sig").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise InputError(f"{file}:{number}: is not UTF-8 (byte {error.start} of the line)") from error


def _parquet_rows(file: Path) -> Iterator[Row | Bad]:
    try:
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise InputError(f"{file}: Parquet needs pyarrow; install it with `pip install pyarrow`") from error
    try:
        with parquet.ParquetFile(file) as table:
            spelled = (table.schema_arrow.metadata or {}).get(JSON_COLUMNS, b"[]")
            columns = cast("list[str]", json.loads(spelled))
            number = 0
            for batch in table.iter_batches(batch_size=1024):
                for item in batch.to_pylist():
                    number += 1
                    item |= {name: json.loads(item[name]) for name in columns if item.get(name) is not None}
                    yield _row_or_bad(item, f"{file}, row {number}")
    except (OSError, ValueError, TypeError, OverflowError, arrow.ArrowException) as error:
        raise InputError(f"{file}: is no Parquet file that can be read ({str(error)[:200]})") from error


def _hub_rows(name: str) -> Iterator[Row | Bad]:
    match = _HUB_NAME.fullmatch(name)
    files = (*_JSON_SUFFIXES, *_CSV_SUFFIXES, *COMPRESSED, ".parquet", ".txt")
    if match is None or Path(name).suffix.lower() in files:
        raise InputError(f"{name}: no such file")
    try:
        load = import_module("datasets").load_dataset
    except ImportError as error:
        raise InputError(
            f"{name}: no such file; were it a Hugging Face name, it would need `pip install datasets`"
        ) from error
    try:
        table: Iterable[object] = load(match["name"], data_dir=match["folder"], split=match["split"] or "train")
    except Exception as error:  # the hub's client raises a wide family: offline, not found, gated, bad split
        cause = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        raise InputError(f"{name}: no such file, and no Hugging Face data set that can be reached ({cause})") from error
    yield from (_row_or_bad(item, f"{name}, row {number}") for number, item in enumerate(table, 1))
