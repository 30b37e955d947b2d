"""What every test shares: one thread, and a tiny model's folder."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import postgres

# Neighbours on the machine slow a test down; that is no failure of the code.
settings.register_profile("calm", deadline=None)
settings.load_profile("calm")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder with a random two-layer model; nobody writes to it."""
    import tiny

    return tiny.model_folder(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Threads only get in each other's way on models of this size."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a real server, started for this session."""
    if not postgres.installed():
        pytest.skip("PostgreSQL is not installed")
    with postgres.server() as url:
        yield url


_PROJECTS = itertools.count()


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """(URL or file of a database, project), empty: the store's tests hold for both databases."""
    project = f"test {next(_PROJECTS)}"
    if request.param == "sqlite":
        return str(tmp_path / "feedback.db"), project
    return request.getfixturevalue("postgresql"), project


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regenerate", action="store_true", help="write tests/acts/golden.json anew")
