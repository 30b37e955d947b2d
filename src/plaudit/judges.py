"""A run's judges: trained, measured on rankings they have not seen, and opened again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from plaudit.evaluation.judge_report import report_on_judge
from plaudit.progress import Journal
from plaudit.reward.model import RewardModel
from plaudit.reward.train import train_judge
from plaudit.run_folder import Result
from plaudit.types import InputError, Judgement, Prompt
from plaudit.workshop import Workshop

ENOUGH_ANSWERS = 2000
"""From which a judge learns what is usual."""
PART = "reward"

Answers = tuple[Sequence[Prompt], Sequence[str]]


def make_judge(
    workshop: Workshop,
    own: Answers,
    training: Sequence[Judgement],
    held_out: Sequence[Judgement],
    also_unseen: Sequence[Judgement],
    folder: Path,
    journal: Journal,
    *,
    seed: int,
) -> Result:
    """Train a judge, save it in the folder, and say how good it is on what it has not seen.

    `own` are the SFT model's own answers: they set its 0 and 1.
    """
    recipe, trunk, unseen = workshop.recipe, workshop.trunk, [*held_out, *also_unseen]
    config = recipe.reward
    judge = RewardModel(
        trunk,
        workshop.chat,
        sorted({j.objective for j in [*training, *unseen]}),
        part=PART,
        adapter=config.adapter,
        members=config.members,
        seed=seed,
    )
    journal.rewind(-1)
    trained = train_judge(judge, training, held_out, config, seed=seed, journal=journal)
    judge.centre(*own)
    judge.learn_what_is_usual(answers_of(training), answers_of(unseen))
    judge.save(folder)
    figures = report_on_judge(judge, unseen, resamples=recipe.evaluation.resamples, seed=recipe.seed)
    trunk.remove_part(PART)
    return trained | figures


def open_judge(workshop: Workshop, round_folder: Path, *names: str) -> RewardModel:
    """The judge of a round, or its "second" one, on a part of its own. InputError where it is not trained yet."""
    if workshop.folder.done(f"{round_folder.name}/reward") is None:
        where = round_folder.name.replace("_", " ")
        raise InputError(f"{where} has no judge yet: run `plaudit reward` (or `plaudit run`) first")
    folder, part = round_folder.joinpath("reward", *names), "_".join([PART, *names])
    return RewardModel.load(folder, workshop.trunk, workshop.chat, part=part)


def open_judges(workshop: Workshop, round_folder: Path) -> dict[str, RewardModel]:
    """By the names that evaluation has for them; none where a ready reward pays."""
    if workshop.recipe.ppo.reward is not None:
        return {}
    judges = {"judge": open_judge(workshop, round_folder)}
    if workshop.recipe.reward.second_judge:
        judges["second_judge"] = open_judge(workshop, round_folder, "second")
    return judges


def answers_of(judgements: Sequence[Judgement]) -> Answers:
    """Every response that was judged, once for each judgement; of very many some, evenly spread."""
    every = [(j.prompt, r.text) for j in judgements for r in j.responses]
    some = every[:: max(1, len(every) // ENOUGH_ANSWERS)]
    return [prompt for prompt, _ in some], [text for _, text in some]
