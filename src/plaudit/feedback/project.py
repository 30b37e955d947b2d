"""A run's project: its store opened, its earlier judgements taken over, its sampled responses put on the desk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from plaudit.data.formats import content_hash, read_judgements, read_log
from plaudit.data.responses import by_prompt, distinct_responses
from plaudit.feedback.accounts import PERSON
from plaudit.feedback.desk import Desk
from plaudit.feedback.store import Store
from plaudit.recipe import Recipe
from plaudit.recipe_file import load_recipe
from plaudit.types import MOST_RANKED, InputError, Prompt

DATABASE, LOG, RESPONSES = "feedback.db", "judgements.jsonl", "responses.jsonl"
Item = TypeVar("Item")


def open_desk(run: Path, *, database: str | None = None) -> Desk:
    """The desk of a run folder, with ranking tasks over the responses of its newest round.

    `database`: a PostgreSQL URL in place of the recipe's, or of feedback.db in the folder. What was done before is not
    done again. InputError where there is no run.
    """
    file = run / "recipe.yaml"
    if not file.is_file():
        raise InputError(f"{run}: no run here (there is no recipe.yaml); give a run folder, as runs/demo")
    recipe = load_recipe(file)
    desk = open_store(run, recipe, database=database)
    rounds = [int(path.name.removeprefix("round_")) for path in run.glob("round_*") if _is_sampled(path)]
    if rounds:
        queue_round(desk, run, max(rounds), recipe)
    return desk


def has_store(run: Path, recipe: Recipe) -> bool:
    """Whether people have a desk in this run already."""
    return recipe.feedback.database is not None or (run / DATABASE).is_file()


def open_store(run: Path, recipe: Recipe, *, database: str | None = None) -> Desk:
    """The desk without new tasks: settings as the recipe has them, and what earlier logs hold."""
    store = Store.open(database or recipe.feedback.database or run / DATABASE, project=recipe.name)
    desk = Desk(store)
    desk.when_erased = lambda handle: _forget_words(run, handle)
    desk.apply_recipe(_settings(recipe))
    config = recipe.feedback.people
    if config.guidelines is not None:
        text = _read(config.guidelines)
        if all(text != one.text for one in desk.guidelines()):
            desk.publish_guideline(text)
    if config.gold is not None:
        for sensitive, part in by_cover(read_judgements(config.gold).items, recipe, lambda one: one.prompt):
            desk.add_gold([(one.prompt, one.responses, one.ranking) for one in part], sensitive=sensitive)
    log = run / LOG
    digest = content_hash(log) if log.is_file() and log.stat().st_size else None
    if digest is not None and desk.queued(LOG) != digest:
        found, _ = read_log(log)
        mine = [one for one in found if one.annotator.startswith(f"{PERSON}-")]
        desk.take_over(mine, kind=PERSON)
        simulated = "simulated" if recipe.world is not None else "taken over"
        desk.take_over([one for one in found if not one.annotator.startswith(f"{PERSON}-")], kind=simulated)
        desk.mark_queued(LOG, digest)
    return desk


def restore_store(run: Path, recipe: Recipe, source: Path) -> tuple[str, Path | None]:
    """Fill the run's store from a copy: (its name, where the file that was there is kept).

    InputError where `source` is no store, or where a PostgreSQL store holds work already.
    """
    copied = Store.open(source)
    url, aside = recipe.feedback.database or run / DATABASE, None
    if isinstance(url, Path) and url.exists():
        Store.open(url).fold()
        aside = next(p for n in range(1, 10_000) if not (p := url.with_name(f"{url.name}.old{n}")).exists())
        url.rename(aside)
        for rest in ("-wal", "-shm"):
            url.with_name(url.name + rest).unlink(missing_ok=True)
    target = Store.open(url, project=recipe.name)
    copied.copy_to(target)
    target.close()
    copied.close()
    return target.name, aside


def queue_round(desk: Desk, run: Path, round: int, recipe: Recipe) -> None:
    """What was sampled in a round becomes tasks, once; tasks over responses that were sampled anew since are closed."""
    file = run / f"round_{round}" / "responses" / RESPONSES
    digest = content_hash(file)
    if desk.queued(f"round {round}") == digest:
        return
    with file.open(encoding="utf-8") as lines:
        sampled = [(p, distinct_responses(r)) for p, r in by_prompt(json.loads(line) for line in lines)]
    config = recipe.feedback.people
    for sensitive, part in by_cover(sampled, recipe, lambda task: task[0]):
        desk.add_tasks("ranking", [(p, r) for p, r in part if len(r) > 1], round=round, sensitive=sensitive)
    chosen = sorted(sampled, key=lambda task: content_hash([recipe.seed, task[0].id]))[: config.demonstrations]
    written = [(p, r[0].text if number % 2 and r else "") for number, (p, r) in enumerate(chosen)]
    for sensitive, part in by_cover(written, recipe, lambda task: task[0]):
        desk.add_demonstration_tasks(part, sensitive=sensitive, limit=config.demonstrations)
    desk.close_other_rankings(round, [(p, r) for p, r in sampled if len(r) > 1])
    desk.mark_queued(f"round {round}", digest)


def by_cover(
    items: Sequence[Item], recipe: Recipe, prompt_of: Callable[[Item], Prompt]
) -> Iterator[tuple[bool, list[Item]]]:
    """(whether their texts are covered until somebody asks, the items), of those that there are."""
    flagged = frozenset(recipe.feedback.people.sensitive)
    for sensitive in (False, True):
        part = [one for one in items if bool(flagged & set(prompt_of(one).tags)) == sensitive]
        if part:
            yield sensitive, part


def _settings(recipe: Recipe) -> dict[str, object]:
    """What a recipe says of the settings of a project."""
    people, queue = recipe.feedback.people, recipe.feedback.queue
    return {
        "overlap": recipe.feedback.judgements_per_prompt,
        "seed": recipe.seed,
        "quota": queue.quota,
        "order": queue.order,
        "ask": queue.ask,
        # simulated annotators may be shown more, whose run people take over
        "shown": None if queue.shown is None else min(queue.shown, MOST_RANKED),
        "random_share": min(0.9, recipe.reward.held_out),
        "gold_share": people.gold_share,
        "repeat_share": people.repeat_share,
        "qualification": people.qualification,
        "qualification_pass": people.qualification_pass,
        "adjudicate_below": people.adjudicate_below,
        "aspects": people.aspects,
        "ask_strength": people.ask_strength,
        "ask_rationale": people.ask_rationale,
        "blur": people.blur,
        "lease_seconds": people.lease_seconds,
        "review_demonstrations": people.review_demonstrations,
    }


def _is_sampled(round_folder: Path) -> bool:
    try:
        manifest = json.loads((round_folder / "responses" / "manifest.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    return manifest.get("status") == "done"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the guidelines cannot be read ({error})") from error


def _forget_words(run: Path, handle: str) -> None:
    """The free words of a person go from the logs too, which are written from the store."""
    for log in [run / LOG, *run.glob(f"round_*/judgements*/{LOG}")]:
        if log.is_file():
            with log.open(encoding="utf-8") as lines:
                rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
            kept = [row | {"rationale": ""} if row["annotator"] == handle else row for row in rows]
            beside = log.with_name(log.name + ".partial")
            beside.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept), encoding="utf-8")
            beside.replace(log)
