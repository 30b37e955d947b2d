"""Which judge earns its place: likelihoods, members, averages of weights; and whether a judge foresees where it errs.

    python benchmarks/judges.py                # five seeds of the built-in world
    python benchmarks/judges.py --quick        # one seed, few prompts: does everything still work?

Writes benchmarks/results/judges.json. Per seed, on one SFT model and the same rankings of its answers:

- judges by pairs, by Plackett-Luce, of four members; the mean of three trainings that differ in the order of the data,
  and one judge of their averaged weights (WARM, 2401.12187). Measured: pairs of held-out prompts in the order of the
  truth, and what scoring costs beside one training's judge, in turn.
- a judge of four members that has seen some kinds of prompts alone, on answers to those and to the other kinds: how
  well each of its doubts foresees an error (AUROC, .5 is a coin), on the others and on all together.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from bench import WORK, say
from careless import SMALL, TESTED
from study import Record, Study, shown, t_interval, table
from teacher import Teacher

from plaudit import Recipe, RewardModel, load_recipe, run_act
from plaudit.data.responses import by_prompt, distinct_responses
from plaudit.data.split import split_by_prompt
from plaudit.evaluation.judge import hear
from plaudit.evaluation.judge_report import foresight, judged_pairs
from plaudit.evaluation.pairs import pair_accuracy, pair_outcomes
from plaudit.feedback.collect import collect_judgements
from plaudit.material import Material
from plaudit.recipe_file import shipped_recipe
from plaudit.run_folder import read_rows
from plaudit.types import Judgement, Prompt, Response, RewardFunction
from plaudit.worlds.people import WEIGHTS, Person

KNOWN = frozenset({"fact", "sum", "chat"})
"""Kinds of prompts that the shifted judge has seen; the others ask for what nobody knows, and for what does harm."""
MEMBERS = 4
TRAININGS = 3
ROUNDS = 5
"""Of timing, in turn."""

Task = tuple[Prompt, Sequence[Response]]


def measure(recipe: Recipe, folder: Path) -> Record:
    for act in ("sft", "sample"):
        run_act(recipe, act, quiet=True)
    done = recipe.out / recipe.name / "round_0"
    rows = by_prompt(read_rows(done / "responses" / "responses.jsonl"))
    tasks = [(prompt, distinct) for prompt, said in rows if len(distinct := distinct_responses(said)) > 1]
    training, testing = split_by_prompt(tasks, TESTED, recipe.seed, lambda task: task[0])
    world = Material(recipe).world
    assert world is not None
    log = folder / "judgements.jsonl"
    log.unlink(missing_ok=True)
    learned = collect_judgements(training, world.annotators(seed=recipe.seed), per_prompt=1, seed=recipe.seed, path=log)
    sage = Person(name="truth", weights=WEIGHTS, temperature=1e-6, tie_width=0.0)
    true = [sage.judge(prompt, said, seed=0) for prompt, said in testing]
    teacher = Teacher(recipe, str(done / "sft" / "model"), folder)
    return options(teacher, learned, true) | {"doubts": doubts(teacher, learned, true)}


def options(teacher: Teacher, learned: Sequence[Judgement], true: Sequence[Judgement]) -> Record:
    likelihood = teacher.recipe.reward.likelihood
    trained = [teacher.judge(learned, order=order) for order in range(TRAININGS)]
    judges: dict[str, RewardFunction] = {
        "pairs": trained[0],
        "Plackett-Luce": teacher.judge(
            learned, likelihood=likelihood.model_copy(update={"ranking": "plackett_luce", "margin": 0.0})
        ),
        "pairs without margin": teacher.judge(learned, likelihood=likelihood.model_copy(update={"margin": 0.0})),
        f"{MEMBERS} members": teacher.judge(learned, members=MEMBERS),
        f"mean of {TRAININGS} trainings": Mean(trained),
    }
    seconds = cost(judges["pairs"], judges[f"{MEMBERS} members"], true)
    accuracy: dict[str, float] = {}

    def note(name: str, judge: RewardFunction) -> None:
        rows = [one.scores_K for one in hear(judge, true)]
        accuracy[name] = pair_accuracy(pair_outcomes(true, rows), resamples=100).value
        say(f"seed {teacher.recipe.seed}  {name}: {accuracy[name]:.3f}")

    for name, judge in judges.items():
        note(name, judge)
    # When all others are measured: it changes the first of them.
    note(f"weights of {TRAININGS} averaged", averaged(trained))
    return {"accuracy": accuracy, "scoring_cost_of_members": seconds}


class Mean:
    """Several judges as one."""

    objectives = ("overall",)

    def __init__(self, judges: Sequence[RewardModel]) -> None:
        self.judges = judges

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> torch.Tensor:
        return torch.stack([judge(prompts, responses) for judge in self.judges]).mean(dim=0)


@torch.no_grad()
def averaged(judges: Sequence[RewardModel]) -> RewardModel:
    """The first of them, its weights those of all on average."""
    for parameters in zip(*(judge.parameters() for judge in judges), strict=True):
        parameters[0].copy_(torch.stack(list(parameters)).mean(dim=0))
    return judges[0]


def cost(one: RewardFunction, several: RewardFunction, judgements: Sequence[Judgement]) -> float:
    """Time of scoring with several members over that with one: the median of turns."""

    def seconds(judge: RewardFunction) -> float:
        start = time.perf_counter()
        hear(judge, judgements)
        return time.perf_counter() - start

    seconds(one)
    return statistics.median(seconds(several) / seconds(one) for _ in range(ROUNDS))


def doubts(teacher: Teacher, learned: Sequence[Judgement], true: Sequence[Judgement]) -> Mapping[str, Record]:
    """Of a judge that knows some kinds of prompts alone: how well each sign of doubt foresees its errors."""
    own = [one for one in learned if KNOWN & set(one.prompt.tags)]
    judge = teacher.judge(own, members=MEMBERS)
    known, strange = ([one for one in true if bool(KNOWN & set(one.prompt.tags)) is wanted] for wanted in (True, False))
    texts = [[(one.prompt, response.text) for one in part for response in one.responses] for part in (own, known)]
    judge.learn_what_is_usual(*(([p for p, _ in each], [t for _, t in each]) for each in texts))
    found: dict[str, Record] = {}
    for name, part in (("known kinds", known), ("other kinds", strange), ("all", [*known, *strange])):
        heard = hear(judge, part)
        pairs = judged_pairs(part, heard, [""] * len(part))
        decided = [pair for pair in pairs if not pair.tied]
        found[name] = {
            "accuracy": statistics.mean(pair.correct for pair in decided),
            "auroc": {sign: one["value"] for sign, one in foresight(pairs, resamples=1, seed=0).items()},
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--prompts", type=int, default=1200, help="a third of them is for testing")
    parser.add_argument("--out", type=Path, default=Path("runs/judges"))
    parser.add_argument("--quick", action="store_true", help="one seed, few prompts")
    arguments = parser.parse_args()
    study = Study("judges", quick=arguments.quick)
    out = WORK / "judges" if arguments.quick else arguments.out
    parts: list[Record] = []
    for seed in arguments.seeds[:1] if arguments.quick else arguments.seeds:
        more = SMALL if arguments.quick else [f"sample.prompts={arguments.prompts}"]
        changes = [f"seed={seed}", f"out={out}", f"name=seed_{seed}", *more]
        recipe = load_recipe(shipped_recipe("demo"), changes)
        folder = out / f"seed_{seed}" / "judges"
        folder.mkdir(parents=True, exist_ok=True)
        settings = {"seed": seed, "prompts": recipe.sample.prompts, "reward": recipe.reward.model_dump(mode="json")}
        parts.append(study.part(settings, lambda recipe=recipe, folder=folder: measure(recipe, folder)))
    plain = [part["accuracy"]["pairs"] for part in parts]
    summary: Record = {"cost": statistics.median(part["scoring_cost_of_members"] for part in parts)}
    rows = []
    for name in parts[0]["accuracy"]:
        values = [part["accuracy"][name] for part in parts]
        more = t_interval([value - base for value, base in zip(values, plain, strict=True)])
        summary[name] = {"accuracy": t_interval(values), "over_pairs": more}
        rows.append([name, shown(t_interval(values)), shown(more)])
    print(table(["judge", "accuracy", "more than pairs"], rows))
    print(f"scoring with {MEMBERS} members costs {summary['cost']:.2f} times as much")
    kinds = list(parts[0]["doubts"])
    signs = list(parts[0]["doubts"]["all"]["auroc"])
    aurocs = {
        kind: {sign: t_interval([part["doubts"][kind]["auroc"][sign] for part in parts]) for sign in signs}
        for kind in kinds
    }
    summary["doubts"] = {
        kind: {"accuracy": t_interval([part["doubts"][kind]["accuracy"] for part in parts]), "auroc": aurocs[kind]}
        for kind in kinds
    }
    study.conclude("judges", summary)
    print(
        table(["sign of doubt", *kinds], [[sign, *(shown(aurocs[kind][sign], 2) for kind in kinds)] for sign in signs])
    )


if __name__ == "__main__":
    main()
