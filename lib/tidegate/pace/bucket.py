"""A bucket, as numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

RESERVE = 0.01
"""Share of a limit that is never used: the server counts in its own way, and its clock is not ours."""

_ROUNDING = 1e-9
"""What a level may be above its bucket's size, as a share of it: rounding must not cost the last unit."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """`limit` units an `interval` of seconds, at most `size` of them at once."""

    limit: float
    interval: float
    size: float
    rate: float = field(init=False, repr=False, compare=False)
    """Units a second."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", self.limit / self.interval)

    @property
    def whole(self) -> float:
        """Its size, without the margin that may be kept of a whole interval's worth."""
        return max(self.size, self.limit) if self.size >= (1 - RESERVE) * self.limit else self.size

    def level(self, before: float, passed: float) -> float:
        """The level `passed` seconds after it was `before`."""
        level = before - passed * self.rate if passed > 0 else before
        return level if level > 0 else 0.0

    def wait(self, level: float, units: float) -> float:
        """Seconds until `units` more fit above `level`; `inf` when they never do."""
        if units <= 0:
            return 0.0
        if units > self.size:
            return math.inf
        over = level + units - self.size
        return over / self.rate if over > self.size * _ROUNDING else 0.0
