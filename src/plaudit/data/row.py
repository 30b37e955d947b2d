"""One row, and what a reader asks of it; a message about it names the file, the line, the field, and what was found."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, cast

from plaudit.data.cells import text_of_cell, value_of_cell
from plaudit.data.conversation import clean_text
from plaudit.types import InputError


class LeaveOut(Exception):
    """The row is well-formed and of no use; the message is the reason it is counted under."""


@dataclass(frozen=True, slots=True)
class Row:
    """The fields of one row (a null is a field that is not there), and the place a message about it names."""

    where: str
    fields: Mapping[str, object]
    repaired: bool = False
    """True: control characters were taken out of its texts or keys."""
    loose: bool = False
    """True: its fields are cells of text (CSV), which may spell numbers, truth values, lists and objects."""
    together: tuple[Row, ...] = ()
    """The rows that were read as one, where a format spreads what belongs together over several."""

    def error(self, message: str) -> InputError:
        return InputError(f"{self.where}: {message}")

    def wrong(self, key: str, expected: str) -> NoReturn:
        """Raise InputError: the field is not what was expected, or not there."""
        if key not in self.fields:
            there = ", ".join(sorted(map(str, self.fields))) or "none"
            raise self.error(f"{key}: expected {expected}, found no such field (the fields are {there})"[:400])
        raise self.error(f"{key}: expected {expected}, found {self.fields[key]!r:.60}")

    def value(self, key: str) -> object:
        """A text or something built of parts, whatever is there; None where nothing is."""
        value = self.fields.get(key)
        if self.loose and isinstance(value, str):
            built = value_of_cell(value)
            return text_of_cell(value) if built == value else built
        return value

    def text(self, key: str) -> str:
        value = self.fields.get(key)
        if not isinstance(value, str):
            self.wrong(key, "a text")
        return text_of_cell(value) if self.loose else value

    def optional_text(self, key: str) -> str:
        return self.text(key) if key in self.fields else ""

    def name(self, key: str) -> str:
        """A text, or a whole number as one: how files name people and models. Empty where there is none."""
        value = self.fields.get(key, "")
        if isinstance(value, str):
            return value
        return str(value) if type(value) is int else self.wrong(key, "a name")

    def number(self, key: str) -> float:
        value = self.fields.get(key)
        if self.loose and isinstance(value, str):
            value = _number_spelled(value)
        return as_number(value) if is_number(value) else self.wrong(key, "a number")

    def optional_number(self, key: str) -> float | None:
        return self.number(key) if key in self.fields else None

    def one_of(self, key: str, *choices: int) -> int:
        """A whole number among the choices."""
        value = self.fields.get(key)
        if self.loose and isinstance(value, str):
            value = _number_spelled(value)
        if not is_number(value) or value not in choices:
            self.wrong(key, " or ".join(map(str, choices)))
        return int(cast("float", value))

    def truth(self, key: str) -> bool:
        value = self.fields.get(key)
        if self.loose and isinstance(value, str):
            value = {"true": True, "false": False}.get(value.lower(), value)
        return value if isinstance(value, bool) else self.wrong(key, "true or false")

    def items(self, key: str) -> list[object]:
        value = list_of(self.value(key))
        return value if value is not None else self.wrong(key, "a list")

    def part(self, key: str) -> Row:
        """The fields of an object within the row."""
        fields = mapping_of(self.value(key))
        return Row(f"{self.where}: {key}", fields) if fields is not None else self.wrong(key, "an object")

    def parts(self, key: str) -> list[Row]:
        """The fields of each object of a list within the row."""
        parts: list[Row] = []
        for number, item in enumerate(self.items(key), 1):
            fields = mapping_of(item)
            if fields is None:
                raise self.error(f"{key}, item {number}: expected an object, found {item!r:.60}")
            parts.append(Row(f"{self.where}: {key}, item {number}", fields))
        return parts

    def tags(self) -> tuple[str, ...]:
        subset = self.fields.get("subset")
        return (subset,) if isinstance(subset, str) and subset else ()


def row_of(value: object, where: str, *, may_hold_controls: bool = True, loose: bool = False) -> Row:
    """A row from what a container held; InputError where that is no object, or nested beyond all sense."""
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected a JSON object, found {type(value).__name__}")
    present = {key: field for key, field in cast("dict[str, object]", value).items() if field is not None}
    if not may_hold_controls:
        return Row(where, present, loose=loose)
    try:
        fields, repaired = _cleaned_fields(present)
    except RecursionError:
        raise InputError(f"{where}: expected a row, found lists or objects nested too deeply") from None
    return Row(where, fields, repaired, loose)


def rows_together(rows: Sequence[Row]) -> Row:
    """Several rows that a format reads as one."""
    return Row(rows[0].where, rows[0].fields, loose=rows[0].loose, together=tuple(rows))


def cleaned(value: object) -> tuple[object, bool]:
    """The value with every text and key in it cleaned, and whether that changed anything."""
    if isinstance(value, str):
        text = clean_text(value)
        return text, text != value
    if isinstance(value, dict):
        return _cleaned_fields(cast("dict[str, object]", value))
    if isinstance(value, list):
        items = [cleaned(item) for item in cast("list[object]", value)]
        return [item for item, _ in items], any(changed for _, changed in items)
    return value, False


def _cleaned_fields(fields: Mapping[str, object]) -> tuple[dict[str, object], bool]:
    pairs = {clean_text(key): cleaned(item) for key, item in fields.items()}
    changed = pairs.keys() != fields.keys() or any(changed for _, changed in pairs.values())
    return {key: item for key, (item, _) in pairs.items()}, changed


def is_number(value: object) -> bool:
    """Whether it is a finite number, and no truth value."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the range of floats
        return False


def as_number(value: object) -> float:
    return float(cast("float", value))


def number_of(where: str, key: str, value: object) -> float:
    """The value as a finite float; InputError, naming the place and the key, where it is none."""
    if not is_number(value):
        raise InputError(f"{where}: {key}: expected a number, found {value!r:.60}")
    return as_number(value)


def list_of(value: object) -> list[object] | None:
    """The value where it is a list."""
    return cast("list[object]", value) if isinstance(value, list) else None


def mapping_of(value: object) -> Mapping[str, object] | None:
    """The fields of the value where it is an object; a null is a field that is not there."""
    if not isinstance(value, dict):
        return None
    return {key: field for key, field in cast("dict[str, object]", value).items() if field is not None}


def _number_spelled(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
