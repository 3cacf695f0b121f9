"""The bar of `map(progress=True)`."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import types
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import tidegate
from support.fault_server import FaultServer, Gate, json_reply
from support.openai_wire import completion
from support.shell import Terminal, environment
from tidegate.accounting.money import dollar_text as money
from tidegate.chat.reply import Completion
from tidegate.progress import _Tally, clock, progress_bar

PRICED = Completion("x", "openai", "m", cost=Decimal("0.00126"))
UNPRICED = Completion("x", "openai", "m")

PROGRAM = """
import sys
from decimal import Decimal
from tidegate.chat.reply import Completion
from tidegate.progress import progress_bar
with progress_bar(3, visible=True) as bar:
    print("first", end=" ")
    bar.advance(Completion("x", "openai", "m", cost=Decimal("0.5")))
    print("line")
    bar.advance(None)
    print("warning", file=sys.stderr)
    bar.advance(Completion("x", "openai", "m", cost=Decimal("0.25")))
    print("rest", end="")
print("", "after")
"""


def text_of(total: int | None, *done: Completion | None, width: int = 100, seconds: float = 4.0) -> str:
    tally = _Tally(total)
    for each in done:
        tally.add(each)
    return tally.text(width, tally._began + seconds)


def test_it_says_what_is_done_how_fast_what_failed_what_it_cost_and_how_long() -> None:
    assert (
        text_of(8, PRICED, PRICED, None, PRICED)
        == f"4/8  {'━' * 15}{'┄' * 15}  1.0/s  1 failed  $0.0038  0:04  0:04 left"
    )
    assert text_of(1, PRICED) == f"1/1  {'━' * 30}  0.2/s  $0.0013  0:04"
    assert text_of(None, PRICED, PRICED) == "2 done  0.5/s  $0.0025  0:04"
    assert text_of(0) == f"0/0  {'━' * 30}  0:04"


def test_a_price_that_nobody_knows_is_never_0() -> None:
    assert "cost unknown" in text_of(4, UNPRICED)
    assert "$0.0013 + unknown" in text_of(4, UNPRICED, PRICED)


@pytest.mark.parametrize("width", range(1, 100))
def test_it_fits_every_width_and_says_first_how_far_it_is(width: int) -> None:
    text = text_of(20, PRICED, None, UNPRICED, width=width)
    assert len(text) <= width
    assert text.startswith("3/20"[:width])
    if width >= 30:
        assert "1 failed" in text


def test_durations_and_dollars_in_short() -> None:
    assert [clock(seconds) for seconds in (0.4, 59.6, 754, 3723)] == ["0:00", "1:00", "12:34", "1:02:03"]
    amounts = ("0", "0.00000855", "0.0123", "1234.5")
    assert [money(Decimal(amount)) for amount in amounts] == ["$0", "$0.0000086", "$0.012", "$1,234.50"]


def test_on_a_terminal_it_stays_below_what_is_printed() -> None:
    with Terminal([sys.executable, "-c", PROGRAM], NO_COLOR="1") as terminal:
        assert terminal.end() == 0
    erase = "\r\x1b[K"
    assert f"{erase}first line\r\n" in terminal.raw
    assert f"{erase}warning\r\n" in terminal.raw
    last = terminal.raw.rpartition(erase)[2]
    assert last.startswith("3/3  ━")
    assert last.endswith("1 failed  $0.75  0:00\r\nrest after\r\n")


def test_standard_output_that_is_no_terminal_gets_the_printed_lines_and_nothing_else(tmp_path: Path) -> None:
    """The bar is on the terminal of standard error."""
    out = tmp_path / "out"
    line = ["/bin/sh", "-c", 'exec "$0" -c "$1" > "$2"', sys.executable, PROGRAM, str(out)]
    with Terminal(line) as terminal:
        assert terminal.end() == 0
    assert out.read_text(encoding="utf-8") == "first line\nrest after\n"
    assert "3/3" in terminal.text
    assert "line" not in terminal.text.replace("warning", "")


def test_without_a_terminal_there_is_none() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, env=environment(), check=True, text=True
    )
    assert (ended.stdout, ended.stderr) == ("first line\nrest after\n", "warning\n")


class Screen(io.StringIO):
    """A terminal, as far as a writer can tell."""

    def isatty(self) -> bool:
        return True


def test_it_is_seen_only_by_who_asked_and_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", screen := Screen())
    with progress_bar(1, visible=False) as bar:
        bar.advance(PRICED)
    assert screen.getvalue() == ""
    with progress_bar(1, visible=True), progress_bar(7, visible=True) as second:
        second.advance(PRICED)
    assert "0/1" in screen.getvalue()
    assert "/7" not in screen.getvalue()
    assert sys.stderr is screen


def test_in_a_notebook_one_output_is_written_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which a notebook knows by its display id, however much is printed between."""
    drawn: list[tuple[str, str]] = []

    class Handle:
        def update(self, data: dict[str, str], *, raw: bool) -> None:  # noqa: ARG002 (as the real one)
            drawn.append(("again", data["text/plain"]))

    def display(data: dict[str, str], *, raw: bool, display_id: bool) -> Handle:
        drawn.append(("first", data["text/plain"]))
        return Handle()

    modules: dict[str, Any] = {name: types.ModuleType(name) for name in ("IPython", "IPython.display")}
    modules["IPython"].get_ipython = lambda: types.SimpleNamespace(kernel=object())
    modules["IPython.display"].display = display
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    with progress_bar(2, visible=True) as bar:
        bar.advance(PRICED)
        bar.advance(PRICED)
    assert [how for how, _ in drawn][:2] == ["first", "again"]
    assert [how for how, _ in drawn].count("first") == 1
    assert drawn[-1][1].startswith("2/2")


def test_an_outcome_counts_when_it_is_there_however_late_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first prompt's answer is withheld, and the bar shows the others' meanwhile."""
    monkeypatch.setattr(sys, "stderr", screen := Screen())
    gate = threading.Event()
    with FaultServer() as server:
        server.on(
            lambda request: (*([Gate(gate)] if "slow" in request.body.decode() else []), *json_reply(completion("x")))
        )
        client = tidegate.Client("openai/gpt-4o-mini", base_url=server.base_url, api_key="sk-x")
        outcomes = client.map(["slow", "a", "b"], workers=3, progress=True)
        first = threading.Thread(target=lambda: next(outcomes))
        first.start()
        try:
            server.wait_until(lambda: "2/3" in screen.getvalue())
        finally:
            gate.set()
            first.join()
        assert len(list(outcomes)) == 2
        client.close()
    assert "3/3" in screen.getvalue()
