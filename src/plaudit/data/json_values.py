"""The values of a JSON file one after the other, each gone from memory before the next is read."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from plaudit.types import InputError

_CHUNK = 1 << 16
_BLANK = " \t\r\n"
_LONGEST_SIGN = len("-Infinity")
"""Of an item that the window cuts short, the parser finds fault within so many characters of the window's end."""


def values_of_array(file: Path, stream: BinaryIO) -> Iterator[object]:
    """The items of `[...]`. InputError, with the line, where it is malformed: what follows cannot be told apart."""
    buffer = _Buffer(file, stream)
    buffer.take("[")
    if not buffer.next_is("]"):
        yield buffer.value()
        while not buffer.next_is("]"):
            buffer.take(",")
            yield buffer.value()
    buffer.take("]")
    if not buffer.at_end():
        raise buffer.error("Extra data")


def values_in_a_row(file: Path, stream: BinaryIO, start: bytes) -> Iterator[object]:
    """Values one after the other, with nothing but blanks between; `start`: bytes that were read already."""
    buffer = _Buffer(file, stream, start)
    while not buffer.at_end():
        yield buffer.value()


class _Buffer:
    """A window on the text: what is decoded and not yet parsed."""

    def __init__(self, file: Path, stream: BinaryIO, start: bytes = b"") -> None:
        self._file, self._stream, self._line = file, stream, 1
        self._decode = codecs.getincrementaldecoder("utf-8-sig")()
        self._parser = json.JSONDecoder()
        self._text, self._at, self._ended = "", 0, False
        self._text = self._decoded(start)

    def error(self, message: str, at: int | None = None) -> InputError:
        lines = self._line + self._text.count("\n", 0, self._at if at is None else at)
        return InputError(f"{self._file}:{lines}: malformed JSON: {message}")

    def take(self, sign: str) -> None:
        if not self.next_is(sign):
            raise self.error(f"expected {sign!r}")
        self._at += 1

    def next_is(self, sign: str) -> bool:
        return not self.at_end() and self._text[self._at] == sign

    def at_end(self) -> bool:
        """Whether only blanks are left; goes forward to what is not one."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _BLANK:
                self._at += 1
            if self._at < len(self._text):
                return False
            if not self._more(_CHUNK):
                return True

    def value(self) -> object:
        self.at_end()
        wanted = _CHUNK
        while True:
            try:
                value, end = self._parser.raw_decode(self._text, self._at)
                # a number at the window's end may go on behind it
                if end < len(self._text) or not self._more(_CHUNK):
                    self._at = end
                    return value
                continue
            except json.JSONDecodeError as error:
                cut_short = error.msg.startswith("Unterminated string")
                may_go_on = cut_short or error.pos >= len(self._text) - _LONGEST_SIGN
                problem = self.error(f"{error.msg} (column {error.colno})", error.pos)
            except (ValueError, RecursionError) as error:
                raise self.error(str(error)[:80]) from error
            # Twice as much each time: a long item is parsed a few times, not once for each chunk.
            if not may_go_on or not self._more(wanted):
                raise problem
            wanted *= 2

    def _more(self, count: int) -> bool:
        """Read on; what is parsed already is let go."""
        if self._ended:
            return False
        self._line += self._text.count("\n", 0, self._at)
        self._text, self._at = self._text[self._at :], 0
        data = self._stream.read(count)
        self._ended = not data
        self._text += self._decoded(data)
        return bool(data)

    def _decoded(self, data: bytes) -> str:
        try:
            return self._decode.decode(data, final=self._ended)
        except UnicodeDecodeError as error:
            before = self._text.count("\n") + data.count(b"\n", 0, error.start)
            raise InputError(f"{self._file}:{self._line + before}: is not UTF-8; save the file as UTF-8") from error
