"""`tidegate ask` on pipes."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from llmock.testing import LLMockServer

from support.fault_server import FaultServer, Gate, Reset, error, json_reply, sse
from support.openai_wire import completion, error_body, stream_events
from support.shell import KEY, SECONDS, command, environment, run, start
from tidegate.cli.main import main


@pytest.fixture(scope="module")
def llmock() -> Iterator[str]:
    with LLMockServer() as running:
        yield running.base_url("openai")


def test_an_answer_goes_to_standard_output_and_nothing_else_does(llmock: str) -> None:
    """Against a server that was not written for these tests."""
    ended = run("ask", "what", "is", "a", "tide", "gate", OPENAI_BASE_URL=llmock, OPENAI_API_KEY=KEY)
    assert ended.returncode == 0
    assert ended.stdout.strip()
    assert ended.stdout.endswith("\n")
    assert ended.stderr == ""


@pytest.mark.parametrize(
    ("model", "key"),
    [
        ("anthropic/claude-haiku-4-5", "ANTHROPIC_API_KEY"),
        ("cohere/command-a-03-2025", "CO_API_KEY"),
        ("gemini/gemini-2.5-flash", "GEMINI_API_KEY"),
    ],
)
def test_every_provider_is_asked_alike(model: str, key: str) -> None:
    provider, name = model.split("/")
    with LLMockServer() as running:
        address = running.base_url(provider)
        ended = run("ask", "-m", model, "--base-url", address, "--explain", "What is a tide gate?", **{key: KEY})
        [record] = running.state.journal.records(wait=SECONDS)
    assert ended.returncode == 0, ended.stderr
    assert name in ended.stdout  # it answers with the name of the model that it plays
    assert f"{model}" in ended.stderr
    assert record.provider == provider


def test_the_question_is_the_argument_and_below_it_standard_input(server: FaultServer) -> None:
    server.always(sse(stream_events(["It does ", "nothing."])))
    ended = run("ask", "Explain:", "--system", "Be brief.", "--max-tokens", "9", stdin="def f():\n    pass\n")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "It does nothing.\n", "")
    [request] = server.requests
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.json["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Explain:\n\ndef f():\n    pass"},
    ]
    assert request.json["max_completion_tokens"] == 9


def test_an_answer_that_ends_its_own_line_gets_no_second_end(
    server: FaultServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.always(sse(stream_events(["one\ntwo\n"])))
    assert main(["ask", "x"]) == 0
    assert capsys.readouterr().out == "one\ntwo\n"


def test_json_is_one_object_that_says_all(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.always(sse(stream_events(["Häl", "lo."], usage=(1000, 100))))
    assert main(["ask", "x", "--json"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out.count("\n") == 1
    answer = json.loads(shown.out)
    assert list(answer) == [
        *("text", "model", "provider", "finish_reason", "complete", "usage", "cost", "attempts", "timeline")
    ]
    assert (answer["text"], answer["provider"], answer["complete"]) == ("Hällo.", "openai", "yes")
    assert (answer["usage"]["input_tokens"], answer["usage"]["output_tokens"]) == (1000, 100)
    assert answer["cost"] == 0.00021  # 0.15 and 0.60 dollars for a million
    assert [attempt["outcome"] for attempt in answer["attempts"]] == ["ok"]
    phases = answer["timeline"]
    assert phases.pop("total") == pytest.approx(sum(phases.values()), abs=1e-5)


def test_json_asks_again_when_an_answer_tears(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.script(sse([*stream_events(["hal"], finish=None, usage=None), Reset()]), sse(stream_events(["whole"])))
    assert main(["ask", "x", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == "whole"


def test_what_came_before_a_failure_stays_and_the_failure_is_one_line(server: FaultServer) -> None:
    server.script(sse([*stream_events(["half ", "an"], finish=None, usage=None), Reset()]))
    ended = run("ask", "x")
    assert (ended.returncode, ended.stdout) == (1, "half an\n")
    assert ended.stderr.startswith("tidegate: openai/gpt-4o-mini: the answer broke off: ")
    assert ended.stderr.endswith("ask again for the whole.\n")
    assert ended.stderr.count("\n") == 1


def test_a_failure_as_json_is_an_object_and_holds_no_key(
    server: FaultServer, capsys: pytest.CaptureFixture[str]
) -> None:
    body = error_body("invalid_request_error", "invalid_api_key", f"Incorrect API key provided: {KEY}.")
    server.always(json_reply(body, 401))
    assert main(["ask", "x", "--json"]) == 1
    shown = capsys.readouterr()
    failure = json.loads(shown.out)
    assert (failure["text"], failure["complete"]) == ("", "no")
    assert (failure["error"]["type"], failure["error"]["status"]) == ("AuthenticationFailed", 401)
    assert [attempt["status"] for attempt in failure["attempts"]] == [401]
    assert shown.err.startswith("tidegate: ")
    assert KEY not in shown.out + shown.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ask"], "there is no question"),
        (["ask", "x", "-m", "gpt-4o"], "write `provider/gpt-4o`"),
        (["ask", "x", "-m", "opnai/gpt-4o"], "did you mean `openai`?"),
        (["ask", "x", "-m", "groq/some-model"], "set GROQ_API_KEY\n"),
        (["ask", "x", "--temperature", "9"], "--temperature is a number from 0 to 2"),
        (["ask", "x", "--max-tokens", "0"], "a whole number of at least 1"),
        (["ask", "x", "--timeout", "-1"], "a number of seconds above 0"),
        (["ask", "x", "--base-url", "http://example.com/v1"], "set TIDEGATE_ALLOW_HTTP=true"),
        (["ask", "x", "--max-token", "3"], "unrecognized arguments: --max-token"),
    ],
)
def test_asking_wrongly_is_2_and_sends_nothing(
    arguments: list[str], said: str, server: FaultServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err
    assert "Traceback" not in shown.err
    assert server.requests == []


@pytest.mark.parametrize(
    ("finish", "said"),
    [
        ("length", "the answer is cut: it reached the limit of tokens"),
        ("content_filter", "the answer is cut: the provider's content filter"),
        ("odd", "the answer may be cut: the provider gave `odd` for its end"),
        ("stop", ""),
    ],
)
def test_an_answer_that_is_cut_is_said_to_be(
    finish: str, said: str, server: FaultServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.always(sse(stream_events(["some"], finish=finish)))
    assert main(["ask", "x"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "some\n"
    assert (said in shown.err) if said else (shown.err == "")


def test_a_traceback_is_for_debug_only(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.always(error(400))
    assert main(["ask", "x"]) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert main(["ask", "x", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_explain_says_on_standard_error_where_the_time_went(
    server: FaultServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.script(error(503, headers={"retry-after": "0"}), sse(stream_events(["x"], usage=(1200, 34)), interval=0.01))
    assert main(["ask", "x", "--explain"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "x\n"
    lines = [line.split() for line in shown.err.splitlines()]
    assert ["time", "seconds", "share"] in lines
    assert [line[-1] for line in lines if line[:1] in (["1"], ["2"])] == ["503)", "ok"]
    assert "1,200 tokens in, 34 out, $0.00020" in shown.err


def test_an_answer_is_live_on_a_pipe(server: FaultServer) -> None:
    """The first piece is read while the server still withholds the second."""
    gate = threading.Event()
    first, *rest = stream_events(["now ", "later"])[1:]
    server.always(sse([first, Gate(gate), *rest]))
    with start("ask", "x") as process:
        assert process.stdout is not None
        assert process.stdout.read(4) == "now "
        gate.set()
        assert process.communicate(timeout=SECONDS) == ("later\n", "")
    assert process.returncode == 0


def test_ctrl_c_ends_it_with_130_and_leaves_what_came(server: FaultServer) -> None:
    first, *_ = stream_events(["begun"])[1:]
    server.always(sse([first, Gate(threading.Event())]))
    with start("ask", "x") as process:
        assert process.stdout is not None
        assert process.stdout.read(5) == "begun"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=SECONDS) == ("\n", "")
    assert process.returncode == 130
    server.wait_until(lambda: server.open_connections == 0)


def test_a_reader_that_leaves_ends_it_quietly(server: FaultServer) -> None:
    gate = threading.Event()
    first, *rest = stream_events(["now ", "later"])[1:]
    server.always(sse([first, Gate(gate), *rest]))
    with start("ask", "x") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(4)
        process.stdout.close()
        gate.set()
        assert process.stderr.read() == ""
        assert process.wait(timeout=SECONDS) == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_a_failure_in_one_line(server: FaultServer) -> None:
    server.always(json_reply(completion("x")))
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            command("ask", "x"),
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            encoding="utf-8",
            timeout=SECONDS,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (1, "tidegate: No space left on device\n")


def test_the_way_to_a_request_loads_nothing_heavy(server: FaultServer) -> None:
    """What draws tables, reads keys or is another provider's SDK stays out of it."""
    server.always(sse(stream_events(["x"])))
    code = (
        "import sys; from tidegate.cli.main import main; main(['ask', 'x']);"
        "print(sorted({'rich', 'prompt_toolkit', 'openai', 'sqlalchemy', 'tiktoken'} & set(sys.modules)))"
    )
    ended = subprocess.run(
        [command()[0], "-c", code], input="", capture_output=True, env=environment(), encoding="utf-8", check=True
    )
    assert ended.stdout == "x\n[]\n"
