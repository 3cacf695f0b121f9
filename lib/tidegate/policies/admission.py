"""Let a call go when its provider's limits allow it, and not before: one gate a route, shared by all threads."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable, Mapping
from typing import Literal

from tidegate.chat.messages import Image
from tidegate.chat.reply import Ending, Reply
from tidegate.chat.request import ChatRequest
from tidegate.chat.usage import Usage
from tidegate.clock import SYSTEM_CLOCK, Clock
from tidegate.errors import CallError, CircuitOpen, ConnectFailed, Overloaded, RateLimited, StreamInterrupted
from tidegate.forking import reset_in_child
from tidegate.options import Amount, Count, HiddenText, Options
from tidegate.pace.bucket import RESERVE, Bucket
from tidegate.pace.gate import Gate, LimitStatus, Settlement, Ticket
from tidegate.pace.headers import Unit, read_limits
from tidegate.pace.levels import Quota
from tidegate.pace.pacing import Pacing
from tidegate.pace.shared import SharedQuota
from tidegate.pace.window import SlidingWindow
from tidegate.pipeline.call import Call, Route
from tidegate.pipeline.chain import Proceed
from tidegate.storage.redis import RedisStore

MINUTE = 60.0
"""Seconds that configured limits are for."""

FIRST_ANSWER = 256
"""Tokens that an answer is expected to need while none of the route's has been seen, and nobody bounds it."""

SEEN_ANSWERS, FEW_ANSWERS = 100, 10
"""Answers of a route that the expectation is drawn from, and how many come before it is drawn again."""

BYTES_A_TOKEN = 4.0
"""UTF-8 bytes that one token stands for, roughly, in English text and in code (OpenAI's own rule of thumb)."""

MESSAGE_TOKENS, IMAGE_TOKENS = 4, 1_000
"""What a message adds to its text, and about what a picture costs."""


class Limits(Options):
    """What a provider allows, per minute. A route is a provider, its address, a model and a key; each has its own.

    What is not set is learned from the provider's response headers, as are lower limits than the ones that are set.
    """

    rpm: Amount | None = None
    """Requests a minute."""
    tpm: Amount | None = None
    """Tokens a minute, of questions and answers together."""
    itpm: Amount | None = None
    """Tokens of questions a minute, where they are counted apart."""
    otpm: Amount | None = None
    """Tokens of answers a minute, where they are counted apart."""
    concurrent: Count | None = None
    """Calls under way at most. A stream is under way until it has been read or closed."""
    pace: Literal["bucket", "window"] = "bucket"
    """`bucket`: the provider refills continuously, so a whole minute's worth may go at once after a rest. `window`: no
    sliding minute is ever over the limit, whichever way it is cut."""
    settle: Settlement = "auto"
    """What becomes of tokens that were reserved and not used. `auto`: what responses show to be left counts, else they
    are gone, as most providers keep them; `used`: they are given back; `reserved`: they are gone."""
    adaptive: bool = True
    """Learn from response headers and refusals."""
    store: HiddenText = None
    """Where several processes share what is configured, such as `redis://host:6379/0`; None: each has all of it."""

    @property
    def by_unit(self) -> dict[Unit, float]:
        """The limits that are set."""
        named: tuple[tuple[Unit, float | None], ...] = (
            ("requests", self.rpm),
            ("tokens", self.tpm),
            ("input_tokens", self.itpm),
            ("output_tokens", self.otpm),
        )
        return {unit: limit for unit, limit in named if limit is not None}


CountTokens = Callable[[ChatRequest, str], int]
"""`count(request, model)`: tokens of a question."""


def rough_count(request: ChatRequest, model: str) -> int:  # noqa: ARG001 (see `CountTokens`)
    """Tokens of a question by the length of its text."""
    size = tokens = 0
    for message in request.messages:
        tokens += MESSAGE_TOKENS
        parts = (message.content,) if isinstance(message.content, str) else message.content
        for part in parts:
            if isinstance(part, Image):
                tokens += IMAGE_TOKENS
            else:
                size += len((part if isinstance(part, str) else part.text).encode("utf-8", "replace"))
        size += sum(len(call.arguments) for call in message.tool_calls)
    size += sum(len(tool.name) + len(tool.description or "") + len(str(tool.parameters)) for tool in request.tools)
    return tokens + round(size / BYTES_A_TOKEN)


def gate_for(limits: Limits, name: str, store: RedisStore | None, clock: Clock) -> Gate:
    """A gate that keeps to the limits; with a `store`, together with all gates of that `name`."""
    by_unit = limits.by_unit
    units = tuple(by_unit)
    # A provider whose bucket begins to refill with the first call is a little later than this one.
    margin = RESERVE if limits.adaptive and limits.pace == "bucket" else 0.0
    buckets = [Bucket(limit, MINUTE, limit - math.floor(limit * margin)) for limit in by_unit.values()]
    pacing: Pacing | None = None
    if store is not None:
        pacing = SharedQuota(store, name, units, buckets, pace=limits.pace, clock=clock)
    elif buckets:
        pacing = Quota(buckets) if limits.pace == "bucket" else SlidingWindow(buckets)
    return Gate(
        units, pacing, concurrent=limits.concurrent, settle=limits.settle, adaptive=limits.adaptive, clock=clock
    )


class _Answers:
    """How long the answers of a route have been."""

    def __init__(self) -> None:
        self._seen: list[int] = []
        self._next = 0
        self._expected = FIRST_ANSWER

    def saw(self, tokens: int) -> None:
        """Two threads at once may lose one of their figures: nothing hangs on it."""
        if len(self._seen) < SEEN_ANSWERS:
            self._seen.append(tokens)
        else:
            self._seen[self._next % SEEN_ANSWERS] = tokens
        self._next += 1
        if self._next <= FEW_ANSWERS or self._next % FEW_ANSWERS == 0:
            ordered = sorted(self._seen)
            self._expected = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]

    @property
    def expected(self) -> int:
        """Tokens that 95 of 100 do not exceed."""
        return self._expected


class AdmissionPolicy:
    """Each attempt waits at the gate of its route, and pays for what it is estimated to need."""

    def __init__(
        self,
        limits: Limits | None,
        *,
        count: CountTokens = rough_count,
        before_waiting: Callable[[Route], None] | None = None,
        unlimited: Callable[[Route], bool] = lambda _: False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`before_waiting` raises where there is no use in waiting.

        `unlimited` says which routes have no limits of their own, such as the embedded model's.
        """
        self._limits = limits or Limits()
        self._count = count
        self._before_waiting = before_waiting
        self._unlimited = unlimited
        self._clock = clock
        self._store = self._connected()
        self._renew()
        reset_in_child(self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._gates: dict[Route, tuple[Gate, _Answers]] = {}

    def _connected(self) -> RedisStore | None:
        store = self._limits.store
        return None if store is None else RedisStore(store, field="Limits(store=…)")

    def __call__(self, call: Call, proceed: Proceed) -> Reply:
        """The reply, once the gate has let the call in."""
        if self._before_waiting is not None:
            self._before_waiting(call.route)
        gate, answers = self._gate(call.route)
        units = self._estimate(call.request, call.route.model, answers)
        call.trace.enter("limiter")
        try:
            ticket = self._enter(gate, call, units)
        finally:
            call.trace.enter("own")
        try:
            reply = proceed(
                dataclasses.replace(call, heed=lambda status, headers: self._heed(gate, ticket, status, headers))
            )
        except CallError as error:
            self._failed(ticket, error)
            raise
        except BaseException:
            ticket.close()
            raise
        reply.when_done(lambda ending: self._done(ticket, answers, ending))
        return reply

    @staticmethod
    def _enter(gate: Gate, call: Call, units: dict[Unit, float]) -> Ticket:
        if call.patient:
            return gate.enter(units, deadline=call.deadline, cancel=call.cancel, priority=call.priority)
        ticket = gate.try_enter(units)
        if ticket is None:
            raise CallError("it could not go at once, and was not to wait; nothing was sent")
        return ticket

    def _gate(self, route: Route) -> tuple[Gate, _Answers]:
        found = self._gates.get(route)
        if found is None:
            with self._lock:
                found = self._gates.get(route)
                if found is None:
                    found = self._gates[route] = (self._new_gate(route), _Answers())
        return found

    def _new_gate(self, route: Route) -> Gate:
        limits = self._limits
        if self._unlimited(route):
            return Gate(concurrent=limits.concurrent, adaptive=False, clock=self._clock)
        return gate_for(limits, route.shared_name, self._store, self._clock)

    def _estimate(self, request: ChatRequest, model: str, answers: _Answers) -> dict[Unit, float]:
        asked = self._count(request, model)
        answer = answers.expected if request.max_tokens is None else request.max_tokens
        return {"requests": 1, "tokens": asked + answer, "input_tokens": asked, "output_tokens": answer}

    def _heed(self, gate: Gate, ticket: Ticket, status: int, headers: Mapping[str, str]) -> None:
        readings = read_limits(headers, self._clock.time(), resets=gate.wants_resets)
        ticket.heed(readings, charged=200 <= status < 300)

    def _failed(self, ticket: Ticket, error: CallError) -> None:
        cause = error.__cause__ if isinstance(error, StreamInterrupted) else error
        if isinstance(cause, RateLimited) or (isinstance(cause, Overloaded) and _asks_for_less(cause)):
            ticket.refused(cause.retry_after)
        # Who waits behind it need not wait for what it has not used.
        ticket.close(sent=not isinstance(cause, CircuitOpen | ConnectFailed))

    def _done(self, ticket: Ticket, answers: _Answers, ending: Ending) -> None:
        if ending.error is not None:
            self._failed(ticket, ending.error)
            return
        usage = ending.completion.usage if ending.completion is not None else None
        if usage is not None:
            answers.saw(usage.output_tokens)
        ticket.close(_used(usage), succeeded=True)

    def status(self) -> dict[Route, LimitStatus]:
        """Every gate that was used."""
        return {route: gate.status() for route, (gate, _) in tuple(self._gates.items())}

    def expected_answer(self, route: Route) -> int:
        """Tokens that the route's answers have not exceeded in 95 of 100 cases lately."""
        return self._gate(route)[1].expected

    def close(self) -> None:
        """Give the store's connections back."""
        if self._store is not None:
            self._store.close()

    def __repr__(self) -> str:
        fields = self._limits.model_dump(exclude_defaults=True)
        if self._store is not None:
            fields["store"] = self._store.name
        shown = ", ".join(f"{name}={value}" for name, value in fields.items())
        return f"Admission({shown})"


def _asks_for_less(error: Overloaded) -> bool:
    """Whether it is about the number of calls: Anthropic's 529, or any that says when to come back."""
    return error.status == 529 or error.code == "overloaded_error" or error.retry_after is not None


def _used(usage: Usage | None) -> dict[Unit, float] | None:
    if usage is None:
        return None
    return {
        "requests": 1,
        "tokens": usage.total_tokens,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
    }
