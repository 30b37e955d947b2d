"""A PostgreSQL server of the tests' own, where one is installed."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


def installed() -> bool:
    return bool(BINARIES)


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The URL of a fresh server, which is gone afterwards. PostgreSQL refuses to run as root: then it is postgres'."""
    binaries = BINARIES[-1].parent
    folder = Path(tempfile.mkdtemp(prefix="plaudit-postgres-"))
    prefix: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
        prefix = ["runuser", "-u", "postgres", "--"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = folder / "data"
    run(prefix, binaries / "initdb", "-D", data, "-A", "trust", "-U", "plaudit", "--no-sync", "-E", "UTF8")
    options = f"-p {port} -k {folder} -h 127.0.0.1 -c fsync=off -c max_connections=200"
    run(prefix, binaries / "pg_ctl", "-D", data, "-w", "-o", options, "-l", folder / "log", "start")
    try:
        yield f"postgresql://plaudit@127.0.0.1:{port}/postgres"
    finally:
        run(prefix, binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def run(prefix: list[str], *words: object) -> None:
    done = subprocess.run(
        [*prefix, *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd="/"
    )
    assert done.returncode == 0, done.stdout + done.stderr
