"""`tidegate chat` with lines that are piped."""

from __future__ import annotations

import io
import json
import sys

import pytest

from support.fault_server import FaultServer, RecordedRequest, Reset, error, sse
from support.fault_server import Step as ServerStep
from support.openai_wire import stream_events
from support.shell import KEY, run
from tidegate.cli.main import main


def echo(request: RecordedRequest) -> ServerStep:
    """Answers with what was asked last."""
    return sse(stream_events(["You said: ", request.json["messages"][-1]["content"]], usage=(1000, 10)))


def said(request: RecordedRequest) -> list[tuple[str, str]]:
    return [(turn["role"], turn["content"]) for turn in request.json["messages"]]


@pytest.fixture
def talk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], server: FaultServer) -> Talk:
    server.on(echo)
    return Talk(monkeypatch, capsys)


class Talk:
    """Pipes lines into a chat of this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, lines: str, *arguments: str) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
        code = main(["chat", *arguments])
        shown = self._capsys.readouterr()
        assert KEY not in shown.out + shown.err
        return code, shown.out, shown.err


def test_each_line_is_answered_and_only_answers_are_on_standard_output(server: FaultServer) -> None:
    server.on(echo)
    ended = run("chat", stdin="hello\n\n  and you?\n/cost\n")
    assert (ended.returncode, ended.stdout) == (0, "You said: hello\nYou said: and you?\n")
    assert ended.stderr == "tidegate: questions: 2, 2,000 tokens in, 20 out, $0.00031\n"


def test_a_question_goes_with_all_that_was_said_before(talk: Talk, server: FaultServer) -> None:
    assert talk("one\ntwo\n", "--system", "Be brief.")[0] == 0
    assert said(server.requests[1]) == [
        ("system", "Be brief."), ("user", "one"), ("assistant", "You said: one"), ("user", "two"),
    ]  # fmt: skip


def test_clear_forgets_and_quit_leaves(talk: Talk, server: FaultServer) -> None:
    code, out, _ = talk("one\n/clear\ntwo\n/quit\nthree\n")
    assert (code, out) == (0, "You said: one\nYou said: two\n")
    assert [said(request) for request in server.requests] == [[("user", "one")], [("user", "two")]]


def test_an_unknown_command_is_answered_with_the_nearest_and_not_asked(talk: Talk, server: FaultServer) -> None:
    code, out, err = talk("/cots\n/help\n")
    assert (code, out, server.requests) == (0, "", [])
    assert "there is no command `/cots`; did you mean `/cost`?" in err
    assert "/clear     forget the conversation\n" in err


def test_a_failed_answer_is_1_and_the_next_line_is_still_asked(talk: Talk, server: FaultServer) -> None:
    server.script(error(400))
    code, out, err = talk("one\ntwo\n")
    assert (code, out) == (1, "You said: two\n")
    assert err.startswith("tidegate: openai/gpt-4o-mini: ")
    assert said(server.requests[1]) == [("user", "two")]


def test_half_an_answer_stays_in_the_conversation(talk: Talk, server: FaultServer) -> None:
    server.script(sse([*stream_events(["half"], finish=None, usage=None), Reset()]))
    code, out, _ = talk("one\ntwo\n")
    assert (code, out) == (1, "half\nYou said: two\n")
    assert said(server.requests[1]) == [("user", "one"), ("assistant", "half"), ("user", "two")]


def test_json_is_one_object_a_turn_also_for_a_failure(talk: Talk, server: FaultServer) -> None:
    server.script(error(400))
    code, out, _ = talk("one\ntwo\n", "--json")
    failed, answered = map(json.loads, out.splitlines())
    assert code == 1
    assert failed["error"]["type"] == "BadRequest"
    assert (answered["text"], answered["usage"]["input_tokens"]) == ("You said: two", 1000)


def test_a_conversation_that_grew_too_long_is_told_how_to_go_on(talk: Talk, server: FaultServer) -> None:
    server.script(sse(stream_events(["fine"])), error(400, code="context_length_exceeded"))
    code, _, err = talk("one\ntwo\n")
    assert code == 1
    assert err.endswith("tidegate: /clear forgets the conversation\n")


def test_a_wrong_model_is_asking_wrongly(talk: Talk) -> None:
    code, out, err = talk("one\n", "-m", "nobody/nothing")
    assert (code, out) == (2, "")
    assert err.startswith("tidegate: unknown provider `nobody`")
