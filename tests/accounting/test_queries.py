"""What is added up in SQL is what one gets who adds the rows up by hand, whatever they are and whatever is asked."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.postgres import PostgresServer
from support.victims import check_sums
from tidegate import Ledger
from tidegate.accounting.entries import Entry
from tidegate.accounting.money import dollars_of
from tidegate.accounting.reports import NO_LABEL, LedgerRow, Summary
from tidegate.testing import ManualClock

NOW = 1_774_800_000
"""Sunday, 29 March 2026, 16:00 UTC: the clocks of Europe went forward in the night before."""

ZONES = ["UTC", "Europe/Zurich", "Pacific/Auckland", "Asia/Kathmandu", "America/St_Johns", "Pacific/Apia"]
GROUPS = ["model", "provider", "task", "day", "tag:k", "tag:'", "tag:none"]

labels = st.sampled_from(["a", "b", "ä", "", "'", "NULL", NO_LABEL])
tokens = st.integers(0, 10**6)
entries: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    at=st.integers((NOW - 5 * 86_400) * 10**6, (NOW + 3_600) * 10**6)
    | st.sampled_from([(NOW - 16 * 3_600 + shift) * 10**6 for shift in (-3_600, -1, 0, 3_600, 14_400)]),
    provider=st.sampled_from(["p", "q"]),
    model=labels.filter(bool),
    task=labels | st.none(),
    tags=st.dictionaries(st.sampled_from(["k", "'", "other"]), labels, max_size=2),
    input_tokens=tokens,
    cached_tokens=tokens,
    output_tokens=tokens,
    reasoning_tokens=tokens,
    cost_nano=st.none() | st.integers(0, 10**12),
    duration_us=tokens,
    outcome=st.sampled_from(["ok", "Cancelled"]),
    estimated=st.booleans(),
)

numbers = itertools.count()


def by_hand(rows: Iterable[LedgerRow]) -> dict[str, Any]:
    kept = list(rows)
    priced = [row.cost for row in kept if row.cost is not None]
    return {
        "count": len(kept),
        "failed": sum(row.outcome != "ok" for row in kept),
        "estimated": sum(row.estimated for row in kept),
        "unpriced": len(kept) - len(priced),
        "input_tokens": sum(row.input_tokens for row in kept),
        "cached_tokens": sum(row.cached_tokens for row in kept),
        "output_tokens": sum(row.output_tokens for row in kept),
        "reasoning_tokens": sum(row.reasoning_tokens for row in kept),
        "total_cost": None if kept and not priced else sum(priced, dollars_of(0)),
    }


def told(figures: Any) -> dict[str, Any]:  # noqa: ANN401 (figures of any kind)
    return {name: getattr(figures, name) for name in by_hand([])}


def label_of(row: LedgerRow, by: str) -> str:
    if by == "day":
        return row.at.date().isoformat()
    found = row.tags.get(by.removeprefix("tag:")) if by.startswith("tag:") else getattr(row, by)
    return NO_LABEL if found is None else str(found)


def check_summary(summary: Summary, rows: list[LedgerRow], by: str) -> None:
    groups: dict[str, list[LedgerRow]] = defaultdict(list)
    for row in rows:
        groups[label_of(row, by)].append(row)
    assert told(summary) == by_hand(rows)
    assert {label: told(part) for label, part in summary.groups.items()} == {
        label: by_hand(part) for label, part in groups.items()
    }


def check_ledger(url: str, given_rows: list[dict[str, Any]], zone: str, days: int) -> None:
    run = next(numbers)
    made = [Entry(call_id=f"{run}-{number}", **each) for number, each in enumerate(given_rows)]
    clock = ManualClock(time=NOW)
    with Ledger(url, tz=zone, clock=clock) as ledger:
        for entry in made:
            ledger.post(entry)
        everything = list(ledger.records())
        assert sorted(row.call_id for row in everything) == sorted(entry.call_id for entry in made)
        assert [row.at for row in everything] == sorted(row.at for row in everything)
        today = dt.datetime.fromtimestamp(NOW, dt.UTC).astimezone(everything[0].at.tzinfo if everything else dt.UTC)
        first = today.date() - dt.timedelta(days=days - 1)
        rows = [row for row in everything if row.at.date() >= first]
        if everything:
            assert list(ledger.records(days=days)) == rows
        assert told(ledger.summary(days=days)) == by_hand(rows)
        for by in GROUPS:
            check_summary(ledger.summary(days=days, by=by), rows, by)
        for name in ("a", "'", "never"):
            assert ledger.cost(task=name, days=days) == by_hand(row for row in rows if row.task == name)["total_cost"]
            assert ledger.cost(model=name, days=days) == by_hand(row for row in rows if row.model == name)["total_cost"]
            wanted = by_hand(row for row in everything if row.tags.get("k") == name)
            assert ledger.cost(tags={"k": name}) == wanted["total_cost"]
    check_sums(url)


rows_of_a_ledger = st.lists(entries, max_size=25)


@given(rows_of_a_ledger, st.sampled_from(ZONES), st.integers(1, 7))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_L5_a_summary_is_the_sum_of_its_rows(
    tmp_path: Path, given_rows: list[dict[str, Any]], zone: str, days: int
) -> None:
    file = tmp_path / f"{next(numbers)}.db"
    check_ledger(f"sqlite:///{file}", given_rows, zone, days)


@given(rows_of_a_ledger, st.sampled_from(ZONES), st.integers(1, 7))
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_L5_in_postgresql_as_well(
    postgres: PostgresServer, given_rows: list[dict[str, Any]], zone: str, days: int
) -> None:
    url = postgres.new_database()
    check_ledger(url, given_rows, zone, days)


def test_a_summary_of_many_rows_reads_sums_and_not_rows(tmp_path: Path) -> None:
    """A thousand rows of one quarter of an hour are one sum."""
    url = f"sqlite:///{tmp_path / 'usage.db'}"
    with contextlib.closing(Ledger(url, tz="UTC", clock=ManualClock(time=NOW))) as ledger:
        rows = ledger.store._opened()[1]
        rows.write([Entry(call_id=str(n), at=NOW * 10**6 + n, provider="p", model="m") for n in range(1_000)], ())
        with ledger.store.database().reading() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM tidegate_totals").scalar() == 1
        assert ledger.summary().count == 1_000


@pytest.mark.parametrize("by", GROUPS)
def test_each_group_of_a_summary_is_in_it_and_the_groups_are_the_whole(tmp_path: Path, by: str) -> None:
    url = f"sqlite:///{tmp_path / 'usage.db'}"
    with Ledger(url, tz="UTC", clock=ManualClock(time=NOW)) as ledger:
        for number in range(20):
            ledger.record("p/m", number, 1, "0.1", task=["a", None][number % 2], tags={"k": str(number % 3)})
        summary = ledger.summary(by=by)
        assert sum(part.count for part in summary.groups.values()) == summary.count == 20
        assert sum(part.cost_nano for part in summary.groups.values()) == summary.cost_nano == 2 * 10**9
