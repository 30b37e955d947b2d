"""Who may import whom, and what must start without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "transformers", "tokenizers", "safetensors", "matplotlib", "tensorboard", "scipy"}


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after it ran the code."""
    report = "; import sys, json; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_import_rules_hold() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["init", "--help"], ["feedback", "--help"]])
def test_help_loads_no_torch(words: list[str]) -> None:
    loaded = loaded_by(f"from plaudit.cli import app; app({words!r}, standalone_mode=False)")
    assert "typer" in loaded
    assert not loaded & HEAVY


def test_looking_into_a_file_loads_no_torch() -> None:
    words = ["data", "inspect", "tests/data/hh.jsonl"]
    loaded = loaded_by(f"from plaudit.cli import app; app({words!r}, standalone_mode=False)")
    assert not loaded & HEAVY


@pytest.mark.parametrize(
    "module", ["plaudit", "plaudit.types", "plaudit.recipe_file", "plaudit.data.formats", "plaudit.feedback.project"]
)
def test_what_must_start_at_once_loads_no_torch(module: str) -> None:
    assert not loaded_by(f"import {module}") & HEAVY


def test_a_mistake_in_a_recipe_is_told_without_torch(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("nam: a\n")
    loaded = loaded_by(
        f"from plaudit.cli import app\ntry: app(['run', {str(recipe)!r}], standalone_mode=False)\n"
        "except BaseException: pass\nNone"
    )
    assert "pydantic" in loaded
    assert not loaded & HEAVY
