"""What a program is told of each attempt and each call, and what `metrics()` makes of it."""

from __future__ import annotations

import dataclasses
import gc
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from journeys.asking import PATIENCE, client_of, outcome_of
from support.fault_server import FaultServer, Reset, Stall, Step, error, json_reply, sse, stall_before_headers
from support.openai_wire import completion, stream_events
from tidegate import (
    AuthenticationFailed,
    CallError,
    Cancelled,
    CancelToken,
    Client,
    Completion,
    ConfigError,
    DeadlineExceeded,
    Overloaded,
    Retry,
    StreamInterrupted,
)
from tidegate.chat.reply import Ending, Reply
from tidegate.chat.request import ChatRequest
from tidegate.chat.timeline import Trace
from tidegate.chat.usage import Usage
from tidegate.clock import Deadline
from tidegate.pipeline.call import Call, Route
from tidegate.pipeline.events import AttemptEnded, CallEnded, Event, RetryScheduled
from tidegate.policies.observe import ObservePolicy
from tidegate.testing import ManualClock

AGAIN = Retry(attempts=3, first=0.001, longest=0.001)
HELLO = json_reply(completion("Hello"))


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


def half(*pieces: str) -> list[str]:
    """The events of an answer whose end is still to come."""
    return stream_events(pieces, finish=None, usage=None)


def shape(events: list[Any]) -> list[str]:
    """Each event in a word or two: what ended, and how."""
    said = []
    for event in events:
        match event:
            case AttemptEnded():
                said.append(f"attempt {event.attempt.number} {event.attempt.outcome}")
            case RetryScheduled():
                said.append(f"retry after {type(event.error).__name__}")
            case CallEnded():
                said.append(f"call {'ok' if event.error is None else type(event.error).__name__}")
    return said


def read(client: Client, **options: Any) -> str:
    return "".join(piece.text for piece in client.stream("Hi", timeout=PATIENCE, **options))


def complete(client: Client) -> Completion:
    return client.complete("Hi", timeout=PATIENCE)


def watched(client: Client) -> Completion:
    return client.complete("Hi", timeout=PATIENCE, stall_detection=True)


def restarted(client: Client) -> str:
    return read(client, recover="restart")


def closed_early(client: Client) -> None:
    with client.stream("Hi", timeout=PATIENCE) as answer:
        next(answer)


def closed_unread(client: Client) -> None:
    client.stream("Hi", timeout=PATIENCE).close()


def dropped(client: Client) -> None:
    next(client.stream("Hi", timeout=PATIENCE))
    gc.collect()


def submitted(client: Client) -> Completion:
    return client.submit("Hi", timeout=PATIENCE).result(PATIENCE)


def mapped(client: Client) -> list[Completion]:
    return [outcome.unwrap() for outcome in client.map(["Hi"], timeout=PATIENCE)]


def cancelled_before(client: Client) -> Completion:
    token = CancelToken()
    token.cancel()
    return client.complete("Hi", cancel=token)


STREAMED = sse(stream_events(["Hel", "lo"]))
TORN = sse([*half("Hel"), Reset()])
SILENT = sse([*half("Hel"), Stall()])

STORIES: dict[str, tuple[Callable[[Client], object], list[Step], list[str]]] = {
    "success": (complete, [HELLO], ["attempt 1 ok", "call ok"]),
    "success of a stream": (read, [STREAMED], ["attempt 1 ok", "call ok"]),
    "success of a watched call": (watched, [STREAMED], ["attempt 1 ok", "call ok"]),
    "submit": (submitted, [HELLO], ["attempt 1 ok", "call ok"]),
    "map": (mapped, [HELLO], ["attempt 1 ok", "call ok"]),
    "retry": (
        complete,
        [error(503), error(429, "rate_limit_error"), HELLO],
        ["attempt 1 Overloaded", "retry after Overloaded", "attempt 2 RateLimited", "retry after RateLimited",
         "attempt 3 ok", "call ok"],
    ),
    "retry of a stream": (
        read,
        [error(503), STREAMED],
        ["attempt 1 Overloaded", "retry after Overloaded", "attempt 2 ok", "call ok"],
    ),
    "failure": (
        complete,
        [error(401, "authentication_error")],
        ["attempt 1 AuthenticationFailed", "call AuthenticationFailed"],
    ),
    "failure after all attempts": (
        complete,
        [error(503), error(503), error(503)],
        ["attempt 1 Overloaded", "retry after Overloaded", "attempt 2 Overloaded", "retry after Overloaded",
         "attempt 3 Overloaded", "call Overloaded"],
    ),
    "a stream that breaks off": (read, [TORN], ["attempt 1 ConnectionLost", "call StreamInterrupted"]),
    "a stream that restarts": (
        restarted,
        [TORN, STREAMED],
        ["attempt 1 ConnectionLost", "retry after StreamInterrupted", "attempt 2 ok", "call ok"],
    ),
    "a stream closed early": (closed_early, [SILENT], ["attempt 1 Cancelled", "call Cancelled"]),
    "a stream closed unread": (closed_unread, [SILENT], ["attempt 1 Cancelled", "call Cancelled"]),
    "cancelled before it began": (cancelled_before, [], ["attempt 1 Cancelled", "call Cancelled"]),
}  # fmt: skip


@pytest.mark.parametrize(("work", "steps", "told"), STORIES.values(), ids=STORIES)
def test_each_attempt_and_each_call_is_told_once_and_in_order(
    server: FaultServer, work: Callable[[Client], object], steps: list[Step], told: list[str]
) -> None:
    heard: list[Any] = []
    server.script(*steps)
    with client_of(server, retry=AGAIN, listeners=[heard.append]) as client:
        outcome_of(lambda: work(client))
        assert shape(heard) == told
        metrics = client.metrics()
    assert shape(heard) == told  # closing the client adds nothing
    assert metrics.calls == 1
    assert metrics.attempts == sum(word.startswith("attempt") for word in told)
    assert metrics.failures == (told[-1] != "call ok")
    assert metrics.errors == ({} if told[-1] == "call ok" else {told[-1].removeprefix("call "): 1})
    assert len({id(event.call.trace) for event in heard}) == 1
    assert len({event.call.id for event in heard}) == 1


def test_a_dropped_stream_is_told_of_too(server: FaultServer) -> None:
    heard: list[Any] = []
    server.script(SILENT)
    with client_of(server, listeners=[heard.append]) as client:
        dropped(client)
        server.wait_until(lambda: len(heard) == 2)
    assert shape(heard) == ["attempt 1 Cancelled", "call Cancelled"]


def test_a_call_cancelled_from_another_thread_is_told_as_cancelled(server: FaultServer) -> None:
    heard: list[Any] = []
    token = CancelToken()
    server.always(stall_before_headers())
    with client_of(server, retry=AGAIN, listeners=[heard.append]) as client:
        future = client.submit("Hi", cancel=token, timeout=PATIENCE)
        server.wait_until(lambda: len(server.requests) == 1)
        token.cancel()
        assert isinstance(future.exception(PATIENCE), Cancelled)
    assert shape(heard) == ["attempt 1 Cancelled", "call Cancelled"]


def test_a_call_that_runs_out_of_time_is_told_as_such(server: FaultServer) -> None:
    heard: list[Any] = []
    server.always(stall_before_headers())
    with client_of(server, retry=AGAIN, listeners=[heard.append]) as client:
        assert isinstance(outcome_of(lambda: client.complete("Hi", timeout=0.03)), DeadlineExceeded)
    assert shape(heard) == ["attempt 1 DeadlineExceeded", "call DeadlineExceeded"]


def test_what_never_became_a_call_is_not_told(server: FaultServer) -> None:
    heard: list[Any] = []
    with client_of(server, listeners=[heard.append]) as client:
        with pytest.raises(ConfigError):
            client.complete("Hi", temperature=9)
        assert client.metrics().calls == 0
    assert heard == []


def test_events_are_frozen(server: FaultServer) -> None:
    heard: list[Any] = []
    server.script(error(503), HELLO)
    with client_of(server, retry=AGAIN, listeners=[heard.append]) as client:
        client.complete("Hi")
    assert {type(event) for event in heard} == {AttemptEnded, RetryScheduled, CallEnded}
    for event in heard:
        for name in (field.name for field in dataclasses.fields(event)):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(event, name, None)
        with pytest.raises(dataclasses.FrozenInstanceError):
            event.call.id = "another"
    ended = heard[0]
    assert isinstance(ended, AttemptEnded)
    with pytest.raises(dataclasses.FrozenInstanceError):
        ended.attempt.outcome = "ok"  # type: ignore[misc]


def test_the_end_of_a_call_carries_what_the_caller_gets(server: FaultServer) -> None:
    heard: list[Any] = []
    server.script(HELLO, error(401))
    with client_of(server, listeners=[heard.append]) as client:
        done = client.complete("Hi")
        failure = outcome_of(lambda: client.complete("Hi"))
    ends = [event for event in heard if isinstance(event, CallEnded)]
    assert ends[0].completion is done
    assert ends[0].error is None
    assert ends[1].completion is None
    assert ends[1].error is failure


def test_the_end_of_a_broken_stream_carries_what_there_was_of_it(server: FaultServer) -> None:
    heard: list[Any] = []
    server.script(TORN)
    with client_of(server, listeners=[heard.append]) as client:
        failure = outcome_of(lambda: read(client))
    end = heard[-1]
    assert isinstance(end, CallEnded)
    assert isinstance(failure, StreamInterrupted)
    assert end.error is failure
    assert end.completion is not None
    assert (end.completion.text, end.completion.interrupted) == ("Hel", True)
    assert isinstance(heard[0], AttemptEnded)
    assert failure.attempts == (heard[0].attempt,)


def test_the_delay_of_a_retry_is_what_was_waited(server: FaultServer) -> None:
    heard: list[Any] = []
    server.script(error(503, headers={"retry-after-ms": "20"}), HELLO)
    with client_of(server, retry=AGAIN, listeners=[heard.append]) as client:
        done = client.complete("Hi", timeout=PATIENCE)
    (scheduled,) = [event for event in heard if isinstance(event, RetryScheduled)]
    assert isinstance(scheduled.error, Overloaded)
    assert 0.02 <= scheduled.delay <= done.timeline.backoff + 0.001


# Listeners that fail


class Broken:
    """Raises on each event."""

    def __init__(self, problem: Exception) -> None:
        self.heard: list[Any] = []
        self._problem = problem

    def __call__(self, event: Event) -> None:
        self.heard.append(event)
        raise self._problem


LISTENER_PROBLEMS = [
    RuntimeError("listener"),
    KeyError("k"),
    RecursionError(),
    MemoryError(),
    AuthenticationFailed("no"),
]


@pytest.mark.parametrize("problem", LISTENER_PROBLEMS, ids=[type(each).__name__ for each in LISTENER_PROBLEMS])
@pytest.mark.parametrize("work", [complete, read, watched, submitted, mapped])
def test_a_broken_listener_costs_no_answer(
    server: FaultServer, work: Callable[[Client], object], problem: Exception
) -> None:
    """Not even when it raises an error of ours, which a policy outside might take for the call's."""
    broken, heard = Broken(problem), list[Any]()
    server.script(error(503), HELLO if work in (complete, submitted, mapped) else STREAMED)
    with client_of(server, retry=AGAIN, listeners=[broken, heard.append]) as client:
        outcome = outcome_of(lambda: work(client))
        assert not isinstance(outcome, Exception)
        assert client.metrics().calls == 1
    assert shape(broken.heard) == shape(heard)
    assert shape(heard)[-1] == "call ok"


def test_a_broken_listener_is_reported_once_for_each_event(
    server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    """With its traceback, by the name of the event, as a warning."""
    server.script(HELLO)
    with client_of(server, listeners=[Broken(RuntimeError("its own words"))]) as client:
        client.complete("Hi")
    records = [record for record in caplog.records if "a listener failed" in record.getMessage()]
    assert [record.getMessage().rsplit(maxsplit=1)[-1] for record in records] == ["AttemptEnded", "CallEnded"]
    assert {record.levelno for record in records} == {logging.WARNING}
    assert all(record.exc_info and "its own words" in str(record.exc_info[1]) for record in records)


def test_a_broken_listener_hides_no_failure(server: FaultServer) -> None:
    server.always(error(401, "authentication_error"))
    with client_of(server, listeners=[Broken(RuntimeError("listener"))]) as client:
        assert isinstance(outcome_of(lambda: client.complete("Hi")), AuthenticationFailed)


def test_a_listener_may_use_the_client(server: FaultServer) -> None:
    """No lock is held while listeners are told."""
    calls: list[int] = []
    server.always(HELLO)

    def count(event: Event) -> None:
        calls.append(client.metrics().calls)
        if isinstance(event, CallEnded) and len(calls) == 2:
            client.complete("From a listener")

    with client_of(server, listeners=[count]) as client:
        client.complete("Hi")
        assert client.metrics().calls == 2
    assert calls == [0, 1, 1, 2]


# Figures


def test_the_figures_are_the_sums_of_the_events(server: FaultServer) -> None:
    heard: list[Any] = []
    server.script(
        HELLO, error(503), HELLO, error(401), error(503), error(503), error(503), STREAMED, TORN, SILENT,
    )  # fmt: skip
    works: list[Callable[[Client], object]] = [complete, complete, complete, complete, read, read, closed_early]
    with client_of(server, retry=AGAIN, listeners=[heard.append]) as client:
        for work in works:
            outcome_of(lambda work=work: work(client))  # type: ignore[misc]
        metrics = client.metrics()
    ends = [event for event in heard if isinstance(event, CallEnded)]
    errors = [type(event.error).__name__ for event in ends if event.error is not None]
    usages = [event.completion.usage for event in ends if event.completion and event.completion.usage]
    assert (metrics.calls, metrics.failures) == (len(ends), len(errors)) == (7, 4)
    assert metrics.errors == {name: errors.count(name) for name in errors}
    assert metrics.attempts == sum(isinstance(event, AttemptEnded) for event in heard) == len(server.requests)
    assert metrics.input_tokens == sum(usage.input_tokens for usage in usages)
    assert metrics.output_tokens == sum(usage.output_tokens for usage in usages)
    assert [usage for usage in usages if not usage.estimated] == [Usage(5, 7)] * 3
    assert metrics.failure_rate == 4 / 7
    assert metrics.first_token_p50 is not None


# The policy alone


def a_call(clock: ManualClock) -> Call:
    return Call(
        id="test-1",
        request=ChatRequest.build("Hi"),
        route=Route("openai", "gpt-4o-mini"),
        deadline=Deadline.after(None, clock),
        cancel=CancelToken(),
        trace=Trace(clock.monotonic),
    )


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, ZeroDivisionError])
def test_whatever_else_ends_a_call_passes_and_is_told_once(stop: type[BaseException]) -> None:
    """A program must be able to tell how many calls there were, also when its user pressed Ctrl-C in one."""
    heard: list[Any] = []

    def stopped(_: Call) -> Reply:
        raise stop

    with pytest.raises(stop):
        ObservePolicy(heard.append)(a_call(ManualClock()), stopped)
    (end,) = heard
    assert isinstance(end, CallEnded)
    assert isinstance(end.error, Cancelled)
    assert stop.__name__ in str(end.error)


def test_ctrl_c_in_an_attempt_is_told_of_as_an_attempt(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request had left: the figures must not say that nothing was asked."""
    heard: list[Any] = []
    server.always(HELLO)
    with client_of(server, retry=AGAIN, listeners=[heard.append]) as client:

        def interrupted(*_args: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("tidegate.transport.response.Response.read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.complete("Hi")
        assert client.metrics().attempts == len(server.requests) == 1
    assert shape(heard) == ["attempt 1 Cancelled", "call Cancelled"]


def test_the_watch_of_a_call_is_stopped_when_it_is_told(server: FaultServer) -> None:
    """A listener that reads the duration later reads the same."""
    clock = ManualClock()
    heard: list[Any] = []

    def fail(call: Call) -> Reply:
        clock.advance(3)
        raise Overloaded("no capacity")

    with pytest.raises(CallError):
        ObservePolicy(heard.append)(a_call(clock), fail)
    clock.advance(100)
    assert heard[0].call.trace.duration == 3
    assert heard[0].call.trace.timeline().total == 3


def test_who_hears_that_a_stream_is_done_finds_its_call_in_the_figures(server: FaultServer) -> None:
    order: list[str] = []
    server.script(STREAMED)

    def listen(event: Event) -> None:
        order.append(type(event).__name__)

    with client_of(server, listeners=[listen]) as client:
        answer = client.stream("Hi", timeout=PATIENCE)

        def done(_: Ending) -> None:
            order.append(f"done, {client.metrics().calls} call")

        answer.when_done(done)
        list(answer)
    assert order == ["AttemptEnded", "CallEnded", "done, 1 call"]
