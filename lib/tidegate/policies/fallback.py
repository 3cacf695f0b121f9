"""Ask the next route when one cannot answer: in order, within the one deadline."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from tidegate.chat.reply import Reply, Stream
from tidegate.clock import CancelToken
from tidegate.errors import (
    AllRoutesFailed,
    BadRequest,
    CallError,
    Cancelled,
    ConfigError,
    ContentFiltered,
    ContextLengthExceeded,
    ModelNotFound,
    StreamInterrupted,
)
from tidegate.pipeline.call import Call, Route
from tidegate.pipeline.chain import Proceed
from tidegate.pipeline.events import Event, FellBack
from tidegate.policies.restarting import Restarting

WindowOf = Callable[[Route], int | None]
"""Tokens of a route's context window; None when unknown."""


class FallbackPolicy:
    """Carries a call to one route after the other until one answers.

    What another provider would refuse as well is not carried on: a request that is wrong, one that the content policy
    forbids (it must not be got round), and one that does not fit, unless the next window is larger.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        *,
        window_of: WindowOf = lambda _: None,
        announce: Callable[[Event], None] = lambda _: None,
    ) -> None:
        self._routes = tuple(routes)
        self._window_of = window_of
        self._announce = announce

    def __call__(self, call: Call, proceed: Proceed) -> Reply:
        """The reply of the first route that answers. Raises `AllRoutesFailed`, or what no route can help."""
        if not call.request.replaceable:
            return proceed(call)
        journey = _Journey(self, call, proceed)
        first = journey.call_to(call.route)
        try:
            reply = proceed(first)
        except CallError as error:
            carried, reply = journey.go_on(first, error)
        else:
            carried = first
        if isinstance(reply, Stream) and call.recover == "restart":
            return Stream(Restarting(carried, reply, journey.go_on))
        return reply

    def others(self, route: Route) -> list[Route]:
        """Whom to ask after `route`, in order."""
        return [other for other in self._routes if other != route]

    def may_help(self, error: CallError, failed: Route, following: Route) -> bool:
        """Whether asking `following` makes sense when `failed` has failed so."""
        cause = error.__cause__ if isinstance(error, StreamInterrupted) and error.__cause__ else error
        if isinstance(cause, ContextLengthExceeded):
            return (self._window_of(following) or 0) > (self._window_of(failed) or float("inf"))
        if isinstance(cause, Cancelled | ContentFiltered):
            return False
        return not isinstance(cause, BadRequest) or isinstance(cause, ModelNotFound)

    def tell(self, call: Call, error: CallError, following: Route) -> None:
        """Announce the change of route."""
        self._announce(FellBack(call, error, following))

    def __repr__(self) -> str:
        return f"Fallback({', '.join(map(str, self._routes))})"


class _Journey:
    """One call's way along the routes."""

    def __init__(self, policy: FallbackPolicy, call: Call, proceed: Proceed) -> None:
        self._policy = policy
        self._call = call
        self._proceed = proceed
        self._left = policy.others(call.route)
        self._failures: list[CallError] = []

    def call_to(self, route: Route) -> Call:
        """The call as `route` gets it: while others are left, a silent one is not waited for till the deadline."""
        cancel = CancelToken()  # of its own: a stream that ends itself must not end the call
        self._call.cancel.on_cancel(cancel.cancel)
        return dataclasses.replace(
            self._call,
            route=route,
            cancel=cancel,
            attempt=1,
            alternatives=len(self._left),
            stall_detection=self._call.stall_detection or bool(self._left),
        )

    def go_on(self, call: Call, error: CallError) -> tuple[Call, Reply]:
        """The call to the next route that answers, and its reply. Raises when none does, or none could help."""
        while True:
            error.locate(call.route.provider, call.route.model)
            self._failures.append(error)
            following = self._following(call, error)
            self._policy.tell(call, error, following)
            call = self.call_to(following)
            try:
                return call, self._proceed(call)
            except CallError as caught:
                error = caught
            except ConfigError as problem:  # what is asked cannot be said there: the next one may have words for it
                error = CallError(f"it was not asked: {problem}")

    def _following(self, call: Call, error: CallError) -> Route:
        if call.deadline.expired:
            self._left = []
        while self._left:
            following = self._left.pop(0)
            if self._policy.may_help(error, call.route, following):
                return following
        if len(self._failures) == 1:
            raise error
        raise AllRoutesFailed.of(self._failures) from error
