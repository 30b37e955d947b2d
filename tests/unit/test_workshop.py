"""What the person is told of the model that a run works on."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny
from plaudit.material import Material
from plaudit.run_folder import RunFolder
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
