"""`tidegate demo`."""

from __future__ import annotations

import json
import re

import pytest

from support.fault_server import FaultServer, RecordedRequest, error, sse
from support.fault_server import Step as ServerStep
from support.openai_wire import stream_events
from support.shell import Terminal, command, run
from tidegate.cli.demo import COUNTRIES
from tidegate.cli.main import main

OTHER = ("-m", "openai/gpt-4o-mini")


def answer(request: RecordedRequest) -> ServerStep:
    return sse(stream_events(["I do ", "not know."], usage=(10, 4)))


def test_it_shows_an_answer_then_twenty_then_what_they_used(server: FaultServer) -> None:
    server.on(answer)
    ended = run("demo", *OTHER)
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert lines.count("I do not know.") == 1
    assert {line.split()[0] for line in lines if line.endswith(" I do not know.")} == {*COUNTRIES}
    table = dict(re.split(r"  +", line, maxsplit=1) for line in lines[lines.index("What it used") + 1 :])
    assert table["model"] == "openai/gpt-4o-mini"
    assert table["calls"] == "21, none failed"
    assert table["tokens"] == "210 in, 84 out"
    assert table["cost"] == "$0.000082"
    assert re.fullmatch(r"p50 \d+\.\d\d s, p95 \d+\.\d\d s", table["to first token"])
    assert re.match(r"\d+\.\d times: their own times add up to ", table["speed-up"])


def test_a_failed_call_is_counted_and_1(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.script(answer(server.requests[0] if server.requests else None), error(400))  # type: ignore[arg-type]
    server.on(answer)
    assert main(["demo", *OTHER]) == 1
    shown = capsys.readouterr().out
    assert "21, 1 failed" in shown
    assert "openai/gpt-4o-mini: The request failed" in shown


def test_json_is_the_figures_alone(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on(answer)
    assert main(["demo", "--json", *OTHER]) == 0
    shown = capsys.readouterr()
    figures = json.loads(shown.out)
    assert shown.err == ""
    assert (figures["calls"], figures["failed"], figures["output_tokens"]) == (21, 0, 84)
    assert figures["speed_up"] > 0


def test_on_a_terminal_a_bar_stands_below_the_answers(server: FaultServer) -> None:
    server.on(answer)
    with Terminal(command("demo", *OTHER), width=60) as terminal:
        assert terminal.end() == 0
    assert "20/20  ━━━" in terminal.text
    assert terminal.raw.count("\r\x1b[K") > len(COUNTRIES)  # it made way for each of them
    for country in COUNTRIES:
        assert f"\x1b[K{country:<10}I do not know.\r\n" in terminal.raw


@pytest.mark.slow
def test_the_embedded_model_does_it_without_a_key() -> None:
    """On a real model, and it says that it is a toy."""
    ended = run("demo")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "a toy of 135 million parameters" in ended.stdout
    assert "calls           21, none failed" in ended.stdout
