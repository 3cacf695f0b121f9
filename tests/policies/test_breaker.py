"""Routes that fail, over real sockets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from journeys.asking import client_of
from support.fault_server import FaultServer, Gate, error, json_reply, sse
from support.openai_wire import completion, stream_events
from tidegate import Breaker, Cancelled, CancelToken, CircuitOpen, Client, Overloaded, ProviderError, StreamInterrupted

PATIENCE = 30.0


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


def state_of(client: Client) -> str:
    (state,) = client.circuits().values()
    return state


def failing(client: Client, times: int) -> None:
    for _ in range(times):
        with pytest.raises(ProviderError):
            client.complete("Hi", timeout=PATIENCE)


def test_a_route_that_fails_is_not_asked_any_more_and_is_used_again_when_it_is_well(server: FaultServer) -> None:
    server.always(error(500))
    with client_of(server, breaker=Breaker(failures=3, recovery=0.2, probes=1)) as client:
        failing(client, 3)
        assert state_of(client) == "open"
        with pytest.raises(CircuitOpen, match="openai/gpt-4o-mini") as caught:
            client.complete("Hi")
        assert 0 < (caught.value.retry_after or 0) <= 0.2
        assert len(server.requests) == 3
        server.always(json_reply(completion("Hello")))
        while True:
            try:
                answer = client.complete("Hi", timeout=PATIENCE)
            except CircuitOpen:
                continue
            break
        assert answer.text == "Hello"
        assert state_of(client) == "closed"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 429])
def test_T8_a_refusal_of_what_was_asked_never_opens_it(server: FaultServer, status: int) -> None:
    server.always(error(status, headers={"retry-after": "0"}))
    with client_of(server, breaker=Breaker(failures=2, window=4)) as client:
        failing(client, 6)
        assert state_of(client) == "closed"


def test_T8_each_model_has_a_circuit_of_its_own(server: FaultServer) -> None:
    server.on(lambda request: error(500) if request.json["model"] == "down" else json_reply(completion("Hello")))
    with client_of(server, breaker=Breaker(failures=1)) as client:
        with pytest.raises(ProviderError):
            client.complete("Hi", model="down")
        with pytest.raises(CircuitOpen):
            client.complete("Hi", model="down")
        assert client.complete("Hi").text == "Hello"
        assert {str(route): state for route, state in client.circuits().items()} == {
            "openai/down": "open",
            "openai/gpt-4o-mini": "closed",
        }


def test_a_stream_that_breaks_off_counts_and_one_that_is_closed_does_not(server: FaultServer) -> None:
    torn = sse(stream_events(["a", "b"], finish=None, usage=None), done=False)
    server.always(torn)
    with client_of(server, breaker=Breaker(failures=2)) as client:
        for _ in range(3):
            stream = client.stream("Hi", timeout=PATIENCE)
            next(stream)
            stream.close()
        assert state_of(client) == "closed"
        for _ in range(2):
            with pytest.raises(StreamInterrupted):
                list(client.stream("Hi", timeout=PATIENCE))
        assert state_of(client) == "open"


def test_a_probe_that_is_cancelled_gives_way_to_the_next(server: FaultServer) -> None:
    import threading  # noqa: PLC0415

    gate = threading.Event()
    server.script(error(503), (Gate(gate), *json_reply(completion("late"))))
    server.always(json_reply(completion("Hello")))
    with client_of(server, breaker=Breaker(failures=1, recovery=0.001, probes=1), workers=2) as client:
        with pytest.raises(Overloaded):
            client.complete("Hi", timeout=PATIENCE)
        threading.Event().wait(0.01)
        token = CancelToken()
        probe = client.submit("Hi", timeout=PATIENCE, cancel=token)
        server.wait_until(lambda: len(server.requests) == 2)
        with pytest.raises(CircuitOpen):
            client.complete("Hi")
        token.cancel()
        with pytest.raises(Cancelled):
            probe.result(PATIENCE)
        assert client.complete("Hi").text == "Hello"
        gate.set()


def test_it_can_be_done_without(server: FaultServer) -> None:
    server.always(error(500))
    with client_of(server, breaker=None) as client:
        failing(client, 12)
        assert client.circuits() == {}
    assert len(server.requests) == 12
