"""Which failures are asked again, after how long, and never past the deadline."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeys.asking import PATIENCE, client_of, outcome_of
from support.fault_server import Close, FaultServer, Reset, Send, Stall, error, head, json_reply, sse
from support.openai_wire import completion, stream_events
from tidegate import (
    AuthenticationFailed,
    CallError,
    Cancelled,
    CancelToken,
    Completion,
    ConfigError,
    ConnectionLost,
    Overloaded,
    RateLimited,
    Retry,
    StreamInterrupted,
)
from tidegate.chat.reply import Reply
from tidegate.chat.request import ChatRequest
from tidegate.chat.timeline import Trace
from tidegate.clock import Deadline
from tidegate.pipeline.call import Call, Route
from tidegate.pipeline.chain import Policy, fold
from tidegate.pipeline.events import CallEnded, Event, RetryScheduled
from tidegate.policies.observe import ObservePolicy
from tidegate.policies.retry import RETRY_AFTER_SPREAD, RetryPolicy
from tidegate.providers.refusals import RETRY_AFTER_LIMIT, retry_after
from tidegate.testing import ManualClock

ANSWER = Completion("Hello.", "openai", "gpt-4o-mini", finish_reason="stop")
AGAIN = Retry(attempts=3, first=0.001, longest=0.001)
AGAIN_UNBOUNDED = Retry(attempts=3, first=0.001, longest=0.001, budget=False)
"""Retries that cost no time."""

NOW = 1_700_000_000.0
"""Tue, 14 Nov 2023 22:13:20 GMT, which is also when a `ManualClock` begins."""


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


def half(*pieces: str) -> list[str]:
    """The events of an answer whose end is still to come."""
    return stream_events(pieces, finish=None, usage=None)


class Chance(random.Random):
    """Always draws the same."""

    def __init__(self, drawn: float) -> None:
        super().__init__()
        self._drawn = drawn

    def random(self) -> float:
        return self._drawn


LARGEST = 1 - 2**-53
"""The largest number that `random()` draws."""


class Corridor:
    """What comes after the policy: fails as it is told, then answers. Each attempt lasts `lasts` seconds."""

    def __init__(self, clock: ManualClock, failures: Iterable[CallError], lasts: float = 0.0) -> None:
        self.calls: list[Call] = []
        self._clock = clock
        self._failures = iter(failures)
        self._lasts = lasts

    def __call__(self, call: Call) -> Reply:
        self.calls.append(call)
        self._clock.advance(self._lasts)
        failure = next(self._failures, None)
        if failure is not None:
            raise failure
        return ANSWER


def a_call(clock: ManualClock, seconds: float | None = None, cancel: CancelToken | None = None) -> Call:
    return Call(
        id="test-1",
        request=ChatRequest.build("Hi"),
        route=Route("openai", "gpt-4o-mini"),
        deadline=Deadline.after(seconds, clock),
        cancel=cancel or CancelToken(),
        trace=Trace(clock.monotonic),
    )


def ask(
    clock: ManualClock,
    options: Retry,
    failures: Iterable[CallError],
    *,
    seconds: float | None = None,
    drawn: float = LARGEST,
    lasts: float = 0.0,
) -> tuple[Reply | Exception, Corridor]:
    """The outcome of one call, and what was asked for it."""
    corridor = Corridor(clock, failures, lasts)
    policy = RetryPolicy(options, clock=clock, chance=Chance(drawn))
    return outcome_of(lambda: policy(a_call(clock, seconds), corridor)), corridor


def overloads(count: int) -> list[CallError]:
    return [Overloaded("no capacity") for _ in range(count)]


def limited(seconds: float) -> RateLimited:
    return RateLimited("too many requests", retry_after=seconds)


# How long is waited


@pytest.mark.parametrize("drawn", [0.0, 0.25, LARGEST])
def test_each_wait_is_drawn_from_zero_to_a_bound_that_doubles_up_to_the_cap(drawn: float) -> None:
    clock = ManualClock()
    options = Retry(attempts=6, first=1, factor=2, longest=5, budget=False)
    outcome, _ = ask(clock, options, overloads(5), drawn=drawn)
    assert outcome is ANSWER
    assert clock.waits == pytest.approx([drawn * bound for bound in (1, 2, 4, 5, 5)])


@given(
    options=st.builds(
        Retry,
        attempts=st.integers(1, 60),
        first=st.floats(1e-3, 1e3),
        factor=st.floats(0.5, 1e12),
        longest=st.floats(1e-3, 1e5),
        budget=st.just(value=False),
    ),
    seed=st.integers(),
)
def test_no_wait_is_negative_or_beyond_its_bound(options: Retry, seed: int) -> None:
    """Whatever the options, and also where the growth leaves the range of a float."""
    clock = ManualClock()
    corridor = Corridor(clock, overloads(60))
    policy = RetryPolicy(options, clock=clock, chance=random.Random(seed))  # noqa: S311
    assert isinstance(outcome_of(lambda: policy(a_call(clock), corridor)), Overloaded)
    assert len(clock.waits) == options.attempts - 1
    for number, wait in enumerate(clock.waits):
        bound = options.longest
        if number < 20:
            bound = min(bound, options.first * options.factor**number)
        assert 0 <= wait <= bound


def test_a_thousand_attempts_do_not_overflow() -> None:
    clock = ManualClock()
    outcome, corridor = ask(clock, Retry(attempts=3000, first=1, longest=1, budget=False), overloads(2999), drawn=0.5)
    assert outcome is ANSWER
    assert len(corridor.calls) == 3000
    assert clock.waits[-1] == 0.5


def test_the_waits_of_two_callers_are_spread_evenly() -> None:
    """Full jitter: every part of the range is used, so that callers who failed together do not return together."""
    clock = ManualClock()
    policy = RetryPolicy(Retry(attempts=2, first=1, budget=False), clock=clock, chance=random.Random(7))  # noqa: S311
    for _ in range(400):
        assert policy(a_call(clock), Corridor(clock, overloads(1))) is ANSWER
    tenths = [sum(int(wait * 10) == tenth for wait in clock.waits) for tenth in range(10)]
    assert min(tenths) >= 15


@pytest.mark.parametrize("drawn", [0.0, LARGEST])
def test_a_retry_after_is_waited_for_in_full_and_never_much_longer(drawn: float) -> None:
    """The provider's word counts instead of the backoff, also beyond its cap."""
    clock = ManualClock()
    outcome, _ = ask(clock, Retry(attempts=2, first=1, longest=5), [limited(40)], drawn=drawn)
    assert outcome is ANSWER
    assert clock.waits == pytest.approx([40 * (1 + RETRY_AFTER_SPREAD * drawn)])


def test_a_retry_after_of_zero_is_obeyed() -> None:
    clock = ManualClock()
    outcome, _ = ask(clock, Retry(attempts=2, first=10), [limited(0)])
    assert outcome is ANSWER
    assert clock.waits == (0,)


@pytest.mark.parametrize(
    "wrong",
    [{"attempts": 0}, {"attempts": -1}, {"attempts": 1.5}, {"first": 0}, {"first": -1}, {"factor": float("nan")},
     {"longest": float("inf")}, {"first": "soon"}, {"tries": 3}],
    ids=str,
)  # fmt: skip
def test_options_that_make_no_sense_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Retry(**wrong)


# T3: never past the deadline


def test_T3_a_retry_after_longer_than_what_is_left_fails_at_once_and_says_how_long() -> None:
    clock = ManualClock()
    outcome, corridor = ask(clock, Retry(), [limited(30)], seconds=20, drawn=0.0)
    assert isinstance(outcome, RateLimited)
    assert outcome.retry_after == 30
    assert clock.waits == ()
    assert len(corridor.calls) == 1


def test_T3_a_retry_after_that_fits_is_waited_for() -> None:
    clock = ManualClock()
    outcome, corridor = ask(clock, Retry(), [limited(19)], seconds=20, drawn=0.0)
    assert outcome is ANSWER
    assert clock.waits == (19,)
    assert len(corridor.calls) == 2


def test_T3_a_retry_after_that_ends_with_the_deadline_is_not_waited_for() -> None:
    """The next attempt could not even begin."""
    clock = ManualClock()
    outcome, _ = ask(clock, Retry(), [limited(20)], seconds=20, drawn=0.0)
    assert isinstance(outcome, RateLimited)
    assert clock.waits == ()


def test_T3_what_the_attempts_took_is_no_longer_left() -> None:
    clock = ManualClock()
    outcome, _ = ask(clock, Retry(), [limited(5), limited(5)], seconds=16, drawn=0.0, lasts=4)
    assert isinstance(outcome, RateLimited)
    assert clock.waits == (5,)  # 4 + 5 + 4 of 16 seconds are gone: another 5 do not fit


def test_T3_a_backoff_longer_than_what_is_left_raises_the_failure_at_once() -> None:
    clock = ManualClock()
    outcome, _ = ask(clock, Retry(first=30, longest=30), overloads(3), seconds=20)
    assert isinstance(outcome, Overloaded)
    assert clock.waits == ()


@given(
    waits=st.lists(st.none() | st.floats(0, 100), max_size=12),
    seconds=st.floats(0.1, 200),
    lasts=st.floats(0, 20),
    drawn=st.floats(0, LARGEST),
)
def test_T3_no_sleep_ends_after_the_deadline(
    waits: list[float | None], seconds: float, lasts: float, drawn: float
) -> None:
    clock = ManualClock()
    deadline = clock.monotonic() + seconds
    ends: list[float] = []
    failures = [RateLimited("no", retry_after=wait) for wait in waits]
    corridor = Corridor(clock, failures, lasts)

    def announce(event: Event) -> None:
        assert isinstance(event, RetryScheduled)
        ends.append(clock.monotonic() + event.delay)

    policy = RetryPolicy(Retry(attempts=20, budget=False), announce=announce, clock=clock, chance=Chance(drawn))
    outcome_of(lambda: policy(a_call(clock, seconds), corridor))
    assert len(ends) == len(clock.waits) == len(corridor.calls) - 1
    assert all(end <= deadline + 1e-9 for end in ends)  # floats are rounded


def test_T3_a_retry_after_beyond_the_deadline_costs_no_time(server: FaultServer) -> None:
    """Through the whole client: the error names the seconds, and is there long before the deadline."""
    server.always(error(429, "rate_limit_error", headers={"retry-after-ms": "40000"}))
    with client_of(server, retry=Retry()) as client:
        began = time.monotonic()
        failure = outcome_of(lambda: client.complete("Hi", timeout=PATIENCE))
        assert time.monotonic() - began < PATIENCE / 2
    assert isinstance(failure, RateLimited)
    assert failure.retry_after == 40
    assert [attempt.retry_after for attempt in failure.attempts] == [40]
    assert "retry after 40 s" in str(failure)
    assert len(server.requests) == 1


# T4: Retry-After, whatever it says

DAY = RETRY_AFTER_LIMIT

RETRY_AFTERS: dict[str, float | None] = {
    "7": 7,
    "0": 0,
    "-0": 0,
    "007": 7,
    "+7": 7,
    "1.5": 1.5,
    "1.": 1,
    "1e1": 10,
    "  7  ": 7,
    "-1": 0,
    "-1.5": 0,
    "-1e300": 0,
    "86400": DAY,
    "86401": DAY,
    "99999999999": DAY,
    "9" * 40: DAY,
    "1e300": DAY,
    "1e309": DAY,
    "-1e309": 0,
    "7, 9": 9,
    "9, 7": 9,
    "7, soon": 7,
    "nan, 7": 7,
    "-5, -6": 0,
    "7,": 7,
    "": None,
    " ": None,
    ",": None,
    ".": None,
    ".5": None,
    "1e": None,
    "1e9999": None,
    "nan": None,
    "NaN": None,
    "inf": None,
    "-inf": None,
    "Infinity": None,
    "0x10": None,
    "1_000": None,
    "7s": None,
    "7 8": None,
    "soon": None,
    "None": None,
    "true": None,
    "٣": None,
    "\uff17": None,
    "²": None,
    "\u22127": None,
    "7\u00a0": 7,
    "\x007": None,
    "9" * 201: None,
    "a" * 100_000: None,
    # HTTP dates: RFC 9110's three forms, and what is sent in their place
    "Tue, 14 Nov 2023 22:13:30 GMT": 10,
    "Tuesday, 14-Nov-23 22:13:30 GMT": 10,
    "Tue Nov 14 22:13:30 2023": 10,
    "Tue, 14 Nov 2023 22:13:30 UTC": 10,
    "Tue, 14 Nov 2023 22:13:30 Z": 10,
    "Tue, 14 Nov 2023 22:13:30 +0000": 10,
    "Tue, 14 Nov 2023 22:13:30 -0000": 10,
    "Tue, 14 Nov 2023 23:13:30 +0100": 10,
    "Tue, 14 Nov 2023 22:13:30": 10,
    "tue, 14 nov 2023 22:13:30 gmt": 10,
    "Mon, 14 Nov 2023 22:13:30 GMT": 10,  # the wrong day of the week
    "Tue, 14 Nov 2023 22:13:20 GMT": 0,
    "Tue, 14 Nov 2023 22:13:10 GMT": 0,
    "Thu, 01 Jan 1970 00:00:00 GMT": 0,
    "Mon, 01 Jan 0001 00:00:00 GMT": 0,
    "Sun, 14 Nov 2123 22:13:30 GMT": DAY,
    "Fri, 31 Dec 9999 23:59:59 GMT": DAY,
    "Tue, 14 Nov 2023 22:13:60 GMT": None,
    "Tue, 31 Feb 2023 22:13:30 GMT": None,
    "Tue, 14 Nov 99999 22:13:30 GMT": None,
    "Tue, 14 Nov": None,
    "Tue": None,
    "Tue, ": None,
}


@pytest.mark.parametrize(("value", "seconds"), RETRY_AFTERS.items(), ids=[repr(value)[:40] for value in RETRY_AFTERS])
def test_T4_a_retry_after_is_read_or_ignored(value: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value}, NOW) == seconds


@pytest.mark.parametrize("zone", ["Pacific/Auckland", "America/St_Johns"])
def test_T4_a_date_without_a_zone_is_universal_time_wherever_the_program_runs(
    monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    """RFC 9110 5.6.7: every HTTP date is UTC, also asctime's form, which does not say so."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert time.timezone != 0
        assert retry_after({"retry-after": "Tue Nov 14 22:13:30 2023"}, NOW) == 10
        assert retry_after({"retry-after": "Tue, 14 Nov 2023 22:13:30 -0000"}, NOW) == 10
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("milliseconds", "seconds"),
    [("250", 0.25), ("0", 0), ("-5", 0), ("1.5", 0.0015), ("86400000", DAY), ("1e12", DAY), ("1e309", DAY),
     ("9" * 40, DAY)],
)  # fmt: skip
def test_T4_milliseconds_are_read_and_come_before_seconds(milliseconds: str, seconds: float) -> None:
    assert retry_after({"retry-after-ms": milliseconds, "retry-after": "7"}, NOW) == pytest.approx(seconds)


@pytest.mark.parametrize("milliseconds", ["", "nan", "soon", "inf", "٣"])
def test_T4_seconds_count_where_the_milliseconds_cannot_be_read(milliseconds: str) -> None:
    assert retry_after({"retry-after-ms": milliseconds, "retry-after": "7"}, NOW) == 7


NUMBERS = st.one_of(
    st.integers().map(str),
    st.floats().map(repr),
    st.from_regex(r"[+-]?[0-9]{0,30}\.?[0-9]{0,20}([eE][+-]?[0-9]{0,5})?", fullmatch=True),
)
DATES = st.tuples(
    st.sampled_from(["Tue", "Tuesday", "Mo", ""]), st.sampled_from([", ", " ", ""]), st.integers(-1, 99999),
    st.sampled_from([" Nov ", "-Nov-", " ", "/"]), st.integers(-1, 10**7), st.sampled_from([" ", "  ", ""]),
    st.sampled_from(["22:13:30", "22:13", "99:99:99", "-1:0:0", "22.13.30", "9" * 30 + ":0:0"]),
    st.sampled_from([" GMT", " +0100", " -0000", " +9999", " +99999999", " EST", "", " 2023"]),
).map(lambda parts: "".join(map(str, parts)))  # fmt: skip
ANYTHING = st.one_of(NUMBERS, DATES, st.text(max_size=210), st.lists(NUMBERS | DATES, max_size=4).map(", ".join))


@given(value=ANYTHING, milliseconds=st.none() | ANYTHING, now=st.floats(0, 4e9))
def test_T4_whatever_it_says_the_wait_is_none_or_within_a_day(value: str, milliseconds: str | None, now: float) -> None:
    headers = {"retry-after": value} | ({} if milliseconds is None else {"retry-after-ms": milliseconds})
    seconds = retry_after(headers, now)
    assert seconds is None or 0 <= seconds <= RETRY_AFTER_LIMIT


@given(seconds=st.integers(0, 10**9) | st.floats(0, 1e9, allow_nan=False).map(lambda number: round(number, 6)))
def test_T4_a_plain_number_is_that_number_of_seconds(seconds: float) -> None:
    assert retry_after({"retry-after": str(seconds)}, NOW) == pytest.approx(min(seconds, RETRY_AFTER_LIMIT), abs=1e-12)


@given(value=ANYTHING)
def test_T4_what_is_waited_for_is_bounded_too(value: str) -> None:
    """At most a day and a tenth, which is the spread."""
    clock = ManualClock()
    failure = RateLimited("no", retry_after=retry_after({"retry-after": value}, NOW))
    outcome, _ = ask(clock, Retry(attempts=2), [failure])
    assert outcome is ANSWER
    assert 0 <= clock.waits[0] <= RETRY_AFTER_LIMIT * (1 + RETRY_AFTER_SPREAD)


def refusal_with(*lines: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 429 Too Many Requests", b"content-length: 0", *lines, b"", b""])


ON_THE_WIRE: dict[str, tuple[bytes, float | None]] = {
    "an integer": (refusal_with(b"Retry-After: 7"), 7),
    "a fraction": (refusal_with(b"retry-after: 1.5"), 1.5),
    "milliseconds": (refusal_with(b"Retry-After-Ms: 250"), 0.25),
    "both": (refusal_with(b"retry-after: 7", b"retry-after-ms: 250"), 0.25),
    "twice": (refusal_with(b"retry-after: 7", b"Retry-After: 9"), 9),
    "twice, one of them nonsense": (refusal_with(b"retry-after: soon", b"retry-after: 7"), 7),
    "dates gone by, twice": (refusal_with(*[b"retry-after: Tue, 14 Nov 2023 22:13:30 GMT"] * 2), 0),
    "a date gone by": (refusal_with(b"retry-after: Tue, 14 Nov 2023 22:13:30 GMT"), 0),
    "a date far away": (refusal_with(b"retry-after: Fri, 31 Dec 9999 23:59:59 GMT"), DAY),
    "negative": (refusal_with(b"retry-after: -1"), 0),
    "no number": (refusal_with(b"retry-after: NaN"), None),
    "too large for a float": (refusal_with(b"retry-after: 1e309"), DAY),
    "unicode digits": (refusal_with("retry-after: ٣".encode()), None),
    "Latin-1 digits": (refusal_with(b"retry-after: \xb2"), None),
    "no UTF-8": (refusal_with(b"retry-after: \xff\xfe"), None),
    "a NUL": (refusal_with(b"retry-after: 7\x00"), None),
    "nothing": (refusal_with(b"retry-after:"), None),
    "folded": (refusal_with(b"retry-after: 7", b" 9"), None),
    "huge": (refusal_with(b"retry-after: " + b"9" * 40), DAY),
    "long": (refusal_with(b"retry-after: " + b"9" * 60_000), None),
    "absent": (refusal_with(), None),
}


@pytest.mark.parametrize(("answer", "seconds"), ON_THE_WIRE.values(), ids=ON_THE_WIRE)
def test_T4_a_retry_after_that_arrives_over_a_socket_is_read_or_ignored(
    server: FaultServer, answer: bytes, seconds: float | None
) -> None:
    server.always((Send(answer),))
    for name in ("complete", "stream"):
        with client_of(server) as client:  # one each: the second call would wait for what the first was told
            ask_for = getattr(client, name)
            failure = outcome_of(lambda ask_for=ask_for: ask_for("Hi", timeout=PATIENCE))  # type: ignore[misc]
            assert isinstance(failure, RateLimited)
            assert failure.retry_after == seconds
            assert failure.attempts[0].retry_after == seconds


def test_T4_a_date_is_reckoned_from_the_moment_of_the_answer(server: FaultServer) -> None:
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 500))
    server.always(error(503, headers={"retry-after": date}))
    with client_of(server) as client:
        failure = outcome_of(lambda: client.complete("Hi"))
    assert isinstance(failure, Overloaded)
    assert failure.retry_after is not None
    assert 500 - PATIENCE < failure.retry_after <= 500


def test_T4_milliseconds_are_what_is_waited(server: FaultServer) -> None:
    server.script(error(429, "rate_limit_error", headers={"retry-after-ms": "20", "retry-after": "600"}))
    server.always(json_reply(completion("Hello")))
    heard: list[Event] = []
    with client_of(server, retry=Retry(), listeners=[heard.append]) as client:
        done = client.complete("Hi", timeout=PATIENCE)
    (delay,) = [event.delay for event in heard if isinstance(event, RetryScheduled)]
    assert 0.02 <= delay <= 0.02 * (1 + RETRY_AFTER_SPREAD)
    assert done.timeline.backoff >= 0.02


# What is asked again


def test_a_failure_that_asking_again_cannot_help_is_raised_at_once() -> None:
    clock = ManualClock()
    outcome, corridor = ask(clock, Retry(), [AuthenticationFailed("no such key")])
    assert isinstance(outcome, AuthenticationFailed)
    assert len(corridor.calls) == 1
    assert clock.waits == ()


def test_a_retry_after_does_not_make_a_failure_worth_a_retry() -> None:
    clock = ManualClock()
    outcome, corridor = ask(clock, Retry(), [AuthenticationFailed("no such key", retry_after=1)])
    assert isinstance(outcome, AuthenticationFailed)
    assert len(corridor.calls) == 1


def test_an_error_that_is_narrowed_by_its_provider_is_not_asked_again(server: FaultServer) -> None:
    server.always(error(503, headers={"x-should-retry": "false"}))
    with client_of(server, retry=AGAIN) as client:
        assert isinstance(outcome_of(lambda: client.complete("Hi")), Overloaded)
    assert len(server.requests) == 1


def test_whatever_is_no_call_error_passes_untouched() -> None:
    clock = ManualClock()

    def broken(_: Call) -> Reply:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        RetryPolicy(Retry(), clock=clock)(a_call(clock), broken)
    assert clock.waits == ()


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_when_the_attempts_are_used_up_the_last_failure_is_raised(attempts: int) -> None:
    clock = ManualClock()
    failures = overloads(10)
    outcome, corridor = ask(clock, Retry(attempts=attempts), failures)
    assert outcome is failures[attempts - 1]
    assert [call.attempt for call in corridor.calls] == list(range(1, attempts + 1))
    assert len(clock.waits) == attempts - 1


def test_attempts_are_recorded_on_the_completion(server: FaultServer) -> None:
    server.script(error(503), error(429, "rate_limit_error", headers={"retry-after": "0", "x-request-id": "req-2"}))
    server.always(json_reply(completion("Hello"), headers={"x-request-id": "req-3"}))
    with client_of(server, retry=AGAIN) as client:
        done = client.complete("Hi", timeout=PATIENCE)
    facts = [(a.number, a.outcome, a.status, a.retry_after, a.request_id) for a in done.attempts]
    assert facts == [
        (1, "Overloaded", 503, None, None), (2, "RateLimited", 429, 0, "req-2"), (3, "ok", None, None, "req-3"),
    ]  # fmt: skip
    assert {(a.provider, a.model) for a in done.attempts} == {("openai", "gpt-4o-mini")}
    assert sum(a.duration for a in done.attempts) <= done.timeline.total


def test_attempts_are_recorded_on_the_error(server: FaultServer) -> None:
    server.script(error(500), error(503))
    server.always(error(529))
    with client_of(server, retry=AGAIN) as client:
        failure = outcome_of(lambda: client.complete("Hi", timeout=PATIENCE))
    assert isinstance(failure, Overloaded)
    assert failure.status == 529
    assert [(a.number, a.status) for a in failure.attempts] == [(1, 500), (2, 503), (3, 529)]
    assert "after 3 attempts" in str(failure)
    assert len(server.requests) == 3


def test_without_retries_there_is_one_attempt(server: FaultServer) -> None:
    server.always(error(503))
    with client_of(server, retry=None) as client:
        failure = outcome_of(lambda: client.complete("Hi"))
    assert isinstance(failure, Overloaded)
    assert len(failure.attempts) == len(server.requests) == 1


@pytest.mark.parametrize("way", ["complete", "stream", "stall_detection"])
@pytest.mark.parametrize(
    "step",
    [(Reset(),), (Close(),), (Send(head(200)[:20]), Reset()), sse([*half(), Reset()])],
    ids=["reset", "close", "reset in the head", "reset before the first content"],
)  # fmt: skip
def test_a_connection_that_breaks_before_anything_was_shown_is_asked_again(
    server: FaultServer, way: str, step: tuple[Any, ...]
) -> None:
    server.script(step, step)
    answer = json_reply(completion("Hello"))
    server.on(lambda request: sse(stream_events(["Hello"])) if request.json.get("stream") else answer)
    with client_of(server, retry=AGAIN) as client:
        if way == "stream":
            with client.stream("Hi", timeout=PATIENCE) as stream:
                assert "".join(piece.text for piece in stream) == "Hello"
            done = stream.completion
        else:
            done = client.complete("Hi", timeout=PATIENCE, stall_detection=way == "stall_detection")
    assert done.text == "Hello"
    assert [a.outcome for a in done.attempts[2:]] == ["ok"]
    # What came of a plain call in the shape of a stream is an answer that cannot be read.
    assert {a.outcome for a in done.attempts[:2]} <= {"ConnectionLost", "MalformedResponse"}


def test_nothing_is_asked_again_once_text_was_seen(server: FaultServer) -> None:
    server.always(sse([*half("Hel"), Reset()]))
    with client_of(server, retry=AGAIN) as client:
        stream = client.stream("Hi", timeout=PATIENCE)
        assert next(stream).text == "Hel"
        failure = outcome_of(lambda: list(stream))
    assert isinstance(failure, StreamInterrupted)
    assert isinstance(failure.__cause__, ConnectionLost)
    assert failure.partial == "Hel"
    assert len(failure.attempts) == len(server.requests) == 1


def test_a_restart_shows_its_consumer_where_the_new_answer_begins(server: FaultServer) -> None:
    server.script(sse([*half("Wrong"), Reset()]), error(503))
    server.always(sse(stream_events(["Right"])))
    with client_of(server, retry=AGAIN) as client, client.stream("Hi", recover="restart", timeout=PATIENCE) as stream:
        seen = [(piece.text, piece.restarted, stream.text) for piece in stream]
    assert seen == [("Wrong", False, "Wrong"), ("Right", True, "Right"), ("", False, "Right")]
    assert [a.outcome for a in stream.completion.attempts] == ["ConnectionLost", "Overloaded", "ok"]
    assert stream.completion.text == "Right"


def test_T3_a_restart_is_not_waited_for_beyond_the_deadline(server: FaultServer) -> None:
    """The consumer has what there was, and the reason, at once."""
    server.script(sse([*half("Hel"), Reset()]))
    with client_of(server, retry=Retry(first=1e6, longest=1e6)) as client:
        stream = client.stream("Hi", recover="restart", timeout=PATIENCE)
        failure = outcome_of(lambda: list(stream))
    assert isinstance(failure, StreamInterrupted)
    assert failure.partial == "Hel"
    assert len(server.requests) == 1


# What ends a backoff


def test_a_call_that_is_cancelled_before_its_backoff_is_not_asked_again() -> None:
    clock, token = ManualClock(), CancelToken()

    def fail(_: Call) -> Reply:
        token.cancel()
        raise Overloaded("no capacity")

    with pytest.raises(Cancelled):
        RetryPolicy(Retry(first=50, longest=50), clock=clock, chance=Chance(0.5))(a_call(clock, None, token), fail)
    assert clock.monotonic() == ManualClock().monotonic()


class Interrupting(ManualClock):
    """Somebody presses Ctrl-C during the wait."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        super().wait(event, seconds / 2)
        raise KeyboardInterrupt


def test_ctrl_c_in_a_backoff_passes_and_ends_the_call_once() -> None:
    clock = Interrupting()
    heard: list[Event] = []
    corridor = Corridor(clock, overloads(5))
    policies: list[Policy] = [ObservePolicy(heard.append), RetryPolicy(Retry(), announce=heard.append, clock=clock)]
    with pytest.raises(KeyboardInterrupt):
        fold(policies, corridor)(a_call(clock))
    assert len(corridor.calls) == 1
    assert [type(event) for event in heard] == [RetryScheduled, CallEnded]
    assert isinstance(heard[-1], CallEnded)
    assert isinstance(heard[-1].error, Cancelled)


def test_closing_the_client_ends_a_backoff(server: FaultServer) -> None:
    server.always(error(503, headers={"retry-after": "600"}))
    with client_of(server, retry=Retry(), timeout=None) as client:
        future = client.submit("Hi")
        server.wait_until(lambda: len(server.requests) == 1)
        client.close(cancel=True)
        assert isinstance(future.exception(PATIENCE), Cancelled)
    assert len(server.requests) == 1


# What is sent again


def all_the_same(sent: Iterable[Any]) -> bool:
    return len({json.dumps(each, sort_keys=True, default=str) for each in sent}) == 1


@pytest.mark.parametrize("streamed", [False, True], ids=["complete", "stream"])
def test_each_attempt_sends_the_same_request(server: FaultServer, streamed: bool) -> None:  # noqa: FBT001
    server.script(error(503), error(503))
    server.on(lambda _: sse(stream_events(["Hello"])) if streamed else json_reply(completion("Hello")))
    options: dict[str, Any] = {"logit_bias": {"50256": -100}}
    messages = [{"role": "user", "content": "Hi"}]
    tool = {"name": "tide", "description": "d", "parameters": {"type": "object", "properties": {}}}
    before = json.dumps([options, messages, tool])
    with client_of(server, retry=AGAIN) as client:
        ask_for: Callable[..., Any] = client.stream if streamed else client.complete
        reply = ask_for(messages, system="Be brief", tools=[tool], seed=7, stop=["."], options=options)
        for _ in reply if streamed else ():
            pass
    assert len(server.requests) == 3
    assert len({request.body for request in server.requests}) == 1
    assert all_the_same(request.headers.pairs for request in server.requests)
    assert {(request.method, request.path) for request in server.requests} == {("POST", "/v1/chat/completions")}
    assert json.dumps([options, messages, tool]) == before


def test_only_the_number_of_the_attempt_differs_between_calls() -> None:
    clock = ManualClock()
    _, corridor = ask(clock, Retry(), overloads(3))
    first = corridor.calls[0]
    for number, call in enumerate(corridor.calls, 1):
        assert call.attempt == number
        assert (call.request, call.route, call.deadline, call.cancel, call.trace) == (
            first.request, first.route, first.deadline, first.cancel, first.trace,
        )  # fmt: skip
        assert call.request is first.request


def test_calls_that_retry_at_the_same_time_do_not_count_for_each_other(server: FaultServer) -> None:
    """One policy serves all threads, and keeps nothing of any call."""
    seen: dict[str, int] = {}
    lock = threading.Lock()

    def fail_twice(request: Any) -> Any:  # noqa: ANN401
        prompt = request.json["messages"][0]["content"]
        with lock:
            seen[prompt] = seen.get(prompt, 0) + 1
            return error(503) if seen[prompt] < 3 else json_reply(completion(prompt))

    server.on(fail_twice)
    with client_of(server, retry=AGAIN_UNBOUNDED, workers=8) as client:
        outcomes = list(client.map([f"prompt {number}" for number in range(24)], timeout=PATIENCE))
    assert [outcome.unwrap().text for outcome in outcomes] == [f"prompt {number}" for number in range(24)]
    assert {len(outcome.unwrap().attempts) for outcome in outcomes} == {3}


def test_a_silent_server_is_not_asked_again_without_a_reason(server: FaultServer) -> None:
    """The deadline ends the call; what is left of it, nothing, is no time for another attempt."""
    server.always((Stall(),))
    with client_of(server, retry=AGAIN) as client:
        outcome_of(lambda: client.complete("Hi", timeout=0.05))
    assert len(server.requests) == 1
