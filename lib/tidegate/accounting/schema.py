"""The ledger's tables, the same for SQLite and PostgreSQL.

Moments are microseconds since 1970 in UTC, money is whole nano-dollars, tags are canonical JSON. Whoever changes
something here adds a revision to `migrations`.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, String, Table, UniqueConstraint

metadata = MetaData()

ATTEMPTS = Table(
    "tidegate_attempts",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("call_id", String, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("run", String),
    Column("at", BigInteger, nullable=False),
    Column("task", String),
    Column("tags", String, nullable=False),
    Column("provider", String, nullable=False),
    Column("model", String, nullable=False),
    Column("answered", String),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("written_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("cost_nano", BigInteger),
    Column("price_source", String),
    Column("price_date", String),
    Column("duration_us", BigInteger, nullable=False),
    Column("first_token_us", BigInteger),
    Column("outcome", String, nullable=False),
    Column("estimated", Boolean, nullable=False),
    UniqueConstraint("call_id", "attempt"),
    Index("tidegate_attempts_at", "at", "id"),
)
"""One row an attempt."""


def _figures() -> list[Column[int]]:
    names = ("count", "failed", "estimated", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens",
             "cost_nano", "unpriced", "duration_us")  # fmt: skip
    return [Column(name, BigInteger, nullable=False) for name in names]


TOTALS = Table(
    "tidegate_totals",
    metadata,
    Column("key", String, primary_key=True),
    Column("quarter", BigInteger, nullable=False),
    Column("provider", String, nullable=False),
    Column("model", String, nullable=False),
    *_figures(),
    Index("tidegate_totals_quarter", "quarter"),
)
"""The attempts added up, by the quarter of an hour in which they began (no time zone in use divides one), provider and
model. They are added to in the transaction that adds the attempts. `key` is a digest of these: a text of any length
would not fit PostgreSQL's index."""

LABELLED = Table(
    "tidegate_labelled",
    metadata,
    Column("key", String, primary_key=True),
    Column("quarter", BigInteger, nullable=False),
    Column("label", String, nullable=False),
    Column("value", String, nullable=False),
    *_figures(),
    Index("tidegate_labelled_quarter", "quarter"),
)
"""The same by each label alone: `task`, and `tag:` with a tag's name. An attempt counts once for each that it has: by
all of them together there would be about as many sums as attempts."""

PURSES = Table(
    "tidegate_purses",
    metadata,
    Column("scope", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("since_us", BigInteger, nullable=False),
    Column("until_us", BigInteger, nullable=False),
    Column("spent_nano", BigInteger, nullable=False),
    Column("reserved_nano", BigInteger, nullable=False),
    Index("tidegate_purses_owner", "owner", "until_us"),
)
"""What was spent and is reserved of each budget in each of its periods: see `purses`."""

RESERVATIONS = Table(
    "tidegate_reservations",
    metadata,
    Column("id", String, primary_key=True),
    Column("scope", String, primary_key=True),
    Column("amount_nano", BigInteger, nullable=False),
    Column("holder", String, nullable=False),
    Index("tidegate_reservations_holder", "holder"),
)
"""Worst cases of attempts under way, a row for each purse that one counts against."""

HOLDERS = Table(
    "tidegate_holders",
    metadata,
    Column("id", String, primary_key=True),
    Column("lease_until", BigInteger, nullable=False),
)
"""Processes with reservations, and until when they count as alive."""

ALERTS = Table(
    "tidegate_alerts",
    metadata,
    Column("scope", String, primary_key=True),
    Column("usd_nano", BigInteger, primary_key=True),
    Column("thousandths", Integer, primary_key=True),
)
"""Alerts that were given: each once, whichever process gave it."""

BUDGETS = Table(
    "tidegate_budgets",
    metadata,
    Column("name", String, primary_key=True),
    Column("options", String, nullable=False),
)
"""Budgets for every client that uses the ledger, as JSON of their options."""

VERSION = Table("tidegate_version", metadata, Column("version_num", String, primary_key=True))
"""The revision of these tables."""
