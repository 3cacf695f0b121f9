"""How older ledgers become what `schema` says, in place: one function a revision, with Alembic's operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection

from tidegate.accounting.schema import (
    ALERTS,
    ATTEMPTS,
    BUDGETS,
    HOLDERS,
    LABELLED,
    PURSES,
    RESERVATIONS,
    TOTALS,
    VERSION,
    metadata,
)
from tidegate.accounting.sums import add_to_sums

if TYPE_CHECKING:
    from alembic.operations import Operations

PAGE = 5_000
"""Rows that are added up at a time."""


def _add_budgets(operations: Operations) -> None:
    """Revision 1 kept attempts alone; revision 2 had sums as well, by all labels at once, which were too many."""
    connection = operations.get_bind()
    for table in (PURSES, RESERVATIONS, HOLDERS, ALERTS, BUDGETS):
        table.create(connection)


def _add_sums(operations: Operations) -> None:
    """What adds the attempts up, in place of what revision 2 had for it."""
    connection = operations.get_bind()
    connection.exec_driver_sql("DROP TABLE IF EXISTS tidegate_sums")
    for table in (TOTALS, LABELLED):
        table.create(connection)
    last = 0
    while rows := connection.execute(
        select(ATTEMPTS).where(ATTEMPTS.c.id > last).order_by(ATTEMPTS.c.id).limit(PAGE)
    ).all():
        add_to_sums(connection, [dict(row._mapping) for row in rows])  # noqa: SLF001 (its public name)
        last = rows[-1].id


_STEPS: dict[str, Callable[[Operations], None]] = {"2": _add_budgets, "3": _add_sums}
"""What makes each revision of the one before it. A step is never changed once it was released."""

REVISIONS = ("1", *_STEPS)
NEWEST = REVISIONS[-1]


def upgrade(connection: Connection, version: str | None) -> None:
    """Make the tables, or bring those of `version` up to date: all of it in the connection's one transaction."""
    if version is None:
        metadata.create_all(connection)
        connection.execute(insert(VERSION).values(version_num=NEWEST))
        return
    from alembic.migration import MigrationContext  # noqa: PLC0415 (0.2 s to import, and seldom needed)
    from alembic.operations import Operations  # noqa: PLC0415

    operations = Operations(MigrationContext.configure(connection))
    for revision in REVISIONS[REVISIONS.index(version) + 1 :]:
        _STEPS[revision](operations)
    connection.execute(update(VERSION).values(version_num=NEWEST))
