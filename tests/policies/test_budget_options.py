"""What a budget is: what may be said, and whose purse a call counts against."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tidegate.accounting.periods import ALWAYS, Calendar
from tidegate.accounting.purses import Purse
from tidegate.errors import ConfigError
from tidegate.policies.budget_options import Budget

NOW = 1_700_000_000_000_000
UTC = Calendar("UTC")


def purse_of(budget: Budget, **labels: Any) -> Purse:
    known = {"call_id": "call-1", "run": "run-1", "task": None, "tags": {}, **labels}
    return budget.purse(UTC, NOW, **known)


@pytest.mark.parametrize("usd", ["0", "-1", "NaN", "Infinity", "1e30", "0.0000000001", "much", None, True])
def test_what_is_no_sum_of_money_is_refused_by_name(usd: object) -> None:
    with pytest.raises(ConfigError, match=r"`Budget\(usd=…\)`"):
        Budget(usd=usd, per="day")


@pytest.mark.parametrize(("usd", "nano"), [("0.10", 10**8), (5, 5 * 10**9), (0.1, 10**8), (Decimal("0.000000001"), 1)])
def test_dollars_are_counted_to_the_nano_dollar(usd: object, nano: int) -> None:
    assert Budget(usd=usd, per="day").limit_nano == nano


@pytest.mark.parametrize("per", ["week", "", "tag:", "days", "TASK"])
def test_an_unknown_period_is_refused(per: str) -> None:
    with pytest.raises(ConfigError, match=r"`Budget\(per=…\)` is hour, day, month, task, run or `tag:<name>`"):
        Budget(usd=1, per=per)


def test_a_period_that_is_nearly_right_is_suggested() -> None:
    with pytest.raises(ConfigError, match="did you mean `month`"):
        Budget(usd=1, per="monthly")


def test_a_budget_says_how_much_and_for_what() -> None:
    with pytest.raises(ConfigError, match=r"`Budget\(per=…\)`"):
        Budget(usd=1)
    with pytest.raises(ConfigError, match=r"`Budget\(usd=…\)`"):
        Budget(per="day")


@pytest.mark.parametrize("each", ["tenant", "tag:", "call", ""])
def test_each_names_a_label(each: str) -> None:
    with pytest.raises(ConfigError, match=r"`Budget\(each=…\)` is `task` or `tag:<name>`"):
        Budget(usd=1, per="day", each=each)


@pytest.mark.parametrize("per", ["task", "run", "tag:tenant"])
def test_each_divides_only_what_the_clock_counts(per: str) -> None:
    with pytest.raises(ConfigError, match="divides an hour, a day or a month"):
        Budget(usd=1, per=per, each="task")


@pytest.mark.parametrize("shares", [(1.5,), (-0.1,), (float("nan"),), ("half",)])
def test_an_alert_is_at_a_share_of_the_budget(shares: tuple[object, ...]) -> None:
    with pytest.raises(ConfigError, match=r"`Budget\(alert_at\.0=…\)`"):
        Budget(usd=1, per="day", alert_at=shares)


@pytest.mark.parametrize("on_reach", ["stop", None, 3])
def test_on_reach_is_one_of_two_words_or_a_function(on_reach: object) -> None:
    with pytest.raises(ConfigError, match=r"`Budget\(on_reach=…\)`"):
        Budget(usd=1, per="day", on_reach=on_reach)


@pytest.mark.parametrize(
    ("budget", "labels", "purse"),
    [
        (Budget(usd=1, per="hour"), {}, Purse(1_699_999_200_000_000, 1_700_002_800_000_000)),
        (Budget(usd=1, per="day"), {"task": "t"}, Purse(1_699_920_000_000_000, 1_700_006_400_000_000)),
        (Budget(usd=1, per="month"), {}, Purse(1_698_796_800_000_000, 1_701_388_800_000_000)),
        (Budget(usd=1, per="run"), {}, Purse(*ALWAYS, "run", "run-1")),
        (Budget(usd=1, per="task"), {"task": "t"}, Purse(*ALWAYS, "task", "t")),
        (Budget(usd=1, per="task"), {"task": ""}, Purse(*ALWAYS, "task", "")),
        (Budget(usd=1, per="task"), {}, Purse(*ALWAYS, "call", "call-1")),
        (Budget(usd=1, per="tag:team"), {"tags": {"team": "red"}}, Purse(*ALWAYS, "tag", "red", "team")),
        (Budget(usd=1, per="tag:team"), {"tags": {"other": "red"}}, Purse(*ALWAYS, "call", "call-1")),
        (
            Budget(usd=1, per="hour", each="task"),
            {"task": "t"},
            Purse(1_699_999_200_000_000, 1_700_002_800_000_000, "task", "t"),
        ),
        (
            Budget(usd=1, per="hour", each="tag:team"),
            {"task": "t"},
            Purse(1_699_999_200_000_000, 1_700_002_800_000_000, "call", "call-1"),
        ),
    ],
    ids=str,
)
def test_a_call_counts_against_the_purse_of_its_labels(budget: Budget, labels: dict[str, Any], purse: Purse) -> None:
    assert purse_of(budget, **labels) == purse


def test_purses_have_different_names_whatever_the_labels() -> None:
    long = "x" * 300
    purses = [
        Purse(*ALWAYS),
        Purse(*ALWAYS, "task", "a"),
        Purse(*ALWAYS, "task", ""),
        Purse(*ALWAYS, "tag", "a", "task"),
        Purse(*ALWAYS, "run", "a"),
        Purse(*ALWAYS, "task", long),
        Purse(*ALWAYS, "task", long + "y"),
        Purse(*ALWAYS, "tag", "c", "a=b"),
        Purse(*ALWAYS, "tag", "b=c", "a"),
        Purse(0, 5),
    ]
    assert len({purse.scope for purse in purses}) == len(purses)
    assert max(len(purse.scope.encode()) for purse in purses) < 300


@pytest.mark.parametrize(
    ("budget", "spoken"),
    [
        (Budget(usd=5, per="day"), "$5.00 a day"),
        (Budget(usd="0.10", per="task"), "$0.10 a task"),
        (Budget(usd="0.000325", per="tag:tenant"), "$0.000325 for each tag:tenant"),
        (Budget(usd=20, per="day", each="tag:tenant", name="users"), "“users” $20.00 a day for each tag:tenant"),
    ],
)
def test_a_budget_is_described(budget: Budget, spoken: str) -> None:
    assert str(budget) == spoken


def test_the_purse_that_is_meant_is_named() -> None:
    budget = Budget(usd=5, per="day", each="tag:tenant")
    assert budget.spoken(purse_of(budget, tags={"tenant": "acme"})) == "$5.00 a day for each tag:tenant (acme)"
    assert budget.spoken(purse_of(budget)) == "$5.00 a day for each tag:tenant", "a call's id says nobody anything"


def test_alerts_are_in_thousandths_and_one_that_warns_tells_when_it_is_used_up() -> None:
    assert Budget(usd=1, per="day").thousandths == (500, 800, 1000)
    assert Budget(usd=1, per="day", alert_at=(0.9, 0, 0.333, 0.9)).thousandths == (333, 900)
    assert Budget(usd=1, per="day", alert_at=()).thousandths == ()
    assert Budget(usd=1, per="day", alert_at=(), on_reach="warn").thousandths == (1000,)
