"""The run folder is the memory: what is done is skipped, and every act says what it was made from.

runs/<name>/recipe.yaml  judgements.jsonl  summary.json  report.html
runs/<name>/round_0/<act>/manifest.json  metrics.jsonl  ...
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from rich.console import Console

from plaudit.data.formats import content_hash
from plaudit.progress import TRACE, Journal
from plaudit.terminal import printable
from plaudit.types import InputError

Result = dict[str, Any]
MANIFEST = "manifest.json"


def write_json(path: Path, value: object) -> None:
    """Beside, then renamed: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".partial")
    beside.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    beside.replace(path)


def write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """As JSON lines; beside, then renamed."""
    beside = path.with_name(path.name + ".partial")
    with beside.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    beside.replace(path)


def read_rows(path: Path) -> list[Result]:
    """What `write_rows` wrote. Only a newline ends a line: texts may hold what else Unicode calls one (U+2028)."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def read_manifest(folder: Path) -> Result | None:
    try:
        return cast(Result, json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InputError(
            f"{folder / MANIFEST} is no JSON ({error}); delete the folder {folder} to do this act again"
        ) from error


class RunFolder:
    """One run on disk. `act` does a piece of work once; equal inputs are taken over from the cache of other runs."""

    def __init__(self, path: Path, *, cache: Path | None, quiet: bool, profile: bool = False) -> None:
        self.path, self.cache, self.quiet, self.profile = path, cache, quiet, profile
        self._console = Console(highlight=False, soft_wrap=True)
        self.path.mkdir(parents=True, exist_ok=True)

    def done(self, name: str) -> Result | None:
        """The result of an act that is finished, or None."""
        manifest = read_manifest(self.path / name)
        return manifest["result"] if manifest and manifest["status"] == "done" else None

    def act(
        self,
        name: str,
        inputs: Mapping[str, object],
        do: Callable[[Path, Journal], Mapping[str, object]],
        *,
        labels: Mapping[str, Sequence[object]] | None = None,
        shared: bool = True,
    ) -> Result:
        """Run `do(folder, journal)` unless it was done with equal inputs; returns its result.

        An act that was stopped goes on in its folder. One whose inputs have changed is put aside, not overwritten.
        `labels`: which of people's work it was made from, for the manifest. Not `shared`: other runs cannot take it.
        """
        folder = self.path / name
        key = content_hash([name.split("/")[-1], inputs, version("plaudit")])
        manifest = read_manifest(folder)
        if manifest and manifest["key"] == key and manifest["status"] == "done":
            return manifest["result"]
        if manifest and manifest["key"] != key:
            aside = self.put_aside(name)
            self.say(f"{name}: its inputs have changed; the earlier result is kept in {aside and aside.name}")
        taken = self._take_from_cache(folder, key) if shared else None
        if taken is not None:
            self.say(f"{name}: taken from the cache")
            return taken
        began = time.monotonic()
        manifest = {"act": name, "key": key, "status": "running", "inputs": inputs, "versions": versions()}
        if labels is not None:
            manifest["labels"] = labels
        write_json(folder / MANIFEST, manifest)
        with Journal(folder, quiet=self.quiet, profile=self.profile) as journal:
            result = json.loads(json.dumps(do(folder, journal)))
        manifest |= {"status": "done", "seconds": time.monotonic() - began, "result": result, "finished": _now()}
        write_json(folder / MANIFEST, manifest)
        if shared:
            self._give_to_cache(folder, key)
        return result

    def put_aside(self, name: str) -> Path | None:
        """Keep an act's folder under another name, so that it is done anew; None where there is none."""
        folder = self.path / name
        if not folder.exists():
            return None
        aside = next(p for i in range(1, 10_000) if not (p := folder.with_name(f"{folder.name}.old{i}")).exists())
        return folder.rename(aside)

    def _take_from_cache(self, folder: Path, key: str) -> Result | None:
        if self.cache is None or not (self.cache / key / MANIFEST).is_file() or folder.exists():
            return None
        _copy_folder(self.cache / key, folder, beside=folder.with_name(f"{folder.name}.partial"))
        manifest = read_manifest(folder)
        return manifest["result"] if manifest else None

    def _give_to_cache(self, folder: Path, key: str) -> None:
        if self.cache is None or (self.cache / key).exists():
            return
        self.cache.mkdir(parents=True, exist_ok=True)
        try:
            _copy_folder(folder, self.cache / key, beside=self.cache / f"{key}.{os.getpid()}.partial", without=TRACE)
        except OSError:
            if not (self.cache / key).exists():  # else another run was first
                raise

    def announce(self, line: str) -> None:
        """A line that somebody must see, quiet or not: on stderr, so that results stay alone on stdout."""
        Console(stderr=True, highlight=False, soft_wrap=True).print(printable(line), markup=False)

    def say(self, *lines: str) -> None:
        """A few words to whoever watches; nothing when quiet."""
        if not self.quiet:
            for line in lines:
                self._console.print(printable(line), markup=False)


def _copy_folder(source: Path, target: Path, *, beside: Path, without: str = "") -> None:
    """Beside, then renamed: a manifest that says "done" must never stand beside half a model."""
    shutil.rmtree(beside, ignore_errors=True)  # of a copy that was killed
    try:
        shutil.copytree(source, beside, ignore=shutil.ignore_patterns(without))
        beside.rename(target)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "transformers")} | {
        "python": platform.python_version(),
        "plaudit": version("plaudit"),
    }


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
