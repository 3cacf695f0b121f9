"""Never spend more than a budget allows: the worst case of each attempt is reserved before it leaves."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from tidegate.accounting.money import dollars_of, spoken
from tidegate.accounting.periods import ALWAYS, Calendar
from tidegate.accounting.prices import Quote
from tidegate.accounting.purses import Claim, Verdict
from tidegate.chat.reply import Reply
from tidegate.chat.request import ChatRequest
from tidegate.clock import SYSTEM_CLOCK, CancelToken, Clock
from tidegate.errors import BudgetExceeded, BudgetUnknown, CallError, DeadlineExceeded, LedgerUnusable
from tidegate.pipeline.call import Booking, Call
from tidegate.pipeline.chain import Proceed
from tidegate.policies.budget_alerts import Alarm
from tidegate.policies.budget_options import Budget

DEFAULT_MAX_TOKENS = 4_096
"""Tokens that an answer may have when a budget needs a bound and nobody says one."""

_ANSWER_BOUNDS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens")
"""What providers call the bound of an answer, where it is passed in `options`."""

_FOLDERS = ("generationConfig", "generation_config")
"""In which Gemini keeps it, by either name."""


class Money(Protocol):
    """Where money is reserved: a ledger's till."""

    @property
    def changes(self) -> int:
        """Grows whenever reservations end."""
        ...

    def reserve(self, reservation: str, amount_nano: int, claims: Sequence[Claim], *, seconds: float) -> Verdict:
        """Set the amount aside in every claim's purse, or in none. Raises `LedgerUnusable`."""
        ...

    def wait(self, seen: int, seconds: float, cancel: CancelToken) -> None:
        """Wait until reservations have ended since `changes` was `seen`, or it is time to look again."""
        ...


class Prices(NamedTuple):
    """What a budget has to know of a call before it leaves."""

    quote: Callable[[str, tuple[str, ...]], Quote | None]
    """`quote(provider, models)`."""
    most_input: Callable[[Call], int]
    """Tokens that a call's question has at most."""


class BudgetPolicy:
    """Each attempt of a call reserves what it may cost at most, of every budget that counts it.

    What it did cost is settled with its row in the ledger (see `Record`); what was never sent is given back.
    """

    def __init__(
        self,
        budgets: Callable[[], Sequence[Budget]],
        *,
        money: Callable[[], Money],
        release: Callable[[str], None],
        prices: Prices,
        calendar: Calendar,
        alarm: Alarm,
        run: str = "",
        default_max_tokens: int = DEFAULT_MAX_TOKENS,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`budgets` tells those in force. `money` is opened when there is one. `release` ends a reservation."""
        self._budgets = budgets
        self._money = money
        self._release = release
        self._prices = prices
        self._calendar = calendar
        self._alarm = alarm
        self._run = run
        self._default_max_tokens = default_max_tokens
        self._clock = clock

    def __call__(self, call: Call, proceed: Proceed) -> Reply:
        """The reply. Raises `BudgetExceeded`, or `BudgetUnknown`, before anything is sent."""
        budgets = (*self._budgets(), *call.budgets)
        if not budgets:
            return proceed(call)
        quotes = [self._prices.quote(call.route.provider, (model,)) for model in _models(call)]
        quote = None if None in quotes else max((each for each in quotes if each is not None), key=_dearness)
        if quote is None:
            self._unknown(budgets, f"the price of `{call.route}` is not known")
            return proceed(call)
        if not quote.worst_nano(1_000_000, 1_000_000):
            return proceed(call)  # it is free
        if problem := _unbounded(_flat(call.request.options)):
            self._unknown(budgets, problem)
            return proceed(call)
        call, most_output = self._bounded(call)
        return self._carry(call, proceed, budgets, quote.worst_nano(self._prices.most_input(call), most_output))

    def _carry(self, call: Call, proceed: Proceed, budgets: Sequence[Budget], amount_nano: int) -> Reply:
        number = next(call.numbers)
        booking = Booking(number, 0, f"{call.id}/{number}")
        try:
            self._reserve(call, booking, amount_nano, budgets)
            reply = proceed(dataclasses.replace(call, booking=booking))
            reply.when_done(lambda _: self._give_back(booking))
        except BaseException:
            self._give_back(booking)
            raise
        return reply

    def _give_back(self, booking: Booking) -> None:
        if booking.reservation is not None and not booking.kept:
            self._release(booking.reservation)

    def _bounded(self, call: Call) -> tuple[Call, int]:
        """The call with a bound to its answer, and how many tokens may come at most."""
        request = call.request
        named = _counts(_flat(request.options), _ANSWER_BOUNDS)
        if request.max_tokens is None and not named:
            request = dataclasses.replace(request, max_tokens=self._default_max_tokens)
            call = dataclasses.replace(call, request=request)
        most = max([request.max_tokens or 0, *named])
        return call, most * _answers(request)

    # Reserving

    def _reserve(self, call: Call, booking: Booking, amount_nano: int, budgets: Sequence[Budget]) -> None:
        call.trace.enter("limiter")
        try:
            self._wait_for(call, booking, amount_nano, budgets)
        except LedgerUnusable as error:
            booking.reservation = None
            problem = str(error)
        else:
            return
        finally:
            call.trace.enter("own")
        if call.deadline.expired:
            raise DeadlineExceeded("the deadline passed while the ledger was busy")
        booking.at_us = self._now()
        self._unknown(budgets, problem)

    def _wait_for(self, call: Call, booking: Booking, amount_nano: int, budgets: Sequence[Budget]) -> None:
        money, allowed = self._money(), set[int]()  # by their ids: a budget's functions need not be hashable
        while True:
            call.cancel.raise_if_cancelled()
            seen, booking.at_us = money.changes, self._now()
            claims = {
                self._claim(budget, call, booking.at_us, hard=id(budget) not in allowed): budget for budget in budgets
            }
            verdict = money.reserve(
                booking.reservation or "", amount_nano, list(claims), seconds=call.deadline.remaining()
            )
            if verdict.outcome == "granted":
                return
            assert verdict.claim is not None  # noqa: S101 (something stands in the way)
            budget = claims[verdict.claim]
            if verdict.outcome == "refused":
                self._refuse(budget, verdict, amount_nano)
                allowed.add(id(budget))
            else:
                self._wait(call, money, seen, budget)

    def _claim(self, budget: Budget, call: Call, at_us: int, *, hard: bool) -> Claim:
        purse = budget.purse(self._calendar, at_us, call_id=call.id, run=self._run, task=call.task, tags=call.tags)
        claim = Claim(purse, budget.limit_nano, hard=hard and budget.on_reach != "warn")
        self._alarm.watch(claim, budget)
        return claim

    def _wait(self, call: Call, money: Money, seen: int, budget: Budget) -> None:
        if not call.patient:
            raise CallError(f"it could not go at once ({budget} is reserved by other calls), and was not to wait")
        left = call.deadline.remaining()
        if left <= 0:
            raise DeadlineExceeded(f"the deadline passed while other calls had reserved what is left of {budget}")
        money.wait(seen, left, call.cancel)

    def _refuse(self, budget: Budget, verdict: Verdict, amount_nano: int) -> None:
        """Raise `BudgetExceeded`, unless the program says that the call may go."""
        assert verdict.claim is not None  # noqa: S101 (it was refused)
        self._alarm.reached(verdict.claim, budget, verdict.spent_nano)
        error = self._exceeded(budget, verdict.claim, verdict.spent_nano, amount_nano)
        if not callable(budget.on_reach) or budget.on_reach(error) is not True:
            raise error

    def _exceeded(self, budget: Budget, claim: Claim, spent_nano: int, amount_nano: int) -> BudgetExceeded:
        left = max(0, claim.limit_nano - spent_nano)
        renews = None if claim.purse.until_us == ALWAYS.until_us else self._calendar.local(claim.purse.until_us)
        until = "it does not renew" if renews is None else f"it renews at {renews.isoformat(timespec='minutes')}"
        name = budget.spoken(claim.purse)
        asked, remains = dollars_of(amount_nano), dollars_of(left)
        what = f"the call may cost {spoken(asked)}, and of the budget {name} {spoken(remains)} are left"
        error = BudgetExceeded(f"{what}; {until}")
        error.budget, error.asked, error.left, error.renews_at = name, asked, remains, renews
        return error

    def _unknown(self, budgets: Sequence[Budget], problem: str) -> None:
        """Raise `BudgetUnknown`, unless every budget lets calls go."""
        for budget in budgets:
            error = BudgetUnknown(f"{problem}, so the budget {budget} cannot tell whether the call fits")
            if budget.on_reach == "warn":
                self._alarm.warn(str(error))
            elif not callable(budget.on_reach) or budget.on_reach(error) is not True:
                raise error

    def _now(self) -> int:
        return int(self._clock.time() * 1_000_000)

    def __repr__(self) -> str:
        return f"Budget({', '.join(map(str, self._budgets()))})"


def _answers(request: ChatRequest) -> int:
    """How many answers are asked for at once: each has the whole bound."""
    return max([1, *_counts(_flat(request.options), _NUMBERS_OF_ANSWERS)])


def _models(call: Call) -> list[str]:
    """The model that is asked, and those that the provider is told it may ask instead (OpenRouter's `models`)."""
    others = call.request.options.get("models")
    return (
        [call.route.model, *(each for each in others if isinstance(each, str))]
        if isinstance(others, list)
        else [call.route.model]
    )


def _dearness(quote: Quote) -> int:
    return quote.worst_nano(1_000_000, 1_000_000)


def _unbounded(options: Mapping[str, Any]) -> str:
    """Why nobody can say what a call with these options may cost at most; nothing, if one can."""
    for name in (*_ANSWER_BOUNDS, *_NUMBERS_OF_ANSWERS):
        if name in options and not _counts(options, (name,)):
            return f"`options` sets `{name}` to {options[name]!r}, which bounds nothing"
    if options.get("service_tier") in _DEARER_TIERS:
        return f"the price of the service tier `{options['service_tier']}` is not known"
    return ""


def _flat(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options with those that stand in a folder."""
    folders = [options[name] for name in _FOLDERS if isinstance(options.get(name), Mapping)]
    return {name: value for folder in (*folders, options) for name, value in folder.items()} if folders else options


_NUMBERS_OF_ANSWERS = ("n", "best_of", "candidateCount", "candidate_count")
_DEARER_TIERS = ("priority", "fast")
"""At which tokens cost more than a price list says."""


def _counts(options: Mapping[str, Any], names: Sequence[str]) -> list[int]:
    """Those of the options that are numbers of at least one; -1 is no bound, and providers refuse what is no number."""
    values = (options.get(name) for name in names)
    return [math.ceil(value) for value in values if isinstance(value, int | float) and 1 <= value < math.inf]
