"""Alerts: each share of a budget once in its period, whoever sees it first, and no harm by whom it is told to."""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from support.priced import COST, Priced, answer, priced
from support.shop import ALL, StillClock
from tidegate.accounting.periods import ALWAYS, Calendar
from tidegate.accounting.purses import Claim, Purse
from tidegate.chat.usage import Usage
from tidegate.errors import BudgetExceeded, BudgetWarning, LedgerUnusable
from tidegate.pipeline.events import BudgetAlert
from tidegate.policies import budget_alerts
from tidegate.policies.budget_alerts import Alarm
from tidegate.policies.budget_options import Budget

PATIENCE = 30.0


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'usage.db'}"


class Told(list[BudgetAlert]):
    """What `on_alert` was given."""

    def __call__(self, alert: BudgetAlert) -> None:
        self.append(alert)

    @property
    def shares(self) -> list[float]:
        return [alert.share for alert in self]


@pytest.fixture
def told() -> Told:
    return Told()


def spend(desk: Priced, calls: int = 1) -> None:
    """Calls one by one, each half a thousandth of a dollar."""
    for _ in range(calls):
        desk.ask()
        desk.ledger.flush()


def heard(desk: Priced) -> list[float]:
    """The shares of all alerts that the client's listeners were told, once all are told."""
    desk.ledger.flush()
    desk.alarm.close()
    return [event.share for event in desk.events if isinstance(event, BudgetAlert)]


def test_each_share_is_told_once_when_it_is_spent(url: str, told: Told) -> None:
    with priced(url, Budget(usd="0.005", per="day", on_alert=told, name="app"), clock=StillClock()) as desk:
        spend(desk, 9)
        assert heard(desk) == [0.5, 0.8]
    assert told.shares == [0.5, 0.8]
    first = told[0]
    assert (first.budget, first.spent, first.usd) == ("“app” $0.005 a day", Decimal("0.0025"), Decimal("0.005"))
    assert str(first.renews_at) == "2023-11-15 00:00:00+00:00"


def test_a_single_call_may_pass_several_shares(url: str) -> None:
    with priced(url, Budget(usd="0.001", per="day", alert_at=(0.1, 0.2, 0.5, 0.8))) as desk:
        spend(desk)
        assert heard(desk) == [0.1, 0.2, 0.5]


def test_a_refusal_for_want_of_money_is_the_last_alert(url: str) -> None:
    """A budget that prevents is never quite used up."""
    with priced(url, Budget(usd="0.0104", per="day")) as desk:
        spend(desk, 19)
        for _ in range(3):
            with pytest.raises(BudgetExceeded):
                desk.ask()
        assert heard(desk) == [0.5, 0.8, 1.0]


def test_one_call_that_asks_too_much_of_a_budget_that_is_hardly_touched_is_no_alert(url: str) -> None:
    with priced(url, Budget(usd="0.01", per="day")) as desk:
        with pytest.raises(BudgetExceeded):
            desk.ask(max_tokens=100_000)
        assert heard(desk) == []


def test_a_new_period_alerts_anew(url: str) -> None:
    clock = StillClock()
    with priced(url, Budget(usd="0.001", per="hour", on_reach="raise", alert_at=(0.5,)), clock=clock) as desk:
        spend(desk)
        clock.advance(3_600)
        spend(desk)
        assert heard(desk) == [0.5, 0.5]


def test_each_label_alerts_for_itself(url: str) -> None:
    with priced(url, Budget(usd="0.001", per="tag:tenant", alert_at=(0.5,))) as desk:
        for tenant in ("a", "b", "a"):
            if tenant not in {call.tags["tenant"] for call in desk.sent}:
                desk.ask(tags={"tenant": tenant})
                desk.ledger.flush()
        heard(desk)
        named = [event.budget for event in desk.events if isinstance(event, BudgetAlert)]
        assert named == ["$0.001 for each tag:tenant (a)", "$0.001 for each tag:tenant (b)"]


def test_a_call_of_its_own_alerts_nobody(url: str) -> None:
    """It would be one alert a call."""
    with priced(url, Budget(usd="0.001", per="task")) as desk:
        spend(desk, 3)
        with pytest.raises(BudgetExceeded):
            desk.ask(max_tokens=1_000)
        assert heard(desk) == []
        assert not desk.alarm._watched


def test_two_budgets_of_one_amount_alert_each_for_itself(url: str, told: Told) -> None:
    first = Budget(usd="0.005", per="day", name="A", alert_at=(0.1, 0.3), on_alert=told)
    second = Budget(usd="0.005", per="day", name="B", alert_at=(0.2, 0.3), on_alert=told)
    with priced(url, first, second) as one, priced(url, first, second) as two:
        for _ in range(2):
            spend(one)
            spend(two)
        heard(one)
        heard(two)
    named = sorted((alert.budget.split()[0], alert.share) for alert in told)
    assert named == [("“A”", 0.1), ("“A”", 0.3), ("“B”", 0.2), ("“B”", 0.3)]


def test_two_budgets_without_names_alert_each_at_its_own_shares(url: str) -> None:
    with priced(
        url, Budget(usd="0.005", per="day", alert_at=(0.1, 0.3)), Budget(usd="0.005", per="day", alert_at=(0.2, 0.3))
    ) as desk:
        spend(desk, 4)
        assert heard(desk) == [0.1, 0.2, 0.3]


def test_a_budget_that_is_read_anew_is_watched_once(alarm_of: Callable[[Told], Alarm], told: Told) -> None:
    """As those are that stand in a ledger."""
    alarm = alarm_of(told)
    for _ in range(3):
        alarm.watch(Claim(ALL, 100), Budget(usd="0.0000001", per="day", name="day"))
    assert len(alarm._watched[ALL.scope]) == 1


def test_a_label_that_looks_like_a_call_alerts_as_others(url: str) -> None:
    with priced(url, Budget(usd="0.001", per="day", each="tag:tenant", alert_at=(0.5, 1.0))) as desk:
        for _ in range(2):
            desk.ask(tags={"tenant": "sales call: acme"}, max_tokens=40)
            desk.ledger.flush()
        assert heard(desk) == [0.5, 1.0]


def test_alerts_come_once_however_many_threads_spend(url: str) -> None:
    with priced(url, Budget(usd="0.02", per="day")) as desk:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda _: desk.ask(), range(38)))
        assert sorted(heard(desk)) == [0.5, 0.8]


def test_alerts_come_once_however_many_processes_spend(url: str) -> None:
    budget = Budget(usd="0.01", per="day")
    with priced(url, budget) as first, priced(url, budget) as second:
        for _ in range(9):
            spend(first)
            spend(second)
        assert sorted(heard(first) + heard(second)) == [0.5, 0.8]


def test_a_client_that_starts_later_repeats_no_alert(url: str) -> None:
    budget = Budget(usd="0.003", per="day")
    for expected in ([0.5], []):
        with priced(url, budget) as desk:
            spend(desk, 3 if expected else 1)
            assert heard(desk) == expected


def test_what_on_alert_raises_harms_nobody(url: str, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_alert: BudgetAlert) -> None:
        raise ValueError("a bug of the program's")

    with priced(url, Budget(usd="0.005", per="day", on_alert=broken)) as desk:
        spend(desk, 9)
        assert heard(desk) == [0.5, 0.8]
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "`on_alert` of the budget $0.005 a day failed"
    ] * 2


def test_on_alert_may_not_end_the_threads_of_others(url: str) -> None:
    """`sys.exit()` in an actor of Pykka's would stop every actor of the program, the ledger's too."""

    def leave(_alert: BudgetAlert) -> None:
        raise SystemExit

    with priced(url, Budget(usd="0.005", per="day", on_alert=leave)) as desk:
        spend(desk, 9)
        assert heard(desk) == [0.5, 0.8]


def test_a_slow_on_alert_holds_no_call_up(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(budget_alerts, "CLOSING", 0.01)
    with priced(url, Budget(usd="0.005", per="day", on_alert=lambda _alert: over.wait(PATIENCE))) as desk:
        spend(desk, 9)
        assert len(desk.sent) == 9
        assert not over.is_set()
        desk.alarm.close()  # waits no longer than a moment
        over.set()


def test_a_close_waits_for_alerts_that_are_being_told(url: str, told: Told) -> None:
    def slowly(alert: BudgetAlert) -> None:
        time.sleep(0.02)
        told(alert)

    with priced(url, Budget(usd="0.005", per="day", on_alert=slowly)) as desk:
        spend(desk, 9)
    assert told.shares == [0.5, 0.8]


def test_a_budget_that_warns_says_when_it_is_used_up_also_when_warnings_are_errors(url: str, told: Told) -> None:
    with priced(url, Budget(usd="0.001", per="day", on_reach="warn", alert_at=(), on_alert=told)) as desk:
        spend(desk, 3)
        heard(desk)
    assert told.shares == [1.0]


def warned(url: str, *budgets: Budget, calls: int = 1, **rest: Any) -> list[str]:
    """What is said of calls one by one."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with priced(url, *budgets) as desk:
            for _ in range(calls):
                desk.ask(**rest)
                desk.ledger.flush()
            heard(desk)
    assert {each.category for each in said} <= {BudgetWarning}
    return [str(each.message) for each in said]


def test_a_call_that_may_cost_more_than_is_left_goes_with_a_warning_once_a_period(url: str) -> None:
    budget = Budget(usd="0.002", per="day", on_reach="warn", alert_at=())
    said = "a call may cost $0.0023, and of the budget $0.002 a day $0.002 are left; it goes on"
    assert warned(url, budget, calls=6, max_tokens=220) == [said]
    assert warned(url, budget, calls=2, max_tokens=220) == [], "another process, and the same day"


def test_a_budget_that_warns_says_nothing_while_calls_fit(url: str) -> None:
    assert warned(url, Budget(usd="0.002", per="day", on_reach="warn"), calls=3) == []


def test_a_budget_that_warns_says_that_it_is_used_up_also_when_each_call_did_fit(url: str) -> None:
    said = "the budget $0.001 a day is used up: $0.001 are spent, and calls go on"
    assert warned(url, Budget(usd="0.001", per="day", on_reach="warn"), calls=3, max_tokens=40) == [said]


def test_a_call_of_its_own_that_may_cost_too_much_goes_with_a_warning(url: str) -> None:
    """As one that lacks the label by which a budget is divided."""
    budget = Budget(usd="0.0005", per="task", on_reach="warn")
    said = warned(url, budget, Budget(usd="0.9", per="task"), calls=2)
    assert said == ["a call may cost $0.001, and of the budget $0.0005 a task $0.0005 are left; it goes on"] * 2
    assert warned(url, budget, max_tokens=1) == []


def test_a_refused_call_is_not_said_to_go_on(url: str) -> None:
    with priced(url, Budget(usd="0.0005", per="day", on_reach="warn"), Budget(usd="0.0005", per="hour")) as desk:
        with pytest.raises(BudgetExceeded):
            desk.ask()
        assert heard(desk) == []


def test_a_warning_is_a_budget_warning() -> None:
    with pytest.warns(BudgetWarning, match="it goes on"):
        Alarm.warn("it goes on")


# By itself


class Register:
    """Where alerts are written down, on paper."""

    def __init__(self) -> None:
        self.given: set[tuple[str, int, int, str | None]] = set()
        self.fails = False

    def first_to_alert(self, claim: Claim, thousandths: int, name: str | None) -> bool:
        if self.fails:
            raise LedgerUnusable("the disk is gone")
        key = (claim.purse.scope, claim.limit_nano, thousandths, name)
        first = key not in self.given
        self.given.add(key)
        return first

    def on_excess(self, listener: object) -> None:
        pass


@pytest.fixture
def register() -> Register:
    return Register()


@pytest.fixture
def alarm_of(register: Register) -> Iterator[Callable[[Told], Alarm]]:
    made: list[Alarm] = []

    def make(told: Told) -> Alarm:
        alarm = Alarm(lambda: register, Calendar("UTC"), told)  # type: ignore[arg-type]
        made.append(alarm)
        return alarm

    yield make
    for alarm in made:
        alarm.close()


def test_an_alert_is_rather_told_twice_than_not_at_all(
    register: Register, alarm_of: Callable[[Told], Alarm], told: Told
) -> None:
    register.fails = True
    for _ in range(2):
        alarm = alarm_of(told)
        alarm.watch(Claim(ALL, 100), Budget(usd=1, per="day"))
        alarm.on_spent({ALL.scope: 60})
        alarm.close()
    assert told.shares == [0.5, 0.5]


def test_purses_that_nobody_asks_for_are_forgotten(
    alarm_of: Callable[[Told], Alarm], told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget_alerts, "WATCHED", 3)
    alarm = alarm_of(told)
    budget = Budget(usd=1, per="day")
    purses = {number: Purse(*ALWAYS, "task", str(number)) for number in range(5)}
    for number in (1, 2, 3, 1, 4):
        alarm.watch(Claim(purses[number], 100), budget)
    assert list(alarm._watched) == [purses[number].scope for number in (3, 1, 4)]


def test_what_is_spent_after_the_close_is_told_nobody_and_leaves_no_thread(
    alarm_of: Callable[[Told], Alarm], told: Told
) -> None:
    alarm = alarm_of(told)
    alarm.watch(Claim(ALL, 100), Budget(usd=1, per="day"))
    alarm.close()
    alarm.on_spent({ALL.scope: 99})
    assert alarm._bell is None
    assert told == []


def test_usage_that_costs_more_than_was_reserved_is_alerted_too(url: str) -> None:
    with priced(url, Budget(usd="0.001", per="day")) as desk:
        desk.provider = lambda _call: answer(Usage(100, 200))
        spend(desk)
        assert heard(desk) == [0.5, 0.8, 1.0]
        assert desk.settled() == {"all:": (100_000 + 200 * 10_000, 0)}
        assert COST < 10**6
