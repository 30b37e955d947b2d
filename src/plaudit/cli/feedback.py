"""The verbs of the people's room: figures, export and import, copies, lineage, who counts and who is forgotten."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from plaudit.cli.shell import Debug, errors_in_one_line, say, stop
from plaudit.terminal import printable
from plaudit.types import MOST_RANKED, InputError

if TYPE_CHECKING:
    from plaudit.feedback.desk import Desk

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]
Handle = Annotated[str, typer.Argument(metavar="ANNOTATOR", help="As `plaudit feedback people` shows it.")]
What = Annotated[Literal["judgements", "demonstrations"], typer.Option(help="Which of the two.")]


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(
        name="feedback", help="What people said: figures, copies, lineage, and who counts.", no_args_is_help=True
    )
    for verb in (report, people, lineage, exclude, include, erase, export, backup, restore):
        group.command()(verb)
    group.command("import")(import_)
    app.add_typer(group)


@contextmanager
def _at_desk(run: Path, debug: bool) -> Generator[Desk]:
    """The run's desk as it is, with no new tasks; errors in one line."""
    with errors_in_one_line(debug, goes_on=False):
        from plaudit.feedback.project import open_store
        from plaudit.recipe_file import load_recipe

        if not (run / "recipe.yaml").is_file():
            raise InputError(f"{run}: no run here (there is no recipe.yaml); give a run folder, as runs/demo")
        desk = open_store(run, load_recipe(run / "recipe.yaml"))
        try:
            yield desk
        finally:
            desk.store.close()


def report(
    run: RunArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    debug: Debug = False,
) -> None:
    """How good the labels are: agreement, alpha, the ceiling of any judge, and each annotator's figures."""
    with _at_desk(run, debug) as desk:
        from plaudit.feedback.words import figures_as_text, figures_to_dict

        figures, progress = desk.figures(), desk.progress_all()
        if as_json:
            say(json.dumps(figures_to_dict(figures), indent=2))
        else:
            say(figures_as_text(figures, progress))


def people(run: RunArgument, debug: Debug = False) -> None:
    """Everybody who has an account: handle, name, role."""
    with _at_desk(run, debug) as desk:
        excluded = desk.excluded()
        for one in desk.accounts():
            notes = [] if one.active else ["closed"]
            notes += [f"excluded: {excluded[one.handle]}"] if one.handle in excluded else []
            say("  ".join([one.handle, one.name, one.role, *notes]))


def lineage(
    run: RunArgument,
    annotator: Annotated[
        list[str] | None, typer.Option(metavar="ANNOTATOR", help="All that this annotator has done.")
    ] = None,
    judgement: Annotated[list[str] | None, typer.Option(metavar="ID", help="A judgement.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Which checkpoints of the run were trained on given judgements, or on anything of an annotator's."""
    with _at_desk(run, debug) as desk:
        from plaudit.feedback.lineage import trained_on

        if not annotator and not judgement:
            raise InputError("whose? Give --annotator or --judgement")
        who = set(annotator or ())
        ids = {id for id, handle in desk.annotator_of().items() if handle in who} | set(judgement or ())
        written = {number for number, handle in desk.demonstration_authors().items() if handle in who}
        found = trained_on(run, judgements=ids, demonstrations=written)
        if as_json:
            keys = ("act", "judgements", "demonstrations", "through")
            say(json.dumps([{key: getattr(one, key) for key in keys} for one in found], indent=2))
            return
        for one in found:
            own = [f"{one.judgements} judgements"] * bool(one.judgements)
            own += [f"{one.demonstrations} demonstrations"] * bool(one.demonstrations)
            say(f"{run / one.act}: " + (", ".join(own) or f"starts from {one.through}"))
        if not found:
            say("no checkpoint of this run was trained on them")


def exclude(
    run: RunArgument,
    annotator: Handle,
    why: Annotated[str, typer.Option(help="Kept with the exclusion.")],
    debug: Debug = False,
) -> None:
    """Leave an annotator's work out, from now on; it stays in the store, and `include` takes this back."""
    with _at_desk(run, debug) as desk:
        desk.exclude(annotator, why)
        say(
            f"{annotator} is left out. `plaudit feedback lineage {run} --annotator {annotator}` names the checkpoints "
            f"trained on it; `plaudit run {run / 'recipe.yaml'}` trains without."
        )


def include(run: RunArgument, annotator: Handle, debug: Debug = False) -> None:
    """Take an exclusion back."""
    with _at_desk(run, debug) as desk:
        desk.include(annotator)
        say(f"{annotator} counts again")


def erase(
    run: RunArgument,
    annotator: Handle,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    debug: Debug = False,
) -> None:
    """Forget a person for good: name, account, free words. The judgements stay, under the handle alone."""
    with _at_desk(run, debug) as desk:
        account = next((one for one in desk.accounts() if annotator in (one.handle, one.name)), None)
        if account is None:
            raise InputError(f"{annotator}: nobody with an account; `plaudit feedback people` lists them")
        if not yes and not _confirmed(f"Erase {account.name} ({account.handle}) for good?"):
            stop("nothing was erased", 1)
        desk.erase_person(account.id)
        say(f"erased; the judgements stay as {account.handle}'s. Backups made before still hold the name.")


def export(
    run: RunArgument,
    to: Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines; `plaudit data convert` makes other formats.")],
    what: What = "judgements",
    debug: Debug = False,
) -> None:
    """Write what counts of what people said, or the accepted demonstrations."""
    with _at_desk(run, debug) as desk:
        rows = list(desk.export(what))
        beside = to.with_name(to.name + ".partial")
        beside.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        beside.replace(to)
        desk.record("exported", what=what, rows=len(rows))
        say(f"{len(rows)} {what} in {to}")


def import_(
    run: RunArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Rankings in any format that Plaudit reads.")],
    gold: Annotated[
        bool, typer.Option("--gold", help="Their answers are known: tasks that measure annotators.")
    ] = False,
    tasks: Annotated[
        bool, typer.Option("--tasks", help="Put their responses on the desk, to be ranked by people.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Take in rankings: as judgements made elsewhere, which count, as gold tasks, or as tasks for people."""
    with _at_desk(run, debug) as desk:
        from plaudit.data.formats import read_judgements
        from plaudit.feedback.accounts import IMPORTED
        from plaudit.feedback.project import by_cover
        from plaudit.recipe_file import load_recipe

        if gold and tasks:
            raise InputError("--gold or --tasks: one of them")
        recipe = load_recipe(run / "recipe.yaml")
        found = read_judgements(file).items
        if gold:
            added = list[int]()
            for sensitive, part in by_cover([j for j in found if len(j.ranking) > 1], recipe, lambda j: j.prompt):
                known = [(one.prompt, one.responses, one.ranking) for one in part]
                added += desk.add_gold(known, sensitive=sensitive)
            say(f"{len(added)} gold tasks")
        elif tasks:
            added, newest = list[int](), desk.newest_round()
            for sensitive, part in by_cover(found, recipe, lambda j: j.prompt):
                ranked = [(one.prompt, one.responses) for one in part]
                added += desk.add_tasks("ranking", ranked, round=newest, sensitive=sensitive)
            crowded = any(len(one.responses) > MOST_RANKED for one in found)
            some = f"; of a prompt's responses at most {MOST_RANKED} are shown, drawn at random" if crowded else ""
            say(f"{len(set(added))} tasks to rank{some}")
        else:
            say(f"{desk.take_over(found, kind=IMPORTED)} judgements taken over; {len(found)} in {file}")


def backup(
    run: RunArgument,
    to: Annotated[Path, typer.Argument(metavar="FILE", help="A file that is not there yet.")],
    debug: Debug = False,
) -> None:
    """Copy the whole store, whatever its database, into one SQLite file; people may go on working."""
    with _at_desk(run, debug) as desk:
        from plaudit.feedback.store import Store

        if to.exists():
            raise InputError(f"{to}: exists already and is left as it is; name another file")
        copy = Store.open(to)
        desk.store.copy_to(copy)
        copy.fold()
        copy.close()
        say(f"{desk.store.name} is copied to {to}")


def restore(
    run: RunArgument,
    source: Annotated[Path, typer.Argument(metavar="FILE", help="What `plaudit feedback backup` wrote.")],
    debug: Debug = False,
) -> None:
    """Fill the run's store from a copy. A store that holds work already is put aside first, or refused (PostgreSQL)."""
    with errors_in_one_line(debug, goes_on=False):
        from plaudit.feedback.project import restore_store
        from plaudit.recipe_file import load_recipe

        if not source.is_file():
            raise InputError(f"{source}: no such file")
        if not (run / "recipe.yaml").is_file():
            raise InputError(f"{run}: no run here (there is no recipe.yaml); give a run folder, as runs/demo")
        name, aside = restore_store(run, load_recipe(run / "recipe.yaml"), source)
        say(f"{name} is as in {source}" + (f"; what was there is kept as {aside}" if aside else ""))


def _confirmed(question: str) -> bool:
    """No, where nobody is there to answer."""
    try:
        return typer.confirm(printable(question))
    except typer.Abort:
        return False
