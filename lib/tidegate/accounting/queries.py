"""How a ledger's questions are asked of its database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, and_, delete, func, select, true

from tidegate.accounting.database import Database
from tidegate.accounting.entries import storable
from tidegate.accounting.periods import Span
from tidegate.accounting.reports import NO_LABEL, Figures
from tidegate.accounting.schema import ATTEMPTS, BUDGETS, PURSES, RESERVATIONS, SUMS
from tidegate.accounting.sums import FIGURES, tag_value, upsert_into

PAGE = 1_000
"""Rows that are read at a time: no transaction stays open while a program works on them."""


class Filter(NamedTuple):
    """Which attempts are meant. None: all of them."""

    task: str | None = None
    model: str | None = None
    tags: tuple[tuple[str, str], ...] = ()

    def condition(self, table: Any, dialect: str) -> ColumnElement[bool]:  # noqa: ANN401 (a table's columns)
        """As a condition on the columns of `ATTEMPTS` or `SUMS`."""
        parts: list[ColumnElement[bool]] = [true()]
        if self.task is not None:
            parts.append(table.c.task == storable(self.task))
        if self.model is not None:
            parts.append(table.c.model == storable(self.model))
        parts += [tag_value(table.c.tags, storable(name), dialect) == storable(value) for name, value in self.tags]
        return and_(*parts)


def total(database: Database, span: Span, wanted: Filter) -> Figures:
    """All attempts of the span, added up."""
    with database.reading() as connection:
        found = connection.execute(_sums(connection, span, wanted)).mappings().one()
    return _figures([found])


def grouped(
    database: Database, span: Span, by: str, label_of_quarter: Callable[[int], str], wanted: Filter
) -> dict[str, Figures]:
    """The same in groups: `by` is `day`, `provider`, `model`, `task`, or `tag:` and a name."""
    with database.reading() as connection:
        label = _label(connection, by)
        rows = connection.execute(_sums(connection, span, wanted, label).group_by(label)).mappings().all()
    groups: dict[str, list[RowMapping]] = defaultdict(list)
    for row in rows:
        text = row["label"]
        groups[label_of_quarter(text) if by == "day" else NO_LABEL if text is None else str(text)].append(row)
    return {name: _figures(parts) for name, parts in groups.items()}


def _label(connection: Connection, by: str) -> ColumnElement[Any]:
    if by == "day":
        return SUMS.c.quarter
    if by.startswith("tag:"):
        return tag_value(SUMS.c.tags, storable(by.removeprefix("tag:")), connection.dialect.name)
    column: ColumnElement[Any] = SUMS.c[by]
    return column


def _sums(connection: Connection, span: Span, wanted: Filter, label: ColumnElement[Any] | None = None) -> Select[Any]:
    columns: list[ColumnElement[Any]] = [func.coalesce(func.sum(SUMS.c[name]), 0).label(name) for name in FIGURES]
    if label is not None:
        columns.append(label.label("label"))
    inside = and_(SUMS.c.quarter >= span.since_us, SUMS.c.quarter < span.until_us)
    return select(*columns).where(inside, wanted.condition(SUMS, connection.dialect.name))


def _figures(rows: Sequence[RowMapping]) -> Figures:
    return Figures(**{name: sum(int(row[name]) for row in rows) for name in FIGURES})


def attempts(database: Database, span: Span, wanted: Filter) -> Iterator[RowMapping]:
    """The rows of the span, oldest first."""
    after = (span.since_us, -1)
    while True:
        with database.reading() as connection:
            following = (ATTEMPTS.c.at > after[0]) | ((ATTEMPTS.c.at == after[0]) & (ATTEMPTS.c.id > after[1]))
            query = (
                select(ATTEMPTS)
                .where(ATTEMPTS.c.at >= after[0], following, ATTEMPTS.c.at < span.until_us)
                .where(wanted.condition(ATTEMPTS, connection.dialect.name))
                .order_by(ATTEMPTS.c.at, ATTEMPTS.c.id)
                .limit(PAGE)
            )
            rows = connection.execute(query).mappings().all()
        yield from rows
        if len(rows) < PAGE:
            return
        after = (rows[-1]["at"], rows[-1]["id"])


def purses(database: Database, span: Span, kind: str = "") -> list[RowMapping]:
    """The purses of exactly this span whose owners' names begin with `kind`: what is spent and reserved of them."""
    mine = and_(PURSES.c.since_us == span.since_us, PURSES.c.until_us == span.until_us, PURSES.c.owner.startswith(kind))
    with database.reading() as connection:
        return list(connection.execute(select(PURSES).where(mine).order_by(PURSES.c.owner)).mappings())


def reserved(database: Database) -> int:
    """Nano-dollars that are reserved by calls under way, each counted once."""
    with database.reading() as connection:
        each = select(func.max(RESERVATIONS.c.amount_nano).label("amount")).group_by(RESERVATIONS.c.id).subquery()
        return int(connection.scalar(select(func.sum(each.c.amount))) or 0)


def set_budget(database: Database, name: str, options: str) -> None:
    """Keep a budget's options under its name."""
    with database.writing() as connection:
        upsert = upsert_into(connection, BUDGETS).values(name=name, options=options)
        connection.execute(upsert.on_conflict_do_update(index_elements=["name"], set_={"options": options}))


def clear_budget(database: Database, name: str) -> int:
    """Forget it; how many there were."""
    with database.writing() as connection:
        return connection.execute(delete(BUDGETS).where(BUDGETS.c.name == name)).rowcount


def budgets(database: Database) -> list[tuple[str, str]]:
    """The name and the options of each."""
    with database.reading() as connection:
        return [(name, options) for name, options in connection.execute(select(BUDGETS).order_by(BUDGETS.c.name))]
