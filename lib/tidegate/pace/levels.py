"""How full a provider's buckets are: pyrate-limiter's stores with an algorithm that knows several units at once.

A call takes one request and so many tokens, together or not at all, and part of it may come back: neither is in
pyrate-limiter's own algorithms, whose weight is one number. Its stores pass the weight on untouched, so here the weight
is an `Order`: what to do, with a number for each bucket.

The state is the moment of the last change in seconds, and each bucket's level in units, which drains at the bucket's
rate. Unlike a theoretical arrival time, a level keeps its meaning when the rate changes, and needs no rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from pyrate_limiter import InMemoryStateStore, Rate
from pyrate_limiter.abstracts.algorithm import ADMITTED, Decision, State, StateAlgorithm
from pyrate_limiter.abstracts.store import StateStore

__all__ = ["Bucket", "InMemoryStateStore", "Levels", "Order", "StateStore"]

Operation = Literal["admit", "change"]

_ROUNDING = 1e-9
"""What a level may be above its bucket's size, as a share of it: rounding must not cost the last unit."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """`limit` units an `interval` of seconds, at most `size` of them at once."""

    limit: float
    interval: float
    size: float

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.limit / self.interval

    def level(self, before: float, passed: float) -> float:
        """The level `passed` seconds after it was `before`."""
        return max(0.0, before - passed * self.rate)

    def wait(self, level: float, units: float) -> float:
        """Seconds until `units` more fit above `level`; `inf` when they never do."""
        if units <= 0:
            return 0.0
        if units > self.size:
            return math.inf
        over = level + units - self.size
        return over / self.rate if over > self.size * _ROUNDING else 0.0


class Order(str):
    """What a store passes on as the weight: an operation and a number of units for each bucket.

    `admit`: take them, all or none. `change`: add them to the levels, negative to give back; never refused.
    As text, which is what a store outside this process gets: the operation, then rate, size and units of each bucket.
    """

    __slots__ = ("buckets", "operation", "units")
    operation: Operation
    buckets: tuple[Bucket, ...]
    units: tuple[float, ...]

    def __new__(cls, operation: Operation, buckets: tuple[Bucket, ...], units: Sequence[float]) -> Self:
        """Put the order together."""
        numbers = (n for bucket, u in zip(buckets, units, strict=True) for n in (bucket.rate, bucket.size, u))
        self = super().__new__(cls, " ".join((operation, *(format(number, ".17g") for number in numbers))))
        self.operation, self.buckets, self.units = operation, buckets, tuple(units)
        return self


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
            wait = max(map(Bucket.wait, buckets, levels, order.units))
            if wait > 0:
                return state, Decision(rates[0], wait)  # type: ignore[arg-type]
        changed = (max(0.0, level + units) for level, units in zip(levels, order.units, strict=True))
        return (max(now, then), *changed), ADMITTED

    def redis_script(self) -> str:
        """The same in Lua, with the server's own clock: it is the one that all members share."""
        return _LUA


_LUA = """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
local order = {}
for word in string.gmatch(ARGV[2], '%S+') do order[#order + 1] = word end
local n = (#order - 1) / 3
local stored = redis.call('GET', KEYS[1])
local state = {}
if stored then for word in string.gmatch(stored, '%S+') do state[#state + 1] = tonumber(word) end end
local thenceforth = state[1] or now
local passed = math.max(0, now - thenceforth)
local levels, wait = {}, 0
for i = 1, n do
  local rate, size, units = tonumber(order[3 * i - 1]), tonumber(order[3 * i]), tonumber(order[3 * i + 1])
  local level = math.max(0, (state[i + 1] or 0) - passed * rate)
  levels[i] = math.max(0, level + units)
  if order[1] == 'admit' and units > 0 then
    local over = level + units - size
    if units > size then return {0, -1} end
    if over > size * 1e-9 then wait = math.max(wait, over / rate) end
  end
end
if wait > 0 then return {0, math.ceil(wait * 1e6)} end
local text = string.format('%.6f', math.max(now, thenceforth))
for i = 1, n do text = text .. string.format(' %.17g', levels[i]) end
redis.call('SET', KEYS[1], text, 'PX', ARGV[3])
return {-1, 0}
"""


class Quota:
    """Buckets that several threads take from, in a store of pyrate-limiter's: of this process, or shared.

    `scale`: what the store's wait is divided by to give seconds.
    """

    def __init__(self, buckets: Sequence[Bucket], store: StateStore | None = None, *, scale: float = 1.0) -> None:
        self.buckets = tuple(buckets)
        self._store = store or InMemoryStateStore()
        self._scale = scale
        self._algorithm = Levels()

    def admit(self, now: float, units: Sequence[float]) -> float:
        """Take `units` of each bucket, all or none: 0, or the seconds to wait before asking again; `inf` for never."""
        decision = self._check("admit", now, units)
        if decision.allowed:
            return 0.0
        wait = decision.retry_after_ms
        return math.inf if wait is None else wait / self._scale

    def change(self, now: float, units: Sequence[float]) -> None:
        """Add to the levels what was not foreseen, or with negative `units` give back what was not used."""
        self._check("change", now, units)

    def finished(self, now: float, units: Sequence[float]) -> None:
        """The response has come. These buckets drain by themselves."""

    def levels(self, now: float) -> tuple[float, ...]:
        """Units of each bucket that are in use, as this process knows."""
        state = self._store.read(self._algorithm, _NO_RATE)
        then, *levels = state or (now, *(0.0 for _ in self.buckets))  # type: ignore[misc]
        return tuple(b.level(level, max(0.0, now - then)) for b, level in zip(self.buckets, levels, strict=True))

    def _check(self, operation: Operation, now: float, units: Sequence[float]) -> Decision:
        order: Any = Order(operation, self.buckets, units)
        moment: Any = now
        return self._store.check(self._algorithm, _NO_RATE, moment, order)  # type: ignore[return-value]
