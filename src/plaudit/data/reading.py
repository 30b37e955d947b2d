"""One pass over a file, in constant memory: rows in, rankings, demonstrations or prompts out, everything counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

from plaudit.data.format import Format, Kind
from plaudit.data.registry import Recognised, format_named, recognise
from plaudit.data.row import LeaveOut, Row, rows_together
from plaudit.data.rows import Bad, read_rows_or_bad
from plaudit.types import OVERALL, Demonstration, InputError, Judgement, Prompt

Item = TypeVar("Item")

MOST_TOGETHER = 64
"""Rows read as one, at most: what follows is another ranking, so that no file can ask for all memory."""
BAD_ROWS_KEPT = 1000
_EXPECTED = {
    "judgements": "unknown format: the fields are {}; expected chosen and rejected (hh, or trl with prompt), or prompt "
    "and responses with ranking or ranks (native), or another of docs/formats.md",
    "demonstrations": "expected a demonstration, found the fields {}; one has messages that end with the assistant's, "
    "or prompt with completion or response, or instruction with output",
    "prompts": "unknown format: the fields are {}; expected messages, prompt, instruction or turns",
    None: "unknown format: the fields are {}; docs/formats.md lists those that are known",
}


class Reading:
    """A file or hub data set, read once from its first row to its last.

    With `skip_bad`, rows that are malformed by themselves are counted in `bad` and passed over; otherwise the first
    one is an InputError. What is well-formed and of no use is counted in `left_out`, by reason.
    """

    def __init__(
        self, path: str | Path, kind: Kind | None = None, *, format: str = "auto", skip_bad: bool = False
    ) -> None:
        """`kind`: what the rows are asked for; None: whatever they hold."""
        self.path, self.kind, self.skip_bad = path, kind, skip_bad
        self.named = format != "auto"
        self.recognised = Recognised(format=format_named(format), why="it was said") if self.named else None
        if self.recognised is not None and kind is not None and kind not in self.recognised.format.kinds:
            raise InputError(f"{path}: the format {format} holds no {kind}")
        self._begun, self._has_begun = self._rows(), False
        self.where = str(path)
        """The place of the row that was read last."""
        self.rows = 0
        self.bad = 0
        self.bad_rows: list[InputError] = []
        """The first of them."""
        self.left_out: Counter[str] = Counter()
        self.repaired: Counter[str] = Counter()

    def judgements(self, objective: str = OVERALL) -> Iterator[Judgement]:
        """Every ranking as it is said, with ties, corrected ones among them."""

        def reader_of(one: Format) -> Callable[[Row], Iterable[Judgement]] | None:
            read = one.judgements
            return None if read is None else lambda row: read(row, objective)

        return self._each(reader_of)

    def demonstrations(self) -> Iterator[Demonstration]:
        return self._each(lambda one: one.demonstrations)

    def prompts(self) -> Iterator[Prompt]:
        """The prompt of every row, as often as it comes."""
        return self._each(_prompts_of)

    def begin(self) -> Format | None:
        """The format, from the first row that is in one; None where there is no such row."""
        if not self._has_begun:
            self._has_begun = True
            rows = self._begun
            self._begun = chain(list(islice(rows, 1)), rows)
        return None if self.recognised is None else self.recognised.format

    def rest(self) -> None:
        """Read to the end, for rows that hold nothing of ours."""
        for _ in self._begun:
            pass

    def _each(self, reader_of: Callable[[Format], Callable[[Row], Iterable[Item]] | None]) -> Iterator[Item]:
        one = self.begin()
        if one is None:
            return
        rows, read = self._begun, reader_of(one)
        if read is None:
            raise InputError(f"{self.path}: holds {one.words}, and no {self.kind or 'such thing'}")
        if one.group is not None:
            rows = self._together(rows, one, read)
        for row in rows:
            self.where = row.where
            yield from self._read(row, read)

    def _read(self, row: Row, read: Callable[[Row], Iterable[Item]]) -> Iterable[Item]:
        try:
            items = list(read(row))
        except LeaveOut as reason:
            self.left_out[str(reason)] += len(row.together) or 1
            return ()
        except InputError as error:
            self._found_bad(error)
            return ()
        self.left_out["nothing to take from it"] += not items
        return items

    def _rows(self) -> Iterator[Row]:
        for row in read_rows_or_bad(self.path):
            if isinstance(row, Bad):
                if row.torn and self.recognised is not None and self.recognised.format.name == "native":
                    self.repaired["last line cut short, dropped"] += 1  # our own log is written while things may crash
                    return
                self.rows += 1
                self._found_bad(row.error)
                continue
            self.rows += 1
            self.repaired["control characters removed"] += row.repaired
            if self.recognised is None:
                self.recognised = self._recognise(row)
                if self.recognised is None:
                    continue
            yield row

    def _recognise(self, row: Row) -> Recognised | None:
        found = recognise(row.fields)
        if found is None or (self.kind is not None and self.kind not in found.format.kinds):
            names = ", ".join(sorted(map(str, row.fields)))[:300] or "none"
            looks = f"; it looks like {found.format.words}" if found is not None else ""
            self._found_bad(row.error(_EXPECTED[self.kind].format(names) + looks))
            return None
        return found

    def _found_bad(self, error: InputError) -> None:
        if not self.skip_bad:
            raise error
        self.bad += 1
        if len(self.bad_rows) < BAD_ROWS_KEPT:
            self.bad_rows.append(error)

    def _together(self, rows: Iterable[Row], one: Format, read: Callable[[Row], Iterable[object]]) -> Iterator[Row]:
        """Rows that belong together as one. Each is tried by itself first, so that one of no use spoils no other."""
        assert one.group is not None
        group: list[Row] = []
        key: object = None
        for row in rows:
            try:
                mine = one.group(row)
                if one.each_alone:
                    list(read(rows_together([row])))
            except InputError as error:
                self._found_bad(error)
                continue
            except LeaveOut as reason:
                self.left_out[str(reason)] += 1
                continue
            if group and (mine != key or len(group) == MOST_TOGETHER):
                yield rows_together(group)
                group = []
            group, key = [*group, row], mine
        if group:
            yield rows_together(group)


def _prompts_of(one: Format) -> Callable[[Row], Iterable[Prompt]] | None:
    if one.prompts is not None:
        return one.prompts
    judgements, demonstrations = one.judgements, one.demonstrations
    if judgements is not None:
        return lambda row: {j.prompt.id: j.prompt for j in judgements(row, OVERALL)}.values()
    if demonstrations is not None:
        return lambda row: [shown.prompt for shown in demonstrations(row)]
    return None
