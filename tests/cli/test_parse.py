"""`tidegate parse`: JSON on standard output, what was done on standard error, and an exit code that tells."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from tidegate.cli.main import main

BROKEN = "Sure!\n{title: 'Valve 3/4\" leaks', \"priority\": '2',}\n"
SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "priority": {"type": "integer"}},
    "required": ["title"],
}


@pytest.fixture
def answer(tmp_path: Path) -> Path:
    file = tmp_path / "answer.txt"
    file.write_text(BROKEN, encoding="utf-8")
    return file


def test_the_value_is_written_as_json_and_the_repairs_apart(answer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So that a pipe gets JSON alone."""
    assert main(["parse", str(answer)]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"title": 'Valve 3/4" leaks', "priority": "2"}
    assert "repaired: unquoted key at 7" in shown.err
    assert "repaired: trailing comma" in shown.err


def test_it_reads_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes that are no UTF-8 are no reason to fail."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'\xff {"a": 1}')))
    assert main(["parse"]) == 0
    assert json.loads(capsys.readouterr().out) == {"a": 1}


def test_a_schema_validates_and_says_what_it_changed(
    answer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here a file with a JSON schema."""
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(SCHEMA), encoding="utf-8")
    assert main(["parse", "--schema", str(file), str(answer)]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["priority"] == 2
    assert 'coerced at 6: $.priority: "2" became 2' in shown.err


def test_a_model_of_the_users_own_is_imported(
    answer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the present folder too, as `python -m` does."""
    text = "from pydantic import BaseModel\nclass Ticket(BaseModel):\n    title: str\n    priority: int\n"
    (tmp_path / "tickets_of_mine.py").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["parse", "--schema", "tickets_of_mine:Ticket", str(answer)]) == 0
    assert json.loads(capsys.readouterr().out) == {"title": 'Valve 3/4" leaks', "priority": 2}


def test_what_is_refused_has_nothing_on_standard_output_and_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard error says why; `--repair all` takes it, and says that it breaks off."""
    file = tmp_path / "cut.txt"
    file.write_text('{"a": 1, "b": "unfin', encoding="utf-8")
    assert main(["parse", str(file)]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "refused" in shown.err
    assert "$.b" in shown.err
    assert main(["parse", "--repair", "all", str(file)]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"a": 1, "b": "unfin"}
    assert "breaks off in $.b" in shown.err


def test_json_has_everything_in_one_object(answer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For programs, also when it was refused."""
    assert main(["parse", "--json", str(answer)]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole["success"]
    assert whole["strategy"] == "span"
    assert {"kind", "position", "what", "certain"} == set(whole["repairs"][0])
    assert main(["parse", "--json", "--repair", "none", str(answer)]) == 1
    assert json.loads(capsys.readouterr().out)["success"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--schema", "nothing.json"], "nothing.json cannot be read"),
        (["--schema", "no_such_module_here:Model"], "no_such_module_here"),
        (["--schema", "json:Nothing"], "Nothing"),
        (["--schema", "Model"], "module:Model"),
        (["--schema", "LIST"], "is an object"),
        (["--schema", "BROKEN"], "is no JSON"),
        (["--strategies", "jsn"], "no strategy `jsn`"),
        (["--repair", "some"], "--repair"),
    ],
    ids=str,
)
def test_what_was_asked_wrongly_is_told_and_exits_with_2(
    answer: Path, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the option that is wrong."""
    (tmp_path / "list.json").write_text("[]", encoding="utf-8")
    named = {"LIST": str(tmp_path / "list.json"), "BROKEN": str(answer)}
    assert main(["parse", *(named.get(argument, argument) for argument in arguments), str(answer)]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err


def test_a_file_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With its name."""
    assert main(["parse", str(tmp_path / "none.txt")]) == 2
    assert "none.txt cannot be read" in capsys.readouterr().err
