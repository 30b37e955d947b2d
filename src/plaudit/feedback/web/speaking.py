"""Live mode: the current model, in a process of its own. This one never loads torch."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any, cast

from plaudit.types import Message, PlauditError, Response, Sampling

START_SECONDS, ANSWER_SECONDS = 300.0, 180.0
"""Loading a model takes a while; answering takes less."""
MOST_WAITING = 8
"""Questions at once: each holds a thread, and the page's other work needs some too."""


class SpeakerAway(PlauditError):
    """The model does not answer; says what it last said."""


class Speaker:
    """Answers of the model of `path` (a run, a model folder, a name); it is loaded when the first is asked for."""

    def __init__(self, path: str, *, command: Sequence[str] | None = None) -> None:
        self._command = list(command or (sys.executable, "-m", "plaudit.speaker", path))
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._lock = threading.Lock()
        self._waiting = threading.BoundedSemaphore(MOST_WAITING)

    def answers(self, messages: Sequence[Message], count: int) -> tuple[Response, ...]:
        """`count` samples; one question at a time. SpeakerAway where none come."""
        if not self._waiting.acquire(blocking=False):
            raise SpeakerAway("many are asking just now; try again in a minute")
        try:
            return self._answers(messages, count)
        finally:
            self._waiting.release()

    def _answers(self, messages: Sequence[Message], count: int) -> tuple[Response, ...]:
        question = {"messages": [{"role": m.role, "content": m.content} for m in messages], "count": count}
        with self._lock:
            process, seconds = self._started()
            try:
                assert process.stdin is not None
                process.stdin.write(json.dumps(question) + "\n")
                process.stdin.flush()
                line = self._lines.get(timeout=seconds)
            except (OSError, queue.Empty):
                line = None
            if line is None:
                self._stop()
                raise SpeakerAway("the model has stopped; the terminal that the page was started in says why")
        reply = cast(dict[str, Any], json.loads(line))
        if "error" in reply:
            raise SpeakerAway(f"the model cannot answer that: {reply['error']}")
        return tuple(
            Response(
                text=one["text"],
                checkpoint=reply["checkpoint"],
                sampling=_sampling(one["sampling"]),
                finished=one["finished"],
            )
            for one in reply["responses"]
        )

    def close(self) -> None:
        with self._lock:
            self._stop()

    def _started(self) -> tuple[subprocess.Popen[str], float]:
        if self._process is not None and self._process.poll() is None:
            return self._process, ANSWER_SECONDS
        self._lines = queue.Queue()
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        threading.Thread(target=_read, args=(self._process, self._lines), daemon=True).start()
        return self._process, START_SECONDS

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            self._process = None


def _sampling(fields: dict[str, Any]) -> Sampling:
    typed: dict[str, Any] = fields | {"stop": tuple(fields["stop"])}
    return Sampling(**typed)


def _read(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    try:
        for line in process.stdout:
            lines.put(line)
    except ValueError:  # closed meanwhile
        pass
    lines.put(None)
