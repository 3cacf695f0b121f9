"""What retries may cost in an outage."""

from __future__ import annotations

import threading

import pytest

from support.corridor import call_of, route_of
from tidegate.chat.reply import Reply
from tidegate.errors import CallError, Overloaded, RateLimited
from tidegate.pipeline.call import Call
from tidegate.policies.retry import Retry, RetryPolicy
from tidegate.policies.retry_budget import EARNED, MOST, REFILL, RESERVE, RetryBudgets
from tidegate.testing import ManualClock


class Outage:
    """A provider that is down, and counts."""

    def __init__(self, error: type[CallError] = Overloaded) -> None:
        self.attempts = 0
        self._error = error

    def __call__(self, _: Call) -> Reply:
        self.attempts += 1
        raise self._error("down", retry_after=0.0)


def frozen_policy() -> tuple[RetryPolicy, ManualClock]:
    """A policy whose clock stands still: its waits are of 0 s."""
    clock = ManualClock()
    return RetryPolicy(Retry(attempts=4), clock=clock, budgets=RetryBudgets(clock)), clock


def test_T1_in_a_full_outage_a_call_costs_hardly_more_than_one_attempt() -> None:
    """10,000 calls: at most 1.1 attempts each, and the reserve."""
    policy, clock = frozen_policy()
    outage = Outage()
    for _ in range(10_000):
        with pytest.raises(Overloaded):
            policy(call_of(clock=clock), outage)
    assert 10_000 < outage.attempts <= 1.1 * 10_000 + RESERVE


def test_T1_threads_and_clients_share_one_budget() -> None:
    budgets = RetryBudgets(ManualClock())
    granted: list[bool] = []

    def spend() -> None:
        granted.extend(budgets.spend(route_of()) for _ in range(20))

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(granted) == RESERVE


def test_each_route_has_a_budget_of_its_own() -> None:
    budgets = RetryBudgets(ManualClock())
    while budgets.spend(route_of("a")):
        pass
    assert budgets.spend(route_of("b"))


def test_time_gives_the_reserve_back_and_calls_earn_the_rest() -> None:
    clock = ManualClock()
    budgets = RetryBudgets(clock)
    while budgets.spend(route_of()):
        pass
    clock.advance(3 / REFILL)
    assert [budgets.spend(route_of()) for _ in range(4)] == [True, True, True, False]
    for _ in range(int(2 / EARNED) + 1):
        budgets.earn(route_of())
    assert [budgets.spend(route_of()) for _ in range(3)] == [True, True, False]


def test_no_more_is_saved_up_than_would_be_a_stampede() -> None:
    budgets = RetryBudgets(ManualClock())
    for _ in range(100_000):
        budgets.earn(route_of())
    assert sum(budgets.spend(route_of()) for _ in range(1_000)) == MOST


def test_a_refusal_for_pace_costs_nothing() -> None:
    """The gate paces what is asked again."""
    policy, clock = frozen_policy()
    outage = Outage(RateLimited)
    for _ in range(100):
        with pytest.raises(RateLimited):
            policy(call_of(clock=clock), outage)
    assert outage.attempts == 400


def test_a_budget_can_be_done_without() -> None:
    clock = ManualClock()
    policy = RetryPolicy(Retry(attempts=4, budget=False), clock=clock, budgets=RetryBudgets(clock))
    outage = Outage()
    for _ in range(100):
        with pytest.raises(Overloaded):
            policy(call_of(clock=clock), outage)
    assert outage.attempts == 400
