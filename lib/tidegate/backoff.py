"""How long to wait before asking again: exponential backoff with full jitter, or what the other side asked for."""

from __future__ import annotations

import random
from dataclasses import dataclass

RETRY_AFTER_SPREAD = 0.1
"""Up to a tenth is added to the wait that a provider asked for, so that not all callers come back at once."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that grow. The one before attempt n+1 is drawn evenly from 0 to `min(longest, first * factor ** (n - 1))`.

    Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    first: float
    """Upper bound of the first wait, in seconds."""
    factor: float
    """By how much the bound grows with each attempt."""
    longest: float
    """The bound grows no further, in seconds."""

    def wait(self, attempt: int, retry_after: float | None, chance: random.Random) -> float:
        """Seconds to wait after the `attempt`-th attempt, counted from 1. A Retry-After (seconds) replaces the draw."""
        if retry_after is not None:
            return retry_after * (1 + RETRY_AFTER_SPREAD * chance.random())
        return self._bound(attempt) * chance.random()

    def _bound(self, attempt: int) -> float:
        try:
            return min(self.longest, self.first * self.factor ** (attempt - 1))
        except OverflowError:  # a power has left the range of floats
            return self.longest
