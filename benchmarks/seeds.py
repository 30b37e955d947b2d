"""The demo over many seeds: does every run end above its own SFT model, and how near to the oracle?

    python benchmarks/seeds.py --seeds 0 1 2 --out runs/seeds

Writes benchmarks/results/seeds.json and prints the table. A run that is done is not done again.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from plaudit import load_recipe, run
from plaudit.recipe_file import shipped_recipe

RESULTS = Path(__file__).parent / "results" / "seeds.json"


def row_of(seed: int, out: Path) -> dict[str, Any]:
    recipe = load_recipe(shipped_recipe("demo"), [f"seed={seed}", f"out={out}", f"name=seed_{seed}"])
    result = run(recipe, quiet=True)
    first = result.summary["rounds"][0]
    truth = first["evaluation"]["truth"]
    manifest = json.loads((result.folder / "round_0" / "ppo" / "manifest.json").read_text())
    return {
        "seed": seed,
        **{name: truth[name]["total"] for name in ("base", "sft", "rlhf", "ceiling")},
        "gain": first["evaluation"]["truth_gain"]["total"],
        "share": first["evaluation"]["share_of_ceiling"],
        "skill": {name: truth[name]["skill"]["value"] for name in ("base", "sft", "rlhf")},
        "win_rate": first["evaluation"]["win_rate"],
        "judge_accuracy": first["reward"]["accuracy"],
        "kl": first["ppo"]["kl"],
        "ppo_seconds": manifest["seconds"],
    }


def table(rows: list[dict[str, Any]]) -> str:
    def interval(estimate: dict[str, float]) -> str:
        return f"{estimate['value']:.2f} ({estimate['low']:.2f}–{estimate['high']:.2f})"

    head = ["seed", "base", "SFT", "RLHF", "oracle", "share", "win rate", "judge", "KL", "skill"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        skill = row["skill"]
        cells = [
            str(row["seed"]),
            *(interval(row[name]) for name in ("base", "sft", "rlhf", "ceiling")),
            f"{row['share']:.0%}",
            interval(row["win_rate"]),
            f"{row['judge_accuracy']['value']:.2f}",
            f"{row['kl']:.1f}",
            f"{skill['base']:.2f} → {skill['sft']:.2f} → {skill['rlhf']:.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    shares = [row["share"] for row in rows]
    above = sum(row["rlhf"]["value"] > row["sft"]["value"] for row in rows)
    apart = sum(row["rlhf"]["low"] > row["sft"]["high"] for row in rows)
    spread = f", standard deviation {statistics.stdev(shares):.0%}" if len(shares) > 1 else ""
    lines += [
        "",
        f"{above} of {len(rows)} seeds end above their own SFT model, {apart} with intervals that do not overlap.",
    ]
    lines += [f"Mean share of the oracle's gain {statistics.mean(shares):.0%}{spread}, lowest {min(shares):.0%}."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--out", type=Path, default=Path("runs/seeds"))
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        rows.append(row_of(seed, arguments.out))
        RESULTS.write_text(json.dumps(rows, indent=2) + "\n")
        print(f"seed {seed} done", flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
