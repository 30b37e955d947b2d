"""What an active order of questions saves: a judge's accuracy against the rankings that people had to make.

    python benchmarks/active.py                # three seeds of the built-in world
    python benchmarks/active.py --quick        # one seed, few prompts: does everything still work?

Writes benchmarks/results/active.json. Per seed eight answers to each prompt are sampled from one SFT model, of which
people rank four at a time, as the recipe's queue has it: chosen by nobody, or by `feedback.queue.order: active`. Judges
learn from the first rankings of either, as they were made, held-out ones among them. Measured: pairs of other prompts'
answers in the order of the truth. `wide` is a control that nobody has: the four answers furthest apart by the truth.
The curve of the random order, a line over the logarithm of the rankings, says how many random ones are worth as much.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from bench import WORK, say
from study import Record, Study, shown, t_interval, table
from teacher import Teacher

from plaudit import Recipe, load_recipe, run_act
from plaudit.data.formats import read_log
from plaudit.data.responses import by_prompt, distinct_responses
from plaudit.evaluation.judge import hear
from plaudit.evaluation.pairs import pair_accuracy, pair_outcomes
from plaudit.feedback.collect import collect_judgements
from plaudit.material import Material
from plaudit.recipe_file import shipped_recipe
from plaudit.run_folder import read_rows
from plaudit.types import Judgement, Prompt, Response
from plaudit.worlds.people import WEIGHTS, Person
from plaudit.worlds.truth import truth

BUDGETS = (150, 300, 600)
MOST = 1200
"""Random rankings, to read off how many of them active ones are worth."""
SHOWN = 4
TESTED = 300
EPOCHS = 4
"""More than the recipe's: with a few hundred rankings two are too few for either order."""
SMALL = ["sft.examples=64", "sample.prompts=64", "sample.max_new_tokens=12", "feedback.queue.first=12"]

Task = tuple[Prompt, Sequence[Response]]


def measure(recipe: Recipe, budgets: Sequence[int], most: int, tested: int) -> Record:
    world = Material(recipe).world
    assert world is not None
    run_act(recipe, "sft", quiet=True)
    sage = Person(name="truth", weights=WEIGHTS, temperature=1e-6, tie_width=0.0)
    found: dict[str, dict[int, float]] = {}
    true: list[Judgement] = []
    for way in ("random", "active", "wide"):
        own = recipe.model_copy(update={"name": f"{recipe.name}_{way}"})
        made = judged(own, way, most if way == "random" else budgets[-1])
        if not true:
            seed = recipe.seed + 1_000_000
            true = [sage.judge(prompt, said, seed=0) for prompt, said in sampled(own, seed, tested)]
        teacher = Teacher(own, str(own.out / own.name / "round_0" / "sft" / "model"), own.out / own.name / "judges")
        teacher.folder.mkdir(parents=True, exist_ok=True)
        found[way] = {}
        for budget in (*budgets, *((most,) if way == "random" else ())):
            judge = teacher.judge(made[:budget], epochs=EPOCHS)
            rows = [one.scores_K for one in hear(judge, true)]
            found[way][budget] = pair_accuracy(pair_outcomes(true, rows), resamples=100).value
            say(f"seed {recipe.seed}  {way}, {budget} rankings: {found[way][budget]:.3f}")
    return {"accuracy": found, "worth": {way: worth(found["random"], found[way]) for way in ("active", "wide")}}


def judged(recipe: Recipe, way: str, many: int) -> list[Judgement]:
    """The rankings that people make, in the order in which they make them."""
    queue = recipe.feedback.queue.model_copy(
        update={"order": "active" if way == "active" else "random", "quota": many if way != "wide" else 2}
    )
    recipe = recipe.model_copy(update={"feedback": recipe.feedback.model_copy(update={"queue": queue})})
    for act in ("sft", "sample"):
        run_act(recipe, act, quiet=True)
    folder = recipe.out / recipe.name
    if way != "wide":
        return read_log(folder / "judgements.jsonl")[0]
    world = Material(recipe).world
    assert world is not None
    log = folder / "wide.jsonl"
    log.unlink(missing_ok=True)
    tasks = [wide(task) for task in responses(folder)][:many]
    return collect_judgements(tasks, world.annotators(seed=recipe.seed), per_prompt=1, seed=recipe.seed, path=log)


def responses(folder: Path) -> list[Task]:
    rows = by_prompt(read_rows(folder / "round_0" / "responses" / "responses.jsonl"))
    return [(prompt, distinct) for prompt, said in rows if len(distinct := distinct_responses(said)) > 1]


def wide(task: Task) -> Task:
    """Evenly spread over the answers as the truth orders them."""
    prompt, said = task
    order = np.argsort([truth(prompt, one.text)["total"] for one in said]).tolist()
    places = np.linspace(0, len(said) - 1, min(SHOWN, len(said))).round().astype(int).tolist()
    return prompt, [said[order[place]] for place in places]


def sampled(recipe: Recipe, seed: int, many: int) -> list[Task]:
    """Answers to prompts that no ranking is about."""
    apart = recipe.model_copy(
        update={
            "seed": seed,
            "name": f"{recipe.name}_tested",
            "sample": recipe.sample.model_copy(update={"prompts": many, "responses_per_prompt": SHOWN}),
        }
    )
    folder = apart.out / apart.name / "round_0"
    folder.mkdir(parents=True, exist_ok=True)
    known = recipe.out / recipe.name
    asked = {prompt.id for prompt, _ in responses(known)}
    source = known / "round_0" / "sft"
    if not (folder / "sft").exists():
        (folder / "sft").symlink_to(source.resolve(), target_is_directory=True)
    apart = apart.model_copy(
        update={"sft": None, "model": apart.model.model_copy(update={"path": str(source / "model")})}
    )
    run_act(apart, "sample", quiet=True)
    return [task for task in responses(apart.out / apart.name) if task[0].id not in asked]


def worth(random: Mapping[int, float], other: Mapping[int, float]) -> dict[int, float]:
    """Random rankings with which as much is reached, over the rankings that were made: the random curve is a line over
    the logarithm of the rankings (least squares)."""
    slope, start = np.polyfit(np.log(list(random)), list(random.values()), 1)
    return {budget: float(np.exp((accuracy - start) / slope) / budget) for budget, accuracy in other.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/active"))
    parser.add_argument("--quick", action="store_true", help="one seed, few prompts")
    arguments = parser.parse_args()
    study = Study("active", quick=arguments.quick)
    out = WORK / "active" if arguments.quick else arguments.out
    budgets, most, tested = ((12, 24), 40, 40) if arguments.quick else (BUDGETS, MOST, TESTED)
    parts: list[Record] = []
    for seed in arguments.seeds[:1] if arguments.quick else arguments.seeds:
        changes = [
            f"seed={seed}", f"out={out}", f"cache={out / 'cache'}", f"name=seed_{seed}", "sample.prompts=1500",
            "sample.responses_per_prompt=8", f"feedback.queue.shown={SHOWN}", f"reward.epochs={EPOCHS}",
            *(SMALL if arguments.quick else []),
        ]  # fmt: skip
        recipe = load_recipe(shipped_recipe("demo"), changes)
        settings = {
            "seed": seed, "budgets": budgets, "sample": recipe.sample.model_dump(mode="json"),
            "queue": recipe.feedback.queue.model_dump(mode="json"), "reward": recipe.reward.model_dump(mode="json"),
        }  # fmt: skip
        parts.append(study.part(settings, lambda recipe=recipe: measure(recipe, budgets, most, tested)))
    rows: list[list[str]] = []
    summary: Record = {}
    for way in ("random", "active", "wide"):
        of_way: list[Mapping[str, float]] = [{str(k): v for k, v in part["accuracy"][way].items()} for part in parts]
        for budget in of_way[0]:
            accuracy = t_interval([one[budget] for one in of_way])
            summary[f"{way}, {budget}"] = {"accuracy": accuracy}
            worths = [] if way == "random" else [{str(k): v for k, v in p["worth"][way].items()}[budget] for p in parts]
            if worths:
                summary[f"{way}, {budget}"]["worth"] = {"median": statistics.median(worths), "seeds": worths}
            rows.append([way, budget, shown(accuracy), f"{statistics.median(worths):.2f}" if worths else "1"])
    study.conclude("active", summary)
    print(table(["order", "rankings", "accuracy", "random rankings that are worth one"], rows))


if __name__ == "__main__":
    main()
