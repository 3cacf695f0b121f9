"""The public types as a user meets them: checked by mypy, never run."""

from collections.abc import Iterator
from concurrent.futures import Future
from decimal import Decimal
from typing import Any, assert_type

import tidegate
from tidegate import (
    Attempt,
    Chunk,
    Client,
    Completion,
    Message,
    Metrics,
    Outcome,
    Retry,
    Stream,
    Timeline,
    Timeouts,
    Usage,
)


def clients() -> None:
    assert_type(Client(), Client)
    assert_type(Client("openai/gpt-4o-mini", timeout=None, retry=None, timeouts=Timeouts(connect=1)), Client)
    assert_type(Client.from_config("tidegate.toml", profile="batch"), Client)
    with Client(retry=Retry(attempts=2)) as client:
        assert_type(client, Client)
        assert_type(client.metrics(), Metrics)
    Client(timeuot=3)  # type: ignore[call-arg]


def calls(client: Client) -> None:
    completion = client.complete([Message("user", "hello"), {"role": "user", "content": "?"}], temperature=0.5)
    assert_type(completion, Completion)
    assert_type(completion.text, str)
    assert_type(completion.usage, Usage | None)
    assert_type(completion.cost, Decimal | None)
    assert_type(completion.attempts, tuple[Attempt, ...])
    assert_type(completion.timeline, Timeline)
    assert_type(completion.raw, Any)
    client.complete("x", max_token=3)  # type: ignore[call-arg]


def streams(client: Client) -> None:
    with client.stream("x", recover="restart") as stream:
        assert_type(stream, Stream)
        for chunk in stream:
            assert_type(chunk, Chunk)
    assert_type(stream.completion, Completion)
    client.stream("x", recover="maybe")  # type: ignore[arg-type]


def many(client: Client) -> None:
    assert_type(client.submit("x", max_tokens=3), Future[Completion])
    assert_type(client.map(["x"], workers=2, progress=True, temperature=0.1), Iterator[Outcome])
    client.map(["x"], temprature=0.1)  # type: ignore[call-arg]


def errors(error: tidegate.CallError) -> None:
    assert_type(error.retry_after, float | None)
    assert_type(error.attempts, tuple[Attempt, ...])
