"""`tidegate agent` on pipes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from support.llmock import LLMock
from support.shell import KEY, run
from tidegate.cli.main import main

WISH = {"name": "calculator", "arguments": {"expression": "25 * 4 + 10"}}


@pytest.fixture
def mock(monkeypatch: pytest.MonkeyPatch) -> Iterator[LLMock]:
    with LLMock() as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.base_url())
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        yield running


def test_the_answer_goes_to_standard_output_and_nothing_else_does(mock: LLMock) -> None:
    mock.queue({"type": "reply", "tool_calls": [WISH]}, {"type": "reply", "text": "It is 110."})
    ended = run("agent", "what", "is", "25*4+10", "--explain", OPENAI_BASE_URL=mock.base_url(), OPENAI_API_KEY=KEY)
    assert (ended.returncode, ended.stdout) == (0, "It is 110.\n")
    assert "▸ calculator(expression='25 * 4 + 10')" in ended.stderr
    assert "│ 110" in ended.stderr
    assert "as task agent-" in ended.stderr
    mock.judge(calls=2, attempts=2)


def test_json_is_an_event_a_line(mock: LLMock, capsys: pytest.CaptureFixture[str]) -> None:
    mock.queue({"type": "reply", "tool_calls": [WISH]}, {"type": "reply", "text": "It is 110."})
    assert main(["agent", "--json", "what is 25*4+10", "-m", "openai/gpt-4o-mini"]) == 0
    shown = capsys.readouterr()
    events: list[dict[str, Any]] = [json.loads(line) for line in shown.out.splitlines()]
    assert shown.err == ""
    assert [event["event"] for event in events if event["event"] != "answer"] == [
        "tool", "result", "step", "step", "done",
    ]  # fmt: skip
    assert events[0] == {"event": "tool", "step": 1, "name": "calculator", "arguments": WISH["arguments"]}
    assert (events[1]["result"], events[1]["problem"]) == ("110", None)
    done = events[-1]
    assert (done["answer"], done["stopped"], done["steps"]) == ("It is 110.", "answered", 2)
    assert done["cost"] > 0


def test_a_limit_is_named_and_ends_with_1(mock: LLMock, capsys: pytest.CaptureFixture[str]) -> None:
    mock.queue({"type": "reply", "tool_calls": [WISH]})
    assert main(["agent", "--max-steps", "1", "what is 25*4+10"]) == 1
    assert "it took as many steps as it may (--max-steps)" in capsys.readouterr().err


def test_a_failure_is_told_like_any(mock: LLMock, capsys: pytest.CaptureFixture[str]) -> None:
    mock.queue({"type": "fail", "status": 401})
    assert main(["agent", "what is 25*4+10"]) == 1
    assert "401" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tools", "calculater", "x"], "did you mean `calculator`"),
        (["--budget", "much", "x"], "USD"),
        ([" "], "a task is"),
    ],
)
def test_bad_input_is_named(mock: LLMock, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    assert main(["agent", *arguments]) == 2
    assert words in capsys.readouterr().err
    assert mock.requests == []
