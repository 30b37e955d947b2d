"""What the person is told of the model that a run works on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from plaudit.material import Material
from plaudit.run_folder import RunFolder
from plaudit.sources import Sources
from plaudit.workshop import Workshop


@pytest.mark.parametrize(
    ("kind", "slower"), [("llama", False), ("qwen3", False), ("gpt2", True), ("gemma3_text", True)]
)
def test_a_network_without_fast_layers_is_told(
    kind: str, slower: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tiny.model_folder(tmp_path / "model", kind)
    recipe = tiny.recipe(tmp_path, path)
    workshop = Workshop(recipe, Material(recipe), RunFolder(tmp_path / "run", cache=None, quiet=False))
    workshop.load_chat(str(path))
    capsys.readouterr()
    workshop.load_trunk(str(path), 0)
    assert ("transformers' own modules" in capsys.readouterr().out) == slower


def test_how_much_memory_is_used_is_no_reason_to_do_an_act_again(tmp_path: Path) -> None:
    """Who finds a run slow may give it room, and goes on with it."""
    path = tiny.model_folder(tmp_path / "model")

    def inputs(**model: Any) -> dict[str, object]:
        recipe = tiny.recipe(tmp_path, path, model=model)
        workshop = Workshop(recipe, Material(recipe), RunFolder(tmp_path / "run", cache=None, quiet=True))
        return Sources(workshop).inputs("model", "sft")

    assert inputs(boundary_gigabytes=1, boundary_disk_gigabytes=50, activation_checkpointing=True) == inputs()
    assert inputs(split_depth=1) != inputs()


def test_what_is_read_in_smaller_parts_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tiny.model_folder(tmp_path / "model")
    recipe = tiny.recipe(tmp_path, path)
    workshop = Workshop(recipe, Material(recipe), RunFolder(tmp_path / "run", cache=None, quiet=False))
    trunk = workshop.load_trunk(str(path), 1)
    capsys.readouterr()

    def attempt(tokens: int) -> int:
        if tokens == most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return tokens

    most = trunk.reading.count
    assert trunk.reading.run(attempt, where="reading below the split") == most // 2
    assert "reading below the split: memory has run out" in capsys.readouterr().out
