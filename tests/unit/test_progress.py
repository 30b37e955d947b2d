"""The record of a stage, and its silence where nobody watches."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

from plaudit.progress import Journal


def records(folder: Path) -> list[dict[str, float | None]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def no_board(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)


@pytest.mark.usefixtures("no_board")
def test_metrics_are_lines_of_json_and_what_is_not_finite_is_null(tmp_path: Path) -> None:
    with Journal(tmp_path / "stage", quiet=True) as journal:
        journal.log(1, {"loss": 0.5, "kl": float("nan")})
        journal.log(2, {"loss": float("inf")})
    with Journal(tmp_path / "stage", quiet=True) as journal:
        journal.log(3, {"loss": -0.25})
    first, second, third = records(tmp_path / "stage")
    assert (first["step"], first["loss"], first["kl"]) == (1, 0.5, None)
    assert (second["loss"], third["loss"]) == (None, -0.25)
    times = [record["time"] or 0.0 for record in (first, second, third)]
    assert 0 < times[0] <= times[1] <= times[2]


@pytest.mark.usefixtures("no_board")
def test_a_rewound_journal_forgets_later_steps_and_a_line_cut_short(tmp_path: Path) -> None:
    journal = Journal(tmp_path, quiet=True)
    journal.rewind(0)
    for step in (1, 2, 3):
        journal.log(step, {"loss": step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    journal.rewind(2)
    journal.log(3, {"loss": 30.0})
    assert [record["loss"] for record in records(tmp_path)] == [1, 2, 30.0]


@pytest.mark.usefixtures("no_board")
def test_a_journal_gives_back_what_a_step_logged(tmp_path: Path) -> None:
    journal = Journal(tmp_path, quiet=True)
    assert journal.logged(2) == {}
    for step in (1, 2):
        journal.log(step, {"loss": 1 / (1 + step), "kl": float("nan")})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    found = journal.logged(2)
    assert math.isnan(found.pop("kl"))
    assert found == {"loss": 1 / 3}
    assert journal.logged(3) == {}


def test_tensorboard_has_the_finite_numbers(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with Journal(tmp_path, quiet=True) as journal:
        journal.log(1, {"loss": 0.5, "kl": float("nan")})
        journal.log(2, {"loss": 0.25, "kl": 2.0})
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 0.5), (2, 0.25)]
    assert [(event.step, event.value) for event in events.Scalars("kl")] == [(2, 2.0)]


def test_words_are_printed_as_they_are_unless_quiet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = "[bold]" + "word " * 60
    Journal(tmp_path).say(long)
    assert capsys.readouterr().out == long + "\n"
    Journal(tmp_path, quiet=True).say("hush")
    assert capsys.readouterr().out == ""


def test_without_a_terminal_items_pass_and_no_bar_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal(tmp_path)
    assert list(journal.track([1, 2, 3], "counting")) == [1, 2, 3]
    with journal.bar("moving", 3) as advance:
        advance(3)
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_on_a_terminal_bars_may_be_nested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with Journal(tmp_path) as journal:
        seen = [(i, j) for i in journal.track([1, 2], "outer") for j in journal.track("ab", "inner")]
        assert seen == [(1, "a"), (1, "b"), (2, "a"), (2, "b")]
    assert "outer" in capsys.readouterr().out
    with Journal(tmp_path, quiet=True) as journal:
        assert list(journal.track([1], "hidden")) == [1]
    assert "hidden" not in capsys.readouterr().out
