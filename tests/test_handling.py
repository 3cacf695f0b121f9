"""What becomes of errors when the program says so itself: handlers, decorators, and shrinking a real conversation."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import http.client
import inspect
import json
import logging
import random
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, assert_type

import openai
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

import tidegate
from journeys.asking import KEY, client_of, outcome_of
from support.fault_server import FaultServer, RecordedRequest, Reset, Send, Step, error, head, json_reply, refused, sse
from support.openai_wire import completion, error_body
from tidegate import (
    AuthenticationFailed,
    BadRequest,
    CallError,
    Cancelled,
    CancelToken,
    ConfigError,
    ConnectionLost,
    ContentFiltered,
    ContextLengthExceeded,
    DeadlineExceeded,
    ErrorContext,
    ErrorHandler,
    Message,
    ModelNotFound,
    Overloaded,
    ProviderUnavailable,
    QuotaExhausted,
    RateLimited,
    Retry,
    TLSFailed,
    retry_on,
    with_error_handling,
)
from tidegate.backoff import RETRY_AFTER_SPREAD
from tidegate.foreign import as_call_error
from tidegate.handling import LONGEST_UNASKED
from tidegate.policies.retry import RetryPolicy
from tidegate.testing import ManualClock

NOW = 1_700_000_000.0
QUIET = 10.0


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


class Chance(random.Random):
    """Always draws the same."""

    def __init__(self, drawn: float) -> None:
        super().__init__()
        self._drawn = drawn

    def random(self) -> float:
        return self._drawn


HALF = Chance(0.5)


class Failing:
    """A function that fails as it is told, one call after the other, then answers. Each call lasts `lasts` seconds."""

    def __init__(self, *failures: BaseException, clock: ManualClock | None = None, lasts: float = 0.0) -> None:
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self._failures = list(failures)
        self._clock = clock
        self._lasts = lasts

    def __call__(self, *args: Any, **kwargs: Any) -> str:
        self.calls.append((args, kwargs))
        if self._clock is not None:
            self._clock.advance(self._lasts)
        if self._failures:
            raise self._failures.pop(0)
        return "answered"


def limited(seconds: float | None = None) -> RateLimited:
    return RateLimited("slow down", retry_after=seconds)


def notes(failure: BaseException) -> list[str]:
    return getattr(failure, "__notes__", [])


# Which strategy, how severe


class Own(Exception):
    pass


class OwnChild(Own):
    pass


def test_the_most_specific_class_wins() -> None:
    handler = ErrorHandler({Exception: "fall back", Own: "retry", KeyError: "shrink"})
    assert handler.strategy(OwnChild()) == "retry"
    assert handler.strategy(KeyError()) == "shrink"
    assert handler.strategy(ValueError()) == "fall back"


def test_what_the_program_says_of_a_wider_class_counts_more_than_a_default() -> None:
    assert ErrorHandler({CallError: "give up"}).strategy(limited()) == "give up"


def test_a_cancelled_call_is_given_up_unless_it_is_named_itself() -> None:
    assert ErrorHandler({Exception: "retry", CallError: "retry"}).strategy(Cancelled("x")) == "give up"
    assert ErrorHandler({Cancelled: "fall back"}).strategy(Cancelled("x")) == "fall back"


def forbidden_by_header() -> CallError:
    failure = ProviderUnavailable("no", status=500)
    failure.retryable = False
    return failure


def tried(times: int) -> CallError:
    attempt = tidegate.Attempt(1, "openai", "gpt-4o-mini", 0.1, "Overloaded", 503, None, None)
    return Overloaded("busy", attempts=(attempt,) * times)


DEFAULTS: dict[str, tuple[Exception, str, str]] = {
    "a refusal for pace": (limited(), "retry", "low"),
    "an outage": (ProviderUnavailable("x"), "retry", "medium"),
    "a lost connection": (ConnectionLost("x"), "retry", "medium"),
    "an outage that may not be retried": (forbidden_by_header(), "fall back", "medium"),
    "an outage that was asked once": (tried(1), "retry", "medium"),
    "an outage that a client has asked again already": (tried(2), "fall back", "medium"),
    "too long": (ContextLengthExceeded("x"), "shrink", "medium"),
    "wrong": (BadRequest("x"), "give up", "high"),
    "forbidden by policy": (ContentFiltered("x"), "give up", "high"),
    "no such model": (ModelNotFound("x"), "fall back", "high"),
    "a wrong key": (AuthenticationFailed("x"), "fall back", "critical"),
    "no credit": (QuotaExhausted("x"), "fall back", "critical"),
    "a certificate": (TLSFailed("x"), "fall back", "critical"),
    "too late": (DeadlineExceeded("x"), "fall back", "medium"),
    "cancelled": (Cancelled("x"), "give up", "low"),
    "wrong input": (ConfigError("x"), "give up", "critical"),
    "a mistake": (KeyError("x"), "give up", "high"),
    "Python's connection error": (ConnectionResetError("x"), "retry", "medium"),
    "Python's timeout": (TimeoutError("x"), "retry", "medium"),
    "half an answer": (http.client.IncompleteRead(b"x"), "retry", "medium"),
    "requests' timeout": (requests.ReadTimeout("x"), "retry", "medium"),
    "requests' certificate": (requests.exceptions.SSLError("x"), "fall back", "critical"),
    "requests' mistake": (requests.exceptions.InvalidURL("x"), "give up", "high"),
    "a file that is missing": (FileNotFoundError("x"), "give up", "high"),
}


@pytest.mark.parametrize(("failure", "strategy", "severity"), DEFAULTS.values(), ids=DEFAULTS)
def test_the_defaults_follow_what_is_known_of_an_error(failure: Exception, strategy: str, severity: str) -> None:
    handler = ErrorHandler()
    assert (handler.strategy(failure), handler.severity(failure)) == (strategy, severity)


def test_severities_can_be_set_by_class() -> None:
    handler = ErrorHandler(severities={RateLimited: "critical", Exception: "low"})
    assert handler.severity(limited()) == "critical"
    assert handler.severity(QuotaExhausted("x")) == "low"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"strategies": {RateLimited: "retri"}}, "did you mean `retry`"),
        ({"strategies": {RateLimited: 3}}, "3 is none of retry, fall back, shrink, give up"),
        ({"strategies": {KeyboardInterrupt: "retry"}}, "KeyboardInterrupt.* is not a class of exceptions"),
        ({"strategies": {"RateLimited": "retry"}}, "is not a class of exceptions"),
        ({"severities": {RateLimited: "awful"}}, "'awful' is none of low, medium, high, critical"),
        ({"severities": {RateLimited: print}}, "is none of low"),
        ({"on_error": [3]}, "a function, or a list of functions"),
    ],
)
def test_a_wrong_handler_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ErrorHandler(**options)


# Other libraries' errors, as they really are


def openai_error(server: FaultServer, step: Step) -> Exception:
    server.script(step)
    with openai.OpenAI(api_key=KEY, base_url=server.base_url, max_retries=0) as sdk, pytest.raises(Exception) as caught:  # noqa: PT011 (which one is what is asked)
        sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
    return caught.value


def requests_error(server: FaultServer, step: Step, *, stream: bool = False) -> Exception:
    server.script(step)
    with requests.Session() as session, pytest.raises(Exception) as caught:  # noqa: PT011 (which one is what is asked)
        session.get(server.url, stream=stream, timeout=QUIET).raise_for_status()
    return caught.value


STEPS: dict[str, tuple[Step, type[CallError], str]] = {
    "pace": (error(429, headers={"Retry-After": "7"}), RateLimited, "retry"),
    "no credit": (error(429, "insufficient_quota"), QuotaExhausted, "fall back"),
    "too long": (error(400, "invalid_request_error", "context_length_exceeded"), ContextLengthExceeded, "shrink"),
    "policy": (error(400, "invalid_request_error", "content_filter"), ContentFiltered, "give up"),
    "busy": (error(503), Overloaded, "retry"),
    "do not": (error(500, headers={"x-should-retry": "false"}), ProviderUnavailable, "fall back"),
    "key": (error(401), AuthenticationFailed, "fall back"),
    "hung up": ((Reset(),), ConnectionLost, "retry"),
}


@pytest.mark.parametrize("library", [openai_error, requests_error])
@pytest.mark.parametrize(("step", "kind", "strategy"), STEPS.values(), ids=STEPS)
def test_an_error_of_another_library_is_understood_like_our_own(
    server: FaultServer,
    library: Callable[[FaultServer, Step], Exception],
    step: Step,
    kind: type[CallError],
    strategy: str,
) -> None:
    failure = library(server, step)
    known = as_call_error(failure, NOW)
    assert type(known) is kind
    assert ErrorHandler().strategy(failure) == strategy
    assert known.retry_after == (7 if kind is RateLimited else None)


def test_an_sdk_that_finds_nobody_is_worth_a_retry() -> None:
    with (
        refused() as (host, port),
        openai.OpenAI(api_key="x", base_url=f"http://{host}:{port}", max_retries=0) as sdk,
        pytest.raises(openai.APIConnectionError) as caught,
    ):
        sdk.models.list()
    assert ErrorHandler().strategy(caught.value) == "retry"


STREAMED: dict[str, tuple[dict[str, Any], type[CallError], str]] = {
    "busy": (error_body("overloaded_error")["error"], Overloaded, "retry"),
    "no credit": (error_body("insufficient_quota")["error"], QuotaExhausted, "fall back"),
    "a number that cannot be written": ({"message": "x", "code": 10**30}, ProviderUnavailable, "retry"),
}


@pytest.mark.parametrize(("body", "kind", "strategy"), STREAMED.values(), ids=STREAMED)
def test_an_sdks_error_of_a_stream_is_understood(
    server: FaultServer, body: dict[str, Any], kind: type[CallError], strategy: str
) -> None:
    server.script(sse([json.dumps({"error": body})]))
    with openai.OpenAI(api_key=KEY, base_url=server.base_url, max_retries=0) as sdk:
        stream = sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}], stream=True)
        with stream, pytest.raises(openai.APIError) as caught:
            list(stream)
    assert type(as_call_error(caught.value, NOW)) is kind
    assert ErrorHandler().strategy(caught.value) == strategy


def test_a_body_that_was_not_read_is_left_alone(server: FaultServer) -> None:
    """Its last byte never comes: reading it would wait for ever."""
    step = (Send(head(400, {"content-length": "100"}) + b'{"error":'),)
    failure: Any = requests_error(server, step, stream=True)
    with failure.response:
        assert type(as_call_error(failure, NOW)) is BadRequest


class Odd(Exception):
    def __init__(self, **fields: Any) -> None:
        super().__init__("odd")
        self.__dict__.update(fields)


class Unread:
    status_code = 503

    @property
    def content(self) -> bytes:
        raise RuntimeError("not read")


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (Odd(status_code=True), None),
        (Odd(status_code="503"), None),
        (Odd(status_code=200), None),
        (Odd(status_code=1000), None),
        (Odd(status_code=503, response="?", body={1: object()}), Overloaded),
        (Odd(response=Unread()), Overloaded),
        (Odd(response=None), None),
    ],
)
def test_an_odd_error_is_read_without_harm(failure: Exception, kind: type[CallError] | None) -> None:
    known = as_call_error(failure, NOW)
    assert (None if known is None else type(known)) is kind


# Retries


def test_what_can_help_is_asked_again_with_growing_waits(clock: ManualClock) -> None:
    work = Failing(limited(), ConnectionResetError(), Overloaded("x"))
    assert with_error_handling(max_retries=3, clock=clock, chance=HALF)(work)("a", b=1) == "answered"
    assert work.calls == [(("a",), {"b": 1})] * 4
    assert clock.waits == (0.25, 0.5, 1.0)


def test_the_waits_are_those_of_the_retry_policy(clock: ManualClock) -> None:
    """Both draw from the same bounds: the arithmetic stands in one place."""
    options = {"first": 0.1, "factor": 3.0, "longest": 2.0}
    policy = RetryPolicy(Retry(attempts=9, **options), chance=HALF)  # type: ignore[arg-type]
    work = Failing(*[limited() for _ in range(5)])
    with_error_handling(max_retries=9, clock=clock, chance=HALF, **options)(work)()  # type: ignore[arg-type]
    assert clock.waits == tuple(policy._backoff.wait(each, None, HALF) for each in range(1, 6))
    assert max(clock.waits) == 1.0


@pytest.mark.parametrize("seconds", [0.0, 3.0, 60])
def test_a_retry_after_counts_instead(clock: ManualClock, seconds: float) -> None:
    with_error_handling(clock=clock, chance=HALF)(Failing(limited(seconds)))()
    assert list(clock.waits) == pytest.approx([seconds * (1 + RETRY_AFTER_SPREAD / 2)])


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1, "9", True, None])
def test_a_retry_after_that_makes_no_sense_is_none(clock: ManualClock, seconds: Any) -> None:  # noqa: ANN401 (anything)
    failure = Odd(retry_after=seconds)
    with_error_handling(ErrorHandler({Odd: "retry"}), clock=clock, chance=HALF)(Failing(failure))()
    assert clock.waits == (0.25,)


def test_when_retries_are_exhausted_the_last_error_is_raised_as_it_is_with_a_note(clock: ManualClock) -> None:
    failures = [Overloaded("first"), Overloaded("second"), Overloaded("third", request_id="r-3")]
    work = Failing(*failures, clock=clock, lasts=1.0)
    with pytest.raises(Overloaded) as caught:
        with_error_handling(max_retries=2, clock=clock, chance=HALF)(work)()
    assert caught.value is failures[2]
    assert caught.value.__context__ is None
    assert notes(caught.value) == ["after 3 attempts of `Failing` in 3.75 s: no more are allowed"]


def test_an_error_that_is_raised_at_once_has_no_note(clock: ManualClock) -> None:
    failure = KeyError("x")
    with pytest.raises(KeyError) as caught:
        with_error_handling(clock=clock)(Failing(failure))()
    assert caught.value is failure
    assert notes(failure) == []
    assert clock.waits == ()


def test_an_error_after_retries_that_is_not_worth_another_says_how_many_there_were(clock: ManualClock) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        with_error_handling(clock=clock, chance=HALF)(Failing(limited(), AuthenticationFailed("x")))()
    assert notes(caught.value) == ["after 2 attempts of `Failing` in 0.25 s"]


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int


def test_an_error_that_takes_no_note_is_raised_all_the_same(clock: ManualClock) -> None:
    with pytest.raises(Frozen):
        retry_on(Frozen, attempts=1, clock=clock)(Failing(Frozen(1)))()


def test_no_retries_means_none(clock: ManualClock) -> None:
    work = Failing(limited())
    with pytest.raises(RateLimited):
        with_error_handling(max_retries=0, clock=clock)(work)()
    assert len(work.calls) == 1


def test_no_wait_begins_that_would_pass_the_deadline(clock: ManualClock) -> None:
    failure = limited(5)
    with pytest.raises(RateLimited) as caught:
        with_error_handling(timeout=5, clock=clock, chance=HALF)(Failing(failure))()
    assert clock.waits == ()
    assert notes(failure) == [
        "after 1 attempt of `Failing` in 0.00 s: the next wait, of 5.2 s, would pass its `timeout=`"
    ]
    assert caught.value.retry_after == 5


def test_the_deadline_is_that_of_all_attempts_together(clock: ManualClock) -> None:
    work = Failing(*[limited(1) for _ in range(9)], clock=clock, lasts=1.0)
    with pytest.raises(RateLimited):
        with_error_handling(timeout=5, max_retries=9, clock=clock, chance=HALF)(work)()
    assert len(work.calls) == 3  # the third begins after 4.1 seconds, a fourth could only after 6.15


@given(
    lasts=st.floats(0, 10),
    timeout=st.floats(0.1, 30),
    asked=st.lists(st.none() | st.floats(0, 20), max_size=6),
    drawn=st.floats(0, 1, exclude_max=True),
)
def test_it_never_waits_past_the_deadline(
    lasts: float, timeout: float, asked: list[float | None], drawn: float
) -> None:
    clock = ManualClock()
    work = Failing(*map(limited, asked), clock=clock, lasts=lasts)
    with contextlib.suppress(RateLimited):
        with_error_handling(max_retries=9, timeout=timeout, clock=clock, chance=Chance(drawn))(work)()
    assert sum(clock.waits) <= timeout
    assert clock.monotonic() - 1000 <= timeout + lasts + 1e-6


def test_nobody_waits_for_hours_without_having_said_so(clock: ManualClock) -> None:
    failure = limited(LONGEST_UNASKED + 1)
    with pytest.raises(RateLimited):
        with_error_handling(clock=clock)(Failing(failure))()
    assert "asks for a wait of 121 s" in notes(failure)[0]
    assert with_error_handling(clock=clock, timeout=1000)(Failing(failure))() == "answered"


def test_a_token_that_the_function_is_passed_ends_the_wait_too(clock: ManualClock) -> None:
    token = CancelToken()
    handler = ErrorHandler(on_error=lambda _: token.cancel())
    work = Failing(limited())
    with pytest.raises(Cancelled):
        with_error_handling(handler, clock=clock)(work)(cancel=token)
    assert len(work.calls) == 1


@pytest.mark.parametrize("signal", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_the_program_is_not_touched(signal: type[BaseException], clock: ManualClock) -> None:
    seen: list[ErrorContext] = []
    handler = ErrorHandler({Exception: "fall back"}, on_error=seen.append)
    work = Failing(signal())
    with pytest.raises(signal) as caught:
        with_error_handling(handler, fallback="nothing", clock=clock)(work)()
    assert (seen, handler.counts(), notes(caught.value), len(work.calls)) == ([], {}, [], 1)


def test_ctrl_c_ends_a_wait() -> None:
    class Interrupted(ManualClock):
        def wait(self, event: threading.Event, seconds: float) -> bool:  # noqa: ARG002 (a clock's own form)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        with_error_handling(clock=Interrupted())(Failing(limited()))()


# Falling back, callables


def test_a_fallback_is_a_value(clock: ManualClock) -> None:
    assert with_error_handling(fallback="sorry", clock=clock)(Failing(AuthenticationFailed("x")))() == "sorry"


def test_a_fallback_is_a_function_that_is_called_with_what_was_passed(clock: ManualClock) -> None:
    handler = ErrorHandler({Own: "fall back"})
    backup = Failing()
    assert with_error_handling(handler, fallback=backup, clock=clock)(Failing(Own()))("q", n=1) == "answered"
    assert backup.calls == [(("q",), {"n": 1})]


def test_a_value_that_is_false_is_a_fallback_too(clock: ManualClock) -> None:
    assert with_error_handling(fallback="", clock=clock)(Failing(AuthenticationFailed("x")))() == ""


def test_the_fallback_answers_when_retries_are_exhausted(clock: ManualClock) -> None:
    work = Failing(*[limited() for _ in range(9)])
    assert with_error_handling(max_retries=2, fallback="sorry", clock=clock)(work)() == "sorry"
    assert len(work.calls) == 3


def test_what_is_given_up_does_not_fall_back(clock: ManualClock) -> None:
    with pytest.raises(ContentFiltered):
        with_error_handling(fallback="sorry", clock=clock)(Failing(ContentFiltered("x")))()


def test_without_a_fallback_the_error_is_raised(clock: ManualClock) -> None:
    failure = AuthenticationFailed("x")
    with pytest.raises(AuthenticationFailed) as caught:
        with_error_handling(clock=clock)(Failing(failure))()
    assert caught.value is failure


def test_a_fallback_that_fails_shows_why_it_was_asked(clock: ManualClock) -> None:
    first = AuthenticationFailed("x")
    with pytest.raises(Own) as caught:
        with_error_handling(fallback=Failing(Own()), clock=clock)(Failing(first))()
    assert caught.value.__context__ is first


def test_a_callable_answers_in_the_functions_place(clock: ManualClock) -> None:
    handler = ErrorHandler({KeyError: lambda context: f"no {context.error.args[0]}"})
    assert with_error_handling(handler, clock=clock)(Failing(KeyError("port")))() == "no port"
    assert with_error_handling(ErrorHandler({KeyError: lambda _: None}), clock=clock)(Failing(KeyError("x")))() is None


def test_a_callable_names_a_strategy(clock: ManualClock) -> None:
    handler = ErrorHandler({KeyError: lambda context: "retry" if context.attempt == 1 else "fall back"})
    work = Failing(KeyError(), KeyError(), KeyError())
    assert with_error_handling(handler, fallback="sorry", clock=clock)(work)() == "sorry"
    assert len(work.calls) == 2


def test_a_callable_raises_what_it_likes(clock: ManualClock) -> None:
    def translate(context: ErrorContext) -> None:
        raise Own("ours") from context.error

    first = KeyError("x")
    with pytest.raises(Own) as caught:
        with_error_handling(ErrorHandler({KeyError: translate}), clock=clock)(Failing(first))()
    assert caught.value.__cause__ is first


# Listeners, counts, the context


def test_the_context_says_what_is_known(clock: ManualClock) -> None:
    seen: list[ErrorContext] = []
    handler = ErrorHandler(on_error=seen.append)
    failures = [
        RateLimited("x", provider="openai", model="m", status=429, code="slow", request_id="r-1"),
        ConnectionResetError(),
    ]

    @with_error_handling(handler, max_retries=2, metadata={"job": 7, "model": "mine"}, clock=clock, chance=HALF)
    def ask() -> str:
        return work()

    work = Failing(*failures, clock=clock, lasts=1.0)
    assert ask() == "answered"
    known = {"provider": "openai", "model": "mine", "status": 429, "code": "slow", "request_id": "r-1", "job": 7}
    name = "test_the_context_says_what_is_known.<locals>.ask"
    assert seen == [
        ErrorContext(failures[0], "low", 1, 3, name, 1.0, known),
        ErrorContext(failures[1], "medium", 2, 3, name, 2.25, {"job": 7, "model": "mine"}),
    ]


def test_every_listener_hears_of_every_failed_attempt_and_may_fail_itself(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[int] = []

    def broken(_: ErrorContext) -> None:
        raise RuntimeError("a listener's own")

    handler = ErrorHandler(on_error=[broken, lambda context: heard.append(context.attempt)])
    with caplog.at_level(logging.WARNING, "tidegate"):
        assert with_error_handling(handler, clock=clock)(Failing(limited(), limited()))() == "answered"
    assert heard == [1, 2]
    assert caplog.text.count("a listener of errors failed") == 2


def test_errors_are_counted_by_class_whatever_becomes_of_them(clock: ManualClock) -> None:
    handler = ErrorHandler({KeyError: lambda _: "fine"})
    ask = with_error_handling(handler, clock=clock)
    for work in (Failing(limited(), limited()), Failing(KeyError()), Failing(Own())):
        outcome: Any = contextlib.suppress(Own)
        with outcome:
            ask(work)()
    assert handler.counts() == {RateLimited: 2, KeyError: 1, Own: 1}
    handler.counts().clear()
    assert handler.counts()[RateLimited] == 2


def test_a_handler_is_shared_by_threads() -> None:
    handler = ErrorHandler({Own: lambda _: "met"})

    @with_error_handling(handler)
    def ask() -> str:
        raise Own

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: ask(), range(2000))) == {"met"}
    assert handler.counts() == {Own: 2000}


def test_a_handler_shows_what_it_does() -> None:
    def explain(_: ErrorContext) -> None: ...

    shown = repr(ErrorHandler({RateLimited: "retry", KeyError: explain}))
    assert shown == "<ErrorHandler Cancelled: give up, RateLimited: retry, KeyError: explain>"


# What can be decorated


class Asking:
    def __init__(self, work: Failing) -> None:
        self._work = work

    @retry_on(Own, first=1e-9)
    def ask(self, question: str) -> str:
        """The answer."""
        return f"{question} {self._work()}"

    @staticmethod
    @retry_on(Own, first=1e-9)
    def still(work: Failing) -> str:
        return work()

    @classmethod
    @retry_on(Own, first=1e-9)
    def of_class(cls, work: Failing) -> str:
        return f"{cls.__name__} {work()}"


def test_methods_of_every_kind_can_be_decorated() -> None:
    assert Asking(Failing(Own())).ask("tide?") == "tide? answered"
    assert Asking.still(Failing(Own())) == "answered"
    assert Asking.of_class(Failing(Own())) == "Asking answered"


def test_a_decorated_function_keeps_its_name_words_and_signature() -> None:
    assert (Asking.ask.__name__, Asking.ask.__doc__) == ("ask", "The answer.")
    assert str(inspect.signature(Asking.ask)) == "(self, question: 'str') -> 'str'"


def test_a_partial_function_is_called_by_its_type_for_it_may_hold_secrets(clock: ManualClock) -> None:
    work = functools.partial(Failing(limited(), limited()), key=KEY)
    with pytest.raises(RateLimited) as caught:
        with_error_handling(max_retries=1, clock=clock)(work)()
    assert "attempts of `partial`" in notes(caught.value)[0]
    assert KEY not in notes(caught.value)[0]


async def coroutine() -> None: ...


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> Any:  # noqa: ANN401 (an async generator)
    yield 1


class AsyncCallable:
    async def __call__(self) -> None: ...


@pytest.mark.parametrize("decorator", [with_error_handling(), retry_on(Own)])
@pytest.mark.parametrize(
    ("function", "said"),
    [
        (coroutine, "`coroutine` is async"),
        (functools.partial(coroutine), "is async"),
        (async_generator, "is async"),
        (AsyncCallable(), "`AsyncCallable` is async"),
        (generator, "the generator `generator`"),
        (Asking.__dict__["still"], "stands below `@staticmethod`"),
        (Asking.__dict__["of_class"], "stands below `@classmethod`"),
        (3, "is for functions, not for `int`"),
    ],
)
def test_what_cannot_be_guarded_is_refused(decorator: Any, function: object, said: str) -> None:  # noqa: ANN401 (two)
    with pytest.raises(ConfigError, match=re.escape(said)):
        decorator(function)


def test_a_decorated_function_keeps_its_types(clock: ManualClock) -> None:
    """Type checkers see the parameters and the result that the function itself has."""

    @with_error_handling(fallback="", clock=clock)
    def ask(question: str, *, tokens: int = 1) -> str:
        return question * tokens

    @retry_on(Own, clock=clock)
    def count(items: list[str]) -> int:
        return len(items)

    assert assert_type(ask("a", tokens=2), str) == "aa"
    assert assert_type(count(["a"]), int) == 1
    with pytest.raises(TypeError):
        ask("a", token=2)  # type: ignore[call-arg]
    with contextlib.suppress(TypeError):
        count(3)  # type: ignore[arg-type]


# retry_on


def test_retry_on_asks_again_after_what_is_named_and_nothing_else(clock: ManualClock) -> None:
    work = Failing(OwnChild(), KeyError())
    assert retry_on(Own, KeyError, clock=clock, chance=HALF)(work)() == "answered"
    assert clock.waits == (0.25, 0.5)
    other = Failing(limited())
    with pytest.raises(RateLimited):
        retry_on(Own, clock=clock)(other)()
    assert len(other.calls) == 1


def test_retry_on_counts_attempts_the_first_included(clock: ManualClock) -> None:
    work = Failing(Own(), Own(), Own())
    with pytest.raises(Own) as caught:
        retry_on(Own, clock=clock, chance=HALF)(work)()
    assert len(work.calls) == 3
    assert notes(caught.value) == ["after 3 attempts of `Failing` in 0.75 s: no more are allowed"]


def test_retry_on_heeds_retry_after_and_its_deadline(clock: ManualClock) -> None:
    assert retry_on(RateLimited, clock=clock, chance=Chance(0))(Failing(limited(9)))() == "answered"
    assert clock.waits == (9.0,)
    with pytest.raises(RateLimited):
        retry_on(RateLimited, timeout=8, clock=clock)(Failing(limited(9)))()


def test_retry_on_does_not_ask_again_what_was_cancelled(clock: ManualClock) -> None:
    work = Failing(Cancelled("x"))
    with pytest.raises(Cancelled):
        retry_on(Exception, clock=clock)(work)()
    assert len(work.calls) == 1


@pytest.mark.parametrize("wrong", [(), (len,), (KeyboardInterrupt,), ("Own",), (Own("x"),)])
def test_retry_on_without_its_exceptions_says_how_it_is_written(wrong: Any) -> None:  # noqa: ANN401 (anything)
    """`@retry_on` on its own passes the function where exceptions belong."""
    with pytest.raises(ConfigError, match=r"write `@retry_on\(ConnectionError\)`"):
        retry_on(*wrong)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: with_error_handling(len), r"write `@with_error_handling\(handler\)`"),  # type: ignore[arg-type]
        (lambda: with_error_handling(max_retries=-1), r"`with_error_handling\(max_retries=…\)`"),
        (lambda: with_error_handling(timeout=0), r"`with_error_handling\(timeout=…\)`"),
        (lambda: with_error_handling(metadata=3), r"`with_error_handling\(metadata=…\)` is a dict"),  # type: ignore[arg-type]
        (lambda: retry_on(Own, attempts=0), r"`retry_on\(attempts=…\)`"),
        (lambda: retry_on(Own, first=float("nan")), r"`retry_on\(first=…\)`"),
    ],
)
def test_a_wrong_option_is_refused_by_name(build: Callable[[], object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build()


# Shrinking what a function is passed

TURNS = [{"role": "user", "content": "word " * 100} for _ in range(4)]
TOO_LONG = ContextLengthExceeded("too long")


def shrunk_by(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 (whatever it is)
    return with_error_handling()(work)(*args, **kwargs)


SIGNATURES: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "by place": ("messages, max_tokens", (TURNS, 9), {}),
    "by name": ("messages, max_tokens", (), {"messages": TURNS, "max_tokens": 9}),
    "another name, after other things": ("model, history, max_tokens=9", ("m", TURNS), {}),
    "a tuple, by name alone": ("model, *, messages, max_tokens=None", ("m",), {"messages": tuple(TURNS)}),
    "places alone": ("model, messages, /, max_tokens=9", ("m", TURNS), {}),
    "a decoy before it": ("prompt, tools, messages, max_tokens=9", ("x", [{"name": "t"}], TURNS), {}),
}


@pytest.mark.parametrize(("signature", "args", "kwargs"), SIGNATURES.values(), ids=SIGNATURES)
def test_the_conversation_is_found_among_the_arguments(
    signature: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    names = re.findall(r"\w+", signature)
    found = "history" if "history" in names else "messages"
    seen: list[list[Any]] = []

    def take(messages: list[Any]) -> None:
        seen.append(messages)
        if len(seen) == 1:
            raise TOO_LONG

    scope: dict[str, Any] = {"take": take}
    exec(f"def ask({signature}):\n take({found})\n return 'answered'", scope)  # noqa: S102 (our own lines)
    assert shrunk_by(scope["ask"], *args, **kwargs) == "answered"
    assert [list(each) for each in seen] == [TURNS, TURNS[2:]]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_bound_that_is_the_functions_default_is_halved(name: str) -> None:
    seen: list[int] = []

    def take(bound: int) -> str:
        seen.append(bound)
        if bound > 300:
            raise TOO_LONG
        return "answered"

    scope: dict[str, Any] = {"take": take}
    exec(f"def ask(question, {name}=1000):\n return take({name})", scope)  # noqa: S102 (our own lines)
    assert shrunk_by(scope["ask"], "Hi") == "answered"
    assert seen == [1000, 500, 250]


def test_the_conversation_that_is_called_so_goes_before_another() -> None:
    work = Failing(TOO_LONG)
    assert shrunk_by(work, examples=TURNS, messages=[*TURNS]) == "answered"
    assert work.calls[1] == ((), {"examples": TURNS, "messages": TURNS[2:]})


def test_a_question_that_is_a_text_counts_when_its_answer_is_halved() -> None:
    """About 1,250 of the local model's 2,048 tokens: 800 are left."""
    failure = ContextLengthExceeded("x", provider="local", model="smollm2-135m-instruct")
    seen: list[int] = []

    def ask(prompt: str, max_tokens: int) -> int:
        seen.append(max_tokens)
        if len(seen) == 1:
            raise failure
        return len(prompt)

    assert with_error_handling()(ask)("word " * 1000, max_tokens=4000) == 5000
    assert seen == [4000, 500]


def test_arguments_that_are_collected_are_found_too() -> None:
    work = Failing(TOO_LONG, TOO_LONG)
    assert shrunk_by(work, model="m", messages=TURNS, max_tokens=4000) == "answered"
    assert [call[1]["max_tokens"] for call in work.calls] == [4000, 2000, 1000]
    assert all(call[1]["messages"] is TURNS for call in work.calls)


def test_shrinking_takes_attempts_and_no_time(clock: ManualClock) -> None:
    work = Failing(*[TOO_LONG] * 9)
    with pytest.raises(ContextLengthExceeded) as caught:
        with_error_handling(max_retries=2, clock=clock)(work)(messages=TURNS * 10)
    assert (len(work.calls), clock.waits) == (3, ())
    assert caught.value is TOO_LONG


def test_what_was_passed_stays_as_it_was_and_the_fallback_gets_all_of_it() -> None:
    handed = list(TURNS)
    backup = Failing()
    work = Failing(*[ContextLengthExceeded("x") for _ in range(9)])
    assert with_error_handling(fallback=backup)(work)(handed) == "answered"
    assert handed == TURNS
    assert backup.calls == [((handed,), {})]


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"messages": TURNS[:1]}, "nothing more can be dropped"),
        ({"messages": TURNS[:1], "max_tokens": 1}, "nothing more can be dropped"),
        ({"question": "Hi"}, "there is nothing to shrink"),
        ({"messages": "Hi", "max_tokens": None}, "there is nothing to shrink"),
        ({"messages": [], "max_tokens": True}, "there is nothing to shrink"),
    ],
)
def test_it_is_said_when_nothing_can_be_made_smaller(kwargs: dict[str, Any], said: str) -> None:
    failure = ContextLengthExceeded("too long")
    work = Failing(failure)
    with pytest.raises(ContextLengthExceeded) as caught:
        shrunk_by(work, **kwargs)
    assert caught.value is failure
    assert said in notes(failure)[0]
    assert len(work.calls) == 1


def test_shrinking_heeds_the_deadline(clock: ManualClock) -> None:
    failure = ContextLengthExceeded("too long")
    work = Failing(failure, clock=clock, lasts=5)
    with pytest.raises(ContextLengthExceeded):
        with_error_handling(timeout=5, clock=clock)(work)(messages=TURNS)
    assert notes(failure) == ["after 1 attempt of `Failing` in 5.00 s: its `timeout=` has passed"]


def test_a_model_whose_window_is_known_says_whether_it_is_the_answer() -> None:
    """The conversation is smaller than the answer, and by itself more than the local model's 2,048 tokens."""
    long = [{"role": "user", "content": "word " * 2400} for _ in range(2)]
    work = Failing(ContextLengthExceeded("x", provider="local", model="smollm2-135m-instruct"))
    shrunk_by(work, messages=long, max_tokens=9000)
    assert (len(work.calls[1][1]["messages"]), work.calls[1][1]["max_tokens"]) == (1, 9000)


# Journeys

WINDOW = 1000


def strict(request: RecordedRequest) -> Step:
    """A model with a window of 1,000 tokens, one a word, that refuses what does not fit as OpenAI does."""
    asked = request.json
    prompt = sum(len((message["content"] or "").split()) for message in asked["messages"])
    answer = asked.get("max_completion_tokens") or asked.get("max_tokens", 0)
    if prompt + answer <= WINDOW:
        return json_reply(completion(f"{len(asked['messages'])} messages, {answer} tokens"))
    message = (
        f"This model's maximum context length is {WINDOW} tokens. However, you requested {prompt + answer} tokens "
        f"({prompt} in the messages, {answer} in the completion). Please reduce the length of one of them."
    )
    return json_reply(error_body("invalid_request_error", "context_length_exceeded", message), 400)


def conversation(turns: int) -> list[Message | dict[str, Any]]:
    """Each turn has 100 words, with a tool's call and its result in every third."""
    messages: list[Message | dict[str, Any]] = [{"role": "system", "content": "Be brief."}]
    for turn in range(turns):
        messages.append(Message("user", "word " * 50))
        if turn % 3 == 0:
            call = {"id": f"call_{turn}", "type": "function", "function": {"name": "tide", "arguments": "{}"}}
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
            messages.append({"role": "tool", "content": "high", "tool_call_id": f"call_{turn}"})
        messages.append(Message("assistant", "word " * 50))
    return [*messages, Message("user", "And now?")]


def sent_whole(request: RecordedRequest) -> bool:
    """Whether each tool's call has its result, and each result its call."""
    messages = request.json["messages"]
    calls = [call["id"] for message in messages for call in message.get("tool_calls") or ()]
    return calls == [message["tool_call_id"] for message in messages if message["role"] == "tool"]


def test_a_conversation_that_is_too_long_loses_its_oldest_turns_and_is_answered(server: FaultServer) -> None:
    server.on(strict)
    handler = ErrorHandler()
    with client_of(server) as client:
        ask = with_error_handling(handler)(client.complete)
        answer = ask(conversation(20), max_tokens=200)
    assert re.fullmatch(r"\d+ messages, 200 tokens", answer.text)
    assert handler.counts() == {ContextLengthExceeded: len(server.requests) - 1}
    assert len(server.requests) <= 3
    for request in server.requests:
        assert sent_whole(request)
        assert request.json["messages"][0] == {"role": "system", "content": "Be brief."}
        assert request.json["messages"][-1] == {"role": "user", "content": "And now?"}
    assert len(server.requests[-1].json["messages"]) > 10  # and no more of them than it had to


def test_an_answer_that_is_too_long_is_halved_and_given(server: FaultServer) -> None:
    server.on(strict)
    with client_of(server) as client:
        answer = with_error_handling()(client.complete)(conversation(3), max_tokens=4000)
    assert answer.text == f"{len(conversation(3))} messages, 500 tokens"
    assert len(server.requests) == 2


def test_the_official_sdk_is_helped_likewise(server: FaultServer) -> None:
    server.on(strict)
    messages = [{"role": "user", "content": "word " * 400} for _ in range(6)]
    with openai.OpenAI(api_key=KEY, base_url=server.base_url, max_retries=0) as sdk:
        ask: Any = with_error_handling()(sdk.chat.completions.create)
        answer = ask(model="gpt-4o-mini", messages=messages, max_tokens=100)
    assert answer.choices[0].message.content == "2 messages, 100 tokens"


def test_a_question_that_cannot_be_shrunk_is_an_error_that_says_so(server: FaultServer) -> None:
    server.on(strict)
    with client_of(server) as client:
        outcome = outcome_of(lambda: with_error_handling()(client.complete)("word " * 1001, max_tokens=100))
    assert isinstance(outcome, ContextLengthExceeded)
    assert "nothing more can be dropped" in notes(outcome)[0]
    assert len(server.requests) == 1


def test_retries_of_a_client_and_of_a_handler_do_not_multiply(server: FaultServer) -> None:
    server.always(error(503))
    with client_of(server, retry=Retry(attempts=3, first=0.001, longest=0.001, budget=False)) as client:
        outcome = outcome_of(lambda: with_error_handling(first=0.001)(client.complete)("Hi"))
    assert isinstance(outcome, Overloaded)
    assert len(server.requests) == 3


def test_a_handler_retries_for_a_client_that_does_not(server: FaultServer) -> None:
    server.script(error(503), error(429, headers={"retry-after": "0"}))
    server.always(json_reply(completion("Hello.")))
    with client_of(server) as client:
        assert with_error_handling(first=0.001)(client.complete)("Hi").text == "Hello."
    assert len(server.requests) == 3
