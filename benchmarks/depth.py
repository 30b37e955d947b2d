"""How deep must adapters reach for equal learning, and what time do shallow ones save?

    python benchmarks/depth.py world                                # the built-in world, truth known
    python benchmarks/depth.py model --model DIR --data DIR         # a real model, a scripted reward
    python benchmarks/depth.py world --quick                        # seconds: does everything still work?

Writes benchmarks/results/depth.json and docs/images/depth.svg. In the world every depth starts from one SFT model and
is judged by one and the same judge, which stands on a trunk of its own; values start from zero everywhere. Learning
rates are chosen per depth on seed 100 and the prompts of "tuning"; results are of other seeds and of the prompts of
"evaluation".
"""

from __future__ import annotations

import argparse
import shutil
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench import WORK, say
from curves import TUNING_SEED, Contest, add_contest, contest_table, ours, real_course
from matplotlib.figure import Figure
from study import RATES, Record, Study, add_model, draw, model_of, shown, smoothed, t_interval, table, tuned

from plaudit import Chat, Recipe, RewardModel, Trunk, generate, load_recipe, ppo, run_act
from plaudit.evaluation.truth import score
from plaudit.intervals import paired_difference
from plaudit.material import Material
from plaudit.models.generate import sample_key
from plaudit.models.loading import load_causal_lm
from plaudit.progress import Journal
from plaudit.recipe_file import shipped_recipe
from plaudit.run_folder import read_rows
from plaudit.types import Prompt, Sampling

PLOT = Path(__file__).parents[1] / "docs" / "images" / "depth.svg"
BY_DEPTH = ("#1d3f73", "#3f86cc", "#e0a030", "#cc4f2a")
"""Colours, from adapters on all layers to those on the last ones alone."""
OCCASION = -2_000_000
"""Keeps the random numbers of evaluation apart from PPO's, whose steps are not negative."""
GUESSES = {0: 3e-4, 10: 6e-4, 20: 1.2e-3, 25: 2.4e-3}
"""Learning rates by depth, of 30 layers, around which the best is looked for: the fewer layers, the higher."""
SMALL = [
    *("sft.examples=64", "sample.prompts=16", "reward.epochs=1", "ppo.steps=2", "ppo.prompts_per_step=8"),
    *("ppo.max_new_tokens=12", "sample.max_new_tokens=12", "evaluation.prompts=12"),
]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What policy and value are on the four layers of the world's model."""

    name: str
    kind: Literal["lora", "full"]
    depth: int
    guess: float


ARMS = (
    Arm(name="full fine-tuning", kind="full", depth=0, guess=1e-3),
    Arm(name="adapters above 0", kind="lora", depth=0, guess=2e-3),
    Arm(name="adapters above 1", kind="lora", depth=1, guess=2e-3),
    Arm(name="adapters above 2", kind="lora", depth=2, guess=4e-3),
    Arm(name="adapters above 3", kind="lora", depth=3, guess=4e-3),
)
BASELINE = ARMS[1].name


# -- the built-in world ---------------------------------------------------------------------------------------------


class World:
    """The demo's recipe, seed by seed: Acts I and II once, then PPO as each arm does it."""

    def __init__(self, study: Study, out: Path, *, quick: bool) -> None:
        self.study, self.out, self.small = study, out, SMALL if quick else []

    def recipe(self, seed: int, split: str = "evaluation") -> Recipe:
        changes = [f"seed={seed}", f"out={self.out}", f"name=seed_{seed}", f"evaluation.split={split}"]
        return load_recipe(shipped_recipe("demo"), ["ppo.value_start=zero", *changes, *self.small])

    def trial(self, arm: Arm | None, rate: float, seed: int, split: str) -> Record:
        """PPO of one arm (None: the SFT model as it is), and what its answers are worth."""
        recipe = self.recipe(seed, split)
        settings: Record = {"world": "assistant", "arm": arm and arm.name, "rate": rate, "seed": seed, "split": split}
        settings |= {"ppo": recipe.ppo.model_dump(mode="json"), "prompts": recipe.evaluation.prompts}
        return self.study.part(settings, lambda: self.measure(recipe, arm, rate))

    def measure(self, recipe: Recipe, arm: Arm | None, rate: float) -> Record:
        for act in ("sft", "sample", "reward"):
            run_act(recipe, act, quiet=True)  # skips what is done
        done = recipe.out / recipe.name / "round_0"
        model = str(done / "sft" / "model")
        chat = Chat.load(model)
        judge = RewardModel.load(done / "reward", Trunk(load_causal_lm(model)), chat)
        made: Record = {}
        if arm is not None:
            folder = recipe.out / recipe.name / "depth" / f"{arm.kind}_{arm.depth}_{rate:g}"
            made = self.train(recipe, arm, rate, Trunk(load_causal_lm(model), arm.depth), judge, folder)
            model = str(folder / "model")
        prompts = Material(recipe).evaluation_prompts(chat)
        texts = answers(model, chat, prompts, recipe)
        world = Material(recipe).world
        assert world is not None
        truth = score(world.truth(), prompts, texts)["total"].tolist()
        judged = judge(prompts, texts)[:, 0].tolist()
        said = f"{arm.name}, rate {rate:g}" if arm else "SFT"
        say(f"seed {recipe.seed}  {said}: truth {statistics.mean(truth):.3f}, judge {statistics.mean(judged):.2f}")
        return made | {
            "truth": statistics.mean(truth),
            "judge": statistics.mean(judged),
            "prompt_ids": [p.id for p in prompts],
            "truth_by_prompt": [round(x, 4) for x in truth],
            "judge_by_prompt": [round(x, 4) for x in judged],
        }

    def train(self, recipe: Recipe, arm: Arm, rate: float, trunk: Trunk, judge: RewardModel, folder: Path) -> Record:
        shutil.rmtree(folder, ignore_errors=True)  # a trial that was broken off begins anew
        parts = recipe.ppo.adapter.model_copy(update={"kind": arm.kind})
        optimizer = recipe.ppo.optimizer.model_copy(update={"learning_rate": rate})
        config = recipe.ppo.model_copy(update={"adapter": parts, "value_adapter": parts, "optimizer": optimizer})
        prompts = Material(recipe).ppo_prompts(judge.chat, 0)
        with Journal(folder, quiet=True) as journal:
            ppo(trunk, judge.chat, judge, prompts, config, seed=recipe.seed, journal=journal, folder=folder)
        steps = read_rows(folder / "metrics.jsonl")
        phases = [key for key in steps[0] if key.startswith("seconds/")]
        return {
            "episodes": config.episodes,
            "seconds": sum(step["seconds"] for step in steps),
            "phases": {key.removeprefix("seconds/"): sum(step[key] for step in steps) for key in phases},
            "kl": steps[-1]["kl"],
            "explained_variance": steps[-1]["explained_variance"],
            "scores": [round(step["score"], 4) for step in steps],
        }


def answers(model: str, chat: Chat, prompts: list[Prompt], recipe: Recipe) -> list[str]:
    """One answer per prompt, with the same random numbers for every model."""
    config = recipe.evaluation
    limits = {"max_new_tokens": recipe.ppo.max_new_tokens, "temperature": config.temperature, "top_p": config.top_p}
    said = generate(
        load_causal_lm(model),
        [chat.prompt_ids(p) for p in prompts],
        [sample_key(recipe.seed, OCCASION, p.id, 0) for p in prompts],
        Sampling(seed=recipe.seed, **limits),
        eos_ids=chat.eos_ids,
        batch_size=config.batch_size,
    )
    return [chat.decode(one.tokens) for one in said]


def world(study: Study, arguments: argparse.Namespace) -> None:
    quick = arguments.quick
    work = World(study, WORK / "depth" if quick else arguments.out, quick=quick)
    shares, seeds = ((1.0,), [0, 1]) if quick else (RATES, arguments.seeds)

    def on_tuning(arm: Arm, rate: float) -> float:
        found = [work.trial(arm, rate, seed, "tuning")["truth"] for seed in arguments.tuning_seeds]
        return statistics.mean(found)

    rates = {arm.name: tuned(lambda rate, arm=arm: on_tuning(arm, rate), arm.guess, shares) for arm in ARMS}
    runs: dict[str, list[Record]] = {arm.name: [] for arm in ARMS}
    before: list[Record] = []
    for seed in seeds:
        before.append(work.trial(None, 0.0, seed, "evaluation"))
        for arm in ARMS:
            runs[arm.name].append(work.trial(arm, rates[arm.name]["rate"], seed, "evaluation"))
    arms = {arm.name: rates[arm.name] | compared(runs[arm.name], runs[BASELINE], before) for arm in ARMS}
    figures = {"seeds": seeds, "baseline": BASELINE, "sft": t_interval([run["truth"] for run in before])}
    study.conclude("world", figures | {"arms": arms})
    print(world_table(study.content["summary"]["world"]))


def compared(mine: list[Record], theirs: list[Record], before: list[Record]) -> Record:
    """Figures of an arm, and its differences to the baseline: by seed (Student's t), and by prompt (bootstrap)."""

    def differences(key: str, other: list[Record]) -> Record:
        return t_interval([a[key] - b[key] for a, b in zip(mine, other, strict=True)])

    def by_prompt(key: str) -> dict[str, float]:
        joined = [[x for run in runs for x in run[f"{key}_by_prompt"]] for runs in (mine, theirs)]
        return paired_difference(*joined, groups=[i for run in mine for i in run["prompt_ids"]]).as_dict()

    return {
        "truth": t_interval([run["truth"] for run in mine]),
        "truth_gain": differences("truth", before),
        "judge": t_interval([run["judge"] for run in mine]),
        "kl": t_interval([run["kl"] for run in mine]),
        "explained_variance": t_interval([run["explained_variance"] for run in mine]),
        "truth_difference": differences("truth", theirs) | {"by_prompt": by_prompt("truth")},
        "judge_difference": differences("judge", theirs) | {"by_prompt": by_prompt("judge")},
        "seconds": t_interval([run["seconds"] for run in mine]),
        "time_share": t_interval([a["seconds"] / b["seconds"] for a, b in zip(mine, theirs, strict=True)]),
        "phases": {k: statistics.mean(run["phases"][k] for run in mine) for k in mine[0]["phases"]},
    }


def world_table(summary: Record) -> str:
    head = ["", "rate", "truth", "less the baseline's, by seed", "by prompt", "judge, less the baseline's"]
    rows: list[list[str]] = []
    for name, one in summary["arms"].items():
        truth, judge = one["truth_difference"], one["judge_difference"]
        cells = [name, f"{one['rate']:.2g}{' (edge)' if one['at_edge'] else ''}", shown(one["truth"])]
        cells += [shown(truth), shown(truth["by_prompt"]), shown(judge, 2), shown(one["kl"], 1)]
        rows.append([*cells, shown(one["seconds"], 1), shown(one["time_share"], 2)])
    foot = f"Baseline: {summary['baseline']}. SFT: {shown(summary['sft'])}. Seeds: {summary['seeds']}."
    return table([*head, "KL", "PPO, s", "of the baseline's time"], rows) + f"\n\n{foot}"


# -- a real model ---------------------------------------------------------------------------------------------------


def model(study: Study, arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    folder = model_of(arguments, parser)
    if arguments.quick:
        arguments.depths, arguments.rates, arguments.untuned = [0, 1], [1e-2, 2e-2], True
    rates: list[float] = arguments.rates or [GUESSES.get(depth, 1e-3) for depth in arguments.depths]
    if len(rates) != len(arguments.depths):
        parser.error(f"--rates has {len(rates)} numbers, --depths {len(arguments.depths)}: give one for each")
    contestants = [ours(depth, rate) for depth, rate in zip(arguments.depths, rates, strict=True)]
    for depth, rate in zip(arguments.depths, rates, strict=True):
        if depth in arguments.value_heads:
            contestants.append(
                ours(depth, rate, f"depth {depth}, the value on its states", ppo={"value_adapter": None})
            )
    contest = Contest(study, real_course(study, folder, arguments), arguments)
    study.conclude("model", contest.hold(contestants, contestants[0].name))
    print(contest_table(study.content["summary"]["model"]))


# -- the curve ------------------------------------------------------------------------------------------------------


def plot(content: Record, path: Path) -> None:
    """What is learned against the time it takes, depth by depth, as far as it was measured."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes: Any = figure.subplots(1, 2)
    if "world" in content["summary"]:
        plot_world(axes[0], content["summary"]["world"])
    if "model" in content["summary"]:
        plot_model(axes[1], content["summary"]["model"], content["parts"])
    for axis in axes:
        axis.set_xlim(left=0)
        axis.spines[["top", "right"]].set_visible(False)
    draw(figure, path)


def plot_world(axis: Any, summary: Record) -> None:
    """One point an arm, with both intervals."""
    for colour, (name, one) in zip(("#8a8f98", *BY_DEPTH), summary["arms"].items(), strict=True):
        truth, seconds = one["truth"], one["seconds"]
        bars = [figure["value"] - figure["low"] for figure in (truth, seconds)]
        axis.errorbar(seconds["value"], truth["value"], *bars, fmt="o", color=colour, elinewidth=0.8, label=name)
    axis.axhline(summary["sft"]["value"], color="#8a8f98", linewidth=1, linestyle=":", label="before PPO")
    axis.set_title(f"the built-in world, {len(summary['seeds'])} seeds", fontsize=10)
    axis.set_xlabel("seconds of PPO")
    axis.set_ylabel("truth")
    axis.legend(frameon=False, fontsize=8, loc="center left")


def plot_model(axis: Any, summary: Record, parts: list[Record]) -> None:
    """The smoothed reward of each seed against the seconds that had made its policy."""
    runs = [p for p in parts if p["settings"]["seed"] in summary["seeds"] and "ppo" not in p["settings"]]
    for colour, depth in zip(BY_DEPTH, dict.fromkeys(p["settings"]["split_depth"] for p in runs), strict=False):
        for number, part in enumerate(p for p in runs if p["settings"]["split_depth"] == depth):
            before = [sum(part["seconds"][:i]) for i in range(len(part["rewards"]))]
            label = None if number else f"adapters above {depth}"
            axis.plot(before, smoothed(part["rewards"], summary["window"]), color=colour, linewidth=1.3, label=label)
    axis.set_title(f"SmolLM2, a scripted reward, seeds {', '.join(map(str, summary['seeds']))}", fontsize=10)
    axis.set_xlabel("seconds of PPO")
    axis.set_ylabel(f"reward, mean of {summary['window']} updates")
    axis.legend(frameon=False, fontsize=8, loc="lower right")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds: Any = parser.add_subparsers(dest="kind", required=True)
    first = kinds.add_parser("world", help="the built-in world")
    first.add_argument("--seeds", type=int, nargs="+", default=list(range(5)), help="seeds that are reported")
    first.add_argument("--tuning-seeds", type=int, nargs="+", default=[TUNING_SEED])
    first.add_argument("--out", type=Path, default=Path("runs/depth"))
    first.add_argument("--quick", action="store_true", help="tiny sizes")
    second = kinds.add_parser("model", help="a model folder and a scripted reward")
    add_model(second)
    add_contest(second, epochs=2)
    second.add_argument("--depths", type=int, nargs="+", default=[0, 10, 20, 25], help="the first is the baseline")
    second.add_argument(
        "--value-heads", type=int, nargs="*", default=[], help="of the depths: the value as a head on the policy too"
    )
    second.add_argument("--rates", type=float, nargs="+", help="a guessed learning rate for each depth")
    arguments = parser.parse_args()
    study = Study("depth", quick=arguments.quick)
    if arguments.kind == "world":
        world(study, arguments)
    else:
        model(study, arguments, second)
    plot(study.content, WORK / "depth.svg" if arguments.quick else PLOT)


if __name__ == "__main__":
    main()
