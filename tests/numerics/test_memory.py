"""Boundary states in memory and on disk: what is full, what is missing, and beginnings of what is there."""

from __future__ import annotations

import resource
import tempfile
from pathlib import Path

import pytest
import torch

from plaudit.models.memory import Key, StateMemory
from plaudit.types import TrainingError


def key_of(prompt: list[int], response: list[int] | None) -> Key:
    said = None if response is None else torch.tensor(response).numpy().tobytes()
    return torch.tensor(prompt).numpy().tobytes(), said


def states(seed: int, tokens: int = 8) -> torch.Tensor:
    return torch.randn(tokens, 16, generator=torch.Generator().manual_seed(seed))


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit of a file's size here")
def test_a_disk_that_is_full_keeps_what_it_has() -> None:
    """A real file, cut off in the midst of the third states by the system: they are not kept, nor is anything behind
    them, and the file can be closed."""
    memory = StateMemory(0.0, on_disk=1.0)
    size = 8 * 16 * 4
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with memory.kept():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * size + 100, before[1]))
        try:
            for i in range(5):
                memory.put(key_of([1], [i]), states(i))
            file = memory._file  # pyright: ignore[reportPrivateUsage]
            assert file is not None
            assert file.seek(0, 2) == 2 * size
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        memory.put(key_of([1], [9]), states(9))
        found = [memory.get(key_of([1], [i])) for i in (0, 1, 2, 3, 9)]
    assert [one is not None for one in found] == [True, True, False, False, False]
    for i in range(2):
        one = found[i]
        assert one is not None
        assert torch.equal(one, states(i))
    assert file.closed


def test_where_no_file_can_be_made_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    memory = StateMemory(0.0, on_disk=1.0)
    with memory.kept():
        memory.put(key_of([1], None), states(0))
        assert memory.get(key_of([1], None)) is None


def test_a_file_that_was_cut_off_is_an_error() -> None:
    """Zeros in the place of states would be learned from."""
    memory = StateMemory(0.0, on_disk=1.0)
    with memory.kept():
        memory.put(key_of([1], None), states(0))
        file = memory._file  # pyright: ignore[reportPrivateUsage]
        assert file is not None
        file.truncate(10)
        with pytest.raises(TrainingError, match="cut off"):
            memory.get(key_of([1], None))


@pytest.mark.parametrize(("in_memory", "on_disk"), [(1.0, 0.0), (0.0, 1.0)])
def test_what_is_kept_of_a_response_serves_its_beginning(in_memory: float, on_disk: float) -> None:
    memory = StateMemory(in_memory, on_disk=on_disk)
    whole, beginning = key_of([1, 2], [3, 4, 5, 6]), key_of([1, 2], [3, 4, 5])
    with memory.kept():
        memory.put(whole, states(0, 4))
        left = memory.left, memory.left_on_disk
        memory.shorten(whole, beginning)
        found = memory.get(beginning)
        assert found is not None
        assert torch.equal(found, states(0, 4)[:3])
        assert memory.get(whole) is None
        memory.shorten(key_of([1, 2], [7, 8]), key_of([1, 2], [7]))  # nothing is kept of it
        assert memory.get(key_of([1, 2], [7])) is None
        memory.put(whole, states(1, 4))
        memory.shorten(whole, beginning)  # what is there stays
        again = memory.get(beginning)
        assert again is not None
        assert torch.equal(again, found)
        memory.shorten(whole, key_of([1, 2], []))  # of an answer of no token there are no states
        assert memory.get(whole) is not None
    assert left != (0, 0)
