"""Where the time of a call went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal

from tidegate.attempts import Attempt

Phase = Literal["queue", "limiter", "connect", "first_token", "stream", "consumer", "backoff", "own"]


@dataclass(frozen=True, slots=True)
class Timeline:
    """Seconds a call spent in each phase. The phases do not overlap: they add up to the call's wall time."""

    queue: float = 0.0
    """Waiting for a free worker thread (`submit` and `map`)."""
    limiter: float = 0.0
    """Waiting for the pace that the provider allows."""
    connect: float = 0.0
    """Name look-up, TCP, TLS, or taking a kept connection from the pool."""
    first_token: float = 0.0
    """From sending the request to the first content: the provider's own time, mostly."""
    stream: float = 0.0
    """Reading the rest of the answer."""
    consumer: float = 0.0
    """The program's own time between two chunks."""
    backoff: float = 0.0
    """Waiting before another attempt."""
    own: float = 0.0
    """tidegate's own work: encoding, decoding, policies."""

    @property
    def total(self) -> float:
        """The call's wall time in seconds."""
        return sum((float(getattr(self, field.name)) for field in fields(self)), 0.0)

    def __str__(self) -> str:
        parts = [f"{f.name} {getattr(self, f.name):.3f}" for f in fields(self) if getattr(self, f.name) >= 0.0005]
        return f"{self.total:.3f} s ({', '.join(parts)})" if parts else f"{self.total:.3f} s"


class Trace:
    """The stop-watch and logbook of one call: always in exactly one phase, so that the phases add up.

    One thread at a time uses it (the one that carries the call), so it needs no lock.
    """

    __slots__ = (
        "_monotonic",
        "_phase",
        "_since",
        "_totals",
        "attempts",
        "ended",
        "first_token_at",
        "request_id",
        "sent",
        "started",
    )

    def __init__(self, monotonic: Callable[[], float], phase: Phase = "own") -> None:
        self._monotonic: Callable[[], float] | None = monotonic
        self._totals: dict[str, float] = {}
        self._phase: str = phase
        self._since = self.started = monotonic()
        self.ended: float | None = None
        self.first_token_at: float | None = None
        self.attempts: list[Attempt] = []
        self.request_id: str | None = None
        """The provider's id of the request under way."""
        self.sent = False
        """Whether the request under way has left, as far as can be known: its connection stood."""

    def enter(self, phase: Phase) -> None:
        """The time from now on belongs to `phase`. Nothing happens once the call has ended."""
        monotonic = self._monotonic  # once: another thread may end the call meanwhile
        if monotonic is None:
            return
        now = monotonic()
        totals = self._totals
        totals[self._phase] = totals.get(self._phase, 0.0) + now - self._since
        self._phase = phase
        self._since = now

    def mark_first_token(self) -> None:
        """Content has arrived: remember when, the first time."""
        if self.first_token_at is None and self._monotonic is not None:
            self.first_token_at = self._monotonic()

    def end(self) -> None:
        """Stop the watch."""
        self.enter("own")
        self.ended = self._since
        self._monotonic = None  # also lets a finished completion be pickled whatever clock it had

    @property
    def duration(self) -> float:
        """Seconds since the call began, or until it ended."""
        if self._monotonic is None:
            return (self.ended or self.started) - self.started
        return self._monotonic() - self.started

    @property
    def time_to_first_token(self) -> float | None:
        """Seconds from the call's begin to its first content; None for an answer that was not streamed."""
        return None if self.first_token_at is None else self.first_token_at - self.started

    def timeline(self) -> Timeline:
        """What the watch says so far."""
        totals = dict(self._totals)
        if self._monotonic is not None:
            totals[self._phase] = totals.get(self._phase, 0.0) + self._monotonic() - self._since
        return Timeline(**totals)

    def __getstate__(self) -> dict[str, object]:
        """What a pickle keeps: the figures, never the clock."""
        if self._monotonic is not None:
            frozen = Trace.__new__(Trace)
            for name in self.__slots__:
                setattr(frozen, name, getattr(self, name))
            frozen._totals = dict(self._totals)  # noqa: SLF001 (another of the same class)
            frozen.end()
            return frozen.__getstate__()
        return {name: getattr(self, name) for name in self.__slots__}

    def __setstate__(self, state: dict[str, object]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
