"""T9: a call that is cancelled, closed, interrupted or dropped lets go at once, and of its connection too."""

from __future__ import annotations

import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest

from journeys.asking import KEY, MODEL, PATIENCE, UNBLOCKED, client_of, finish, outcome_of, program, shortest
from support.fault_server import (
    FaultServer,
    Gate,
    Repeat,
    Send,
    Stall,
    Step,
    accept_and_never_answer,
    blackhole,
    error,
    head,
    http_chunk,
    json_reply,
    keepalive_comments,
    sse,
    stall_before_headers,
)
from support.openai_wire import completion, stream_events
from tidegate import (
    Cancelled,
    CancelToken,
    Client,
    Retry,
    Stream,
    StreamInterrupted,
    TidegateError,
    Timeouts,
)

Answer = "Future[Completion | TidegateError]"

JSON_TYPE = {"content-type": "application/json"}


def half(*pieces: str) -> list[str]:
    """The events of an answer whose end is still to come."""
    return stream_events(pieces, finish=None, usage=None)


HALF_THEN_SILENCE: Step = sse([*half("Hel"), Stall()])

BLOCKERS: dict[str, Step] = {
    "before headers": stall_before_headers(),
    "in headers": (Send(b"HTTP/1.1 200 OK\r\n"), Stall()),
    "in a body": (Send(head(200, {**JSON_TYPE, "content-length": "100"}) + b"{"), Stall()),
    "in a chunked body": (Send(head(200, {**JSON_TYPE, "transfer-encoding": "chunked"}) + http_chunk(b"{")), Stall()),
    "in an error's body": (Send(head(500, {**JSON_TYPE, "content-length": "100"}) + b"{"), Stall()),
    "beside bytes that drip": (Send(head(200, {**JSON_TYPE, "content-length": "9999"})), Repeat(b" ", 0.005)),
}
"""Where a plain call can be waiting when it is cancelled."""


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


def in_background(work: Callable[[], Any]) -> Future[Any]:
    """The work's outcome, from a thread of its own."""
    future: Future[Any] = Future()
    threading.Thread(target=lambda: future.set_result(outcome_of(work)), daemon=True).start()
    return future


def next_text(stream: Stream) -> str | None:
    """The next piece's text; None at the end (`StopIteration` must not pass through a future)."""
    piece = next(stream, None)
    return None if piece is None else piece.text


def connections_ended(server: FaultServer) -> None:
    server.wait_until(lambda: server.open_connections == 0)


# A token


@pytest.mark.parametrize("step", BLOCKERS.values(), ids=BLOCKERS)
@pytest.mark.parametrize("watched", [False, True], ids=["plain", "stall_detection"])
def test_T9_cancel_ends_a_call_that_waits(server: FaultServer, step: Step, watched: bool) -> None:  # noqa: FBT001
    server.always(step)
    token = CancelToken()
    with client_of(server, retry=Retry()) as client:
        waiting = in_background(lambda: client.complete("Hi", timeout=PATIENCE, cancel=token, stall_detection=watched))
        server.wait_until(lambda: len(server.requests) == 1)
        token.cancel()
        failure = waiting.result(PATIENCE)
        assert type(failure) is Cancelled
        connections_ended(server)
    assert [attempt.outcome for attempt in failure.attempts] == ["Cancelled"]
    assert len(server.requests) == 1


@pytest.mark.slow
@pytest.mark.parametrize("step", [*BLOCKERS.values(), HALF_THEN_SILENCE], ids=[*BLOCKERS, "in a stream"])
def test_T9_cancel_unblocks_within_50_ms(server: FaultServer, step: Step) -> None:
    """From `cancel()` to the moment at which the blocked thread has its error, best of three."""
    server.always(step)
    with client_of(server) as client:

        def measure() -> float:
            token, sent = CancelToken(), len(server.requests)
            waiting = in_background(lambda: _left_at(lambda: list(client.stream("Hi", timeout=PATIENCE, cancel=token))))
            server.wait_until(lambda: len(server.requests) == sent + 1)
            threading.Event().wait(0.05)  # until it waits for what will not come
            cancelled_at = time.monotonic()
            token.cancel()
            return float(waiting.result(PATIENCE)) - cancelled_at

        assert shortest(measure, UNBLOCKED) <= UNBLOCKED


def _left_at(work: Callable[[], object]) -> float:
    assert isinstance(outcome_of(work), TidegateError)
    return time.monotonic()


def test_T9_cancel_ends_a_stream_with_what_it_had(server: FaultServer) -> None:
    server.always(HALF_THEN_SILENCE)
    token = CancelToken()
    with client_of(server, retry=Retry()) as client:
        answer = client.stream("Hi", timeout=PATIENCE, cancel=token)
        assert next_text(answer) == "Hel"
        waiting = in_background(lambda: next_text(answer))
        token.cancel()
        failure = waiting.result(PATIENCE)
        assert type(failure) is Cancelled
        connections_ended(server)
    assert (failure.partial, answer.completion.text, answer.completion.complete) == ("Hel", "Hel", "no")


def test_a_call_cancelled_before_it_began_sends_nothing(server: FaultServer) -> None:
    token = CancelToken()
    token.cancel()
    with client_of(server, retry=Retry()) as client:
        for ask in (client.complete, client.stream):
            with pytest.raises(Cancelled):
                ask("Hi", cancel=token)
        with pytest.raises(Cancelled):
            client.submit("Hi", cancel=token).result(PATIENCE)
    assert server.connections == 0


def test_T9_cancel_ends_a_backoff(server: FaultServer) -> None:
    server.always(error(503))
    token = CancelToken()
    with client_of(server, retry=Retry(attempts=2, first=PATIENCE, longest=PATIENCE), timeout=None) as client:
        waiting = in_background(lambda: client.complete("Hi", cancel=token))
        server.wait_until(lambda: len(server.requests) == 1)
        token.cancel()
        failure = waiting.result(PATIENCE)
    assert type(failure) is Cancelled
    assert len(server.requests) == 1


def test_T9_cancel_ends_a_connect() -> None:
    token = CancelToken()
    with blackhole() as (host, port), Client(MODEL, base_url=f"http://{host}:{port}/v1", api_key=KEY) as client:
        waiting = in_background(lambda: client.complete("Hi", timeout=PATIENCE, cancel=token))
        threading.Event().wait(0.05)  # until it connects; before that it would be an easier case
        token.cancel()
        assert type(waiting.result(PATIENCE)) is Cancelled


def test_T9_cancel_ends_a_tls_handshake(server: FaultServer) -> None:
    server.always(accept_and_never_answer())
    token = CancelToken()
    with client_of(server, base_url=server.base_url.replace("http:", "https:")) as client:
        waiting = in_background(lambda: client.complete("Hi", timeout=PATIENCE, cancel=token))
        server.wait_until(lambda: server.connections == 1)
        token.cancel()
        assert type(waiting.result(PATIENCE)) is Cancelled


def test_T9_cancel_ends_a_name_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, over = threading.Event(), threading.Event()

    def hang(*_args: Any, **_options: Any) -> list[Any]:
        asked.set()
        over.wait(PATIENCE)
        return []

    monkeypatch.setattr("socket.getaddrinfo", hang)
    token = CancelToken()
    with Client(MODEL, base_url="https://api.example.test/v1", api_key=KEY) as client:
        waiting = in_background(lambda: client.complete("Hi", timeout=PATIENCE, cancel=token))
        assert asked.wait(PATIENCE)
        token.cancel()
        assert type(waiting.result(PATIENCE)) is Cancelled
        over.set()


def test_T9_cancel_ends_the_sending_of_a_large_body(server: FaultServer) -> None:
    server.always(accept_and_never_answer())
    token = CancelToken()
    with client_of(server) as client:
        waiting = in_background(lambda: client.complete("x" * 16_000_000, timeout=PATIENCE, cancel=token))
        server.wait_until(lambda: server.connections == 1)
        token.cancel()
        assert type(waiting.result(PATIENCE)) is Cancelled


def test_T9_cancel_ends_a_call_that_waits_for_a_worker(server: FaultServer) -> None:
    server.always(stall_before_headers())
    token = CancelToken()
    with client_of(server, workers=1) as client:
        busy = client.submit("Busy", timeout=PATIENCE)
        queued = client.submit("Hi", timeout=PATIENCE, cancel=token)
        token.cancel()
        with pytest.raises(Cancelled):
            queued.result(PATIENCE)
        assert not busy.done()


def test_one_token_ends_all_its_calls_and_no_other(server: FaultServer) -> None:
    gate = threading.Event()
    server.always((Gate(gate), *json_reply(completion("Hello"))))
    token = CancelToken()
    with client_of(server) as client:
        ended = [client.submit("Hi", timeout=PATIENCE, cancel=token) for _ in range(3)]
        other = client.submit("Hi", timeout=PATIENCE, cancel=CancelToken())
        server.wait_until(lambda: len(server.requests) == 4)
        token.cancel()
        assert all(isinstance(each.exception(PATIENCE), Cancelled) for each in ended)
        gate.set()
        assert other.result(PATIENCE).text == "Hello"


def test_a_token_keeps_nothing_of_the_calls_that_ended(server: FaultServer) -> None:
    server.always(json_reply(completion("Hello")))
    token = CancelToken()
    with client_of(server) as client:
        for _ in range(5):
            client.complete("Hi", cancel=token)
        client.submit("Hi", cancel=token).result(PATIENCE)
        assert len(list(client.map(["Hi"] * 5, cancel=token))) == 5
        assert not token._callbacks
        assert not client._stopping._callbacks


# Ways to close


def test_T9_close_from_another_thread_ends_a_reader(server: FaultServer) -> None:
    server.always(HALF_THEN_SILENCE)
    with client_of(server) as client:
        answer = client.stream("Hi", timeout=PATIENCE)
        next(answer)
        waiting = in_background(lambda: next_text(answer))
        threading.Event().wait(0.02)
        answer.close()
        failure = waiting.result(PATIENCE)
        assert type(failure) is Cancelled
        assert failure.partial == "Hel"
        connections_ended(server)
        assert client.metrics().errors == {"Cancelled": 1}
    answer.close()
    assert (answer.text, answer.completion.text, answer.completion.complete) == ("Hel", "Hel", "no")


@pytest.mark.slow
@pytest.mark.parametrize(
    "step",
    [HALF_THEN_SILENCE, keepalive_comments(0.005, after=half("Hel"))],
    ids=["silence", "keep-alive comments"],
)
def test_T9_close_unblocks_a_reader_within_50_ms(server: FaultServer, step: Step) -> None:
    """From `close()` to the moment at which the blocked thread has its error, best of three."""
    server.always(step)
    with client_of(server) as client:

        def measure() -> float:
            answer = client.stream("Hi", timeout=PATIENCE)
            next(answer)
            waiting = in_background(lambda: _left_at(lambda: next_text(answer)))
            threading.Event().wait(0.05)
            closed_at = time.monotonic()
            answer.close()
            return float(waiting.result(PATIENCE)) - closed_at

        assert shortest(measure, UNBLOCKED) <= UNBLOCKED


def test_T9_a_closed_stream_may_be_closed_by_many_threads_at_once(server: FaultServer) -> None:
    """Its ending is told once, and nobody hangs."""
    server.always(HALF_THEN_SILENCE)
    with client_of(server) as client:
        for _ in range(20):
            answer = client.stream("Hi", timeout=PATIENCE)
            endings: list[object] = []
            answer.when_done(endings.append)
            next(answer)
            start = threading.Barrier(5)

            def close(answer: Stream = answer, start: threading.Barrier = start) -> None:
                start.wait(PATIENCE)
                answer.close()

            closers = [in_background(close) for _ in range(4)]
            reader = in_background(lambda answer=answer: next_text(answer))  # type: ignore[misc]
            start.wait(PATIENCE)
            assert [closer.result(PATIENCE) for closer in closers] == [None] * 4
            assert type(reader.result(PATIENCE)) is Cancelled
            assert len(endings) == 1
        assert client.metrics().calls == 20


def test_T9_a_stream_closed_while_it_flows_ends_once_and_cleanly(server: FaultServer) -> None:
    """Whatever the reader was doing at that moment: it gets chunks, then `Cancelled`, and nothing else."""
    server.always(sse(half(*["word "] * 500)))
    with client_of(server) as client:
        for number in range(30):
            answer = client.stream("Hi", timeout=PATIENCE)
            reader = in_background(lambda answer=answer: list(answer))  # type: ignore[misc]
            threading.Event().wait(number * 0.0005)
            answer.close()
            outcome = reader.result(PATIENCE)
            assert type(outcome) in (Cancelled, list)
            assert answer.completion.text == answer.text
        metrics = client.metrics()
    assert (metrics.calls, metrics.attempts) == (30, 30)


def test_leaving_with_early_frees_the_connection(server: FaultServer) -> None:
    server.always(HALF_THEN_SILENCE)
    with client_of(server) as client:
        with client.stream("Hi", timeout=PATIENCE) as answer:
            for _ in answer:
                break
        connections_ended(server)
        assert answer.completion.complete == "no"
        with pytest.raises(Cancelled):
            next(answer)


def test_an_error_in_the_with_block_frees_the_connection_and_passes(server: FaultServer) -> None:
    server.always(HALF_THEN_SILENCE)
    with client_of(server) as client:
        with pytest.raises(ZeroDivisionError), client.stream("Hi", timeout=PATIENCE) as answer:  # noqa: PT012
            next(answer)
            _ = 1 / 0
        connections_ended(server)


def test_a_dropped_stream_frees_its_connection(server: FaultServer) -> None:
    server.always(HALF_THEN_SILENCE)
    with client_of(server, timeout=None) as client:
        answer = client.stream("Hi")
        next(answer)
        del answer
        gc.collect()
        connections_ended(server)
        server.wait_until(lambda: client.metrics().calls == 1)
        assert client.metrics().errors == {"Cancelled": 1}


def test_a_dropped_restarting_stream_frees_its_connection(server: FaultServer) -> None:
    server.always(HALF_THEN_SILENCE)
    with client_of(server, retry=Retry(), timeout=None) as client:
        answer = client.stream("Hi", recover="restart")
        next(answer)
        del answer
        gc.collect()
        connections_ended(server)


def test_T9_closing_a_restarting_stream_ends_it_in_its_backoff(server: FaultServer) -> None:
    server.script(sse(half("one"), done=False))
    with client_of(server, retry=Retry(first=PATIENCE, longest=PATIENCE), timeout=None) as client:
        answer = client.stream("Hi", recover="restart")
        next(answer)
        waiting = in_background(lambda: next_text(answer))
        threading.Event().wait(0.05)
        answer.close()
        failure = waiting.result(PATIENCE)
    assert type(failure) is Cancelled
    assert (failure.partial, answer.completion.text) == ("one", "one")
    assert len(server.requests) == 1


def test_T9_closing_a_restarting_stream_ends_it_while_it_asks_again(server: FaultServer) -> None:
    server.script(sse(half("one"), done=False))
    server.always(stall_before_headers())
    with client_of(server, retry=Retry(first=0.001), timeout=None) as client:
        answer = client.stream("Hi", recover="restart")
        next(answer)
        waiting = in_background(lambda: next_text(answer))
        server.wait_until(lambda: len(server.requests) == 2)
        answer.close()
        assert type(waiting.result(PATIENCE)) is Cancelled
        connections_ended(server)


def test_closing_a_restarting_stream_at_any_moment_of_its_restart_is_clean(server: FaultServer) -> None:
    server.always(sse(half("one"), done=False))
    with client_of(server, retry=Retry(attempts=10_000, first=0.0001, longest=0.0001), timeout=None) as client:
        for number in range(30):
            answer = client.stream("Hi", recover="restart")
            waiting = in_background(lambda answer=answer: list(answer))  # type: ignore[misc]
            threading.Event().wait(number * 0.001)
            answer.close()
            assert type(waiting.result(PATIENCE)) in (Cancelled, StreamInterrupted)
            assert answer.completion.complete == "no"
        assert client.metrics().calls == 30
    connections_ended(server)


# Connections


def test_T9_the_connection_of_a_cancelled_call_is_not_used_again(server: FaultServer) -> None:
    server.script(stall_before_headers())
    server.always(json_reply(completion("Hello")))
    token = CancelToken()
    with client_of(server) as client:
        waiting = in_background(lambda: client.complete("Hi", timeout=PATIENCE, cancel=token))
        server.wait_until(lambda: len(server.requests) == 1)
        token.cancel()
        waiting.result(PATIENCE)
        assert client.complete("Hi").text == "Hello"
    assert [request.connection_id for request in server.requests] == [1, 2]


def test_T9_the_connection_of_a_closed_stream_is_not_used_again(server: FaultServer) -> None:
    """Its rest would be taken for the next answer."""
    server.script(HALF_THEN_SILENCE)
    server.always(json_reply(completion("Hello")))
    with client_of(server) as client:
        answer = client.stream("Hi", timeout=PATIENCE)
        next(answer)
        answer.close()
        assert client.complete("Hi").text == "Hello"
    assert [request.connection_id for request in server.requests] == [1, 2]


def test_cancelling_a_call_that_has_ended_does_nothing_to_the_next_one(server: FaultServer) -> None:
    """The second call has the first one's connection."""
    gate = threading.Event()
    server.script(json_reply(completion("one")))
    server.always((Gate(gate), *json_reply(completion("two"))))
    first = CancelToken()
    with client_of(server) as client:
        client.complete("Hi", cancel=first)
        waiting = in_background(lambda: client.complete("Hi", timeout=PATIENCE))
        server.wait_until(lambda: len(server.requests) == 2)
        first.cancel()
        gate.set()
        assert waiting.result(PATIENCE).text == "two"
    assert len({request.connection_id for request in server.requests}) == 1


def test_closing_a_stream_that_has_ended_does_nothing_to_the_next_call(server: FaultServer) -> None:
    gate = threading.Event()
    server.script(sse(stream_events(["one"])))
    server.always((Gate(gate), *json_reply(completion("two"))))
    with client_of(server) as client:
        ended = client.stream("Hi")
        list(ended)
        waiting = in_background(lambda: client.complete("Hi", timeout=PATIENCE))
        server.wait_until(lambda: len(server.requests) == 2)
        ended.close()
        gate.set()
        assert waiting.result(PATIENCE).text == "two"
    assert ended.completion.complete == "yes"
    assert len({request.connection_id for request in server.requests}) == 1


@pytest.mark.slow
def test_T9_calls_that_end_while_others_are_cancelled_keep_their_answers(server: FaultServer) -> None:
    """Eight threads share few connections; every other call is cancelled at about the moment at which it ends.

    A watchdog or a token that reached into a connection after it was handed on would break somebody else's call.
    """
    server.on(lambda request: json_reply(completion(request.json["messages"][0]["content"])))
    problems: list[object] = []

    def ask(worker: int) -> None:
        for number in range(150):
            prompt = f"{worker} {number}"
            if number % 2:
                token = CancelToken()
                threading.Timer(0.0005 * (number % 9), token.cancel).start()
                outcome_of(lambda prompt=prompt, token=token: client.complete(prompt, cancel=token))  # type: ignore[misc]
                continue
            outcome = outcome_of(lambda prompt=prompt: client.complete(prompt, timeout=PATIENCE))  # type: ignore[misc]
            if getattr(outcome, "text", None) != prompt:
                problems.append((prompt, outcome))

    with client_of(server) as client:
        threads = [threading.Thread(target=ask, args=(worker,)) for worker in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert problems == []


@pytest.mark.slow
def test_T2_calls_that_end_near_their_deadline_do_no_harm_to_others(server: FaultServer) -> None:
    """The same for deadlines that fall due at about the moment at which the answer is there."""
    server.on(lambda request: json_reply(completion(request.json["messages"][0]["content"])))
    problems: list[object] = []

    def ask(worker: int) -> None:
        for number in range(300):
            prompt = f"{worker} {number}"
            timeout = 0.001 + 0.0007 * (number % 12) if number % 2 else PATIENCE
            outcome = outcome_of(lambda prompt=prompt, timeout=timeout: client.complete(prompt, timeout=timeout))  # type: ignore[misc]
            if getattr(outcome, "text", None) != prompt and timeout == PATIENCE:
                problems.append((prompt, outcome))

    with client_of(server, timeouts=Timeouts(connect=PATIENCE)) as client:
        threads = [threading.Thread(target=ask, args=(worker,)) for worker in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert problems == []


# Ctrl-C

INTERRUPTED = """
import sys, threading, tidegate
client = tidegate.Client("openai/gpt-4o-mini", base_url=sys.argv[1], api_key="sk-test-canary-0123456789abcdef")
try:
    {work}
except KeyboardInterrupt:
    metrics = client.metrics()
    print("interrupted", metrics.calls, dict(metrics.errors), flush=True)
"""

WORKS = {
    "complete": ("client.complete('Hi', timeout=None)", stall_before_headers()),
    "stream": ("[None for _ in client.stream('Hi', timeout=None)]", HALF_THEN_SILENCE),
    "stall_detection": ("client.complete('Hi', timeout=None, stall_detection=True)", HALF_THEN_SILENCE),
    "backoff": ("client.complete('Hi', timeout=None)", error(503, headers={"retry-after": "600"})),
    "map": ("list(client.map(['Hi'], timeout=None))", stall_before_headers()),
}


@pytest.mark.parametrize(("work", "step"), WORKS.values(), ids=WORKS)
def test_T9_ctrl_c_ends_whatever_the_program_waits_for(server: FaultServer, work: str, step: Step) -> None:
    """As a `KeyboardInterrupt` where it waits; the call is counted, and no thread stays to hold the exit up."""
    server.always(step)
    with program(INTERRUPTED.format(work=work), server.base_url) as running:
        server.wait_until(lambda: len(server.requests) == 1, PATIENCE)
        threading.Event().wait(0.1)  # until it waits for what follows the request
        running.send_signal(signal.SIGINT)
        code, out, err = finish(running)
    assert (code, err) == (0, "")
    assert out.startswith("interrupted 1 ")
    connections_ended(server)


LOOP = """
import sys, time, tidegate
client = tidegate.Client("openai/gpt-4o-mini", base_url=sys.argv[1], api_key="sk-test-canary-0123456789abcdef")
for outcome in client.map((f"{number}" for number in range(1000)), workers=2, timeout=None):
    print("one", flush=True)
    time.sleep(600)
"""


def test_ctrl_c_in_the_body_of_a_map_loop_ends_the_program(server: FaultServer) -> None:
    """What is in flight and in line is given up: nobody is left to take it."""
    hello, nothing = json_reply(completion("Hello")), stall_before_headers()
    server.on(lambda request: hello if request.json["messages"][-1]["content"] == "0" else nothing)
    with program(LOOP, server.base_url) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "one\n"
        asked = len(server.requests)
        running.send_signal(signal.SIGINT)
        code, _, err = finish(running)
    assert code == -signal.SIGINT
    assert "KeyboardInterrupt" in err
    assert len(server.requests) <= asked + 2


def test_a_cancelled_future_in_line_is_never_asked(server: FaultServer) -> None:
    server.always(stall_before_headers())
    with client_of(server, workers=1) as client:
        client.submit("Busy", timeout=PATIENCE)
        server.wait_until(lambda: len(server.requests) == 1)
        queued = client.submit("Hi", timeout=PATIENCE)
        assert queued.cancel()
        with pytest.raises(CancelledError):
            queued.result(PATIENCE)
        client.close(cancel=True)
    assert len(server.requests) == 1
