"""`tidegate usage`."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from decimal import Decimal
from pathlib import Path

import pytest

from support.shell import Terminal, command, run
from tidegate import Ledger
from tidegate.accounting.entries import Entry, microseconds
from tidegate.cli.main import main
from tidegate.cli.usage import MOST_ROWS

DAY = dt.timedelta(days=1)


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a ledger that is not there yet, which the shell takes by itself."""
    address = f"sqlite:///{tmp_path / 'kept' / 'usage.db'}"
    monkeypatch.setenv("TIDEGATE_LEDGER", address)
    return address


@pytest.fixture
def kept(url: str) -> str:
    """The same with five calls in it."""
    with Ledger(url) as ledger:
        ledger.record("openai/gpt-4o-mini", 1_000, 100, "0.25", task="letters", tags={"tenant": "acme"})
        ledger.record("openai/gpt-4o-mini", 1_000, 100, "0.25", task="letters", tags={"tenant": "=cmd"})
        ledger.record("openai/gpt-4o", 2_000_000, 300, "1.5", task="東京 report")
        ledger.record("nobody/knows", 7, 3)
        two_days_ago = dt.datetime.now(dt.UTC) - 2 * DAY
        ledger.post(
            Entry(
                call_id="old", at=microseconds(two_days_ago), provider="local", model="toy", input_tokens=5,
                output_tokens=5, cost_nano=0, outcome="StreamInterrupted", estimated=True,
            )
        )  # fmt: skip
    return url


def shown(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main(["usage", *arguments]) == code
    read = capsys.readouterr()
    assert read.err == ""
    return read.out


def test_each_model_has_its_calls_tokens_cost_and_share(kept: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys).splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines if line}
    assert lines[0].split() == ["model", "calls", "in", "out", "cost", "share"]
    assert [line.split()[0] for line in lines[1:6]] == ["gpt-4o", "gpt-4o-mini", "knows", "toy", "together"]
    assert rows["gpt-4o"] == ["1", "2.00", "M", "300", "$1.50", "75%", "━" * 24]
    assert rows["gpt-4o-mini"] == ["2", "2,000", "200", "$0.50", "25%", "━" * 8]
    assert rows["knows"] == ["1", "7", "3", "unknown", "0%"]
    assert rows["together"] == ["5", "2.00", "M", "508", "$2.00+"]
    text = "\n".join(lines[6:])
    assert "1 call without a known price (+)" in text
    assert "1 call with tokens that were counted here" in text
    assert "1 call failed" in text
    assert "$0.50 a call, $0.067 a day" in text


def test_days_without_calls_are_there(kept: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = shown(capsys, "--by", "day").splitlines()[1:4]
    today = dt.datetime.now().astimezone().date()
    assert [row.split()[0] for row in rows] == [str(today - 2 * DAY), str(today - DAY), str(today)]
    assert rows[1].split()[1:] == ["-", "-", "-", "-"]


def test_what_has_no_label_is_told_apart(kept: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert [line.split()[:2] for line in shown(capsys, "--by", "task").splitlines()[1:4]] == [
        ["東京", "report"],
        ["letters", "2"],
        ["(none)", "2"],
    ]
    assert "acme" in shown(capsys, "--by", "tag:tenant")


def test_only_the_days_that_were_asked_for_count(kept: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "toy" not in shown(capsys, "--days", "1")
    assert "toy" in shown(capsys, "--days", "3")


def test_json_has_exact_costs_as_text(kept: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(shown(capsys, "--json", "--by", "provider"))
    assert (found["ledger"], found["by"], found["days"]) == (kept, "provider", 30)
    assert found["total"] == {
        "count": 5, "failed": 1, "estimated": 1, "unpriced": 1, "input_tokens": 2_002_012, "cached_tokens": 0,
        "output_tokens": 508, "reasoning_tokens": 0, "total_tokens": 2_002_520, "cost": "2.000000000",
        "mean_cost": "0.500000000", "daily_mean": found["total"]["daily_mean"],
    }  # fmt: skip
    assert Decimal(found["total"]["daily_mean"]) * 30 == pytest.approx(Decimal(2))
    assert {each["name"]: each["cost"] for each in found["groups"]} == {
        "openai": "2.000000000",
        "local": "0.000000000",
        "nobody": None,
    }


def test_csv_can_be_read_back_and_runs_nothing(kept: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["tag:tenant"]: row for row in csv.DictReader(io.StringIO(shown(capsys, "--csv", "--by", "tag:tenant")))}
    assert rows.keys() == {"acme", "'=cmd", "(none)"}
    assert (rows["acme"]["count"], rows["acme"]["cost"]) == ("1", "0.250000000")


def test_of_very_many_groups_those_that_cost_most_are_shown(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Ledger(url) as ledger:
        for number in range(MOST_ROWS + 5):
            ledger.record("openai/gpt-4o", 1, 1, str(number), task=f"t{number}")
    rows = shown(capsys, "--by", "task").splitlines()[1 : MOST_ROWS + 2]
    assert rows[0].split()[0] == f"t{MOST_ROWS + 4}"
    assert rows[-2].split()[:3] == ["(6", "others)", "6"]
    assert len(json.loads(shown(capsys, "--by", "task", "--json"))["groups"]) == MOST_ROWS + 5


def test_looking_for_a_ledger_that_is_not_there_makes_none(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["usage"]) == 0
    assert f"there is no ledger yet at {url}" in capsys.readouterr().err
    assert main(["usage", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["groups"] == []
    assert (found["total"]["mean_cost"], found["total"]["daily_mean"]) == (None, "0.000000000")
    assert dt.datetime.fromisoformat(found["since"]).utcoffset() is not None
    assert main(["usage", "--by", "week", "--json"]) == 2
    assert "--by is one of" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_ledger_without_a_call_in_these_days_says_so(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    Ledger(url).close()
    assert main(["usage", "--days", "1"]) == 0
    assert "nothing was used today" in capsys.readouterr().err
    assert main(["usage"]) == 0
    assert "nothing was used in the last 30 days" in capsys.readouterr().err


def test_what_a_killed_program_left_in_the_journal_is_counted(kept: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = Path(kept.removeprefix("sqlite:///"))
    line = Entry(call_id="left", at=microseconds(dt.datetime.now(dt.UTC)), provider="p", model="left", cost_nano=10**9)
    (file.with_name(f"{file.name}.pending") / "1-abc.journal").write_bytes(line.line())
    assert "left" in shown(capsys)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--by", "dya"], "did you mean `day`?"),
        (["--ledger", "mysql://host/name"], "`sqlite:///usage.db` or"),
        (["--tz", "Europe/Zurichh"], "there is no time zone"),
        (["--csv", "--json"], "choose"),
    ],
)
def test_what_is_asked_wrongly_is_told(
    kept: str, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["usage", *arguments]) == 2
    read = capsys.readouterr()
    assert said in read.err
    assert read.out == ""


def test_a_file_that_is_no_ledger_stays_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "letters.txt"
    other.write_text("Dear Ana")
    assert main(["usage", "--ledger", str(other)]) == 2
    assert "the file is no SQLite database" in capsys.readouterr().err
    assert other.read_text() == "Dear Ana"


def test_a_ledger_that_cannot_be_used_is_a_job_that_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its address is right, for all that anybody knows."""
    assert main(["usage", "--ledger", "postgresql://me@127.0.0.1:1/x"]) == 1
    assert "refused" in capsys.readouterr().err
    broken = tmp_path / "usage.db"
    broken.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 40)
    for command_line in (["usage"], ["budget", "list"]):
        assert main([*command_line, "--ledger", str(broken)]) == 1
        assert str(broken) in capsys.readouterr().err


def test_where_none_is_kept_that_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TIDEGATE_LEDGER", "none")
    assert main(["usage"]) == 2
    assert "TIDEGATE_LEDGER=none" in capsys.readouterr().err


def test_on_a_narrow_terminal_no_line_is_wider_than_it(kept: str) -> None:
    terminal = Terminal(command("usage"), width=60, TIDEGATE_LEDGER=kept)
    assert terminal.end() == 0
    assert "gpt-4o-mini" in terminal.text
    assert max(len(line) for line in terminal.text.splitlines() if kept not in line) <= 60


def test_on_a_pipe_there_is_no_colour(kept: str) -> None:
    ended = run("usage", TIDEGATE_LEDGER=kept)
    assert ended.returncode == 0
    assert "\x1b" not in ended.stdout
    assert "━" in ended.stdout
