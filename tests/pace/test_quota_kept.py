"""R1: a server that enforces its quota refuses nobody, and its quota is used up.

Simulated on a clock of its own, so that a minute of 64 callers takes a second; `bench/pace.py` shows it over sockets.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tidegate.pace.gate import Gate, Pacing, Ticket
from tidegate.pace.headers import Reading, Unit
from tidegate.pace.levels import Bucket, Quota
from tidegate.pace.window import SlidingWindow

RPM, TPM = 6_000.0, 300_000.0
STEP = 0.002
"""Seconds between two looks at the line while the first in it waits: what the simulation is blind to."""

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
    at: float = 1_000.0
    requests: float = RPM
    tokens: float = TPM
    refused: int = 0
    answered: int = 0
    used: float = 0.0

    def ask(self, now: float, tokens: int) -> tuple[bool, dict[Unit, Reading]]:
        passed, self.at = now - self.at, now
        self.requests = min(RPM, self.requests + passed * RPM / 60)
        self.tokens = min(TPM, self.tokens + passed * TPM / 60)
        charge = self.count(tokens)
        good = self.requests >= 1 and self.tokens >= charge
        if good:
            self.requests, self.tokens = self.requests - 1, self.tokens - charge
            self.answered, self.used = self.answered + 1, self.used + charge
        else:
            self.refused += 1
        return good, {
            "requests": Reading(RPM, int(self.requests), (RPM - self.requests) * 60 / RPM),
            "tokens": Reading(TPM, int(self.tokens), (TPM - self.tokens) * 60 / TPM),
        }


@dataclass
class Simulation:
    """So many callers that ask again as soon as they have their answer."""

    gate: Gate
    clock: SimulatedClock
    ask: Callable[[float, int], tuple[bool, dict[Unit, Reading]]]
    latency: float
    random: random.Random = field(default_factory=lambda: random.Random(7))  # noqa: S311 (repeatable)
    order: itertools.count[int] = field(default_factory=itertools.count)

    def run(self, callers: int, seconds: float) -> None:  # noqa: C901 (what happens to one call, step by step)
        events: list[tuple[float, int, Callable[[], None]]] = []

        def later(delay: float, what: Callable[[], None]) -> None:
            heapq.heappush(events, (self.clock.now + delay, next(self.order), what))

        line = [self._tokens() for _ in range(callers)]

        def let_in() -> None:
            while line:
                ticket = self.gate.try_enter({"requests": 1, "tokens": line[0]})
                if ticket is None:
                    break
                send(ticket, line.pop(0))

        def send(ticket: Ticket, tokens: int) -> None:
            trip = self.latency * self.random.uniform(0.5, 1.5)
            later(trip / 2, lambda: arrive(ticket, tokens, trip / 2))

        def arrive(ticket: Ticket, tokens: int, back: float) -> None:
            good, said = self.ask(self.clock.now, tokens)
            later(back, lambda: answered(ticket, good, said))

        def answered(ticket: Ticket, good: bool, said: dict[Unit, Reading]) -> None:  # noqa: FBT001
            ticket.heed(said, charged=good)
            if not good:
                ticket.refused(None)
            ticket.close(succeeded=good)
            line.append(self._tokens())

        def tick() -> None:
            later(STEP, tick)

        tick()
        end = self.clock.now + seconds
        while events and events[0][0] <= end:
            self.clock.now, _, what = heapq.heappop(events)
            what()
            let_in()

    def _tokens(self) -> int:
        return self.random.randint(20, 400)


def simulated(count: Count, callers: int, *, configured: bool, latency: float, seconds: float = 60) -> BucketServer:
    clock, server = SimulatedClock(), BucketServer(count)
    pacing = Quota([Bucket(RPM, 60, RPM), Bucket(TPM, 60, TPM)])
    gate = Gate(("requests", "tokens"), pacing, clock=clock) if configured else Gate(clock=clock)
    Simulation(gate, clock, server.ask, latency).run(callers, seconds)
    return server


def share_used(server: BucketServer, seconds: float = 60) -> float:
    """Of what the scarcer quota gave in that time, the full bucket of the beginning included."""
    given = 1 + seconds / 60
    return max(server.used / (TPM * given), server.answered / (RPM * given))


@pytest.mark.parametrize("count", COUNTS.values(), ids=COUNTS)
@pytest.mark.parametrize("configured", [True, False], ids=["configured", "learned"])
def test_R1_a_quota_is_used_up_and_nobody_refused(count: Count, configured: bool) -> None:  # noqa: FBT001
    """However the server counts tokens, with limits that are configured, and with those that headers alone tell."""
    server = simulated(count, 64, configured=configured, latency=0.2)
    assert server.refused <= (0 if configured else 2)
    assert share_used(server) >= 0.98


@pytest.mark.parametrize("configured", [True, False], ids=["configured", "learned"])
def test_R1_slow_answers_cost_little_of_the_quota(configured: bool) -> None:  # noqa: FBT001
    server = simulated(COUNTS["more"], 64, configured=configured, latency=0.5)
    assert server.refused <= (0 if configured else 2)
    assert share_used(server) >= 0.96


@pytest.mark.parametrize("callers", [1, 8])
def test_R1_few_callers_are_never_refused(callers: int) -> None:
    assert simulated(COUNTS["more"], callers, configured=False, latency=0.01).refused == 0


def test_R1_no_sliding_minute_is_over_when_it_is_paced_so() -> None:
    """By the server's own log, at 98 % of what it allows."""
    clock, log = SimulatedClock(), []
    limit = 600.0
    pacing: Pacing = SlidingWindow([Bucket(limit, 60, limit)])
    gate = Gate(("requests",), pacing, adaptive=False, clock=clock)

    def ask(now: float, _: int) -> tuple[bool, dict[Unit, Reading]]:
        log.append(now)
        return True, {}

    Simulation(gate, clock, ask, 0.2).run(64, 240)
    start = 0
    for end, moment in enumerate(log):
        while log[start] <= moment - 60:
            start += 1
        assert end - start + 1 <= limit
    assert len(log) >= 0.98 * limit * 4
