"""Judges taught by people of whom three in ten rank without having read: what is lost, and what is won back.

    python benchmarks/careless.py                # ten seeds of the built-in world
    python benchmarks/careless.py --quick        # one seed, few prompts: does everything still work?

Writes benchmarks/results/careless.json. Per seed four judges learn from the same responses, on one SFT model: from
people who read, from the same people with three of the ten careless, from those again with
`reward.likelihood.annotators: reliability`, and from the seven who read alone, which nobody could know. Each prompt is
ranked by several people. Measured: pairs of held-out prompts in the order of the truth.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench import WORK, say
from study import Record, Study, shown, t_interval
from teacher import Teacher

from plaudit import Recipe, load_recipe, run_act
from plaudit.data.responses import by_prompt, distinct_responses
from plaudit.data.split import split_by_prompt
from plaudit.evaluation.judge import hear
from plaudit.evaluation.pairs import pair_accuracy, pair_outcomes
from plaudit.feedback.collect import collect_judgements
from plaudit.material import Material
from plaudit.recipe_file import shipped_recipe
from plaudit.run_folder import read_rows
from plaudit.types import Judgement
from plaudit.worlds.people import WEIGHTS, Person, crowd

CARELESS = 3
TESTED = 1 / 3
"""Share of the prompts that nobody ranks but the truth."""
PEOPLE = 10
SMALL = ["sft.examples=64", "sample.prompts=40", "sample.max_new_tokens=12"]
WAYS = ("all read", "careless", "careless, found", "careless, left out")


def people(seed: int, careless: int) -> list[Person]:
    """The world's ten; the first of them rank blindly, the others always read."""
    everybody = crowd(PEOPLE, seed=seed)
    return [replace(one, carelessness=1.0 if place < careless else 0.0) for place, one in enumerate(everybody)]


def measure(recipe: Recipe, folder: Path, per_prompt: int) -> Record:
    """Accuracy of the judges, and what was learned of each annotator."""
    for act in ("sft", "sample"):
        run_act(recipe, act, quiet=True)
    done = recipe.out / recipe.name / "round_0"
    rows = by_prompt(read_rows(done / "responses" / "responses.jsonl"))
    tasks = [(prompt, distinct) for prompt, said in rows if len(distinct := distinct_responses(said)) > 1]
    world = Material(recipe).world
    assert world is not None
    sage = Person(name="truth", weights=WEIGHTS, temperature=1e-6, tie_width=0.0)
    training, testing = split_by_prompt(tasks, TESTED, recipe.seed, lambda task: task[0])
    true = [sage.judge(prompt, said, seed=0) for prompt, said in testing]
    blind = [one.name for one in people(recipe.seed, CARELESS)[:CARELESS]]
    found: Record = {}
    for way in WAYS:
        log = folder / f"{way}.jsonl"
        log.unlink(missing_ok=True)
        annotators = people(recipe.seed, 0 if way == "all read" else CARELESS)
        learned = collect_judgements(training, annotators, per_prompt=per_prompt, seed=recipe.seed, path=log)
        if way == WAYS[3]:
            learned = [one for one in learned if one.annotator not in blind]
        accuracy, about = judge_of(recipe, done, learned, true, folder, finds=way == WAYS[2])
        found[way] = {"accuracy": accuracy, "annotators": about}
        say(f"seed {recipe.seed}  {way}: {accuracy:.3f}")
    lost = found[WAYS[0]]["accuracy"] - found[WAYS[1]]["accuracy"]
    won = found[WAYS[2]]["accuracy"] - found[WAYS[1]]["accuracy"]
    return found | {"blind": blind, "lost": lost, "won_back": won}


def judge_of(
    recipe: Recipe, done: Path, learned: Sequence[Judgement], true: Sequence[Judgement], folder: Path, *, finds: bool
) -> tuple[float, Record]:
    likelihood = recipe.reward.likelihood.model_copy(update={"annotators": "reliability" if finds else "alike"})
    teacher = Teacher(recipe, str(done / "sft" / "model"), folder)
    judge, trained = teacher.taught(learned, likelihood=likelihood)
    rows = [one.scores_K for one in hear(judge, true)]
    return pair_accuracy(pair_outcomes(true, rows), resamples=100).value, trained.get("annotators", {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--prompts", type=int, default=1200, help="a third of them is for testing")
    parser.add_argument("--per-prompt", type=int, default=3, help="people who rank each prompt")
    parser.add_argument("--out", type=Path, default=Path("runs/careless"))
    parser.add_argument("--quick", action="store_true", help="one seed, few prompts")
    arguments = parser.parse_args()
    study = Study("careless", quick=arguments.quick)
    out = WORK / "careless" if arguments.quick else arguments.out
    parts: list[Record] = []
    for seed in arguments.seeds[:1] if arguments.quick else arguments.seeds:
        more = SMALL if arguments.quick else [f"sample.prompts={arguments.prompts}"]
        changes = [f"seed={seed}", f"out={out}", f"name=seed_{seed}", *more]
        recipe = load_recipe(shipped_recipe("demo"), changes)
        folder = out / f"seed_{seed}" / "careless"
        folder.mkdir(parents=True, exist_ok=True)
        settings = {"seed": seed, "prompts": recipe.sample.prompts, "per_prompt": arguments.per_prompt}
        settings |= {"reward": recipe.reward.model_dump(mode="json")}
        parts.append(
            study.part(settings, lambda recipe=recipe, folder=folder: measure(recipe, folder, arguments.per_prompt))
        )
    lost, won = (statistics.mean(part[key] for part in parts) for key in ("lost", "won_back"))
    accuracy = {way: t_interval([part[way]["accuracy"] for part in parts]) for way in WAYS}
    summary = {"accuracy": accuracy, "lost": lost, "won_back": won, "share": won / lost if lost > 0 else None}
    study.conclude("careless", summary)
    for way, one in accuracy.items():
        print(f"{way}: {shown(one)}")
    print(f"lost {lost:.3f}, won back {won:.3f}" + (f", {won / lost:.0%}" if lost > 0 else ""))


if __name__ == "__main__":
    main()
