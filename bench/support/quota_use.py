"""How much of a quota was used, from a server's log: rows of the moment, the tokens counted, and whether it was let in.

A bucket allows `limit + rate * elapsed`, and a minute's worth of it is there at once, so a short run is mostly its
first burst. Two figures keep that apart. The **share** is what was used of all that was allowed. The **steady** share
looks at the second half of the time alone: what was used of what was refilled in it. What was used out of a level that
stood in the bucket does not count there, and where the burst had not been spent by then, nothing is said.

A sliding minute allows `limit` in any 60 s. Its **share** is how full the last minute was, as a mean over the time from
its first being full, and from 10 s after the start at the latest. Its **steady** share is the length of the minute to
that of the period in which a client uses the same units again: the minute, and the mean time that units which had
become free stayed unused.

Of requests and tokens the one that is used more counts: it is what binds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

Row = tuple[float, int, int]

_MINUTE = 60.0
_FULL = 0.98
"""From here up a sliding minute counts as full."""
_RAMP = 10.0
"""Seconds in which a client has to send a minute's worth: longer than any needs that tries to."""
_SPENT = 0.05
"""Up to here, as a share of its size, a bucket's first burst counts as spent."""
_STEADY_SECONDS = 3.0
"""Over less than so much nothing is said of a steady share."""


@dataclass(frozen=True)
class Use:
    """What a server saw."""

    refused: int
    share: float | None
    steady: float | None
    seconds: float
    """From the first request to the last that was let in, or to the moment at which patience was over."""


def use_of(kind: str, log: Sequence[Row], rpm: int, tpm: int, *, cut_off: float | None) -> Use:
    """The use of a quota; `cut_off` is the length of a run that was ended before it was through."""
    rows = sorted((moment, units) for moment, units, let_in in log if let_in)
    refused = len(log) - len(rows)
    if not rows:
        return Use(refused, None, None, 0.0)
    begin = min(moment for moment, _, _ in log)
    end = begin + cut_off if cut_off is not None else rows[-1][0]
    measure = {"bucket": _of_bucket, "window": _of_window}[kind]
    by_unit = [
        measure([(moment - begin, 1) for moment, _ in rows], rpm, end - begin),
        measure([(moment - begin, units) for moment, units in rows], tpm, end - begin),
    ]
    share, steady = max(by_unit, key=lambda one: one[0])
    return Use(refused, share, steady, end - begin)


def _of_bucket(used: Sequence[tuple[float, int]], limit: float, seconds: float) -> tuple[float, float | None]:
    rate, half = limit / _MINUTE, seconds / 2
    share = sum(units for _, units in used) / (limit + rate * seconds)
    stood, left = _standing(used, limit, half), _standing(used, limit, seconds)
    if half < _STEADY_SECONDS or stood > _SPENT * limit:
        return share, None
    late = sum(units for moment, units in used if half < moment <= seconds)
    return share, (late - max(0.0, stood - left)) / (rate * half)


def _standing(used: Sequence[tuple[float, int]], limit: float, until: float) -> float:
    """What stands in the bucket at this moment."""
    level, at = limit, 0.0
    for moment, units in used:
        if moment > until:
            break
        level, at = min(limit, level + (moment - at) * limit / _MINUTE) - units, moment
    return min(limit, level + (until - at) * limit / _MINUTE)


def _of_window(used: Sequence[tuple[float, int]], limit: float, seconds: float) -> tuple[float, float | None]:
    full_at = next((moment for moment, units in _levels(used) if units >= _FULL * limit or moment > _RAMP), 0.0)
    lags = _lags(used, limit)
    steady = _MINUTE / (_MINUTE + sum(lags) / len(lags)) if lags else None
    return _mean_level(used, full_at, seconds) / limit, steady


def _levels(used: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    """At each change the units of the minute before it."""
    changes = sorted([*used, *((moment + _MINUTE, -units) for moment, units in used)])
    level, levels = 0, []
    for moment, change in changes:
        level += change
        levels.append((moment, level))
    return levels


def _mean_level(used: Sequence[tuple[float, int]], since: float, until: float) -> float:
    area, level, at = 0.0, 0, since
    for moment, after in _levels(used):
        if moment > until:
            break
        if moment > at:
            area, at = area + level * (moment - at), moment
        level = after
    return (area + level * (until - at)) / (until - since) if until > since else 0.0


def _lags(used: Sequence[tuple[float, int]], limit: float) -> list[float]:
    """For each request that could not have come before others had left the minute, how long after that it came."""
    inside: deque[tuple[float, int]] = deque()
    level, lags = 0, []
    for moment, units in used:
        free_at = 0.0
        while inside and level + units > limit:
            first, freed = inside.popleft()
            level, free_at = level - freed, first + _MINUTE
        if free_at:
            lags.append(max(0.0, moment - free_at))
        inside.append((moment, units))
        level += units
    return lags
