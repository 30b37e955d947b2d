"""What is printed shows what others wrote, and never obeys it."""

from __future__ import annotations

from pathlib import Path

import pytest

from plaudit.progress import Journal
from plaudit.run_folder import RunFolder
from plaudit.terminal import printable

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp"
SHOWN = "␛]0;owned␇␛[2J<U+009B>31m<U+202E>gnp"


def test_text_has_no_power_over_the_terminal() -> None:
    hostile = "\x1b]0;owned\x07\x1b[2J\r\x08\x7f\x9b31m\u202egnp\u2066\u2028\ufeff\x00"
    shown = printable(hostile)
    assert shown == "␛]0;owned␇␛[2J␍␈<U+007F><U+009B>31m<U+202E>gnp<U+2066><U+2028><U+FEFF>␀"
    assert all(sign.isprintable() for sign in shown)
    kept = "Grüße,\n\t你好 \U0001f469\u200d\U0001f4bb e\u0301 \ufffd"
    assert printable(kept) == kept


def test_nor_has_what_a_run_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Templates, names of annotators and much else in it come from outside."""
    folder = RunFolder(tmp_path, cache=None, quiet=False)
    Journal(tmp_path / "act").say(HOSTILE)
    folder.say(HOSTILE)
    folder.announce(HOSTILE)
    assert capsys.readouterr() == (f"{SHOWN}\n{SHOWN}\n", f"{SHOWN}\n")
