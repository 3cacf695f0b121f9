"""Budgets before a call leaves: what is reserved, what is refused, who waits, and what comes back."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest

from support.priced import ANSWERED, COST, FREE, WORST, Priced, answer, priced
from support.shop import StillClock
from tidegate.accounting.till import Till
from tidegate.chat.reply import Completion
from tidegate.chat.usage import Usage
from tidegate.errors import (
    BudgetExceeded,
    BudgetUnknown,
    BudgetWarning,
    CallError,
    Cancelled,
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    LedgerUnusable,
    RateLimited,
)
from tidegate.pipeline.call import Call
from tidegate.policies.budget_options import Budget

PATIENCE = 30.0
DAY = Budget(usd="0.002", per="day")
"""Two calls' worst case."""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'usage.db'}"


Opened = Callable[..., Priced]


@pytest.fixture
def opened(url: str) -> Iterator[Opened]:
    with contextlib.ExitStack() as stack:
        yield lambda *budgets, **options: stack.enter_context(priced(url, *budgets, **options))


# What is reserved, and what it costs


def test_a_call_reserves_its_worst_case_while_it_is_under_way_and_settles_at_its_real_cost(opened: Opened) -> None:
    desk = opened(DAY)
    during: list[object] = []

    def provider(_call: Call) -> Completion:
        during.append(desk.settled())
        return answer()

    desk.provider = provider
    desk.ask()
    assert during == [{"all:": (0, WORST)}]
    assert desk.settled() == {"all:": (COST, 0)}
    (row,) = desk.rows()
    assert row.cost == Decimal("0.0005")


def test_without_max_tokens_the_default_is_sent_and_reserved(opened: Opened) -> None:
    desk = opened(Budget(usd="0.04106", per="day"))
    desk.ask(max_tokens=None)
    assert desk.sent[0].request.max_tokens == 4_096
    with pytest.raises(BudgetExceeded) as refused:
        desk.ask(max_tokens=None)
    assert refused.value.asked == Decimal("0.04106")


def test_the_default_can_be_set(opened: Opened) -> None:
    desk = opened(DAY, default_max_tokens=90)
    desk.ask(max_tokens=None)
    assert desk.sent[0].request.max_tokens == 90


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
def test_a_bound_among_the_options_counts_and_no_other_is_sent(opened: Opened, name: str) -> None:
    desk = opened(Budget(usd=1, per="day"))
    with pytest.raises(BudgetExceeded) as refused:
        desk.ask(max_tokens=None, options={name: 1_000_000})
    assert refused.value.asked == Decimal("10.0001")
    desk.ask(max_tokens=None, options={name: 90})
    assert desk.sent[0].request.max_tokens is None


@pytest.mark.parametrize("folder", ["generationConfig", "generation_config"])
def test_a_bound_in_geminis_folder_counts_too(opened: Opened, folder: str) -> None:
    desk = opened(Budget(usd=1, per="day"))
    with pytest.raises(BudgetExceeded) as refused:
        desk.ask(max_tokens=None, options={folder: {"maxOutputTokens": 500_000, "candidateCount": 2}})
    assert refused.value.asked == Decimal("10.0001")
    with pytest.raises(BudgetUnknown, match="maxOutputTokens"):
        desk.ask(max_tokens=None, options={folder: {"maxOutputTokens": -1}})
    desk.ask(max_tokens=None, options={folder: {"maxOutputTokens": 90}})
    assert desk.sent[0].request.max_tokens is None


@pytest.mark.parametrize("value", [-1, 0, "many", None, float("nan"), float("inf")])
def test_what_is_no_bound_does_not_stand_for_one(opened: Opened, value: object) -> None:
    desk = opened(Budget(usd=1, per="day"))
    with pytest.raises(BudgetUnknown, match="max_completion_tokens"):
        desk.ask(max_tokens=None, options={"max_completion_tokens": value})
    assert not desk.sent


@pytest.mark.parametrize("name", ["n", "best_of"])
def test_several_answers_may_cost_as_often_as_much(opened: Opened, name: str) -> None:
    desk = opened(Budget(usd="0.0046", per="day"))
    desk.ask(options={name: 5})
    with pytest.raises(BudgetExceeded) as refused:
        desk.ask(options={name: 5})
    assert refused.value.asked == Decimal("0.0046")


def test_a_free_model_needs_no_money_and_no_ledger(opened: Opened) -> None:
    def no_money() -> Till:
        raise LedgerUnusable("nobody needs it")

    desk = opened(Budget(usd="0.000000001", per="day"), price=FREE, money=no_money)
    desk.ask(max_tokens=None)
    assert desk.sent[0].request.max_tokens is None


def test_without_budgets_nothing_is_asked_of_the_ledger_and_nothing_is_bounded(opened: Opened) -> None:
    desk = opened()
    desk.ask(max_tokens=None)
    assert desk.sent[0].request.max_tokens is None
    assert desk.settled() == {}


# Refusals


def test_a_refusal_names_the_budget_what_was_asked_what_is_left_and_when_it_renews(opened: Opened) -> None:
    desk = opened(Budget(usd="0.0014", per="day", name="my own"), clock=StillClock())
    desk.ask()
    with pytest.raises(BudgetExceeded) as refused:
        desk.ask()
    error = refused.value
    assert error.budget == "“my own” $0.0014 a day"
    assert (error.asked, error.left) == (Decimal("0.001"), Decimal("0.0009"))
    assert error.renews_at is not None
    assert error.renews_at.isoformat() == "2023-11-15T00:00:00+00:00"
    assert str(error).startswith(
        "the call may cost $0.001, and of the budget “my own” $0.0014 a day $0.0009 are left; "
        "it renews at 2023-11-15T00:00+00:00."
    )
    assert len(desk.sent) == 1
    assert not error.retryable


def test_what_does_not_renew_says_so(opened: Opened) -> None:
    with pytest.raises(BudgetExceeded, match="it does not renew") as refused:
        opened(Budget(usd="0.0005", per="task")).ask(task="t")
    assert refused.value.renews_at is None


def test_a_call_that_fits_exactly_goes(opened: Opened) -> None:
    desk = opened(DAY)
    desk.provider = lambda _call: answer(Usage(100, 90))
    desk.ask()
    desk.ask()
    with pytest.raises(BudgetExceeded):
        desk.ask(max_tokens=1)
    assert desk.settled() == {"all:": (2_000_000, 0)}


def test_nested_budgets_all_count_and_a_refusal_by_one_leaves_nothing_in_the_others(opened: Opened) -> None:
    desk = opened(DAY, Budget(usd="0.0015", per="tag:tenant"), Budget(usd="0.5", per="task"))
    desk.ask(task="t", tags={"tenant": "acme"})
    with pytest.raises(BudgetExceeded, match=r"tag:tenant \(acme\)"):
        desk.ask(task="other", max_tokens=140, tags={"tenant": "acme"})
    assert desk.settled() == {
        "all:": (COST, 0),
        "tag:tenant=acme": (COST, 0),
        "task:t": (COST, 0),
        "task:other": (0, 0),
    }
    desk.ask(task="other", max_tokens=90, tags={"tenant": "another"})


def test_a_call_without_a_task_is_a_task_of_its_own_over_all_its_attempts(opened: Opened) -> None:
    desk = opened(Budget(usd="0.0014", per="task"))
    for _ in range(3):
        desk.ask()
    call = desk.call()
    desk.ask(call)
    with pytest.raises(BudgetExceeded):
        desk.ask(call)
    assert desk.settled() == {}


def test_each_divides_a_period(opened: Opened) -> None:
    clock = StillClock()
    desk = opened(Budget(usd="0.0014", per="hour", each="tag:tenant"), clock=clock)
    for tenant in ("a", "b"):
        desk.ask(tags={"tenant": tenant})
    with pytest.raises(BudgetExceeded):
        desk.ask(tags={"tenant": "a"})
    clock.advance(3_600)
    desk.ask(tags={"tenant": "a"})


def test_a_run_is_one_clients(url: str) -> None:
    budget = Budget(usd="0.0014", per="run")
    with priced(url, budget, run="one") as first, priced(url, budget, run="two") as second:
        first.ask()
        second.ask()
        for desk in (first, second):
            desk.ledger.flush()
            with pytest.raises(BudgetExceeded):
                desk.ask()


def test_a_day_begins_at_the_users_midnight(opened: Opened) -> None:
    clock = StillClock()  # 22:13:20 UTC, which is 23:13:20 in Zurich
    desk = opened(Budget(usd="0.0014", per="day"), clock=clock, tz="Europe/Zurich")
    desk.ask()
    with pytest.raises(BudgetExceeded) as refused:
        desk.ask()
    assert str(refused.value.renews_at) == "2023-11-15 00:00:00+01:00"
    clock.advance(46 * 60)
    with pytest.raises(BudgetExceeded):
        desk.ask()
    clock.advance(60)
    desk.ask()


# on_reach


def test_a_budget_that_warns_stops_nothing_and_says_so_once(opened: Opened) -> None:
    desk = opened(Budget(usd="0.0005", per="day", on_reach="warn"))
    with pytest.warns(BudgetWarning, match="a call may cost .*; it goes on") as said:  # noqa: PT031 (it is told in another thread)
        for _ in range(3):
            desk.ask()
            desk.ledger.flush()
        desk.alarm.close()
    assert len(said) == 1
    assert desk.settled() == {"all:": (3 * COST, 0)}


@pytest.mark.parametrize("answered", [False, None, "yes", 1])
def test_a_function_that_does_not_say_true_lets_the_refusal_stand(opened: Opened, answered: bool) -> None:  # noqa: FBT001
    asked: list[CallError] = []

    def on_reach(error: CallError) -> bool:
        asked.append(error)
        return answered

    desk = opened(Budget(usd="0.0005", per="day", on_reach=on_reach))
    with pytest.raises(BudgetExceeded) as refused:
        desk.ask()
    assert asked == [refused.value]
    assert desk.sent == []


def test_a_function_that_says_true_lets_the_call_go_and_it_is_counted(opened: Opened) -> None:
    desk = opened(Budget(usd="0.0005", per="day", on_reach=lambda _error: True), Budget(usd=1, per="month"))
    desk.ask()
    assert set(desk.settled().values()) == {(COST, 0)}


def test_a_function_lifts_only_its_own_budget(opened: Opened) -> None:
    lenient = Budget(usd="0.0005", per="day", on_reach=lambda _error: True)
    for budgets in ([lenient, Budget(usd="0.0005", per="day")], [Budget(usd="0.0005", per="day"), lenient]):
        desk = opened(*budgets)
        with pytest.raises(BudgetExceeded):
            desk.ask()
        assert desk.sent == []


def test_what_a_function_raises_is_raised_and_nothing_stays_reserved(opened: Opened) -> None:
    def on_reach(_error: CallError) -> bool:
        raise RuntimeError("a bug of the program's")

    desk = opened(Budget(usd="0.0005", per="day", on_reach=on_reach))
    with pytest.raises(RuntimeError, match="a bug"):
        desk.ask()
    assert desk.settled() == {"all:": (0, 0)}


# What nobody can tell


def test_L6_a_call_whose_price_is_unknown_is_refused(opened: Opened) -> None:
    desk = opened(Budget(usd=100, per="day"), price=None)
    with pytest.raises(BudgetUnknown, match=r"the price of `openai/gpt-4o-mini` is not known.*`prices=`"):
        desk.ask()
    assert desk.sent == []


def test_L6_a_budget_that_warns_lets_it_go_and_its_cost_is_unknown_not_zero(opened: Opened) -> None:
    desk = opened(Budget(usd=100, per="day", on_reach="warn"), price=None)
    with pytest.warns(BudgetWarning, match="is not known"):
        desk.ask()
    (row,) = desk.rows()
    assert row.cost is None


def test_L6_one_budget_that_prevents_is_enough_to_refuse(opened: Opened) -> None:
    desk = opened(Budget(usd=1, per="day", on_reach=lambda _error: True), Budget(usd=100, per="month"), price=None)
    with pytest.raises(BudgetUnknown, match="a month"):
        desk.ask()


def unusable() -> Till:
    raise LedgerUnusable("the disk is gone")


def test_when_the_ledger_cannot_be_used_a_call_is_refused(opened: Opened) -> None:
    desk = opened(DAY, money=unusable)
    with pytest.raises(BudgetUnknown, match=r"the disk is gone, so the budget \$0.002 a day cannot tell"):
        desk.ask()
    assert desk.sent == []


def test_when_the_ledger_cannot_be_used_a_budget_that_warns_lets_a_call_go(opened: Opened) -> None:
    desk = opened(Budget(usd=1, per="day", on_reach="warn"), money=unusable)
    with pytest.warns(BudgetWarning, match="the disk is gone"):
        desk.ask()
    assert len(desk.rows()) == 1


def test_a_ledger_that_is_busy_until_the_deadline_is_a_matter_of_time(opened: Opened) -> None:
    desk = opened(Budget(usd=1, per="day", on_reach="warn"))
    with desk.shop.till._lock, pytest.raises(DeadlineExceeded, match="the ledger was busy"):
        desk.ask(timeout=0.02)
    assert desk.sent == []


# Waiting


@contextlib.contextmanager
def under_way(desk: Priced, usage: Usage = ANSWERED) -> Iterator[threading.Event]:
    """A call that holds its reservation until the event is set, or the block is left."""
    sent, answers = threading.Event(), threading.Event()

    def provider(_call: Call) -> Completion:
        sent.set()
        assert answers.wait(PATIENCE)
        return answer(usage)

    desk.provider = provider
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(desk.ask)
        try:
            assert sent.wait(PATIENCE)
            desk.provider = lambda _call: answer()
            yield answers
        finally:
            answers.set()
        first.result(PATIENCE)


def test_a_call_waits_for_what_others_have_reserved(opened: Opened) -> None:
    desk = opened(Budget(usd="0.0015", per="day"))
    with under_way(desk) as answers, ThreadPoolExecutor(1) as pool:
        second = pool.submit(desk.ask)
        while not desk.shop.till._changed._waiters:  # type: ignore[attr-defined]
            assert not second.done()
        answers.set()
        second.result(PATIENCE)
    assert desk.settled() == {"all:": (2 * COST, 0)}
    assert desk.sent[1].trace.timeline().limiter > 0


def test_a_call_that_waited_is_refused_when_what_it_waited_for_was_spent(opened: Opened) -> None:
    desk = opened(Budget(usd="0.0015", per="day"))
    with under_way(desk, Usage(100, 90)) as answers, ThreadPoolExecutor(1) as pool:
        second = pool.submit(desk.ask)
        while not desk.shop.till._changed._waiters:  # type: ignore[attr-defined]
            assert not second.done()
        answers.set()
        with pytest.raises(BudgetExceeded):
            second.result(PATIENCE)


def test_the_wait_ends_with_the_deadline(opened: Opened) -> None:
    desk = opened(Budget(usd="0.0015", per="day"))
    with under_way(desk), pytest.raises(DeadlineExceeded, match="other calls had reserved what is left of"):
        desk.ask(timeout=0.05)
    assert desk.settled() == {"all:": (COST, 0)}


def test_the_wait_ends_with_a_cancellation(opened: Opened) -> None:
    desk = opened(Budget(usd="0.0015", per="day"))
    call = desk.call()
    with under_way(desk), ThreadPoolExecutor(1) as pool:
        second = pool.submit(desk.ask, call)
        while not desk.shop.till._changed._waiters:  # type: ignore[attr-defined]
            assert not second.done()
        call.cancel.cancel()
        with pytest.raises(Cancelled):
            second.result(PATIENCE)
    assert len(desk.sent) == 1


def test_a_call_that_is_cancelled_already_reserves_nothing(opened: Opened) -> None:
    desk = opened(DAY)
    call = desk.call()
    call.cancel.cancel()
    with pytest.raises(Cancelled):
        desk.ask(call)
    assert desk.settled() == {}


def test_a_hedge_waits_for_nobody(opened: Opened) -> None:
    desk = opened(Budget(usd="0.0015", per="day"))
    with under_way(desk), pytest.raises(CallError, match="could not go at once") as refused:
        desk.ask(dataclasses.replace(desk.call(), patient=False))
    assert type(refused.value) is CallError
    assert len(desk.sent) == 1


# What comes back


@pytest.mark.parametrize("error", [ConnectFailed("refused"), RateLimited("slow down")])
def test_what_was_refused_or_never_sent_gives_everything_back(opened: Opened, error: CallError) -> None:
    desk = opened(DAY)

    def provider(_call: Call) -> Completion:
        raise error

    desk.provider = provider
    for _ in range(5):
        with pytest.raises(type(error)):
            desk.ask()
        desk.ledger.flush()
    assert desk.settled() == {"all:": (0, 0)}
    assert desk.rows() == []


@pytest.mark.parametrize("error", [ConnectionLost("broken"), KeyboardInterrupt(), DeadlineExceeded("late")])
def test_what_broke_off_after_it_was_sent_costs_its_question_at_least(opened: Opened, error: BaseException) -> None:
    desk = opened(DAY)

    def provider(_call: Call) -> Completion:
        raise error

    desk.provider = provider
    with pytest.raises(type(error)):
        desk.ask()
    assert desk.settled() == {"all:": (100_000, 0)}


def test_a_stream_holds_its_reservation_until_its_end(opened: Opened) -> None:
    desk = opened(DAY)
    stream = desk.stream("a", "b")
    assert next(stream).text == "a"
    assert desk.settled() == {"all:": (0, WORST)}
    assert [chunk.text for chunk in stream] == ["b"]
    assert desk.settled() == {"all:": (COST, 0)}


def test_a_stream_that_is_closed_early_settles(opened: Opened) -> None:
    desk = opened(DAY)
    with desk.stream("a", "b", usage=Usage(100, 1, estimated=True)) as stream:
        next(stream)
    assert desk.settled() == {"all:": (110_000, 0)}


def test_a_stream_that_breaks_settles(opened: Opened) -> None:
    desk = opened(DAY)
    stream = desk.stream("a", ConnectionLost("broken"), usage=Usage(100, 1, estimated=True))
    with pytest.raises(ConnectionLost):
        list(stream)
    assert desk.settled() == {"all:": (110_000, 0)}


def test_a_stream_that_is_dropped_unread_settles(opened: Opened) -> None:
    desk = opened(DAY)
    desk.stream("a")
    give_up = threading.Event()
    for _ in range(3_000):
        if desk.settled() == {"all:": (COST, 0)}:
            return
        give_up.wait(0.01)
    pytest.fail("it is reserved still")


def test_every_attempt_of_a_call_has_a_reservation_and_a_row_of_its_own(opened: Opened) -> None:
    desk = opened(Budget(usd=1, per="day"))
    call = desk.call()
    for _ in range(3):
        desk.ask(call)
    assert [row.attempt for row in desk.rows()] == [1, 2, 3]
    assert len({each.booking.reservation for each in desk.sent if each.booking is not None}) == 3


def test_L3_calls_of_many_threads_never_exceed_a_budget_and_all_that_fits_goes(opened: Opened) -> None:
    desk = opened(Budget(usd="0.0205", per="day"))

    def ask(_number: int) -> bool:
        try:
            desk.ask()
        except BudgetExceeded:
            return False
        return True

    with ThreadPoolExecutor(32) as pool:
        went = sum(pool.map(ask, range(64)))
    assert went == len(desk.sent) == 40
    assert desk.settled() == {"all:": (40 * COST, 0)}
