"""The stop-watch of a call: always in one phase, so that the phases add up."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest

from journeys.asking import client_of
from support.fault_server import FaultServer, Pause, error, json_reply, sse
from support.openai_wire import completion, stream_events
from tidegate import Retry, Timeline
from tidegate.chat.timeline import Trace
from tidegate.testing import ManualClock


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


def test_time_belongs_to_the_phase_that_was_entered_last() -> None:
    clock = ManualClock()
    trace = Trace(clock.monotonic, "queue")
    for phase, seconds in (("own", 1), ("connect", 2), ("first_token", 4), ("own", 8)):
        clock.advance(seconds)
        trace.enter(phase)  # type: ignore[arg-type]
    clock.advance(16)
    expected = Timeline(queue=1, own=2 + 16, connect=4, first_token=8)
    assert trace.timeline() == expected
    assert trace.timeline().total == trace.duration == 31


def test_an_ended_watch_stands_still() -> None:
    clock = ManualClock()
    trace = Trace(clock.monotonic)
    clock.advance(2)
    trace.end()
    clock.advance(5)
    trace.enter("stream")
    trace.mark_first_token()
    trace.end()
    assert trace.timeline() == Timeline(own=2)
    assert trace.duration == 2
    assert trace.time_to_first_token is None


def test_the_first_token_is_the_first() -> None:
    clock = ManualClock()
    trace = Trace(clock.monotonic)
    clock.advance(3)
    trace.mark_first_token()
    clock.advance(3)
    trace.mark_first_token()
    assert trace.time_to_first_token == 3


@pytest.mark.parametrize("ended", [True, False])
def test_a_pickled_watch_keeps_its_figures_and_stands_still(ended: bool) -> None:  # noqa: FBT001
    clock = ManualClock()
    trace = Trace(clock.monotonic, "queue")
    clock.advance(2)
    trace.enter("connect")
    clock.advance(3)
    if ended:
        trace.end()
    twin = pickle.loads(pickle.dumps(trace))  # noqa: S301 (ours)
    clock.advance(9)
    assert twin.timeline() == Timeline(queue=2, connect=3)
    assert twin.duration == 5


def test_a_timeline_says_where_the_time_went() -> None:
    assert str(Timeline(connect=0.25, first_token=1.5, own=0.0001)) == "1.750 s (connect 0.250, first_token 1.500)"
    assert str(Timeline()) == "0.000 s"


def test_the_phases_of_a_call_add_up_to_its_wall_time(server: FaultServer) -> None:
    server.script(error(503))
    server.always((Pause(0.05), *json_reply(completion())))
    with client_of(server, retry=Retry(first=0.01)) as client:
        done = client.complete("Hi")
    assert done.timeline.total == pytest.approx(done.trace.duration)
    assert done.timeline.first_token >= 0.05
    assert done.timeline.connect > 0
    assert done.timeline.own > 0


def test_a_future_has_its_time_in_the_queue(server: FaultServer) -> None:
    server.always((Pause(0.05), *json_reply(completion())))
    with client_of(server, workers=1) as client:
        first, second = client.submit("a"), client.submit("b")
        assert second.result(30).timeline.queue >= 0.04
        assert first.result(30).timeline.queue < second.result(30).timeline.queue


def test_a_stream_keeps_its_own_time_apart_from_its_readers(server: FaultServer) -> None:
    server.always(sse(stream_events(["a", "b"]), interval=0.02))
    with client_of(server) as client, client.stream("Hi") as answer:
        list(answer)
    timeline, trace = answer.completion.timeline, answer.completion.trace
    assert timeline.total == pytest.approx(trace.duration)
    assert trace.time_to_first_token is not None
    assert timeline.first_token >= 0.015
    assert timeline.stream >= 0.015
