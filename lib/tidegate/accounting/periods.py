"""Days, hours and months as the user counts them: in a time zone, or by the machine's own clock."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from typing import Literal, NamedTuple

from tidegate.accounting.entries import microseconds, moment_of
from tidegate.accounting.money import LARGEST
from tidegate.errors import ConfigError, nearest

Period = Literal["hour", "day", "month"]


class Span(NamedTuple):
    """From `since_us` on and before `until_us`, in microseconds since 1970, UTC."""

    since_us: int
    until_us: int


ALWAYS = Span(0, LARGEST)


class Calendar:
    """Turns moments into periods."""

    def __init__(self, tz: str | None = None) -> None:
        """`tz` is a name such as `Europe/Zurich`; None: the machine's own zone. Raises `ConfigError`."""
        self._zone = None if tz is None else _zone(tz)

    def local(self, us: int) -> dt.datetime:
        """The moment as the user's clock shows it."""
        return moment_of(us).astimezone(self._zone)

    def span(self, period: Period, at_us: int) -> Span:
        """The period in which a moment lies."""
        now = self.local(at_us)
        if period == "hour":
            # Not by the clock's face: at the end of summer time it shows the same hour twice.
            past = dt.timedelta(minutes=now.minute, seconds=now.second, microseconds=now.microsecond)
            begin = microseconds(now) - past // dt.timedelta(microseconds=1)
            return Span(begin, begin + 3_600_000_000)
        first = now.date() if period == "day" else now.date().replace(day=1)
        following = first + dt.timedelta(days=1 if period == "day" else 32)
        return Span(self.midnight(first), self.midnight(following if period == "day" else following.replace(day=1)))

    def midnight(self, day: dt.date) -> int:
        """When a day begins, in microseconds since 1970."""
        naive = dt.datetime.combine(day, dt.time())
        return microseconds(naive.astimezone() if self._zone is None else naive.replace(tzinfo=self._zone))

    def day(self, us: int) -> dt.date:
        """The day in which a moment lies."""
        return self.local(us).date()

    def last_days(self, days: int, now_us: int) -> Span:
        """So many days, of which today is the last."""
        try:
            first = self.day(now_us) - dt.timedelta(days=days - 1)
        except OverflowError:
            return ALWAYS
        return Span(max(0, self.midnight(first)) if first.year > 1970 else 0, LARGEST)


def _zone(name: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        known = zoneinfo.available_timezones()
    raise ConfigError(f"there is no time zone {name!r}{nearest(str(name), known)}")
