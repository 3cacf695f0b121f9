"""What a new purse begins with: what the ledger has of its calls already."""

from __future__ import annotations

from sqlalchemy import Connection, Select, func, select

from tidegate.accounting.entries import storable
from tidegate.accounting.purses import Purse
from tidegate.accounting.schema import ATTEMPTS, LABELLED, TOTALS
from tidegate.accounting.sums import TASK, tag_label


def spent_before(connection: Connection, purse: Purse) -> int:
    """Nano-dollars that the ledger has of the purse's calls already, exactly: for when the purse is made."""
    if purse.kind in ("run", "call"):
        column = ATTEMPTS.c.run if purse.kind == "run" else ATTEMPTS.c.call_id
        rows = ATTEMPTS.c.at.between(purse.since_us, purse.until_us - 1)
        return _total(connection, select(func.sum(ATTEMPTS.c.cost_nano)).where(column == storable(purse.value), rows))
    label = {"task": TASK, "tag": tag_label(purse.tag)}.get(purse.kind)
    sums = TOTALS if label is None else LABELLED
    span = [sums.c.quarter >= purse.since_us, sums.c.quarter < purse.until_us]
    if label is not None:
        span += [sums.c.label == label, sums.c.value == storable(purse.value)]
    return _total(connection, select(func.sum(sums.c.cost_nano)).where(*span))


def _total(connection: Connection, query: Select[tuple[int]]) -> int:
    return int(connection.scalar(query) or 0)
