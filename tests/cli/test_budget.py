"""`tidegate budget`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.fault_server import FaultServer, sse
from support.openai_wire import stream_events
from support.shell import Terminal, command
from tidegate import Ledger
from tidegate.accounting.purses import Claim, Purse
from tidegate.cli.main import main


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a ledger that is not there yet, which the shell takes by itself."""
    address = f"sqlite:///{tmp_path / 'kept' / 'usage.db'}"
    monkeypatch.setenv("TIDEGATE_LEDGER", address)
    return address


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["budget", *arguments]) == 0
    read = capsys.readouterr()
    assert read.err == ""
    return read.out


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["budget", *arguments]) == 2
    read = capsys.readouterr()
    assert read.out == ""
    return read.err


def test_a_budget_is_set_listed_and_cleared(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "“day” $5.00 a day: set." in said(capsys, "set", "5.00", "--per", "day")
    with Ledger(url) as ledger:
        assert ledger.budgets() == {"day": {"usd": "5.00", "per": "day"}}
        ledger.record("openai/gpt-4o", 1, 1, "4.25")
    head, row = said(capsys, "list").splitlines()
    assert head.split() == ["budget", "limit", "spent", "reserved", "left", "renews"]
    assert row.split()[:5] == ["day", "$5.00", "$4.25", "$0", "$0.75"]
    assert row.endswith("85%")
    assert said(capsys, "clear", "day") == "Cleared: day.\n"
    with Ledger(url) as ledger:
        assert ledger.budgets() == {}


def test_one_of_the_same_name_is_replaced(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "set", "5", "--per", "day", "--name", "team")
    assert "replaced" in said(capsys, "set", "7", "--per", "month", "--name", "team")
    with Ledger(url) as ledger:
        assert ledger.budgets() == {"team": {"usd": "7", "per": "month"}}


def test_a_budget_for_each_tenant_shows_those_that_used_most(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "set", "10", "--per", "day", "--each", "tag:tenant", "--on-reach", "warn", "--alert-at", "0.5,1")
    with Ledger(url) as ledger:
        for number in range(1, 8):
            ledger.record("openai/gpt-4o", 1, 1, str(number), tags={"tenant": f"t{number}"})
        ledger.record("openai/gpt-4o", 1, 1, "9")
    lines = said(capsys, "list").splitlines()
    assert lines[1].split()[:3] == ["day-each-tag:tenant", "(warns)", "$10.00"]
    assert [line.split()[:4] for line in lines[2:7]] == [
        [f"t{number}", f"${number}.00", "$0", f"${10 - number}.00"] for number in (7, 6, 5, 4, 3)
    ]
    assert lines[7] == "  and 2 more"
    [found] = json.loads(said(capsys, "list", "--json"))["budgets"]
    assert (found["usd"], found["each"], found["on_reach"], found["alert_at"]) == (
        "10",
        "tag:tenant",
        "warn",
        [0.5, 1.0],
    )
    assert found["used"][0] == {"of": "t7", "spent": "7.000000000", "reserved": "0.000000000", "left": "3.000000000"}


@pytest.mark.parametrize("per", ["task", "run", "tag:tenant"])
def test_a_budget_without_an_end_is_listed(url: str, capsys: pytest.CaptureFixture[str], per: str) -> None:
    said(capsys, "set", "1", "--per", per)
    with Ledger(url) as ledger:
        ledger.record("openai/gpt-4o", 1, 1, "0.5", task="letters", tags={"tenant": "acme"})
    rows = said(capsys, "list").splitlines()[1:]
    assert rows[0].split()[:2] == [per, "$1.00"]
    assert {"task": "letters", "tag:tenant": "acme", "run": "each client's own"}[per] in rows[-1]


def test_a_budget_of_the_shell_binds_a_client_of_the_same_ledger(
    url: str, server: FaultServer, capsys: pytest.CaptureFixture[str]
) -> None:
    said(capsys, "set", "0.000001", "--per", "day")
    assert main(["ask", "-m", "openai/gpt-4o-mini", "Name a river."]) == 1
    read = capsys.readouterr()
    assert "$0.000001 a day" in read.err
    assert read.out == ""
    assert len(server.requests) == 0
    said(capsys, "set", "5", "--per", "day")
    server.always(sse(stream_events(["The Aare."])))
    assert main(["ask", "-m", "openai/gpt-4o-mini", "Name a river."]) == 0


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["set", "0", "--per", "day"], "USD: input should be greater than 0"),
        (["set", "nan", "--per", "day"], "USD"),
        (["set", "five", "--per", "day"], "USD"),
        (["set", "5", "--per", "dya"], "did you mean `day`?"),
        (["set", "5", "--per", "task", "--each", "task"], "--each divides an hour, a day or a month"),
        (["set", "5", "--per", "day", "--alert-at", "0.5,2"], "--alert-at"),
        (["set", "5", "--per", "day", "--name", ""], "--name"),
        (["set", "5", "--per", "day", "--name", " "], "--name"),
        (["set", "5", "--per", "day", "--tz", "UTC"], "--tz"),
        (["clear", "day", "--tz", "UTC"], "--tz"),
        (["clear"], "name the budgets to clear"),
        (["clear", "day", "--all"], "name the budgets to clear"),
        (["clear", "dya"], "there is no budget `dya`"),
    ],
)
def test_what_is_asked_wrongly_is_told_and_changes_nothing(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], wrong: str
) -> None:
    assert wrong in complaint(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_where_no_ledger_is_looking_makes_none(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["budget", "list"]) == 0
    assert "no budget is set" in capsys.readouterr().err
    assert json.loads(said(capsys, "list", "--json"))["budgets"] == []
    assert said(capsys, "clear", "--all") == "There is none.\n"
    assert list(tmp_path.iterdir()) == []


def test_a_budget_that_cannot_be_read_is_named_and_the_others_are_listed(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Ledger(url) as ledger:
        ledger.set_budget("new", {"usd": "1", "per": "fortnight"})
        ledger.set_budget("day", {"usd": "1", "per": "day"})
    assert main(["budget", "list"]) == 0
    read = capsys.readouterr()
    assert "the budget `new` cannot be read" in read.err
    assert read.out.splitlines()[1].startswith("day")


def test_on_a_narrow_terminal_the_figures_that_matter_stay(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is left is the limit without the other figures of its line, whatever is reserved."""
    said(capsys, "set", "5", "--per", "day")
    with Ledger(url) as ledger:
        ledger.record("p/m", 1, 1, "1")
        now = ledger.now
        purse = Purse(*ledger.calendar.span("day", int(now.timestamp() * 1_000_000)))
        assert ledger.store.till().reserve("a", 10**9, [Claim(purse, 5 * 10**9)]).outcome == "granted"
        for width, heads, row in (
            (50, ["budget", "limit", "used", "left"], ["day", "$5.00", "$2.00", "$3.00"]),
            (70, ["budget", "limit", "spent", "reserved", "left"], ["day", "$5.00", "$1.00", "$1.00", "$3.00"]),
        ):
            terminal = Terminal(command("budget", "list"), width=width, TIDEGATE_LEDGER=url)
            assert terminal.end() == 0
            assert [line.split() for line in terminal.text.splitlines()] == [heads, row]
