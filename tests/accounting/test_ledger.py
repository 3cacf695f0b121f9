"""The ledger as programs see it: what is recorded, what is refused, and what is answered."""

from __future__ import annotations

import datetime as dt
import gc
import itertools
import os
import subprocess
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event

from support.victims import check_sums
from tidegate import Ledger, Price
from tidegate.accounting import bookkeeper, queries
from tidegate.accounting.entries import Entry
from tidegate.accounting.reports import NO_LABEL, LedgerRow
from tidegate.errors import ConfigError, LedgerUnusable
from tidegate.testing import ManualClock

PATIENCE = 30.0
"""Seconds that a test waits for what must come."""

NOON = dt.datetime(2026, 3, 15, 12, tzinfo=dt.UTC)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(time=NOON.timestamp())


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'usage.db'}"


@pytest.fixture
def ledger(url: str, clock: ManualClock) -> Iterator[Ledger]:
    with Ledger(url, tz="UTC", clock=clock) as opened:
        yield opened


def ago(**given: float) -> dt.datetime:
    return NOON - dt.timedelta(**given)


# Recording


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"cost": "2000000"}, "`cost` is at most 1,000,000 US dollars for one call, not '2000000'"),
        ({"cost": "1e99"}, "`cost` is at most 1,000,000 US dollars for one call, not '1e99'"),
        ({"at": dt.datetime(1969, 1, 1, tzinfo=dt.UTC)}, "`at` is a moment from 1970 to 5137, not 1969-01-01"),
        ({"at": dt.datetime(5138, 1, 1, tzinfo=dt.UTC)}, "`at` is a moment from 1970 to 5137, not 5138-01-01"),
        ({"tags": {"a": 1}}, "`tags` is a dict of names and texts; 'a': 1 is no pair of them"),
        ({"tags": {1: "a"}}, "`tags` is a dict of names and texts; 1: 'a' is no pair of them"),
        ({"tags": ["a"]}, "`tags` is a dict of names and texts, not `list`"),
    ],
)
def test_what_cannot_be_recorded_is_told_in_the_words_of_who_records(
    ledger: Ledger, given: dict[str, Any], said: str
) -> None:
    """Not in those of the ledger's own columns."""
    with pytest.raises(ConfigError) as caught:
        ledger.record("p/m", 1, 1, **given)
    assert str(caught.value).startswith(said)
    assert ledger.summary().count == 0


def test_what_is_recorded_is_read_back(either_url: str, clock: ManualClock) -> None:
    with Ledger(either_url, tz="Europe/Zurich", clock=clock) as ledger:
        ledger.record("openai/gpt-4o-mini", 1_000, 200, "0.0125", "chat", {"tenant": "ä", "a": "b"}, cached_tokens=400)
        (row,) = ledger.records()
    assert row.at == NOON
    assert row.at.isoformat() == "2026-03-15T13:00:00+01:00"
    assert (row.provider, row.model, row.task, row.tags) == ("openai", "gpt-4o-mini", "chat", {"a": "b", "tenant": "ä"})
    assert (row.input_tokens, row.cached_tokens, row.output_tokens, row.total_tokens) == (1_000, 400, 200, 1_200)
    assert (row.cost, row.price_source, row.price_date) == (Decimal("0.0125"), "stated", None)
    assert (row.outcome, row.attempt, row.estimated, row.duration, row.first_token) == ("ok", 1, False, 0.0, None)
    assert row.call_id.startswith("elsewhere-")


def test_every_field_of_an_entry_is_read_back(either_url: str) -> None:
    entry = Entry(
        call_id="call", attempt=3, run="run", at=1_700_000_000_123_456, provider="p", model="m/n", answered="m-1",
        task="t", tags={"k": "v"}, input_tokens=9, cached_tokens=8, written_tokens=7, output_tokens=6,
        reasoning_tokens=5, cost_nano=4, price_source="table", price_date="2026-01-01", duration_us=1_500_000,
        first_token_us=250_000, outcome="Cancelled", estimated=True,
    )  # fmt: skip
    with Ledger(either_url, tz="UTC") as ledger:
        ledger.post(entry)
        (row,) = ledger.records()
    for name in ("call_id", "attempt", "provider", "model", "answered", "task", "tags", "input_tokens", "cached_tokens",
                 "written_tokens", "output_tokens", "reasoning_tokens", "price_source", "price_date", "outcome",
                 "estimated"):  # fmt: skip
        assert getattr(row, name) == getattr(entry, name), name
    assert (row.cost, row.duration, row.first_token) == (Decimal("0.000000004"), 1.5, 0.25)
    assert row.at == dt.datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=dt.UTC)


def test_a_cost_that_is_not_stated_is_that_of_the_prices(url: str) -> None:
    with Ledger(url, prices={"openai/mine": Price(input="1", output="10", cached="0.5")}) as ledger:
        ledger.record("openai/mine", 100, 10, cached_tokens=50)
        ledger.record("openai/gpt-4o-mini", 1_000_000, 0)
        ledger.record("openai/nobody-knows", 1, 1)
        mine, public, unknown = ledger.records()
    assert mine.cost == Decimal("0.000175")
    assert public.cost == Decimal("0.15")
    assert (unknown.cost, unknown.price_source) == (None, None)


def test_L5_a_cost_of_nothing_is_not_an_unknown_one(ledger: Ledger) -> None:
    ledger.record("openai/nobody-knows", 1, 1)
    assert ledger.cost() is None
    ledger.record("openai/nobody-knows", 1, 1, cost="0")
    assert ledger.cost() == 0
    assert ledger.summary().unpriced == 1


@pytest.mark.parametrize("model", ["m", "", "/m", "p/", None, 5])
def test_a_model_without_its_provider_is_refused(ledger: Ledger, model: Any) -> None:  # noqa: ANN401 (that is it)
    with pytest.raises(ConfigError, match="`model` is written `provider/model`"):
        ledger.record(model, 1, 1)


@pytest.mark.parametrize("name", ["input_tokens", "output_tokens", "cached_tokens"])
@pytest.mark.parametrize("wrong", [-1, 1.0, float("nan"), True, None, "1", 10**16], ids=repr)
def test_L5_a_count_that_is_none_is_refused_by_its_name(ledger: Ledger, name: str, wrong: object) -> None:
    counts: dict[str, Any] = {"input_tokens": 10**15, "output_tokens": 10, name: wrong}
    with pytest.raises(ConfigError, match=name):
        ledger.record("p/m", **counts)
    assert ledger.queued == ledger.summary().count == 0


def test_more_cached_tokens_than_tokens_are_refused(ledger: Ledger) -> None:
    with pytest.raises(ConfigError, match="are part of `input_tokens`"):
        ledger.record("p/m", 1, 1, cached_tokens=2)


@pytest.mark.parametrize("cost", ["-0.01", "NaN", "sNaN", "Infinity", "many", "", "1e30", 0.1, True, b"1", [1]])
def test_L5_a_cost_that_is_none_is_refused(ledger: Ledger, cost: Any) -> None:  # noqa: ANN401 (that is it)
    with pytest.raises(ConfigError, match="cost"):
        ledger.record("p/m", 1, 1, cost)
    assert ledger.summary().count == 0


@pytest.mark.parametrize(
    "at", [dt.datetime(2026, 1, 1), dt.date(2026, 1, 1), 5, "now", dt.datetime(1969, 1, 1, tzinfo=dt.UTC)]  # noqa: DTZ001
)  # fmt: skip
def test_a_moment_that_is_none_is_refused(ledger: Ledger, at: Any) -> None:  # noqa: ANN401 (that is it)
    with pytest.raises(ConfigError):
        ledger.record("p/m", 1, 1, "1", at=at)
    assert ledger.summary(days=10**6).count == 0


@pytest.mark.parametrize("labels", [{"task": 5}, {"tags": ["x"]}, {"tags": 5}, {"tags": "x"}])
def test_labels_that_are_none_are_refused_in_recording_and_in_asking(ledger: Ledger, labels: Any) -> None:  # noqa: ANN401
    with pytest.raises(ConfigError, match=r"`ta(sk|gs)` (is|are)"):
        ledger.record("p/m", 1, 1, "1", **labels)
    with pytest.raises(ConfigError, match=r"`ta(sk|gs)` (is|are)"):
        ledger.cost(**labels)
    with pytest.raises(ConfigError, match=r"`ta(sk|gs)` (is|are)"):
        ledger.records(**labels)


@pytest.mark.parametrize("days", [0, -1, 1.5, True, "30", float("nan")])
def test_days_that_are_none_are_refused(ledger: Ledger, days: Any) -> None:  # noqa: ANN401 (that is it)
    for ask in (ledger.summary, ledger.cost, ledger.records):
        with pytest.raises(ConfigError, match="`days` is a whole number of at least 1"):
            ask(days=days)


@pytest.mark.parametrize("by", ["modell", "tag", "tag:", "", 5, ["day"]])
def test_a_group_that_is_none_is_refused(ledger: Ledger, by: Any) -> None:  # noqa: ANN401 (that is it)
    with pytest.raises(ConfigError, match="`by` is one of day, model, provider, task or `tag:<name>`"):
        ledger.summary(by=by)


def test_a_group_that_is_misspelt_is_corrected(ledger: Ledger) -> None:
    with pytest.raises(ConfigError, match="did you mean `provider`"):
        ledger.summary(by="provder")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"url": "usage.db"}, "a ledger's address looks like"),
        ({"url": "mysql+pymysql://user:secret@host/x"}, "a ledger is an address like"),
        ({"tz": "Europe/Zuerich"}, "did you mean `Europe/Zurich`"),
        ({"durability": "never"}, "`durability` is"),
        ({"prices": {"m": Price(input="1", output="1")}}, "provider/model"),
    ],
)
def test_options_that_are_none_are_refused_and_nothing_is_made(
    tmp_path: Path, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        Ledger(**{"url": f"sqlite:///{tmp_path / 'new' / 'usage.db'}", **options})
    assert list(tmp_path.iterdir()) == []


# Summaries


@pytest.fixture
def busy(ledger: Ledger) -> Ledger:
    ledger.record("openai/a", 100, 10, "0.30", "chat", {"tenant": "x"}, at=ago(hours=1))
    ledger.record("openai/b", 200, 20, "0.10", "chat", {"tenant": "y"}, at=ago(days=1))
    ledger.record("groq/a", 300, 30, None, None, {"tenant": "x", "team": "red"}, at=ago(days=2))
    ledger.record("groq/a", 400, 40, "0.20", at=ago(days=40))
    return ledger


def counts_of(ledger: Ledger, **asked: Any) -> dict[str, int]:
    return {label: part.count for label, part in ledger.summary(**asked).groups.items()}


def test_a_summary_adds_the_days_up(busy: Ledger) -> None:
    summary = busy.summary(days=30)
    assert (summary.count, summary.input_tokens, summary.output_tokens, summary.total_tokens) == (3, 600, 60, 660)
    assert (summary.total_cost, summary.mean_cost, summary.unpriced) == (Decimal("0.4"), Decimal("0.2"), 1)
    assert summary.daily_mean == Decimal("0.4") / 30
    assert (summary.days, summary.by, summary.groups) == (30, None, {})
    assert summary.since == dt.datetime(2026, 2, 14, tzinfo=dt.UTC)
    assert busy.summary(days=100).count == 4


def test_groups_are_the_dearest_first_and_days_in_their_order(busy: Ledger) -> None:
    assert list(busy.summary(by="model").groups) == ["a", "b"]
    assert list(busy.summary(by="provider").groups) == ["openai", "groq"]
    assert list(busy.summary(by="task").groups) == ["chat", NO_LABEL]
    assert list(busy.summary(by="tag:tenant").groups) == ["x", "y"]
    assert list(busy.summary(by="day").groups) == ["2026-03-13", "2026-03-14", "2026-03-15"]


def test_what_has_no_label_is_a_group_of_its_own(busy: Ledger) -> None:
    assert counts_of(busy, by="task") == {"chat": 2, NO_LABEL: 1}
    assert counts_of(busy, by="tag:team") == {NO_LABEL: 2, "red": 1}
    assert counts_of(busy, by="tag:nobody-has-it") == {NO_LABEL: 3}
    busy.record("p/m", 1, 1, "0", task=NO_LABEL)
    assert counts_of(busy, by="task") == {"chat": 2, NO_LABEL: 2}


def test_a_price_that_nobody_knows_is_no_zero_in_a_summarys_text(ledger: Ledger) -> None:
    """Neither in the sum nor in the mean."""
    ledger.record("openai/zzz", 5, 5)
    assert str(ledger.summary()).endswith("1 requests, 10 tokens, price unknown, mean unknown")


def test_what_is_dated_after_today_is_of_no_day(ledger: Ledger, clock: ManualClock) -> None:
    """Another machine's clock may be wrong; when the day has come, it counts."""
    ledger.record("p/m", 1, 1, "1", at=NOON + dt.timedelta(hours=11))
    ledger.record("p/m", 1, 1, "2", at=NOON + dt.timedelta(hours=13))
    assert ledger.today().count == ledger.summary(by="day").count == 1
    assert ledger.cost(days=3) == 1
    assert ledger.cost() == 3
    clock.advance(86_400)
    assert ledger.today().total_cost == 2


def test_a_summary_of_nothing_opens_nothing(tmp_path: Path, url: str) -> None:
    """Its options are looked at all the same."""
    with Ledger(url, lazily=True) as ledger:
        assert ledger.nothing(7, "day").days == 7
        with pytest.raises(ConfigError, match="by"):
            ledger.nothing(by="week")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_ledger_has_a_summary(either_url: str) -> None:
    with Ledger(either_url) as ledger:
        for by in (None, "model", "task", "day", "provider", "tag:x"):
            summary = ledger.summary(by=by)
            assert summary.count == summary.total_cost == summary.daily_mean == 0
            assert summary.mean_cost is None
            assert summary.mean_duration is None
            assert summary.groups == {}
        assert ledger.cost() == 0
        assert list(ledger.records()) == []


def test_a_group_whose_price_nobody_knows_has_no_cost(busy: Ledger) -> None:
    groups = busy.summary(by="provider").groups
    assert groups["groq"].total_cost is None
    assert groups["groq"].mean_cost is None
    assert "groq: 1 requests, 330 tokens, price unknown" in str(busy.summary(by="provider"))
    assert "since 2026-02-14: 3 requests, 660 tokens, $0.400000, 1 without a known price" in str(busy.summary())


@pytest.mark.parametrize(
    "name",
    ["a.b", 'a"b', "$", "", "a[0]", "ä", "a'b", "key", "\\", "%", ":a", "a\0b", "x" * 600, "'; DROP TABLE x; --"],
)
def test_X8_a_tag_of_any_name_and_value_can_be_asked_for(either_url: str, name: str) -> None:
    with Ledger(either_url) as ledger:
        ledger.record("p/m", 1, 1, "1", tags={name: name, "other": "x"})
        ledger.record("p/m", 1, 1, "2", tags={"other": name})
        ledger.record("p/m", 1, 1, "4", tags={f".{name}": name})
        assert ledger.cost(tags={name: name}) == 1
        assert len(list(ledger.records(tags={name: name, "other": "x"}))) == 1
        assert ledger.cost(tags={name: "no"}) == 0
        if name:
            assert ledger.summary(by=f"tag:{name}").groups[NO_LABEL].total_cost == 6


def test_a_cost_is_of_what_is_asked_for(busy: Ledger) -> None:
    assert busy.cost(task="chat") == Decimal("0.4")
    assert busy.cost(task="chat", days=1) == Decimal("0.3")
    assert busy.cost(model="a") == Decimal("0.5")
    assert busy.cost(tags={"tenant": "x"}) == Decimal("0.3")
    assert busy.cost(tags={"team": "red"}) is None
    assert busy.cost(task="never") == 0


def test_rows_are_those_that_are_asked_for_and_the_oldest_come_first(busy: Ledger) -> None:
    def tokens(**asked: Any) -> list[int]:
        return [row.input_tokens for row in busy.records(**asked)]

    assert tokens() == [400, 300, 200, 100]
    assert tokens(days=3) == [300, 200, 100]
    assert tokens(task="chat") == [200, 100]
    assert tokens(model="a", tags={"tenant": "x"}) == [300, 100]


# Days and zones


def test_a_row_of_two_minutes_before_midnight_is_of_the_users_day(url: str) -> None:
    """In Auckland it is tomorrow already."""
    with Ledger(url, tz="Pacific/Auckland") as ledger:
        ledger.record("p/m", 1, 1, "1", at=dt.datetime(2026, 3, 15, 10, 58, tzinfo=dt.UTC))
        ledger.record("p/m", 1, 1, "2", at=dt.datetime(2026, 3, 15, 11, 0, tzinfo=dt.UTC))
    clock = ManualClock(time=NOON.timestamp())
    for tz, days, today in (
        ("Pacific/Auckland", {"2026-03-15": 1, "2026-03-16": 2}, 2),
        ("UTC", {"2026-03-15": 3}, 3),
        ("America/New_York", {"2026-03-15": 3}, 3),
        ("Asia/Kathmandu", {"2026-03-15": 3}, 3),
    ):
        with Ledger(url, tz=tz, clock=clock) as ledger:
            found = {day: part.total_cost for day, part in ledger.summary(by="day").groups.items()}
            assert found == days, tz
            assert ledger.today().total_cost == today, tz
            assert ledger.cost(days=1) == today, tz
            assert sum(row.cost or 0 for row in ledger.records(days=1)) == today, tz


@pytest.mark.parametrize(
    ("day", "hours"), [(dt.date(2026, 3, 29), 23), (dt.date(2026, 10, 25), 25), (dt.date(2026, 7, 1), 24)]
)
def test_the_days_on_which_the_clocks_change_are_shorter_and_longer(url: str, day: dt.date, hours: int) -> None:
    begin = dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC) - dt.timedelta(hours=3)
    clock = ManualClock(time=begin.timestamp() + 15 * 3600)
    with Ledger(url, tz="Europe/Zurich", clock=clock) as ledger:
        for quarter in range(4 * 32):
            ledger.record("p/m", 1, 1, "1", at=begin + quarter * dt.timedelta(minutes=15, microseconds=-1))
        today = ledger.today()
        clock.advance(18 * 3600)
        groups = ledger.summary(days=5, by="day").groups
        assert groups[day.isoformat()].count == pytest.approx(4 * hours, abs=1)
        by_hand = Counter(row.at.date() for row in ledger.records())
        assert {label: part.count for label, part in groups.items()} == {
            each.isoformat(): count for each, count in by_hand.items()
        }
        assert today.count == by_hand[day]


def test_today_is_grouped_by_model_and_begins_at_midnight(busy: Ledger) -> None:
    today = busy.today()
    assert (today.count, today.by, list(today.groups)) == (1, "model", ["a"])
    assert today.since == dt.datetime(2026, 3, 15, tzinfo=dt.UTC)


def test_without_a_zone_the_machines_counts(url: str, monkeypatch: pytest.MonkeyPatch, clock: ManualClock) -> None:
    try:
        with monkeypatch.context() as patch, Ledger(url, clock=clock) as ledger:
            patch.setenv("TZ", "Asia/Tokyo")
            time.tzset()
            ledger.record("p/m", 1, 1, "1", at=dt.datetime(2026, 3, 14, 15, tzinfo=dt.UTC))
            ledger.record("p/m", 1, 1, "2", at=dt.datetime(2026, 3, 14, 14, 59, tzinfo=dt.UTC))
            assert ledger.today().total_cost == 1
            assert list(ledger.summary(by="day").groups) == ["2026-03-14", "2026-03-15"]
    finally:
        time.tzset()


def test_more_days_than_there_are_dates_are_all_days(busy: Ledger) -> None:
    assert busy.summary(days=10**9).count == 4
    assert len(list(busy.records(days=10**9))) == 4


# Rows, one after the other


def test_rows_are_read_as_they_are_taken(ledger: Ledger) -> None:
    """20,000 of them: the first comes after one page, and no more pages are read than are needed."""
    many = 20_000
    ledger.store._opened()[1].write([_entry(number) for number in range(many)], ())
    asked: list[str] = []

    def before(_connection: Connection, _cursor: object, statement: str, *_rest: object) -> None:
        if "FROM tidegate_attempts" in statement:
            asked.append(statement)

    event.listen(ledger.store.database()._engine, "before_cursor_execute", before)
    rows = ledger.records()
    assert asked == []
    assert next(rows).call_id == "call-0"
    assert len(asked) == 1
    assert "LIMIT" in asked[0]
    assert len(list(itertools.islice(rows, queries.PAGE))) == queries.PAGE
    assert len(asked) == 2
    for row in rows:
        if row.attempt % 5_000 == 0:
            assert sum(isinstance(each, LedgerRow) for each in gc.get_objects()) < 10, "nobody keeps them"
    assert row.call_id == f"call-{many - 1}"
    assert len(asked) == many // queries.PAGE + 1


def _entry(number: int, **given: Any) -> Entry:
    """Ten of the same moment each, so that pages end within them."""
    values = {"call_id": f"call-{number}", "attempt": number + 1, "at": 1_700_000_000_000_000 + number // 10, **given}
    return Entry(provider="p", model="m", cost_nano=1, **values)


def test_while_rows_are_read_others_can_be_written_and_no_row_comes_twice(
    either_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "PAGE", 7)
    with Ledger(either_url) as ledger:
        ledger.store._opened()[1].write([_entry(number) for number in range(50)], ())
        seen = []
        for row in ledger.records():
            seen.append(row.call_id)
            if len(seen) == 20:
                ledger.post(_entry(1_000, at=1))
                ledger.post(_entry(1_001, at=1_800_000_000_000_000))
                ledger.flush()
        assert seen == [*(f"call-{number}" for number in range(50)), "call-1001"]


def test_an_iterator_that_is_dropped_holds_nothing_up(url: str) -> None:
    with Ledger(url) as ledger, Ledger(url) as other:
        ledger.record("p/m", 1, 1, "1")
        rows = ledger.records()
        next(rows)
        other.record("p/m", 1, 1, "1")
        other.flush()
        del rows
        assert ledger.summary().count == 2


# Budgets that are kept in it


def test_budgets_are_set_replaced_and_cleared(either_url: str) -> None:
    with Ledger(either_url) as ledger:
        assert ledger.budgets() == {}
        ledger.set_budget("team", {"usd": "5", "per": "day"})
        ledger.set_budget("ä", {"usd": "1", "per": "month"})
        ledger.set_budget("team", {"usd": "6", "per": "day"})
        with Ledger(either_url) as other:
            assert other.budgets() == {"team": {"usd": "6", "per": "day"}, "ä": {"usd": "1", "per": "month"}}
            assert other.clear_budget("team")
            assert not other.clear_budget("team")
        assert list(ledger.budgets()) == ["ä"]


@pytest.mark.parametrize(("name", "options"), [("", {}), (5, {}), (None, {}), ("team", 5), ("team", None)])
def test_a_budget_without_a_name_or_options_is_refused(ledger: Ledger, name: Any, options: Any) -> None:  # noqa: ANN401
    with pytest.raises(ConfigError, match="a budget is set by a name and its options"):
        ledger.set_budget(name, options)
    assert ledger.budgets() == {}


# Opening, writing, closing


def test_the_users_own_ledger_is_in_the_data_folder() -> None:
    with Ledger() as ledger:
        ledger.record("p/m", 1, 1, "1")
    file = Path(os.environ["XDG_DATA_HOME"]) / "tidegate" / "usage.db"
    assert ledger.url == f"sqlite:///{file}"
    with Ledger(f"sqlite:///{file}") as again:
        assert again.cost() == 1


def test_it_is_named_without_its_password() -> None:
    ledger = Ledger("postgresql+psycopg://user:secret@127.0.0.1/x?password=secret2", lazily=True)
    assert ledger.url == "postgresql+psycopg://user:***@127.0.0.1/x"
    assert repr(ledger) == f"Ledger({ledger.url})"
    ledger.close()


def test_a_ledger_stays_where_it_is_when_the_program_changes_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "one")
    with Ledger("sqlite:///usage.db") as first:
        first.set_budget("team", {"usd": "5"})
    with Ledger("sqlite:///usage.db", lazily=True) as ledger:
        monkeypatch.chdir(tmp_path / "two")
        assert list(ledger.budgets()) == ["team"], "else limits would be lifted"
        ledger.record("p/m", 1, 1, "1")
        assert ledger.summary().count == 1
    assert list((tmp_path / "two").iterdir()) == []
    with Ledger(f"sqlite:///{tmp_path / 'one' / 'usage.db'}") as again:
        assert again.cost() == 1


def test_lazily_nothing_is_made_before_it_is_needed(tmp_path: Path, url: str) -> None:
    with Ledger(url, lazily=True) as ledger:
        assert ledger.budgets() == {}
        assert list(tmp_path.iterdir()) == []
        ledger.record("p/m", 1, 1, "1")
        assert ledger.cost() == 1


def test_flushing_has_everything_in_the_database(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bookkeeper, "LINGER", 1e6)
    with Ledger(url) as ledger, Ledger(url) as other:
        for _ in range(3):
            ledger.record("p/m", 1, 1, "1")
        assert (ledger.queued, other.summary().count) == (3, 0)
        ledger.flush()
        assert (ledger.queued, other.summary().count) == (0, 3)


def test_reading_sees_what_was_recorded_before(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bookkeeper, "LINGER", 1e6)
    with Ledger(url) as ledger:
        asks: list[Callable[[], Any]] = [
            lambda: ledger.summary().count,
            ledger.cost,
            lambda: len(list(ledger.records())),
            lambda: ledger.today().count,
        ]
        for number, ask in enumerate(asks, 1):
            ledger.record("p/m", 1, 1, "1")
            assert ask() == number


def test_it_can_be_closed_twice_and_leaves_no_journal(tmp_path: Path, url: str) -> None:
    ledger = Ledger(url)
    ledger.record("p/m", 1, 1, "1")
    ledger.close()
    ledger.close()
    assert list((tmp_path / "usage.db.pending").iterdir()) == []
    assert not (tmp_path / "usage.db-wal").exists()


def test_what_is_recorded_after_closing_is_not_lost(url: str) -> None:
    ledger = Ledger(url)
    ledger.close()
    ledger.record("p/m", 1, 1, "1")
    assert ledger.cost() == 1, "it can still be asked"
    ledger.record("p/m", 1, 1, "2")
    ledger.store.database().close()
    ledger.store.bookkeeper._journal.close()
    with Ledger(url) as again:
        assert again.cost() == 3


def test_a_ledger_that_nobody_holds_any_more_is_written(url: str) -> None:
    ledger = Ledger(url)
    ledger.record("p/m", 1, 1, "1")
    del ledger
    gc.collect()
    with Ledger(url) as again:
        assert again.cost() == 1


def test_an_entry_that_comes_twice_is_there_once(either_url: str) -> None:
    with Ledger(either_url) as ledger, Ledger(either_url) as other:
        for each in (ledger, other, ledger):
            each.post(_entry(1, attempt=1))
            each.flush()
        ledger.post(_entry(1, attempt=2))
        assert ledger.summary(days=10**6).count == len(list(ledger.records())) == 2
    check_sums(either_url)


# Processes

WRITER = """
import sys, warnings
from tidegate import Ledger
warnings.simplefilter("error")
with Ledger(sys.argv[1], tz="UTC") as ledger:
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(400):
        ledger.record("p/m", number, 1, "0.001", task=sys.argv[2])
        if number % 8 == 0:
            ledger.flush()
"""


def test_processes_that_write_one_file_get_in_each_others_way_unseen(url: str) -> None:
    """No error, no warning, no row too few or too many, and the sums are right."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, url, f"writer {number}"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    try:
        assert [process.stdout.readline() for process in processes if process.stdout] == ["ready\n"] * 2
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        with Ledger(url, tz="UTC") as ledger, warnings.catch_warnings():
            warnings.simplefilter("error")
            seen = 0
            while any(process.poll() is None for process in processes):
                count = ledger.summary().count
                assert count >= seen
                seen = count + 1
                ledger.record("p/m", 1, 1, task="reader")
        said = [process.communicate(timeout=PATIENCE) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
    assert said == [("", "")] * 2
    with Ledger(url, tz="UTC") as ledger:
        groups = ledger.summary(by="task").groups
        assert [groups[f"writer {number}"].count for number in range(2)] == [400, 400]
        assert groups["writer 0"].total_cost == Decimal("0.4")
    check_sums(url)


def test_T10_parent_and_child_both_record_in_a_ledger_that_was_open_at_the_fork(either_url: str) -> None:
    with Ledger(either_url, tz="UTC") as ledger:
        ledger.record("p/m", 1, 1, "1", task="before")
        child = os.fork()
        if not child:
            try:
                for _ in range(20):
                    ledger.record("p/m", 1, 1, "1", task="child")
                seen = ledger.cost(task="child")
                ledger.close()
                os._exit(0 if seen == 20 else 2)
            except BaseException:  # noqa: BLE001 (a child must not go on with the parent's tests)
                traceback.print_exc()
            finally:
                os._exit(1)
        for _ in range(20):
            ledger.record("p/m", 1, 1, "1", task="parent")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        ledger.record("p/m", 1, 1, "1", task="after")
        assert {label: part.count for label, part in ledger.summary(by="task").groups.items()} == {
            "before": 1,
            "child": 20,
            "parent": 20,
            "after": 1,
        }
    check_sums(either_url)


def test_T10_what_a_child_recorded_that_simply_ended_is_there_when_the_ledger_is_next_opened(url: str) -> None:
    with Ledger(url) as ledger:
        child = os.fork()
        if not child:
            try:
                ledger.record("p/m", 1, 1, "1")
            finally:
                os._exit(0)
        os.waitpid(child, 0)
    with Ledger(url) as again:
        assert again.cost() == 1


def test_a_lazy_ledger_that_cannot_be_opened_refuses_to_answer(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no ledger")
    ledger = Ledger(f"sqlite:///{tmp_path / 'notes.txt'}", lazily=True)
    for ask in (ledger.summary, ledger.cost, ledger.records, ledger.budgets):
        with pytest.raises(LedgerUnusable, match=r"notes\.txt"):
            ask()
    assert (tmp_path / "notes.txt").read_text() == "no ledger"
    ledger.close()
