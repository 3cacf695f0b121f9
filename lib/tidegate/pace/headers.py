"""What a provider's response headers say about its limits, in every format that is known.

Sources: the providers' pages on rate limits, and what users report of them. OpenAI and hosts like it:
`x-ratelimit-{limit,remaining,reset}-{requests,tokens}` with the reset as a Go duration (`6m0s`) to a full bucket.
Anthropic: `anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}`, the reset in RFC
3339. Azure: a misspelt `x-rate-limit-reset-tokens` in seconds, and -1 or 0 for what it does not know. Mistral:
`x-ratelimit-{limit,remaining}-{req-minute,tokens-minute}`. OpenRouter: bare `x-ratelimit-{limit,remaining,reset}`, the
reset in milliseconds since 1970. Whatever cannot be read is taken for absent.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Unit = Literal["requests", "tokens", "input_tokens", "output_tokens"]
UNITS: tuple[Unit, ...] = ("requests", "tokens", "input_tokens", "output_tokens")

LARGEST = 1e15
"""A limit above this is taken for a mistake."""

_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What one response says of one unit. None is not said."""

    limit: float | None = None
    remaining: float | None = None
    reset: float | None = None
    """Seconds until the bucket is full, or the window is over."""
    interval: float | None = None
    """Seconds that the limit is for, where the header's name says so."""


_NAMES: dict[Unit, tuple[tuple[str, str, str, float | None], ...]] = {
    "requests": (
        ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", None),
        ("anthropic-ratelimit-requests-limit", "anthropic-ratelimit-requests-remaining",
         "anthropic-ratelimit-requests-reset", _MINUTE),
        ("x-ratelimit-limit-req-minute", "x-ratelimit-remaining-req-minute", "", _MINUTE),
        ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", None),
    ),
    "tokens": (
        ("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens", None),
        ("anthropic-ratelimit-tokens-limit", "anthropic-ratelimit-tokens-remaining",
         "anthropic-ratelimit-tokens-reset", _MINUTE),
        ("x-ratelimit-limit-tokens-minute", "x-ratelimit-remaining-tokens-minute", "", _MINUTE),
    ),
    "input_tokens": (
        ("anthropic-ratelimit-input-tokens-limit", "anthropic-ratelimit-input-tokens-remaining",
         "anthropic-ratelimit-input-tokens-reset", _MINUTE),
    ),
    "output_tokens": (
        ("anthropic-ratelimit-output-tokens-limit", "anthropic-ratelimit-output-tokens-remaining",
         "anthropic-ratelimit-output-tokens-reset", _MINUTE),
    ),
}  # fmt: skip
"""For each unit the names of its limit, what remains of it and its reset, and the seconds that they are for."""

_MISSPELT = {"x-ratelimit-reset-tokens": "x-rate-limit-reset-tokens"}


def read_limits(headers: Mapping[str, str], now: float, *, resets: bool = True) -> dict[Unit, Reading]:
    """What the headers say, by unit; nothing where they say nothing. `now` is seconds since 1970.

    `resets`: whether the resets are wanted, whose many forms take the most time.
    """
    found: dict[Unit, Reading] = {}
    for unit, forms in _NAMES.items():
        for form in forms:
            reading = _read(headers, form, now if resets else None)
            if reading is not None:
                found[unit] = reading
                break
    return found


def _read(headers: Mapping[str, str], form: tuple[str, str, str, float | None], now: float | None) -> Reading | None:
    limit_name, remaining_name, reset_name, interval = form
    limit, remaining = _count(headers.get(limit_name)), _count(headers.get(remaining_name))
    if limit is not None and limit <= 0:  # Azure's way to say that it does not know; the rest means nothing then
        limit = remaining = None
    if limit is None and remaining is None:
        return None
    if limit is not None and remaining is not None:
        remaining = min(remaining, limit)
    if now is None:
        return Reading(limit, remaining, None, interval)
    text = headers.get(reset_name) or headers.get(_MISSPELT.get(reset_name, ""))
    return Reading(limit, remaining, seconds_until(text, now), interval)


_COUNT = re.compile(r"[0-9]{1,16}(\.[0-9]{1,6})?", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?", re.ASCII)


def _count(text: str | None) -> float | None:
    """A number of units from 0 up; anything else is unknown."""
    if text is None or not (text.isdecimal() or _COUNT.fullmatch(text.strip())) or not text.isascii():
        return None
    value = float(text.strip())  # which strips more than `float` does
    return value if value <= LARGEST else None


_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{0,9})?)(ms|us|µs|ns|h|m|s|d)", re.ASCII)
_SECONDS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_EPOCH_SECONDS, _EPOCH_MILLISECONDS = 1e9, 1e12
"""From here up a bare number is a moment (2001 and later), no duration."""
LONGEST = 31 * 86_400.0
"""Seconds; a reset further away is taken for a mistake."""


def seconds_until(text: str | None, now: float) -> float | None:
    """The seconds that a reset header means: a duration, a number, or a moment. None when it means nothing."""
    text = (text or "").strip()
    if not text or len(text) > 64:
        return None
    seconds = _number(text, now)
    if seconds is None:
        seconds = _duration(text)
    if seconds is None:
        seconds = _moment(text, now)
    if seconds is None or not math.isfinite(seconds) or seconds > LONGEST:
        return None
    return max(0.0, seconds)


def _number(text: str, now: float) -> float | None:
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    if value >= _EPOCH_MILLISECONDS:
        return value / 1e3 - now
    return value - now if value >= _EPOCH_SECONDS else value


def _duration(text: str) -> float | None:
    parts = list(_PART.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        return None
    return sum(float(part[1]) * _SECONDS[part[2]] for part in parts)


def _moment(text: str, now: float) -> float | None:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return moment.timestamp() - now
