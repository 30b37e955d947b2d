"""The store: migrations, durability, append-only, copies; the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.exc import DatabaseError

import desks
from plaudit.feedback import schema
from plaudit.feedback.desk import Desk
from plaudit.feedback.records import Chosen
from plaudit.feedback.store import HEAD, Store
from plaudit.types import InputError

Place = tuple[str, str]


@pytest.fixture
def store(place: Place):
    opened = Store.open(place[0], project=place[1])
    yield opened
    opened.close()


@pytest.mark.filterwarnings("ignore:autogenerate skipping:UserWarning")
def test_migrations_lead_to_the_tables_as_they_are_declared(store: Store) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.Base.metadata) == []
        assert context.get_current_revision() == HEAD
    folder = Path(schema.__file__).parent / "migrations"
    assert ScriptDirectory(str(folder)).get_current_head() == HEAD


def test_opening_again_changes_nothing(place: Place) -> None:
    first = Desk(Store.open(place[0], project=place[1]))
    account = first.add_account("Ada", "annotator")
    again = Desk(Store.open(place[0], project=place[1]))
    assert again.accounts() == [account]
    assert len(again.guidelines()) == 1
    first.store.close()
    again.store.close()


def test_a_store_of_the_first_tables_goes_on(place: Place) -> None:
    """With work in it: what is in people's hands, what was judged, and an order that had another name."""
    from alembic import command
    from alembic.config import Config

    desk = Desk(Store.open(place[0], project=place[1]))
    ids = desk.add_tasks("ranking", desks.tasks(3))
    ada = desk.add_account("Ada", "annotator").id
    judged = desk.submit(ada, desks.take(desk, ada).token, desks.answer(2, 0, 1))
    live = desks.take(desk, ada)
    config = Config()
    config.set_main_option("script_location", "plaudit.feedback:migrations")
    with desk.store.engine.execution_options(writes=True, durable=True).begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
        columns = {one["name"] for one in inspect(connection).get_columns("tasks")}
        assert not {"shown", "reserved"} & columns
        settings = connection.execute(text("SELECT settings FROM project")).scalar_one()
        settings = json.loads(settings) if isinstance(settings, str) else dict(settings)
        for name in ("random_share", "shown"):
            del settings[name]
        said = json.dumps(settings | {"order": "score"})
        cast = "" if desk.store.is_sqlite else "CAST(:said AS JSON)"
        connection.execute(text(f"UPDATE project SET settings = {cast or ':said'}"), {"said": said})
    desk.store.close()

    again = Desk(Store.open(place[0], project=place[1]))
    assert (again.settings().order, again.settings().shown) == ("active", None)
    assert again.judgements() == [judged]
    assert len(again.open_rankings(0)) == 1  # one is judged, one is in her hands
    late = again.submit(ada, live.token, desks.answer(0, 1, 2))
    assert late is not None
    assert [one.text for one in late.responses] == [one.text for one in live.responses]  # pyright: ignore
    again.plan([Chosen(task=id, score=1.0, shown=(0, 1), reserved=False) for id in ids])
    assert len(desks.take(again, ada).responses) == 2
    again.store.close()


OPENED = """
import sys
from plaudit.feedback.desk import Desk
from plaudit.feedback.store import Store

Desk(Store.open(sys.argv[1], project=sys.argv[2])).add_account(sys.argv[3], "annotator")
"""


def test_a_new_store_is_opened_by_many_at_once(place: Place) -> None:
    others = [subprocess.Popen([sys.executable, "-c", OPENED, *place, f"process {n}"]) for n in range(3)]
    errors: list[BaseException] = []

    def open_too(number: int) -> None:
        try:
            desk = Desk(Store.open(place[0], project=place[1]))
            desk.add_account(f"thread {number}", "annotator")
            desk.store.close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=open_too, args=(n,)) for n in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert [one.wait() for one in others] == [0, 0, 0]
    assert errors == []
    desk = Desk(Store.open(place[0], project=place[1]))
    assert len(desk.accounts()) == 7
    assert len(desk.guidelines()) == 1
    desk.store.close()


def test_projects_of_one_server_do_not_see_each_other(postgresql: str) -> None:
    one, other = (Desk(Store.open(postgresql, project=name)) for name in ("apart 1", "apart 2"))
    one.add_account("Ada", "annotator")
    assert other.accounts() == []
    one.store.close()
    other.store.close()


def judged(desk: Desk) -> str:
    desk.add_tasks("ranking", desks.tasks(1))
    ada = desk.add_account("Ada", "annotator")
    hand = desks.take(desk, ada.id)
    judgement = desk.submit(ada.id, hand.token, desks.answer(2, 1, 0))
    assert judgement is not None
    return judgement.id  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE judgements SET seconds = 1",
        "DELETE FROM judgements",
        "UPDATE audit SET action = 'x'",
        "DELETE FROM audit",
        "UPDATE demonstrations SET text = 'x'",
        "DELETE FROM demonstrations",
        "DELETE FROM reviews",
    ],
)
def test_what_was_said_cannot_be_changed(store: Store, statement: str) -> None:
    desk = Desk(store)
    judged(desk)
    ben = desk.add_account("Ben", "annotator").id
    desk.add_demonstration_tasks([(desks.task(7)[0], "")])
    written = desks.take(desk, ben)
    desk.submit(ben, written.token, desks.Answer(text="an answer"))
    reviewer = desk.add_account("Cem", "annotator").id
    review = desks.take(desk, reviewer)
    desk.submit(reviewer, review.token, desks.Answer(verdict="accept"))
    with pytest.raises(DatabaseError, match="append-only"), store.write() as session:
        session.connection().execute(text(statement))
    assert len(desk.judgements()) == 1
    assert [one.response for one in desk.demonstrations().values()] == ["an answer"]


def test_responses_keep_where_they_came_from(store: Store) -> None:
    desk = Desk(store)
    judged(desk)
    (judgement,) = desk.judgements()
    prompt, responses = desks.task(0)
    assert judgement.prompt == prompt
    assert judgement.responses == tuple(responses)
    assert judgement.responses[1].sampling == desks.SAMPLING
    assert judgement.ranking == ((2,), (1,), (0,))
    assert sorted(judgement.display_order) == [0, 1, 2]
    assert judgement.guideline_version == "1"
    assert judgement.seconds == 5.0


def test_a_failed_transaction_leaves_nothing(store: Store) -> None:
    desk = Desk(store)

    def fail() -> None:
        with store.write() as session:
            session.add(schema.Annotator(handle="nobody", kind="person"))
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with store.read() as session:
        assert session.get(schema.Annotator, "nobody") is None
    assert desk.accounts() == []


def test_writers_of_several_threads_wait_for_each_other(store: Store) -> None:
    Desk(store)

    def add(start: int) -> None:
        for number in range(start, start + 20):
            with store.write(durable=False) as session:
                session.add(schema.Annotator(handle=f"a{number}", kind="person"))

    threads = [threading.Thread(target=add, args=(20 * n,)) for n in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    with store.read() as session:
        assert session.execute(text("SELECT count(*) FROM annotators")).scalar() == 160


KILLED = """
import sys
import desks
from plaudit.feedback.desk import Desk
from plaudit.feedback.store import Store

desk = Desk(Store.open(sys.argv[1], project=sys.argv[2]))
ada = desk.account_named("Ada").id
while True:
    hand = desk.next_task(ada)
    print(desk.submit(ada, hand.token, desks.answer(0, 1, 2)).id, flush=True)
"""


def test_an_acknowledged_judgement_survives_kill_9(place: Place) -> None:
    desk = Desk(Store.open(place[0], project=place[1]))
    desk.add_tasks("ranking", desks.tasks(500))
    desk.add_account("Ada", "annotator")
    tests = Path(__file__).resolve().parents[1]
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, *place],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tests)},
    )
    assert child.stdout is not None
    acknowledged = [child.stdout.readline().strip() for _ in range(25)]
    child.send_signal(signal.SIGKILL)
    acknowledged += child.stdout.read().split("\n")[:-1]  # what it said before it died
    child.stdout.close()
    child.wait()
    kept = {one.id for one in desk.judgements()}
    assert all(acknowledged[:25])
    assert set(acknowledged) <= kept
    assert len(kept) <= len(set(acknowledged)) + 1  # one may be written and not acknowledged
    # And the desk goes on: no place is lost.
    before = desk.progress_all().done
    ada = desk.account_named("Ada")
    assert ada is not None
    desk.submit(ada.id, desks.take(desk, ada.id).token, desks.answer(0, 1, 2))
    assert desk.progress_all().done == before + 1
    desk.store.close()


def test_sqlite_waits_for_the_disk_where_a_person_was_thanked(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "feedback.db")
    for durable, mode in ((True, 2), (False, 1)):  # FULL, NORMAL
        with store.write(durable=durable) as session:
            assert session.execute(text("PRAGMA synchronous")).scalar() == mode
    with store.read() as session:
        assert session.execute(text("PRAGMA journal_mode")).scalar() == "wal"
    store.close()


def test_a_copy_holds_everything_and_goes_on(place: Place, tmp_path: Path) -> None:
    desk = Desk(Store.open(place[0], project=place[1]))
    id = judged(desk)
    copied = Desk(Store.open(tmp_path / "copy.db"))
    desk.store.copy_to(copied.store)
    assert [one.id for one in copied.judgements()] == [id]
    assert copied.accounts() == desk.accounts()
    assert copied.audit() == desk.audit()
    back = Desk(
        Store.open(place[0], project=place[1] + " again") if "://" in place[0] else Store.open(tmp_path / "b.db")
    )
    copied.store.copy_to(back.store)
    back.add_account("Ben", "annotator")  # numbers go on behind those that were copied
    assert [one.name for one in back.accounts()] == ["Ada", "Ben"]
    with pytest.raises(InputError, match="holds judgements already"):
        desk.store.copy_to(back.store)
    for one in (desk, copied, back):
        one.store.close()


def test_what_is_no_store_is_said(tmp_path: Path) -> None:
    file = tmp_path / "feedback.db"
    file.write_text("this is a letter, and no database at all\n" * 100)
    with pytest.raises(InputError, match="no store of Plaudit"):
        Store.open(file)
    with pytest.raises(InputError, match="cannot be opened"):
        Store.open("postgresql://nobody@127.0.0.1:9/nothing")
    with pytest.raises(InputError, match="mysql"):
        Store.open("mysql://somewhere/x")


def test_a_password_is_not_in_the_name_of_a_store() -> None:
    from sqlalchemy.engine import make_url

    from plaudit.feedback.store import _engine, _parsed

    url = _parsed("postgresql://ada:secret@host/base")
    assert url.drivername == "postgresql+psycopg"
    assert "secret" not in Store(_engine(url, "s"), url).name
    assert make_url(str(url)).host == "host"


def test_no_hand_out_reads_all_tasks(tmp_path: Path) -> None:
    """The open task that comes next is found by an index, whatever the order."""
    from sqlalchemy.dialects import sqlite

    from plaudit.feedback import queue

    store = Store.open(tmp_path / "feedback.db")
    with store.read() as session:
        for statement, index in (
            (queue.FIRST_OPEN, "ix_tasks_open_place"),
            (queue.FIRST_RESERVED, "ix_tasks_open_place"),
            (queue.FIRST_TEACHING, "ix_tasks_open_score"),
            (queue.FIRST_DISPUTED, "ix_tasks_disputed"),
            (queue.STALE, "ix_hand_outs_live"),
        ):
            asked = statement.params(account=1, handle="a", kind="ranking", now=0.0)
            compiled = asked.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
            plan = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled.string}").all()
            said = " | ".join(str(row[-1]) for row in plan)
            assert index in said
            assert "SCAN" not in said.replace("SCAN CONSTANT ROW", "").replace(f"SCAN tasks USING INDEX {index}", ""), (
                said
            )
        assert inspect(session.connection()).has_table("judgements")
    store.close()
