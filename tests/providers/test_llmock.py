"""Whole calls against a mock of the providers that nobody here wrote, and its verdict on them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from journeys.asking import KEY, PATIENCE, outcome_of
from support.llmock import LLMock
from tidegate import (
    CallError,
    Client,
    ContextLengthExceeded,
    IdleTimeout,
    MalformedEvent,
    Message,
    Retry,
    StreamInterrupted,
    Timeouts,
    Tool,
    TruncatedStream,
)
from tidegate.errors import FirstTokenTimeout, TransportError

AGAIN = Retry(attempts=3, first=0.01, longest=0.05, budget=False)
HARBOUR = Tool(
    "tide",
    "When high tide comes.",
    {"type": "object", "properties": {"port": {"type": "string"}}, "required": ["port"]},
)
STORY = "The tide comes in and the tide goes out."


@pytest.fixture(scope="module")
def running_mock() -> Iterator[LLMock]:
    with LLMock() as running:
        yield running


@pytest.fixture
def mock(running_mock: LLMock) -> LLMock:
    running_mock.reset()
    return running_mock


def client_of_mock(mock: LLMock, provider: str = "openai", **options: Any) -> Client:
    return Client(
        f"{provider}/m",
        **{
            "base_url": mock.base_url(PLAYED_AS.get(provider, provider)),
            "api_key": KEY,
            "retry": AGAIN,
            "breaker": None,
            **options,
        },
    )


PLAYED_AS = {"azure": "openai"}
"""Its newer address, …/openai/v1, is OpenAI's own API."""


@pytest.fixture(params=["openai", "azure", "anthropic", "cohere", "gemini"])
def host(request: pytest.FixtureRequest) -> str:
    """Whom it plays."""
    name: str = request.param
    return name


# Answers


@pytest.mark.parametrize("provider", ["openai", "groq", "mistral", "together", "xai"])
def test_every_host_that_it_plays_is_understood(mock: LLMock, provider: str) -> None:
    mock.queue({"type": "reply", "text": STORY, "times": 2})
    with client_of_mock(mock, provider) as client:
        plain = client.complete("Tell me a story.", max_tokens=50, temperature=0.5, seed=3)
        with client.stream("Tell me a story.") as answer:
            pieces = [piece.text for piece in answer if piece.text]
    assert len(pieces) > 3
    for done in (plain, answer.completion):
        assert (done.text, done.complete, done.provider) == (STORY, "yes", provider)
    assert plain.usage is not None
    assert plain.usage.input_tokens > 0
    assert plain.usage.output_tokens > 0
    assert [record.provider for record in mock.requests] == [provider] * 2
    mock.judge(calls=2, attempts=2)


def test_usage_of_a_stream_is_that_of_the_plain_answer(mock: LLMock, host: str) -> None:
    mock.queue({"type": "reply", "text": STORY, "times": 2})
    with client_of_mock(mock, host) as client, client.stream("Tell me a story.") as answer:
        list(answer)
        assert answer.completion.usage == client.complete("Tell me a story.").usage
    assert answer.completion.usage is not None


def test_a_conversation_of_every_kind_of_message_is_accepted(mock: LLMock, host: str) -> None:
    """It checks the body that it is sent: a wrong one is a 422."""
    with client_of_mock(mock, host) as client:
        done = client.complete(
            [
                Message("system", "Be brief."),
                {"role": "user", "content": [{"type": "text", "text": "When is high tide?"}]},
                {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "tide", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "c", "content": "12:40"},
            ],
            tools=[HARBOUR],
            options={"tool_choice": "auto"},
        )
    assert done.complete == "yes"
    mock.judge(calls=1, attempts=1)


@pytest.mark.parametrize("way", ["complete", "stream"])
def test_tools_are_called_also_several_at_once(mock: LLMock, host: str, way: str) -> None:
    wishes = [{"name": "tide", "arguments": {"port": port}} for port in ("Emden", "Wilhelmshaven")]
    mock.queue({"type": "reply", "tool_calls": wishes})
    with client_of_mock(mock, host) as client:
        if way == "stream":
            with client.stream("High tide?", tools=[HARBOUR]) as answer:
                list(answer)
            done = answer.completion
        else:
            done = client.complete("High tide?", tools=[HARBOUR])
    assert [(call.name, call.parsed()) for call in done.tool_calls] == [
        (wish["name"], wish["arguments"]) for wish in wishes
    ]
    assert len({call.id for call in done.tool_calls}) == 2
    assert (done.finish_reason, done.complete) == ("tool_calls", "yes")


@pytest.mark.parametrize("fault", ["malformed_arguments", "unknown_tool"])
def test_a_broken_wish_is_handed_over_as_the_model_wrote_it(mock: LLMock, host: str, fault: str) -> None:
    mock.queue(
        {"type": "reply", "tool_calls": [{"name": "tide", "arguments": {"port": "Emden"}}]},
        {"type": "tool_fault", "kind": fault},
    )
    with client_of_mock(mock, host) as client:
        (call,) = client.complete("High tide?", tools=[HARBOUR]).tool_calls
    if fault == "unknown_tool":
        assert call.name != "tide"
    elif host in ("anthropic", "gemini"):  # whose arguments are an object on the wire: it leaves them out
        assert call.parsed() == {}
    else:
        with pytest.raises(ValueError, match=r"line 1"):
            call.parsed()


def test_an_answer_follows_the_schema_that_was_sent(mock: LLMock, host: str) -> None:
    schema = {"type": "object", "properties": {"high": {"type": "integer"}}, "required": ["high"]}
    # It knows nothing of Anthropic's own schemas, but of the tool that older models are made to call instead.
    model = "anthropic/claude-sonnet-4-0" if host == "anthropic" else None
    with client_of_mock(mock, host) as client:
        answer = json.loads(client.complete("High tide?", schema=schema, model=model).text)
    assert isinstance(answer["high"], int)


@pytest.mark.parametrize(("reason", "whole"), [("length", "no"), ("content_filter", "no"), ("stop", "yes")])
def test_why_it_ended_is_told(mock: LLMock, host: str, reason: str, whole: str) -> None:
    if (host, reason) == ("cohere", "content_filter"):
        whole, reason = "yes", "stop"  # it has no word for that there
    mock.queue({"type": "reply", "text": STORY, "finish_reason": reason, "times": 2})
    with client_of_mock(mock, host) as client:
        plain = client.complete("Tell me a story.")
        with client.stream("Tell me a story.") as answer:
            list(answer)
    assert {(done.finish_reason, done.complete) for done in (plain, answer.completion)} == {(reason, whole)}


def test_twenty_threads_get_an_answer_each(mock: LLMock, host: str) -> None:
    with client_of_mock(mock, host) as client:
        found = list(client.map([f"story {number}" for number in range(40)], workers=20, timeout=PATIENCE))
    assert [outcome.error for outcome in found] == [None] * 40
    mock.judge(calls=40, attempts=40)


# Failures


def test_a_retry_after_is_waited_for(mock: LLMock, host: str) -> None:
    mock.queue({"type": "fail", "status": 429, "retry_after": 0.3})
    with client_of_mock(mock, host) as client:
        done = client.complete("Hi")
    assert [attempt.outcome for attempt in done.attempts] == ["RateLimited", "ok"]
    assert mock.judge(calls=1, attempts=2).faults == 1


def test_an_outage_ends_in_the_error_after_as_many_attempts_as_allowed(mock: LLMock, host: str) -> None:
    mock.queue({"type": "fail", "status": 503, "retry_after": 0.01, "times": 3})
    with client_of_mock(mock, host) as client:
        failure = outcome_of(lambda: client.complete("Hi"))
    assert isinstance(failure, CallError)
    assert len(failure.attempts) == 3
    mock.judge(calls=1, attempts=3)


def test_a_context_that_is_too_long_is_not_asked_again(mock: LLMock, host: str) -> None:
    mock.queue({"type": "fail", "status": 400, "code": "context_length_exceeded"})
    with client_of_mock(mock, host) as client, pytest.raises(ContextLengthExceeded):
        client.complete("Hi")
    mock.judge(calls=1, attempts=1)


FAULTS: dict[str, type[CallError]] = {
    "disconnect": TransportError,
    "truncate": TruncatedStream,
    "malformed": MalformedEvent,
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("at", [0, 1])
def test_T6_a_stream_that_breaks_before_its_text_is_asked_for_again(
    mock: LLMock, host: str, fault: str, at: int
) -> None:
    mock.queue(
        {"type": "stream_fault", "kind": fault, "after_chunks": 0 if host == "gemini" else at},
        {"type": "reply", "text": STORY, "times": 2},
    )
    with client_of_mock(mock, host) as client, client.stream("Hi") as answer:
        assert "".join(piece.text for piece in answer) == STORY
    assert [attempt.outcome for attempt in answer.completion.attempts][1:] == ["ok"]
    assert len(mock.requests) == 2


@pytest.mark.parametrize("fault", FAULTS)
def test_T6_a_stream_that_breaks_after_text_is_a_typed_error_with_what_there_was(
    mock: LLMock, host: str, fault: str
) -> None:
    mock.queue({"type": "stream_fault", "kind": fault, "after_chunks": 5}, {"type": "reply", "text": STORY})
    with client_of_mock(mock, host) as client:
        answer = client.stream("Hi")
        with pytest.raises(StreamInterrupted) as caught:
            list(answer)
    assert isinstance(caught.value.__cause__, FAULTS[fault])
    assert caught.value.partial in ("The tide ", "The tide comes ", "The tide comes in ", "The tide comes in and ")
    assert answer.completion.complete == "no"
    assert len(mock.requests) == 1


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("way", ["restart", "stall_detection"])
def test_T6_an_answer_that_nobody_saw_break_comes_whole(mock: LLMock, host: str, fault: str, way: str) -> None:
    mock.queue({"type": "stream_fault", "kind": fault, "after_chunks": 4}, {"type": "reply", "text": STORY, "times": 2})
    with client_of_mock(mock, host) as client:
        if way == "restart":
            answer = client.stream("Hi", recover="restart")
            assert [piece.restarted for piece in answer].count(True) == 1
            text = answer.text
        else:
            text = client.complete("Hi", stall_detection=True).text
    assert text == STORY
    assert len(mock.requests) == 2


def test_a_stream_that_stalls_is_not_sat_through(mock: LLMock, host: str) -> None:
    mock.queue(
        {"type": "stream_fault", "kind": "stall", "after_chunks": 4, "stall_seconds": 20},
        {"type": "reply", "text": STORY},
    )
    with client_of_mock(mock, host, timeouts=Timeouts(idle=0.1)) as client:
        failure = outcome_of(lambda: list(client.stream("Hi", timeout=PATIENCE)))
    assert isinstance(failure, StreamInterrupted)
    assert isinstance(failure.__cause__, IdleTimeout)
    (record,) = mock.requests
    assert record.stall_waited is not None
    assert record.stall_waited < 10


def test_a_first_token_that_does_not_come_is_not_waited_for(mock: LLMock, host: str) -> None:
    mock.queue({"type": "slow_first_token", "seconds": 20})
    with client_of_mock(mock, host, retry=None, timeouts=Timeouts(first_token=0.1)) as client:
        assert isinstance(outcome_of(lambda: client.stream("Hi", timeout=PATIENCE)), FirstTokenTimeout)


# The kit itself


def test_the_judge_finds_a_client_that_does_not_wait(mock: LLMock) -> None:
    mock.queue({"type": "fail", "status": 429, "retry_after": 5})
    for _ in range(2):
        requests.post(f"{mock.base_url()}/chat/completions", json={"model": "m", "messages": []}, timeout=PATIENCE)
    with pytest.raises(AssertionError, match="retry_after_ignored"):
        mock.judge(calls=1, attempts=2)


def test_the_judge_is_not_content_with_a_client_that_never_called(mock: LLMock) -> None:
    with pytest.raises(AssertionError, match="0 call"):
        mock.judge(calls=1, attempts=1)
    mock.judge(calls=0, attempts=0)


def test_a_fault_that_nobody_met_is_noticed(mock: LLMock) -> None:
    mock.queue({"type": "fail", "status": 500})
    with pytest.raises(AssertionError, match="never met"):
        mock.judge(calls=0, attempts=0)


def test_a_typo_in_a_fault_is_refused(mock: LLMock) -> None:
    with pytest.raises(ValueError, match="sttus"):
        mock.queue({"type": "fail", "sttus": 500})
