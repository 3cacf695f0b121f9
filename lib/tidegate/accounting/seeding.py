"""What a new purse begins with: what the ledger has of its calls already."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, Select, and_, func, select, true

from tidegate.accounting.entries import storable
from tidegate.accounting.purses import Purse
from tidegate.accounting.schema import ATTEMPTS, SUMS
from tidegate.accounting.sums import tag_value


def spent_before(connection: Connection, purse: Purse) -> int:
    """Nano-dollars that the ledger has of the purse's calls already, exactly: for when the purse is made."""
    if purse.kind in ("run", "call"):
        column = ATTEMPTS.c.run if purse.kind == "run" else ATTEMPTS.c.call_id
        rows = ATTEMPTS.c.at.between(purse.since_us, purse.until_us - 1)
        return _total(connection, select(func.sum(ATTEMPTS.c.cost_nano)).where(column == storable(purse.value), rows))
    span = and_(SUMS.c.quarter >= purse.since_us, SUMS.c.quarter < purse.until_us)
    return _total(connection, select(func.sum(SUMS.c.cost_nano)).where(span, _belongs(purse, connection.dialect.name)))


def _total(connection: Connection, query: Select[tuple[int]]) -> int:
    return int(connection.scalar(query) or 0)


def _belongs(purse: Purse, dialect: str) -> ColumnElement[bool]:
    if purse.kind == "task":
        return SUMS.c.task == storable(purse.value)
    if purse.kind == "tag":
        return tag_value(SUMS.c.tags, storable(purse.tag), dialect) == storable(purse.value)
    return true()
