"""How a ledger's database is opened: its tables are made or upgraded, and what is no ledger is left as it was."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, event, inspect, select, text
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from tidegate.accounting import migrations
from tidegate.accounting.schema import VERSION
from tidegate.accounting.sqlite_file import file_of, newer, problem_with, quoted
from tidegate.accounting.sqlite_forks import close_before_fork, using_sqlite
from tidegate.clock import SYSTEM_CLOCK, Clock
from tidegate.errors import LedgerUnusable
from tidegate.forking import reset_in_child

BUSY_SECONDS = 30.0
"""How long a writer waits for another process to finish its transaction."""

CONNECT_SECONDS = 10
"""How long a server may take to let us in, unless the address says otherwise with `connect_timeout`."""

_PREPARING, _CHARGING = 0x7464_6761, 0x7464_6762
"""Numbers that no other program locks in PostgreSQL, one may hope."""

_SPOKEN = "`sqlite:///usage.db` or `postgresql+psycopg://user@host/name`"


class Database:
    """A ledger's database, opened. Shared by threads; each transaction has a connection of its own."""

    def __init__(self, url: str, *, sync: bool = False, clock: Clock = SYSTEM_CLOCK) -> None:
        """Open it, or make it. `sync`: a commit survives a loss of power. Raises `LedgerUnusable` naming it."""
        self.url = checked_url(url)
        self.shown = shown(self.url)
        self.clock = clock
        self._sync = sync
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.file = Path(self.url.database or "").absolute() if self.is_sqlite else None
        self._known: tuple[int, int] | None = None
        """The file that was opened: another one may take its name."""
        self._engine = self._new_engine()
        self._renew()
        reset_in_child(self._fork)
        if self.is_sqlite:
            close_before_fork(self.close)
        try:
            with self._translated():
                self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        if self.file is not None:
            self._make_room(self.file)
        with self._undisturbed():
            found = _identity(self.file)
            self._prepare()
            self._known = found

    def _make_room(self, file: Path) -> None:
        failure: OSError | None = None
        try:
            problem = problem_with(file, migrations.REVISIONS)
            if problem is None:
                file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with contextlib.suppress(FileExistsError):  # what was asked and what it cost concerns its owner alone
                    os.close(os.open(file, os.O_CREAT | os.O_EXCL, 0o600))
        except (OSError, sqlite3.Error) as error:
            problem = _reason(error)
            failure = OSError(problem)
        if problem is not None:
            raise LedgerUnusable(f"the ledger {self.shown} cannot be opened: {problem}") from failure

    def _new_engine(self) -> Engine:
        if not self.is_sqlite:
            # As many as there are threads that reserve: they take turns, so a few are enough.
            waits = {} if "connect_timeout" in self.url.query else {"connect_timeout": CONNECT_SECONDS}
            return create_engine(
                self.url, hide_parameters=True, pool_pre_ping=True, connect_args=waits, pool_size=4, max_overflow=28
            )
        options = {"timeout": BUSY_SECONDS, "check_same_thread": False}
        engine = create_engine(self.url, hide_parameters=True, connect_args=options, pool_size=4, max_overflow=28)
        event.listen(engine, "connect", self._prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    def _prepare_sqlite(self, connection: Any, _record: object) -> None:  # noqa: ANN401 (the driver's)
        """Transactions are begun by hand (`_begin_sqlite`): the driver begins them too late."""
        connection.isolation_level = None
        cursor = connection.cursor()
        _use_wal(cursor)
        # With NORMAL a commit survives the process, and our journal sees to the rest.
        cursor.execute(f"PRAGMA synchronous = {'FULL' if self._sync else 'NORMAL'}")
        cursor.close()

    def _fork(self) -> None:
        """In a forked child: the connections are the parent's, who goes on using them."""
        self._engine.dispose(close=False)
        self._renew()

    def _renew(self) -> None:
        self._opening = threading.Lock()

    def _prepare(self) -> None:
        with self._writing(BUSY_SECONDS) as connection:
            self.lock(connection, _PREPARING)  # two processes must not make the tables at once
            known = inspect(connection).has_table(VERSION.name)
            version = connection.scalar(select(VERSION.c.version_num)) if known else None
            if version == migrations.NEWEST:
                return
            if version is not None and version not in migrations.REVISIONS:
                problem = newer(version)
                raise LedgerUnusable(f"the ledger {self.shown} cannot be opened: {problem}")
            migrations.upgrade(connection, version)

    @contextlib.contextmanager
    def writing(self, seconds: float = BUSY_SECONDS) -> Iterator[Connection]:
        """A transaction that may write; it waits at most so long for others. On SQLite it has the file for itself."""
        with self._translated(), self._there(), self._writing(seconds) as connection:
            yield connection

    @contextlib.contextmanager
    def _writing(self, seconds: float) -> Iterator[Connection]:
        patience = int(1000 * min(max(seconds, 0.001), BUSY_SECONDS))
        with self._engine.connect() as plain:
            connection = plain.execution_options(tidegate_patience=patience)
            connection.begin()
            if not self.is_sqlite:
                connection.execute(text(f"SET LOCAL lock_timeout = {patience}"))
            yield connection
            connection.commit()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database, whatever is written meanwhile."""
        isolation: dict[str, Any] = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
        with self._translated(), self._there(), self._engine.connect() as plain:
            connection = plain.execution_options(**isolation)
            with connection.begin():
                yield connection

    def _there(self) -> contextlib.AbstractContextManager[None]:
        """Be where the address says. What is written to a file that was removed or replaced, nobody would ever read."""
        if self._moved():
            with self._opening:
                if self._moved():
                    self._known = None  # until it is opened: a new file may get the number of the one that is let go
                    self._engine.dispose()
                    self._open()
        return self._undisturbed()

    def _moved(self) -> bool:
        known = self._known  # read once: another thread may be about to open it
        return self.file is not None and (known is None or _identity(self.file) != known)

    def _undisturbed(self) -> contextlib.AbstractContextManager[None]:
        return using_sqlite() if self.is_sqlite else contextlib.nullcontext()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, OSError, OverflowError, UnicodeError) as error:
            # Its own text may hold values of the program's, such as names of tasks.
            reason = _reason(error)
            raise LedgerUnusable(f"the ledger {self.shown} cannot be used: {reason}") from OSError(reason)

    def lock_charging(self, connection: Connection, *, alone: bool) -> None:
        """Until the transaction ends: nobody makes a purse while somebody adds rows that it would have to count."""
        self.lock(connection, _CHARGING, alone=alone)

    def lock(self, connection: Connection, number: int, *, alone: bool = True) -> None:
        """Take a lock of the application's own until the transaction ends. On SQLite each writer is alone anyway."""
        if not self.is_sqlite:
            name = "pg_advisory_xact_lock" if alone else "pg_advisory_xact_lock_shared"
            connection.execute(text(f"SELECT {name}(:number)"), {"number": number})

    def now(self, connection: Connection) -> int:
        """Microseconds since 1970 by the one clock that all who share the database have: its own, or the machine's."""
        if self.is_sqlite:
            return int(self.clock.time() * 1_000_000)
        return int(connection.scalar(text("SELECT extract(epoch FROM clock_timestamp()) * 1000000")))

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


_BACKENDS = ("sqlite", "postgresql")

_PLACE = ("user", "host", "hostaddr", "port", "dbname", "service", "options")
"""The options of a server's address that say where, and in which of its schemas; not how."""


def checked_url(url: object) -> URL:
    """The address of a ledger. Raises `LedgerUnusable` for what is none; a password is not repeated."""
    if not isinstance(url, str) or "://" not in url:
        raise LedgerUnusable(f"a ledger's address looks like {_SPOKEN}")
    try:
        parsed = _read(url)
        problem = _unsuitable(parsed)
        if problem is None:
            parsed.get_dialect().import_dbapi()
    except ModuleNotFoundError:
        problem = (
            "its driver is not installed; `pip install 'tidegate[postgres]'` brings that of `postgresql+psycopg://`"
        )
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError):
        problem = f"it is not understood; {_SPOKEN} are"
    if problem is None:
        return parsed
    raise LedgerUnusable(f"the ledger `{url.split('://', maxsplit=1)[0][:40]}://…` cannot be opened: {problem}")


def _read(url: str) -> URL:
    """The parts of an address. Raises `ArgumentError` or `ValueError`."""
    parsed = make_url(url)
    if parsed.drivername == "postgresql":  # SQLAlchemy's own choice is an older driver
        return parsed.set(drivername="postgresql+psycopg")
    file = file_of(url)
    return parsed if file is None else parsed.set(database=str(file))  # releases of SQLAlchemy differ about `%20`


def shown(url: URL) -> str:
    """The address without what is secret: a password may stand among the options as well."""
    if _torn(url):
        return f"{url.drivername}://…"
    if url.get_backend_name() == "sqlite":
        return f"{url.drivername}:///{quoted(url.database or '')}"
    return url.set(query={}).render_as_string(hide_password=True)


def shown_address(url: str) -> str:
    """The same of an address that may not be understood."""
    try:
        return shown(make_url(url))
    except (ArgumentError, ValueError):
        scheme, _, rest = url.partition("://")
        user, at, place = rest.partition("?")[0].rpartition("@")
        return f"{scheme[:40]}://{user.partition(':')[0]}:***@{place}" if at and ":" in user else f"{scheme[:40]}://…"


def _torn(url: URL) -> bool:
    """Whether an `@` of the password stands as it is: then a part of it would be taken for the server's name."""
    return "@" in (url.host or "") or re.match(r"\d+/[^?]*\?\w+=", str(url.password or "")) is not None


def same_place(url: str) -> str:
    """A text that all addresses of one database of a server have in common, whatever driver and password they name."""
    try:
        parsed = _read(url)
    except (ArgumentError, ValueError):
        return url
    parts: dict[str, Any] = {"user": parsed.username, "host": parsed.host, "port": parsed.port}
    parts |= {"dbname": parsed.database} | {name: parsed.query[name] for name in _PLACE if name in parsed.query}
    parts = {"dbname": parts["user"], "port": 5432} | {name: part for name, part in parts.items() if part}
    parts["host"] = str(parts.get("host", "")).lower()
    return repr((parsed.get_backend_name(), sorted((name, str(part)) for name, part in parts.items())))


def _identity(file: Path | None) -> tuple[int, int] | None:
    try:
        found = None if file is None else file.stat()
    except OSError:
        return None
    return None if found is None else (found.st_dev, found.st_ino)


def _unsuitable(url: URL) -> str | None:
    if url.get_backend_name() not in _BACKENDS:
        return f"a ledger is an address like {_SPOKEN}"
    if url.get_backend_name() == "sqlite" and (url.database or ":").startswith((":", "file:")):
        return "it needs a file, as in `sqlite:///usage.db` or `sqlite:////var/lib/usage.db`"
    if url.get_dialect().is_async:
        instead = "sqlite:///…" if url.get_backend_name() == "sqlite" else "postgresql+psycopg://…"
        return f"its driver has to be a synchronous one: write `{instead}`, which asynchronous programs use as well"
    if _torn(url):
        return "an `@` in its password or its options is written `%40`"
    return None


def _use_wal(cursor: sqlite3.Cursor) -> None:
    """Not at once where several processes make a new ledger together: nobody's patience counts for this step."""
    give_up = SYSTEM_CLOCK.monotonic() + BUSY_SECONDS
    while True:
        try:
            if cursor.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or SYSTEM_CLOCK.monotonic() > give_up:
                raise
        else:
            return
        SYSTEM_CLOCK.wait(threading.Event(), 0.01)


def _begin_sqlite(connection: Connection) -> None:
    """A writer takes the file at once, so that it never has to give up half-way for another one."""
    patience = connection.get_execution_options().get("tidegate_patience")
    connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(1000 * BUSY_SECONDS) if patience is None else patience}")
    connection.exec_driver_sql("BEGIN" if patience is None else "BEGIN IMMEDIATE")


def _reason(error: BaseException) -> str:
    """What the database said, in a line and without its address."""
    if isinstance(error, DBAPIError):
        # Of several lines, as PostgreSQL's driver has them, the first says what it is.
        return (str(error.orig).strip().splitlines() or [type(error.orig).__name__])[0][:200]
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, sqlite3.Error):
        return str(error)
    return "a number is larger than it can keep" if isinstance(error, OverflowError) else type(error).__name__
