"""The database of a project: opening it, its transactions, copies of it. SQLite by default, PostgreSQL by URL.

SQLite has one writer. Here writers of a process wait for each other in a queue, in order, and take SQLite's own lock
at the start of their transaction (BEGIN IMMEDIATE), so that none finds out halfway that it cannot go on; other
processes are waited for. Readers see the state before a write until it is whole (WAL) and wait for nobody.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, insert, inspect, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from plaudit.feedback.schema import Base, Judgement
from plaudit.types import InputError, PlauditError

HEAD = "0002"
"""The newest migration."""
SECONDS_TO_WAIT = 30
"""For another process that writes."""
_ROWS_AT_ONCE = 1000
_MIGRATING = threading.Lock()


class StoreAway(PlauditError):
    """The database took nothing: it is locked, full or gone. What was to be written can be written again later."""


class Store:
    """Threads may share one. `read` and `write` give a session; leaving a write commits it, an exception undoes it."""

    def __init__(self, engine: Engine, url: URL) -> None:
        self.engine, self.url = engine, url
        self._writer = threading.Lock()

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @classmethod
    def open(cls, url: str | Path, *, project: str = "plaudit") -> Store:
        """The store at a file's path or a URL, made or brought up to date where needed.

        In PostgreSQL it is the schema named after `project`. InputError where there is no such database.
        """
        parsed = _parsed(url)
        store = cls(_engine(parsed, _schema_name(project)), parsed)
        try:
            store._migrate(_schema_name(project))
        except OperationalError as error:
            raise InputError(f"{store.name}: the database cannot be opened ({_reason(error)})") from error
        except DatabaseError as error:
            raise InputError(f"{store.name}: this is no store of Plaudit's ({_reason(error)})") from error
        return store

    @property
    def name(self) -> str:
        """The file, or the URL without its password."""
        return self.url.database or "" if self.is_sqlite else self.url.render_as_string(hide_password=True)

    @contextmanager
    def read(self) -> Generator[Session]:
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self, *, durable: bool = True) -> Generator[Session]:
        """`durable`: on the disk when this returns, power cut or not. Else (leases) it outlives the process alone."""
        options = self.engine.execution_options(writes=True, durable=durable)
        queue = self._writer if self.is_sqlite else nullcontext()
        with queue, _clearly(self.name), Session(options, expire_on_commit=False) as session:
            yield session
            session.commit()

    def close(self) -> None:
        self.engine.dispose()

    def fold(self) -> None:
        """Write SQLite's log into its file, so that the file alone is the whole store."""
        if self.is_sqlite:
            with self.engine.connect() as connection:
                connection.exec_driver_sql("COMMIT")
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
                connection.exec_driver_sql("BEGIN")

    def copy_to(self, other: Store) -> None:
        """Everything that is here into `other`, which must be empty: a backup, or a move to another database."""
        with self.engine.connect() as source, other.write() as session:
            if not self.is_sqlite:
                source = source.execution_options(isolation_level="REPEATABLE READ")
            if session.scalar(select(func.count()).select_from(Judgement)):
                raise InputError(f"{other.name}: holds judgements already; name an empty place")
            target = session.connection()
            for table in reversed(Base.metadata.sorted_tables):
                if table.name in ("project", "guidelines"):  # written when a desk opens it
                    target.execute(table.delete())
            for table in Base.metadata.sorted_tables:
                for rows in source.execute(select(table)).partitions(_ROWS_AT_ONCE):
                    target.execute(insert(table), [dict(row._mapping) for row in rows])  # pyright: ignore[reportPrivateUsage]
            if not other.is_sqlite:
                _restart_sequences(target)

    def _migrate(self, schema: str) -> None:
        if self._version() == HEAD:
            return
        # Only now: alembic takes a while to load, and a store is mostly up to date.
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", "plaudit.feedback:migrations")
        writer = self.engine.execution_options(writes=True, durable=True)
        # Others may open the same new store now, in threads (alembic's context is one for the process) and processes.
        with _MIGRATING, writer.begin() as connection:
            if not self.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:schema))"), {"schema": schema})
                connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'))
            if _version_of(connection) != HEAD:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")

    def _version(self) -> str | None:
        with self.engine.connect() as connection:
            return _version_of(connection)


def _version_of(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.scalar(text("SELECT version_num FROM alembic_version"))


def _parsed(url: str | Path) -> URL:
    spelled = str(url)
    if "://" not in spelled:
        Path(spelled).parent.mkdir(parents=True, exist_ok=True)
        return URL.create("sqlite", database=spelled)
    try:
        parsed = make_url(spelled)
    except ArgumentError as error:
        raise InputError(f"{spelled!r} is no URL of a database; one is postgresql://user@host/database") from error
    if parsed.get_backend_name() == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() != "sqlite":
        raise InputError(f"{parsed.get_backend_name()} is not among the databases: give a file, or postgresql://…")
    return parsed


def _schema_name(project: str) -> str:
    return "plaudit_" + re.sub(r"\W", "_", project.lower())


def _engine(url: URL, schema: str) -> Engine:
    if url.get_backend_name() == "sqlite":
        engine = create_engine(
            url, pool_size=16, max_overflow=48, connect_args={"timeout": SECONDS_TO_WAIT, "check_same_thread": False}
        )
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        return create_engine(
            url, pool_size=16, max_overflow=16, pool_pre_ping=True, connect_args={"options": f"-csearch_path={schema}"}
        )
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise InputError("PostgreSQL needs its driver: pip install 'plaudit[postgres]'") from error


def _prepare_sqlite(connection: Any, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # the driver begins no transactions by itself; _begin_sqlite does
    for pragma in ("journal_mode=WAL", "foreign_keys=ON", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    if options.get("writes"):
        # FULL waits for the disk at every commit. With NORMAL a commit is in the file's log, which a killed process
        # leaves whole; a power cut may lose the last ones, in order, never tear one.
        connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if options.get('durable') else 'NORMAL'}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql("BEGIN")


@contextmanager
def _clearly(name: str) -> Generator[None]:
    """A full disk, or a database that went away, in words."""
    try:
        yield
    except OperationalError as error:
        raise StoreAway(f"{name}: nothing was written ({_reason(error)})") from error


def _reason(error: DatabaseError) -> str:
    return str(error.orig).strip().splitlines()[0] if error.orig else str(error)


def _restart_sequences(connection: Connection) -> None:
    """Rows were copied with their numbers; what comes next goes on behind them."""
    for table in Base.metadata.sorted_tables:
        (key, *_) = table.primary_key.columns
        if key.type.python_type is int:
            connection.execute(
                text(
                    f"SELECT setval(pg_get_serial_sequence('{table.name}', '{key.name}'), "
                    f"(SELECT coalesce(max({key.name}), 0) + 1 FROM {table.name}), false)"
                )
            )
