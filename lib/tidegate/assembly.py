"""Puts the rooms together. The one file that knows them all.

::

    Observe > Fallback > Retry > [Hedge] > [Budget] > Admission > Breaker > Record > Dispatch
    ------ once a call ------- an attempt  -------------- once a request -------------

Observe is outermost, so that its figures hold whatever happens inside. Fallback is outside Retry, so that a new route
starts its attempts anew, and Retry outside everything that an attempt pays for, so that every attempt pays anew. Hedge
is between them: both of its requests pay, and a retry follows only when both have failed. The circuit is looked at
before a call waits in line and asked for its permit after it: nobody waits for a route that is down, and nobody holds a
probe's permit while it waits. Budget is outside Admission, so that a call which may not leave takes no place in line
and no tokens; Record is innermost, so that what was sent is in the ledger whatever becomes of its answer.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tidegate import catalog
from tidegate.accounting.ledger import Ledger
from tidegate.accounting.prices import PriceBook, check_prices
from tidegate.accounting.tokens import TokenCounter
from tidegate.chat.reply import Completion
from tidegate.chat.usage import Usage
from tidegate.clock import SYSTEM_CLOCK, Clock
from tidegate.dispatch import Dispatch
from tidegate.errors import ConfigError
from tidegate.pipeline.call import Call, Route
from tidegate.pipeline.chain import Policy, Proceed, fold
from tidegate.pipeline.events import Announcer, Listener
from tidegate.policies.admission import AdmissionPolicy
from tidegate.policies.breaker import BreakerPolicy
from tidegate.policies.budget import BudgetPolicy, Prices
from tidegate.policies.budget_alerts import Alarm
from tidegate.policies.budgets_in_force import BudgetsInForce
from tidegate.policies.fallback import FallbackPolicy
from tidegate.policies.hedge import HedgePolicy, telling_departure
from tidegate.policies.observe import ObservePolicy
from tidegate.policies.record import RecordPolicy
from tidegate.policies.retry import RetryPolicy
from tidegate.providers import local
from tidegate.providers.registry import NAMES, Endpoints, default_model, split_model
from tidegate.reporting.logs import log_events
from tidegate.reporting.metrics import MetricsWindow
from tidegate.settings import USERS_OWN, ClientSettings
from tidegate.transport.base import Transport
from tidegate.transport.session import SessionTransport

DEFAULT_WORKERS = 32
"""Threads of `submit`, when nobody says otherwise."""


@dataclass(frozen=True, slots=True)
class Corridor:
    """A client's parts, put together."""

    proceed: Proceed
    count: Proceed
    """The way of a request that is no call: only retried."""
    policies: tuple[Policy, ...]
    endpoints: Endpoints
    transport: Transport
    window: MetricsWindow
    admission: AdmissionPolicy
    breaker: BreakerPolicy | None
    counter: TokenCounter
    prices: PriceBook
    ledger: Ledger | None
    alarm: Alarm | None
    workers: int
    keeps_budgets: bool
    """Whether a call may have budgets of its own."""

    def close(self) -> None:
        """Give back the connections, to providers and to stores, and write what is to be written."""
        self.transport.close()
        self.close_books()

    def close_books(self) -> None:
        """All of it but the connections to providers, on which streams may still come."""
        if self.ledger is not None:
            self.ledger.flush_quietly()
        if self.alarm is not None:
            self.alarm.close()
        if self.ledger is not None:
            self.ledger.close()
        self.admission.close()
        if self.breaker is not None:
            self.breaker.close()


def assemble(
    settings: ClientSettings,
    *,
    listeners: Iterable[Listener] = (),
    transport: Transport | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> Corridor:
    """Build everything that a client needs. Raises `ConfigError`; nothing is sent or started."""
    workers = settings.workers or DEFAULT_WORKERS
    endpoints = Endpoints(
        default_model() if settings.model is None else settings.model,
        api_key=settings.api_key,
        base_url=settings.base_url,
        allow_http=settings.allow_http,
    )
    window = MetricsWindow()
    announce = Announcer((log_events, window, *listeners))
    transport = transport or SessionTransport(pool_size=workers, ca_bundle=settings.ca_bundle, proxy=settings.proxy)
    check_prices(settings.prices, NAMES)
    counter, prices = TokenCounter(), PriceBook(settings.prices, clock=clock)
    dispatch = Dispatch(
        transport=transport,
        provider_of=endpoints.provider_of,
        price=prices.cost,
        count_usage=_Counting(counter).usage,
        timeouts=settings.timeouts,
        announce=announce,
        clock=clock,
    )
    policies: tuple[Policy, ...] = (ObservePolicy(announce),)
    if settings.fallbacks:
        policies += (FallbackPolicy(_fallbacks(settings, endpoints), window_of=_window, announce=announce),)
    retry: tuple[Policy, ...] = ()
    if settings.retry is not None:
        retry = (RetryPolicy(settings.retry, announce=announce, clock=clock),)
    policies += retry
    breaker = None if settings.breaker is None else BreakerPolicy(settings.breaker, clock=clock)
    last: Proceed = dispatch
    if settings.hedge is not None:
        policies += (HedgePolicy(settings.hedge, may_hedge=_is_closed(breaker), announce=announce, clock=clock),)
        last = telling_departure(dispatch)
    admission = AdmissionPolicy(
        settings.limits,
        unlimited=lambda route: route.provider == local.NAME,
        before_waiting=breaker.peek if breaker is not None else None,
        clock=clock,
    )
    ledger, budget, alarm, record = _money(settings, counter, prices, announce, clock)
    policies += tuple(policy for policy in (budget, admission, breaker, record) if policy is not None)
    return Corridor(
        fold(policies, last),
        fold(retry, dispatch),
        policies,
        endpoints,
        transport,
        window,
        admission,
        breaker,
        counter,
        prices,
        ledger,
        alarm,
        workers,
        budget is not None,
    )


def _money(
    settings: ClientSettings, counter: TokenCounter, prices: PriceBook, announce: Announcer, clock: Clock
) -> tuple[Ledger | None, BudgetPolicy | None, Alarm | None, RecordPolicy | None]:
    """The ledger and what writes to it: none where it is switched off."""
    if settings.ledger is None:
        return None, None, None, None
    own = settings.ledger == USERS_OWN
    ledger = Ledger(
        None if own else settings.ledger,
        tz=settings.tz,
        prices=prices,
        durability=settings.durability,
        # The user's own is not worth a third of a second before the first call, nor a reason to fail.
        lazily=own and not settings.budgets,
        clock=clock,
    )
    run, counting, store = secrets.token_hex(6), _Counting(counter), ledger.store
    record = RecordPolicy(
        ledger, quote=prices.quote, count_input=counting.likely_input, learn=counting.learn, run=run, clock=clock
    )
    if settings.budgets == ():
        return ledger, None, None, record
    alarm = Alarm(store.till, ledger.calendar, announce)
    store.on_spent(alarm.on_spent)
    budget = BudgetPolicy(
        BudgetsInForce(settings.budgets or (), store.look_around, clock=clock),
        money=store.till,
        release=store.bookkeeper.release,
        prices=Prices(prices.quote, counting.most_input),
        calendar=ledger.calendar,
        alarm=alarm,
        run=run,
        default_max_tokens=settings.default_max_tokens,
        clock=clock,
    )
    return ledger, budget, alarm, record


class _Counting:
    """What the corridor asks of the counter, about calls."""

    def __init__(self, counter: TokenCounter) -> None:
        self._counter = counter

    def likely_input(self, call: Call) -> int:
        return self._counter.count(call.request, call.route.provider, call.route.model).tokens

    def most_input(self, call: Call) -> int:
        return self._counter.count(call.request, call.route.provider, call.route.model).highest

    def usage(self, call: Call, completion: Completion) -> Usage:
        """Of an answer, or of what there is of it, for which the provider gave no figures."""
        provider, model = call.route.provider, call.route.model
        made = "".join([completion.reasoning, completion.text, *(each.arguments for each in completion.tool_calls)])
        output = self._counter.count_text(made, provider, model).tokens
        return Usage(self.likely_input(call), output, estimated=True)

    def learn(self, call: Call, usage: Usage) -> None:
        """Compare an estimate with what the provider says."""
        provider, model = call.route.provider, call.route.model
        if self._counter.learns(provider, model):
            count = self._counter.count(call.request, provider, model)
            self._counter.learn(provider, model, count, usage.input_tokens)


def _is_closed(breaker: BreakerPolicy | None) -> Callable[[Route], bool]:
    """Whether a route's circuit lets calls pass, as far as this process knows: no store is asked."""
    return lambda route: breaker is None or breaker.circuit(route).state == "closed"


def _fallbacks(settings: ClientSettings, endpoints: Endpoints) -> list[Route]:
    routes: list[Route] = []
    for name in settings.fallbacks:
        provider, model = split_model(name)
        route = endpoints.named(f"{provider}/{model}").route
        if route in (endpoints.main.route, *routes):
            raise ConfigError(f"`Client(fallbacks=…)`: `{name}` is asked already before it")
        routes.append(route)
    return routes


def _window(route: Route) -> int | None:
    return catalog.facts(route.provider, route.model).context_window
