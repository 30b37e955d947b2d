"""Plug-ins: found by name, and told apart when they are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from plaudit.plugins import resolve_plugin
from plaudit.types import InputError


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package `ourplugins` with modules that work and that do not."""
    folder = tmp_path / "ourplugins"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "rewards.py").write_text("LIMIT = 3\ndef politeness(): return 7\n")
    (folder / "needy.py").write_text("import a_module_nobody_has\n")
    (folder / "broken.py").write_text("raise RuntimeError('no licence')\n")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("package")
def test_found() -> None:
    assert resolve_plugin("ourplugins.rewards:politeness")() == 7


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ourplugins.reward:politeness", "no module 'ourplugins.reward'; did you mean 'rewards'?"),
        ("no_such_package.rewards:politeness", "no module 'no_such_package'"),
        ("ourplugins.rewards:polite", "module ourplugins.rewards has no 'polite'; did you mean 'politeness'?"),
        ("ourplugins.rewards:LIMIT", "'LIMIT' is a int, expected a function"),
        ("ourplugins.needy:f", "ourplugins.needy needs the module 'a_module_nobody_has', which is not installed"),
        ("ourplugins.broken:f", "importing ourplugins.broken failed with RuntimeError: no licence"),
        ("ourplugins.rewards", "expected package.module:function"),
        ("ourplugins..rewards:f", "expected package.module:function"),
        (":f", "expected package.module:function"),
    ],
)
def test_not_found(name: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        resolve_plugin(name)
    assert str(caught.value).startswith(f"plug-in {name!r}: {message}")
