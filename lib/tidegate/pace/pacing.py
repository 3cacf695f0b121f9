"""What a gate asks of a quota, wherever it is kept."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tidegate.pace.bucket import Bucket
from tidegate.pace.headers import Reading, Unit
from tidegate.pace.lessons import Sent

Receipt = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Counted:
    """What a response says of the units that its request had taken; each sequence follows the buckets."""

    taken: Sequence[float]
    """As the server is believed to count."""
    units: Sequence[float]
    """As estimated."""
    scales: Sequence[float]
    """What it is believed to charge for a unit."""
    receipt: Receipt
    """What the quota answered when they were taken."""
    readings: Mapping[Unit, Reading]
    charged: bool
    """Whether the server counts them; it does not count what it refuses."""


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
    def admit(self, now: float, units: Sequence[float], *, raw: Sequence[float] = (), book: bool = False) -> float:
        """Take `units` of each bucket, all or none: 0, or the seconds to wait; `inf` for not before a change.

        `raw`: the same as they were estimated. `book`: the caller comes back after the wait, so its turn may be held
        for it.
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

    def finished(self, now: float, units: Sequence[float], *, counted_at: float | None = None) -> None:  # noqa: B027
        """A call that took `units` is over. The provider has counted it by `counted_at`, or by now."""

    def idle(self, now: float) -> None:  # noqa: B027
        """Nobody is in line: what was booked is given back."""

    def pause(self, seconds: float) -> None:  # noqa: B027
        """The provider has refused a call; nothing is to be sent for so long."""

    def counted(self, said: Counted) -> None:  # noqa: B027 (see above)
        """A response has come."""

    def sent(self, receipt: Receipt, units: Sequence[float]) -> Sequence[Sent] | None:  # noqa: ARG002
        """What all who share the quota had sent when these units were, for each bucket; None: nobody shares it."""
        return None
