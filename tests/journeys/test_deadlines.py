"""T2: a call never lasts longer than its deadline, whatever the other side does.

Each trick of the other side is tried twice: fast, for how the call ends, and slow, for when it ends. The slow ones
allow a tenth of a second beyond the deadline, and measure up to three times (see `asking.shortest`).
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from typing import Any, NoReturn

import pytest

from journeys.asking import KEY, MODEL, PATIENCE, SLACK, client_of, outcome_of, seconds_of, shortest
from support.fault_server import (
    LAST_CHUNK,
    Drip,
    FaultServer,
    Gate,
    OnAccept,
    Pause,
    Repeat,
    Send,
    Stall,
    Step,
    accept_and_never_answer,
    blackhole,
    drip_headers,
    error,
    head,
    http_chunk,
    json_reply,
    keepalive_comments,
    sse,
    sse_event,
    stall_before_headers,
)
from support.openai_wire import completion, stream_events
from tidegate import (
    CancelToken,
    Client,
    Completion,
    ConnectFailed,
    DeadlineExceeded,
    Overloaded,
    RateLimited,
    Retry,
    Timeouts,
)

Ask = Callable[[Client, float], object]

DEADLINE = 0.3
"""Seconds given to a call whose end is measured."""
SHORT = 0.05
"""Seconds given to a call of which only the way it ends matters."""
PATIENT = Timeouts(first_token=PATIENCE, idle=PATIENCE)
"""Clocks that never end a call before its deadline does."""

JSON = {"content-type": "application/json"}
PING = http_chunk(sse_event('{"choices":[]}'))
NAMED_PING = http_chunk(sse_event('{"type":"ping"}', "ping"))


def complete(client: Client, timeout: float) -> Completion:
    return client.complete("Hi", timeout=timeout)


def complete_watched(client: Client, timeout: float) -> Completion:
    return client.complete("Hi", timeout=timeout, stall_detection=True)


def stream(client: Client, timeout: float) -> str:
    with client.stream("Hi", timeout=timeout) as answer:
        return "".join(piece.text for piece in answer)


def big_complete(client: Client, timeout: float) -> Completion:
    """More than the system's own buffers take: the send itself must be ended."""
    return client.complete("x" * 16_000_000, timeout=timeout)


def in_queue(client: Client, timeout: float) -> Completion:
    """Every worker is busy for far longer than the deadline."""
    busy = client.submit("Busy", timeout=PATIENCE)
    try:
        return client.submit("Hi", timeout=timeout).result(PATIENCE)
    finally:
        client.close(cancel=True)
        wait([busy])


WAYS: dict[str, Ask] = {"complete": complete, "stall_detection": complete_watched, "stream": stream}

TRICKS: dict[str, Step] = {
    "it never answers": stall_before_headers(),
    "headers drip": drip_headers(0.1),
    "interim answers for ever": (Repeat(head(100), 0.01),),
    "a body drips": (Send(head(200, {**JSON, "content-length": "100"})), Drip(b" " * 100, 0.1)),
    "a chunked body drips": (
        Send(head(200, {**JSON, "transfer-encoding": "chunked"})),
        Repeat(http_chunk(b" "), 0.1),
    ),
    "a chunk's length drips": (
        Send(head(200, {**JSON, "transfer-encoding": "chunked"})),
        Repeat(b"0", 0.1),
    ),
    "a body stops halfway": (Send(head(200, {**JSON, "content-length": "100"}) + b"{"), Stall()),
    "an error's body drips": (Send(head(400, {**JSON, "content-length": "100"})), Drip(b" " * 100, 0.1)),
}
"""What keeps any call waiting."""

STREAM_TRICKS: dict[str, Step] = {
    "one byte per 0.1 s": (
        Send(head(200, {"content-type": "text/event-stream"})),
        Drip(b"".join(sse_event(event) for event in stream_events(["Hello"] * 10)), 0.1),
    ),
    "keep-alive comments": keepalive_comments(0.02),
    "keep-alive comments after text": keepalive_comments(0.02, after=stream_events(["Hello"], finish=None, usage=None)),
    "pings": (*sse([], done=False)[:-1], Repeat(PING, 0.02)),
    "named pings after text": (
        *sse(stream_events(["Hello"], finish=None, usage=None), done=False)[:-1],
        Repeat(NAMED_PING, 0.02),
    ),
    "a comment without an end": (*sse([b":"], done=False)[:-1], Repeat(http_chunk(b"x"), 0.02)),
    "text for ever": (*sse([], done=False)[:-1], Repeat(http_chunk(sse_event(stream_events(["tick "])[1])), 0.02)),
    "silence after text": sse([*stream_events(["Hello"], finish=None, usage=None), Stall()]),
}
"""What keeps only a stream waiting."""

CASES = [
    *(pytest.param(ask, step, id=f"{way}: {trick}") for trick, step in TRICKS.items() for way, ask in WAYS.items()),
    *(
        pytest.param(WAYS[way], step, id=f"{way}: {trick}")
        for trick, step in STREAM_TRICKS.items()
        for way in ("stall_detection", "stream")
    ),
    pytest.param(big_complete, accept_and_never_answer(), id="complete: a big body is never read"),
]


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


@pytest.mark.parametrize(("ask", "step"), CASES)
def test_T2_a_call_ends_with_its_deadline(server: FaultServer, ask: Ask, step: Step) -> None:
    server.always(step)
    with client_of(server, timeouts=PATIENT) as client:
        assert isinstance(outcome_of(lambda: ask(client, SHORT)), DeadlineExceeded)


@pytest.mark.slow
@pytest.mark.parametrize(("ask", "step"), CASES)
def test_T2_a_call_ends_within_a_tenth_of_a_second_of_its_deadline(server: FaultServer, ask: Ask, step: Step) -> None:
    server.always(step)
    with client_of(server, timeouts=PATIENT) as client:
        seconds = shortest(lambda: seconds_of(lambda: ask(client, DEADLINE)), DEADLINE + SLACK)
    assert DEADLINE - 0.01 <= seconds <= DEADLINE + SLACK


def test_T2_a_call_that_waits_for_a_worker_ends_with_its_deadline(server: FaultServer) -> None:
    server.always(stall_before_headers())
    with client_of(server, workers=1) as client:
        assert isinstance(outcome_of(lambda: in_queue(client, SHORT)), DeadlineExceeded)


@pytest.mark.slow
def test_T2_waiting_for_a_worker_counts(server: FaultServer) -> None:
    """And ends within a tenth of a second of the deadline, though the worker stays busy."""
    server.always(stall_before_headers())

    def measure() -> float:
        with client_of(server, workers=1) as client:
            busy = client.submit("Busy", timeout=PATIENCE)
            queued = client.submit("Hi", timeout=DEADLINE)
            seconds = seconds_of(lambda: queued.result(PATIENCE))
            assert not busy.done()
            return seconds

    assert shortest(measure, DEADLINE + SLACK) <= DEADLINE + SLACK


def test_T2_a_backoff_is_not_begun_when_it_would_outlast_the_deadline(server: FaultServer) -> None:
    """The failure itself is raised, at once: it says more than that the time is up."""
    server.always(error(503))
    with client_of(server, retry=Retry(attempts=1000, first=PATIENCE, factor=1, longest=PATIENCE)) as client:
        failure = outcome_of(lambda: client.complete("Hi", timeout=SHORT))
    assert isinstance(failure, Overloaded | DeadlineExceeded)
    assert failure.attempts


@pytest.mark.slow
def test_T2_retries_end_within_a_tenth_of_a_second_of_the_deadline(server: FaultServer) -> None:
    server.always(error(503))
    with client_of(server, retry=Retry(attempts=100_000, first=0.05, factor=1, longest=0.05)) as client:
        seconds = shortest(lambda: seconds_of(lambda: complete(client, DEADLINE)), DEADLINE + SLACK)
        assert client.metrics().attempts > 2
    assert seconds <= DEADLINE + SLACK


def test_T3_a_retry_after_beyond_the_deadline_fails_at_once_and_says_how_long(server: FaultServer) -> None:
    server.always(error(429, "rate_limit_error", headers={"retry-after": "40"}))
    with client_of(server, retry=Retry()) as client:
        failure = outcome_of(lambda: client.complete("Hi", timeout=PATIENCE))
    assert isinstance(failure, RateLimited)
    assert failure.retry_after == 40
    assert len(server.requests) == 1


def blackholed(timeout: float, **options: Any) -> object:
    with (
        blackhole() as (host, port),
        Client(MODEL, base_url=f"http://{host}:{port}/v1", api_key=KEY, retry=None, **options) as client,
    ):
        return outcome_of(lambda: client.complete("Hi", timeout=timeout))


def test_T2_a_connect_that_never_completes_ends_with_the_deadline() -> None:
    assert isinstance(blackholed(SHORT), DeadlineExceeded)


def test_a_connect_that_never_completes_ends_with_its_own_limit() -> None:
    assert isinstance(blackholed(PATIENCE, timeouts=Timeouts(connect=SHORT)), ConnectFailed)


@pytest.mark.slow
def test_T2_a_connect_that_never_completes_ends_within_a_tenth_of_a_second_of_the_deadline() -> None:
    with (
        blackhole() as (host, port),
        Client(MODEL, base_url=f"http://{host}:{port}/v1", api_key=KEY, retry=None) as client,
    ):
        seconds = shortest(lambda: seconds_of(lambda: complete(client, DEADLINE)), DEADLINE + SLACK)
    assert seconds <= DEADLINE + SLACK


@pytest.fixture
def silent_resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A resolver that never answers, until the test is over."""
    over = threading.Event()

    def hang(*_args: Any, **_options: Any) -> NoReturn:
        over.wait(PATIENCE)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", hang)
        yield
        over.set()


@contextlib.contextmanager
def client_of_a_name(**options: Any) -> Iterator[Client]:
    with Client(MODEL, base_url="https://api.example.test/v1", api_key=KEY, retry=None, **options) as client:
        yield client


@pytest.mark.usefixtures("silent_resolver")
def test_T2_a_name_that_does_not_resolve_ends_with_the_deadline() -> None:
    with client_of_a_name() as client:
        assert isinstance(outcome_of(lambda: complete(client, SHORT)), DeadlineExceeded)


@pytest.mark.usefixtures("silent_resolver")
def test_a_name_that_does_not_resolve_ends_with_the_limit_of_connecting() -> None:
    with client_of_a_name(timeouts=Timeouts(connect=SHORT)) as client:
        assert isinstance(outcome_of(lambda: complete(client, PATIENCE)), ConnectFailed)


@pytest.mark.slow
@pytest.mark.usefixtures("silent_resolver")
def test_T2_a_name_that_does_not_resolve_ends_within_a_tenth_of_a_second_of_the_deadline() -> None:
    with client_of_a_name() as client:
        seconds = shortest(lambda: seconds_of(lambda: complete(client, DEADLINE)), DEADLINE + SLACK)
    assert seconds <= DEADLINE + SLACK


@pytest.mark.usefixtures("silent_resolver")
def test_look_ups_of_one_name_share_a_thread() -> None:
    """A resolver that is down must not cost a thread a call."""
    with client_of_a_name() as client:
        for _ in range(5):
            outcome_of(lambda: complete(client, 0.01))
        looking = [thread for thread in threading.enumerate() if thread.name.startswith("tidegate-dns")]
    assert len(looking) == 1


DRIPPED_HANDSHAKE = b"\x16\x03\x03\x40\x00\x02\x00\x3f\xf0" + b"a" * 1000
"""The beginning of a TLS record with a ServerHello that claims 16 KB."""

HANDSHAKES: dict[str, Step] = {
    "silent": accept_and_never_answer(),
    "dripping": (OnAccept(), Drip(DRIPPED_HANDSHAKE, 0.02)),
}


@contextlib.contextmanager
def tls_client_of(server: FaultServer) -> Iterator[Client]:
    """The server itself speaks no TLS: it sends what a handshake looks like."""
    with client_of(server, base_url=server.base_url.replace("http:", "https:")) as client:
        yield client


@pytest.mark.parametrize("step", HANDSHAKES.values(), ids=HANDSHAKES)
def test_T2_a_tls_handshake_ends_with_the_deadline(server: FaultServer, step: Step) -> None:
    server.always(step)
    with tls_client_of(server) as client:
        assert isinstance(outcome_of(lambda: complete(client, SHORT)), DeadlineExceeded)


@pytest.mark.slow
@pytest.mark.parametrize("step", HANDSHAKES.values(), ids=HANDSHAKES)
def test_T2_a_tls_handshake_ends_within_a_tenth_of_a_second_of_the_deadline(server: FaultServer, step: Step) -> None:
    server.always(step)
    with tls_client_of(server) as client:
        seconds = shortest(lambda: seconds_of(lambda: complete(client, DEADLINE)), DEADLINE + SLACK)
    assert seconds <= DEADLINE + SLACK


def test_T2_an_answer_that_is_whole_is_not_lost_to_a_tail_that_lasts_beyond_the_deadline(server: FaultServer) -> None:
    """The usage is still to come when the time is up: the text is there, so it is answered."""
    server.always(sse([*stream_events(["Hello"], usage=None), Stall()], done=False))
    with client_of(server) as client:
        answer = client.complete("Hi", timeout=0.2, stall_detection=True)
    assert (answer.text, answer.complete) == ("Hello", "yes")
    assert answer.usage is not None
    assert answer.usage.estimated


def test_T2_a_chunked_trailer_without_end_does_not_outlive_the_deadline(server: FaultServer) -> None:
    trailer = (Send(LAST_CHUNK[:-2]), Repeat(b"x-more: 1\r\n", 0.01))
    server.always((*sse(stream_events(["Hello"]))[:-1], *trailer))
    with client_of(server) as client, client.stream("Hi", timeout=PATIENCE) as answer:
        assert "".join(piece.text for piece in answer) == "Hello"


def test_T2_the_consumers_own_time_counts(server: FaultServer) -> None:
    """A stream left lying beyond the deadline ends in it, though the server has sent everything."""
    events = stream_events([f"{number} " for number in range(20)])
    server.always(sse([*events[:3], Gate(threading.Event()), *events[3:]]))
    with client_of(server, timeouts=PATIENT) as client:
        answer = client.stream("Hi", timeout=SHORT)
        first = next(answer).text
        threading.Event().wait(SHORT)
        failure = outcome_of(lambda: list(answer))
    assert isinstance(failure, DeadlineExceeded)
    assert failure.partial.startswith(first)


def test_T2_what_is_left_of_the_deadline_is_shared_by_the_attempts(server: FaultServer) -> None:
    """The second attempt gets no new deadline."""
    server.script((Pause(SHORT), *error(500)))
    server.always(stall_before_headers())
    with client_of(server, retry=Retry(first=0.001, longest=0.001)) as client:
        failure = outcome_of(lambda: client.complete("Hi", timeout=3 * SHORT))
    assert isinstance(failure, DeadlineExceeded)
    assert [attempt.outcome for attempt in failure.attempts] == ["ProviderUnavailable", "DeadlineExceeded"]
    assert sum(attempt.duration for attempt in failure.attempts) < 3 * SHORT + 1


def test_a_deadline_that_has_passed_already_sends_nothing(server: FaultServer) -> None:
    server.always(json_reply(completion()))
    with client_of(server) as client:
        failure = outcome_of(lambda: client.complete("Hi", timeout=1e-9))
    assert isinstance(failure, DeadlineExceeded)
    assert server.requests == []


def test_without_a_deadline_a_slow_answer_is_waited_for(server: FaultServer) -> None:
    server.always((Pause(SHORT), *json_reply(completion("Hello"))))
    with client_of(server, timeout=0.01) as client:
        assert client.complete("Hi", timeout=None).text == "Hello"


def test_a_call_that_keeps_its_deadline_leaves_its_connection_usable(server: FaultServer) -> None:
    """The watchdog of the first call must not reach into the second, which has the same connection."""
    server.script(json_reply(completion("one")))
    server.always((Pause(4 * SHORT), *json_reply(completion("two"))))
    with client_of(server) as client:
        assert client.complete("Hi", timeout=3 * SHORT).text == "one"
        assert client.complete("Hi", timeout=PATIENCE).text == "two"
    assert len({request.connection_id for request in server.requests}) == 1


def test_the_deadline_error_says_what_the_call_was_doing(server: FaultServer) -> None:
    server.always(stall_before_headers())
    with client_of(server) as client:
        failure = outcome_of(lambda: client.complete("Hi", timeout=SHORT, cancel=CancelToken()))
    assert isinstance(failure, DeadlineExceeded)
    assert isinstance(failure, TimeoutError)
    assert "waited for its answer" in str(failure)
    assert (failure.provider, failure.model) == ("openai", "gpt-4o-mini")
    assert [attempt.outcome for attempt in failure.attempts] == ["DeadlineExceeded"]
