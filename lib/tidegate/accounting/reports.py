"""What a ledger answers: sums and rows, as values."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal

from tidegate.accounting.money import dollars_of

NO_LABEL = "(none)"
"""The group of what has no task, or not the tag."""


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One attempt that may have been billed."""

    at: dt.datetime
    """When it began, in the ledger's time zone."""
    call_id: str
    attempt: int
    provider: str
    model: str
    """The model that was asked."""
    answered: str | None
    """The model that answered, by its own word."""
    task: str | None
    tags: Mapping[str, str]
    input_tokens: int
    """Cached ones included."""
    cached_tokens: int
    written_tokens: int
    output_tokens: int
    """Reasoning ones included."""
    reasoning_tokens: int
    cost: Decimal | None
    """US dollars; None when nobody knows the price."""
    price_source: str | None
    price_date: str | None
    duration: float
    """Seconds."""
    first_token: float | None
    """Seconds from the attempt's begin to the first content of a stream."""
    outcome: str
    """`ok`, or the name of the error."""
    estimated: bool
    """Whether the tokens were counted here, because the provider's own figures never came."""

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Attempts added up."""

    count: int = 0
    failed: int = 0
    """Those that ended in an error, and may have been billed all the same."""
    estimated: int = 0
    """Those whose tokens were counted here."""
    unpriced: int = 0
    """Those whose price nobody knows: their cost is in no sum."""
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nano: int = field(default=0, repr=False)
    duration_us: int = field(default=0, repr=False)

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens

    @property
    def total_cost(self) -> Decimal | None:
        """US dollars, exactly, of all whose price is known; None when that is none of them."""
        return None if self.count and self.count == self.unpriced else dollars_of(self.cost_nano)

    @property
    def mean_cost(self) -> Decimal | None:
        """US dollars an attempt, of those whose price is known; None when there are none."""
        priced = self.count - self.unpriced
        return dollars_of(self.cost_nano) / priced if priced else None

    @property
    def mean_duration(self) -> float | None:
        """Seconds an attempt; None when there are none."""
        return self.duration_us / self.count / 1_000_000 if self.count else None


def added_up(parts: Iterable[Figures]) -> Figures:
    """All of them together."""
    all_parts = tuple(parts)
    return Figures(**{each.name: sum(getattr(part, each.name) for part in all_parts) for each in fields(Figures)})


def without(whole: Figures, part: Figures) -> Figures:
    """What is left of the whole."""
    return Figures(**{each.name: getattr(whole, each.name) - getattr(part, each.name) for each in fields(Figures)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary(Figures):
    """The attempts of some days added up, and in groups."""

    days: int
    since: dt.datetime
    """The midnight with which the first of the days begins, in the ledger's time zone."""
    by: str | None = None
    groups: Mapping[str, Figures] = field(default_factory=dict)
    """By label: days in their order, all else with the dearest first. What has no label is under `(none)`."""

    @property
    def daily_mean(self) -> Decimal | None:
        """US dollars a day, over all of the days; None when no price is known."""
        return None if self.total_cost is None else self.total_cost / self.days

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def _lines(summary: Summary) -> Iterator[str]:
    mean = "unknown" if summary.daily_mean is None else f"${summary.daily_mean:.6f} a day"
    yield f"{_spoken('since ' + summary.since.date().isoformat(), summary)}, mean {mean}"
    for label, figures in summary.groups.items():
        yield f"  {_spoken(label, figures)}"


def _spoken(label: str, figures: Figures) -> str:
    cost = "price unknown" if figures.total_cost is None else f"${figures.total_cost:.6f}"
    unpriced = (
        f", {figures.unpriced} without a known price" if figures.unpriced and figures.total_cost is not None else ""
    )
    return f"{label}: {figures.count} requests, {figures.total_tokens} tokens, {cost}{unpriced}"
