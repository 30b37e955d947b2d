"""The bytes of a file as they are read or written: plain, gzipped, or compressed with Zstandard."""

from __future__ import annotations

import contextlib
import gzip
import io
import zlib
from collections.abc import Generator
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, cast

from plaudit.types import InputError

COMPRESSED = (".gz", ".zst")
_CHUNK = 1 << 18
_PACKED_AT_ONCE = 256
"""Bytes of Zstandard: four of them can stand for 128 KiB, and all that they stand for is held at once."""


@contextlib.contextmanager
def reading(file: Path) -> Generator[BinaryIO]:
    """The bytes that the file holds once unpacked; InputError where they cannot be had, also half-way."""
    errors: tuple[type[Exception], ...] = (OSError, EOFError, zlib.error)
    suffix = file.suffix.lower()
    if suffix == ".zst":
        errors = (*errors, _zstandard(file).ZstdError)
    try:
        with file.open("rb") as raw:
            if suffix == ".gz":
                with gzip.open(raw) as unpacked:
                    yield cast("BinaryIO", unpacked)
            elif suffix == ".zst":
                yield cast("BinaryIO", io.BufferedReader(_Unpacked(raw, _zstandard(file)), _CHUNK))
            else:
                yield raw
    except errors as error:
        raise InputError(f"{file}: cannot be read ({error})") from error


@contextlib.contextmanager
def writing(file: Path, suffix: str) -> Generator[BinaryIO]:
    """A file to write to; what is written is packed as the suffix says, the same bytes for the same content."""
    with file.open("wb") as raw:
        if suffix == ".gz":
            with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
                yield cast("BinaryIO", packed)
        elif suffix == ".zst":
            with _zstandard(file).ZstdCompressor().stream_writer(raw, closefd=False) as packed:
                yield packed
        else:
            yield raw


class _Unpacked(io.RawIOBase):
    """Zstandard frames one after the other. The package's own reader takes a file cut short for its end; this does
    not."""

    def __init__(self, raw: BinaryIO, zstandard: Any) -> None:
        self._raw, self._zstandard = raw, zstandard
        self._frame: Any = None
        self._rest = b""
        """Packed bytes not yet unpacked."""
        self._ready = b""
        """Unpacked bytes not yet handed on."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            packed = self._rest or self._raw.read(_PACKED_AT_ONCE)
            if not packed:
                if self._frame is not None:
                    raise EOFError("the file ends within a Zstandard frame")
                return 0
            if self._frame is None:
                self._frame = self._zstandard.ZstdDecompressor().decompressobj()
            self._ready, self._rest = self._frame.decompress(packed), b""
            if self._frame.eof:
                self._rest, self._frame = self._frame.unused_data, None
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count


def _zstandard(file: Path) -> Any:
    try:
        return import_module("zstandard")
    except ImportError as error:
        raise InputError(f"{file}: .zst needs zstandard; install it with `pip install zstandard`") from error
