"""Error handling in one place, for those who want it in their own hands: which error is met with what.

An `ErrorHandler` says what becomes of each class of errors; `with_error_handling` puts a function under it. `retry_on`
is the short form for a function that only has to be called again. Both are for any function, with or without a client.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import math
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, ParamSpec, TypeVar, cast, get_args

from tidegate.arguments import Arguments, Parameters, bound_of, conversation_of, question_of
from tidegate.backoff import Backoff
from tidegate.catalog import facts
from tidegate.chat.shrinking import shrink
from tidegate.clock import SYSTEM_CLOCK, CancelToken, Clock, Deadline
from tidegate.errors import (
    AuthenticationFailed,
    BadRequest,
    CallError,
    Cancelled,
    CircuitOpen,
    ConfigError,
    ContextLengthExceeded,
    DeadlineExceeded,
    ModelNotFound,
    PermissionDenied,
    QuotaExhausted,
    StreamInterrupted,
    TLSFailed,
    nearest,
)
from tidegate.foreign import as_call_error
from tidegate.forking import reset_in_child
from tidegate.options import Count, Options, Seconds, WholeNumber

P = ParamSpec("P")
T = TypeVar("T")

Severity = Literal["low", "medium", "high", "critical"]
"""`low`: passes by itself. `medium`: the provider is not well, or the call must change. `high`: the call is lost.
`critical`: every call is, until somebody acts."""

Strategy = Literal["retry", "fall back", "shrink", "give up"]
STRATEGIES: tuple[str, ...] = get_args(Strategy)

LONGEST_UNASKED = 120.0
"""Seconds. Without a `timeout=` no Retry-After makes a call wait for longer: quotas a minute ask for up to one."""

_log = logging.getLogger("tidegate")


@dataclass(frozen=True, slots=True)
class ErrorContext:
    """One failed attempt, as listeners and strategies see it."""

    error: Exception
    severity: Severity
    attempt: int
    """Which attempt failed, counted from 1."""
    max_attempts: int
    """How many there may be."""
    function: str
    """The name of the function that failed."""
    elapsed: float
    """Seconds since its first attempt began."""
    metadata: Mapping[str, Any]
    """What is known of the call (`provider`, `model`, `status`, `code`, `request_id`), and the decorator's own."""


Action = Strategy | Callable[[ErrorContext], Any]
"""What an error is met with. A callable answers in the function's place, raises, or names a strategy."""

Listener = Callable[[ErrorContext], object]

_STRATEGIES: dict[type[Exception], Strategy] = {
    ContextLengthExceeded: "shrink",
    Cancelled: "give up",
    BadRequest: "give up",  # wrong for others too, or forbidden by a policy that must not be got round
    ModelNotFound: "fall back",
}
"""What is not worth a retry, by default. All else of its kind falls back."""

_SEVERITIES: dict[type[Exception], Severity] = {
    Cancelled: "low",
    CircuitOpen: "medium",
    ContextLengthExceeded: "medium",
    DeadlineExceeded: "medium",
    StreamInterrupted: "medium",
    AuthenticationFailed: "critical",
    ConfigError: "critical",
    PermissionDenied: "critical",
    QuotaExhausted: "critical",
    TLSFailed: "critical",
}
"""The others go by whom they blame."""


class ErrorHandler:
    """What becomes of each class of errors. Shared by threads and by any number of functions; it never changes.

    ::

        handler = tidegate.ErrorHandler({tidegate.RateLimited: "retry", KeyError: lambda context: "unknown"})

    An error is met with the strategy of its most specific class in `strategies`, whatever the defaults say. `retry`
    waits and calls again, `shrink` makes the conversation or `max_tokens` smaller and calls again, `fall back` takes
    the function's `fallback=`, `give up` raises. A callable is passed the `ErrorContext`: what it returns is the
    answer, unless it is the name of a strategy.

    By default what is `retryable` is retried, unless a client has tried it several times already; a conversation that
    does not fit is shrunk; cancelled calls, refused requests and errors that are not about a call are given up; all
    else falls back. Other libraries' errors (of connections and timeouts, and those of requests, httpx and the official
    SDKs) are understood likewise. A cancelled call is given up unless `Cancelled` itself is named.

    `severities` overrides severities, by class too. `on_error` (one or several) is called with the context of every
    failed attempt; what it raises is logged. Raises `ConfigError` for classes and strategies that are none.
    """

    def __init__(
        self,
        strategies: Mapping[type[Exception], Action] | None = None,
        *,
        severities: Mapping[type[Exception], Severity] | None = None,
        on_error: Listener | Iterable[Listener] = (),
    ) -> None:
        self._strategies: dict[type[Exception], Action] = {Cancelled: "give up", **(strategies or {})}
        self._severities = dict(severities or {})
        for name, table, known in (
            ("strategies", self._strategies, STRATEGIES),
            ("severities", self._severities, get_args(Severity)),
        ):
            _check_table(name, table, known)
        self._listeners: tuple[Listener, ...] = (on_error,) if callable(on_error) else tuple(on_error)
        if not all(map(callable, self._listeners)):
            raise ConfigError("`ErrorHandler(on_error=…)`: a function, or a list of functions")
        self._counts: Counter[type[Exception]] = Counter()
        self._renew()
        reset_in_child(self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()

    def strategy(self, error: Exception) -> Action:
        """What this error is met with."""
        chosen = _by_class(self._strategies, type(error))
        return _default_strategy(error) if chosen is None else chosen

    def severity(self, error: Exception) -> Severity:
        """How bad this error is."""
        return _by_class(self._severities, type(error)) or _default_severity(error)

    def counts(self) -> dict[type[Exception], int]:
        """How many failed attempts there were so far, by the class of the error."""
        with self._lock:
            return dict(self._counts)

    def record(self, context: ErrorContext) -> None:
        """Count a failed attempt, and tell the listeners. For loops of your own: the decorators call it themselves."""
        with self._lock:
            self._counts[type(context.error)] += 1
        for listener in self._listeners:
            try:
                listener(context)
            except Exception:  # noqa: BLE001 (the program's own code, which must not hide the error it is told of)
                _log.warning("a listener of errors failed", exc_info=True)

    def __repr__(self) -> str:
        named = ", ".join(f"{kind.__name__}: {_named(action)}" for kind, action in self._strategies.items())
        return f"<ErrorHandler {named}>"


def _check_table(name: str, table: Mapping[Any, Any], known: Sequence[str]) -> None:
    for kind, value in table.items():
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise ConfigError(f"`ErrorHandler({name}=…)`: {kind!r} is not a class of exceptions")
        if value in known or (name == "strategies" and callable(value)):
            continue
        hint = nearest(value, known) if isinstance(value, str) else ""
        raise ConfigError(f"`ErrorHandler({name}=…)`: {value!r} is none of {', '.join(known)}{hint}")


def _named(action: Action) -> str:
    return action if isinstance(action, str) else getattr(action, "__name__", type(action).__name__)


def _by_class(table: Mapping[type[Exception], T], kind: type[BaseException]) -> T | None:
    """The entry of the most specific class."""
    return next((table[each] for each in kind.__mro__ if each in table), None)


def _default_strategy(error: Exception) -> Strategy:
    known = as_call_error(error, SYSTEM_CLOCK.time())
    if known is None:
        return "give up"
    if known.retryable:
        return "fall back" if len(known.attempts) > 1 else "retry"  # retries of retries would multiply
    return _by_class(_STRATEGIES, type(known)) or "fall back"


def _default_severity(error: Exception) -> Severity:
    known = as_call_error(error, SYSTEM_CLOCK.time()) or error
    named = _by_class(_SEVERITIES, type(known))
    if named is not None or not isinstance(known, CallError):
        return named or "high"
    if known.blames_provider:
        return "medium"
    return "low" if known.retryable else "high"


# The decorators


class _Waits(Options):
    first: Seconds = 0.5
    factor: Seconds = 2.0
    longest: Seconds = 20.0
    timeout: Seconds | None = None

    @property
    def backoff(self) -> Backoff:
        return Backoff(self.first, self.factor, self.longest)


class _Handling(_Waits):
    spoken_name = "with_error_handling"

    max_retries: WholeNumber = 3


class _Retrying(_Waits):
    spoken_name = "retry_on"

    attempts: Count = 3


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a decorator was told."""

    handler: ErrorHandler
    max_attempts: int
    waits: _Waits
    clock: Clock
    chance: random.Random
    fallback: object = None
    metadata: Mapping[str, Any] | None = None


def with_error_handling(
    handler: ErrorHandler | None = None,
    *,
    max_retries: int = 3,
    fallback: object = None,
    first: float = 0.5,
    factor: float = 2.0,
    longest: float = 20.0,
    timeout: float | None = None,
    metadata: Mapping[str, Any] | None = None,
    clock: Clock = SYSTEM_CLOCK,
    chance: random.Random | None = None,
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Put a function under a handler (None: one with the defaults), as a decorator or as `ask = …(handler)(function)`.

    `max_retries` is how often it is called again at most, retries and shrinking together. `fallback` answers when the
    strategy says so, and when retries and shrinking are at their end: a value, or a function that is called with the
    arguments that were passed; None for none. `first`, `factor` and `longest` shape the waits as in `Retry`; a
    Retry-After counts instead. `timeout`, in seconds, is the deadline of all attempts together: no wait begins that
    would pass it. An attempt under way is not interrupted; that is for the function's own timeout. `metadata` is handed
    on in every `ErrorContext`. `clock` and `chance` are for tests.

    `shrink` works on the argument `messages`, else on the first that is a list of messages, and on `max_tokens` or
    `max_completion_tokens`.

    When nothing helps, the last error is raised as it is, with a note (PEP 678) of what was tried. Ctrl-C and
    `SystemExit` are not touched. Raises `ConfigError` for wrong options, and for async functions and generators: their
    errors come when the function has long returned.
    """
    if handler is not None and not isinstance(handler, ErrorHandler):
        raise ConfigError("`with_error_handling` takes an `ErrorHandler`: write `@with_error_handling(handler)`")
    if metadata is not None and not isinstance(metadata, Mapping):
        raise ConfigError(f"`with_error_handling(metadata=…)` is a dict, not `{type(metadata).__name__}`")
    waits = _Handling(max_retries=max_retries, first=first, factor=factor, longest=longest, timeout=timeout)
    chance = chance or random.Random()  # noqa: S311 (spreads load, guards nothing)
    plan = _Plan(handler or ErrorHandler(), waits.max_retries + 1, waits, clock, chance, fallback, metadata)
    return lambda function: _guarded(function, plan, "with_error_handling")


def retry_on(
    *exceptions: type[Exception],
    attempts: int = 3,
    first: float = 0.5,
    factor: float = 2.0,
    longest: float = 20.0,
    timeout: float | None = None,
    clock: Clock = SYSTEM_CLOCK,
    chance: random.Random | None = None,
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Call a function again when it raises one of `exceptions`, up to `attempts` times in all.

    Everything else is raised at once; so is `Cancelled`, unless it is named itself. The options, and what is raised in
    the end, are as in `with_error_handling`. Raises `ConfigError` for wrong options, and when no exception is named.
    """
    if not exceptions or not all(isinstance(each, type) and issubclass(each, Exception) for each in exceptions):
        raise ConfigError("`retry_on` takes the exceptions to retry: write `@retry_on(ConnectionError)`")
    waits = _Retrying(attempts=attempts, first=first, factor=factor, longest=longest, timeout=timeout)
    handler = ErrorHandler({Exception: "give up", **dict.fromkeys(exceptions, "retry")})
    chance = chance or random.Random()  # noqa: S311 (spreads load, guards nothing)
    plan = _Plan(handler, waits.attempts, waits, clock, chance)
    return lambda function: _guarded(function, plan, "retry_on")


def _guarded(function: Callable[P, T], plan: _Plan, decorator: str) -> Callable[P, T]:
    _check_function(function, decorator)
    parameters = Parameters(function)

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        return cast("T", _Run(plan, function, Arguments(parameters, args, kwargs)).answer())

    return guarded


def _check_function(function: object, decorator: str) -> None:
    if isinstance(function, staticmethod | classmethod):
        kind = type(function).__name__
        raise ConfigError(f"`@{decorator}(…)` stands below `@{kind}`, not above it")
    if not callable(function):
        raise ConfigError(f"`{decorator}` is for functions, not for `{type(function).__name__}`")
    for each in (function, type(function).__call__):
        if inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each):
            raise ConfigError(f"`{decorator}` is for plain functions: `{_name_of(function)}` is async")
        if inspect.isgeneratorfunction(each):
            raise ConfigError(
                f"`{decorator}` is for plain functions: the errors of the generator `{_name_of(function)}` come after "
                "its call has returned; decorate what it calls instead"
            )


def _name_of(function: object) -> str:
    """Its name. Not its `repr`, in which a partial function shows its arguments."""
    return getattr(function, "__qualname__", None) or type(function).__name__


class _Run:
    """One call of a guarded function: its attempts, one after the other."""

    __slots__ = ("_attempt", "_began", "_deadline", "_function", "_given", "_plan", "_sent")

    def __init__(self, plan: _Plan, function: Callable[..., Any], arguments: Arguments) -> None:
        self._plan = plan
        self._function = function
        self._given = self._sent = arguments
        self._attempt = 1
        self._began = plan.clock.monotonic()
        self._deadline = Deadline.after(plan.waits.timeout, plan.clock)

    def answer(self) -> object:
        """What the function returns, or what is taken instead."""
        while True:
            try:
                return self._function(*self._sent.args, **self._sent.kwargs)
            except Exception as error:  # noqa: BLE001 (what becomes of it is for the handler to say)
                instead = self._instead(error)
            if instead:
                return instead[0]

    def _instead(self, error: Exception) -> tuple[object] | None:
        """An answer in the function's place, or None for another attempt. Raises when there is neither."""
        context = self._context(error)
        self._plan.handler.record(context)
        strategy = self._plan.handler.strategy(error)
        if callable(strategy):
            strategy = strategy(context)
            if not (isinstance(strategy, str) and strategy in STRATEGIES):
                return (strategy,)
        problem = ""
        if strategy in ("retry", "shrink"):
            problem = self._prepare_another(error, shrinking=strategy == "shrink")
            if not problem:
                return None
        if strategy == "give up" or self._plan.fallback is None:
            self._raise(error, problem)
        return (self._fallback(),)

    def _context(self, error: Exception) -> ErrorContext:
        plan = self._plan
        known = as_call_error(error, plan.clock.time())
        named = {name: getattr(known, name, None) for name in ("provider", "model", "status", "code", "request_id")}
        return ErrorContext(
            error=error,
            severity=plan.handler.severity(error),
            attempt=self._attempt,
            max_attempts=plan.max_attempts,
            function=_name_of(self._function),
            elapsed=plan.clock.monotonic() - self._began,
            metadata={**{name: value for name, value in named.items() if value is not None}, **(plan.metadata or {})},
        )

    def _prepare_another(self, error: Exception, *, shrinking: bool) -> str:
        """Get ready for another attempt; says why there is to be none, if so."""
        if self._attempt >= self._plan.max_attempts:
            return "no more are allowed"
        if self._deadline.expired:
            return "its `timeout=` has passed"
        problem = self._shrink(error) if shrinking else self._wait(error)
        if not problem:
            self._attempt += 1
        return problem

    def _wait(self, error: Exception) -> str:
        clock, waits = self._plan.clock, self._plan.waits
        asked = _retry_after(error, clock.time())
        if waits.timeout is None and asked is not None and asked > LONGEST_UNASKED:
            return f"it asks for a wait of {asked:g} s, and no `timeout=` says that there is so much time"
        delay = waits.backoff.wait(self._attempt, asked, self._plan.chance)
        if delay >= self._deadline.remaining():
            return f"the next wait, of {delay:.2g} s, would pass its `timeout=`"
        token = self._cancel_token()
        clock.wait(token.event, delay)
        token.raise_if_cancelled()
        return ""

    def _cancel_token(self) -> CancelToken:
        """The one that was passed to the function, if any: it ends the wait too."""
        place = self._sent.place("cancel")
        token = None if place is None else self._sent.value(place)
        return token if isinstance(token, CancelToken) else CancelToken()

    def _shrink(self, error: Exception) -> str:
        conversation, bound = conversation_of(self._sent), bound_of(self._sent)
        if conversation is None and bound is None:
            return "there is nothing to shrink: none of its arguments is a list of messages or `max_tokens`"
        messages = question_of(self._sent) if conversation is None else self._sent.value(conversation)
        max_tokens = None if bound is None else self._sent.value(bound)
        known = as_call_error(error, self._plan.clock.time()) or error
        try:
            shrunk = shrink(messages, max_tokens, error=known, window=_window(known))
        except ConfigError as problem:
            return str(problem)
        if bound is not None and shrunk.max_tokens != max_tokens:
            self._sent = self._sent.replaced(bound, shrunk.max_tokens)
        elif conversation is not None:
            self._sent = self._sent.replaced(conversation, shrunk.messages)
        return ""

    def _fallback(self) -> object:
        fallback = self._plan.fallback
        return fallback(*self._given.args, **self._given.kwargs) if callable(fallback) else fallback

    def _raise(self, error: Exception, problem: str) -> NoReturn:
        if problem or self._attempt > 1:
            attempts = "1 attempt" if self._attempt == 1 else f"{self._attempt} attempts"
            seconds = self._plan.clock.monotonic() - self._began
            reason = f": {problem}" if problem else ""
            with contextlib.suppress(AttributeError):  # an error may be frozen
                error.add_note(f"after {attempts} of `{_name_of(self._function)}` in {seconds:.2f} s{reason}")
        raise error


def _retry_after(error: Exception, now: float) -> float | None:
    """Seconds for which the other side asks to be left alone, if it says so in a way that can be believed."""
    seconds = getattr(as_call_error(error, now) or error, "retry_after", None)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
        return None
    return float(seconds)


def _window(error: Exception | CallError) -> int | None:
    if not isinstance(error, CallError) or error.provider is None or error.model is None:
        return None
    return facts(error.provider, error.model).context_window
