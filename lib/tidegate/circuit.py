"""A circuit breaker that threads share: pybreaker's states, asked before a call and told after it.

pybreaker's own `call` holds its lock while the function runs, so that threads wait for each other, and counts only
failures in a row. Here a call asks for a `Permit`, runs outside every lock, and reports its outcome; whether the
circuit opens is decided by the share of failures and of slow calls in a window of the last ones, or by failures in a
row. pybreaker keeps the state and tells its listeners.

Time is measured on a clock that does not jump: a step of the wall clock neither opens nor closes anything.
"""

from __future__ import annotations

import functools
import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Literal, ParamSpec, Self, TypeVar

import pybreaker

from tidegate.clock import SYSTEM_CLOCK, Clock
from tidegate.errors import CallError, CircuitOpen, ConfigError
from tidegate.forking import reset_in_child
from tidegate.options import Count, Fraction, HiddenText, Options, Seconds
from tidegate.storage.redis import RedisStore

State = Literal["closed", "open", "half-open"]
P = ParamSpec("P")
T = TypeVar("T")

_NAMES: dict[str, State] = {
    pybreaker.STATE_CLOSED: "closed",
    pybreaker.STATE_OPEN: "open",
    pybreaker.STATE_HALF_OPEN: "half-open",
}
_CODES = {state: code for code, state in _NAMES.items()}

LOOK = 0.25
"""Seconds for which what a shared store said of a circuit is believed; ten times that when it did not answer."""

_UNUSED = 2**62
"""pybreaker's own count of failures, which is not used."""

_log = logging.getLogger("tidegate")


class Breaker(Options):
    """When calls to a route that fails are no longer sent, and when they are tried again."""

    failure_rate: Fraction = 0.5
    """Share of failures among the last `window` calls at which the circuit opens."""
    window: Count = 20
    """Calls that are looked back on. A rate is judged when half of them are there."""
    failures: Count = 5
    """Failures in a row at which it opens too."""
    slow: Seconds | None = None
    """Seconds after which a call counts as slow; None: none does."""
    slow_rate: Fraction = 0.5
    """Share of slow calls among the last `window` at which it opens."""
    recovery: Seconds = 30.0
    """Seconds that it stays open before calls are let through to try."""
    probes: Count = 3
    """Calls let through to try. When all of them succeed it closes, when one fails it opens again."""
    store: HiddenText = None
    """Where several processes share the state, such as `redis://host:6379/0`; None: nobody shares it. Each process
    counts failures and time by itself, and lets its own probes through."""


def blames_the_provider(error: BaseException) -> bool:
    """Whether a failure says that the other side is not well: not a wrong request, not Ctrl-C or a cancellation."""
    if isinstance(error, CallError):
        return error.blames_provider
    return isinstance(error, Exception)


class Permit:
    """Leave to make one call. Report how it went, once; what is reported later is ignored."""

    __slots__ = ("_breaker", "_generation", "_since", "open")

    def __init__(self, breaker: CircuitBreaker, generation: int, since: float) -> None:
        self._breaker = breaker
        self._generation = generation
        """Which closed or half-open phase it was given in: its outcome means nothing to a later one."""
        self._since = since
        self.open = True
        """Whether nothing was reported yet."""

    def success(self) -> None:
        """The call was answered."""
        self._report(failed=False)

    def failure(self, error: BaseException) -> None:
        """The call failed. Only what blames the other side counts; anything else is as if it had not been made."""
        self._report(failed=True if self._breaker.counts(error) else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Report what came of the `with`."""
        if error is None:
            self.success()
        else:
            self.failure(error)

    def release(self) -> None:
        """The call was not made, or says nothing: another one may have this leave."""
        self._report(failed=None)

    def _report(self, *, failed: bool | None) -> None:
        if self.open:
            self.open = False
            self._breaker.settle(self._generation, self._since, failed=failed)


class _Mine(threading.local):
    """The permits that this thread has taken."""

    def __init__(self) -> None:
        self.permits: list[Permit] = []


class _Safely(pybreaker.CircuitBreakerListener):
    """A listener of the program's: it hears of changes, and must not cost a call when it fails."""

    def __init__(self, listener: pybreaker.CircuitBreakerListener) -> None:
        self._listener = listener

    def state_change(
        self,
        cb: pybreaker.CircuitBreaker,
        old_state: pybreaker.CircuitBreakerState | None,
        new_state: pybreaker.CircuitBreakerState,
    ) -> None:
        try:
            self._listener.state_change(cb, old_state, new_state)
        except Exception:  # noqa: BLE001 (see above)
            _log.warning("a listener of the circuit %s failed", cb.name or "", exc_info=True)


class CircuitBreaker:
    """One circuit. Shared by threads; in a forked child it goes on from where its parent was.

    ::

        breaker = tidegate.CircuitBreaker(recovery=10)
        permit = breaker.permit()         # raises CircuitOpen
        try:
            answer = ask()
        except Exception as error:
            permit.failure(error)
            raise
        permit.success()

    or `breaker.success()` and `breaker.failure(error)` for the permit that this thread took last, or `with
    breaker.permit():`, or `@breaker` on a function. The options are those of `Breaker`. `counts` says which errors are
    failures (by default those of the provider, and any exception that is not tidegate's). `listeners` are pybreaker's.
    With `Breaker(store=…)` all circuits of that `name` share their state; `store` is for who has connected already.
    """

    def __init__(
        self,
        options: Breaker | None = None,
        *,
        name: str | None = None,
        counts: Callable[[BaseException], bool] = blames_the_provider,
        listeners: Iterable[pybreaker.CircuitBreakerListener] = (),
        clock: Clock = SYSTEM_CLOCK,
        store: RedisStore | None = None,
        **fields: Any,
    ) -> None:
        self._options = options or Breaker(**fields)
        if store is None and self._options.store is not None:
            store = RedisStore(self._options.store, field="CircuitBreaker(store=…)")
        self._board = _Board(store, name or "", clock) if store is not None else None
        self._name = name
        self.counts = counts
        self._clock = clock
        self._machine = pybreaker.CircuitBreaker(
            fail_max=_UNUSED, name=name, listeners=[_Safely(each) for each in listeners]
        )
        self._window: deque[tuple[bool, bool]] = deque(maxlen=self._options.window)
        """Of the last calls whether each failed, and whether it was slow."""
        self._renew()
        reset_in_child(self._renew)

    def _renew(self) -> None:
        self._lock = threading.RLock()
        self._machine._lock = threading.RLock()  # noqa: SLF001 (the parent's may be held for ever)
        self._generation = getattr(self, "_generation", 0) + 1
        self._mine = _Mine()
        self._in_a_row = 0
        self._untold = False
        """Whether a state was entered that other processes do not know of yet."""
        self._opened_at = getattr(self, "_opened_at", 0.0)
        self._probing = self._passed = 0
        """Probes under way, and those that succeeded."""

    @property
    def state(self) -> State:
        """`closed` (calls pass), `open` (none does) or `half-open` (some pass, to try)."""
        return _NAMES[self._machine.current_state]

    def opens_in(self) -> float:
        """Seconds until calls may pass again, 0 when they may now."""
        if self.state != "open":
            return 0.0
        return max(0.0, self._opened_at + self._options.recovery - self._clock.monotonic())

    def peek(self) -> None:
        """Raise `CircuitOpen` when a call would not be let through now. Takes nothing."""
        self._heed_others()
        if self.state != "closed":
            with self._lock:
                self._check()

    def permit(self) -> Permit:
        """Leave for one call. Raises `CircuitOpen`, with `retry_after`."""
        permit = self.take()
        self._mine.permits = [*(mine for mine in self._mine.permits if mine.open), permit]
        return permit

    def success(self) -> None:
        """The call was answered that this thread took its last permit for. Raises `ConfigError` when it holds none."""
        self._last().success()

    def failure(self, error: BaseException) -> None:
        """That call failed. Raises `ConfigError` when this thread holds no permit."""
        self._last().failure(error)

    def _last(self) -> Permit:
        while self._mine.permits:
            permit = self._mine.permits.pop()
            if permit.open:
                return permit
        raise ConfigError(
            "this thread holds no permit of the circuit: `permit()` comes before `success()` and `failure()`"
        )

    def take(self) -> Permit:
        """A permit that no `success()` or `failure()` of the circuit itself reports. Raises as `permit`."""
        self._heed_others()
        with self._lock:
            self._check()
            state = self.state
            if state == "open":
                self._begin("half-open")
            if state != "closed":
                self._probing += 1
            permit = Permit(self, self._generation, self._clock.monotonic())
        self._tell_others()
        return permit

    def _heed_others(self) -> None:
        """Take over what another process has found out, if there are any."""
        if self._board is None or not self._board.due():
            return
        generation = self._generation
        state = self._board.read()
        with self._lock:
            if state is not None and state != self.state and generation == self._generation and not self._untold:
                self._begin(state)
                self._untold = False

    def _tell_others(self) -> None:
        """Let the other processes know of a state that was entered. Nobody waits for this lock meanwhile."""
        if self._board is not None and self._untold:
            self._board.write(self.state)
            self._untold = False

    def _check(self) -> None:
        state = self.state
        if state == "open" and self.opens_in() > 0:
            raise self._refusal(self.opens_in(), "it has failed too often")
        if state == "half-open" and self._probing + self._passed >= self._options.probes:
            raise self._refusal(None, "calls that try whether it is well again are under way")

    def _refusal(self, seconds: float | None, reason: str) -> CircuitOpen:
        name = f" of {self._name}" if self._name else ""
        return CircuitOpen(f"the circuit{name} is open: {reason}; nothing was sent", retry_after=seconds)

    def settle(self, generation: int, since: float, *, failed: bool | None) -> None:
        """See `Permit`. None: no outcome."""
        slow = self._options.slow is not None and self._clock.monotonic() - since >= self._options.slow
        with self._lock:
            if generation != self._generation:
                return  # the circuit has opened or closed since
            if self.state == "half-open":
                self._judge_probe(failed)
            elif failed is not None:
                self._in_a_row = self._in_a_row + 1 if failed else 0
                self._window.append((failed, slow))
                if self._too_bad():
                    self._begin("open")
        self._tell_others()

    def _judge_probe(self, failed: bool | None) -> None:  # noqa: FBT001 (an outcome)
        self._probing -= 1
        if failed:
            self._begin("open")
        elif failed is False:
            self._passed += 1
            if self._passed >= self._options.probes:
                self._begin("closed")

    def _too_bad(self) -> bool:
        options, seen = self._options, len(self._window)
        if self._in_a_row >= options.failures:
            return True
        if 2 * seen < options.window:
            return False
        failed, slow = (sum(each) for each in zip(*self._window, strict=True))
        return failed >= options.failure_rate * seen > 0 or (
            options.slow is not None and slow >= options.slow_rate * seen > 0
        )

    def _begin(self, state: State) -> None:
        """Enter a state. What was under way in the one before has no say in it."""
        self._generation += 1
        self._untold = True
        self._probing = self._passed = self._in_a_row = 0
        self._window.clear()
        match state:
            case "open":
                self._opened_at = self._clock.monotonic()
                self._machine.open()
            case "half-open":
                self._machine.half_open()
            case _:
                self._machine.close()

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """`function` behind this circuit."""

        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            permit = self.take()
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                permit.failure(error)
                raise
            permit.success()
            return result

        return guarded

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self._name or ''} {self.state}>".replace("  ", " ")


class _Board:
    """Where the processes that share a circuit see its state: pybreaker's own entry in Redis."""

    def __init__(self, store: RedisStore, name: str, clock: Clock) -> None:
        self._store = store
        self._name = f"tidegate:{name}"
        self._clock = clock
        self._kept: pybreaker.CircuitRedisStorage | None = None
        self._look_at = -math.inf
        self._silent = False

    def due(self) -> bool:
        """Whether it is time to look. Threads that ask at once may both be told so: it costs a question."""
        now = self._clock.monotonic()
        if now < self._look_at:
            return False
        self._look_at = now + LOOK
        return True

    def read(self) -> State | None:
        """What the others say, None when there is nothing to be read."""
        return self._asked(lambda: _NAMES.get(self._entry().state))

    def write(self, state: State) -> None:
        """Say it to the others."""
        self._asked(lambda: setattr(self._entry(), "state", _CODES[state]))

    def _entry(self) -> pybreaker.CircuitRedisStorage:
        if self._kept is None:
            client: Any = self._store  # it asks for no more than a client's `get`, `set` and `setnx`
            self._kept = pybreaker.CircuitRedisStorage(pybreaker.STATE_CLOSED, client, namespace=self._name)
        return self._kept

    def _asked(self, ask: Callable[[], State | None]) -> State | None:
        try:
            answer = ask()
        except ConnectionError as error:
            self._look_at = self._clock.monotonic() + 10 * LOOK
            if not self._silent:
                _log.warning("%s: the state of circuits is not shared until it does", error)
            self._silent = True
            return None
        self._silent = False
        return answer
