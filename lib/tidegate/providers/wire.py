"""What all wire formats share: requests and answers in JSON, events of a stream, and reading values nobody promised."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tidegate import jsontext
from tidegate.chat.messages import Message
from tidegate.errors import ConfigError, MalformedEvent, MalformedResponse
from tidegate.options import SecretStr
from tidegate.providers.refusals import READ_LIMIT, readable, redacted
from tidegate.transport.base import HttpRequest
from tidegate.version import USER_AGENT


def json_headers(more: Mapping[str, str]) -> dict[str, str]:
    """The headers of every request, and `more`."""
    return {"Content-Type": "application/json", "User-Agent": USER_AGENT, **more}


def json_post(url: str, headers: Mapping[str, str], fields: Mapping[str, Any], *, streamed: bool) -> HttpRequest:
    """A POST of `fields` as JSON. Raises `ConfigError` for what cannot be written as JSON."""
    try:
        body = jsontext.encode(fields)
    except ValueError as error:
        problem = str(error)
    else:
        return HttpRequest(
            "POST",
            url,
            {
                **headers,
                "Accept": "text/event-stream" if streamed else "application/json",
                # A compressed stream would be held back by whoever compresses it.
                "Accept-Encoding": "identity" if streamed else "gzip, deflate",
                "Content-Length": str(len(body)),
            },
            body,
            streamed=streamed,
        )
    raise ConfigError(f"the request cannot be written as JSON: {problem}")


def merged(fields: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """What is said, with the caller's own fields: an object among them is put into the one that is there."""
    body = {name: value for name, value in fields.items() if value is not None}
    for name, value in options.items():
        there = body.get(name)
        body[name] = {**there, **value} if isinstance(there, dict) and isinstance(value, Mapping) else value
    return body


def read_answer(body: bytes, key: SecretStr | None) -> Any:  # noqa: ANN401 (any JSON value)
    """The JSON of a 2xx body. Raises `MalformedResponse`."""
    try:
        return jsontext.decode(body)
    except ValueError as caught:
        problem = f"the answer is not JSON: {caught}" if body.strip() else "the answer is empty"
    raise MalformedResponse(problem, body=readable(body, key))


def read_event(data: str, number: int, key: SecretStr | None) -> Mapping[str, Any]:
    """The JSON object of a stream's event. Raises `MalformedEvent`, with its number (from 1)."""
    try:
        event = jsontext.decode(data)
    except ValueError as caught:
        problem = str(caught)
    else:
        if isinstance(event, Mapping):
            return event
        problem = "it is not an object"
    raise malformed(problem, data, number, key)


def malformed(problem: str, data: str, number: int, key: SecretStr | None) -> MalformedEvent:
    """The error for an event that cannot be read."""
    body = redacted(data[:READ_LIMIT], key)
    return MalformedEvent(f"event {number} of the stream cannot be read: {problem}", body=body)


def string(value: object) -> str | None:
    """`value` if it is a text."""
    return value if isinstance(value, str) else None


def text_of(value: object) -> str:
    """`value` if it is a text, else nothing."""
    return value if isinstance(value, str) else ""


def mapping(value: object) -> Mapping[str, Any]:
    """`value` if it is an object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def objects(value: object) -> list[Mapping[str, Any]]:
    """The objects of a list; none, if it is no list."""
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def count(source: object, name: str) -> int | None:
    """A token count; None for whatever is none (absent, null, negative, a string). Some write whole floats."""
    value = source.get(name) if isinstance(source, Mapping) else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def place(value: object) -> int | None:
    """An index; None for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def number(value: object) -> float:
    """A number; 0 for whatever is none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def json_text(value: object) -> str:
    """The JSON text of a tool's arguments: some send it as text, some as an object."""
    return value if isinstance(value, str) else jsontext.encode(value).decode() if value is not None else ""


def without_names(provider: str, messages: Iterable[Message]) -> None:
    """Raise `ConfigError` where a message names its speaker, and the provider has no field for it."""
    named = next((message.name for message in messages if message.name is not None and message.role != "tool"), None)
    if named is not None:
        raise ConfigError(f"`{provider}` has no names of speakers: say in the text that `{named[:40]}` speaks")


def unable(provider: str, name: str, value: object, what: str) -> None:
    """Raise `ConfigError` where something is asked that the provider has no words for."""
    if value is not None:
        raise ConfigError(f"`{provider}` has {what}: leave out `{name}={value!r}`")
