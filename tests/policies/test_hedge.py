"""A second request for an answer that is late. Over real sockets, apart from what needs a moment that sockets have not.

Servers hold an answer back until the test says so; the time after which a hedge is sent is short, and no test depends
on how short.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import logging
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from journeys.asking import KEY, MODEL, PATIENCE, UNBLOCKED, client_of, finish, outcome_of, program, shortest
from support.corridor import call_of, route_of
from support.fault_server import (
    Action,
    FaultServer,
    Gate,
    Pause,
    RecordedRequest,
    Send,
    Stall,
    Step,
    bytes_of,
    error,
    json_reply,
    sse,
)
from support.openai_wire import completion, stream_events
from tidegate import (
    Breaker,
    CallError,
    Cancelled,
    CancelToken,
    Client,
    Completion,
    ConfigError,
    DeadlineExceeded,
    Hedge,
    Limits,
    Overloaded,
    ProviderUnavailable,
    Retry,
    Stream,
    StreamInterrupted,
    TidegateError,
)
from tidegate.assembly import _is_closed
from tidegate.attempts import Attempt
from tidegate.chat.reply import Chunk, Reply
from tidegate.pipeline.call import Call, Route
from tidegate.pipeline.events import AttemptEnded, CallEnded, Event, HedgeSent
from tidegate.policies.admission import AdmissionPolicy
from tidegate.policies.hedge import HedgePolicy
from tidegate.policies.hedge_budget import ENOUGH, MOST, RESERVE, SAMPLES, HedgeAccount, Times
from tidegate.settings import load_settings
from tidegate.testing import ManualClock

SOON = 0.02
"""Seconds after which a hedge is sent here."""

BOTH_FORMS = pytest.mark.parametrize("streamed", [False, True], ids=["complete", "stream"])


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    """Every hedge's thread ends by itself, whatever became of its call."""
    yield
    no_hedge_thread()


def no_hedge_thread() -> None:
    wait_for(lambda: not any(thread.name == "tidegate-hedge" for thread in threading.enumerate()))


def wait_for(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.002)


@contextlib.contextmanager
def hedged(server: FaultServer, *, in_order: bool = True, **options: Any) -> Iterator[Client]:
    """A client whose route has answered once: until then a route is not asked twice. At its end nothing is in use.

    `in_order`: a hedge is not sent before the request that it stands beside has arrived, however busy the machine is.
    """
    server.script(json_reply(completion("warm")))
    with client_of(server, **{"hedge": Hedge(after=SOON), **options}) as client:
        for policy in hedge_policies(client):  # on a busy machine even this may be late
            policy.may_hedge = lambda _: False
        client.complete("Warm up")
        for policy in hedge_policies(client):
            may_hedge = _is_closed(client._corridor.breaker)
            policy.may_hedge = _after_the_first(server, may_hedge) if in_order else may_hedge
        server.requests.clear()
        yield client
        nothing_in_use(client)


def _after_the_first(server: FaultServer, may_hedge: Callable[[Route], bool]) -> Callable[[Route], bool]:
    arrived = 0

    def wait_for_it(route: Route) -> bool:
        nonlocal arrived
        with contextlib.suppress(TimeoutError):
            server.wait_until(lambda: len(server.requests) > arrived, 1)
        arrived = len(server.requests)
        return may_hedge(route)

    return wait_for_it


def hedge_policies(client: Client) -> list[HedgePolicy]:
    return [policy for policy in client._corridor.policies if isinstance(policy, HedgePolicy)]


def account_of(client: Client) -> HedgeAccount:
    (policy,) = hedge_policies(client)
    (account,) = policy._accounts.values()
    return account


def nothing_in_use(client: Client) -> None:
    wait_for(lambda: not any(status.in_use or status.waiting for status in client.limits().values()))


def _threads_are(kind: type[threading.Thread] | None) -> SimpleNamespace:
    """`threading` with another `Thread`, for the one module that is given it."""
    return SimpleNamespace(**{**vars(threading), "Thread": kind})


def reply_step(text: str, *, streamed: bool, after: threading.Event | None = None) -> Step:
    """An answer, held back until the event is set."""
    held = () if after is None else (Gate(after),)
    return (*held, *(sse(stream_events([text, "!"])) if streamed else json_reply(completion(text + "!"))))


def ask(client: Client, *, streamed: bool, **options: Any) -> Completion:
    """The whole answer, streamed or not."""
    options = {"timeout": PATIENCE, **options}
    if not streamed:
        return client.complete("Hi", **options)
    with client.stream("Hi", **options) as stream:
        text = "".join(chunk.text for chunk in stream)
    assert text == stream.completion.text == stream.text
    return stream.completion


def in_background(work: Callable[[], Any]) -> Future[Any]:
    """The work's outcome, from a thread of its own."""
    future: Future[Any] = Future()
    threading.Thread(target=lambda: future.set_result(outcome_of(work)), daemon=True).start()
    return future


def outcomes_of(answer: Completion | TidegateError) -> list[str]:
    """Of its attempts. On a busy machine the loser's may come after the answer."""
    assert isinstance(answer, Completion | CallError)
    no_hedge_thread()
    return [attempt.outcome for attempt in answer.attempts]


def sent(server: FaultServer, count: int) -> None:
    server.wait_until(lambda: len(server.requests) == count)


# Who wins


@BOTH_FORMS
def test_a_late_answer_is_asked_for_again_and_the_loser_is_cancelled(server: FaultServer, *, streamed: bool) -> None:
    never = threading.Event()
    with hedged(server) as client:
        server.script(reply_step("late", streamed=streamed, after=never), reply_step("quick", streamed=streamed))
        began = time.monotonic()
        answer = ask(client, streamed=streamed)
        lasted = time.monotonic() - began
        server.wait_until(lambda: server.open_connections == 1)  # the winner's is kept
    assert answer.text == "quick!"
    assert outcomes_of(answer) == ["Cancelled", "ok"]
    assert [request.json for request in server.requests] == [server.requests[0].json] * 2
    assert answer.timeline.total == pytest.approx(answer.trace.duration)
    assert answer.timeline.first_token > 0
    assert SOON <= answer.timeline.total <= lasted
    first_token = answer.trace.time_to_first_token
    assert first_token is None if not streamed else first_token is not None and SOON <= first_token <= lasted


@BOTH_FORMS
def test_the_first_request_may_still_win_and_the_hedge_is_cancelled(server: FaultServer, *, streamed: bool) -> None:
    gate = threading.Event()
    with hedged(server) as client:
        server.script(reply_step("first", streamed=streamed, after=gate), (Stall(),))
        waiting = in_background(lambda: ask(client, streamed=streamed))
        sent(server, 2)
        gate.set()
        answer = waiting.result(PATIENCE)
        server.wait_until(lambda: server.open_connections == 1)
    assert answer.text == "first!"
    assert outcomes_of(answer) == ["ok", "Cancelled"]
    assert answer.timeline.total == pytest.approx(answer.trace.duration)


@BOTH_FORMS
def test_an_answer_in_time_costs_neither_a_request_nor_a_thread(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch, *, streamed: bool
) -> None:
    with hedged(server, hedge=Hedge(after=PATIENCE / 3)) as client:
        monkeypatch.setattr("tidegate.policies.hedge_race.threading", _threads_are(None))
        server.on(lambda _: reply_step("quick", streamed=streamed))
        for _ in range(5):
            assert outcomes_of(ask(client, streamed=streamed)) == ["ok"]
        monkeypatch.undo()
    assert len(server.requests) == 5


def test_a_hedge_wins_against_a_request_that_waits_for_the_end_of_its_body(server: FaultServer) -> None:
    """An answer that is not streamed has opened when it is whole."""
    torn = (Send(bytes_of(json_reply(completion("late")))[:-5]), Stall())
    with hedged(server) as client:
        server.script(torn, json_reply(completion("quick")))
        answer = ask(client, streamed=False)
    assert (answer.text, outcomes_of(answer)) == ("quick", ["Cancelled", "ok"])


def test_a_call_that_is_streamed_underneath_is_hedged_too(server: FaultServer) -> None:
    with hedged(server) as client:
        server.script((Stall(),), reply_step("quick", streamed=True))
        answer = ask(client, streamed=False, stall_detection=True)
    assert (answer.text, outcomes_of(answer)) == ("quick!", ["Cancelled", "ok"])


# Failures


@BOTH_FORMS
def test_when_the_first_request_fails_the_hedge_decides(server: FaultServer, *, streamed: bool) -> None:
    fail, go = threading.Event(), threading.Event()
    with hedged(server) as client:
        server.script((Gate(fail), *error(500)), reply_step("second", streamed=streamed, after=go))
        waiting = in_background(lambda: ask(client, streamed=streamed))
        sent(server, 2)
        fail.set()
        time.sleep(0.02)
        assert not waiting.done()
        go.set()
        answer = waiting.result(PATIENCE)
    assert answer.text == "second!"
    assert outcomes_of(answer) == ["ProviderUnavailable", "ok"]
    assert answer.timeline.total == pytest.approx(answer.trace.duration)


@BOTH_FORMS
def test_when_the_hedge_fails_the_first_request_decides(server: FaultServer, *, streamed: bool) -> None:
    go, ended = threading.Event(), threading.Event()

    def hear(event: Event) -> None:
        if isinstance(event, AttemptEnded) and event.error is not None:
            ended.set()

    with hedged(server, listeners=[hear]) as client:
        server.script(reply_step("first", streamed=streamed, after=go), error(503))
        waiting = in_background(lambda: ask(client, streamed=streamed))
        assert ended.wait(PATIENCE)
        go.set()
        answer = waiting.result(PATIENCE)
    assert (answer.text, outcomes_of(answer)) == ("first!", ["ok", "Overloaded"])


@pytest.mark.parametrize("first_to_fail", [0, 1])
def test_when_both_fail_the_error_of_the_first_is_raised(server: FaultServer, first_to_fail: int) -> None:
    gates = threading.Event(), threading.Event()
    with hedged(server) as client:
        server.script((Gate(gates[0]), *error(500)), (Gate(gates[1]), *error(503)))
        waiting = in_background(lambda: ask(client, streamed=False))
        sent(server, 2)
        gates[first_to_fail].set()
        time.sleep(0.02)
        assert not waiting.done()
        gates[1 - first_to_fail].set()
        failure = waiting.result(PATIENCE)
    assert type(failure) is ProviderUnavailable
    assert outcomes_of(failure) == ["ProviderUnavailable", "Overloaded"]


def test_a_retry_follows_when_both_have_failed(server: FaultServer) -> None:
    """And it may be hedged as well."""
    gate, never = threading.Event(), threading.Event()
    with hedged(server, retry=Retry(attempts=2, first=0.001, longest=0.001)) as client:
        server.script((Gate(gate), *error(500)), (Gate(gate), *error(503)))
        server.script(reply_step("late", streamed=False, after=never), json_reply(completion("fine")))
        waiting = in_background(lambda: ask(client, streamed=False))
        sent(server, 2)
        gate.set()
        answer = waiting.result(PATIENCE)
    assert (answer.text, len(server.requests)) == ("fine", 4)
    assert outcomes_of(answer) == ["ProviderUnavailable", "Overloaded", "Cancelled", "ok"]
    assert [attempt.number for attempt in answer.attempts] == [1, 1, 2, 2]
    assert answer.timeline.total == pytest.approx(answer.trace.duration)


def test_a_failure_in_time_is_not_hedged(server: FaultServer) -> None:
    with hedged(server, hedge=Hedge(after=5)) as client:
        server.script(error(500))
        failure = outcome_of(lambda: ask(client, streamed=False))
    assert (type(failure), len(server.requests)) == (ProviderUnavailable, 1)


# Streams that a hedge has won


@contextlib.contextmanager
def won_stream(server: FaultServer, *rest: Action | str, **options: Any) -> Iterator[tuple[Client, Stream]]:
    """A stream that the hedge opened, of which `rest` follows after the first piece."""
    with hedged(server, **options.pop("client", {})) as client:
        server.script((Stall(),), sse([*stream_events(["Hel"], finish=None, usage=None), *rest], done=False))
        stream = client.stream("Hi", timeout=PATIENCE, **options)
        assert next(stream).text == "Hel"
        yield client, stream


def test_a_stream_that_breaks_off_is_interrupted_with_what_it_had(server: FaultServer) -> None:
    with won_stream(server) as (client, stream):
        with pytest.raises(StreamInterrupted) as caught:
            list(stream)
        assert client.metrics().errors == {"StreamInterrupted": 1}
    assert (caught.value.partial, stream.completion.text, stream.completion.complete) == ("Hel", "Hel", "no")
    assert outcomes_of(caught.value) == outcomes_of(stream.completion) == ["Cancelled", "TruncatedStream"]


def test_a_stream_that_breaks_off_may_start_anew(server: FaultServer) -> None:
    options = {"retry": Retry(attempts=2, first=0.001, longest=0.001), "hedge": Hedge(after=0.3)}
    with won_stream(server, recover="restart", client=options) as (_, stream):
        server.script(sse(stream_events(["again"])))
        assert [(chunk.text, chunk.restarted) for chunk in stream if chunk.text] == [("again", True)]
    assert stream.text == stream.completion.text == "again"
    assert outcomes_of(stream.completion) == ["Cancelled", "TruncatedStream", "ok"]


def test_the_time_of_a_stream_that_a_hedge_won_is_told_as_of_any_other(server: FaultServer) -> None:
    with won_stream(server, Pause(0.05), *stream_events(["lo"])[1:]) as (_, stream):
        time.sleep(0.05)  # the program's own time, while which the rest comes
        assert next(stream).text == "lo"
        answer = list(stream)
    timeline = stream.completion.timeline
    assert [chunk.finish_reason for chunk in answer] == ["stop"]
    assert timeline.consumer >= 0.05
    assert timeline.total == pytest.approx(stream.completion.trace.duration)
    with won_stream(server, Pause(0.05), *stream_events(["lo"])[1:]) as (_, stream):
        assert [chunk.text for chunk in stream if chunk.text] == ["lo"]
    assert stream.completion.timeline.stream > 0


def test_T9_closing_a_stream_that_a_hedge_won_ends_its_reader(server: FaultServer) -> None:
    with won_stream(server, Stall()) as (client, stream):
        waiting = in_background(lambda: list(stream))
        time.sleep(0.02)
        stream.close()
        failure = waiting.result(PATIENCE)
        server.wait_until(lambda: server.open_connections == 0)
        assert client.metrics().calls == 2
    assert type(failure) is Cancelled
    assert (failure.partial, stream.completion.text) == ("Hel", "Hel")
    assert outcomes_of(stream.completion) == ["Cancelled", "Cancelled"]


def test_T9_a_token_ends_a_stream_that_a_hedge_won(server: FaultServer) -> None:
    token = CancelToken()
    with won_stream(server, Stall(), cancel=token) as (_, stream):
        waiting = in_background(lambda: list(stream))
        token.cancel()
        assert type(waiting.result(PATIENCE)) is Cancelled
        assert not token._callbacks


def test_a_dropped_stream_that_a_hedge_won_frees_its_connection(server: FaultServer) -> None:
    with hedged(server) as client:
        server.script((Stall(),), sse([*stream_events(["Hel"], finish=None, usage=None), Stall()]))
        stream = client.stream("Hi", timeout=None)
        next(stream)
        del stream
        gc.collect()
        server.wait_until(lambda: server.open_connections == 0)


# When it is sent


def timed(
    policy: HedgePolicy, clock: ManualClock, seconds: float, *, at_the_gate: float = 0.0, streamed: bool = False
) -> None:
    """A call that opens so many seconds after it was sent."""

    def proceed(call: Call) -> Reply:
        clock.advance(at_the_gate)
        assert call.departing is not None
        call.departing()
        clock.advance(seconds)
        return Completion("", "openai", "gpt-4o-mini")

    policy(call_of(clock=clock, streamed=streamed), proceed)


def usual(policy: HedgePolicy, share: float, *, streamed: bool = False) -> float | None:
    return policy._account(route_of()).usual(share, streamed=streamed)


def test_a_percentile_is_known_after_enough_times_and_leaves_the_wait_at_the_gate_out() -> None:
    clock = ManualClock()
    policy = HedgePolicy(Hedge(), clock=clock)
    for number in range(1, ENOUGH + 1):
        assert usual(policy, 0.95) is None
        timed(policy, clock, number, at_the_gate=1_000)
    assert usual(policy, 0.95) == pytest.approx(19)
    assert usual(policy, 0.5) == pytest.approx(10)
    assert usual(policy, 0.99) == pytest.approx(20)


def test_streams_and_whole_answers_have_percentiles_of_their_own() -> None:
    clock = ManualClock()
    policy = HedgePolicy(Hedge(), clock=clock)
    for _ in range(ENOUGH):
        timed(policy, clock, 2, streamed=True)
        timed(policy, clock, 30)
    assert usual(policy, 0.95, streamed=True) == pytest.approx(2)
    assert usual(policy, 0.95) == pytest.approx(30)


def test_only_the_last_times_count() -> None:
    clock = ManualClock()
    policy = HedgePolicy(Hedge(), clock=clock)
    for number in range(3 * SAMPLES):
        timed(policy, clock, 1 + number % 7)
    for _ in range(SAMPLES):
        timed(policy, clock, 0.5)
    times = policy._account(route_of())._times[False]
    assert times.percentile(0.99) == pytest.approx(0.5)
    assert len(times._latest) == len(times._ordered) == SAMPLES


@pytest.mark.parametrize("share", [0.5, 0.9, 0.95, 0.99])
def test_a_percentile_is_a_time_that_so_many_do_not_exceed(share: float) -> None:
    draw = random.Random(7)  # noqa: S311
    times = Times()
    drawn = [draw.expovariate(1) for _ in range(3 * SAMPLES)]
    for seconds in drawn:
        times.add(seconds)
    found = times.percentile(share)
    assert found in drawn[-SAMPLES:]
    assert sum(seconds <= found for seconds in drawn[-SAMPLES:]) == round(share * SAMPLES)


def test_a_request_that_lost_counts_with_the_time_that_it_had_taken(server: FaultServer) -> None:
    """Left out, late answers would seem rarer with each hedge, and hedges come earlier and earlier."""
    with hedged(server) as client:
        server.script((Stall(),), json_reply(completion("quick")))
        ask(client, streamed=False)
        times = list(account_of(client)._times[False]._latest)
    assert len(times) == 2
    assert times[1] >= SOON


def test_a_route_is_hedged_by_its_percentile_once_it_is_known(server: FaultServer) -> None:
    with hedged(server, hedge=Hedge(after="p90")) as client:
        server.on(lambda _: json_reply(completion("quick")))
        for _ in range(ENOUGH - 1):  # and the one that warmed up
            ask(client, streamed=False)
        asked = len(server.requests)
        server.script((Stall(),))
        answer = ask(client, streamed=False)
        gate = threading.Event()  # of a stream nothing is known yet
        server.script(reply_step("late", streamed=True, after=gate))
        waiting = in_background(lambda: ask(client, streamed=True))
        sent(server, asked + 3)
        time.sleep(0.1)
        gate.set()
        assert outcomes_of(waiting.result(PATIENCE)) == ["ok"]
    assert outcomes_of(answer) == ["Cancelled", "ok"]
    assert len(server.requests) == asked + 3


def test_a_route_that_is_not_known_yet_is_not_hedged(server: FaultServer) -> None:
    gate = threading.Event()
    with hedged(server, hedge=Hedge(after="p50")) as client:
        server.script((Gate(gate), *json_reply(completion("late"))))
        waiting = in_background(lambda: ask(client, streamed=False))
        sent(server, 1)
        time.sleep(0.1)
        gate.set()
        assert outcomes_of(waiting.result(PATIENCE)) == ["ok"]
    assert len(server.requests) == 1


# How many


def test_hedges_are_a_share_of_the_calls_and_the_reserve(server: FaultServer) -> None:
    """Every answer is late, so every call would have one."""
    calls, extra = 50, 0.1
    with hedged(server, in_order=False, hedge=Hedge(after=0.002, extra=extra)) as client:
        server.on(lambda _: (Pause(0.02), *json_reply(completion("late"))))
        attempts = [len(ask(client, streamed=False).attempts) for _ in range(calls)]
    allowed = RESERVE + extra * (calls + 1)
    assert RESERVE <= sum(attempts) - calls <= allowed
    assert max(attempts) == 2
    assert calls <= len(server.requests) <= calls + allowed


def test_the_budget_is_kept_by_any_mix_of_calls_and_threads() -> None:
    account = HedgeAccount(0.05)
    calls, threads = 2_000, 8

    def work(seed: int) -> int:
        draw, spent = random.Random(seed), 0  # noqa: S311
        for _ in range(calls):
            account.earn()
            while draw.random() < 0.7 and account.spend(0.0):
                if draw.random() < 0.3:
                    account.give_back(0.0)
                else:
                    spent += 1
        return spent

    with ThreadPoolExecutor(threads) as pool:
        spent = sum(pool.map(work, range(threads)))
    allowed = RESERVE + 0.05 * calls * threads
    assert allowed - MOST <= spent <= allowed + 1e-6


def test_what_is_saved_up_is_bounded() -> None:
    account = HedgeAccount(1.0)
    for _ in range(1_000):
        account.earn()
    assert sum(account.spend(0.0) for _ in range(1_000)) == MOST


def test_after_a_hedge_that_was_not_let_in_none_is_tried_for_a_while() -> None:
    account = HedgeAccount(1.0)
    assert account.spend(10.0)
    account.give_back(12.0)
    assert [account.spend(moment) for moment in (10.0, 11.9, 12.0)] == [False, False, True]


def test_retries_of_a_call_earn_nothing() -> None:
    policy = HedgePolicy(Hedge(extra=1.0))
    account = policy._account(route_of())
    for attempt in (1, 2, 3):
        policy(call_of(attempt=attempt), lambda _: Completion("", "openai", "gpt-4o-mini"))
    assert account._left == RESERVE + 1


# When there is none


def no_hedge(server: FaultServer, client: Client, **options: Any) -> Completion | TidegateError:
    """The outcome of a call that is late and was not hedged."""
    asked, gate = len(server.requests), threading.Event()
    server.script((Gate(gate), *json_reply(completion("late"))))
    waiting = in_background(lambda: ask(client, streamed=False, **options))
    sent(server, asked + 1)
    time.sleep(5 * SOON)
    gate.set()
    outcome: Completion | TidegateError = waiting.result(PATIENCE)
    assert len(server.requests) == asked + 1
    assert len(outcomes_of(outcome)) == 1
    return outcome


@pytest.mark.parametrize("limits", [Limits(concurrent=1), Limits(rpm=2)], ids=str)
def test_a_hedge_that_the_gate_does_not_let_in_at_once_is_not_sent_and_not_paid(
    server: FaultServer, limits: Limits
) -> None:
    events: list[Event] = []
    with hedged(server, limits=limits, listeners=[events.append]) as client:
        no_hedge(server, client)
        no_hedge_thread()
        left = account_of(client)._left
    assert left == pytest.approx(RESERVE + 2 * 0.05)
    assert not any(isinstance(event, HedgeSent) for event in events)


def test_a_hedge_does_not_overtake_those_who_wait(server: FaultServer) -> None:
    """Two are under way and one waits in line when the time of the first is over."""
    gate, late = threading.Event(), threading.Event()
    server.on(lambda _: (Gate(gate), *json_reply(completion("late"))))
    with hedged(server, limits=Limits(concurrent=2)) as client:

        def may_hedge(_: Route) -> bool:
            wait_for(lambda: any(status.waiting for status in client.limits().values()))
            late.set()
            return True

        (policy,) = hedge_policies(client)
        policy.may_hedge = may_hedge
        waiting = [in_background(lambda: ask(client, streamed=False)) for _ in range(3)]
        assert late.wait(PATIENCE)
        time.sleep(2 * SOON)
        gate.set()
        answers = [each.result(PATIENCE) for each in waiting]
    assert [outcomes_of(answer) for answer in answers] == [["ok"]] * 3
    assert len(server.requests) == 3


def test_an_impatient_call_raises_where_another_would_wait() -> None:
    policy = AdmissionPolicy(Limits(concurrent=1))
    inner: list[BaseException] = []

    def proceed(call: Call) -> Reply:
        if call.patient:
            with pytest.raises(CallError, match="nothing was sent") as caught:
                policy(call_of(patient=False), proceed)
            inner.append(caught.value)
        return Completion("", "openai", "gpt-4o-mini")

    policy(call_of(), proceed)
    assert type(inner[0]) is CallError
    assert [status.in_use for status in policy.status().values()] == [0]


def test_a_probe_of_a_circuit_that_is_not_closed_is_not_hedged(server: FaultServer) -> None:
    with hedged(server, breaker=Breaker(failures=1, recovery=0.01, probes=3)) as client:
        server.script(error(500))
        outcome_of(lambda: ask(client, streamed=False))
        time.sleep(0.02)
        no_hedge(server, client)
        assert list(client.circuits().values()) == ["half-open"]


def test_a_hedge_is_not_sent_when_the_deadline_is_near(server: FaultServer) -> None:
    with hedged(server, hedge=Hedge(after=0.15)) as client:
        server.script((Stall(),))
        failure = outcome_of(lambda: ask(client, streamed=False, timeout=0.25))
    assert type(failure) is DeadlineExceeded
    assert len(server.requests) == 1


def test_a_hedge_is_not_sent_when_too_many_were(server: FaultServer) -> None:
    with hedged(server, hedge=Hedge(after=SOON, extra=0.001)) as client:
        server.on(lambda _: json_reply(completion("quick")))
        for _ in range(int(RESERVE)):
            server.script((Stall(),))
            assert outcomes_of(ask(client, streamed=False)) == ["Cancelled", "ok"]
        no_hedge(server, client)


def test_a_hedge_is_not_sent_when_no_thread_can_be_started(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoThread(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    with hedged(server) as client:
        waiting = threading.Event()
        server.script((Gate(waiting), *json_reply(completion("late"))))
        answer = in_background(lambda: ask(client, streamed=False))
        sent(server, 1)
        with monkeypatch.context() as patch:
            patch.setattr("tidegate.policies.hedge_race.threading", _threads_are(NoThread))
            time.sleep(5 * SOON)
        waiting.set()
        assert outcomes_of(answer.result(PATIENCE)) == ["ok"]
        server.script((Stall(),), json_reply(completion("quick")))  # the watchdog lives on
        assert outcomes_of(ask(client, streamed=False)) == ["Cancelled", "ok"]


def test_without_hedge_there_is_none(server: FaultServer) -> None:
    with hedged(server, hedge=None) as client:
        assert "Hedge" not in repr(client)
        no_hedge(server, client)
    with Client(MODEL, api_key=KEY) as client:
        assert "Hedge" not in repr(client)


# Ending both


@BOTH_FORMS
@pytest.mark.parametrize("first_fails", [False, True], ids=["both wait", "only the hedge waits"])
@pytest.mark.parametrize("way", ["token", "close", "deadline"])
def test_T9_both_requests_end_at_once(server: FaultServer, way: str, *, streamed: bool, first_fails: bool) -> None:
    fail, token = threading.Event(), CancelToken()
    timeout = 0.4 if way == "deadline" else None
    events: list[Event] = []
    with hedged(server, listeners=[events.append]) as client:
        server.script((Gate(fail), *error(500)), (Stall(),))
        waiting = in_background(lambda: ask(client, streamed=streamed, cancel=token, timeout=timeout))
        sent(server, 2)
        if first_fails:
            fail.set()
            wait_for(lambda: any(isinstance(event, AttemptEnded) and event.error for event in events))
        if way == "token":
            token.cancel()
        elif way == "close":
            client.close(cancel=True)
        failure = waiting.result(PATIENCE)
        kept = first_fails and way != "close"  # the connection of a request that was refused serves another
        server.wait_until(lambda: server.open_connections == kept)
        nothing_in_use(client)
        assert not token._callbacks
        assert not client._stopping._callbacks
    ended = "DeadlineExceeded" if way == "deadline" else "Cancelled"
    no_hedge_thread()
    (call,) = [event.call for event in events if isinstance(event, CallEnded) and event.error is failure]
    outcomes = [attempt.outcome for attempt in call.trace.attempts]
    assert outcomes[0] == ("ProviderUnavailable" if first_fails else ended)
    assert outcomes[1] in (ended, "Cancelled")  # the call itself may be a moment before the hedge
    assert len(outcomes) == 2
    assert type(failure).__name__ == ("ProviderUnavailable" if first_fails and way == "deadline" else ended)


@pytest.mark.slow
@pytest.mark.parametrize("first_fails", [False, True], ids=["both wait", "only the hedge waits"])
def test_T9_a_race_is_cancelled_within_50_ms(server: FaultServer, *, first_fails: bool) -> None:
    """From `cancel()` to the moment at which the blocked thread has its error, best of three."""
    with hedged(server) as client:

        def measure() -> float:
            token, fail, asked = CancelToken(), threading.Event(), len(server.requests)
            server.script((Gate(fail), *error(500)), (Stall(),))
            left = in_background(lambda: (outcome_of(lambda: client.complete("Hi", cancel=token)), time.monotonic())[1])
            sent(server, asked + 2)
            if first_fails:
                fail.set()
            time.sleep(0.05)
            began = time.monotonic()
            token.cancel()
            return float(left.result(PATIENCE)) - began

        assert shortest(measure, UNBLOCKED) <= UNBLOCKED


@pytest.mark.parametrize("first_fails", [False, True], ids=["both wait", "only the hedge waits"])
def test_T9_ctrl_c_ends_both_requests(server: FaultServer, *, first_fails: bool) -> None:
    fail = threading.Event()
    events: list[Event] = []

    def interrupt(_: object) -> None:
        if first_fails:
            fail.set()
            wait_for(lambda: any(isinstance(event, AttemptEnded) and event.error for event in events))
        os.kill(os.getpid(), signal.SIGINT)

    with hedged(server, listeners=[events.append]) as client:
        server.script((Gate(fail), *error(500)), (interrupt, Stall()))
        with pytest.raises(KeyboardInterrupt):
            client.complete("Hi", timeout=PATIENCE)
        server.wait_until(lambda: server.open_connections == first_fails)
        assert client.metrics().calls == 2
    no_hedge_thread()
    outcomes = sorted(event.attempt.outcome for event in events if isinstance(event, AttemptEnded))
    assert outcomes == sorted(["ok", "ProviderUnavailable" if first_fails else "Cancelled", "Cancelled"])


def test_T9_ctrl_c_in_a_hedge_that_is_just_being_sent_ends_it(server: FaultServer) -> None:
    """The moment between the two requests: a listener hears of the hedge before it leaves."""

    def hear(event: Event) -> None:
        if isinstance(event, HedgeSent):
            os.kill(os.getpid(), signal.SIGINT)

    with hedged(server, listeners=[hear]) as client:
        server.script((Stall(),), (Stall(),))
        with pytest.raises(KeyboardInterrupt):
            client.complete("Hi", timeout=PATIENCE)
        server.wait_until(lambda: server.open_connections == 0)


# Moments that sockets do not have


class Inner:
    """What comes after the policy, told by the test: the first leg and the hedge are functions of their call."""

    def __init__(self, first: Callable[[Call], Reply], hedge: Callable[[Call], Reply]) -> None:
        self._first = first
        self._hedge = hedge

    def __call__(self, call: Call) -> Reply:
        assert call.departing is not None
        call.departing()
        outcome: Reply | None = None
        try:
            outcome = self._first(call) if call.patient else self._hedge(call)
        finally:
            state = "ok" if outcome is not None else "failed"
            call.trace.attempts.append(Attempt(1, "openai", "first" if call.patient else "hedge", 0.0, state))
        return outcome


class Endless:
    """The source of a stream that says when it is closed."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def next_chunk(self) -> Chunk | None:
        return Chunk("x", 0, 0.0)

    def close(self) -> None:
        self.closed.set()

    def completion(self, *, interrupted: bool) -> Completion:
        return dataclasses.replace(ANSWER, interrupted=interrupted)


ANSWER = Completion("answer", "openai", "gpt-4o-mini")


def until_cancelled(call: Call) -> None:
    assert call.cancel.event.wait(PATIENCE)


def test_a_first_leg_that_opens_a_moment_too_late_is_closed() -> None:
    """It is cancelled, and opens all the same."""
    late = Endless()
    kept = Stream(late)

    def first(call: Call) -> Reply:
        until_cancelled(call)
        return kept

    reply = HedgePolicy(Hedge(after=0.001))(call_of(), Inner(first, lambda _: ANSWER))
    assert isinstance(reply, Completion)
    assert reply.text == "answer"
    assert late.closed.is_set()
    assert [attempt.model for attempt in reply.attempts] == ["first", "hedge"]


def test_a_hedge_that_opens_a_moment_too_late_is_closed() -> None:
    late, under_way = Endless(), threading.Event()
    kept = Stream(late)  # a dropped one would be closed anyway

    def first(_: Call) -> Reply:
        assert under_way.wait(PATIENCE)
        return ANSWER

    def hedge(call: Call) -> Reply:
        under_way.set()
        until_cancelled(call)
        return kept

    reply = HedgePolicy(Hedge(after=0.001))(call_of(), Inner(first, hedge))
    assert reply is ANSWER
    assert late.closed.wait(PATIENCE)


def test_a_loser_that_is_slow_to_end_is_recorded_when_it_has() -> None:
    """The answer does not wait for it."""
    under_way, leave = threading.Event(), threading.Event()

    def first(_: Call) -> Reply:
        assert under_way.wait(PATIENCE)
        return ANSWER

    def hedge(_: Call) -> Reply:
        under_way.set()
        assert leave.wait(PATIENCE)
        raise Overloaded("no capacity")

    call = call_of()
    assert HedgePolicy(Hedge(after=0.001))(call, Inner(first, hedge)) is ANSWER
    assert [attempt.model for attempt in call.trace.attempts] == ["first"]
    leave.set()
    wait_for(lambda: len(call.trace.attempts) == 2)
    assert [attempt.model for attempt in call.trace.attempts] == ["first", "hedge"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_hedge_that_breaks_in_a_way_of_its_own_leaves_the_call_to_the_first_leg() -> None:
    """A mistake in the program's own code is shown where Python shows those of threads."""
    broken = threading.Event()

    def first(_: Call) -> Reply:
        assert broken.wait(PATIENCE)
        return ANSWER

    def hedge(_: Call) -> Reply:
        broken.set()
        raise ZeroDivisionError

    call = call_of()
    assert HedgePolicy(Hedge(after=0.001))(call, Inner(first, hedge)) is ANSWER
    assert not call.cancel._callbacks


def test_an_interrupt_while_the_hedge_opens_closes_its_stream() -> None:
    opened = Endless()

    def first(call: Call) -> Reply:
        until_cancelled(call)  # by the hedge, which has opened
        raise KeyboardInterrupt

    call = call_of()
    with pytest.raises(KeyboardInterrupt):
        HedgePolicy(Hedge(after=0.001))(call, Inner(first, lambda _: Stream(opened)))
    assert opened.closed.is_set()
    assert not call.cancel._callbacks


# Many at once


def test_after_a_storm_of_calls_nothing_is_left(server: FaultServer) -> None:
    """16 threads, streams and whole answers, late ones, failures, cancellations and closes: all places are free."""
    draw = random.Random(11)  # noqa: S311

    def answer(request: RecordedRequest) -> Step:
        drawn = draw.random()
        if drawn < 0.05:
            return error(503)
        reply = reply_step("answer", streamed=bool(request.json.get("stream")))
        return (Pause(0.04), *reply) if drawn < 0.4 else (Pause(0.003), *reply)

    server.on(answer)
    events: list[Event] = []

    def work(client: Client, number: int) -> Completion | TidegateError:
        token = CancelToken()
        if number % 7 == 0:
            threading.Timer(0.01 * draw.random(), token.cancel).start()
        if number % 11 == 0:
            return outcome_of(lambda: _read_a_bit(client, token))
        return outcome_of(lambda: ask(client, streamed=number % 2 == 0, cancel=token))

    with hedged(server, in_order=False, hedge=Hedge(after=0.01, extra=1.0), listeners=[events.append]) as client:
        with ThreadPoolExecutor(16) as pool:
            outcomes = list(pool.map(lambda number: work(client, number), range(400)))
        nothing_in_use(client)
        calls = [event for event in events if isinstance(event, CallEnded)]
        attempts = [event for event in events if isinstance(event, AttemptEnded)]
        hedges = [event for event in events if isinstance(event, HedgeSent)]
        assert len(calls) == 401
        wait_for(lambda: sum(len(call.call.trace.attempts) for call in calls) == len(attempts))  # a loser may be later
    assert len(hedges) > 20
    assert sum(isinstance(outcome, Completion) for outcome in outcomes) > 200
    for outcome in outcomes:
        assert isinstance(outcome, Completion | Cancelled | Overloaded), outcome
        if isinstance(outcome, Completion):
            assert outcome.text in ("answer!", "answer")
            assert outcome.timeline.total == pytest.approx(outcome.trace.duration)


def _read_a_bit(client: Client, token: CancelToken) -> Completion:
    with client.stream("Hi", timeout=PATIENCE, cancel=token) as stream:
        next(stream)
    return stream.completion


def test_T10_a_forked_child_hedges_as_well(server: FaultServer) -> None:
    code = f"""
import os, sys, tidegate
client = tidegate.Client({MODEL!r}, base_url=sys.argv[1], api_key="k", hedge=tidegate.Hedge(after=0.02), timeout=20)
def late():
    return sorted(attempt.outcome for attempt in client.complete("late").attempts)
client.complete("quick")
print(late(), flush=True)
child = os.fork()
if child == 0:
    client.complete("quick")
    print(late(), flush=True)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
client.close()
"""
    seen: list[str] = []

    def answer(request: RecordedRequest) -> Step:
        prompt = str(request.json["messages"][-1]["content"])
        seen.append(prompt)
        return (Stall(),) if prompt == "late" and seen.count("late") % 2 else json_reply(completion(prompt))

    server.on(answer)
    with program(code, server.base_url) as running:
        code_, out, err = finish(running)
    assert (code_, out, err) == (0, "['Cancelled', 'ok']\n['Cancelled', 'ok']\n0\n", "")


# What is told


def test_a_hedge_is_an_event_and_a_line_in_the_log(server: FaultServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tidegate")
    events: list[Event] = []
    with hedged(server, listeners=[events.append]) as client:
        events.clear()
        server.script((Stall(),), json_reply(completion("quick")))
        ask(client, streamed=False)
        assert [type(event).__name__ for event in events] == ["HedgeSent", "AttemptEnded", "AttemptEnded", "CallEnded"]
        assert client.metrics().attempts == 3
    (hedge,) = [event for event in events if isinstance(event, HedgeSent)]
    assert hedge.after >= SOON
    (record,) = caplog.records
    assert (record.levelname, record.__dict__["tidegate_call"]) == ("INFO", hedge.call.id)
    assert "openai/gpt-4o-mini has not answered within 0." in record.getMessage()
    assert {event.call.id for event in events if isinstance(event, AttemptEnded | CallEnded)} == {hedge.call.id}


# What can be said


NO_AFTER: list[object] = ["p49", "p100", "p5", "p", "P95", "p9\N{ARABIC-INDIC DIGIT FIVE}", "soon", "", 0, -1]
NO_AFTER += [float("nan"), float("inf"), "inf", 10**400, True, None, ["p95"]]
AFTER_SAYS = r"`Hedge\(after=…\)`: a percentile from \"p50\" to \"p99\", or a number of seconds above 0"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        *(({"after": after}, AFTER_SAYS) for after in NO_AFTER),
        ({"extra": 0}, r"`Hedge\(extra=…\)`: .*greater than 0.*`hedge=None`"),
        ({"extra": -0.1}, r"`Hedge\(extra=…\)`"),
        ({"extra": 1.1}, r"`Hedge\(extra=…\)`"),
        ({"extra": float("nan")}, r"`Hedge\(extra=…\)`"),
        ({"extra": "much"}, r"`Hedge\(extra=…\)`"),
        ({"afer": "p95"}, "`Hedge` has no option `afer`; did you mean `after`"),
    ],
)
def test_a_wrong_option_is_named(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=f"^{says}"):
        Hedge(**wrong)
    with pytest.raises(ConfigError, match=rf"`Client\(hedge=…\)`: {says}"):
        load_settings({"hedge": wrong}, environ={})


@pytest.mark.parametrize("wrong", ["p95", 0.5, True])
def test_a_hedge_that_is_no_options_is_refused(wrong: object) -> None:
    with pytest.raises(ConfigError, match=r"`Client\(hedge=…\)`"):
        Client(MODEL, api_key=KEY, hedge=wrong)  # type: ignore[arg-type]


def test_the_options_may_stand_in_the_environment() -> None:
    settings = load_settings({}, environ={"TIDEGATE_HEDGE__AFTER": "0.5", "TIDEGATE_HEDGE__EXTRA": "0.02"})
    assert settings.hedge == Hedge(after=0.5, extra=0.02)
    assert load_settings({}, environ={"TIDEGATE_HEDGE__AFTER": "p90"}).hedge == Hedge(after="p90")
    assert load_settings({"hedge": None}, environ={"TIDEGATE_HEDGE__AFTER": "p90"}).hedge is None
    assert load_settings({}, environ={}).hedge is None


def test_the_defaults_are_the_95th_percentile_and_a_twentieth() -> None:
    assert (Hedge().after, Hedge().share, Hedge().extra) == ("p95", 0.95, 0.05)
    assert Hedge(after=2).share is None
