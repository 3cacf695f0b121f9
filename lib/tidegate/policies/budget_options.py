"""What a budget is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

from tidegate.accounting.money import nano_of, spoken
from tidegate.accounting.periods import ALWAYS, Calendar, Period, Span
from tidegate.accounting.purses import Kind, Purse
from tidegate.errors import CallError, ConfigError, nearest
from tidegate.options import Dollars, Fraction, Options
from tidegate.pipeline.events import BudgetAlert

PERIODS = ("hour", "day", "month", "task", "run")
_TAG = re.compile(r"tag:.+", re.DOTALL)

OnReach = Literal["raise", "warn"] | Callable[[CallError], bool]


class Budget(Options):
    """So many US dollars for each hour, day or month, each task, each run of a client, or each value of a tag.

    It counts all that its ledger has, from whichever program, thread or process.
    """

    usd: Dollars
    """US dollars."""
    per: str
    """`hour`, `day`, `month`: as the clock counts them, in the client's time zone. `task`: for each `task=` of a call,
    for ever; a call without one is a task of its own. `run`: for the life of the client. `tag:<name>`: for each value
    of a tag, for ever."""
    each: str | None = None
    """`task` or `tag:<name>`: in every period, each of these has the whole amount for itself."""
    name: str | None = None
    """How it is called in errors and alerts; by default it is described."""
    on_reach: OnReach = "raise"
    """What becomes of a call that may cost more than is left. `raise`: it is refused with `BudgetExceeded`. `warn`: it
    goes, and a `BudgetWarning` says so once a period. A function: it is given the error, and the call goes if it
    returns True."""
    alert_at: tuple[Fraction, ...] = (0.5, 0.8, 1.0)
    """Shares of the budget of which an alert tells when they are spent, each once a period."""
    on_alert: Callable[[BudgetAlert], object] | None = None
    """Called with each alert, in a thread of its own."""

    def __init__(self, **fields: Any) -> None:
        on_reach = fields.get("on_reach", "raise")
        if on_reach not in ("raise", "warn") and not callable(on_reach):
            raise ConfigError(f"`Budget(on_reach=…)` is `raise`, `warn` or a function, not {on_reach!r}")
        super().__init__(**fields)
        if self.per not in PERIODS and not _TAG.fullmatch(self.per):
            known = ", ".join(PERIODS)
            raise ConfigError(
                f"`Budget(per=…)` is {known} or `tag:<name>`, not {self.per!r}{nearest(self.per, PERIODS)}"
            )
        if self.each is not None and self.each != "task" and not _TAG.fullmatch(self.each):
            raise ConfigError(f"`Budget(each=…)` is `task` or `tag:<name>`, not {self.each!r}")
        if self.each is not None and self.per not in ("hour", "day", "month"):
            raise ConfigError(f"`Budget(each=…)` divides an hour, a day or a month, not `per={self.per!r}`")

    @property
    def limit_nano(self) -> int:
        """The whole of it, in nano-dollars."""
        return nano_of(self.usd)

    @property
    def thousandths(self) -> tuple[int, ...]:
        """When to alert, in thousandths of the budget. One that only warns does so when it is used up, at any rate."""
        shares = {round(1000 * share) for share in self.alert_at if share > 0}
        return tuple(sorted(shares | {1000} if self.on_reach == "warn" else shares))

    def purse(
        self, calendar: Calendar, at_us: int, *, call_id: str, run: str, task: str | None, tags: Mapping[str, str]
    ) -> Purse:
        """The purse that a call counts against which begins at this moment."""
        span = calendar.span(cast("Period", self.per), at_us) if self.per in ("hour", "day", "month") else ALWAYS
        if self.per == "run":
            return Purse(*span, "run", run)
        divided = self.each if self.each is not None else self.per
        if divided == "task":
            return _one_of(span, "task", task, call_id)
        if divided.startswith("tag:"):
            name = divided.removeprefix("tag:")
            return _one_of(span, "tag", tags.get(name), call_id, name)
        return Purse(*span)

    def spoken(self, purse: Purse | None = None) -> str:
        """In words, such as `$5.00 a day` or `$0.10 a day for each tag:tenant (acme)`."""
        text = f"“{self.name}” " if self.name else ""
        text += f"{spoken(self.usd)} {'a' if self.per in PERIODS else 'for each'} {self.per}"
        if self.each is not None:
            text += f" for each {self.each}"
        return f"{text} ({purse.value})" if purse is not None and purse.kind in ("task", "tag") else text

    def __str__(self) -> str:
        return self.spoken()


def _one_of(span: Span, kind: Kind, value: str | None, call_id: str, tag: str = "") -> Purse:
    """A label's purse; what has none is on its own, so that forgetting a label lifts no limit."""
    return Purse(*span, "call", call_id) if value is None else Purse(*span, kind, str(value), tag)
