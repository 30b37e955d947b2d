"""Rows from files: JSON, JSON lines, either gzipped, Parquet, or a data set of the Hugging Face hub."""

from __future__ import annotations

import gzip
import json
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from plaudit.data.conversation import clean_text
from plaudit.types import InputError

_JSON_SUFFIXES = (".jsonl", ".json", ".ndjson")
_KNOWN = "JSON (.json), JSON lines (.jsonl), gzipped (.gz) or Parquet (.parquet)"
# owner/name, then a folder of the repository, then a split: Anthropic/hh-rlhf/helpful-base:train
_HUB_NAME = re.compile(r"(?P<name>[\w-][\w.-]*/[\w-][\w.-]*)(?:/(?P<folder>[\w./-]+))?(?::(?P<split>[\w\[\]:%]+))?")


class LeaveOut(Exception):
    """The row is well-formed and of no use; the message is the reason it is counted under."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """The fields of one row (a null is a field that is not there), and the place a message about it names."""

    where: str
    fields: Mapping[str, object]
    repaired: bool = False
    """True: control characters were taken out of its texts."""

    def error(self, message: str) -> InputError:
        return InputError(f"{self.where}: {message}")

    def optional_text(self, key: str) -> str:
        value = self.fields.get(key)
        if value is not None and not isinstance(value, str):
            raise self.error(f"{key}: expected a text, found {value!r:.60}")
        return value or ""

    def optional_number(self, key: str) -> float | None:
        value = self.fields.get(key)
        return None if value is None else number_of(self.where, key, value)

    def tags(self) -> tuple[str, ...]:
        subset = self.fields.get("subset")
        return (subset,) if isinstance(subset, str) and subset else ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Torn:
    """A last line that a crash cut short: no newline, no JSON."""

    error: InputError


def read_rows(path: str | Path) -> Iterator[Row]:
    """Every row of a file or hub data set; InputError (file, line, what was expected) where one cannot be read."""
    for row in read_rows_or_torn(path):
        if isinstance(row, Torn):
            raise row.error
        yield row


def read_rows_or_torn(path: str | Path) -> Iterator[Row | Torn]:
    """Like read_rows, but a last line cut short comes as Torn."""
    file = Path(path).expanduser()
    if file.is_dir():
        raise InputError(f"{path}: is a folder; name the file, {_KNOWN}")
    if not file.exists():
        yield from _hub_rows(str(path))
        return
    suffixes = [suffix.lower() for suffix in file.suffixes]
    kind = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else "".join(suffixes[-1:])
    if kind == ".parquet" and suffixes[-1] == ".parquet":
        yield from _parquet_rows(file)
    elif kind in _JSON_SUFFIXES:
        yield from _json_rows(file)
    else:
        raise InputError(f"{file}: unknown format {kind or '(no suffix)'!r}; expected {_KNOWN}")


def cleaned(value: Any) -> tuple[Any, bool]:
    """The value with every text in it cleaned, and whether that changed anything."""
    if isinstance(value, str):
        text = clean_text(value)
        return text, text != value
    if isinstance(value, dict):
        pairs = {key: cleaned(item) for key, item in cast("dict[str, Any]", value).items()}
        return {key: item for key, (item, _) in pairs.items()}, any(changed for _, changed in pairs.values())
    if isinstance(value, list):
        items = [cleaned(item) for item in cast("list[Any]", value)]
        return [item for item, _ in items], any(changed for _, changed in items)
    return value, False


def number_of(where: str, key: str, value: object) -> float:
    """The value as a finite float; InputError, naming the place and the key, where it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f"{where}: {key}: expected a number, found {value!r:.60}")
    return float(value)


def list_of(value: object) -> list[object] | None:
    """The value where it is a list."""
    return cast("list[object]", value) if isinstance(value, list) else None


def _row(value: object, where: str) -> Row:
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected a JSON object, found {type(value).__name__}")
    present = {key: field for key, field in cast("dict[str, object]", value).items() if field is not None}
    fields, repaired = cleaned(present)
    return Row(where=where, fields=fields, repaired=repaired)


def _json_rows(file: Path) -> Iterator[Row | Torn]:
    text = _text(file)
    if text.lstrip()[:1] == "[":
        try:
            items = cast("list[object]", json.loads(text))
        except json.JSONDecodeError as error:
            raise InputError(f"{file}:{error.lineno}: malformed JSON: {error.msg} (column {error.colno})") from error
        yield from (_row(item, f"{file}, item {number}") for number, item in enumerate(items, 1))
        return
    lines = text.split("\n")  # not splitlines: JSON texts may hold U+2028 and the like
    for number, line in enumerate(lines, 1):
        where = f"{file}:{number}"
        if not line.strip():
            continue
        try:
            value: object = json.loads(line)
        except json.JSONDecodeError as error:
            found = f"{error.msg} at column {error.colno}"
            malformed = InputError(f"{where}: malformed line: {found}; expected one JSON object per line")
            if number == len(lines):
                yield Torn(error=malformed)
                return
            raise malformed from error
        yield _row(value, where)


def _text(file: Path) -> str:
    try:
        data = file.read_bytes()
        if file.suffix.lower() == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file}: cannot be read ({error})") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{file}:{line}: is not UTF-8 (byte {error.start}); save the file as UTF-8") from error


def _parquet_rows(file: Path) -> Iterator[Row]:
    try:
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise InputError(f"{file}: Parquet needs pyarrow; install it with `pip install pyarrow`") from error
    try:
        with parquet.ParquetFile(file) as table:
            number = 0
            for batch in table.iter_batches():
                for item in batch.to_pylist():
                    number += 1
                    yield _row(item, f"{file}, row {number}")
    except (OSError, arrow.ArrowException) as error:
        raise InputError(f"{file}: is no Parquet file that can be read ({error})") from error


def _hub_rows(name: str) -> Iterator[Row]:
    match = _HUB_NAME.fullmatch(name)
    if match is None or Path(name).suffix.lower() in (*_JSON_SUFFIXES, ".gz", ".parquet"):
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
    yield from (_row(item, f"{name}, row {number}") for number, item in enumerate(table, 1))
