"""A million pairs, imported: JSON lines of the TRL kind into our own log, in a process of its own.

    python benchmarks/import_pairs.py [--pairs 1000000] [--out benchmarks/results/import.json]

The process is `plaudit data convert`, so its start, the writing and everything else of a real import is counted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
import tempfile
import time
from pathlib import Path

_WORDS = [
    "the",
    "a",
    "river",
    "stone",
    "map",
    "light",
    "number",
    "answer",
    "question",
    "small",
    "large",
    "why",
    "because",
    "runs",
    "holds",
    "under",
    "over",
    "three",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "import.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "pairs.jsonl"), Path(folder, "judgements.jsonl")
        _generate(source, options.pairs)
        seconds, cpu_seconds, peak = _measure(["data", "convert", str(source), str(target), "--to", "native"])
        with target.open("rb") as written:
            lines = sum(1 for _ in written)
        assert lines == options.pairs, lines
        result = {
            "pairs": options.pairs,
            "megabytes": round(source.stat().st_size / 1e6, 1),
            "seconds": round(seconds, 2),
            "cpu_seconds": round(cpu_seconds, 2),
            "peak_rss_megabytes": round(peak / 1e6, 1),
            "python": platform.python_version(),
            "load_before": round(os.getloadavg()[0], 2),
        }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


def _generate(file: Path, count: int) -> None:
    """Texts of the lengths of short chat answers (prompt about 90 characters, answers about 180), every row another."""
    rng = random.Random(0)

    def text(words: int) -> str:
        return " ".join(rng.choices(_WORDS, k=words))

    with file.open("w", encoding="utf-8") as lines:
        for number in range(count):
            row = {"prompt": f"{number}: {text(18)}?", "chosen": text(36), "rejected": text(36)}
            lines.write(json.dumps(row | ({"margin": 1.5} if number % 4 == 0 else {})) + "\n")


def _measure(words: list[str]) -> tuple[float, float, int]:
    """(seconds on the clock, seconds of the processor, most bytes held) of a fresh process."""
    started = time.perf_counter()
    process = os.posix_spawn(sys.executable, [sys.executable, "-m", "plaudit", *words], os.environ)
    _, status, usage = os.wait4(process, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit("the import failed")
    # Linux counts in units of 1024 bytes, macOS in bytes.
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, peak


if __name__ == "__main__":
    main()
