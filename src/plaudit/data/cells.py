"""Values that are no texts in cells that are: CSV, and columns of Parquet whose values have no one type."""

from __future__ import annotations

import json

JSON_COLUMNS = b"plaudit.json_columns"
"""Key of a Parquet schema's metadata: the columns whose texts are JSON."""


def value_of_cell(cell: str) -> object:
    """What a cell says where a list or an object may stand: that, spelled in JSON, or else the text of the cell."""
    return cell if (value := _parsed(cell, "[{")) is None else value


def text_of_cell(cell: str) -> str:
    """What a cell says where a text stands: itself, but for a text that had to be told apart from something else.

    That one is spelled as a JSON string: the empty text, and what `value_of_cell` would take for a list or an object.
    """
    inner = _parsed(cell, '"')
    return inner if isinstance(inner, str) and _is_ambiguous(inner) else cell


def cell_of_value(value: object) -> str:
    """The cell that is read as this value; nothing at all for None."""
    if value is None:
        return ""
    if isinstance(value, str) and not _is_ambiguous(value):
        return value
    return json.dumps(value, ensure_ascii=False)


def _is_ambiguous(text: str) -> bool:
    return not text or _parsed(text, "[{") is not None or text_of_cell(text) != text


def _parsed(cell: str, openings: str) -> object:
    """The JSON value of a cell that begins with one of the signs; None where it is none."""
    if not cell or cell[0] not in openings:
        return None
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return None
