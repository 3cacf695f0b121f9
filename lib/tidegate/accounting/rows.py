"""Writing rows: entries into the ledger, each once, with the sums and the purses that they count for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from tidegate.accounting.database import Database
from tidegate.accounting.entries import Entry
from tidegate.accounting.purses import owner, owners_of
from tidegate.accounting.schema import ATTEMPTS, PURSES, RESERVATIONS
from tidegate.accounting.sums import add_to_sums

_COPIED = ("call_id", "attempt", "run", "at", "task", "provider", "model", "answered", "input_tokens", "cached_tokens",
           "written_tokens", "output_tokens", "reasoning_tokens", "cost_nano", "price_source", "price_date",
           "duration_us", "first_token_us", "outcome", "estimated")  # fmt: skip
_values = attrgetter(*_COPIED)

_NAMES = (*_COPIED, "tags")


def _once(insert: Any) -> Any:  # noqa: ANN401 (either dialect's insert: they speak alike)
    return insert.on_conflict_do_nothing().returning(ATTEMPTS.c.call_id, ATTEMPTS.c.attempt)


# Made once: to make them takes as long as to execute them.
_INTO_SQLITE = _once(sqlite.insert(ATTEMPTS))
# An array a column: with a parameter for each value, the driver takes three times as long.
_INTO_POSTGRES = _once(
    postgresql.insert(ATTEMPTS).from_select(
        _NAMES,
        select(*(func.unnest(bindparam(name, type_=postgresql.ARRAY(ATTEMPTS.c[name].type))) for name in _NAMES)),
        include_defaults=False,
    )
)
_CHANGE = (
    update(PURSES)
    .where(PURSES.c.scope == bindparam("of"))
    .values(
        spent_nano=PURSES.c.spent_nano + bindparam("spent"),
        reserved_nano=PURSES.c.reserved_nano + bindparam("reserved"),
    )
)


class Rows:
    """The ledger's rows, as the bookkeeper writes them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, entries: Sequence[Entry], released: Iterable[str]) -> dict[str, int]:
        """Keep the entries and end their reservations and the `released` ones, in one transaction.

        An entry that is there already changes nothing, so that one may come again. Answers the nano-dollars that are
        spent of each purse to which something was added, by its scope.
        """
        reservations = [*released, *(entry.reservation for entry in entries if entry.reservation is not None)]
        with self._database.writing() as connection:
            self._database.lock_charging(connection, alone=False)
            fresh = self._insert(connection, entries)
            add_to_sums(connection, (row for _, row in fresh))
            freed = end_reservations(connection, reservations)
            spent = _cost_by_scope(connection, [entry for entry, _ in fresh])
            return settle(connection, spent, freed)

    @staticmethod
    def _insert(connection: Connection, entries: Sequence[Entry]) -> list[tuple[Entry, dict[str, Any]]]:
        """The entries that were not there yet, each with its row."""
        if not entries:
            return []
        # One batch may hold one twice.
        by_key = {(entry.call_id, entry.attempt): (entry, row_of(entry)) for entry in entries}
        rows = [row for _, row in by_key.values()]
        if connection.dialect.name == "sqlite":
            inserted = connection.execute(_INTO_SQLITE, rows)
        else:
            inserted = connection.execute(_INTO_POSTGRES, {name: [row[name] for row in rows] for name in _NAMES})
        return [by_key[call_id, attempt] for call_id, attempt in inserted]


def row_of(entry: Entry) -> dict[str, Any]:
    """The entry as a row of `tidegate_attempts`."""
    return {**dict(zip(_COPIED, _values(entry), strict=True)), "tags": entry.tags_text}


def end_reservations(connection: Connection, ids: Iterable[str]) -> dict[str, int]:
    """Delete reservations; the nano-dollars that come free in each purse, by its scope."""
    wanted = list(ids)
    if not wanted:
        return {}
    gone = delete(RESERVATIONS).where(RESERVATIONS.c.id.in_(wanted))
    freed: dict[str, int] = defaultdict(int)
    for scope, amount in connection.execute(gone.returning(RESERVATIONS.c.scope, RESERVATIONS.c.amount_nano)):
        freed[scope] += amount
    return freed


def _cost_by_scope(connection: Connection, entries: Sequence[Entry]) -> dict[str, int]:
    """What the entries add to each purse that there is for them."""
    paid = [(entry, set(owners_of(entry))) for entry in entries if entry.cost_nano]
    if not paid:
        return {}
    times = [entry.at for entry, _ in paid]
    query = select(PURSES.c.scope, PURSES.c.owner, PURSES.c.since_us, PURSES.c.until_us).where(
        PURSES.c.owner.in_(set.union(*(owners for _, owners in paid))),
        PURSES.c.until_us > min(times),
        PURSES.c.since_us <= max(times),
    )
    costs: dict[str, int] = {}
    for scope, whose, since, until in connection.execute(query):
        cost = sum(entry.cost_nano or 0 for entry, owners in paid if whose in owners and since <= entry.at < until)
        if cost:
            costs[scope] = cost
    return costs


def settle(connection: Connection, spent: dict[str, int], freed: dict[str, int]) -> dict[str, int]:
    """Add what is spent to each purse and take what came free off it; what is spent of the former now, by scope."""
    scopes = sorted(spent.keys() | freed.keys())  # in one order everywhere, see `sums`
    if not scopes:
        return {}
    change_purses(connection, [(scope, spent.get(scope, 0), -freed.get(scope, 0)) for scope in scopes])
    forget_calls(connection, scopes)
    now = select(PURSES.c.scope, PURSES.c.spent_nano).where(PURSES.c.scope.in_(spent))
    return dict(connection.execute(now).all()) if spent else {}


def forget_calls(connection: Connection, scopes: Iterable[str]) -> None:
    """Delete purses of single calls of which nothing is reserved.

    Nobody asks for them again once the call is over; if it is not, its rows tell what was spent.
    """
    calls = [scope for scope in scopes if scope.partition(" ")[2].startswith(owner("call"))]
    if calls:
        connection.execute(delete(PURSES).where(PURSES.c.scope.in_(calls), PURSES.c.reserved_nano <= 0))


def change_purses(connection: Connection, changes: Sequence[tuple[str, int, int]]) -> None:
    """Add to what is spent and reserved: (scope, nano-dollars spent, nano-dollars reserved) each."""
    connection.execute(_CHANGE, [{"of": scope, "spent": spent, "reserved": held} for scope, spent, held in changes])
