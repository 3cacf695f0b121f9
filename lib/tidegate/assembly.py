"""Puts the rooms together. The one file that knows them all.

::

    Observe > Fallback > Retry > [Hedge] > Admission > Breaker > Dispatch
    ------ once a call ------- an attempt  ------ once a request ------

Observe is outermost, so that its figures hold whatever happens inside. Fallback is outside Retry, so that a new route
starts its attempts anew, and Retry outside everything that an attempt pays for, so that every attempt pays anew. Hedge
is between them: both of its requests pay, and a retry follows only when both have failed. The circuit is looked at
before a call waits in line and asked for its permit after it: nobody waits for a route that is down, and nobody holds a
probe's permit while it waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tidegate import catalog
from tidegate.accounting.prices import PriceBook
from tidegate.clock import SYSTEM_CLOCK, Clock
from tidegate.dispatch import Dispatch
from tidegate.errors import ConfigError
from tidegate.pipeline.call import Route
from tidegate.pipeline.chain import Policy, Proceed, fold
from tidegate.pipeline.events import Announcer, Listener
from tidegate.policies.admission import AdmissionPolicy
from tidegate.policies.breaker import BreakerPolicy
from tidegate.policies.fallback import FallbackPolicy
from tidegate.policies.hedge import HedgePolicy, telling_departure
from tidegate.policies.observe import ObservePolicy
from tidegate.policies.retry import RetryPolicy
from tidegate.providers import local
from tidegate.providers.registry import Endpoints, default_model, split_model
from tidegate.reporting.logs import log_events
from tidegate.reporting.metrics import MetricsWindow
from tidegate.settings import ClientSettings
from tidegate.transport.base import Transport
from tidegate.transport.session import SessionTransport

DEFAULT_WORKERS = 32
"""Threads of `submit`, when nobody says otherwise."""


@dataclass(frozen=True, slots=True)
class Corridor:
    """A client's parts, put together."""

    proceed: Proceed
    policies: tuple[Policy, ...]
    endpoints: Endpoints
    transport: Transport
    window: MetricsWindow
    admission: AdmissionPolicy
    breaker: BreakerPolicy | None
    workers: int

    def close(self) -> None:
        """Give back the connections, to providers and to stores."""
        self.transport.close()
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
    dispatch = Dispatch(
        transport=transport,
        provider_of=endpoints.provider_of,
        price=PriceBook().cost,
        timeouts=settings.timeouts,
        announce=announce,
        clock=clock,
    )
    policies: tuple[Policy, ...] = (ObservePolicy(announce),)
    if settings.fallbacks:
        policies += (FallbackPolicy(_fallbacks(settings, endpoints), window_of=_window, announce=announce),)
    if settings.retry is not None:
        policies += (RetryPolicy(settings.retry, announce=announce, clock=clock),)
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
    policies += (admission,)
    if breaker is not None:
        policies += (breaker,)
    return Corridor(fold(policies, last), policies, endpoints, transport, window, admission, breaker, workers)


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
