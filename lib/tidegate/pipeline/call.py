"""One call on its way through the corridor, as a value."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tidegate.chat.request import ChatRequest
from tidegate.chat.timeline import Trace
from tidegate.clock import CancelToken, Deadline

Recover = Literal["raise", "restart"]


@dataclass(frozen=True, slots=True)
class Route:
    """Whom to ask: what limits, circuits and prices are kept by. Holds no secret: `key_id` is a fingerprint."""

    provider: str
    model: str
    base_url: str = ""
    key_id: str = ""

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"

    @property
    def shared_name(self) -> str:
        """The same in all processes that ask the same model with the same key at the same address."""
        whole = hashlib.sha256(f"{self.base_url}\n{self.key_id}".encode()).hexdigest()[:16]
        return f"{self}@{whole}"


@dataclass(slots=True)
class Booking:
    """One attempt, as the ledger is going to know it."""

    number: int
    """Which of the call's requests it is."""
    at_us: int
    """When it began, in microseconds since 1970: budgets count it in that moment's periods."""
    reservation: str | None = None
    """What was reserved for it."""
    kept: bool = False
    """Whether the ledger has it: then its reservation ends with its row."""


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked, of whom, until when. Policies that change something make a copy (`dataclasses.replace`).

    `trace` is the one part that changes: the stop-watch and logbook that all copies of a call share.
    """

    id: str
    request: ChatRequest
    route: Route
    deadline: Deadline
    cancel: CancelToken
    trace: Trace
    streamed: bool = False
    attempt: int = 1
    """1 for the first attempt."""
    recover: Recover = "raise"
    stall_detection: bool = False
    task: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    priority: int = 0
    budgets: tuple[Any, ...] = ()
    """Budgets of this call alone, beside those of the client (`Budget` objects)."""
    alternatives: int = 0
    """Other routes that could still be asked."""
    heed: Callable[[int, Mapping[str, str]], None] | None = None
    """Told a response's status and headers as soon as its head has come, by whoever waits for what they say."""
    patient: bool = True
    """False: it goes at once or not at all, and waits in no line."""
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    """Numbers the requests of the call, over attempts, routes and hedges. Its `next` is atomic."""
    booking: Booking | None = None
    """Set where something was reserved for the attempt."""
    departing: Callable[[], None] | None = None
    """Called when the call has been let in everywhere and is about to be sent. A `CallError` from it stops the call."""
