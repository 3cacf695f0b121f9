"""OpenAI-shaped JSON for scripted servers: answers, stream payloads, errors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

Json = dict[str, Any]
Usage = tuple[int, int] | Mapping[str, Any]
"""Tokens in and out, or the whole `usage` object as it shall be sent."""

MODEL = "gpt-4o-mini"
ANSWER_ID = "chatcmpl-1"
CREATED = 1_700_000_000
"""Unix seconds of every answer: any fixed moment does."""


def completion(
    text: str | None = "Hello.",
    *,
    finish_reason: str | None = "stop",
    usage: Usage | None = (5, 7),
    model: str = MODEL,
    id: str = ANSWER_ID,  # noqa: A002  # the field's own name
    tool_calls: list[Json] | None = None,
) -> Json:
    """A whole answer. `usage=None` leaves the key out, as some compatible servers do."""
    message: Json = {"role": "assistant", "content": text}
    if tool_calls is not None:
        message["tool_calls"] = tool_calls
    choice = {"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": None}
    answer = _envelope("chat.completion", id, model, [choice])
    return answer if usage is None else answer | {"usage": usage_object(usage)}


def chunk(
    delta_text: str | None = None,
    *,
    finish_reason: str | None = None,
    role: str | None = None,
    tool_call: Json | None = None,
    usage: Usage | None = None,
    model: str = MODEL,
    id: str = ANSWER_ID,  # noqa: A002  # the field's own name
) -> Json:
    """One event of a stream. With `usage` alone, `choices` is empty: that is how the usage event looks."""
    delta: Json = {"role": role, "content": delta_text, "tool_calls": tool_call and [tool_call]}
    delta = {name: value for name, value in delta.items() if value is not None}
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
    choices = [] if usage is not None and not delta and finish_reason is None else [choice]
    return _envelope("chat.completion.chunk", id, model, choices) | {"usage": usage and usage_object(usage)}


def stream_events(
    pieces: Iterable[str],
    *,
    usage: Usage | None = (5, 7),
    finish: str | None = "stop",
    model: str = MODEL,
    id: str = ANSWER_ID,  # noqa: A002  # the field's own name
) -> list[str]:
    """The `data:` payloads of a stream, in order: role, one for each piece, finish reason, usage.

    `finish=None` and `usage=None` leave their event out. `[DONE]` is the server's business.
    """
    events = [chunk("", role="assistant", model=model, id=id)]
    events += [chunk(piece, model=model, id=id) for piece in pieces]
    if finish is not None:
        events.append(chunk(finish_reason=finish, model=model, id=id))
    if usage is not None:
        events.append(chunk(usage=usage, model=model, id=id))
    return [json.dumps(event) for event in events]


def tool_call(name: str, arguments: Mapping[str, Any] | str, *, id: str = "call_1") -> Json:  # noqa: A002
    """One entry of an answer's `tool_calls`. Text `arguments` are sent as they are, also when they are not JSON."""
    return {"id": id, "type": "function", "function": {"name": name, "arguments": _json_text(arguments)}}


def tool_call_delta(
    index: int = 0,
    *,
    id: str | None = None,  # noqa: A002  # the field's own name
    name: str | None = None,
    arguments: str | None = None,
) -> Json:
    """A piece of a streamed tool call. The first piece has `id` and `name`, later ones only `arguments`."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    opening = {} if id is None else {"id": id, "type": "function"}
    return {"index": index, **opening, "function": function}


def error_body(
    type: str = "invalid_request_error",  # noqa: A002  # the field's own name
    code: str | None = None,
    message: str = "The request was refused.",
) -> Json:
    """The body of an HTTP error, or the payload of an error inside a stream."""
    return {"error": {"message": message, "type": type, "param": None, "code": code}}


def usage_object(usage: Usage) -> Json:
    """The `usage` object for tokens in and out; a mapping is taken as it is."""
    if isinstance(usage, Mapping):
        return dict(usage)
    tokens_in, tokens_out = usage
    return {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}


def _envelope(kind: str, answer_id: str, model: str, choices: list[Json]) -> Json:
    return {"id": answer_id, "object": kind, "created": CREATED, "model": model, "choices": choices}


def _json_text(arguments: Mapping[str, Any] | str) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments)
