"""How full a provider's buckets are: pyrate-limiter's store with an algorithm that knows several units at once.

A call takes one request and so many tokens, together or not at all, and part of it may come back: neither is in
pyrate-limiter's own algorithms, whose weight is one number. Its store passes the weight on untouched, so here the
weight is an `Order`: what to do, with a number for each bucket.

The state is the moment of the last change in seconds, and each bucket's level in units, which drains at the bucket's
rate. Unlike a theoretical arrival time, a level keeps its meaning when the rate changes, and needs no rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pyrate_limiter import InMemoryStateStore, Rate
from pyrate_limiter.abstracts.algorithm import ADMITTED, Decision, State, StateAlgorithm
from pyrate_limiter.abstracts.store import StateStore

from tidegate.pace.bucket import Bucket
from tidegate.pace.pacing import Pacing

Operation = Literal["admit", "change"]


@dataclass(frozen=True, slots=True)
class Order:
    """What the store passes on as the weight: an operation and a number of units for each bucket.

    `admit`: take them, all or none. `change`: add them to the levels, negative to give back; never refused.
    `yielding` are buckets that are not waited for; their levels rise to their sizes and no further.
    """

    operation: Operation
    buckets: tuple[Bucket, ...]
    units: Sequence[float]
    yielding: tuple[bool, ...]


_NO_RATE = [Rate(1, 1)]
"""What stores hand through; the buckets come with the order."""


class Levels(StateAlgorithm):
    """Levels that rise by what is taken and drain at their rates. Stateless, as every algorithm of pyrate-limiter.

    The moment is in seconds and so is the wait of a refusal, whatever pyrate-limiter's names say: its stores compute
    with neither.
    """

    def initial(self, rates: list[Rate]) -> State:  # noqa: ARG002 (as the base class has it)
        """Nothing was taken yet."""
        return ()

    def step(self, rates: list[Rate], state: State, now: Any, weight: Any) -> tuple[State, Decision]:  # noqa: ANN401
        """The state after the order, and whether it was admitted."""
        order: Order = weight
        buckets = order.buckets
        then, *before = state or (now, *(0.0 for _ in buckets))
        passed = now - then if now > then else 0.0  # a clock that stepped back neither drains nor fills
        levels = [bucket.level(level, passed) for bucket, level in zip(buckets, before, strict=True)]
        if order.operation == "admit":
            waits = map(Bucket.wait, buckets, levels, order.units)
            wait = max((w for w, yields in zip(waits, order.yielding, strict=True) if not yields), default=0.0)
            if wait > 0:
                return state, Decision(rates[0], wait)  # type: ignore[arg-type]
        changed = [max(0.0, level + units) for level, units in zip(levels, order.units, strict=True)]
        for index, yields in enumerate(order.yielding):
            if yields:
                changed[index] = min(changed[index], buckets[index].size)
        return (max(now, then), *changed), ADMITTED


class Quota(Pacing):
    """Buckets that several threads take from, in this process."""

    def __init__(self, buckets: Sequence[Bucket]) -> None:
        self.buckets = tuple(buckets)
        self.yielding = tuple(False for _ in self.buckets)
        self._store: StateStore = InMemoryStateStore()
        self._algorithm = Levels()

    def admit(
        self,
        now: float,
        units: Sequence[float],
        *,
        raw: Sequence[float] = (),  # noqa: ARG002 (as the base class has it)
        book: bool = False,  # noqa: ARG002
    ) -> float:
        """Take `units` of each bucket, all or none: 0, or the seconds to wait before asking again; `inf` for never."""
        decision = self._check("admit", now, units)
        if decision.allowed:
            return 0.0
        wait = decision.retry_after_ms
        return math.inf if wait is None else wait

    def change(self, now: float, units: Sequence[float]) -> None:
        """Add to the levels what was not foreseen, or with negative `units` give back what was not used."""
        self._check("change", now, units)

    def levels(self, now: float) -> tuple[float, ...]:
        """Units of each bucket that are in use."""
        state = self._store.read(self._algorithm, _NO_RATE)
        then, *levels = state or (now, *(0.0 for _ in self.buckets))  # type: ignore[misc]
        return tuple(b.level(level, max(0.0, now - then)) for b, level in zip(self.buckets, levels, strict=True))

    def _check(self, operation: Operation, now: float, units: Sequence[float]) -> Decision:
        order: Any = Order(operation, self.buckets, units, self.yielding)
        moment: Any = now
        return self._store.check(self._algorithm, _NO_RATE, moment, order)  # type: ignore[return-value]
