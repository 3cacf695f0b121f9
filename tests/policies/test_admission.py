"""Calls that wait for their provider's limits, over real sockets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import pytest

from journeys.asking import client_of
from support.corridor import call_of
from support.fault_server import FaultServer, Gate, Reset, Step, error, json_reply, sse
from support.openai_wire import completion, stream_events
from tidegate import Client, ConfigError, DeadlineExceeded, Limits, RateLimited, RequestTooLarge, Retry
from tidegate.chat.messages import Image, Message
from tidegate.chat.request import ChatRequest
from tidegate.chat.tools import Tool
from tidegate.errors import CallError, CircuitOpen, ConnectFailed
from tidegate.pace.gate import LimitStatus
from tidegate.pace.lessons import PRIOR_SCALE
from tidegate.pipeline.call import Call
from tidegate.policies.admission import FIRST_ANSWER, AdmissionPolicy, rough_count
from tidegate.testing import ManualClock

PATIENCE = 30.0


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        server.always(json_reply(completion("Hello", usage=(10, 20))))
        yield server


def status_of(client: Client) -> LimitStatus:
    (status,) = client.limits().values()
    return status


def test_a_hard_cap_holds_however_many_threads_ask(server: FaultServer) -> None:
    gate = threading.Event()
    server.always((Gate(gate), *json_reply(completion("Hello"))))
    with client_of(server, limits=Limits(concurrent=3), workers=12) as client:
        futures = [client.submit("Hi", timeout=PATIENCE) for _ in range(12)]
        server.wait_until(lambda: len(server.requests) == 3)
        assert (status_of(client).in_use, status_of(client).allowed) == (3, 3)
        gate.set()
        assert [future.result(PATIENCE).text for future in futures] == ["Hello"] * 12
        assert status_of(client).in_use == 0


def test_a_stream_holds_its_slot_until_it_is_closed(server: FaultServer) -> None:
    server.always(sse(stream_events(["a", "b"])))
    with client_of(server, limits=Limits(concurrent=1)) as client:
        stream = client.stream("Hi", timeout=PATIENCE)
        with pytest.raises(DeadlineExceeded):
            client.complete("Hi", timeout=0.05)
        stream.close()
        assert "".join(chunk.text for chunk in client.stream("Hi", timeout=PATIENCE)) == "ab"
        assert status_of(client).in_use == 0


def test_R5_a_call_that_can_never_fit_is_refused_before_anything_is_sent(server: FaultServer) -> None:
    with client_of(server, limits=Limits(tpm=1_000)) as client:
        with pytest.raises(RequestTooLarge, match="tokens, and its limit is 1,000") as caught:
            client.complete("Hi", max_tokens=5_000)
        assert caught.value.provider == "openai"
    assert server.requests == []


def test_what_a_call_really_used_is_what_stays_taken(server: FaultServer) -> None:
    with client_of(server, limits=Limits(tpm=100_000, settle="used")) as client:
        client.complete("Hi", max_tokens=50_000)
        level, bucket = status_of(client).configured["tokens"]
        assert bucket.limit == 100_000
        assert 0 <= level <= 30


def test_what_is_not_settled_stays_taken(server: FaultServer) -> None:
    with client_of(server, limits=Limits(tpm=100_000)) as client:
        client.complete("Hi", max_tokens=50_000)
        assert status_of(client).configured["tokens"][0] > 49_000


def test_an_answer_without_a_bound_is_expected_as_long_as_the_routes_answers_were(server: FaultServer) -> None:
    with client_of(server, limits=Limits(otpm=10_000, settle="reserved")) as client:
        client.complete("Hi")
        before = status_of(client).configured["output_tokens"][0]
        assert before == pytest.approx(PRIOR_SCALE * FIRST_ANSWER, abs=60)  # some drains meanwhile
        client.complete("Hi")
        assert status_of(client).configured["output_tokens"][0] - before <= 20


def test_limits_are_learned_from_headers(server: FaultServer) -> None:
    headers = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "60s",
    }
    server.always(json_reply(completion("Hello"), headers=headers))
    with client_of(server) as client:
        client.complete("Hi")
        level, bucket = status_of(client).learned["requests"]
        assert (bucket.limit, bucket.interval) == (60, 60)
        assert level == pytest.approx(60, abs=2)
        with pytest.raises(DeadlineExceeded, match="its turn would come in"):
            client.complete("Hi", timeout=0.2)
    assert len(server.requests) == 1


def test_R7_headers_never_lift_a_limit_that_is_set(server: FaultServer) -> None:
    headers = {"x-ratelimit-limit-requests": "1000000", "x-ratelimit-remaining-requests": "999999"}
    server.always(json_reply(completion("Hello"), headers=headers))
    with client_of(server, limits=Limits(rpm=3)) as client:
        for _ in range(3):
            client.complete("Hi")
        with pytest.raises(DeadlineExceeded):
            client.complete("Hi", timeout=0.2)
    assert len(server.requests) == 3


def test_R8_nobody_is_sent_while_the_provider_asked_for_a_pause(server: FaultServer) -> None:
    server.script(error(429, headers={"retry-after": "0.4"}))
    sent: list[float] = []
    with client_of(server, retry=Retry(first=0.001), workers=8) as client:
        with pytest.raises(RateLimited):
            client_of_no_retry(server, client)
        sent.append(len(server.requests))
        with ThreadPoolExecutor(8) as pool:
            early = [pool.submit(client.complete, "Hi", timeout=0.1) for _ in range(8)]
            for future in early:
                with pytest.raises(RateLimited) as caught:
                    future.result(PATIENCE)
                assert caught.value.retry_after is not None
        assert len(server.requests) == 1
        assert client.complete("Hi", timeout=PATIENCE).text == "Hello"


def client_of_no_retry(server: FaultServer, client: Client) -> None:
    """One call that meets the refusal, and whose deadline is too short to try again."""
    client.complete("Hi", timeout=0.2)


@pytest.mark.parametrize(
    "step", [error(500), (Reset(),), error(400), sse(stream_events(["a"], finish=None), done=False)]
)
def test_whatever_fails_gives_its_slot_back(server: FaultServer, step: Step) -> None:
    server.always(step)
    with client_of(server, limits=Limits(concurrent=2)) as client:
        for _ in range(5):
            with pytest.raises(Exception):  # noqa: B017, PT011 (whichever it is)
                client.complete("Hi", timeout=PATIENCE, stall_detection=True)
        assert status_of(client).in_use == 0


def test_each_route_has_limits_of_its_own(server: FaultServer) -> None:
    with client_of(server, limits=Limits(rpm=1)) as client:
        client.complete("Hi")
        client.complete("Hi", model="gpt-4o")
        with pytest.raises(DeadlineExceeded):
            client.complete("Hi", timeout=0.1)
        assert {str(route) for route in client.limits()} == {"openai/gpt-4o-mini", "openai/gpt-4o"}


def test_the_wait_at_the_gate_is_on_the_timeline(server: FaultServer) -> None:
    with client_of(server, limits=Limits(rpm=600, pace="window", concurrent=1)) as client:
        gate = threading.Event()
        server.script((Gate(gate), *json_reply(completion("Hello"))))
        first = client.submit("Hi", timeout=PATIENCE)
        server.wait_until(lambda: len(server.requests) == 1)
        second = client.submit("Hi", timeout=PATIENCE)
        while not status_of(client).waiting:
            threading.Event().wait(0.001)
        threading.Event().wait(0.02)
        gate.set()
        first.result(PATIENCE)
        assert second.result(PATIENCE).timeline.limiter >= 0.02


@pytest.mark.parametrize(
    "wrong",
    [
        {"rpm": 0}, {"rpm": -1}, {"tpm": float("nan")}, {"itpm": float("inf")}, {"otpm": "many"}, {"concurrent": 0},
        {"concurrent": 1.5}, {"pace": "slow"}, {"settle": "never"}, {"rpms": 1},
    ],
)  # fmt: skip
def test_a_wrong_limit_is_named_when_the_client_is_built(wrong: dict[str, object]) -> None:
    (name,) = wrong
    with pytest.raises(ConfigError, match=f"`{name}`|{name}="):
        Limits(**wrong)  # type: ignore[arg-type]


def test_a_question_is_counted_roughly() -> None:
    plain = ChatRequest.build("x" * 400)
    assert rough_count(plain, "m") == pytest.approx(104, abs=1)
    picture = ChatRequest.build([Message("user", (Image("https://example.com/a.png"),))])
    assert rough_count(picture, "m") > 900
    with_tool = ChatRequest.build("Hi", tools=[Tool("look", "Looks." * 40, {"type": "object"})])
    assert rough_count(with_tool, "m") > rough_count(ChatRequest.build("Hi"), "m") + 50


@pytest.mark.parametrize("error", [CircuitOpen("it is open"), ConnectFailed("nobody is there")])
def test_what_never_left_has_used_nothing(error: CallError) -> None:
    """So calls that were in line when a circuit opened need not wait for each other's quota."""
    clock = ManualClock()
    policy = AdmissionPolicy(Limits(rpm=2, tpm=1_000), clock=clock)

    def refuse(_: Call) -> NoReturn:
        raise error

    for _ in range(10):
        with pytest.raises(type(error)):
            policy(call_of(clock=clock), refuse)
    assert clock.waits == ()
    (status,) = policy.status().values()
    assert [level for level, _ in status.configured.values()] == [0, 0]
    assert status.in_use == 0
