"""Wrong input: refused by whoever is asked, with words that help, before a single byte is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from journeys.asking import KEY, MODEL, client_of
from support.fault_server import FaultServer, json_reply
from support.openai_wire import completion
from tidegate import Client, ConfigError, Message, Retry, Timeouts

SECRET = "hunter2-0123456789"  # noqa: S105 (nobody's)
HI = {"role": "user", "content": "Hi"}


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        running.always(json_reply(completion()))
        yield running
        assert running.connections == 0, "something was sent"


# Of a call

PROMPTS: dict[str, tuple[Any, str]] = {
    "an empty prompt": ("", "the prompt is empty"),
    "a prompt of spaces": (" \t\n", "the prompt is empty"),
    "an empty list": ([], "the prompt is empty"),
    "a system message alone": ([{"role": "system", "content": "Be brief."}], "the prompt is empty"),
    "no prompt": (None, "a prompt is a string, a message or a list of messages, not `NoneType`"),
    "bytes": (b"Hi", "not `bytes`"),
    "a number": (5, "not `int`"),
    "strings in a list": (["Hi"], "a message is a `Message` or a dict"),
    "an unknown role": ({"role": "usr", "content": "Hi"}, "unknown role `usr`; did you mean `user`"),
    "no role": ({"content": "Hi"}, "a message needs a `role`"),
    "an unknown field": ({**HI, "contents": "Hi"}, "no field `contents`; did you mean `content`"),
    "bytes as content": ({"role": "user", "content": b"Hi"}, "`content` is a string or a list of parts, not `bytes`"),
    "an unknown part": ({"role": "user", "content": [{"type": "video"}]}, "a part of a message is"),
    "a picture that is none": (
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "sea.png"}}]},
        "an image is an `https://",
    ),
    "a tool's answer to nothing": ({"role": "tool", "content": "12:40"}, "needs the `tool_call_id`"),
}
OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "a priority that is no number": ({"priority": "high"}, "`priority` is a whole number, not 'high'"),
    "tags that are no dict": ({"tags": 5}, "`tags` is a dict"),
    "max_tokens of 0": ({"max_tokens": 0}, "`max_tokens` is a whole number of at least 1, not 0"),
    "max_tokens below 0": ({"max_tokens": -5}, "`max_tokens`"),
    "max_tokens that are no number": ({"max_tokens": float("nan")}, "`max_tokens`"),
    "a temperature below 0": ({"temperature": -1}, "`temperature` is a number from 0 to 2, not -1"),
    "a temperature above 2": ({"temperature": 2.5}, "`temperature`"),
    "a temperature that is no number": ({"temperature": float("nan")}, "`temperature`"),
    "a temperature without end": ({"temperature": float("inf")}, "`temperature`"),
    "a temperature beyond all floats": ({"temperature": 10**400}, "`temperature`"),
    "a timeout of 0": ({"timeout": 0}, "`timeout` is a number of seconds above 0, or None"),
    "a timeout below 0": ({"timeout": -1}, "`timeout`"),
    "a timeout that is no number": ({"timeout": float("nan")}, "`timeout`"),
    "a timeout without end": ({"timeout": float("inf")}, "`timeout`"),
    "a timeout beyond all floats": ({"timeout": 10**400}, "`timeout`"),
    "a timeout in words": ({"timeout": "10"}, "`timeout`"),
    "a timeout of True": ({"timeout": True}, "`timeout`"),
    "an empty model": ({"model": ""}, "a model is named"),
    "a model of a provider without a key": ({"model": "groq/llama"}, "no key for `groq`: set GROQ_API_KEY"),
    "a provider alone": ({"model": "groq"}, "`groq` is a provider: name a model of it"),
    "a seed in words": ({"seed": "x"}, "`seed`"),
    "an empty stop": ({"stop": [""]}, "`stop`"),
    "a stop that is a number": ({"stop": 5}, "`stop`"),
    "tools that are no list": ({"tools": 5}, "`tools`"),
    "two tools of one name": ({"tools": [{"name": "now"}, {"name": "now"}]}, "two tools are called `now`"),
    "a schema that is none": ({"schema": "object"}, "`schema`"),
    "options that are no dict": ({"options": "top_p"}, "`options`"),
    "a stream by the back door": ({"options": {"stream": True}}, "`options` may not set `stream`"),
    "what JSON cannot say": ({"options": {"user": object()}}, "cannot be written as JSON"),
}
ASKS: dict[str, Callable[..., object]] = {
    "complete": lambda client, prompt, **options: client.complete(prompt, **options),
    "stall_detection": lambda client, prompt, **options: client.complete(prompt, stall_detection=True, **options),
    "stream": lambda client, prompt, **options: client.stream(prompt, **options),
    "submit": lambda client, prompt, **options: client.submit(prompt, **options).result(30),
    "map": lambda client, prompt, **options: next(iter(client.map([prompt], workers=1, **options))).unwrap(),
}


@pytest.mark.parametrize("way", ASKS)
@pytest.mark.parametrize("wrong", PROMPTS)
def test_a_wrong_prompt_is_refused_by_every_way_of_asking(server: FaultServer, wrong: str, way: str) -> None:
    prompt, says = PROMPTS[wrong]
    with client_of(server, retry=Retry()) as client, pytest.raises(ConfigError, match=says) as caught:
        ASKS[way](client, prompt)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("way", ASKS)
@pytest.mark.parametrize("wrong", OPTIONS)
def test_a_wrong_option_is_refused_by_every_way_of_asking(server: FaultServer, wrong: str, way: str) -> None:
    options, says = OPTIONS[wrong]
    with client_of(server, retry=Retry()) as client, pytest.raises(ConfigError, match=says):
        ASKS[way](client, "Hi", **options)


@pytest.mark.parametrize("way", ASKS)
def test_an_option_that_does_not_exist_is_refused_by_its_name(server: FaultServer, way: str) -> None:
    """As Python does, and as type checkers know beforehand."""
    with client_of(server) as client, pytest.raises(TypeError, match="unexpected keyword argument 'temprature'"):
        ASKS[way](client, "Hi", temprature=1)


@pytest.mark.parametrize("option", [{"streamed": True}, {"recover": "restart"}, {"phase": "own"}], ids=str)
def test_submit_takes_the_options_of_complete_alone(server: FaultServer, option: dict[str, Any]) -> None:
    with client_of(server) as client, pytest.raises(TypeError, match="unexpected keyword argument"):
        client.submit("Hi", **option)


@pytest.mark.parametrize("single", ["Hi", b"Hi", HI, Message("user", "Hi")], ids=["text", "bytes", "dict", "message"])
def test_map_refuses_a_single_prompt_instead_of_asking_its_letters(server: FaultServer, single: Any) -> None:  # noqa: ANN401
    with client_of(server) as client, pytest.raises(ConfigError, match="put a single one into a list"):
        client.map(single)


def test_wrong_input_is_no_failure_of_a_call(server: FaultServer) -> None:
    with client_of(server) as client:
        with pytest.raises(ConfigError):
            client.complete("")
        assert client.metrics().calls == 0


# Of a client


def of_client(server: FaultServer, **arguments: Any) -> Client:
    return Client(**{"model": MODEL, "api_key": KEY, "base_url": server.base_url, **arguments})


CLIENTS: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown provider": ({"model": "opnai/gpt-4o"}, "unknown provider `opnai`; did you mean `openai`"),
    "another unknown provider": ({"model": "mistrall/x"}, "did you mean `mistral`"),
    "a model without a provider": ({"model": "gpt-4o"}, "`gpt-4o` names no provider: write `provider/gpt-4o`"),
    "a provider without a model": ({"model": "openai"}, "name a model of it, such as `openai/gpt-4o-mini`"),
    "an empty model": ({"model": ""}, "a model is named"),
    "a model that is a number": ({"model": 5}, r"`Client\(model=…\)`"),
    "an empty key": ({"api_key": ""}, "the API key for `openai` holds"),
    "a key with a space": ({"api_key": f"{SECRET} x"}, "the API key for `openai` holds spaces, line breaks"),
    "a key with a line break": ({"api_key": f"{SECRET}\n"}, "the API key for `openai` holds"),
    "a key with a header": ({"api_key": f"{SECRET}\r\nX-Evil: 1"}, "the API key for `openai` holds"),
    "a key with an odd letter": ({"api_key": f"{SECRET}é"}, "the API key for `openai` holds"),
    "a key in bytes": ({"api_key": [SECRET]}, r"`Client\(api_key=…\)`"),
    "http to another machine": (
        {"base_url": "http://api.example.com/v1"},
        "would send the key in clear text: use https",
    ),
    "a user in the address": ({"base_url": f"https://me:{SECRET}@api.example.com/v1"}, "holds a user name or password"),
    "an address without a scheme": ({"base_url": "api.example.com/v1"}, "is not an `https://host/path` address"),
    "an address with a query": ({"base_url": f"https://api.example.com/v1?key={SECRET}"}, "has a `\\?` or `#`"),
    "an empty address": ({"base_url": ""}, "`base_url` is empty"),
    "a timeout below 0": ({"timeout": -1}, r"`Client\(timeout=…\)`: input should be greater than 0"),
    "a timeout of 0": ({"timeout": 0}, r"`Client\(timeout=…\)`"),
    "a timeout that is no number": ({"timeout": float("nan")}, r"`Client\(timeout=…\)`"),
    "a timeout without end": ({"timeout": float("inf")}, r"`Client\(timeout=…\)`: input should be a finite number"),
    "a timeout in words": ({"timeout": "soon"}, r"`Client\(timeout=…\)`"),
    "no workers": ({"workers": 0}, r"`Client\(workers=…\)`"),
    "timeouts that are none": ({"timeouts": {"idle": -1}}, "Timeouts"),
    "a retry that is none": ({"retry": {"attempts": 0}}, "Retry"),
    "an option of a retry that does not exist": (
        {"retry": {"atempts": 3}},
        "no option `atempts`; did you mean `attempts`",
    ),
}


@pytest.mark.parametrize("wrong", CLIENTS)
def test_a_client_that_would_not_do_is_never_made(server: FaultServer, wrong: str) -> None:
    """The error names what is wrong, and repeats nothing that may be secret."""
    arguments, says = CLIENTS[wrong]
    with pytest.raises(ConfigError, match=says) as caught:
        of_client(server, **arguments)
    assert isinstance(caught.value, ValueError)
    assert SECRET not in f"{caught.value} {caught.value!r}"
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("kind", "fields", "says"),
    [
        (Retry, {"atempts": 3}, "`Retry` has no option `atempts`; did you mean `attempts`"),
        (Timeouts, {"first_tokens": 3}, "`Timeouts` has no option `first_tokens`; did you mean `first_token`"),
        (Timeouts, {"idle": float("nan")}, r"`Timeouts\(idle=…\)`"),
        (Timeouts, {"connect": -1}, r"`Timeouts\(connect=…\)`"),
        (Timeouts, {"connect": None}, r"`Timeouts\(connect=…\)`"),
        (Retry, {"attempts": 0}, r"`Retry\(attempts=…\)`"),
    ],
)
def test_options_that_would_not_do_are_never_made(kind: type, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        kind(**fields)


def test_a_client_that_is_closed_says_so_to_every_way_of_asking(server: FaultServer) -> None:
    with client_of(server) as client:
        client.close()
        for ask in ASKS.values():
            with pytest.raises(ConfigError, match="this client is closed"):
                ask(client, "Hi")
