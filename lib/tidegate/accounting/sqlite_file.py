"""A look at a ledger's file with the standard library alone: quick, and without changing it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path

from tidegate.accounting.sqlite_forks import using_sqlite
from tidegate.errors import LedgerUnusable


def problem_with(file: Path, revisions: Collection[str]) -> str | None:
    """Why a file is no ledger of one of these revisions; None when it is one, or is not there yet."""
    try:
        if not file.exists():
            return None
        return _problem_inside(file, revisions) if file.is_file() else "it is no file"
    except OSError as error:
        return error.strerror or str(error)
    except sqlite3.Error as error:
        return str(error)


def newer(revision: str) -> str:
    """The problem with a ledger of a revision that is not known."""
    return f"it was written by a newer tidegate (revision {revision[:40]} of its tables)"


def _problem_inside(file: Path, revisions: Collection[str]) -> str | None:
    with file.open("rb") as stream:
        head = stream.read(16)
    if head and head != b"SQLite format 3\0":
        return "the file is no SQLite database"
    with _opened(file) as connection:
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "tidegate_version" not in names:
            return "it is another program's database" if names else None
        found = [str(row[0]) for row in connection.execute("SELECT version_num FROM tidegate_version")]
    return next((newer(revision) for revision in found if revision not in revisions), None)


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
    raise LedgerUnusable(f"the ledger {file} cannot be read: {problem}")


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    with using_sqlite():
        address = f"{file.absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=5)) as connection:
            yield connection
