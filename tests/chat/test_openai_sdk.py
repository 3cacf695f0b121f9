"""An answer as the official package's own type."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from journeys.asking import client_of
from support.fault_server import FaultServer, json_reply, sse
from support.openai_wire import CREATED, chunk, completion, stream_events, tool_call
from tidegate import Completion, ToolCall, Usage


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


def converted(server: FaultServer, body: dict[str, Any]) -> ChatCompletion:
    server.script(json_reply(body))
    with client_of(server) as client:
        return client.complete("Hi").to_openai()


def test_a_plain_answer_is_what_the_sdk_would_have_made_of_it(server: FaultServer) -> None:
    body = completion(
        "Hello.",
        usage={
            "prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12,
            "prompt_tokens_details": {"cached_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 2},
        },
    )  # fmt: skip
    assert converted(server, body).to_dict(exclude_none=True) == ChatCompletion.model_validate(body).to_dict(
        exclude_none=True
    )


def test_a_streamed_answer_is_the_same_but_for_its_moment(server: FaultServer) -> None:
    server.script(sse(stream_events(["Hel", "lo."])))
    with client_of(server) as client, client.stream("Hi") as answer:
        list(answer)
    made, plain = answer.completion.to_openai(), converted(server, completion("Hello."))
    assert made.created >= CREATED
    assert made.model_copy(update={"created": plain.created}) == plain


def test_tool_calls_are_the_sdks(server: FaultServer) -> None:
    made = converted(server, completion(None, finish_reason="tool_calls", tool_calls=[tool_call("tide", {"port": 1})]))
    message = made.choices[0].message
    assert message.content is None
    assert message.tool_calls is not None
    (call,) = message.tool_calls
    assert call.type == "function"
    assert (call.id, call.function.name, call.function.arguments) == ("call_1", "tide", '{"port": 1}')
    assert made.choices[0].finish_reason == "tool_calls"


def test_a_refusal_stays_one(server: FaultServer) -> None:
    body = completion(None)
    body["choices"][0]["message"]["refusal"] = "I will not."
    message = converted(server, body).choices[0].message
    assert (message.content, message.refusal) == (None, "I will not.")


def test_an_empty_answer_is_an_empty_text(server: FaultServer) -> None:
    assert converted(server, completion("")).choices[0].message.content == ""


@pytest.mark.parametrize(
    ("reason", "becomes"),
    [("stop", "stop"), ("length", "length"), ("content_filter", "content_filter"), ("tide", "stop"), (None, "stop")],
)
def test_a_reason_that_the_sdk_does_not_know_becomes_stop(reason: str | None, becomes: str) -> None:
    made = Completion("Hello.", "openai", "m", finish_reason=reason).to_openai()
    assert made.choices[0].finish_reason == becomes


def test_usage_that_nobody_gave_stays_unknown(server: FaultServer) -> None:
    assert converted(server, completion(usage=None)).usage is None


def test_an_answer_of_no_provider_in_particular_can_be_converted() -> None:
    made = Completion(
        "Hello.", "anthropic", "m", "stop", Usage(5, 7), Decimal(1), (ToolCall("a", "b"),), raw_data=["{}"]
    ).to_openai()
    assert (made.id, made.model, made.choices[0].message.content) == ("", "m", "Hello.")
    assert made.usage is not None
    assert made.usage.total_tokens == 12


def test_an_interrupted_stream_can_be_converted(server: FaultServer) -> None:
    server.script(sse([*stream_events(["Hel"], finish=None), chunk("lo.", finish_reason="stop")]))
    with client_of(server) as client:
        answer = client.stream("Hi")
        next(answer)
        answer.close()
    assert answer.completion.to_openai().choices[0].message.content == "Hel"
