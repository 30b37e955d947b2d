"""Judges of real people's choices on a real model: are they right, do they mean it, and what do rankings save?

    python benchmarks/real_judge.py --model DIR --data DIR     # SmolLM2-135M-Instruct, some 40 minutes on one core
    python benchmarks/real_judge.py --quick                    # a tiny random model: does everything still work?

Writes benchmarks/results/real_judge.json. Everything is cross-fitted: prompts (first user messages) are parted in two
halves, a judge learns from one and is tested on the other, so that every pair is tested and none was seen. Intervals
are bootstrapped by prompt; two judges are compared pair by pair. Each judge is measured as recipes/smollm2-hh-cpu.yaml
has it (the linear probe), and once more after adapters were trained on from there.

hh     Helpful and harmless: accuracy, against length, against the probe; calibration; and two heads on one trunk
       against two judges that each learned from the rows of their own objective alone.
kwise  Rankings of 3 to 8 answers: learned whole, pair by pair and as Plackett and Luce have it, against single pairs
       of them of as many tokens.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from bench import WORK, say
from study import Record, Study, add_model, model_of, shown

from plaudit import Recipe, RewardModel, load_recipe, train_judge
from plaudit.data.split import split_by_prompt
from plaudit.evaluation.calibration import (
    Differences,
    best_temperature,
    calibration_error,
    error_of_a_perfect_judge,
    nll,
    scaled,
)
from plaudit.evaluation.judge import Heard, hear, judge_figures
from plaudit.evaluation.judge_report import judged_pairs
from plaudit.evaluation.pairs import pair_outcomes
from plaudit.intervals import mean_interval, paired_difference
from plaudit.material import Material
from plaudit.progress import Journal
from plaudit.recipe import Reward
from plaudit.run_folder import RunFolder
from plaudit.types import Judgement, Prompt
from plaudit.workshop import Workshop

RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "smollm2-hh-cpu.yaml"
FOLDER = WORK / "real_judge"
OBJECTIVES = ("helpful", "harmless")
LIMITS = {"hh": (64, 144), "kwise": (128, 256)}
"""Tokens of a prompt, and of a prompt with its longest answer; longer rows are left out."""
HEADS = ("two heads", "alone")
WAYS = {"whole, pairs": "pairs", "whole, Plackett-Luce": "plackett_luce", "single pairs": "pairs"}
STAGES = ("probe", "adapters")
PART = "reward"
OCCASION = -3_000_000
"""Keeps the random numbers of the model's own answers apart from PPO's."""

Choose = Callable[[RewardModel, list[Judgement]], list[Judgement]]
Rows = Sequence[Sequence[float]]
Ways = Mapping[str, Differences]
"""The same pairs by several temperatures."""


class Bench:
    """A model on its trunk, the rankings, and the model's own answers, which are a judge's 0 and 1."""

    def __init__(self, arguments: argparse.Namespace, model: str, data: Path) -> None:
        self.arguments = arguments
        files = [f"{{path: {data}/hh/{o}.train.jsonl.gz, objective: {o}, format: hh}}" for o in OBJECTIVES]
        self.recipe = self.recipe_for("hh", model, data, ", ".join(files))
        kwise = self.recipe_for("kwise", model, data, f"{{path: {data}/kwise/alpacaeval_gpt4.train.jsonl.gz}}")
        material, folder = Material(self.recipe), RunFolder(FOLDER, cache=None, quiet=True)
        self.workshop = Workshop(self.recipe, material, folder)
        chat = self.workshop.chat
        self.rankings = {"hh": material.judgements(chat), "kwise": Material(kwise).judgements(chat)}
        self.workshop.trunk.memory.renew()

    @cached_property
    def own(self) -> tuple[list[Prompt], list[str]]:
        workshop, sampling = self.workshop, self.workshop.ppo_sampling
        prompts = workshop.material.ppo_prompts(workshop.chat, 0)[: self.recipe.reward.centring_samples]
        settings = {"occasion": OCCASION, "batch_size": self.recipe.sample.batch_size}
        with Journal(FOLDER / "own", quiet=True) as journal:
            said = workshop.speak(workshop.trunk.model, prompts, sampling, journal=journal, **settings)
        return prompts, [workshop.chat.text_of(one.tokens, sampling.stop) for one in said]

    def recipe_for(self, task: str, model: str, data: Path, files: str) -> Recipe:
        longest_prompt, longest = LIMITS[task]
        changes = [f"model.path={model}", f"model.split_depth={self.arguments.split_depth}", f"out={FOLDER}"]
        changes += [f"data.preferences=[{files}]", f"data.prompts={data}/prompts/hh_first_turn.train.jsonl.gz"]
        changes += [f"data.max_prompt_tokens={longest_prompt}", f"data.max_tokens={longest}", "data.max_left_out=0.99"]
        quick = ["model.chat_template=null", "ppo.max_new_tokens=8"] if self.arguments.quick else []
        return load_recipe(RECIPE, [*changes, *quick])

    def stages(self, epochs: int, batch_size: int, likelihood: str) -> dict[str, Reward]:
        """The recipe's judge, and adapters that go on from it."""
        reward = self.recipe.reward
        likely = reward.likelihood.model_copy(update={"ranking": likelihood})
        optimizer = reward.optimizer.model_copy(update={"learning_rate": self.arguments.rate})
        on = {"head_start": "random", "epochs": epochs, "batch_size": batch_size, "likelihood": likely}
        on["optimizer"] = optimizer
        return dict(zip(STAGES, (reward, reward.model_copy(update=on)), strict=True))

    def judge(self, objectives: Sequence[str], seed: int) -> RewardModel:
        adapter = self.recipe.reward.adapter
        return RewardModel(self.workshop.trunk, self.workshop.chat, objectives, part=PART, adapter=adapter, seed=seed)

    def cross_fitted(
        self, rankings: list[Judgement], seed: int, stages: Mapping[str, Reward], choose: Choose, *, alone: bool
    ) -> Record:
        """Scores of each ranking by the judge that has not seen its prompt, after each stage. A stage goes on with the
        judge of the one before. `alone`: each objective has a judge of its own."""
        objectives = sorted({one.objective for one in rankings})
        halves = split_by_prompt(range(len(rankings)), 0.5, seed, lambda i: rankings[i].prompt)
        scores = {name: [[0.0]] * len(rankings) for name in stages}
        scales: Record = {name: [{}, {}] for name in stages}
        tokens = [0, 0]
        for fold, spoken in [(f, o) for f in (0, 1) for o in ([[o] for o in objectives] if alone else [objectives])]:
            tested = [i for i in halves[fold] if rankings[i].objective in spoken]
            judge = self.judge(spoken, seed)
            learned = choose(judge, [rankings[i] for i in halves[1 - fold] if rankings[i].objective in spoken])
            tokens[fold] += sum(tokens_of(judge, one) for one in learned)
            for name, config in stages.items():
                with Journal(FOLDER / "training", quiet=True) as journal:
                    journal.rewind(-1)
                    about = train_judge(judge, learned, [], config, seed=seed, journal=journal)
                say(f"seed {seed}  half {fold}  {', '.join(spoken)}  {name}: {about}")
                judge.centre(*self.own)
                for i, heard in zip(tested, hear(judge, [rankings[i] for i in tested]), strict=True):
                    scores[name][i] = heard.scores_K
                scales[name][fold] |= dict(zip(spoken, judge.scale_EO[0].tolist(), strict=True))
        # In one line: there are thousands.
        lines = {name: " ".join(f"{x:.6g}" for row in rows for x in row) for name, rows in scores.items()}
        return {"scores": lines, "scales": scales, "tokens": tokens}

    def part(self, study: Study, task: str, arm: str, seed: int) -> Record:
        rankings, arguments = self.rankings[task], self.arguments
        epochs, batch_size = arguments.epochs[task == "kwise"], self.recipe.reward.batch_size

        def choose(judge: RewardModel, learned: list[Judgement]) -> list[Judgement]:
            return single_pairs(judge, learned, seed) if arm == "single pairs" else learned

        if task == "kwise":
            batch_size = arguments.kwise_batch
            if arm == "single pairs":
                # As many tokens per step, too.
                drawn = single_pairs(self.judge([rankings[0].objective], seed), rankings, seed)
                batch_size = round(batch_size * len(drawn) / len(rankings))
        stages = self.stages(epochs, batch_size, WAYS.get(arm, "pairs"))
        settings: Record = {"task": task, "arm": arm, "seed": seed, "limits": LIMITS[task], "rankings": len(rankings)}
        settings |= {"split_depth": self.recipe.model.split_depth, "model": Path(self.recipe.model.path or "").name}
        settings["stages"] = {name: one.model_dump(mode="json") for name, one in stages.items()}
        alone = arm == "alone"
        return study.part(settings, lambda: self.cross_fitted(rankings, seed, stages, choose, alone=alone))


def tokens_of(judge: RewardModel, one: Judgement) -> int:
    """What a ranking costs in a forward pass: its prompt, once where it is shared, and every answer."""
    return sum(len(b) for b in judge.bundles([one.prompt] * len(one.responses), [r.text for r in one.responses]))


def single_pairs(judge: RewardModel, rankings: Sequence[Judgement], seed: int) -> list[Judgement]:
    """Ordered pairs of the rankings, drawn at random, each a ranking of its own, up to the rankings' tokens."""
    pairs: list[Judgement] = []
    for one in rankings:
        places = [(place, k) for place, group in enumerate(one.ranking) for k in group]
        for (above, a), (below, b) in [(x, y) for x in places for y in places if x[0] < y[0]]:
            # The margin of the best over the worst is shared by rank, as in the whole ranking.
            strength = None if one.strength is None else one.strength * (below - above) / (len(one.ranking) - 1)
            both, order = (one.responses[a], one.responses[b]), ((0,), (1,))
            name = f"{one.id}/{a}/{b}"
            pairs.append(
                replace(one, id=name, responses=both, ranking=order, strength=strength, ratings={}, display_order=())
            )
    random.Random(seed).shuffle(pairs)
    ends = np.cumsum([tokens_of(judge, one) for one in pairs])
    return pairs[: int((ends <= sum(tokens_of(judge, one) for one in rankings)).sum())]


# -- figures --------------------------------------------------------------------------------------------------------


def rows_of(line: str, rankings: Sequence[Judgement]) -> Rows:
    numbers = iter(map(float, line.split()))
    return [[next(numbers) for _ in one.responses] for one in rankings]


def figures(task: str, rankings: Sequence[Judgement], parts: Mapping[int, Mapping[str, Record]]) -> Record:
    """By objective. Seeds part the prompts anew; all pairs of a prompt, of whichever seed, are one group."""
    arms = HEADS if task == "hh" else tuple(WAYS)
    found: Record = {}
    for objective in sorted({one.objective for one in rankings}):
        own = [i for i, one in enumerate(rankings) if one.objective == objective]
        every = [rankings[i] for i in own] * len(parts)
        scores: dict[tuple[str, str], Rows] = {}
        for arm, stage in [(arm, stage) for arm in arms for stage in STAGES]:
            lines = [rows_of(part[arm]["scores"][stage], rankings) for part in parts.values()]
            scores[arm, stage] = [rows[i] for rows in lines for i in own]
        mine: Record = {"pairs": len(pair_outcomes(every, scores[arms[0], STAGES[0]])) // len(parts)}
        found[objective] = mine
        for (arm, stage), rows in scores.items():
            about = judge_figures([objective], every, rows, resamples=2000, seed=0)
            one = mine[f"{arm}, {stage}"] = {k: about[k] for k in ("accuracy", "length_baseline", "beats_length")}
            others = {f"less {other}": scores[other, stage] for other in arms if other != arm}
            others |= {"less its probe": scores[arm, STAGES[0]]} if stage != STAGES[0] else {}
            one |= {name: less(every, rows, other) for name, other in others.items()}
            one["tokens"] = [part[arm]["tokens"] for part in parts.values()]
            if task == "hh":
                ways = {s: ways_to_mean(rankings, part[arm], stage, objective, s) for s, part in parts.items()}
                one["calibration"] = {f"seed {seed}": means_it(theirs, seed) for seed, theirs in ways.items()}
                one["calibration"]["all seeds"] = gained(
                    {name: joined([theirs[name] for theirs in ways.values()]) for name in ways[next(iter(ways))]}
                )
    return found


def less(rankings: Sequence[Judgement], mine: Rows, theirs: Rows) -> Record:
    """Accuracy of one judge less that of another, on the same pairs."""
    both = [pair_outcomes(rankings, rows) for rows in (mine, theirs)]
    right = [[pair.correct for pair in pairs] for pairs in both]
    return paired_difference(*right, groups=[pair.prompt for pair in both[0]]).as_dict()


def ways_to_mean(rankings: Sequence[Judgement], part: Record, stage: str, objective: str, seed: int) -> Ways:
    """The pairs at several temperatures. The judge of each half has its own, found on other prompts than they are used
    on. `centred` are chances by the judge's scores, `raw` those before its 0 and 1 are set; `in hindsight` has the
    temperatures that fit the tested pairs themselves best: nobody could scale better."""
    halves = split_by_prompt(range(len(rankings)), 0.5, seed, lambda i: rankings[i].prompt)
    scores = rows_of(part["scores"][stage], rankings)
    ways: dict[str, list[Differences]] = {"centred": [], "raw": [], "scaled": [], "in hindsight": []}
    for half, scale in zip(halves, part["scales"][stage], strict=True):
        own = [i for i in half if rankings[i].objective == objective]
        heard = [Heard(scores_K=[*scores[i]], members_KE=np.array(scores[i])[:, None], strange_K=None) for i in own]
        pairs = judged_pairs([rankings[i] for i in own], heard, [""] * len(own))
        differences = Differences(
            differences_M=np.array([pair.difference for pair in pairs]),
            first_wins_M=np.array([0.5 if pair.tied else 1.0 for pair in pairs]),
            prompts=[pair.prompt for pair in pairs],
        )
        ways["centred"].append(differences)
        ways["raw"].append(differences.at(1 / scale[objective]))
        ways["scaled"].append(scaled(differences, seed=seed))
        ways["in hindsight"].append(differences.at(best_temperature(differences)))
    return {name: joined(parts) for name, parts in ways.items()}


def joined(parts: Sequence[Differences]) -> Differences:
    return Differences(
        differences_M=np.concatenate([one.differences_M for one in parts]),
        first_wins_M=np.concatenate([one.first_wins_M for one in parts]),
        prompts=[prompt for one in parts for prompt in one.prompts],
    )


def means_it(ways: Ways, seed: int) -> Record:
    """Calibration of each."""
    found = gained(ways)
    for name, pairs in ways.items():
        ece, limit = calibration_error(pairs), error_of_a_perfect_judge(pairs, seed=seed)
        about: Record = {"ece": ece, "ece_of_a_perfect_judge": limit, "inside": ece <= limit}
        about["nll"] = mean_interval(nll(pairs), groups=pairs.prompts).as_dict()
        found[name] = about | found.get(name, {})
    return found


def gained(ways: Ways) -> Record:
    """What a temperature changes in the likelihood's cost, pair by pair; all pairs of a prompt are one group."""
    return {
        name: {
            f"{one} less this": paired_difference(nll(ways[one]), nll(ways[name]), groups=ways[name].prompts).as_dict()
            for one in ("scaled", "in hindsight")
        }
        for name in ("centred", "raw")
    }


def lines_of(summary: Record, path: str) -> list[str]:
    """Every figure behind its place in the summary."""
    if "low" in summary:
        return [f"{path}: {shown(summary, 4)}"]
    return [
        line
        for key, value in summary.items()
        for line in (lines_of(value, f"{path} / {key}") if isinstance(value, dict) else [f"{path} / {key}: {value}"])
    ]


def random_words(folder: Path) -> Path:
    """A data folder that means nothing, for --quick."""
    rng = random.Random(0)

    def words(many: int) -> str:
        return " ".join(f"w{rng.randrange(3, 60)}" for _ in range(many))

    def pair(begin: str) -> Record:
        return {"chosen": begin + words(6), "rejected": begin + words(4)}

    answers = [{"text": "", "score": -float(k)} for k in range(4)]
    made = {f"hh/{o}": [pair(f"\n\nHuman: {words(5)}\n\nAssistant: ") for _ in range(24)] for o in OBJECTIVES}
    made["kwise/alpacaeval_gpt4"] = [
        {"prompt": words(5), "responses": [one | {"text": words(4)} for one in answers]} for _ in range(12)
    ]
    made["prompts/hh_first_turn"] = [{"prompt": words(5)} for _ in range(24)]
    for name, rows in made.items():
        path = folder / f"{name}.train.jsonl.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(path, "wt") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model(parser)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="each parts the prompts anew")
    parser.add_argument("--tasks", nargs="+", choices=tuple(LIMITS), default=list(LIMITS))
    parser.add_argument(
        "--split-depth", type=int, default=28, help="layers without adapters, which run once per answer"
    )
    parser.add_argument("--epochs", type=int, nargs=2, default=[1, 2], help="of adapters: on hh, on kwise")
    parser.add_argument("--kwise-batch", type=int, default=4, help="rankings per optimiser step")
    parser.add_argument("--rate", type=float, default=1e-4, help="learning rate of adapters")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.split_depth, arguments.seeds = 1, [0]
    elif arguments.data is None:
        parser.error("--data names no folder (or use --quick)")
    model = model_of(arguments, parser)
    data = random_words(FOLDER / "data") if arguments.quick else arguments.data.resolve()
    study = Study("real_judge", quick=arguments.quick)
    bench = Bench(arguments, model, data)
    for task in arguments.tasks:
        arms = HEADS if task == "hh" else tuple(WAYS)
        parts = {seed: {arm: bench.part(study, task, arm, seed) for arm in arms} for seed in arguments.seeds}
        name = f"{task}, adapters at {arguments.rate:g}"
        study.conclude(name, figures(task, bench.rankings[task], parts))
        print("\n".join(lines_of(study.content["summary"][name], task)))


if __name__ == "__main__":
    main()
