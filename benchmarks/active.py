"""What an active order, and another form of question, save: a judge's accuracy against the choices people had to make.

    python benchmarks/active.py                # ten seeds of the built-in world, three hours on one core
    python benchmarks/active.py --only form    # the form of the question alone
    python benchmarks/active.py --policies 3   # and PPO with the judges of two budgets, for three of the seeds
    python benchmarks/active.py --quick        # one seed, few prompts: does everything still work?

Writes benchmarks/results/active.json and docs/images/active.svg. Per seed eight answers to each prompt are sampled from
one SFT model, of which people rank four at a time, as the recipe's queue has it: chosen by nobody, or by
`feedback.queue.order: active`, which leaves the prompts to chance. Judges learn from the first rankings of either, as
they were made, held-out ones among them. Measured: pairs of other prompts' answers in the order of the truth. Two
controls: what the members of a judge on one trunk disagree about most is asked first, prompts and all, stage by stage
like the active order; and, which nobody has, the four answers furthest apart by the truth. The curve of the random
order, a line over the logarithm of the rankings, says how many random ones are worth as much.

The form: of the eight answers that there are the best and the worst (`feedback.queue.ask: best_and_worst`), or of nine
that the active order chooses among sixteen, against whole rankings of four chosen by nobody. An action of an annotator
is one choice: a ranking of four takes three of them, and the best and the worst of any number take two.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from active_figures import ACTIONS, accuracy_table, inverted, plot, summary_of
from bench import WORK, say
from study import Record, Study, shown, t_interval
from teacher import Teacher

from plaudit import Recipe, load_recipe, run_act
from plaudit.data.formats import read_log
from plaudit.data.responses import by_prompt, distinct_responses
from plaudit.evaluation.judge import hear
from plaudit.evaluation.pairs import pair_accuracy, pair_outcomes
from plaudit.feedback.collect import collect_judgements
from plaudit.labels import Labels
from plaudit.material import Material
from plaudit.recipe_file import shipped_recipe
from plaudit.run_folder import RunFolder, read_rows
from plaudit.types import Judgement, Prompt, Question, Response
from plaudit.worlds.people import WEIGHTS, Person
from plaudit.worlds.truth import truth

BUDGETS = (150, 300, 600)
MOST = 1200
"""Random rankings, to read off how many of them active ones are worth."""
ANSWERS, SHOWN = 8, 4
TESTED = 1500
"""Prompts, of which those are left out that rankings are about."""
SAME = 1e-3
"""Difference in truth up to which answers are equally good: such pairs are left out, or each were a coin's toss."""
EPOCHS = 4
"""More than the recipe's: with a few hundred rankings two are too few for either order."""
MEMBERS = 4
SMALL = ["sft.examples=64", "sample.prompts=64", "sample.max_new_tokens=12", "feedback.queue.first=12"]
SMALL_PPO = ["ppo.steps=2", "ppo.prompts_per_step=8", "ppo.max_new_tokens=12", "evaluation.prompts=12"]
WAYS = ("random", "active", "members", "wide")
FORMS: dict[str, dict[str, Any]] = {
    "random": {},
    "ends": {"ask": "best_and_worst", "shown": None},
    "active_ends": {"ask": "best_and_worst", "shown": 9, "order": "active"},
}
SAMPLED = {"active_ends": 16}
"""Answers to each prompt, where they are more than ANSWERS."""
PLOT = Path(__file__).parents[1] / "docs" / "images" / "active.svg"

Task = tuple[Prompt, Sequence[Response]]


# -- judges ---------------------------------------------------------------------------------------------------------


Makes = Callable[[Recipe, str, int, Teacher], list[Judgement]]
"""Of a recipe, a way and a number: what people say, in the order in which they say it."""


def measure(
    recipe: Recipe, ways: Iterable[str], makes: Makes, budgets: Sequence[int], most: int, tested: int
) -> Record:
    run_act(recipe, "sft", quiet=True)
    teacher = teacher_of(recipe)
    sage = Person(name="truth", weights=WEIGHTS, temperature=1e-6, tie_width=SAME)
    found: dict[str, dict[str, float]] = {}
    true: list[Judgement] = []
    for way in ways:
        own = recipe.model_copy(update={"name": f"{recipe.name}_{way}"})
        made = makes(own, way, most if way == "random" else budgets[-1], teacher)
        if not true:
            seed = recipe.seed + 1_000_000
            true = [sage.judge(prompt, said, seed=0) for prompt, said in sampled(own, seed, tested)]
        found[way] = {}
        for budget in (*budgets, *((most,) if way == "random" else ())):
            rows = [one.scores_K for one in hear(teacher.judge(made[:budget], epochs=EPOCHS), true)]
            accuracy = pair_accuracy(pair_outcomes(true, rows), resamples=100).value
            found[way][str(budget)] = accuracy
            say(f"seed {recipe.seed}  {way}, {budget} judgements: {accuracy:.3f}")
    return {"accuracy": found, "tested": len(true)}


def asked_otherwise(recipe: Recipe, way: str, many: int, teacher: Teacher) -> list[Judgement]:
    """What people say where the queue has another form of question."""
    queue = recipe.feedback.queue.model_copy(update=FORMS[way] | {"quota": many})
    sample = recipe.sample.model_copy(update={"responses_per_prompt": SAMPLED.get(way, ANSWERS)})
    feedback = recipe.feedback.model_copy(update={"queue": queue})
    own = recipe.model_copy(update={"feedback": feedback, "sample": sample})
    for act in ("sft", "sample"):
        run_act(own, act, quiet=True)
    return read_log(own.out / own.name / "judgements.jsonl")[0]


def teacher_of(recipe: Recipe) -> Teacher:
    folder = recipe.out / recipe.name
    (folder / "judges").mkdir(parents=True, exist_ok=True)
    return Teacher(recipe, str(folder / "round_0" / "sft" / "model"), folder / "judges")


def judged(recipe: Recipe, way: str, many: int, teacher: Teacher) -> list[Judgement]:
    """The rankings that people make, in the order in which they make them."""
    staged, control = way in ("active", "members"), way in ("members", "wide")
    queue = recipe.feedback.queue.model_copy(update={"order": "active" if staged else "random", "quota": many})
    recipe = recipe.model_copy(update={"feedback": recipe.feedback.model_copy(update={"queue": queue})})
    for act in ("sft", "sample"):  # of a control the answers alone are wanted: what is asked is not the run's to say
        run_act(asking_little(recipe) if control else recipe, act, quiet=True)
    folder = recipe.out / recipe.name
    log = folder / "judgements.jsonl"
    if control:
        log.unlink()
    if way == "members":
        Labels(recipe, Material(recipe), RunFolder(folder, cache=None, quiet=True)).collect(0, Disputed(teacher))
    if way == "wide":
        world = Material(recipe).world
        assert world is not None
        tasks = [wide(task) for task in responses(folder)][:many]
        return collect_judgements(tasks, world.annotators(seed=recipe.seed), per_prompt=1, seed=recipe.seed, path=log)
    return read_log(log)[0]


def asking_little(recipe: Recipe) -> Recipe:
    queue = recipe.feedback.queue.model_copy(update={"order": "random", "quota": 2})
    return recipe.model_copy(update={"feedback": recipe.feedback.model_copy(update={"queue": queue})})


class Disputed:
    """`plaudit.labels.Asks`, of a judge whose heads on one trunk learned from draws of their own: first what they
    disagree about most, in the deviation of a difference of two answers' scores."""

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher

    def __call__(
        self, tasks: Sequence[Task], judgements: Sequence[Judgement], *, shown: int | None, count: int
    ) -> list[Question]:
        judge = self.teacher.judge(judgements, members=MEMBERS)
        texts = [(prompt, response.text) for prompt, said in tasks for response in said]
        scores_BE = judge.by_member([prompt for prompt, _ in texts], [text for _, text in texts])[:, :, 0]
        found: list[Question] = []
        for place, scores_KE in enumerate(scores_BE.split([len(said) for _, said in tasks])):
            apart_KK = (scores_KE[:, None] - scores_KE[None, :]).std(dim=-1).numpy()
            chosen, dispute = most_disputed(apart_KK, shown or len(apart_KK))
            found.append(Question(place=place, shown=chosen, gain=dispute))
        return sorted(found, key=lambda one: -one.gain)


def most_disputed(apart_KK: Any, many: int) -> tuple[tuple[int, ...], float]:
    """The set of answers with the highest mean over its pairs."""

    def mean(some: Sequence[int]) -> float:
        return float(np.mean([apart_KK[pair] for pair in itertools.combinations(some, 2)]))

    sets = itertools.combinations(range(len(apart_KK)), min(many, len(apart_KK)))
    return max(((some, mean(some)) for some in sets), key=lambda one: one[1])


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


# -- policies -------------------------------------------------------------------------------------------------------


def policy(recipe: Recipe) -> Record:
    """PPO with a judge of so many rankings, and what its answers are worth."""
    for act in ("sft", "sample", "reward", "ppo", "evaluate"):
        run_act(recipe, act, quiet=True)
    told = json.loads((recipe.out / recipe.name / "summary.json").read_text())["rounds"][0]
    truths = told["evaluation"]["truth"]
    made: Record = {"sft": truths["sft"]["total"]["value"], "truth": truths["rlhf"]["total"]["value"]}
    say(f"{recipe.name}: truth {made['sft']:.3f} -> {made['truth']:.3f}, KL {told['ppo']['kl']:.1f}")
    return made | {"kl": told["ppo"]["kl"], "judge_accuracy": told["reward"]["accuracy"]["value"]}


def policies_of(study: Study, seeds: Sequence[int], out: Path, *, quick: bool) -> None:
    """What PPO makes of the judges of two budgets: of rankings chosen by nobody, and of the best and the worst in the
    active order, as many choices each."""
    budgets = (24, 40) if quick else BUDGETS[1:]
    found: dict[tuple[str, int], list[float]] = {}
    for seed, way, budget in itertools.product(seeds, ("random", "active_ends"), budgets):
        judgements = budget * ACTIONS["random"] // ACTIONS[way]
        queue = {"order": "random"} | FORMS[way] | {"quota": judgements}
        changes = [f"name=seed_{seed}_{way}_ppo_{budget}", "evaluation.ceiling=null", *(SMALL_PPO if quick else [])]
        changes += [f"feedback.queue.{name}={'null' if value is None else value}" for name, value in queue.items()]
        changes += [f"sample.responses_per_prompt={SAMPLED.get(way, ANSWERS)}"]
        recipe = recipe_of(seed, out, changes, quick=quick)
        settings: Record = {"policy of": way, "seed": seed, "budget": budget, "prompts": recipe.evaluation.prompts}
        settings |= recipe.model_dump(mode="json", include={"sample", "reward", "ppo"})
        made = study.part(settings, lambda recipe=recipe: policy(recipe))
        found.setdefault((way, budget), []).append(made["truth"] - made["sft"])
    summary: Record = {f"{way}, {budget}": {"gain": t_interval(gains)} for (way, budget), gains in found.items()}
    for way, budget in found:
        if way != "random":
            apart = [a - b for a, b in zip(found[way, budget], found["random", budget], strict=True)]
            summary[f"{way}, {budget}"]["less random"] = t_interval(apart)
    study.conclude("policies", summary)
    for name, one in summary.items():
        less = f", less that of random ones {shown(one['less random'])}" if "less random" in one else ""
        print(f"policy of {name} rankings, or as many choices: gain in truth {shown(one['gain'])}{less}")


# -- the command ----------------------------------------------------------------------------------------------------


def recipe_of(seed: int, out: Path, changes: Sequence[str], *, quick: bool) -> Recipe:
    mine = [f"seed={seed}", f"out={out}", f"cache={out / 'cache'}", f"name=seed_{seed}", f"reward.epochs={EPOCHS}"]
    mine += ["sample.prompts=1500", f"sample.responses_per_prompt={ANSWERS}", f"feedback.queue.shown={SHOWN}"]
    return load_recipe(shipped_recipe("demo"), [*mine, *(SMALL if quick else []), *changes])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--only", nargs="+", choices=["order", "form"], default=["order", "form"])
    parser.add_argument("--policies", type=int, default=0, help="seeds whose judges are followed by PPO as well")
    parser.add_argument("--out", type=Path, default=Path("runs/active"))
    parser.add_argument("--quick", action="store_true", help="one seed, few prompts")
    arguments = parser.parse_args()
    quick = arguments.quick
    study = Study("active", quick=quick)
    out = WORK / "active" if quick else arguments.out
    if quick:
        arguments.seeds, arguments.policies = arguments.seeds[:1], 1
    budgets, most, tested = ((12, 24), 40, 40) if quick else (BUDGETS, MOST, TESTED)
    summary: Record = {}
    for what in arguments.only:
        parts: list[Record] = []
        for seed in arguments.seeds:
            recipe = recipe_of(seed, out, [], quick=quick)
            settings: Record = {"seed": seed, "budgets": budgets, "most": most, "tested": tested, "same": SAME}
            settings |= recipe.model_dump(mode="json", include={"sample", "reward"})
            settings |= {"queue": recipe.feedback.queue.model_dump(mode="json", exclude={"ask"})}
            if what == "form":
                settings |= {"forms": FORMS, "sampled": SAMPLED}
            ways, makes = (WAYS, judged) if what == "order" else (FORMS, asked_otherwise)
            measured = partial(measure, recipe, ways, makes, budgets, most, tested)
            parts.append(study.part(settings, measured))
        found = summary_of(parts)
        study.conclude("active" if what == "order" else "forms", found)
        print(accuracy_table(found))
        summary |= found
        if what == "form" and len(parts) > 1:
            shares = inverted(parts)
            study.conclude("inverted", shares)
            for name, one in shares.items():
                print(f"{name}: {one['value']:.0%} of them ({one['low']:.0%} to {one['high']:.0%})")
    plot(summary, WORK / "active.svg" if quick else PLOT)
    if arguments.policies:
        policies_of(study, arguments.seeds[: arguments.policies], out, quick=quick)


if __name__ == "__main__":
    main()
