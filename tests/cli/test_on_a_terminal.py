"""The shell as somebody sees it who sits before a terminal."""

from __future__ import annotations

import argparse
import io
import sys
import threading

import pytest

from support.fault_server import FaultServer, Gate, RecordedRequest, Reset, Step, error, sse
from support.openai_wire import stream_events
from support.shell import KEY, Terminal, command
from tidegate.cli.cells import cells
from tidegate.cli.options import TOY, open_client
from tidegate.providers.registry import LOCAL_MODEL

LONG = (
    "A tide gate lets water out freely and shuts by itself when the sea pushes back. "
    "潮汐闸门是一种让水在一个方向自由流动的开口，当潮水反向时会自动关闭。 cafe\u0301 and https://example.com/an/address/that/is/long\n"  # noqa: RUF001 (it is meant)
)


def test_words_are_not_torn_and_no_line_is_too_long(server: FaultServer) -> None:
    server.always(sse(stream_events([LONG[start : start + 3] for start in range(0, len(LONG), 3)])))
    with Terminal(command("ask", "x"), width=30) as terminal:
        assert terminal.end() == 0
    lines = terminal.text.splitlines()
    assert max(cells(line) for line in lines if "://" not in line) in (29, 30)
    assert "".join(lines).replace(" ", "") == LONG.replace(" ", "").rstrip("\n")
    torn = {word for line in lines for word in line.split()} - {*LONG.split()}
    assert all(word > "\u2e80" for word in torn)  # only ideographs, which have no spaces between them
    assert not any(line.startswith(("，", "。")) for line in lines)  # noqa: RUF001 (it is meant)


def test_an_answer_cannot_steer_the_terminal(server: FaultServer) -> None:
    server.always(sse(stream_events(["\x1b[2J\x1b]0;owned\x07 and \x9b31m"])))
    with Terminal(command("ask", "x")) as terminal:
        assert terminal.end() == 0
    assert terminal.raw == "␛[2J␛]0;owned␇ and \ufffd31m\r\n"


def test_a_failure_is_coloured_on_a_terminal_unless_told_not_to(server: FaultServer) -> None:
    server.always(error(400))
    with Terminal(command("ask", "x")) as terminal:
        assert terminal.end() == 1
    assert terminal.raw.startswith("\x1b[31mtidegate: \x1b[0mopenai/")
    with Terminal(command("ask", "x"), NO_COLOR="1") as terminal:
        assert terminal.end() == 1
    assert terminal.raw.startswith("tidegate: openai/")


def test_who_waits_is_told_why(server: FaultServer) -> None:
    server.script(error(503, headers={"retry-after": "0.01"}), sse(stream_events(["there"])))
    with Terminal(command("ask", "x"), NO_COLOR="1") as terminal:
        assert terminal.end() == 0
    assert terminal.text == "tidegate: openai/gpt-4o-mini: Overloaded, asking again in 0.0 s\nthere\n"


def test_a_chat_is_typed_stopped_and_left(server: FaultServer) -> None:
    """Ctrl-C ends an answer and not the chat, what came of it stays, and Ctrl-D ends the chat."""
    answers = {
        "first": sse([*stream_events(["half an "], finish=None, usage=None), Gate(threading.Event())]),
        "second": sse([*stream_events(["broken "], finish=None, usage=None), Reset()]),
        "third": sse(stream_events(["whole"], usage=(7, 1))),
    }

    def on(request: RecordedRequest) -> Step:
        return answers[request.json["messages"][-1]["content"]]

    server.on(on)
    with Terminal(command("chat"), NO_COLOR="1") as terminal:
        terminal.expect("Ctrl-D leaves", "\n>")
        terminal.type("first\r")
        terminal.expect("half an")
        terminal.interrupt()
        terminal.expect("stopped", "\n>")
        terminal.type("second\r")
        terminal.expect("broke off", "\n>")
        terminal.type("third\r")
        terminal.expect("whole", "\n>")
        terminal.type("/cost\r")
        terminal.expect("questions: 3, ", " tokens in, ", "\n>")
        terminal.type("\x04")
        assert terminal.end() == 0
    assert [turn["content"] for turn in server.requests[-1].json["messages"]] == [
        "first", "half an ", "second", "broken ", "third",
    ]  # fmt: skip
    assert "Traceback" not in terminal.text


class Watched(io.StringIO):
    """Standard error that somebody watches."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("model", "environment", "told"),
    [
        (None, {}, True),
        (LOCAL_MODEL, {}, False),
        (None, {"TIDEGATE_MODEL": LOCAL_MODEL}, False),
        (None, {"OPENAI_API_KEY": KEY}, False),
    ],
)
def test_who_chose_nothing_is_told_that_a_toy_answers(
    model: str | None,
    environment: dict[str, str],
    told: bool,  # noqa: FBT001 (a column of the table)
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    options = argparse.Namespace(model=model, base_url=None, timeout=None)
    for stream, expected in ((Watched(), told), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        open_client(options).close()
        assert (" ".join(TOY.split()) in " ".join(stream.getvalue().split())) is expected
