"""A run's judges: trained, measured on rankings they have not seen, and opened again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from plaudit.data.formats import content_hash
from plaudit.evaluation.judge import hear
from plaudit.evaluation.judge_report import report_on_judge
from plaudit.evaluation.learning_curve import Tried, learning_curve
from plaudit.evaluation.pairs import pair_outcomes
from plaudit.progress import Journal
from plaudit.reward.model import RewardModel
from plaudit.reward.train import train_judge
from plaudit.run_folder import Result
from plaudit.types import Estimate, InputError, Judgement, Prompt
from plaudit.workshop import Workshop

ENOUGH_ANSWERS = 2000
"""From which a judge learns what is usual."""
PART = "reward"
PARTS_OF = (8, 4, 2)
"""A learning curve is that of judges from an eighth, a quarter and a half of the prompts, and from all."""

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
    every: int,
    ceiling_of: Callable[[Sequence[Judgement]], Estimate | None],
    seed: int,
) -> Result:
    """Train a judge, save it in the folder, and say how good it is on what it has not seen.

    `own` are the SFT model's own answers: they set its 0 and 1. `every`: how many judgements there are, those that
    it neither learns from nor is tested on among them. `ceiling_of` says what the best judge could reach on such.
    """
    recipe, unseen = workshop.recipe, [*held_out, *also_unseen]
    objectives = sorted({j.objective for j in [*training, *unseen]})
    journal.rewind(-1)
    judge, trained = taught(workshop, objectives, training, held_out, journal, seed=seed)
    judge.centre(*own)
    judge.learn_what_is_usual(answers_of(training), answers_of(unseen))
    judge.save(folder)
    if not judge.has_classifier:
        workshop.folder.say("transformers has no sequence classifier of this family: only Plaudit can open the judge")
    figures = report_on_judge(judge, unseen, resamples=recipe.evaluation.resamples, seed=recipe.seed)
    figures["deviation"] = dict(zip(objectives, judge.scale_EO.mean(dim=0).tolist(), strict=True))
    ceiling = ceiling_of([*training, *unseen])
    figures |= {} if ceiling is None else {"ceiling": ceiling.as_dict()}
    if recipe.reward.learning_curve and "accuracy" in figures:
        top = None if ceiling is None else ceiling.value
        figures["learning_curve"] = _learning_curve(
            workshop, judge, training, unseen, folder, ceiling=top, every=every, seed=seed
        )
    workshop.trunk.remove_part(PART)
    return trained | figures


def taught(
    workshop: Workshop,
    objectives: Sequence[str],
    training: Sequence[Judgement],
    held_out: Sequence[Judgement],
    journal: Journal,
    *,
    seed: int,
    members: int | None = None,
) -> tuple[RewardModel, Result]:
    """A judge of these rankings on the part that judges are trained on, as the recipe has it (or with so many members);
    not centred yet."""
    config = workshop.recipe.reward
    if members is not None:
        config = config.model_copy(update={"members": members})
    judge = RewardModel(
        workshop.trunk,
        workshop.chat,
        objectives,
        part=PART,
        adapter=config.adapter,
        members=config.members,
        seed=seed,
    )
    return judge, train_judge(judge, training, held_out, config, seed=seed, journal=journal)


def _learning_curve(
    workshop: Workshop,
    judge: RewardModel,
    training: Sequence[Judgement],
    unseen: Sequence[Judgement],
    folder: Path,
    *,
    ceiling: float | None,
    every: int,
    seed: int,
) -> Result:
    """Judges from parts of the prompts, each part within the next, beside the one that learned from all. The trunk's
    part is that of the smallest when this returns."""

    def tried(one: RewardModel, learned: int) -> Tried:
        return Tried(rankings=learned, outcomes=pair_outcomes(unseen, [said.scores_K for said in hear(one, unseen)]))

    prompts = sorted({j.prompt.id for j in training}, key=lambda prompt: content_hash([seed, prompt]))
    found = [tried(judge, len(training))]
    for share in reversed(PARTS_OF):
        some = frozenset(prompts[: len(prompts) // share])
        learned = [j for j in training if j.prompt.id in some]
        if learned:
            workshop.trunk.remove_part(PART)
            with Journal(folder / "learning_curve" / f"of_{share}", quiet=workshop.folder.quiet) as journal:
                journal.rewind(-1)
                smaller, _ = taught(workshop, judge.objectives, learned, [], journal, seed=seed)
            found.insert(0, tried(smaller, len(learned)))
    if len({one.rankings for one in found}) < 2:
        return {}
    seconds = [j.seconds for j in [*training, *unseen] if j.seconds is not None]
    return learning_curve(
        found,
        ceiling=ceiling,
        judgements_per_ranking=every / len(training),
        seconds_per_judgement=median(seconds) if seconds else None,
        resamples=workshop.recipe.evaluation.resamples,
        seed=seed,
    )


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
