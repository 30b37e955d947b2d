"""House rules that a program can hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from plaudit.cli import app

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
VERBS = ["run", "sft", "sample", "plan", "ppo", "report", "demo", "init", "chat", "label"]


def test_the_verbs() -> None:
    named = [command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands]
    assert sorted(named) == sorted(VERBS)
    commands = vars(typer.main.get_command(app))["commands"]
    groups = {name for name, command in commands.items() if hasattr(command, "commands")}
    assert groups == {"data", "feedback", "reward", "evaluate"}


@pytest.mark.parametrize(
    "verb",
    [
        *VERBS,
        "reward",
        "reward evaluate",
        "evaluate",
        "evaluate overoptimization",
        "data inspect",
        "data convert",
        "data validate",
    ],
)
def test_every_verb_is_in_the_readme(verb: str) -> None:
    assert f"plaudit {verb}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_nothing_is_called_utils() -> None:
    names = {"utils", "util", "helpers", "misc", "common"}
    assert [str(path) for path in SOURCES if path.stem in names or path.parent.name in names] == []


def test_the_starting_points_are_there() -> None:
    for name in ("README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "constraints.txt", ".ci/run"):
        assert (ROOT / name).is_file(), name
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_verbs_print_through_the_one_door_that_tames_what_others_wrote() -> None:
    loud = [path for path in SOURCES if path.parent.name == "cli" and path.name != "shell.py"]
    assert [str(path) for path in loud if "typer.echo" in path.read_text(encoding="utf-8")] == []
