"""How a ledger's questions are asked of its database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, Table, and_, delete, func, select, true

from tidegate.accounting.database import Database
from tidegate.accounting.entries import storable
from tidegate.accounting.periods import Span
from tidegate.accounting.purses import Purse
from tidegate.accounting.reports import NO_LABEL, Figures, added_up, without
from tidegate.accounting.schema import ATTEMPTS, BUDGETS, HOLDERS, LABELLED, PURSES, RESERVATIONS, TOTALS
from tidegate.accounting.seeding import spent_before
from tidegate.accounting.sums import FIGURES, TASK, counted, tag_label, tag_value, upsert_into

PAGE = 1_000
"""Rows that are read at a time: no transaction stays open while a program works on them."""


class Filter(NamedTuple):
    """Which attempts are meant. None: all of them."""

    task: str | None = None
    model: str | None = None
    tags: tuple[tuple[str, str], ...] = ()

    def label(self) -> tuple[str, str] | None:
        """The one label that is meant, if it is one."""
        labels = [] if self.task is None else [(TASK, self.task)]
        labels += [(tag_label(name), value) for name, value in self.tags]
        return labels[0] if len(labels) == 1 and self.model is None else None

    def condition(self, dialect: str) -> ColumnElement[bool]:
        """As a condition on the columns of `ATTEMPTS`."""
        parts: list[ColumnElement[bool]] = [true()]
        if self.task is not None:
            parts.append(ATTEMPTS.c.task == storable(self.task))
        if self.model is not None:
            parts.append(ATTEMPTS.c.model == storable(self.model))
        parts += [tag_value(ATTEMPTS.c.tags, storable(name), dialect) == storable(value) for name, value in self.tags]
        return and_(*parts)


def total(database: Database, span: Span, wanted: Filter) -> Figures:
    """All attempts of the span, added up."""
    with database.reading() as connection:
        found = connection.execute(_total(span, wanted, connection.dialect.name)).mappings().one()
    return _figures([found])


def _total(span: Span, wanted: Filter, dialect: str) -> Select[Any]:
    label = wanted.label()
    if label is not None:
        mine = and_(LABELLED.c.label == label[0], LABELLED.c.value == storable(label[1]))
        return select(*_added(LABELLED)).where(_inside(LABELLED, span), mine)
    if wanted.task is None and not wanted.tags:
        mine = true() if wanted.model is None else TOTALS.c.model == storable(wanted.model)
        return select(*_added(TOTALS)).where(_inside(TOTALS, span), mine)
    columns: list[ColumnElement[Any]] = [
        func.coalesce(func.sum(value), 0).label(name) for name, value in counted(ATTEMPTS).items()
    ]
    inside = and_(ATTEMPTS.c.at >= span.since_us, ATTEMPTS.c.at < span.until_us)
    return select(*columns).where(inside, wanted.condition(dialect))


def grouped(database: Database, span: Span, by: str, label_of_quarter: Callable[[int], str]) -> dict[str, Figures]:
    """All attempts of the span in groups: `by` is `day`, `provider`, `model`, `task`, or `tag:` and a name."""
    if by == TASK or by.startswith("tag:"):
        return _labelled(database, span, TASK if by == TASK else tag_label(by.removeprefix("tag:")))
    column: ColumnElement[Any] = TOTALS.c["quarter" if by == "day" else by]
    with database.reading() as connection:
        rows = connection.execute(_groups(TOTALS, span, column)).mappings().all()
    groups: dict[str, list[RowMapping]] = defaultdict(list)
    for row in rows:
        groups[label_of_quarter(row["of"]) if by == "day" else str(row["of"])].append(row)
    return {name: _figures(parts) for name, parts in groups.items()}


def _labelled(database: Database, span: Span, label: str) -> dict[str, Figures]:
    """In groups by one label; what does not have it is what is left of the whole."""
    query = _groups(LABELLED, span, LABELLED.c.value).where(LABELLED.c.label == label)
    with database.reading() as connection:
        groups = {str(row["of"]): _figures([row]) for row in connection.execute(query).mappings()}
        whole = connection.execute(_total(span, Filter(), "")).mappings().one()
    rest = without(_figures([whole]), added_up(groups.values()))
    if rest.count:
        groups[NO_LABEL] = added_up([rest, *(groups[name] for name in groups if name == NO_LABEL)])
    return groups


def _groups(table: Table, span: Span, column: ColumnElement[Any]) -> Select[Any]:
    return select(*_added(table), column.label("of")).where(_inside(table, span)).group_by(column)


def _added(table: Table) -> list[ColumnElement[Any]]:
    return [func.coalesce(func.sum(table.c[name]), 0).label(name) for name in FIGURES]


def _inside(table: Table, span: Span) -> ColumnElement[bool]:
    return and_(table.c.quarter >= span.since_us, table.c.quarter < span.until_us)


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
                .where(wanted.condition(connection.dialect.name))
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


def standing(database: Database, purse: Purse) -> tuple[int, int]:
    """What is spent and what is reserved of a purse, in nano-dollars, also of one that nobody has drawn on yet.

    What a process had reserved whose lease is over is left out: whoever needs it will have it.
    """
    with database.reading() as connection:
        query = select(PURSES.c.spent_nano, PURSES.c.reserved_nano).where(PURSES.c.scope == purse.scope)
        found = connection.execute(query).one_or_none()
        if found is None:
            return spent_before(connection, purse), 0
        nobodys = select(func.sum(RESERVATIONS.c.amount_nano)).where(RESERVATIONS.c.scope == purse.scope)
        dead = int(connection.scalar(nobodys.where(_of_the_dead(database, connection))) or 0) if found[1] else 0
        return found[0], max(0, found[1] - dead)


def reserved(database: Database) -> int:
    """Nano-dollars that are reserved by calls under way, each counted once."""
    with database.reading() as connection:
        each = select(func.max(RESERVATIONS.c.amount_nano).label("amount")).group_by(RESERVATIONS.c.id)
        living = each.where(~_of_the_dead(database, connection)).subquery()
        return int(connection.scalar(select(func.sum(living.c.amount))) or 0)


def _of_the_dead(database: Database, connection: Connection) -> ColumnElement[bool]:
    """Whether a reservation's process shows no sign of life any more."""
    return RESERVATIONS.c.holder.in_(select(HOLDERS.c.id).where(HOLDERS.c.lease_until < database.now(connection)))


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
