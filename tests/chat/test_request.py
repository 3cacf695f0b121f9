"""Requests: what is checked before anything is sent, and the body that stands on the wire."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import pytest
from pydantic import BaseModel, Field

from journeys.asking import KEY, client_of
from support.fault_server import FaultServer, json_reply, sse
from support.openai_wire import completion, stream_events
from tidegate import ConfigError, Tool
from tidegate.chat.request import ChatRequest
from tidegate.version import USER_AGENT

T = TypeVar("T")

HI = [{"role": "user", "content": "Hi"}]
SCHEMA = {"type": "object", "properties": {"high": {"type": "string"}}, "required": ["high"]}


class Tides(BaseModel):
    high: str
    low: str = Field(description="The hour of low tide.")


class Box(BaseModel, Generic[T]):
    content: T


class Unwritable(BaseModel):
    work: Callable[[int], int]


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        running.on(lambda got: sse(stream_events(["Hi"])) if got.json.get("stream") else json_reply(completion()))
        yield running


def body_of(server: FaultServer, **options: Any) -> dict[str, Any]:
    with client_of(server) as client:
        client.complete("Hi", **options)
    body: dict[str, Any] = server.requests[-1].json
    return body


# On the wire


def test_a_plain_question_is_nothing_but_the_model_and_the_question(server: FaultServer) -> None:
    """What nobody said is not sent: every default is the provider's own."""
    assert body_of(server) == {"model": "gpt-4o-mini", "messages": HI}


def test_a_stream_asks_for_its_usage(server: FaultServer) -> None:
    with client_of(server) as client, client.stream("Hi") as answer:
        list(answer)
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    assert server.requests[0].json == {"model": "gpt-4o-mini", "messages": HI, **asked}
    assert answer.completion.usage is not None


def test_a_request_says_who_asks_and_what_it_takes(server: FaultServer) -> None:
    with client_of(server) as client:
        client.complete("grün 🌊")
        list(client.stream("Hi"))
    plain, streamed = server.requests
    assert (plain.method, plain.path) == ("POST", "/v1/chat/completions")
    assert plain.headers["authorization"] == f"Bearer {KEY}"
    assert plain.headers["user-agent"] == USER_AGENT
    assert plain.headers["content-type"] == "application/json"
    assert plain.headers["accept"] == "application/json"
    assert "grün 🌊".encode() in plain.body
    assert streamed.headers["accept"] == "text/event-stream"
    assert streamed.headers["accept-encoding"] == "identity"  # whoever compresses a stream holds it back
    for request in server.requests:
        for name in ("authorization", "content-type", "content-length", "user-agent", "host"):
            assert len(request.headers.get_all(name)) == 1, name


ON_THE_WIRE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "temperature": ({"temperature": 0.7}, {"temperature": 0.7}),
    "a temperature of 0": ({"temperature": 0}, {"temperature": 0.0}),
    "max_tokens, by OpenAI's newer name": ({"max_tokens": 5}, {"max_completion_tokens": 5}),
    "seed": ({"seed": 7}, {"seed": 7}),
    "a seed of 0": ({"seed": 0}, {"seed": 0}),
    "a seed below 0": ({"seed": -1}, {"seed": -1}),
    "one stop": ({"stop": "\n"}, {"stop": ["\n"]}),
    "several stops": ({"stop": ["a", "b"]}, {"stop": ["a", "b"]}),
    "no stop": ({"stop": []}, {}),
    "another model": ({"model": "openai/gpt-4o"}, {"model": "gpt-4o"}),
    "another model of the same provider": ({"model": "gpt-4o"}, {"model": "gpt-4o"}),
    "a JSON schema": (
        {"schema": SCHEMA},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}},
    ),
    "a pydantic model": (
        {"schema": Tides},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "Tides", "schema": Tides.model_json_schema()},
            }
        },
    ),
    "a tool": (
        {"tools": [Tool("tide", "When high tide comes.", SCHEMA)]},
        {
            "tools": [
                {
                    "type": "function",
                    "function": {"name": "tide", "description": "When high tide comes.", "parameters": SCHEMA},
                }
            ]
        },
    ),
    "a strict tool": (
        {"tools": [Tool("now", strict=True)]},
        {
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "now", "description": "", "strict": True,
                        "parameters": {"type": "object", "properties": {}},
                    },
                }
            ]
        },
    ),
    "no tools": ({"tools": []}, {}),
    "options as they are": (
        {"options": {"top_p": 0.5, "logit_bias": {"50256": -100}, "metadata": {"a": [1, None, True]}}},
        {"top_p": 0.5, "logit_bias": {"50256": -100}, "metadata": {"a": [1, None, True]}},
    ),
    "tool_choice": (
        {"options": {"tool_choice": {"type": "function", "function": {"name": "tide"}}, "parallel_tool_calls": False}},
        {"tool_choice": {"type": "function", "function": {"name": "tide"}}, "parallel_tool_calls": False},
    ),
    "options come last": ({"temperature": 0.5, "options": {"temperature": 1}}, {"temperature": 1}),
    "what is only ours": ({"task": "tides", "tags": {"team": "harbour"}, "priority": 3, "timeout": 9}, {}),
}  # fmt: skip


@pytest.mark.parametrize("case", ON_THE_WIRE)
def test_an_argument_is_sent_in_the_providers_words(server: FaultServer, case: str) -> None:
    options, more = ON_THE_WIRE[case]
    assert body_of(server, **options) == {"model": "gpt-4o-mini", "messages": HI, **more}


@pytest.mark.parametrize("way", ["complete", "stream", "submit", "map", "stall_detection"])
def test_every_way_of_asking_sends_the_same(server: FaultServer, way: str) -> None:
    options: dict[str, Any] = {"temperature": 0.5, "max_tokens": 9, "stop": "x", "seed": 3, "schema": SCHEMA}
    with client_of(server) as client:
        ways: dict[str, Callable[[], object]] = {
            "complete": lambda: client.complete("Hi", **options),
            "stream": lambda: list(client.stream("Hi", **options)),
            "submit": lambda: client.submit("Hi", **options).result(30),
            "map": lambda: [outcome.unwrap() for outcome in client.map(["Hi"], **options)],
            "stall_detection": lambda: client.complete("Hi", stall_detection=True, **options),
        }
        ways[way]()
    streaming = {"stream": True, "stream_options": {"include_usage": True}}
    assert server.requests[0].json == {
        "model": "gpt-4o-mini", "messages": HI, "temperature": 0.5, "max_completion_tokens": 9, "stop": ["x"],
        "seed": 3,
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}},
        **(streaming if way in ("stream", "stall_detection") else {}),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("model", "name"),
    [(Box[int], "Box_int_"), (Box[dict[str, list[int]]], "Box_dict_str_list_int_"), (Tides(high="1", low="2"), None)],
)
def test_a_schema_has_a_name_that_openai_takes(server: FaultServer, model: Any, name: str | None) -> None:  # noqa: ANN401
    sent = body_of(server, schema=model)["response_format"]["json_schema"]["name"]
    assert sent == (name or "answer")


def test_a_long_name_of_a_schema_is_cut(server: FaultServer) -> None:
    long = type("X" * 99, (Tides,), {})
    assert body_of(server, schema=long)["response_format"]["json_schema"]["name"] == "X" * 64


# What is refused

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a temperature below 0": ({"temperature": -0.1}, "`temperature` is a number from 0 to 2, not -0.1"),
    "a temperature above 2": ({"temperature": 2.1}, "`temperature`"),
    "a temperature that is no number": ({"temperature": float("nan")}, "`temperature` .* not nan"),
    "an endless temperature": ({"temperature": float("inf")}, "`temperature`"),
    "a temperature beyond all floats": ({"temperature": 10**400}, "`temperature`"),
    "a temperature in words": ({"temperature": "0.5"}, "`temperature` .* not '0.5'"),
    "a temperature of True": ({"temperature": True}, "`temperature` .* not True"),
    "max_tokens of 0": ({"max_tokens": 0}, "`max_tokens` is a whole number of at least 1, not 0"),
    "max_tokens below 0": ({"max_tokens": -1}, "`max_tokens`"),
    "max_tokens with a fraction": ({"max_tokens": 1.5}, "`max_tokens`"),
    "max_tokens that are no number": ({"max_tokens": float("nan")}, "`max_tokens` .* not nan"),
    "max_tokens in words": ({"max_tokens": "5"}, "`max_tokens`"),
    "max_tokens of True": ({"max_tokens": True}, "`max_tokens`"),
    "a seed with a fraction": ({"seed": 1.5}, "`seed` is a whole number, not 1.5"),
    "a seed in words": ({"seed": "x"}, "`seed`"),
    "an empty stop": ({"stop": ""}, "`stop` is a text, or a list of texts"),
    "an empty stop among others": ({"stop": ["a", ""]}, "`stop`"),
    "a stop in bytes": ({"stop": b"x"}, "`stop`"),
    "a stop that is a number": ({"stop": 5}, "`stop`"),
    "a stop of numbers": ({"stop": [5]}, "`stop`"),
    "a schema that is a word": ({"schema": "object"}, "`schema` is a JSON schema .* not `str`"),
    "a schema that is a type": ({"schema": int}, "`schema` is a JSON schema"),
    "a model without a schema": ({"schema": Unwritable}, "`schema` cannot be written as a JSON schema: Cannot gen"),
    "tools that are no list": ({"tools": 5}, "`tools` is a list of tools"),
    "options that are no dict": ({"options": ["top_p"]}, "`options` is a dict of fields .* not `list`"),
    "an option that is an argument": ({"options": {"model": "x"}}, "`options` may not set `model`"),
    "messages among the options": ({"options": {"messages": []}}, "`options` may not set `messages`"),
    "stream among the options": ({"options": {"stream": True}}, "`options` may not set `stream`"),
    "a system in bytes": ({"system": b"x"}, "`system` is a string"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_argument_is_named(wrong: str) -> None:
    options, says = WRONG[wrong]
    with pytest.raises(ConfigError, match=says):
        ChatRequest.build("Hi", **options)


@pytest.mark.parametrize("value", [0, 2, 0.0, 2.0, 1e-300])
def test_a_temperature_may_be_at_its_bounds(value: float) -> None:
    assert ChatRequest.build("Hi", temperature=value).temperature == value


UNWRITABLE: dict[str, dict[str, Any]] = {
    "an object": {"options": {"user": object()}},
    "a key that is no text": {"options": {7: "x"}},
    "a set in a schema": {"schema": {"required": {"high"}}},
    "an object in a tool": {"tools": [Tool("now", parameters={"default": object()})]},
    "a seed beyond 64 bits": {"seed": 2**80},
    "half a character": {"system": "\ud83c"},
}


@pytest.mark.parametrize("what", UNWRITABLE)
def test_what_json_cannot_say_is_wrong_input(server: FaultServer, what: str) -> None:
    with client_of(server) as client, pytest.raises(ConfigError, match="the request cannot be written as JSON"):
        client.complete("Hi", **UNWRITABLE[what])
    assert server.connections == 0
