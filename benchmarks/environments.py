"""The peers' environments: each a virtual environment of its own, made when it is first needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOM = Path(__file__).parent / ".peers"
SOURCE = Path(__file__).resolve().parent.parent / "src"
COMMON = ("torch==2.13.0", "transformers>=5,<6", "datasets", "peft", "accelerate", "pandas")


def paths_of(trl: str, ready: Path) -> Path:
    """Where this version of TRL lies among peers that were brought along: what `pip install --target` leaves."""
    return ready / f"trl-{trl}"


def python_of(trl: str) -> Path:
    """The interpreter of the environment that has this version of TRL."""
    folder = ROOM / f"trl-{trl}"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    # The mark comes last: an installation that was broken off is made anew.
    mark = folder / ".installed"
    wanted = "\n".join((f"trl=={trl}", *COMMON))
    if mark.is_file() and mark.read_text() == wanted:
        return python
    print(f"installing TRL {trl} into {folder}: a few minutes, once", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *wanted.split("\n")], check=True)
    mark.write_text(wanted)
    return python


if __name__ == "__main__":
    for version in sys.argv[1:] or ["1.12.0", "1.16.0"]:
        print(python_of(version))
