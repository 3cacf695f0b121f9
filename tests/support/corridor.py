"""Calls as policies get them, for tests of one policy alone."""

from __future__ import annotations

from typing import Any

from tidegate.chat.request import ChatRequest
from tidegate.chat.timeline import Trace
from tidegate.clock import SYSTEM_CLOCK, CancelToken, Clock, Deadline
from tidegate.pipeline.call import Call, Route


def route_of(model: str = "gpt-4o-mini") -> Route:
    """A route of a provider that nobody reaches."""
    return Route("openai", model, "https://api.example.com/v1", "key")


def call_of(
    *, clock: Clock = SYSTEM_CLOCK, timeout: float | None = None, model: str = "gpt-4o-mini", **rest: Any
) -> Call:
    """A call that is about to enter a policy."""
    return Call(
        id="call-1",
        request=ChatRequest.build("Hi"),
        route=route_of(model),
        deadline=Deadline.after(timeout, clock),
        cancel=CancelToken(),
        trace=Trace(clock.monotonic),
        **rest,
    )
