"""A look at a ledger's file with the standard library alone: quick, and without changing it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from tidegate.errors import LedgerUnusable


def problem_with(file: Path) -> str | None:
    """Why a file cannot be a ledger; None when it is one, or is not there yet."""
    try:
        if not file.exists():
            return None
        return _problem_inside(file) if file.is_file() else "it is no file"
    except OSError as error:
        return error.strerror or str(error)
    except sqlite3.Error as error:
        return str(error)


def _problem_inside(file: Path) -> str | None:
    with file.open("rb") as stream:
        head = stream.read(16)
    if head and head != b"SQLite format 3\0":
        return "the file is no SQLite database"
    with _opened(file) as connection:
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return "it is another program's database" if names and "tidegate_version" not in names else None


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
    with contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
        yield connection
