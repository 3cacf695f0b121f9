"""A JSON schema in words, for models that take none."""

from __future__ import annotations

import dataclasses

from tidegate import jsontext
from tidegate.chat.messages import Message
from tidegate.chat.request import ChatRequest


def with_instructions(request: ChatRequest) -> ChatRequest:
    """The request with a system message that asks for its schema."""
    if request.schema is None:
        return request
    wish = Message(
        "system",
        "Answer with one JSON value and nothing else: no explanation, no Markdown fence. It must follow this JSON "
        f"schema:\n{jsontext.encode(request.schema).decode()}",
    )
    first = next(
        (i for i, message in enumerate(request.messages) if message.role not in ("system", "developer")),
        len(request.messages),
    )
    messages = (*request.messages[:first], wish, *request.messages[first:])
    return dataclasses.replace(request, messages=messages, schema=None)
