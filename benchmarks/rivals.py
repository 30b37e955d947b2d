"""Three ways from the same rankings: PPO against the judge, DPO, and the best of n by the judge.

    python benchmarks/rivals.py                  # five seeds of the built-in world
    python benchmarks/rivals.py --quick          # one seed, few steps: does everything still work?

Writes benchmarks/results/rivals.json. Per seed all ways start from one SFT model and one set of rankings, and answer
the world's evaluation prompts. Measured: truth and each of its objectives, KL to the SFT model, how often people who
taught nobody prefer an answer to that of the SFT model, and seconds. DPO's beta was chosen on the "tuning" prompts of
seed 100, from .05 to .5.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from bench import WORK, say
from leash import manner, open_contest
from study import Record, Study, shown, t_interval, table

from plaudit import Recipe, load_recipe, run_act
from plaudit.evaluation.overoptimization import kl_of_best_of
from plaudit.evaluation.truth import score
from plaudit.evaluation.winrate import win_rate
from plaudit.progress import Journal
from plaudit.recipe_file import shipped_recipe
from plaudit.run_folder import read_manifest, read_rows

SMALL = ["sft.examples=64", "sample.prompts=40", "ppo.steps=2", "ppo.prompts_per_step=8", "evaluation.prompts=40"]
BEST_OF = (4, 16)
NAMES = {"sft": "SFT", "rlhf": "PPO", "dpo": "DPO"}
"""Of the evaluation's checkpoints."""
OBJECTIVES = ("total", "helpful", "harmless", "honest", "kind")


def measure(recipe: Recipe) -> Record:
    """Way -> its figures; a way's seconds are those that it needs beside SFT and the rankings, the judge's apart."""
    for act in ("sft", "sample", "reward", "ppo", "evaluate"):
        run_act(recipe, act, quiet=True)
    contest, prompts, done = open_contest(recipe)
    told = read_manifest(done / "evaluation") or {}
    spent = {act: (read_manifest(done / act) or {})["seconds"] for act in ("reward", "ppo", "dpo")}
    rows = read_rows(done / "evaluation" / "samples.jsonl")
    texts = {own: [row[name] for row in rows] for name, own in NAMES.items()}
    kl = {"SFT": 0.0} | {own: told["result"]["kl"][name]["value"] for name, own in NAMES.items() if name != "sft"}
    seconds = {"SFT": 0.0, "PPO": spent["ppo"], "DPO": spent["dpo"]}
    with Journal(done / "evaluation", quiet=True) as journal:
        for n in BEST_OF:
            began = time.monotonic()
            way, chosen = f"best of {n}", contest.best_of(n, prompts, contest.workshop.sft_model, journal)
            texts[way], kl[way], seconds[way] = list(chosen.texts), kl_of_best_of(n), time.monotonic() - began
    world, (prefer, _) = contest.world, contest.who_prefers()
    assert world is not None
    ways: Record = {}
    for way, said in texts.items():
        parts = score(world.truth(), prompts, said)
        ways[way] = {name: float(values.mean()) for name, values in parts.items()} | manner(said)
        won = win_rate(prompts, said, texts["SFT"], prefer, seed=recipe.seed, resamples=100).value
        ways[way] |= {"kl": kl[way], "seconds": seconds[way], "win_rate": won}
    say(f"seed {recipe.seed}  " + "  ".join(f"{way} {found['total']:.3f}" for way, found in ways.items()))
    return {"ways": ways, "judge_seconds": spent["reward"]}


def summary_of(parts: Sequence[Record]) -> Record:
    """Intervals over seeds of each figure, and of the differences in truth, seed by seed."""
    ways = list(parts[0]["ways"])
    figures = {
        way: {key: t_interval([part["ways"][way][key] for part in parts]) for key in parts[0]["ways"][way]}
        for way in ways
    }
    apart = {
        f"{one} less {other}": t_interval([p["ways"][one]["total"] - p["ways"][other]["total"] for p in parts])
        for other, one in combinations([way for way in ways if way != "PPO"] + ["PPO"], 2)
    }
    return {"ways": figures, "truth_apart": apart}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--out", type=Path, default=Path("runs/rivals"))
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="acts that are done; leash.py's too")
    parser.add_argument("--quick", action="store_true", help="one seed, few steps")
    arguments = parser.parse_args()
    study = Study("rivals", quick=arguments.quick)
    out, cache = (WORK / "rivals", WORK / "cache") if arguments.quick else (arguments.out, arguments.cache)
    parts: list[Record] = []
    for seed in arguments.seeds[:1] if arguments.quick else arguments.seeds:
        changes = [f"seed={seed}", f"out={out}", f"cache={cache}", f"name=seed_{seed}", "evaluation.dpo=true"]
        changes += ["evaluation.ceiling=null", "reward.learning_curve=false", *(SMALL if arguments.quick else [])]
        recipe = load_recipe(shipped_recipe("demo"), changes)
        settings = {"seed": seed, "prompts": recipe.evaluation.prompts}
        settings |= recipe.model_dump(mode="json", include={"sample", "reward", "ppo", "dpo"})
        parts.append(study.part(settings, lambda recipe=recipe: measure(recipe)))
    summary = summary_of(parts)
    study.conclude("rivals", summary)
    head = ["", *OBJECTIVES, "win rate over SFT", "KL", "words", "seconds"]
    rows = [
        [
            way,
            *(shown(figures[key]) for key in (*OBJECTIVES, "win_rate")),
            *(shown(figures[key], 1) for key in ("kl", "words", "seconds")),
        ]
        for way, figures in summary["ways"].items()
    ]
    print(table(head, rows))
    for name, figure in summary["truth_apart"].items():
        print(f"{name}: {shown(figure)}")
    print(f"the judge, which PPO and best of n need: {shown(t_interval([p['judge_seconds'] for p in parts]), 1)} s")


if __name__ == "__main__":
    main()
