"""Which budgets a client keeps to: its own, and those that its ledger keeps for everybody."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tidegate.accounting.ledger import Ledger
from tidegate.errors import ConfigError, LedgerUnusable
from tidegate.policies.budget_options import Budget
from tidegate.policies.budgets_in_force import EVERY, BudgetsInForce, read_budget
from tidegate.testing import ManualClock

OWN = Budget(usd=1, per="day")


class Kept:
    """Budgets in a ledger, as JSON; how often they were asked for."""

    def __init__(self) -> None:
        self.budgets: dict[str, Any] = {}
        self.asked = 0
        self.error: Exception | None = None

    def __call__(self) -> Sequence[tuple[str, str]]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return [(name, json.dumps(options)) for name, options in self.budgets.items()]


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_a_clients_own_budgets_come_first_and_those_of_its_ledger_have_their_names(
    kept: Kept, clock: ManualClock
) -> None:
    kept.budgets["team"] = {"usd": "20", "per": "month"}
    assert BudgetsInForce([OWN], kept, clock=clock)() == (OWN, Budget(usd=20, per="month", name="team"))


def test_the_ledger_is_looked_at_now_and_then_and_not_for_every_call(kept: Kept, clock: ManualClock) -> None:
    in_force = BudgetsInForce([], kept, clock=clock)
    for _ in range(5):
        assert in_force() == ()
    assert kept.asked == 1
    kept.budgets["team"] = {"usd": "20", "per": "month"}
    assert in_force() == ()
    clock.advance(EVERY)
    assert len(in_force()) == 1
    kept.budgets.clear()
    clock.advance(EVERY)
    assert in_force() == ()


@pytest.mark.parametrize("error", [LedgerUnusable("the disk is gone"), ValueError("torn")])
def test_budgets_that_were_known_stay_in_force_when_the_ledger_cannot_be_read(
    kept: Kept, clock: ManualClock, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    kept.budgets["team"] = {"usd": "20", "per": "month"}
    in_force = BudgetsInForce([], kept, clock=clock)
    known = in_force()
    kept.error = error
    clock.advance(EVERY)
    assert in_force() == known
    assert in_force() == known
    assert kept.asked == 2, "it is not asked again at once"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@pytest.mark.parametrize("options", [{"usd": "-1", "per": "day"}, {"usd": "1", "per": "week"}, {"unknown": 1}, [], 5])
def test_a_budget_that_cannot_be_read_changes_no_other(kept: Kept, clock: ManualClock, options: object) -> None:
    kept.budgets["broken"] = options
    kept.budgets["team"] = {"usd": "20", "per": "month"}
    in_force = BudgetsInForce([OWN], kept, clock=clock)
    team = Budget(usd=20, per="month", name="team")
    assert in_force() == (OWN, team)
    kept.budgets["team"] = options
    clock.advance(EVERY)
    assert in_force() == (OWN, team), "as it was known"


def test_a_kept_budget_is_read_with_its_name() -> None:
    assert read_budget("app", '{"usd": "0.10", "per": "task", "name": "another"}').name == "app"
    with pytest.raises(ConfigError):
        read_budget("app", '{"usd": "0.10"}')


def test_one_thread_looks_and_the_others_go_on_with_what_is_known(clock: ManualClock) -> None:
    looking, goes_on = threading.Event(), threading.Event()
    rounds = [0]

    def stored() -> Sequence[tuple[str, str]]:
        rounds[0] += 1
        if rounds[0] > 1:
            looking.set()
            assert goes_on.wait(30)
        return []

    in_force = BudgetsInForce([OWN], stored, clock=clock)
    in_force()
    clock.advance(EVERY)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(in_force)
        assert looking.wait(30)
        assert in_force() == (OWN,)
        goes_on.set()
        slow.result(30)
    assert rounds == [2]


def test_nobody_goes_before_the_first_look_is_done(clock: ManualClock) -> None:
    looking, goes_on = threading.Event(), threading.Event()

    def stored() -> Sequence[tuple[str, str]]:
        looking.set()
        assert goes_on.wait(30)
        return [("team", '{"usd": "20", "per": "month"}')]

    in_force = BudgetsInForce([], stored, clock=clock)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(in_force)
        assert looking.wait(30)
        second = pool.submit(in_force)
        goes_on.set()
        assert len(first.result(30)) == len(second.result(30)) == 1


# A ledger's own file


def test_what_one_process_sets_another_keeps_to_and_a_ledger_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'usage.db'}"
    client = Ledger(url, lazily=True)
    assert client.store.stored_budgets() == []
    assert list(tmp_path.iterdir()) == []
    with Ledger(url) as shell:
        shell.set_budget("team", {"usd": "20", "per": "month"})
        assert BudgetsInForce([], client.store.stored_budgets)() == (Budget(usd=20, per="month", name="team"),)
        assert shell.clear_budget("team")
        assert client.store.stored_budgets() == []
    client.close()


def test_a_ledger_that_cannot_be_read_is_not_taken_for_one_without_budgets(tmp_path: Path) -> None:
    path = tmp_path / "usage.db"
    ledger = Ledger(f"sqlite:///{path}")
    ledger.set_budget("team", {"usd": "20", "per": "month"})
    ledger.close()
    path.write_bytes(path.read_bytes()[:5_000] + b"\xff" * 20_000)
    with pytest.raises(LedgerUnusable, match=r"usage.db cannot be read"):
        ledger.store.stored_budgets()


def test_a_ledger_of_an_older_revision_has_no_budgets(tmp_path: Path) -> None:
    path = tmp_path / "usage.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE tidegate_version (version_num)")
    connection.close()
    assert Ledger(f"sqlite:///{path}", lazily=True).store.stored_budgets() == []
