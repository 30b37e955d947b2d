"""The verbs: what they call, what they print, and how errors look from outside."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from plaudit.cli import app
from plaudit.cli.acts import _print_result
from plaudit.recipe import Recipe
from plaudit.recipe_file import load_recipe
from plaudit.types import InputError, PlauditError, TrainingError

WORLD = "name: a\nworld: some.world:load\n"


def estimate(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.02, "high": value + 0.03}


SUMMARY = {
    "rounds": [
        {
            "evaluation": {
                "win_rate": estimate(0.75),
                "truth": {
                    "base": {"total": estimate(0.25)},
                    "sft": {"total": estimate(0.50), "kind": estimate(0.40)},
                    "rlhf": {"total": estimate(0.86), "kind": estimate(0.90)},
                },
            },
            "contests": [{"first": "rlhf", "second": "sft", "prompts": 31, "share": estimate(0.65)}],
        }
    ]
}


class Rounds:
    """Stands for `plaudit.rounds`: keeps what it was called with, and fails when told to."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.failure: BaseException | None = None
        self.profile = False

    def run(self, recipe: Recipe, *, quiet: bool = False, profile: bool = False) -> SimpleNamespace:
        self.profile = profile
        self.calls.append(("run", recipe, quiet))
        if self.failure is not None:
            raise self.failure
        folder = recipe.out / recipe.name
        return SimpleNamespace(folder=folder, summary=SUMMARY, report=folder / "report.html")

    def run_act(
        self, recipe: Recipe, act: str, *, round_index: int = 0, quiet: bool = False, profile: bool = False
    ) -> Path:
        self.profile = profile
        self.calls.append((act, recipe, round_index))
        return Path("runs/a") / act

    def write_report(self, folder: Path) -> Path:
        self.calls.append(("report", folder))
        return folder / "report.html"


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Rounds:
    fake = Rounds()
    for home, names in {"plaudit.rounds": ("run", "run_act"), "plaudit.summary": ("write_report",)}.items():
        module = ModuleType(home)
        for name in names:
            setattr(module, name, getattr(fake, name))
        monkeypatch.setitem(sys.modules, home, module)
    return fake


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(WORLD)
    return path


def call(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


# What the verbs do


def test_run_passes_the_recipe_and_prints_the_table(rounds: Rounds, recipe: Path) -> None:
    result = call("run", recipe, "ppo.steps=3", "seed=5")
    assert result.exit_code == 0, result.stderr
    ((verb, passed, quiet),) = rounds.calls
    assert (verb, passed.ppo.steps, passed.seed, quiet) == ("run", 3, 5, False)
    lines = result.stdout.splitlines()
    assert next(line for line in lines if line.strip().startswith("rlhf")).split() == ["rlhf", "0.86", "0.90"]
    assert next(line for line in lines if line.strip().startswith("base")).split() == ["base", "0.25"]
    assert "0.84–0.89" in result.stdout
    assert "win rate of rlhf over sft: 0.75 (0.73–0.78)" in lines
    assert lines[-1] == f"report: {Path('runs/a/report.html')}"


def test_a_table_of_every_objective_fits_eighty_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    names = ("total", "helpful", "harmless", "honest", "kind", "skill")
    every = {name: estimate(0.50) for name in names}
    _print_result({"rounds": [{"evaluation": {"truth": {"base": every, "sft": every, "rlhf": every}}}]})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines if "–" in line] == [["0.48–0.53"] * 6] * 3


def test_what_people_said_of_the_checkpoints_is_printed(rounds: Rounds, recipe: Path) -> None:
    said = call("run", recipe).stdout
    assert "people, blind: rlhf over sft 0.65 (" in said
    assert "on 31 prompts" in said


def test_quiet_prints_the_report_alone(rounds: Rounds, recipe: Path) -> None:
    assert call("run", recipe, "--quiet").stdout.strip() == f"report: {Path('runs/a/report.html')}"
    assert rounds.calls[0][2] is True


@pytest.mark.parametrize("act", ["sft", "sample", "reward", "ppo", "evaluate"])
def test_an_act_alone(rounds: Rounds, recipe: Path, act: str) -> None:
    result = call(act, recipe, "seed=4", "--round", "1")
    assert result.exit_code == 0, result.stderr
    ((called, passed, round_index),) = rounds.calls
    assert (called, passed.seed, round_index) == (act, 4, 1)
    assert result.stdout.strip() == f"{act}: {Path('runs/a') / act}"


@pytest.mark.parametrize("verb", ["run", "sft", "reward", "ppo"])
def test_what_trains_can_be_profiled(rounds: Rounds, recipe: Path, verb: str) -> None:
    assert call(verb, recipe).exit_code == 0
    assert not rounds.profile
    assert call(verb, recipe, "--profile").exit_code == 0
    assert rounds.profile
    assert call("evaluate", recipe, "--profile").exit_code == 2


def test_demo_sets_seed_and_folder_of_the_shipped_recipe(rounds: Rounds, tmp_path: Path) -> None:
    out = tmp_path / "some where" / "my.demo"
    result = call("demo", "--seed", "7", "--out", out)
    assert result.exit_code == 0, result.stderr
    ((_, passed, _),) = rounds.calls
    assert (passed.seed, passed.out, passed.name) == (7, out.parent, "my.demo")
    assert passed.world is not None
    assert "rlhf" in result.stdout
    assert "report.html" in result.stdout.replace("\n", "")


def test_report(rounds: Rounds, tmp_path: Path) -> None:
    assert call("report", tmp_path).exit_code == 0
    assert rounds.calls == [("report", tmp_path)]
    missing = call("report", tmp_path / "none")
    assert (missing.exit_code, missing.stderr) == (2, f"error: {tmp_path / 'none'}: no such run folder\n")


def test_init_writes_a_recipe_that_loads_and_never_overwrites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("init").exit_code == 0
    assert load_recipe("recipe.yaml").name == "my-run"
    Path("recipe.yaml").write_text("mine")
    again = call("init")
    assert (again.exit_code, again.stderr) == (
        2,
        "error: recipe.yaml: exists already and is left as it is; name another file\n",
    )
    assert Path("recipe.yaml").read_text() == "mine"
    assert call("init", "nowhere/recipe.yaml").exit_code == 2


# Errors


def test_a_missing_recipe(rounds: Rounds, tmp_path: Path) -> None:
    result = call("run", tmp_path / "none.yaml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert (
        result.stderr
        == f"error: {tmp_path / 'none.yaml'}: no such recipe file; `plaudit init` writes a recipe to start from\n"
    )
    assert rounds.calls == []


def test_an_unknown_key(rounds: Rounds, recipe: Path) -> None:
    recipe.write_text(WORLD + "ppo: {step: 3}\n")
    result = call("ppo", recipe)
    assert (result.exit_code, result.stderr) == (
        2,
        f"error: {recipe}:3: unknown key ppo.step; did you mean ppo.steps?\n",
    )
    assert rounds.calls == []


def full_disk() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/a/policy.safetensors")


def wrapped(cause: BaseException) -> RuntimeError:
    error = RuntimeError("writing failed")
    error.__cause__ = cause
    return error


def unwritten(cause: BaseException) -> PlauditError:
    error = PlauditError("judgements.jsonl: 3 rankings could not be written")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("failure", "code", "told"),
    [
        (lambda: InputError("rows.jsonl:3: no prompt"), 2, "error: rows.jsonl:3: no prompt\n"),
        (lambda: TrainingError("loss is NaN in step 4"), 3, "error: loss is NaN in step 4\n"),
        (
            full_disk,
            4,
            "error: the disk is full (OSError: [Errno 28] No space left on device: 'runs/a/policy.safetensors'); "
            "free some space and run the same again\n",
        ),
        (
            lambda: wrapped(full_disk()),
            4,
            "error: the disk is full (RuntimeError: writing failed); free some space and run the same again\n",
        ),
        (lambda: unwritten(full_disk()), 4, "error: judgements.jsonl: 3 rankings could not be written\n"),
        (
            lambda: RuntimeError("first line\nsecond line"),
            1,
            "error: RuntimeError: first line; run again with --debug for the traceback\n",
        ),
        (lambda: ZeroDivisionError(), 1, "error: ZeroDivisionError; run again with --debug for the traceback\n"),
    ],
)
def test_an_error_is_one_line_and_a_code(
    rounds: Rounds, recipe: Path, failure: Callable[[], BaseException], code: int, told: str
) -> None:
    rounds.failure = failure()
    result = call("run", recipe)
    assert (result.exit_code, result.stderr, result.stdout) == (code, told, "")


def test_debug_raises_the_error_itself(rounds: Rounds, recipe: Path) -> None:
    rounds.failure = InputError("no prompt")
    assert call("run", recipe, "--debug").exception is rounds.failure


def test_interrupted(rounds: Rounds, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/plaudit", "run", "my recipe.yaml", "seed=3"])
    rounds.failure = KeyboardInterrupt()
    result = call("run", recipe)
    assert (result.exit_code, result.stderr) == (
        130,
        "stopped; `plaudit run 'my recipe.yaml' seed=3` goes on from here\n",
    )


@pytest.mark.parametrize("words", [("dance",), ("run",), ("demo", "--seed", "-1"), ("sft", "a.yaml", "--round", "x")])
def test_wrong_use(words: tuple[str, ...]) -> None:
    result = call(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage" in result.stderr


def test_version() -> None:
    result = call("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("plaudit ")


def test_from_a_shell(tmp_path: Path) -> None:
    def shell(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "plaudit", *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    plain = shell("run", "none.yaml")
    assert (plain.returncode, plain.stderr) == (
        2,
        "error: none.yaml: no such recipe file; `plaudit init` writes a recipe to start from\n",
    )
    assert "Traceback" in shell("run", "none.yaml", "--debug").stderr
