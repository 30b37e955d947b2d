"""What a stage shows while it runs: metrics.jsonl, TensorBoard, bars with time left, a few words, a trace."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from plaudit.terminal import printable

Item = TypeVar("Item")
TRACE = "trace.json"
TRACED = range(1, 4)
"""Which steps of an act are traced, counted from 0: the first one also warms up, and traces of many are huge."""


class Journal:
    """A stage's record in its folder, and its voice on the terminal (none when quiet)."""

    def __init__(self, folder: str | Path, quiet: bool = False, *, profile: bool = False):
        self.folder = Path(folder)
        self.quiet = quiet
        self.profile = profile
        self.folder.mkdir(parents=True, exist_ok=True)
        self._console = Console(highlight=False, soft_wrap=True)
        self._bars: Progress | None = None
        self._rewound_to: int | None = None
        # TensorBoard's writer, which has no annotations: None until the first log, False where it is not installed.
        self._board: Any = None
        self._profiler: Any = None

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add a line to metrics.jsonl (a number that is not finite becomes null) and to TensorBoard."""
        finite = {key: float(value) if math.isfinite(value) else None for key, value in metrics.items()}
        record: dict[str, Any] = {"step": step, "time": round(time.time(), 3), **finite}
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        if self._board is None:
            self._board = _open_board(self.folder, self._rewound_to)
        for key, value in finite.items():
            if self._board and value is not None:
                self._board.add_scalar(key, value, step)

    def rewind(self, step: int) -> None:
        """Forget what was logged after this step: a run that goes on from a checkpoint logs it again."""
        kept = [line for line in self._lines() if json.loads(line)["step"] <= step]
        path = self.folder / "metrics.jsonl"
        staged = path.with_suffix(".tmp")
        staged.write_text("".join(kept), encoding="utf-8")
        staged.replace(path)
        self._rewound_to = step

    def logged(self, step: int) -> dict[str, float]:
        """The metrics of a step as they were logged (null: not a number); none where it logged nothing."""
        records = map(json.loads, reversed(self._lines()))
        found: dict[str, float | None] = next((one for one in records if one["step"] == step), {})
        return {k: math.nan if v is None else v for k, v in found.items() if k not in ("step", "time")}

    def _lines(self) -> list[str]:
        """Of metrics.jsonl, whole ones: a kill may have cut the last one short."""
        path = self.folder / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        return [line for line in lines if line.endswith("\n")]

    def say(self, text: str) -> None:
        """Print a line, above the bar where one is running."""
        if not self.quiet:
            self._console.print(printable(text), markup=False)

    def track(self, items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
        """The items (an act's steps), under a bar that each of them moves on; where `profile`, a few are traced."""
        if total is None and isinstance(items, Sized):
            total = len(items)
        with self.bar(description, total) as advance:
            for place, item in enumerate(items):
                if self.profile and place == TRACED.start:
                    self._profiler = _profiler()
                yield item
                advance(1)
                if place + 1 == TRACED.stop:
                    self._write_trace()
        self._write_trace()  # where there were fewer steps

    def _write_trace(self) -> None:
        if self._profiler is None:
            return
        self._profiler.stop()
        self._profiler.export_chrome_trace(str(self.folder / TRACE))
        self._profiler = None
        self.say(f"trace of a few steps: {self.folder / TRACE} (open it on https://ui.perfetto.dev)")

    @contextmanager
    def bar(self, description: str, total: int | None) -> Generator[Callable[[int], None], None, None]:
        """A bar with the time left, and what moves it on; no bar where quiet or where no terminal watches."""
        if self.quiet or not (sys.stdout.isatty() and sys.stderr.isatty()):
            yield lambda count: None
            return
        outermost = self._bars is None
        bars = self._bars = self._bars or _bars(self._console)
        bars.start()
        task = bars.add_task(description, total=total)
        try:
            yield lambda count: bars.advance(task, count)
        finally:
            bars.remove_task(task)
            if outermost:
                bars.stop()
                self._bars = None

    def close(self) -> None:
        self._write_trace()
        if self._board:
            self._board.close()
        self._board = None
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open_board(folder: Path, rewound_to: int | None) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return False
    purge = None if rewound_to is None else rewound_to + 1
    return SummaryWriter(str(folder / "tensorboard"), purge_step=purge)


def _profiler() -> Any:
    """torch's profiler, running."""
    from torch.profiler import profile

    profiler = profile()
    profiler.start()
    return profiler


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


class Phases:
    """Where the time of a step goes, in seconds by phase; a trace shows them by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Generator[None]:
        from torch.profiler import record_function

        began = time.perf_counter()
        try:
            with record_function(name):
                yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began
