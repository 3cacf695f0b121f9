"""What was tried for a call. Errors and answers both carry it, so it lies below both."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request that left for a provider, or tried to."""

    number: int
    """1 for the first of a call."""
    provider: str
    model: str
    duration: float
    """Seconds until its answer was whole or it failed."""
    outcome: str
    """`ok`, or the name of the error class."""
    status: int | None = None
    """HTTP status of a refusal."""
    retry_after: float | None = None
    """Seconds that the provider asked to wait."""
    request_id: str | None = None
    """The provider's id of the request."""
