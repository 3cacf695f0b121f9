"""What real usage teaches about an estimate: a straight line from what was counted to what was billed.

`billed = slope * counted + intercept`. The intercept is what a provider adds to every request (its template, a system
prompt of its own), the slope how much finer or coarser its tokenizer is. Both start from what is usual, and leave it as
far as the figures insist.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

CLASSES, EACH = 8, 8
"""Pairs that are kept: the last 8 in each of 8 classes of size, each class four times the one before. So many short
questions do not make it forget what long ones taught."""

EAGER, EVERY = 8, 8
"""The line is drawn anew for each of the first 8 pairs, then for every eighth."""

STEEPEST, FURTHEST = 4.0, 4_000.0
"""The slope is at most 4 times what is usual, and at least a quarter of it; the intercept at most 4,000 tokens."""

_SLOPE_DOUBT, _INTERCEPT_DOUBT = 0.25, 40.0
"""Standard deviations: how far off what is usual may well be. A share of the slope, and tokens."""

_ROUNDS = 6
_FLOOR = 16
"""Tokens that are added to an estimate before shares of it are taken: a short question is off by a few tokens."""


class Line(NamedTuple):
    """How what was counted becomes what is expected."""

    slope: float
    intercept: float
    excess: float
    """The highest that is expected lies this share above what is likely."""

    def likely(self, counted: int) -> int:
        """Tokens; at least one."""
        return max(1, round(self.slope * counted + self.intercept))

    def highest(self, counted: int) -> int:
        """Tokens that real figures have not exceeded."""
        likely = self.likely(counted)
        return likely + round(self.excess * (likely + _FLOOR))

    def counted(self, likely: int) -> int:
        """The way back, for what was said a moment ago."""
        return max(1, round((likely - self.intercept) / self.slope))


class Lesson:
    """The pairs of one model. Not shared by threads: who calls `learn` holds a lock."""

    def __init__(self, prior: Line, *, least_excess: float) -> None:
        """`prior` is what is usual; the excess never falls below the least."""
        self.line = prior
        self._prior = prior
        self._least = least_excess
        self._seen = 0
        self._pairs: list[list[tuple[int, int]]] = [[] for _ in range(CLASSES)]

    def learn(self, counted: int, actual: int) -> None:
        """Take a pair in; what cannot be one (nothing counted, nothing billed) is left out."""
        if counted < 1 or actual < 1:
            return
        kept = self._pairs[min(CLASSES - 1, counted.bit_length() // 2)]
        kept.append((counted, actual))
        del kept[:-EACH]
        self._seen += 1
        if self._seen <= EAGER or self._seen % EVERY == 0 or actual > self.line.highest(counted):
            pairs = [pair for each in self._pairs for pair in each]
            slope, intercept = fitted(pairs, self._prior)
            self.line = Line(slope, intercept, self._excess(pairs, Line(slope, intercept, 0)))

    def _excess(self, pairs: Sequence[tuple[int, int]], line: Line) -> float:
        """The most that a pair lay above the line, and at first what is usual, which fades with each pair."""
        over = sorted((actual - (likely := line.likely(counted))) / (likely + _FLOOR) for counted, actual in pairs)
        seen = over[-1 - len(over) // 48]  # of many the very highest may be a mistake
        usual = self._prior.excess * (1 - min(1.0, self._seen / (2 * EAGER)))
        return min(3.0, max(self._least, 1.3 * seen, usual))


def fitted(pairs: Sequence[tuple[int, int]], prior: Line) -> tuple[float, float]:
    """Slope and intercept: Bayesian least squares, in which a pair far off the line counts as one a little off (Huber).

    A count is taken to be off by 8 % and two tokens.
    """
    slope, intercept = prior.slope, prior.intercept
    for _ in range(_ROUNDS):
        trust_slope = (_SLOPE_DOUBT * prior.slope) ** -2
        trust_intercept = _INTERCEPT_DOUBT**-2
        xx, x, one = trust_slope, 0.0, trust_intercept
        xy, y = trust_slope * prior.slope, trust_intercept * prior.intercept
        for counted, actual in pairs:
            doubt = 0.08 * counted + 2
            off = abs(actual - slope * counted - intercept) / doubt
            weight = 1 / (doubt * doubt * max(1.0, off / 2))
            xx += weight * counted * counted
            x += weight * counted
            one += weight
            xy += weight * counted * actual
            y += weight * actual
        determinant = xx * one - x * x  # above zero: what is usual has a weight of its own
        slope = _between(prior.slope / STEEPEST, (xy * one - x * y) / determinant, prior.slope * STEEPEST)
        intercept = _between(-FURTHEST, (y - slope * x) / one, FURTHEST)
    return slope, intercept


def _between(least: float, value: float, most: float) -> float:
    return min(max(value, least), most)
