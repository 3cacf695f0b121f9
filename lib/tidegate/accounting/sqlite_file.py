"""A look at a ledger's file with the standard library alone: quick, and without changing it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import unquote

from tidegate.accounting.sqlite_forks import using_sqlite
from tidegate.errors import LedgerUnusable


def file_of(url: str) -> Path | None:
    """The file of an SQLite address, from its root; None for any other, and for a database in memory."""
    scheme, _, rest = url.partition(":///")
    path = unquote(rest.partition("?")[0])
    return Path(path).absolute() if scheme.startswith("sqlite") and path and not in_memory(path) else None


def in_memory(path: str) -> bool:
    """Whether SQLite takes it for something else than a file's name."""
    return path.startswith((":", "file:"))


def quoted(path: Path | str) -> str:
    """A file's name as it stands in an address."""
    return str(path).replace("%", "%25").replace("?", "%3F")


def problem_with(file: Path, revisions: Collection[str]) -> str | None:
    """Why a file is no ledger of one of these revisions; None when it is one, or is not there yet.

    Raises `OSError` or `sqlite3.Error` when that cannot be told.
    """
    if not file.exists():
        return None
    return _problem_inside(file, revisions) if file.is_file() else "it is no file"


def newer(revision: str) -> str:
    """The problem with a ledger of a revision that is not known."""
    return f"it was written by a newer tidegate (revision {revision[:40]} of its tables)"


def _problem_inside(file: Path, revisions: Collection[str]) -> str | None:
    with file.open("rb") as stream:
        head = stream.read(16)
    if head and head != b"SQLite format 3\0":
        return "the file is no SQLite database"
    with _opened(file) as connection:
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        if "tidegate_version" not in names:
            return "it is another program's database" if names or _marked(connection) else None
        found = [str(row[0]) for row in connection.execute("SELECT version_num FROM tidegate_version")]
    return next((newer(revision) for revision in found if revision not in revisions), None)


def _marked(connection: sqlite3.Connection) -> bool:
    """Whether a program has put its number on the file, though nothing in it yet."""
    return any(connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("user_version", "application_id"))


def budgets_in(file: Path) -> list[tuple[str, str]]:
    """The name and the options of each budget that is set in a ledger; none when it is not there yet, or empty.

    Raises `LedgerUnusable` when that cannot be told: to take it for none would lift limits.
    """
    try:
        if not file.exists():
            return []
        with _opened(file) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'tidegate_budgets'").fetchall():
                return []
            return list(connection.execute("SELECT name, options FROM tidegate_budgets ORDER BY name"))
    except (OSError, sqlite3.Error) as error:
        problem = str(error)
    raise LedgerUnusable(f"the ledger {file} cannot be read: {problem}") from OSError(problem)


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    with using_sqlite():
        try:
            _look(file, "ro")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname not in _UNFINISHED:
                raise
            _look(file, "rw")  # as every program that opens it would: what somebody killed had begun is taken back
        with contextlib.closing(_connected(file, "ro")) as connection:
            yield connection


_UNFINISHED = ("SQLITE_READONLY_ROLLBACK", "SQLITE_READONLY_RECOVERY", "SQLITE_READONLY_CANTINIT")


def _look(file: Path, mode: str) -> None:
    with contextlib.closing(_connected(file, mode)) as connection:
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()


def _connected(file: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.absolute().as_uri()}?mode={mode}", uri=True, timeout=5)
