"""Behind a ledger: its database, opened when it is needed, its journals, and who writes to it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tidegate.accounting.bookkeeper import BATCH, Bookkeeper, tell_user
from tidegate.accounting.journal import Journal, left_behind
from tidegate.accounting.remembered import remember, remembered
from tidegate.accounting.sqlite_file import budgets_in, file_of, in_memory, quoted
from tidegate.accounting.turns import alone_in
from tidegate.clock import Clock
from tidegate.errors import LedgerUnusable
from tidegate.forking import no_fork, reset_in_child

if TYPE_CHECKING:
    from tidegate.accounting.database import Database
    from tidegate.accounting.rows import Rows
    from tidegate.accounting.till import Till

SpentListener = Callable[[dict[str, int]], None]
"""Told the nano-dollars spent of each purse that changed, by its scope."""


def default_url() -> str:
    """The user's own ledger: `usage.db` in the folder where programs keep their data."""
    return f"sqlite:///{quoted(data_folder() / 'usage.db')}"


def data_folder() -> Path:
    """Where programs keep this user's data."""
    from platformdirs import user_data_path  # noqa: PLC0415 (seldom needed)

    return user_data_path("tidegate", appauthor=False)


def _anchored(url: str) -> str:
    """The address of a file from its root: the ledger stays where it is when the program changes its folder."""
    scheme, slashes, rest = url.partition(":///")
    path, mark, options = rest.partition("?")
    if not scheme.startswith("sqlite") or not path or in_memory(path):
        return url
    whole = Path(path) if Path(path).is_absolute() else Path(quoted(Path.cwd()), path)
    return f"{scheme}{slashes}{whole}{mark}{options}"


def _beside(file: Path) -> Path:
    return file.with_name(f"{file.name}.pending")


def _name_of_server(url: str) -> str:
    """The name of the folder of the journals of a server's database."""
    with no_fork():
        from tidegate.accounting.database import same_place  # noqa: PLC0415 (with SQLAlchemy)
    return _digest(same_place(url))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


class Store:
    """Shared by threads; safe after `os.fork()`."""

    def __init__(self, url: str, *, sync: bool, clock: Clock) -> None:
        """Nothing is opened yet. Raises `LedgerUnusable` for what is no address."""
        if not isinstance(url, str) or "://" not in url:
            raise LedgerUnusable(
                "a ledger's address looks like `sqlite:///usage.db` or `postgresql+psycopg://user@host/name`"
            )
        if "\0" in unquote(url):
            raise LedgerUnusable("a ledger's address has no NUL in it")
        self.url = _anchored(url)
        self._server = None if self.file is not None else _name_of_server(self.url)
        self._sync = sync
        self._clock = clock
        self._open: tuple[Database, Rows] | None = None
        self._till: Till | None = None
        self._listeners: list[weakref.WeakMethod[SpentListener]] = []
        self._renew()
        reset_in_child(self._renew)
        self.bookkeeper = Bookkeeper(
            lambda: self._opened()[1], Journal(self._pending), sync=sync, written=self._written, clock=clock
        )

    def _renew(self) -> None:
        self._opening = threading.RLock()

    @property
    def file(self) -> Path | None:
        """The file of an SQLite ledger."""
        return file_of(self.url)

    @property
    def shown(self) -> str:
        """The address without what is secret."""
        if self.file is not None:
            return self.url.partition("?")[0]
        with no_fork():
            from tidegate.accounting.database import shown_address  # noqa: PLC0415 (with SQLAlchemy)
        return shown_address(self.url)

    @property
    def _pending(self) -> Path:
        """The folder of the journals: one, however the address of the database is written."""
        if self.file is not None:
            return _beside(Path(os.path.realpath(self.file)))
        return data_folder() / "pending" / str(self._server)

    @property
    def _pending_once(self) -> list[Path]:
        """Where earlier releases had them, by the spelling of the address."""
        if self.file is not None:
            return [_beside(self.file)]
        _, slashes, rest = self.url.partition("://")
        spellings = {self.url, *(f"{scheme}{slashes}{rest}" for scheme in ("postgresql", "postgresql+psycopg"))}
        return [data_folder() / "pending" / _digest(each) for each in sorted(spellings)]

    # Opening

    def database(self) -> Database:
        """The database, open. Raises `LedgerUnusable`."""
        return self._opened()[0]

    def _opened(self) -> tuple[Database, Rows]:
        if self._open is None:
            with self._opening:
                if self._open is None:
                    self._open = self._open_now()
        return self._open

    def _open_now(self) -> tuple[Database, Rows]:
        with no_fork():  # the first time it takes a third of a second
            from tidegate.accounting.database import Database  # noqa: PLC0415
            from tidegate.accounting.rows import Rows  # noqa: PLC0415
        database = Database(self.url, sync=self._sync, clock=self._clock)
        try:
            rows = Rows(database)
            self._take_in(rows)
        except BaseException:
            database.close()
            raise
        return database, rows

    def take_in(self) -> bool:
        """Write what processes that are gone have left in their journals; False when another one is just about it."""
        return self._take_in(self._opened()[1])

    def _take_in(self, rows: Rows) -> bool:
        folders = dict.fromkeys((*self._pending_once, self._pending))
        alone = [self._take_in_from(folder, rows) for folder in folders]
        return all(alone)

    @staticmethod
    def _take_in_from(folder: Path, rows: Rows) -> bool:
        with alone_in(folder) as alone:
            for path, entries, torn in left_behind(folder) if alone else ():
                for start in range(0, len(entries), BATCH):
                    rows.write(entries[start : start + BATCH], ())
                if torn > 1:  # the last one may be of the moment in which the process died: it was not acknowledged
                    tell_user(f"the ledger: {torn} lines of {path} are torn, and left out")
                with contextlib.suppress(OSError):  # then its entries come again, which changes nothing
                    path.unlink()
        return alone

    @property
    def is_there(self) -> bool:
        """Whether there is anything to read: asking this makes no file. A server is taken to be there."""
        return self.file is None or any(each.exists() for each in (self.file, self._pending, *self._pending_once))

    # Reading and reserving

    def asked(self) -> tuple[Database, Any]:
        """The database with everything in it that was recorded, and the module that asks it."""
        self.bookkeeper.flush()
        database = self.database()
        from tidegate.accounting import queries  # noqa: PLC0415 (with SQLAlchemy, which takes a third of a second)

        return database, queries

    def stored_budgets(self) -> list[tuple[str, str]]:
        """The name and the options (JSON) of each budget that is kept in the ledger itself."""
        if self.file is not None:  # without opening it: clients look now and then, and most have none
            return budgets_in(self.file)
        from tidegate.accounting import queries  # noqa: PLC0415 (with SQLAlchemy)

        return queries.budgets(self.database())

    def look_around(self) -> list[tuple[str, str]]:
        """The same, and what processes left behind that ended without closing the ledger: budgets count it.

        While the ledger cannot be read these are the budgets that it kept when it was last looked at from this machine.
        """
        try:
            if self._till is not None:
                self.take_in()
            budgets = self.stored_budgets()
        except LedgerUnusable:
            kept = remembered(self._pending)
            if not kept:
                raise
            return kept
        remember(self._pending, budgets)
        return budgets

    def till(self) -> Till:
        """Where money of this ledger is reserved. Opens it."""
        self.database()
        from tidegate.accounting.till import Till  # noqa: PLC0415 (with SQLAlchemy)

        with self._opening:
            if self._till is None:
                keeper = self.bookkeeper
                self._till = Till(
                    self.database, release=keeper.release, hurry=keeper.hurry, take_in=self.take_in, clock=self._clock
                )
        return self._till

    def on_spent(self, listener: SpentListener) -> None:
        """Call a bound method, for as long as its object lives, when rows were written that some purse counts."""
        self._listeners.append(weakref.WeakMethod(listener))

    def _written(self, ended: Sequence[str], spent: dict[str, int]) -> None:
        if self._till is not None:
            self._till.ended(ended)
        for reference in self._listeners:
            listener = reference()
            if spent and listener is not None:
                listener(spent)

    def leave(self) -> None:
        """The program ends, or has dropped the ledger.

        A database that was never opened is not opened for this: that takes longer than many a program, and the journal
        is taken in by whoever opens the ledger next.
        """
        if self._open is None:
            self.bookkeeper.leave()
        else:
            self.close()

    def close(self) -> None:
        """Write what is queued, and close the database. What cannot be written is told in a `LedgerWarning`."""
        self.bookkeeper.close()
        if self._till is not None:
            self._till.close()
        if self._open is not None:
            self._open[0].close()
