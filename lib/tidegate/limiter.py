"""A rate limiter on its own, for whatever a program calls: the same gate that a `Client` has before each route."""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import secrets
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, ClassVar, ParamSpec, TypeVar

from tidegate.clock import SYSTEM_CLOCK, CancelToken, Clock, Deadline
from tidegate.errors import ConfigError
from tidegate.forking import reset_in_child
from tidegate.pace.gate import LimitStatus, Ticket
from tidegate.pace.headers import Unit
from tidegate.policies.admission import Limits, gate_for
from tidegate.storage.redis import RedisStore

P = ParamSpec("P")
T = TypeVar("T")


class _Held(threading.local):
    """What this thread holds by `with limiter:`, the last one last."""

    def __init__(self) -> None:
        self.holds: list[contextlib.AbstractContextManager[Grant]] = []


class _Limits(Limits):
    """As an error calls them here."""

    spoken_name: ClassVar[str | None] = "RateLimiter"


class Grant:
    """Leave to make one call, for as long as the `with` of `RateLimiter.hold` lasts."""

    def __init__(self, ticket: Ticket) -> None:
        self._ticket = ticket
        self._used: float | None = None

    def settle(self, tokens: float) -> None:
        """It has used so many tokens: at the end the rest is given back, or what is missing is taken."""
        self._used = _checked(tokens)

    def close(self, *, succeeded: bool) -> None:
        """The call is over."""
        used: dict[Unit, float] | None = None if self._used is None else {"tokens": self._used}
        self._ticket.close(used, succeeded=succeeded)


class RateLimiter:
    """Requests and tokens a minute, and calls at a time; shared by threads, or with `store=` by processes.

    ::

        limiter = tidegate.RateLimiter(rpm=500, tpm=200_000)
        limiter.acquire(tokens=1_200, timeout=30)     # waits for its turn; raises DeadlineExceeded
        if limiter.try_acquire(tokens=1_200): ...     # does not wait
        with limiter.hold(tokens=1_200) as grant:     # holds one of `concurrent=` calls
            grant.settle(tokens=call().usage)

    `with limiter:` takes one request, and so does a function decorated with `@limiter` for each call. First come, first
    served: heavy calls are not overtaken for ever by light ones. `name` tells limiters apart that share one `store`.
    The other options are those of `Limits`. Raises `ConfigError`.
    """

    def __init__(
        self,
        *,
        rpm: float | None = None,
        tpm: float | None = None,
        concurrent: int | None = None,
        name: str | None = None,
        store: str | None = None,
        clock: Clock = SYSTEM_CLOCK,
        **options: Any,
    ) -> None:
        limits = _Limits(rpm=rpm, tpm=tpm, concurrent=concurrent, store=store, **{"settle": "used", **options})
        if not limits.by_unit and concurrent is None:
            raise ConfigError("`RateLimiter(…)`: nothing is limited; set `rpm`, `tpm` or `concurrent`")
        if store is not None and name is None:
            raise ConfigError("`RateLimiter(name=…)`: limiters that share a store need a name to find each other by")
        self._store = None if store is None else RedisStore(store, field="RateLimiter(store=…)")
        self._limits = limits.model_copy(update={"adaptive": False})
        self._clock = clock
        self._name = name or secrets.token_hex(4)
        self._gate = gate_for(self._limits, f"limiter {self._name}", self._store, clock)
        self._renew()
        reset_in_child(self._renew)

    def _renew(self) -> None:
        self._held = _Held()

    def acquire(self, tokens: float = 0, *, timeout: float | None = None, priority: int = 0) -> None:
        """Take one request and so many `tokens`, when it is their turn. `timeout` is in seconds, None for no limit.

        Raises `DeadlineExceeded`, at once when the turn would come too late; `RequestTooLarge`; and `ConfigError` with
        `concurrent=`, which `hold` is for.
        """
        if self._limits.concurrent is not None:
            raise ConfigError(
                "`RateLimiter(concurrent=…)`: use `with limiter.hold(…)`, so that the call's end is known"
            )
        self._enter(tokens, timeout, priority, None).close(succeeded=True)

    def try_acquire(self, tokens: float = 0) -> bool:
        """Take them if they may be used now and nobody waits; says whether. Raises as `acquire`."""
        if self._limits.concurrent is not None:
            raise ConfigError(
                "`RateLimiter(concurrent=…)`: use `with limiter.hold(…)`, so that the call's end is known"
            )
        ticket = self._gate.try_enter({"requests": 1, "tokens": _checked(tokens)})
        if ticket is not None:
            ticket.close(succeeded=True)
        return ticket is not None

    def _must_not_hold(self) -> None:
        if self._limits.concurrent is not None:
            raise ConfigError("`RateLimiter(concurrent=…)`: use `with limiter.hold(…)`: it must know the call's end")

    @contextlib.contextmanager
    def hold(
        self,
        tokens: float = 0,
        *,
        timeout: float | None = None,
        priority: int = 0,
        cancel: CancelToken | None = None,
    ) -> Iterator[Grant]:
        """Take them for a call that lasts as long as the `with`. Raises as `acquire`, and `Cancelled`."""
        grant = Grant(self._enter(tokens, timeout, priority, cancel))
        try:
            yield grant
        except BaseException:
            grant.close(succeeded=False)
            raise
        grant.close(succeeded=True)

    def _enter(self, tokens: float, timeout: float | None, priority: int, cancel: CancelToken | None) -> Ticket:
        if timeout is not None and not timeout > 0:
            raise ConfigError("`timeout` is in seconds, above zero; `try_acquire` does not wait at all")
        deadline = Deadline.after(timeout, self._clock)
        units: dict[Unit, float] = {"requests": 1.0, "tokens": _checked(tokens)}
        return self._gate.enter(units, deadline=deadline, cancel=cancel, priority=priority)

    def status(self) -> LimitStatus:
        """What is in use, and who waits."""
        return self._gate.status()

    def __enter__(self) -> Grant:
        hold = self.hold()
        grant = hold.__enter__()
        self._held.holds.append(hold)
        return grant

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._held.holds.pop().__exit__(kind, error, traceback)

    def close(self) -> None:
        """Give a store's connections back."""
        if self._store is not None:
            self._store.close()

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """`function`, each call of which takes one request and is under way until it returns."""
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigError(f"`{function.__qualname__}` is asynchronous: a limiter that waits would stop its loop")

        @functools.wraps(function)
        def limited(*args: P.args, **kwargs: P.kwargs) -> T:
            with self.hold():
                return function(*args, **kwargs)

        return limited

    def __repr__(self) -> str:
        return f"<RateLimiter {self.status()}>"


def _checked(tokens: float) -> float:
    if isinstance(tokens, bool) or not isinstance(tokens, int | float) or not 0 <= tokens < math.inf:
        raise ConfigError("`tokens` is a number, zero or more")
    return float(tokens)
