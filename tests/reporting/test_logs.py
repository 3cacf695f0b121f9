"""Events as log records."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

import tidegate
from support.fault_server import FaultServer, error, json_reply
from support.openai_wire import completion
from tidegate.pipeline.events import AttemptEnded, CallEnded, Event, RetryScheduled


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


def _client(server: FaultServer, **arguments: Any) -> tidegate.Client:
    retry = tidegate.Retry(attempts=2, first=0.001)
    return tidegate.Client(
        "openai/gpt-4o-mini", base_url=server.base_url, api_key="sk-test-key", retry=retry, **arguments
    )


def test_a_retry_is_logged_at_info_and_a_success_at_debug(
    server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "tidegate")
    server.script(error(503), json_reply(completion("the answer")))
    _client(server).complete("the question")
    levels = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "tidegate"]
    assert [level for level, _ in levels] == ["DEBUG", "INFO", "DEBUG", "DEBUG"]
    assert "attempt 1 failed (Overloaded), again in" in levels[1][1]
    assert not any("the answer" in message or "the question" in message for _, message in levels)


def test_a_failure_is_logged_at_warning_with_its_figures(server: FaultServer, caplog: pytest.LogCaptureFixture) -> None:
    server.always(error(401, message="no such key"))
    with pytest.raises(tidegate.AuthenticationFailed):
        _client(server).complete("x")
    record = next(record for record in caplog.records if record.name == "tidegate" and record.levelname != "DEBUG")
    assert record.levelname == "WARNING"
    assert record.__dict__["tidegate_outcome"] == "AuthenticationFailed"
    assert record.__dict__["tidegate_attempts"] == 1


def test_a_program_without_logging_sees_nothing(server: FaultServer, capfd: pytest.CaptureFixture[str]) -> None:
    """No handler of last resort prints a failure that was raised anyway."""
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("tidegate").handlers)


def test_listeners_get_every_event_and_cannot_break_a_call(
    server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Event] = []

    def broken(event: Event) -> None:
        raise RuntimeError("listener")

    server.script(error(503), json_reply(completion("hello")))
    assert _client(server, listeners=[broken, heard.append]).complete("x").text == "hello"
    assert [type(event) for event in heard] == [AttemptEnded, RetryScheduled, AttemptEnded, CallEnded]
    assert sum("a listener failed" in record.getMessage() for record in caplog.records) == 4
