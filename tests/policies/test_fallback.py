"""Other routes, when one cannot answer. Over real sockets, with one fault server for each provider."""

from __future__ import annotations

import contextlib
import pickle
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from journeys.asking import KEY
from support.fault_server import (
    FaultServer,
    Pause,
    RecordedRequest,
    Reset,
    Step,
    error,
    json_reply,
    sse,
    stall_before_headers,
)
from support.openai_wire import completion, stream_events
from tidegate import (
    AllRoutesFailed,
    AuthenticationFailed,
    BadRequest,
    Breaker,
    Cancelled,
    CancelToken,
    Client,
    ConfigError,
    ContentFiltered,
    ContextLengthExceeded,
    DeadlineExceeded,
    Limits,
    Retry,
    StreamInterrupted,
    Timeouts,
)
from tidegate.pipeline.events import FellBack

PATIENCE = 30.0
PRIMARY, SECOND, THIRD = "openai/gpt-4o-mini", "groq/second", "mistral/third"


class World:
    """Three providers, each of which does what the test says, and a client that may ask them all."""

    def __init__(self, servers: list[FaultServer], monkeypatch: pytest.MonkeyPatch) -> None:
        self.first, self.second, self.third = servers
        for server, name in zip(servers, ("one", "two", "three"), strict=True):
            server.on(answering(name))
        for variable, server in (("GROQ", self.second), ("MISTRAL", self.third)):
            monkeypatch.setenv(f"{variable}_API_KEY", KEY)
            monkeypatch.setenv(f"{variable}_BASE_URL", server.base_url)

    @contextlib.contextmanager
    def client(self, *fallbacks: str, **options: Any) -> Iterator[Client]:
        fixed = {"base_url": self.first.base_url, "api_key": KEY, "retry": None, "breaker": None}
        given = {**fixed, "fallbacks": fallbacks or (SECOND, THIRD), **options}
        with contextlib.closing(Client(PRIMARY, **given)) as client:
            yield client

    @property
    def asked(self) -> list[int]:
        return [len(server.requests) for server in (self.first, self.second, self.third)]


def answering(text: str) -> Callable[[RecordedRequest], Step]:
    """Streamed or not, as it is asked."""

    def answer(request: RecordedRequest) -> Step:
        if request.json.get("stream"):
            return sse(stream_events([text], usage=(5, 7)))
        return json_reply(completion(text))

    return answer


def does(server: FaultServer, step: Step) -> None:
    """From now on always this."""
    server.on(lambda _: step)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with FaultServer() as first, FaultServer() as second, FaultServer() as third:
        yield World([first, second, third], monkeypatch)


def test_the_first_route_answers_when_it_can(world: World) -> None:
    with world.client() as client:
        assert client.complete("Hi").text == "one"
    assert world.asked == [1, 0, 0]


@pytest.mark.parametrize("status", [401, 402, 403, 404, 429, 500, 502, 503, 529])
def test_the_next_route_answers_and_is_named(world: World, status: int) -> None:
    does(world.first, error(status))
    events: list[object] = []
    with world.client(listeners=[events.append]) as client:
        answer = client.complete("Hi")
    assert (answer.text, answer.provider) == ("two", "groq")
    assert [attempt.provider for attempt in answer.attempts] == ["openai", "groq"]
    (fell,) = [event for event in events if isinstance(event, FellBack)]
    assert (str(fell.call.route), str(fell.following)) == (PRIMARY, SECOND)
    assert client.metrics().calls == 1


BROKEN = [(Reset(),), json_reply({"unexpected": 1}), sse(stream_events([], finish=None), done=False)]


@pytest.mark.parametrize("step", BROKEN)
def test_a_route_that_breaks_or_answers_nonsense_is_left(world: World, step: Step) -> None:
    does(world.first, step)
    does(world.second, step)
    with world.client() as client:
        assert client.complete("Hi").text == "three"
    assert world.asked == [1, 1, 1]


def test_a_wrong_request_is_wrong_everywhere(world: World) -> None:
    does(world.first, error(400, message="no such parameter"))
    with world.client() as client, pytest.raises(BadRequest, match="no such parameter"):
        client.complete("Hi")
    assert world.asked == [1, 0, 0]


def test_a_refusal_of_the_content_policy_is_not_got_round(world: World) -> None:
    does(world.first, error(400, code="content_policy_violation", message="not this"))
    with world.client() as client, pytest.raises(ContentFiltered, match="not this"):
        client.complete("Hi")
    assert world.asked == [1, 0, 0]


def test_what_does_not_fit_goes_only_where_the_window_is_larger(world: World) -> None:
    does(world.first, error(400, code="context_length_exceeded", message="too long"))
    with world.client("groq/llama-3.1-8b-instant", "openai/gpt-4.1") as client:
        world.first.on(
            lambda request: (
                json_reply(completion("large"))
                if request.json["model"] == "gpt-4.1" and not request.json.get("stream")
                else (
                    sse(stream_events(["large"]))
                    if request.json["model"] == "gpt-4.1"
                    else error(400, code="context_length_exceeded", message="too long")
                )
            )
        )
        assert client.complete("Hi").text == "two"  # 131,072 against 128,000 of the two before it
    assert world.asked == [1, 1, 0]
    with world.client(SECOND) as client, pytest.raises(ContextLengthExceeded):
        client.complete("Hi")  # of a window that nobody knows


def test_a_route_that_has_no_words_for_the_request_is_passed_over(world: World) -> None:
    world.first.on(lambda _: error(503))
    with world.client("mistral/third", "groq/second") as client:
        done = client.complete("Hi", logprobs=2)  # Mistral gives none
    assert (done.text, done.provider) == ("two", "groq")
    assert world.asked == [1, 1, 0]
    with world.client("mistral/third") as client, pytest.raises(AllRoutesFailed, match="gives no `logprobs`") as caught:
        client.complete("Hi", logprobs=2)
    assert [failure.status for failure in caught.value.failures] == [503, None]
    with world.client() as client, pytest.raises(ConfigError, match="mistral"):
        client.complete("Hi", logprobs=2, model="mistral/third")  # who asked for it by name is told


def test_all_failures_come_together_when_nobody_answers(world: World) -> None:
    does(world.first, error(500, message="down"))
    does(world.second, error(401, message="no such key"))
    does(world.third, (Reset(),))
    with world.client() as client, pytest.raises(AllRoutesFailed) as caught:
        client.complete("Hi")
    failures = caught.value.failures
    assert [(each.provider, each.status) for each in failures] == [("openai", 500), ("groq", 401), ("mistral", None)]
    for part in (PRIMARY, SECOND, THIRD, "down", "no such key"):
        assert part in str(caught.value)
    assert len(caught.value.attempts) == 3
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 (our own)
    assert isinstance(again.failures[1], AuthenticationFailed)


def test_each_route_has_its_own_attempts(world: World) -> None:
    does(world.first, error(500))
    world.second.script(error(503), error(503))
    with world.client(retry=Retry(attempts=3, first=0.001, longest=0.001)) as client:
        assert client.complete("Hi").text == "two"
    assert world.asked == [3, 3, 0]


def test_a_route_that_is_silent_is_left_after_its_first_timeout(world: World) -> None:
    """And not asked again, though its failure may be retried: another route may not be silent."""
    does(world.first, stall_before_headers())
    began = time.monotonic()
    with world.client(retry=Retry(attempts=4), timeouts=Timeouts(first_token=0.1)) as client:
        assert client.complete("Hi", timeout=PATIENCE).text == "two"
        assert "".join(chunk.text for chunk in client.stream("Hi", timeout=PATIENCE)) == "two"
    assert world.asked == [2, 2, 0]
    assert time.monotonic() - began < PATIENCE / 2


def test_T2_the_routes_share_the_deadline(world: World) -> None:
    does(world.first, (Pause(0.15), *error(500)))
    does(world.second, stall_before_headers())
    with world.client() as client, pytest.raises((DeadlineExceeded, AllRoutesFailed)) as caught:
        client.complete("Hi", timeout=0.3)
    assert world.asked[2] == 0
    assert sum(attempt.duration for attempt in caught.value.attempts) < 5


def test_a_cancelled_call_goes_nowhere(world: World) -> None:
    does(world.first, stall_before_headers())
    token = CancelToken()
    with world.client() as client:
        future = client.submit("Hi", timeout=PATIENCE, cancel=token)
        world.first.wait_until(lambda: len(world.first.requests) == 1)
        token.cancel()
        with pytest.raises(Cancelled):
            future.result(PATIENCE)
    assert world.asked == [1, 0, 0]


def test_a_route_whose_circuit_is_open_is_passed_over(world: World) -> None:
    does(world.first, error(500))
    with world.client(breaker=Breaker(failures=2, recovery=60)) as client:
        assert [client.complete("Hi").text for _ in range(6)] == ["two"] * 6
    assert world.asked == [2, 6, 0]


def test_a_call_that_does_not_fit_the_limits_of_one_route_goes_to_the_next(world: World) -> None:
    with world.client(limits=Limits(rpm=1)) as client:
        assert [client.complete("Hi", timeout=0.3).text for _ in range(3)] == ["one", "two", "three"]


def test_a_stream_that_fails_before_its_first_word_is_that_of_the_next_route(world: World) -> None:
    does(world.first, error(503))
    with world.client() as client, client.stream("Hi") as stream:
        assert [chunk.text for chunk in stream if chunk.text] == ["two"]
    assert stream.completion.provider == "groq"


def test_a_stream_that_breaks_off_is_an_error_when_it_is_not_to_be_restarted(world: World) -> None:
    does(world.first, sse(stream_events(["hal"], finish=None, usage=None), done=False))
    with world.client() as client, client.stream("Hi") as stream, pytest.raises(StreamInterrupted) as caught:
        list(stream)
    assert caught.value.partial == "hal"
    assert world.asked == [1, 0, 0]


def test_a_stream_that_breaks_off_starts_anew_on_the_next_route(world: World) -> None:
    """As a new question: nothing of the torn answer is sent along, which a model might refuse."""
    does(world.first, sse(stream_events(["hal"], finish=None, usage=None), done=False))
    with world.client() as client, client.stream("Hi", recover="restart") as stream:
        chunks = [(chunk.text, chunk.restarted) for chunk in stream if chunk.text]
    assert chunks == [("hal", False), ("two", True)]
    assert (stream.text, stream.completion.text, stream.completion.provider) == ("two", "two", "groq")
    assert world.second.requests[0].json["messages"] == world.first.requests[0].json["messages"]


def test_the_same_route_is_tried_again_before_the_next(world: World) -> None:
    does(world.first, sse(stream_events(["hal"], finish=None, usage=None), done=False))
    with (
        world.client(retry=Retry(attempts=2, first=0.001, longest=0.001)) as client,
        client.stream("Hi", recover="restart") as stream,
    ):
        assert [chunk.text for chunk in stream if chunk.text] == ["hal", "hal", "two"]
    assert world.asked == [2, 1, 0]


def test_a_model_that_is_named_in_the_call_comes_first(world: World) -> None:
    does(world.third, error(500))
    with world.client() as client:
        assert client.complete("Hi", model=THIRD).text == "two"
    assert world.asked == [0, 1, 1]


@pytest.mark.parametrize(
    ("fallbacks", "says"),
    [
        (["openai/gpt-4o-mini"], "asked already before it"),
        (["ollama/a", "ollama/a"], "asked already before it"),
        (["gorq/a"], "did you mean `groq`"),
        (["gpt-4o"], "names no provider"),
        (["groq/a"], "no key for `groq`"),
        ([""], "a model is named"),
    ],
)
def test_a_wrong_fallback_is_named_when_the_client_is_built(fallbacks: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Client("openai/gpt-4o-mini", api_key=KEY, fallbacks=fallbacks)
