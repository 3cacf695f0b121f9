"""What a gate asks of a quota, wherever it is kept."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tidegate.pace.bucket import Bucket
from tidegate.pace.headers import Reading, Unit

Receipt = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Counted:
    """What a response says of the units that its request had taken; each sequence follows the buckets."""

    taken: Sequence[float]
    """As the server is believed to count."""
    units: Sequence[float]
    """As estimated."""
    receipt: Receipt
    """What the quota answered when they were taken."""
    readings: Mapping[Unit, Reading]
    charged: bool
    """Whether the server counts them; it does not count what it refuses."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Of all who share a quota, for each bucket."""

    charged: Sequence[float]
    """What the server has charged, in units as they were estimated."""
    under_way: Sequence[float]
    """What was sent and not answered, in units as the server is believed to count."""


class Pacing(abc.ABC):
    """A configured quota. One thread at a time is let in to `admit` and `idle`; the others any thread may call."""

    buckets: tuple[Bucket, ...]
    yielding: tuple[bool, ...] = ()
    """Which buckets need not be waited for, because responses tell of a tighter one, and what is left of it."""
    shared: str | None = None
    """Who shares it outside this process, for people; None: nobody."""
    booked = False
    """Whether a turn is held for whoever is first in line."""
    receipt: Receipt = ()
    """What `counted` is to be told about the units that were admitted last."""

    @abc.abstractmethod
    def admit(self, now: float, units: Sequence[float], *, book: bool = False) -> float:
        """Take `units` of each bucket, all or none: 0, or the seconds to wait; `inf` for not before a change.

        `book`: the caller comes back after the wait, so its turn may be held for it.
        """

    @abc.abstractmethod
    def change(self, now: float, units: Sequence[float]) -> None:
        """Add to what is in use; negative `units` give back."""

    def give_back(self, now: float, units: Sequence[float]) -> None:
        """What was taken was not used, and nothing was sent."""
        self.change(now, [-each for each in units])

    @abc.abstractmethod
    def levels(self, now: float) -> tuple[float, ...]:
        """Units of each bucket that are in use."""

    def finished(self, now: float, units: Sequence[float]) -> None:  # noqa: B027 (most need not know)
        """The response to a call that took `units` has come."""

    def idle(self, now: float) -> None:  # noqa: B027
        """Nobody is in line: what was booked is given back."""

    def pause(self, seconds: float) -> None:  # noqa: B027
        """The provider has refused a call; nothing is to be sent for so long."""

    def counted(self, said: Counted) -> Totals | None:  # noqa: ARG002
        """A response has come. Answers what is known of all who share the quota; None: nobody does."""
        return None
