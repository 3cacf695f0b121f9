"""The figures of the last calls, for `client.metrics()`."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from tidegate.pipeline.events import BudgetAlert, CallEnded, Event

WINDOW = 1000
"""How many calls are remembered."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """Figures over the last calls (at most `WINDOW`). Durations are in seconds; without a call they are 0."""

    calls: int = 0
    failures: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)
    """Failures by the name of their error class."""
    attempts: int = 0
    """Requests sent for these calls, retries included."""
    mean: float = 0.0
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    first_token_p50: float | None = None
    """Time to first token, over the streamed calls; None without one."""
    first_token_p95: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cost: Decimal = Decimal(0)
    """US dollars, over the calls whose price is known."""
    unpriced: int = 0
    """Answered calls whose price is unknown: their cost is missing from `cost`."""
    budget_alerts: int = 0
    """Alerts of budgets, since the client was made."""

    @property
    def failure_rate(self) -> float:
        """Share of the calls that failed, from 0 to 1."""
        return self.failures / self.calls if self.calls else 0.0


class _Row(NamedTuple):
    seconds: float
    first_token: float | None
    error: str | None
    attempts: int
    input_tokens: int
    output_tokens: int
    cost: Decimal | None
    answered: bool


class MetricsWindow:
    """The listener that remembers. Appending to a bounded deque is atomic: no lock, no wait."""

    def __init__(self) -> None:
        self._rows: collections.deque[_Row] = collections.deque(maxlen=WINDOW)
        self._alerts = 0

    def __call__(self, event: Event) -> None:
        """Remember how a call ended."""
        if isinstance(event, BudgetAlert):
            self._alerts += 1
        if not isinstance(event, CallEnded):
            return
        trace, completion, error = event.call.trace, event.completion, event.error
        usage = completion.usage if completion is not None else None
        self._rows.append(
            _Row(
                trace.duration,
                trace.time_to_first_token,
                None if error is None else type(error).__name__,
                len(trace.attempts),
                usage.input_tokens if usage is not None else 0,
                usage.output_tokens if usage is not None else 0,
                completion.cost if completion is not None else None,
                completion is not None,
            )
        )

    def metrics(self) -> Metrics:
        """The figures now."""
        rows = list(self._rows)
        durations = sorted(row.seconds for row in rows)
        first_tokens = sorted(row.first_token for row in rows if row.first_token is not None)
        errors = collections.Counter(row.error for row in rows if row.error is not None)
        return Metrics(
            calls=len(rows),
            budget_alerts=self._alerts,
            failures=errors.total(),
            errors=dict(errors),
            attempts=sum(row.attempts for row in rows),
            mean=sum(durations) / len(durations) if durations else 0.0,
            p50=percentile(durations, 0.50) or 0.0,
            p95=percentile(durations, 0.95) or 0.0,
            p99=percentile(durations, 0.99) or 0.0,
            first_token_p50=percentile(first_tokens, 0.50),
            first_token_p95=percentile(first_tokens, 0.95),
            input_tokens=sum(row.input_tokens for row in rows),
            output_tokens=sum(row.output_tokens for row in rows),
            cost=sum((row.cost for row in rows if row.cost is not None), Decimal(0)),
            unpriced=sum(row.answered and row.cost is None for row in rows),
        )


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The value below which `share` of the sorted values lie, between neighbours in proportion; None without values."""
    if not ordered:
        return None
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
