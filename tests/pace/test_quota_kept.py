"""R1: a server that enforces its quota refuses nobody, and its quota is used up.

Simulated on a clock of its own, so that a minute of 64 callers takes a second; `bench/pace.py` shows it over sockets.
"""

from __future__ import annotations

import pytest

from support.simulation import COUNTS, BucketServer, Count, SimulatedClock, Simulation, WindowServer
from tidegate.pace.bucket import Bucket
from tidegate.pace.gate import Gate
from tidegate.pace.headers import Reading, Unit
from tidegate.pace.levels import Quota
from tidegate.pace.window import SlidingWindow

RPM, TPM = 6_000.0, 300_000.0


QUOTAS = [(6_000, 300_000, 64), (600, 60_000, 64), (600, 60_000, 200), (60, 20_000, 64)]
"""Requests and tokens a minute, and callers: many that share little have most of it under way at once."""


def simulated(
    count: Count,
    callers: int,
    *,
    configured: bool,
    latency: float,
    seconds: float = 60,
    rpm: float = RPM,
    tpm: float = TPM,
) -> BucketServer:
    clock, server = SimulatedClock(), BucketServer(count, rpm=rpm, tpm=tpm)
    pacing = Quota([Bucket(rpm, 60, rpm), Bucket(tpm, 60, tpm)])
    gate = Gate(("requests", "tokens"), pacing, clock=clock) if configured else Gate(clock=clock)
    Simulation([gate], clock, server.ask, latency, step=0.01).run(callers, seconds)
    return server


@pytest.mark.parametrize(("rpm", "tpm", "callers"), QUOTAS)
@pytest.mark.parametrize("count", COUNTS.values(), ids=COUNTS)
@pytest.mark.parametrize("configured", [True, False], ids=["configured", "learned"])
def test_R1_a_quota_is_used_up_and_nobody_refused(
    count: Count,
    configured: bool,  # noqa: FBT001
    rpm: float,
    tpm: float,
    callers: int,
) -> None:
    """However the server counts tokens, with limits that are configured, and with those that headers alone tell."""
    server = simulated(count, callers, configured=configured, latency=0.2, rpm=rpm, tpm=tpm)
    assert server.refused == 0
    assert server.share_used(60) >= 0.98


@pytest.mark.parametrize(("rpm", "tpm", "callers"), QUOTAS)
@pytest.mark.parametrize("configured", [True, False], ids=["configured", "learned"])
def test_R1_slow_answers_cost_little_of_the_quota(
    configured: bool,  # noqa: FBT001
    rpm: float,
    tpm: float,
    callers: int,
) -> None:
    server = simulated(COUNTS["more"], callers, configured=configured, latency=0.5, rpm=rpm, tpm=tpm)
    assert server.refused == 0
    assert server.share_used(60) >= 0.96


@pytest.mark.parametrize("callers", [64, 1_000])
@pytest.mark.parametrize("seconds", [2, 20, 90])
def test_R1_answers_may_take_long(seconds: float, callers: int) -> None:
    """What providers count when a call arrives need not be waited for: it is not counted twice while it is answered."""
    clock, server = SimulatedClock(), BucketServer(COUNTS["more"], rpm=600, tpm=60_000)
    pacing = Quota([Bucket(600, 60, 594), Bucket(60_000, 60, 59_400)])
    gate = Gate(("requests", "tokens"), pacing, clock=clock)
    Simulation([gate], clock, server.ask, 0.1, answering=seconds, step=0.02).run(callers, 300)
    assert server.refused == 0
    asked_for = callers * 300 / seconds * 300 / (6 * 60_000)  # of 300 tokens each, as the server counts
    assert server.share_used(300) >= min(0.94, 0.85 * asked_for)


@pytest.mark.parametrize("moment", [1, 30])
@pytest.mark.parametrize(("rpm", "tpm", "callers"), QUOTAS)
@pytest.mark.parametrize("configured", [True, False], ids=["configured", "learned"])
def test_R7_a_server_that_halves_its_quota_is_followed_with_two_refusals_at_most(
    configured: bool,  # noqa: FBT001
    rpm: float,
    tpm: float,
    callers: int,
    moment: float,
) -> None:
    """At the end of the first burst, and while the quota is used as it refills."""
    clock, server = SimulatedClock(), BucketServer(COUNTS["more"], rpm=rpm, tpm=tpm)
    pacing = Quota([Bucket(rpm, 60, rpm), Bucket(tpm, 60, tpm)])
    gate = Gate(("requests", "tokens"), pacing, clock=clock) if configured else Gate(clock=clock)
    began = clock.now

    def ask(now: float, tokens: int) -> tuple[bool, dict[Unit, Reading]]:
        if now - began > moment:
            server.rpm, server.tpm = rpm / 2, tpm / 2
        return server.ask(now, tokens)

    Simulation([gate], clock, ask, 0.2, step=0.01).run(callers, 60)
    assert server.refused <= 2
    assert server.share_used(60) >= 0.96  # of half the quota, which is a few calls


@pytest.mark.parametrize("callers", [1, 8])
def test_R1_few_callers_are_never_refused(callers: int) -> None:
    assert simulated(COUNTS["more"], callers, configured=False, latency=0.01).refused == 0


def test_R1_no_sliding_minute_is_over_when_it_is_paced_so() -> None:
    """By the server's own log, at 98 % of what it allows."""
    clock, server = SimulatedClock(), WindowServer(600)
    gate = Gate(("requests",), SlidingWindow([Bucket(600, 60, 600)]), adaptive=False, clock=clock)
    Simulation([gate], clock, server.ask, 0.2).run(64, 240)
    assert server.most <= 600
    assert len(server.log) >= 0.98 * 600 * 4
