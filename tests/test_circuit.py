"""A circuit breaker that threads share."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pybreaker
import pytest

from tidegate import Breaker, CircuitBreaker, CircuitOpen, ConfigError
from tidegate.circuit import Permit
from tidegate.errors import BadRequest, CallError, Cancelled, Overloaded, RateLimited
from tidegate.testing import ManualClock

PATIENCE = 30.0


def breaker(clock: ManualClock | None = None, **options: Any) -> CircuitBreaker:
    return CircuitBreaker(Breaker(**{"failures": 1_000, **options}), clock=clock or ManualClock())


def state(circuit: CircuitBreaker) -> str:
    """Read anew each time; a type checker would believe that it stays what was asserted."""
    return circuit.state


def fail(circuit: CircuitBreaker, times: int = 1, error: BaseException | None = None) -> None:
    for _ in range(times):
        circuit.permit().failure(error or Overloaded("down"))


def succeed(circuit: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        circuit.permit().success()


# When it opens


def test_T7_it_opens_on_a_rate_of_failures_that_are_not_in_a_row() -> None:
    """80 % failing, never five in a row: what a count of failures in a row never sees."""
    circuit = breaker(failures=5)
    for _ in range(2):
        fail(circuit, 4)
        succeed(circuit)
    assert state(circuit) == "open"


def test_it_stays_closed_below_the_rate() -> None:
    circuit = breaker(failure_rate=0.5)
    for _ in range(100):
        succeed(circuit, 2)
        fail(circuit)
    assert state(circuit) == "closed"


def test_a_rate_is_not_judged_by_a_few_calls() -> None:
    circuit = breaker(window=20)
    fail(circuit, 9)
    assert state(circuit) == "closed"
    fail(circuit)
    assert state(circuit) == "open"


def test_it_opens_on_failures_in_a_row() -> None:
    circuit = breaker(failures=3)
    fail(circuit, 2)
    succeed(circuit)
    fail(circuit, 2)
    assert state(circuit) == "closed"
    fail(circuit)
    assert state(circuit) == "open"


def test_it_opens_on_slow_calls() -> None:
    clock = ManualClock()
    circuit = breaker(clock, slow=2.0, slow_rate=0.5, window=10)
    for seconds in (1, 3, 1, 3, 3):
        permit = circuit.permit()
        clock.advance(seconds)
        permit.success()
    assert state(circuit) == "open"


@pytest.mark.parametrize(
    "error",
    [BadRequest("400"), RateLimited("429"), Cancelled("stopped"), KeyboardInterrupt(), SystemExit(), CallError("?")],
    ids=lambda error: type(error).__name__,
)
def test_T8_what_says_nothing_of_the_provider_never_opens_it(error: BaseException) -> None:
    circuit = breaker(failures=3, window=4)
    fail(circuit, 100, error)
    assert state(circuit) == "closed"


def test_T8_what_says_nothing_is_no_success_either() -> None:
    """It must not thin out the failures."""
    circuit = breaker(failures=3)
    for _ in range(2):
        fail(circuit)
        fail(circuit, 5, BadRequest("400"))
    fail(circuit)
    assert state(circuit) == "open"


def test_any_exception_of_a_guarded_function_counts_unless_it_is_told_otherwise() -> None:
    circuit = CircuitBreaker(failures=1, counts=lambda error: isinstance(error, OSError), clock=ManualClock())

    @circuit
    def ask(error: Exception) -> None:
        raise error

    with pytest.raises(ValueError, match="mine"):
        ask(ValueError("mine"))
    assert state(circuit) == "closed"
    with pytest.raises(OSError, match="theirs"):
        ask(OSError("theirs"))
    with pytest.raises(CircuitOpen):
        ask(OSError("not even asked"))


# Open, and back again


def opened(clock: ManualClock, **options: Any) -> CircuitBreaker:
    circuit = breaker(clock, **{"failures": 1, "recovery": 10, **options})
    fail(circuit)
    return circuit


def test_an_open_circuit_says_when_to_come_back() -> None:
    clock = ManualClock()
    circuit = opened(clock)
    clock.advance(4)
    with pytest.raises(CircuitOpen, match="nothing was sent") as caught:
        circuit.permit()
    assert caught.value.retry_after == pytest.approx(6)
    assert circuit.opens_in() == pytest.approx(6)
    with pytest.raises(CircuitOpen):
        circuit.peek()


def test_T7_exactly_so_many_probes_pass_under_64_threads() -> None:
    clock = ManualClock()
    circuit = opened(clock, probes=3)
    clock.advance(10)
    together = threading.Barrier(64)

    def ask(_: int) -> bool:
        together.wait(PATIENCE)
        try:
            circuit.permit()
        except CircuitOpen:
            return False
        return True

    with ThreadPoolExecutor(64) as pool:
        assert sum(pool.map(ask, range(64))) == 3
    assert state(circuit) == "half-open"


def test_it_closes_when_all_probes_succeed_and_opens_when_one_fails() -> None:
    clock = ManualClock()
    circuit = opened(clock, probes=2)
    clock.advance(10)
    succeed(circuit)
    assert state(circuit) == "half-open"
    succeed(circuit)
    assert state(circuit) == "closed"
    fail(circuit)
    clock.advance(10)
    succeed(circuit)
    fail(circuit)
    assert state(circuit) == "open"
    assert circuit.opens_in() == pytest.approx(10)


def test_T7_a_lost_probe_gives_its_permit_back() -> None:
    """One that was cancelled, or refused for what was asked, has shown nothing."""
    clock = ManualClock()
    circuit = opened(clock, probes=1)
    clock.advance(10)
    ends: list[Callable[[Permit], None]] = [Permit.release, lambda permit: permit.failure(Cancelled("stopped"))]
    for end in ends:
        permit = circuit.permit()
        with pytest.raises(CircuitOpen):
            circuit.permit()
        end(permit)
    succeed(circuit)
    assert state(circuit) == "closed"


def test_a_permit_is_reported_once() -> None:
    clock = ManualClock()
    circuit = opened(clock, probes=2)
    clock.advance(10)
    permit = circuit.permit()
    permit.success()
    permit.success()
    permit.failure(Overloaded("late"))
    assert state(circuit) == "half-open"


def test_what_was_under_way_before_a_change_has_no_say_after_it() -> None:
    clock = ManualClock()
    circuit = breaker(clock, failures=1, recovery=10, probes=1)
    late = circuit.permit()
    fail(circuit)
    clock.advance(10)
    probe = circuit.permit()
    late.failure(Overloaded("from before"))
    assert state(circuit) == "half-open"
    probe.success()
    assert state(circuit) == "closed"


@pytest.mark.parametrize("step", [-86_400.0, 86_400.0])
def test_T8_a_step_of_the_wall_clock_changes_nothing(step: float) -> None:
    clock = ManualClock()
    circuit = opened(clock)
    clock.set_time(clock.time() + step)
    with pytest.raises(CircuitOpen):
        circuit.permit()
    clock.advance(10)
    succeed(circuit, 3)
    assert state(circuit) == "closed"


# Threads, listeners, forks


def test_threads_run_beside_each_other() -> None:
    """All of them are inside the guarded function at once, which a lock round it would prevent."""
    circuit = CircuitBreaker()
    together = threading.Barrier(16)

    @circuit
    def ask() -> int:
        return together.wait(PATIENCE)

    with ThreadPoolExecutor(16) as pool:
        assert sorted(pool.map(lambda _: ask(), range(16))) == list(range(16))


class Told(pybreaker.CircuitBreakerListener):
    """Hears of every change."""

    def __init__(self) -> None:
        self.states: list[str] = []

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:  # noqa: ANN401, ARG002
        self.states.append(new_state.name)


def test_pybreakers_listeners_hear_of_every_change() -> None:
    clock, told = ManualClock(), Told()
    circuit = CircuitBreaker(failures=1, recovery=10, probes=1, listeners=[told], clock=clock)
    fail(circuit)
    clock.advance(10)
    succeed(circuit)
    assert told.states == ["open", "half-open", "closed"]


def test_a_listener_that_fails_costs_no_call() -> None:
    class Broken(pybreaker.CircuitBreakerListener):
        def state_change(self, *_: object) -> None:
            raise RuntimeError("mine")

    circuit = CircuitBreaker(failures=1, listeners=[Broken()], clock=ManualClock())
    fail(circuit)
    assert state(circuit) == "open"


def test_a_forked_child_goes_on_with_the_same_circuit() -> None:
    clock = ManualClock()
    circuit = opened(clock, probes=1)
    with circuit._lock, circuit._machine._lock:
        child = os.fork()
        if child == 0:
            clock.advance(10)
            try:
                succeed(circuit)
            except BaseException:  # noqa: BLE001 (the child's exit code says it)
                os._exit(2)
            os._exit(0 if circuit.state == "closed" else 1)
        assert os.waitpid(child, 0)[1] == 0
    assert state(circuit) == "open"


@pytest.mark.parametrize(
    "wrong",
    [
        {"failure_rate": 1.5}, {"failure_rate": -0.1}, {"window": 0}, {"failures": 0}, {"slow": 0}, {"recovery": -1},
        {"probes": 0}, {"probe": 3}, {"recovery": float("nan")},
    ],
)  # fmt: skip
def test_a_wrong_option_is_named(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ConfigError, match=f"`{name}`|{name}="):
        CircuitBreaker(**wrong)


# By itself


def test_a_thread_reports_the_permit_that_it_took_last() -> None:
    circuit = breaker(failures=2)
    circuit.permit()
    circuit.success()
    for _ in range(2):
        circuit.permit()
        circuit.failure(Overloaded("down"))
    assert state(circuit) == "open"
    with pytest.raises(ConfigError, match="holds no permit"):
        circuit.success()


def test_a_permit_is_reported_by_its_with() -> None:
    circuit = breaker(failures=1)
    with circuit.permit():
        pass
    assert state(circuit) == "closed"
    with pytest.raises(OSError, match="down"), circuit.permit():
        raise OSError("down")
    assert state(circuit) == "open"
    with pytest.raises(ConfigError, match="holds no permit"):
        circuit.failure(OSError("late"))


def test_threads_report_their_own_permits() -> None:
    circuit = breaker()
    circuit.permit()
    with ThreadPoolExecutor(1) as pool, pytest.raises(ConfigError, match="this thread holds no permit"):
        pool.submit(circuit.success).result()
    circuit.success()
