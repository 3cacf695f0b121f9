"""Callers, gates and a provider that enforces its quota, on a clock that the simulation moves: a minute in a second."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tidegate.pace.gate import Gate, Ticket
from tidegate.pace.headers import Reading, Unit

Count = Callable[[int], int]
COUNTS: dict[str, Count] = {
    "as we do": lambda tokens: tokens,
    "more": lambda tokens: int(1.3 * tokens + 30),
    "less": lambda tokens: int(0.6 * tokens),
    "by something else": lambda tokens: int(1.1 * tokens + 25 * (tokens % 7)),
}


class SimulatedClock:
    """Time that the simulation moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def wait(self, *_: object) -> bool:
        raise AssertionError("nobody waits in a simulation")


@dataclass
class BucketServer:
    """Refills continuously, counts tokens in its own way, and says what is left."""

    count: Count
    rpm: float = 6_000.0
    tpm: float = 300_000.0
    at: float = 1_000.0
    requests: float = 0.0
    tokens: float = 0.0
    refused: int = 0
    answered: int = 0
    used: float = 0.0

    def __post_init__(self) -> None:
        self.requests, self.tokens = self.rpm, self.tpm

    def ask(self, now: float, tokens: int) -> tuple[bool, dict[Unit, Reading]]:
        self._refill(now)
        charge = self.count(tokens)
        good = self.requests >= 1 and self.tokens >= charge
        if good:
            self.requests, self.tokens = self.requests - 1, self.tokens - charge
            self.answered, self.used = self.answered + 1, self.used + charge
        else:
            self.refused += 1
        return good, self.said(now)

    def _refill(self, now: float) -> None:
        if now > self.at:
            passed, self.at = now - self.at, now
            self.requests = min(self.rpm, self.requests + passed * self.rpm / 60)
            self.tokens = min(self.tpm, self.tokens + passed * self.tpm / 60)

    def said(self, now: float) -> dict[Unit, Reading]:
        """Its headers at this moment."""
        self._refill(now)
        return {
            "requests": Reading(self.rpm, int(self.requests), (self.rpm - self.requests) * 60 / self.rpm),
            "tokens": Reading(self.tpm, int(self.tokens), (self.tpm - self.tokens) * 60 / self.tpm),
        }

    def share_used(self, seconds: float) -> float:
        """Of what the scarcer quota gave in that time, the full bucket of the beginning included."""
        given = 1 + seconds / 60
        return max(self.used / (self.tpm * given), self.answered / (self.rpm * given))


@dataclass
class WindowServer:
    """Counts the requests of the last minute, says nothing, and refuses nobody: its log is looked at afterwards."""

    limit: float
    log: list[float] = field(default_factory=list)
    most: int = 0

    def ask(self, now: float, _: int) -> tuple[bool, dict[Unit, Reading]]:
        self.log.append(now)
        self.most = max(self.most, sum(1 for moment in self.log[-2 * int(self.limit) :] if moment > now - 60))
        return True, {}


@dataclass
class Simulation:
    """So many callers that ask again as soon as they have their answer, in turn at each of the gates."""

    gates: Sequence[Gate]
    clock: SimulatedClock
    ask: Callable[[float, int], tuple[bool, dict[Unit, Reading]]]
    latency: float
    """Seconds on the way, there and back."""
    answering: float = 0.0
    """Seconds that the server takes to answer what it has counted."""
    says: Callable[[float], dict[Unit, Reading]] | None = None
    """What it says of its limits when it answers; None: what was so when it counted."""
    step: float = 0.002
    """Seconds between two looks at the line while the first in it waits: what the simulation is blind to."""
    random: random.Random = field(default_factory=lambda: random.Random(7))  # noqa: S311 (repeatable)
    order: itertools.count[int] = field(default_factory=itertools.count)
    events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)

    def run(self, callers: int, seconds: float) -> None:
        """Move time on by so many `seconds`."""
        lines = [_Line(self, gate, callers // len(self.gates)) for gate in self.gates]

        def tick() -> None:
            for line in lines:
                line.let_in()
            self.later(self.step, tick)

        tick()
        end = self.clock.now + seconds
        while self.events and self.events[0][0] <= end:
            self.clock.now, _, what = heapq.heappop(self.events)
            what()

    def later(self, delay: float, what: Callable[[], None]) -> None:
        """Do it in so many seconds."""
        heapq.heappush(self.events, (self.clock.now + delay, next(self.order), what))

    def tokens(self) -> int:
        """What the next call needs."""
        return self.random.randint(20, 400)


class _Line:
    """The callers before one gate."""

    def __init__(self, simulation: Simulation, gate: Gate, callers: int) -> None:
        self._simulation = simulation
        self._gate = gate
        self._waiting = [simulation.tokens() for _ in range(callers)]

    def let_in(self) -> None:
        while self._waiting:
            ticket = self._gate.try_enter({"requests": 1, "tokens": self._waiting[0]})
            if ticket is None:
                break
            self._send(ticket, self._waiting.pop(0))

    def _send(self, ticket: Ticket, tokens: int) -> None:
        trip = self._simulation.latency * self._simulation.random.uniform(0.5, 1.5)
        self._simulation.later(trip / 2, lambda: self._arrive(ticket, tokens, trip / 2))

    def _arrive(self, ticket: Ticket, tokens: int, back: float) -> None:
        simulation = self._simulation
        good, said = simulation.ask(simulation.clock.now, tokens)
        seconds = simulation.answering * simulation.random.uniform(0.5, 1.5) if good else 0.0

        def answered() -> None:
            latest = said if simulation.says is None else simulation.says(simulation.clock.now - back)
            self._answered(ticket, good, latest)

        simulation.later(seconds + back, answered)

    def _answered(self, ticket: Ticket, good: bool, said: dict[Unit, Reading]) -> None:  # noqa: FBT001
        ticket.heed(said, charged=good)
        if not good:
            ticket.refused(None)
        ticket.close(succeeded=good)
        self._waiting.append(self._simulation.tokens())
        self.let_in()
