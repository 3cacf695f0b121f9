"""Send nothing to a route that keeps failing, and find out by a few calls when it is well again."""

from __future__ import annotations

import threading

from tidegate.chat.reply import Ending, Reply
from tidegate.circuit import Breaker, CircuitBreaker, Permit, State
from tidegate.clock import SYSTEM_CLOCK, Clock
from tidegate.errors import StreamInterrupted
from tidegate.forking import reset_in_child
from tidegate.pipeline.call import Call, Route
from tidegate.pipeline.chain import Proceed
from tidegate.storage.redis import RedisStore


class BreakerPolicy:
    """One circuit a route. It stands behind the gate, so that nobody holds a probe's permit while it waits in line."""

    def __init__(self, options: Breaker, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._options = options
        self._clock = clock
        self._store = None if options.store is None else RedisStore(options.store, field="Breaker(store=…)")
        self._circuits: dict[Route, CircuitBreaker] = {}
        self._renew()
        reset_in_child(self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()

    def circuit(self, route: Route) -> CircuitBreaker:
        """The route's own."""
        found = self._circuits.get(route)
        if found is None:
            with self._lock:
                found = self._circuits.get(route)
                if found is None:
                    found = self._new_circuit(route)
                    self._circuits[route] = found
        return found

    def _new_circuit(self, route: Route) -> CircuitBreaker:
        name = str(route) if self._store is None else route.shared_name
        return CircuitBreaker(self._options, name=name, clock=self._clock, store=self._store)

    def peek(self, route: Route) -> None:
        """Raise `CircuitOpen` when there is no use in waiting in line."""
        found = self._circuits.get(route)
        if found is not None:
            found.peek()

    def __call__(self, call: Call, proceed: Proceed) -> Reply:
        """The reply, whose ending is reported."""
        permit = self.circuit(call.route).take()
        try:
            reply = proceed(call)
        except BaseException as error:
            permit.failure(error)
            raise
        reply.when_done(lambda ending: _report(permit, ending))
        return reply

    def states(self) -> dict[Route, State]:
        """Of every circuit that was used."""
        return {route: circuit.state for route, circuit in tuple(self._circuits.items())}

    def close(self) -> None:
        """Give the store's connections back."""
        if self._store is not None:
            self._store.close()

    def __repr__(self) -> str:
        return "Breaker"


def _report(permit: Permit, ending: Ending) -> None:
    if ending.error is None:
        permit.success()
    else:
        cause = ending.error.__cause__ if isinstance(ending.error, StreamInterrupted) else ending.error
        permit.failure(cause or ending.error)
