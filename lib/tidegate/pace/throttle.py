"""How many calls may be under way at once: a hard cap, and below it what a silent provider is found to bear."""

from __future__ import annotations

import math


class Throttle:
    """A window of calls in flight. Not safe for threads: its owner holds a lock.

    Nothing is held back until a provider refuses without saying what it would bear. Then the window is half of what was
    under way, and grows by one with each window of successes (additive increase, multiplicative decrease: RFC 5681).
    """

    __slots__ = ("_cap", "_window", "in_use")

    def __init__(self, cap: int | None) -> None:
        """`cap`: never more than so many."""
        self._cap = math.inf if cap is None else float(cap)
        self._window = math.inf
        self.in_use = 0

    @property
    def allowed(self) -> float:
        """Calls that may be under way; `inf` for any number."""
        return min(self._cap, max(1.0, self._window))

    @property
    def full(self) -> bool:
        """Whether no other call may begin."""
        return self.in_use + 1 > self.allowed

    def succeeded(self) -> None:
        """An answer came."""
        if math.isfinite(self._window):
            self._window += 1.0 / self._window

    def refused(self) -> None:
        """Too much, said the provider, and not how much it would bear."""
        self._window = max(1.0, min(self._window, self.in_use) / 2)

    def trust(self) -> None:
        """The provider says what it bears: no need to find out."""
        self._window = math.inf
