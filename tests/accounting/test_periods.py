"""Periods: every moment lies in one, and days are those of the user's clock."""

from __future__ import annotations

import datetime as dt
import time
import zoneinfo
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.accounting.entries import microseconds
from tidegate.accounting.periods import ALWAYS, Calendar, Span
from tidegate.accounting.sums import QUARTER
from tidegate.errors import ConfigError

HOUR = 3_600_000_000
MOMENTS = st.integers(11 * 366 * 24 * HOUR, 130 * 365 * 24 * HOUR)
"""From 1981 on: by then the last zone had given up odd minutes (Kiritimati was 10:40 hours behind until 1979)."""

ZONES = sorted(zoneinfo.available_timezones() - {"localtime"})


def us(text: str) -> int:
    return microseconds(dt.datetime.fromisoformat(text))


def hours(span: Span) -> float:
    return (span.until_us - span.since_us) / HOUR


@given(st.sampled_from(ZONES), MOMENTS)
def test_every_moment_lies_in_its_periods_which_are_whole_quarters_of_an_hour(zone: str, moment: int) -> None:
    calendar = Calendar(zone)
    for period in ("hour", "day", "month"):
        span = calendar.span(period, moment)
        assert span.since_us <= moment < span.until_us
        assert span.since_us % QUARTER == span.until_us % QUARTER == 0


@given(st.sampled_from(ZONES), MOMENTS)
def test_days_follow_one_another_without_a_gap_and_each_has_one_date(zone: str, moment: int) -> None:
    calendar = Calendar(zone)
    span = calendar.span("day", moment)
    assert calendar.day(span.since_us) == calendar.day(moment) == calendar.day(span.until_us - 1)
    assert calendar.day(span.since_us - 1) < calendar.day(moment) < calendar.day(span.until_us)
    assert calendar.span("day", span.until_us).since_us == span.until_us
    assert calendar.span("day", span.since_us - 1).until_us == span.since_us


@given(st.sampled_from(ZONES), MOMENTS)
def test_months_follow_one_another_without_a_gap_and_are_whole_days(zone: str, moment: int) -> None:
    calendar = Calendar(zone)
    span = calendar.span("month", moment)
    first, last = calendar.local(span.since_us), calendar.local(span.until_us - 1)
    assert (first.day, last.month, last.year) == (1, first.month, first.year)
    assert calendar.span("month", span.until_us).since_us == span.until_us
    assert calendar.span("day", span.since_us).since_us == span.since_us


@pytest.mark.parametrize(
    ("zone", "day", "long"),
    [
        ("Europe/Zurich", "2026-03-29", 23),
        ("Europe/Zurich", "2026-10-25", 25),
        ("Europe/Zurich", "2026-07-01", 24),
        ("America/New_York", "2026-03-08", 23),
        ("Australia/Lord_Howe", "2026-10-04", 23.5),
        ("Africa/Cairo", "2026-04-24", 23),  # at midnight, which there is not
        ("America/Havana", "2026-11-01", 25),  # back to midnight, which comes twice
        ("Asia/Kathmandu", "2026-03-29", 24),
    ],
)
def test_a_day_on_which_the_clocks_change_is_as_long_as_it_is(zone: str, day: str, long: float) -> None:
    calendar = Calendar(zone)
    noon = microseconds(dt.datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=zoneinfo.ZoneInfo(zone)))
    assert hours(calendar.span("day", noon)) == long


def test_at_the_end_of_summer_time_the_clock_shows_one_hour_twice_and_they_are_two() -> None:
    calendar = Calendar("Europe/Zurich")
    first, second = us("2026-10-25T00:30:00+00:00"), us("2026-10-25T01:30:00+00:00")
    assert calendar.local(first).hour == calendar.local(second).hour == 2
    assert calendar.span("hour", first).until_us == calendar.span("hour", second).since_us
    assert hours(calendar.span("hour", first)) == hours(calendar.span("hour", second)) == 1


def test_an_hour_is_that_of_the_users_clock() -> None:
    span = Calendar("Asia/Kathmandu").span("hour", us("2026-03-15T12:20:00+00:00"))
    assert span.since_us == us("2026-03-15T12:15:00+00:00")


def test_a_month_that_ends_a_year() -> None:
    span = Calendar("Asia/Tokyo").span("month", us("2026-12-31T15:00:00+00:00"))
    assert span == (us("2026-12-31T15:00:00+00:00"), us("2027-01-31T15:00:00+00:00"))


@given(st.sampled_from(ZONES), MOMENTS, st.integers(1, 1_000))
def test_of_the_last_days_today_is_one(zone: str, moment: int, days: int) -> None:
    calendar = Calendar(zone)
    span = calendar.last_days(days, moment)
    first = calendar.day(span.since_us)
    if span.since_us:
        # Where a zone crossed the date line, one date was left out.
        assert (calendar.day(moment) - first).days in (days - 1, days - 2)
        assert calendar.day(span.since_us - 1) < first
    assert span.since_us <= moment < span.until_us


@pytest.mark.parametrize("days", [10**6, 10**9, 2**70])
def test_more_days_than_there_were_are_all_of_them(days: int) -> None:
    assert Calendar("UTC").last_days(days, us("2026-03-15T12:00:00+00:00")) == ALWAYS


@pytest.fixture
def _tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_tokyo")
def test_without_a_name_it_is_the_machines_zone() -> None:
    calendar = Calendar()
    assert calendar.span("day", us("2026-03-15T12:00:00+00:00")).since_us == us("2026-03-14T15:00:00+00:00")
    assert calendar.local(0).utcoffset() == dt.timedelta(hours=9)


@pytest.mark.parametrize("tz", ["Europe/Zuerich", "", "/etc/passwd", "../UTC", "x" * 5_000, "a\0b", 5, b"UTC"])
def test_a_zone_that_there_is_not_is_refused(tz: object) -> None:
    with pytest.raises(ConfigError, match="there is no time zone"):
        Calendar(tz)  # type: ignore[arg-type]
