"""The shell itself: which command is meant, and how it ends."""

from __future__ import annotations

import builtins
import subprocess
from typing import Any

import pytest

from support.fault_server import FaultServer, sse
from support.openai_wire import stream_events
from support.shell import command, environment, run
from tidegate.cli import ask
from tidegate.cli.main import COMMANDS, main
from tidegate.version import __version__


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"tidegate {__version__}\n"


def test_help_lists_every_command_and_no_command_is_asking_wrongly(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    listed = capsys.readouterr()
    assert all(f"    {name} " in listed.out for name in COMMANDS)
    assert main([]) == 2
    assert capsys.readouterr() == ("", listed.out)


@pytest.mark.parametrize(
    "name", [*(each for each in COMMANDS if each != "budget"), "budget set", "budget list", "budget clear"]
)
def test_every_command_has_help_json_and_debug(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--json" in shown
    assert "--debug" in shown


def test_a_command_that_is_none_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["modles"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("tidegate: there is no command `modles`; did you mean `models`?")


def test_a_package_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def without_rich(name: str, *rest: Any) -> Any:  # noqa: ANN401 (as the real one)
        if name.partition(".")[0] == "rich":
            raise ModuleNotFoundError("No module named 'rich'", name="rich")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_rich)
    assert main(["models"]) == 1
    shown = capsys.readouterr()
    assert shown.err == "tidegate: the package `rich` is missing: `pip install tidegate` brings what it needs\n"


NOTHING: dict[str, int] = {}


def test_a_mistake_of_our_own_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(ask, "run", lambda _: NOTHING["lost"])
    assert main(["ask", "x"]) == 1
    shown = capsys.readouterr().err
    assert shown == "tidegate: a mistake in tidegate itself, KeyError: 'lost' (--debug shows where)\n"


def test_text_on_standard_input_that_cannot_be_read_is_not_asked(server: FaultServer) -> None:
    ended = subprocess.run(
        command("ask"), input=b"caf\xe9", capture_output=True, env=environment(PYTHONUTF8="1"), check=False
    )
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert ended.stderr == b"tidegate: standard input is no utf-8 text\n"
    assert server.requests == []


def test_a_character_that_the_output_cannot_show_does_not_stop_it(server: FaultServer) -> None:
    server.always(sse(stream_events(["caf\xe9 \u6f6e"])))
    ended = run("ask", "x", PYTHONIOENCODING="ascii")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "caf? ?\n", "")


def test_closed_streams_stop_nothing() -> None:
    """Neither standard input, output nor error is there."""
    line = " ".join(["exec", *command("models"), "<&-", ">&-", "2>&-"])
    ended = subprocess.run(["/bin/sh", "-c", line], env=environment(), check=False, stderr=subprocess.PIPE)
    assert (ended.returncode, ended.stderr) == (0, b"")
