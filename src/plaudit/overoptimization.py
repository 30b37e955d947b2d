"""How far a run's judge can be followed: best-of-n and PPO's policies, by the judge and by what it stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from plaudit.contest import EVALUATION, Contest
from plaudit.evaluation.compare import SCORE
from plaudit.evaluation.overoptimization import Curve, Form, best_of_n, fit, kl_of_best_of
from plaudit.intervals import Floats, mean_interval
from plaudit.judges import open_judges
from plaudit.material import Material
from plaudit.models.checkpoints import load_tensors
from plaudit.progress import Journal
from plaudit.recipe_file import load_recipe
from plaudit.rl.records import POLICIES, STATE, under
from plaudit.rl.rollout import POLICY
from plaudit.run_folder import Result, RunFolder, write_json
from plaudit.types import InputError, Prompt
from plaudit.workshop import Workshop

FILE = "overoptimization.json"


@dataclass(frozen=True, kw_only=True)
class Followed:
    """What following the judge so far has brought, prompt by prompt: gains over the SFT model [P]."""

    label: int
    """n of best-of-n, or PPO's step."""
    kl: float
    judged_P: Floats
    measured_P: Floats


def follow(folder: Path, *, samples: int, quiet: bool = False) -> Result:
    """Measure the newest round of a run, and write overoptimization.json into its evaluation.

    Truth is a world's, or the second judge's; InputError where there is neither, or where nothing is trained yet.
    PPO's way is that of the policies kept (`ppo.keep_policy_every`), and of the last one.
    """
    recipe = load_recipe(folder / "recipe.yaml")
    run = RunFolder(folder, cache=None, quiet=quiet)
    material = Material(recipe)
    workshop = Workshop(recipe, material, run)
    done = [i for i in range(recipe.rounds) if run.done(f"round_{i}/ppo") is not None]
    if not done:
        raise InputError(f"{folder}: no policy was trained by PPO yet; `plaudit run` does")
    here = folder / f"round_{done[-1]}"
    judges = open_judges(workshop, here)
    if material.world is None and "second_judge" not in judges:
        raise InputError(
            f"{folder}: there is nothing to measure the judge against: neither a world nor reward.second_judge"
        )
    contest = Contest(
        recipe=recipe,
        workshop=workshop,
        world=material.world,
        judges=judges,
        sampling=workshop.evaluation_sampling,
    )
    with Journal(here / "evaluation", quiet=quiet) as journal:
        found = Pursuit(contest, material.evaluation_prompts(workshop.chat), journal)
        ways: dict[Form, list[Followed]] = {"best_of_n": found.best_of_n(samples)}
        ways["rl"] = [found.policy(path, step) for path, step in policies(here / "ppo", recipe.ppo.steps)]
    groups = [prompt.id for prompt in found.prompts]
    result: Result = {
        "measured_by": "the world's truth" if material.world is not None else "the second judge",
        "prompts": len(groups),
        "samples": samples,
        "ways": {form: _way(form, points, groups, recipe.evaluation.resamples) for form, points in ways.items()},
    }
    write_json(here / "evaluation" / FILE, result)
    return result


def policies(folder: Path, last: int) -> list[tuple[Path, int]]:
    """The policies that PPO kept, by step, its last one among them."""
    kept = {int(path.stem.removeprefix("step_")): path for path in (folder / POLICIES).glob("step_*.safetensors")}
    return [(path, step) for step, path in sorted((kept | {last: folder / STATE}).items())]


class Pursuit:
    """One set of prompts, answered over and over; what answers are worth is told over the SFT model's own."""

    def __init__(self, contest: Contest, prompts: Sequence[Prompt], journal: Journal) -> None:
        self.contest, self.prompts, self.journal = contest, list(prompts), journal
        self.before: tuple[Floats, Floats] = (np.zeros(0), np.zeros(0))

    def worth(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> tuple[Floats, Floats]:
        """(the judge's score, what it stands for) of each answer."""
        contest = self.contest
        if contest.world is not None:
            truth = contest.world.truth()
            measured = [truth(prompt, text)["total"] for prompt, text in zip(prompts, texts, strict=True)]
        else:
            measured = contest.scorers["second_judge"](prompts, texts)[SCORE]
        return np.array(contest.paid(prompts, texts), dtype=np.float64), np.array(measured, dtype=np.float64)

    def best_of_n(self, samples: int) -> list[Followed]:
        """The SFT model's answers, and the best of 2, 4, 8, … of them; sets what gains are counted from."""
        contest, workshop = self.contest, self.contest.workshop
        repeated = [prompt for prompt in self.prompts for _ in range(samples)]
        said = workshop.speak(
            workshop.load_model(workshop.sft_model),
            repeated,
            contest.sampling,
            occasion=EVALUATION,
            batch_size=contest.recipe.evaluation.batch_size,
            journal=self.journal,
        )
        texts = [workshop.chat.text_of(one.tokens, contest.sampling.stop) for one in said]
        judged_PN, measured_PN = (found.reshape(-1, samples) for found in self.worth(repeated, texts))
        self.before = judged_PN.mean(axis=1), measured_PN.mean(axis=1)
        sizes = [2**i for i in range(1, samples.bit_length()) if 2**i <= samples]
        return [
            self.gained(
                n,
                kl=kl_of_best_of(n),
                judged_P=best_of_n(judged_PN, judged_PN, n),
                measured_P=best_of_n(judged_PN, measured_PN, n),
            )
            for n in sizes
        ]

    def policy(self, path: Path, step: int) -> Followed:
        contest, trunk, adapter = self.contest, self.contest.workshop.trunk, self.contest.recipe.ppo.adapter
        tensors = load_tensors(path, trunk_hash=trunk.hash())
        trunk.add_part(POLICY, adapter.kind, rank=adapter.rank, alpha=adapter.alpha, seed=0)
        trunk.part(POLICY).load_state_dict(under(POLICY, tensors))
        model = trunk.decoding_copy(POLICY)
        trunk.remove_part(POLICY)
        said = contest.workshop.speak(
            model,
            self.prompts,
            contest.sampling,
            occasion=EVALUATION,
            batch_size=contest.recipe.evaluation.batch_size,
            journal=self.journal,
        )
        texts = [contest.workshop.chat.text_of(one.tokens, contest.sampling.stop) for one in said]
        judged_P, measured_P = self.worth(self.prompts, texts)
        kl = contest.distance(self.prompts, said).value
        return self.gained(step, kl=kl, judged_P=judged_P, measured_P=measured_P)

    def gained(self, label: int, *, kl: float, judged_P: Floats, measured_P: Floats) -> Followed:
        """What answers are worth, over what the SFT model's own are."""
        judged_before_P, measured_before_P = self.before
        return Followed(
            label=label, kl=kl, judged_P=judged_P - judged_before_P, measured_P=measured_P - measured_before_P
        )


def _way(form: Form, points: Sequence[Followed], groups: Sequence[str], resamples: int) -> Result:
    distances = [max(0.0, one.kl) ** 0.5 for one in points]
    found: Result = {
        "points": [
            {
                "n" if form == "best_of_n" else "step": one.label,
                "kl": one.kl,
                "judge": mean_interval(one.judged_P, groups=groups, resamples=resamples).as_dict(),
                "measured": mean_interval(one.measured_P, groups=groups, resamples=resamples).as_dict(),
            }
            for one in points
        ]
    }
    if len({distance for distance in distances if distance > 0}) > 1:
        gains = {
            "judge": [float(one.judged_P.mean()) for one in points],
            "measured": [float(one.measured_P.mean()) for one in points],
        }
        found["fits"] = {key: _described(fit(distances, own, form)) for key, own in gains.items()}
    return found


def _described(curve: Curve) -> dict[str, Any]:
    peak = None if curve.peak is None else {"kl": curve.peak[0] ** 2, "gain": curve.peak[1]}
    return {"a": curve.a, "b": curve.b, "peak": peak}
