"""The ledger: what every call used and cost, kept in SQLite or PostgreSQL."""

from __future__ import annotations

import contextlib
import datetime as dt
import secrets
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from tidegate.accounting.entries import MOST, Entry, microseconds
from tidegate.accounting.exporting import Format, write_rows
from tidegate.accounting.money import dollars_of, nano_of
from tidegate.accounting.periods import ALWAYS, Calendar, Span
from tidegate.accounting.prices import Price, PriceBook
from tidegate.accounting.purses import Purse
from tidegate.accounting.reports import Figures, LedgerRow, Summary, added_up
from tidegate.accounting.store import Store, default_url
from tidegate.chat.usage import Usage
from tidegate.clock import SYSTEM_CLOCK, Clock
from tidegate.errors import ConfigError, LedgerUnusable, nearest
from tidegate.jsontext import decode, encode

Durability = Literal["call", "disk"]

_END = microseconds(dt.datetime(5138, 1, 1, tzinfo=dt.UTC))
"""Later moments are no dates in some time zone, in microseconds since 1970."""

GROUPS = ("day", "model", "provider", "task")
"""What a summary can be grouped by, besides `tag:<name>`."""


class Ledger:
    """A ledger, opened. Shared by threads; safe after `os.fork()`; several processes may have the same one open.

    ::

        with tidegate.Ledger("sqlite:///usage.db") as ledger:
            print(ledger.summary(days=30, by="model"))

    Everything that a client has spent is in `client.ledger`. Reading sees what was recorded before, in this process at
    once, and in another one within a tenth of a second.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        tz: str | None = None,
        prices: Mapping[str, Price] | PriceBook | None = None,
        durability: Durability = "call",
        lazily: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Open the ledger at `url`, or make it: the user's own by default.

        `tz` is the time zone that days are counted in, such as `Europe/Zurich`; None: the machine's. `prices` are for
        `record`. With `durability="call"` what was recorded survives the process, with `"disk"` a loss of power too,
        and each call waits for an fsync. `lazily`: the database is opened when it is first needed.

        Raises `LedgerUnusable` for an address or a file that cannot be used, `ConfigError` for anything else.
        """
        if durability not in ("call", "disk"):
            raise ConfigError(f'`durability` is "call" or "disk", not {durability!r}')
        self.calendar = Calendar(tz)
        self._prices = prices if isinstance(prices, PriceBook) else PriceBook(prices)
        self._clock = clock
        self.store = Store(default_url() if url is None else url, sync=durability == "disk", clock=clock)
        if not lazily:
            self.store.database()
        # At the interpreter's exit, or when nobody holds the ledger any more.
        self._finalizer = weakref.finalize(self, self.store.leave)

    @property
    def url(self) -> str:
        """Where it is, without a password."""
        return self.store.shown

    # Writing

    def record(  # noqa: PLR0917 (in the order in which one says it)
        self,
        model: str,
        input_tokens: int,
        output_tokens: int,
        cost: Decimal | str | None = None,
        task: str | None = None,
        tags: Mapping[str, str] | None = None,
        *,
        cached_tokens: int = 0,
        at: dt.datetime | None = None,
    ) -> None:
        """Add a call that was made elsewhere. `model` is "provider/model".

        `cost` is in US dollars, and comes from the price tables when it is None. `cached_tokens` are part of
        `input_tokens`. `at` is when it was made, now by default. Raises `ConfigError` for a count below zero, a cost
        that is negative or no number, or a moment without a time zone. What is wrong with the disk raises nothing, see
        `LedgerWarning`.
        """
        provider, slash, name = str(model).partition("/")
        if not slash or not provider or not name:
            raise ConfigError(f"`model` is written `provider/model`, not {model!r}")
        usage = Usage(
            _count("input_tokens", input_tokens),
            _count("output_tokens", output_tokens),
            _count("cached_tokens", cached_tokens),
        )
        if cached_tokens > input_tokens:
            raise ConfigError(f"`cached_tokens` are part of `input_tokens`, and more ({cached_tokens}) than these are")
        quote = self._prices.quote(provider, (name,), answers=output_tokens > 0) if cost is None else None
        self.post(
            Entry(
                call_id=f"elsewhere-{secrets.token_hex(8)}",
                at=self._now() if at is None else _moment(at),
                provider=provider,
                model=name,
                task=task,
                tags=_labels(tags),
                input_tokens=usage.input_tokens,
                cached_tokens=usage.cached_input_tokens,
                output_tokens=usage.output_tokens,
                cost_nano=_stated(cost) if cost is not None else None if quote is None else quote.cost_nano(usage),
                price_source="stated" if cost is not None else None if quote is None else quote.source,
                price_date=None if quote is None else quote.date,
            )
        )

    def post(self, entry: Entry) -> None:
        """Keep an entry. Returns once it survives the process; never raises for what is wrong with the disk."""
        self.store.bookkeeper.post(entry)

    def flush(self) -> None:
        """Have everything in the database that was recorded before. Raises `LedgerUnusable` when it cannot be."""
        self.store.bookkeeper.flush()

    def flush_quietly(self) -> None:
        """The same where nobody can do anything about a failure: it was told, and is tried again."""
        with contextlib.suppress(LedgerUnusable):
            self.flush()

    @property
    def queued(self) -> int:
        """Entries that are not in the database yet."""
        return self.store.bookkeeper.queued

    # Reading

    def summary(self, days: int = 30, by: str | None = None) -> Summary:
        """The last `days` days added up, today included: all of them, and in groups.

        `by` is `model`, `task`, `day`, `provider`, or `tag:<name>`. Raises `ConfigError`, or `LedgerUnusable`.
        """
        _check_days(days)
        _check_group(by)
        span = self._span(days)
        database, queries = self.store.asked()
        groups = {} if by is None else queries.grouped(database, span, by, self._day_of)
        # Not asked for a second time: meanwhile another process may have added to it.
        whole = queries.total(database, span, queries.Filter()) if by is None else added_up(groups.values())
        return _summary(whole, groups, days=days, since=self.calendar.local(span.since_us), by=by)

    def nothing(self, days: int = 30, by: str | None = None) -> Summary:
        """What `summary` answers when there are no calls: nothing is opened, or made. Raises `ConfigError`."""
        _check_days(days)
        _check_group(by)
        return _summary(Figures(), {}, days=days, since=self.calendar.local(self._span(days).since_us), by=by)

    def today(self) -> Summary:
        """What was used since midnight, by model. Like all days, this one ends: what is dated later is not in it."""
        return self.summary(days=1, by="model")

    def cost(
        self,
        *,
        task: str | None = None,
        model: str | None = None,
        tags: Mapping[str, str] | None = None,
        days: int | None = None,
    ) -> Decimal | None:
        """US dollars spent, of all whose price is known: on a task, a model (its name alone), with tags, in days.

        None when there are calls, and the price of none is known.
        """
        span = self._span(days)
        database, queries = self.store.asked()
        found: Figures = queries.total(database, span, queries.Filter(*_wanted(task, model, tags)))
        return found.total_cost

    def records(
        self,
        *,
        days: int | None = None,
        task: str | None = None,
        model: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Iterator[LedgerRow]:
        """One row after the other, oldest first; they are read as they are taken."""
        span = self._span(days)
        database, queries = self.store.asked()
        rows = queries.attempts(database, span, queries.Filter(*_wanted(task, model, tags)))
        return (self._row(row) for row in rows)

    def export(self, form: Format, file: str | Path, *, days: int | None = None) -> int:
        """Write the rows to `file` as `csv`, `jsonl` or `parquet`; answers how many.

        A file that is there is replaced, once the new one is whole. Parquet needs `pip install 'tidegate[parquet]'`.
        """
        return write_rows(form, Path(file), self.records(days=days))

    def _span(self, days: int | None) -> Span:
        if days is None:
            return ALWAYS
        _check_days(days)
        now = self._now()
        # What is dated after today, by a clock that is wrong, is of none of these days.
        return self.calendar.last_days(days, now)._replace(until_us=self.calendar.span("day", now).until_us)

    @property
    def now(self) -> dt.datetime:
        """This moment, in the ledger's time zone."""
        return self.calendar.local(self._now())

    def _now(self) -> int:
        return int(self._clock.time() * 1_000_000)

    def _day_of(self, us: int) -> str:
        return self.calendar.day(us).isoformat()

    def _row(self, row: Mapping[str, Any]) -> LedgerRow:
        values = {each.name: row[each.name] for each in fields(LedgerRow) if each.name in row}
        first = row["first_token_us"]
        values |= {
            "at": self.calendar.local(row["at"]),
            "tags": decode(row["tags"]) if row["tags"] else {},
            "cost": None if row["cost_nano"] is None else dollars_of(row["cost_nano"]),
            "duration": row["duration_us"] / 1_000_000,
            "first_token": None if first is None else first / 1_000_000,
        }
        return LedgerRow(**values)

    # Budgets

    def standing(self, purse: Purse) -> tuple[Decimal, Decimal]:
        """US dollars that are spent, and that are reserved by calls under way, of a budget's purse."""
        database, queries = self.store.asked()
        spent, reserved = queries.standing(database, purse)
        return dollars_of(spent), dollars_of(reserved)

    def spent_by(self, label: str, span: Span) -> dict[str, Figures]:
        """What was used in a span for each task (`task`), or each value of a tag (`tag:<name>`), the dearest first."""
        database, queries = self.store.asked()
        groups: dict[str, Figures] = queries.grouped(database, span, label, self._day_of)
        return dict(sorted(groups.items(), key=lambda item: (-item[1].cost_nano, item[0])))

    def set_budget(self, name: str, options: Mapping[str, Any]) -> None:
        """Have every client that uses this ledger keep to a budget; one of that name is replaced."""
        if not isinstance(name, str) or not name or not isinstance(options, Mapping):
            raise ConfigError(f"a budget is set by a name and its options, not by {name!r} and {options!r}")
        database, queries = self.store.asked()
        queries.set_budget(database, name, encode(dict(options)).decode())
        self.store.look_around()  # so that it holds from here also while the ledger cannot be read

    def clear_budget(self, name: str) -> bool:
        """Take a budget back; whether there was one of that name."""
        database, queries = self.store.asked()
        return bool(queries.clear_budget(database, name))

    def budgets(self) -> dict[str, dict[str, Any]]:
        """The options of each budget that was set with `set_budget`, by its name."""
        return {name: decode(options) for name, options in self.store.stored_budgets()}

    # The end

    def close(self) -> None:
        """Write what is queued, and close the database. What cannot be written is told in a `LedgerWarning`."""
        if self._finalizer.detach() is not None:
            self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Ledger({self.url})"


def _count(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(f"`{name}` is a whole number, zero or more, not {value!r}")
    return value


def _stated(cost: Decimal | str) -> int:
    """Nano-dollars."""
    dollars = _decimal(cost)
    if dollars.is_finite() and dollars > dollars_of(MOST):
        raise ConfigError(f"`cost` is at most {dollars_of(MOST):,.0f} US dollars for one call, not {cost!r}")
    return nano_of(dollars)


def _moment(at: dt.datetime) -> int:
    since = microseconds(at)
    if not 0 <= since < _END:
        raise ConfigError(f"`at` is a moment from 1970 to 5137, not {at.isoformat()}")
    return since


def _labels(tags: Mapping[str, str] | None) -> Mapping[str, str]:
    if tags is not None and not isinstance(tags, Mapping):
        raise ConfigError(f"`tags` is a dict of names and texts, not `{type(tags).__name__}`")
    for name, value in (tags or {}).items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise ConfigError(f"`tags` is a dict of names and texts; {name!r}: {value!r} is no pair of them")
    return tags or {}


def _decimal(cost: Decimal | str) -> Decimal:
    if isinstance(cost, bool) or not isinstance(cost, Decimal | str | int):
        raise ConfigError(f"`cost` is a Decimal or a text such as `0.0125`, not `{type(cost).__name__}`")
    try:
        return Decimal(cost)
    except InvalidOperation:
        pass
    raise ConfigError(f"`cost` is a number of US dollars, not {cost!r}")


def _check_days(days: object) -> None:
    if isinstance(days, bool) or not isinstance(days, int) or days < 1:
        raise ConfigError(f"`days` is a whole number of at least 1, not {days!r}")


def _check_group(by: object) -> None:
    if by is None or by in GROUPS or (isinstance(by, str) and by.startswith("tag:") and len(by) > len("tag:")):
        return
    raise ConfigError(f"`by` is one of {', '.join(GROUPS)} or `tag:<name>`, not {by!r}{nearest(str(by), GROUPS)}")


def _wanted(
    task: str | None, model: str | None, tags: Mapping[str, str] | None
) -> tuple[str | None, str | None, tuple[tuple[str, str], ...]]:
    for name, value in (("task", task), ("model", model)):
        if value is not None and not isinstance(value, str):
            raise ConfigError(f"`{name}` is a text, not {value!r}")
    if tags is not None and not isinstance(tags, Mapping):
        raise ConfigError(f"`tags` are names and values, not {tags!r}")
    return task, model, tuple((str(name), str(value)) for name, value in (tags or {}).items())


def _summary(whole: Figures, groups: dict[str, Figures], **facts: Any) -> Summary:
    chronological = facts["by"] == "day"
    order = sorted(
        groups.items(),
        key=lambda item: item[0] if chronological else (-item[1].cost_nano, -item[1].total_tokens, item[0]),
    )
    return Summary(**asdict(whole), groups=dict(order), **facts)
