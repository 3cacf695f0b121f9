"""The gate before a route: its line, its slots, its pauses."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from tidegate.clock import CancelToken, Deadline
from tidegate.errors import Cancelled, DeadlineExceeded, RequestTooLarge
from tidegate.pace.bucket import Bucket
from tidegate.pace.gate import BOOST, Gate, Ticket, Units
from tidegate.pace.headers import Reading
from tidegate.pace.levels import Quota
from tidegate.testing import ManualClock

ONE: Units = {"requests": 1.0}
PATIENCE = 30.0


def quota_gate(limit: float = 60, *, clock: ManualClock | None = None, size: float | None = None) -> Gate:
    return Gate(("requests",), Quota([Bucket(limit, 60, size or limit)]), adaptive=False, clock=clock or ManualClock())


def tokens(count: float) -> Units:
    return {"tokens": count}


def both(requests: float, count: float) -> Units:
    return {"requests": requests, "tokens": count}


def within(seconds: float, clock: ManualClock) -> Deadline:
    return Deadline.after(seconds, clock)


def until(condition: Callable[[], bool]) -> None:
    """Wait for what other threads are about to do."""
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up
        threading.Event().wait(0.001)


# Time


def test_a_call_waits_exactly_as_long_as_it_must() -> None:
    clock = ManualClock()
    gate = quota_gate(60, clock=clock, size=1)
    gate.enter(ONE, deadline=within(10, clock))
    gate.enter(ONE, deadline=within(10, clock))
    assert list(clock.waits) == pytest.approx([1.0])


def test_the_first_call_of_a_route_goes_alone_until_it_is_heard_of() -> None:
    """A thousand callers could break limits that its response tells; but nobody waits for it for long."""
    clock = ManualClock()
    gate = Gate(clock=clock)
    first = gate.enter(ONE, deadline=within(10, clock))
    assert gate.try_enter(ONE) is None
    first.heed({})
    assert all(gate.try_enter(ONE) is not None for _ in range(100))


def test_calls_behind_a_slow_first_one_double_by_and_by() -> None:
    clock = ManualClock()
    gate = Gate(clock=clock)
    for _ in range(8):
        gate.enter(ONE, deadline=within(10, clock))
    assert list(clock.waits) == pytest.approx([0.5, 1.0, 1.0])


def test_nobody_is_refused_because_the_first_call_is_slow() -> None:
    """Its response may come any moment: a call waits for it until its own deadline."""
    clock = ManualClock()
    gate = Gate(clock=clock)
    gate.enter(ONE, deadline=within(10, clock))
    with pytest.raises(DeadlineExceeded, match="passed while it waited"):
        gate.enter(ONE, deadline=within(0.3, clock))
    assert list(clock.waits) == pytest.approx([0.3])


def test_R5_what_can_never_fit_is_refused_at_once() -> None:
    clock = ManualClock()
    gate = Gate(("tokens",), Quota([Bucket(1_000, 60, 1_000)]), clock=clock)
    with pytest.raises(RequestTooLarge, match="needs about 1,001 tokens, and its limit is 1,000"):
        gate.enter(both(1, 1_001), deadline=within(10, clock))
    assert clock.waits == ()
    assert gate.status().waiting == 0


def test_T3_a_call_whose_turn_comes_after_its_deadline_fails_at_once() -> None:
    clock = ManualClock()
    gate = quota_gate(60, clock=clock, size=1)
    gate.enter(ONE, deadline=within(10, clock))
    with pytest.raises(DeadlineExceeded, match="its turn would come in 1 s") as caught:
        gate.enter(ONE, deadline=within(0.5, clock))
    assert caught.value.retry_after == pytest.approx(1.0)
    assert clock.waits == ()
    gate.enter(ONE, deadline=within(2, clock))  # nothing was taken by the one that failed


def test_R8_a_refusal_pauses_everybody_for_as_long_as_was_asked() -> None:
    clock = ManualClock()
    gate = Gate(clock=clock)
    ticket = gate.enter(ONE, deadline=within(10, clock))
    ticket.refused(2.0)
    ticket.close()
    assert gate.try_enter(ONE) is None
    gate.enter(ONE, deadline=within(10, clock))
    assert list(clock.waits) == pytest.approx([2.0])


def test_refusals_without_a_time_pause_for_longer_each_and_count_once_for_what_was_under_way() -> None:
    clock = ManualClock()
    gate = Gate(clock=clock)
    together = [gate.enter(ONE, deadline=within(10, clock)) for _ in range(8)]
    for ticket in together:
        ticket.refused(None)
        ticket.close()
    assert gate.status().paused == pytest.approx(0.5)
    assert gate.status().allowed == 4
    gate.enter(ONE, deadline=within(10, clock)).refused(None)  # half a second later
    assert gate.status().paused == pytest.approx(1.0)


def test_the_window_of_a_silent_provider_opens_again_with_its_answers() -> None:
    clock = ManualClock()
    gate = Gate(clock=clock)
    tickets = [gate.enter(ONE, deadline=within(10, clock)) for _ in range(8)]
    tickets[0].refused(0.0)
    for ticket in tickets:
        ticket.close()
    for _ in range(20):
        gate.enter(ONE, deadline=within(10, clock)).close(succeeded=True)
    assert 7 < gate.status().allowed < 9


# The line


def test_the_line_is_first_come_first_served() -> None:
    gate = Gate(concurrent=1)
    order = arrivals(gate, [0, 0, 0, 0, 0])
    assert order == [0, 1, 2, 3, 4]


def test_a_priority_goes_first() -> None:
    assert arrivals(Gate(concurrent=1), [0, 0, 2, 1]) == [2, 3, 0, 1]


def test_a_priority_never_starves_the_lowest() -> None:
    """It is worth so many seconds of having come earlier, and no more."""
    clock = ManualClock()
    gate = Gate(concurrent=1, clock=clock)
    ticket = gate.enter(ONE, deadline=within(1, clock))
    order: list[str] = []
    threads = [enter_in_thread(gate, "low", order, 0, clock)]
    clock.advance(BOOST + 1)
    threads.append(enter_in_thread(gate, "high", order, 1, clock))
    ticket.close()
    for thread in threads:
        thread.join(PATIENCE)
    assert order == ["low", "high"]


def enter_in_thread(gate: Gate, name: str, order: list[str], priority: int, clock: ManualClock) -> threading.Thread:
    """A thread that stands in line when this returns; time does not pass for it."""
    waiting = gate.status().waiting

    def work() -> None:
        ticket = gate.enter(ONE, deadline=_Never(clock, float("inf")), priority=priority)
        order.append(name)
        ticket.close()

    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: gate.status().waiting > waiting)
    return thread


class _Never(Deadline):
    """A deadline that never comes, on a clock whose waits would."""

    def remaining(self) -> float:
        return PATIENCE


def arrivals(gate: Gate, priorities: list[int]) -> list[int]:
    """In which order calls of these priorities are let in through the one slot, when they come one after another."""
    first = gate.enter(ONE, deadline=Deadline.after(PATIENCE))
    order: list[int] = []

    def work(number: int, priority: int) -> None:
        ticket = gate.enter(ONE, deadline=Deadline.after(PATIENCE), priority=priority)
        order.append(number)
        ticket.close()

    with ThreadPoolExecutor(len(priorities)) as pool:
        for number, priority in enumerate(priorities):
            pool.submit(work, number, priority)
            until(lambda number=number: gate.status().waiting == number + 1)  # type: ignore[misc]
        first.close()
    return order


def test_a_grant_costs_at_most_two_wake_ups_however_many_wait() -> None:
    gate = Gate(("requests",), Quota([Bucket(60_000, 60, 5)]), concurrent=3)

    def work() -> None:
        for _ in range(5):
            gate.enter(ONE, deadline=Deadline.after(PATIENCE)).close(succeeded=True)

    storm([work] * 60)
    assert gate.wake_ups <= 2 * 300
    assert (gate.status().in_use, gate.status().waiting) == (0, 0)


def test_R4_a_heavy_call_gets_in_beside_many_light_ones() -> None:
    """Within its place in the line: without a line it would never fit, as the light ones take whatever comes back."""
    gate = Gate(("tokens",), Quota([Bucket(60_000, 60, 100)]))
    over = threading.Event()
    heavy: list[int] = []
    light = [0]

    def small() -> None:
        while not over.is_set():
            gate.enter(tokens(5.0), deadline=Deadline.after(PATIENCE)).close(succeeded=True)
            light[0] += 1

    def large() -> None:
        for _ in range(3):
            before = light[0]
            gate.enter(tokens(95.0), deadline=Deadline.after(PATIENCE)).close(succeeded=True)
            heavy.append(light[0] - before)
        over.set()

    storm([*[small] * 24, large])
    assert len(heavy) == 3
    assert max(heavy) <= 24 + 40  # those who stood before it, and what the full bucket still held


def test_a_cancelled_call_leaves_the_line_and_the_next_goes_on() -> None:
    gate = Gate(concurrent=1)
    first = gate.enter(ONE, deadline=Deadline.after(PATIENCE))
    token = CancelToken()
    with ThreadPoolExecutor(2) as pool:
        cancelled = pool.submit(gate.enter, ONE, deadline=Deadline.after(PATIENCE), cancel=token)
        until(lambda: gate.status().waiting == 1)
        other: Future[Ticket] = pool.submit(gate.enter, ONE, deadline=Deadline.after(PATIENCE))
        until(lambda: gate.status().waiting == 2)
        token.cancel()
        with pytest.raises(Cancelled):
            cancelled.result(PATIENCE)
        first.close()
        other.result(PATIENCE).close()
    assert (gate.status().in_use, gate.status().waiting) == (0, 0)


def test_a_light_call_goes_when_the_heavy_one_before_it_gives_up() -> None:
    gate = Gate(("tokens",), Quota([Bucket(60, 60, 100)]))
    gate.enter(tokens(95.0), deadline=Deadline.after(PATIENCE))
    token = CancelToken()
    with ThreadPoolExecutor(2) as pool:
        heavy = pool.submit(gate.enter, tokens(30.0), deadline=Deadline.after(60), cancel=token)
        until(lambda: gate.status().waiting == 1)
        light = pool.submit(gate.enter, tokens(1.0), deadline=Deadline.after(60))
        until(lambda: gate.status().waiting == 2)
        token.cancel()
        light.result(PATIENCE).close()
        with pytest.raises(Cancelled):
            heavy.result(PATIENCE)


def test_closing_a_ticket_twice_gives_back_once() -> None:
    gate = Gate(concurrent=2)
    ticket = gate.enter(ONE, deadline=Deadline.after(PATIENCE))
    ticket.close()
    ticket.close()
    assert gate.status().in_use == 0


def test_nothing_is_lost_in_a_storm() -> None:
    """Whatever way each call ends: nothing in use, nothing in line, and all that was reserved accounted for."""
    gate = Gate(("requests", "tokens"), Quota([Bucket(6e5, 60, 50), Bucket(6e7, 60, 5_000)]), concurrent=7)

    def work(number: int) -> None:
        for step in range(20):
            token = CancelToken()
            if (number + step) % 5 == 0:
                token.cancel()
            seconds = PATIENCE if step % 3 else 0.002
            try:
                ticket = gate.enter(
                    both(1, 50.0 + number),
                    deadline=Deadline.after(seconds),
                    cancel=token,
                    priority=step % 3,
                )
            except (Cancelled, DeadlineExceeded):
                continue
            ticket.heed({"requests": Reading(6e5, 6e5 - 10)} if step % 2 else {})
            ticket.close(both(1, 80.0) if step % 4 else None, succeeded=step % 7 != 0)

    storm([lambda number=number: work(number) for number in range(32)])
    status = gate.status()
    assert (status.in_use, status.waiting) == (0, 0)


def storm(works: list[Any]) -> None:
    """All at once, each in a thread; a failure of any is this test's."""
    with ThreadPoolExecutor(len(works)) as pool:
        for done in [pool.submit(work) for work in works]:
            done.result(PATIENCE)


class Accounts(RuleBasedStateMachine):
    """Any order of entering, learning, failing and leaving, beside a plain account of what is under way."""

    tickets: Bundle[Ticket] = Bundle("tickets")

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.gate = Gate(
            ("requests", "tokens"),
            Quota([Bucket(60, 60, 10), Bucket(6_000, 60, 1_000)]),
            concurrent=4,
            settle="used",
            clock=self.clock,
        )
        self.open = 0

    @rule(target=tickets, count=st.integers(1, 1_000))
    def enter(self, count: int) -> Any:  # noqa: ANN401 (hypothesis's own `multiple`)
        from hypothesis.stateful import multiple  # noqa: PLC0415

        ticket = self.gate.try_enter(both(1, count))
        if ticket is None:
            return multiple()
        self.open += 1
        return ticket

    @rule(ticket=consumes(tickets), used=st.none() | st.integers(0, 3_000), succeeded=st.booleans())
    def leave(self, ticket: Ticket, used: int | None, succeeded: bool) -> None:  # noqa: FBT001
        ticket.close(None if used is None else both(1, used), succeeded=succeeded)
        ticket.close(succeeded=True)
        self.open -= 1

    @rule(ticket=tickets, remaining=st.integers(0, 60), limit=st.integers(1, 60))
    def learn(self, ticket: Ticket, remaining: int, limit: int) -> None:
        ticket.heed({"requests": Reading(limit, min(remaining, limit), 1.0, 60.0)})

    @rule(ticket=tickets, seconds=st.none() | st.floats(0, 5))
    def refuse(self, ticket: Ticket, seconds: float | None) -> None:
        ticket.refused(seconds)

    @rule(seconds=st.floats(0, 30))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def the_books_agree(self) -> None:
        status = self.gate.status()
        assert status.in_use == self.open <= 4
        assert status.waiting == 0
        for level, _ in (*status.configured.values(), *status.learned.values()):
            assert level >= 0
        for _, bucket in status.learned.values():
            assert bucket.limit <= 60

    def teardown(self) -> None:
        """Once all is given back and time has passed, everything is free again."""
        self.clock.advance(1_000)
        assert all(level == 0 for level, _ in self.gate.status().configured.values())


TestR3Accounts = Accounts.TestCase
TestR3Accounts.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
