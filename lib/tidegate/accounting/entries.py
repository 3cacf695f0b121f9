"""What the ledger keeps: one entry for each attempt that may have been billed."""

from __future__ import annotations

import datetime as dt
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from tidegate.errors import ConfigError
from tidegate.jsontext import decode, encode

LONGEST_TEXT = 500
"""Characters of a label or a name that are kept."""

MOST = 10**15
"""Of any count, and of nano-dollars: a million dollars for one attempt. Thousands of these add up within 64 bits."""

_LATEST = 10**17
"""Microseconds since 1970, in the year 5138. Later ones are no dates in some time zone."""

_BOUNDS = {"attempt": 2**31 - 1, "at": _LATEST}

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_COUNTS = ("attempt", "at", "input_tokens", "cached_tokens", "written_tokens", "output_tokens", "reasoning_tokens",
           "duration_us")  # fmt: skip
_TEXTS = ("call_id", "run", "provider", "model", "answered", "task", "price_source", "price_date", "outcome")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One attempt, as it is kept. Raises `ConfigError` for a count that is negative, no whole number or above 10¹⁵.

    Text is cut to 500 characters, and what no database takes (a NUL, half a surrogate pair) is replaced: an entry that
    could never be written would hold up all others.
    """

    call_id: str
    attempt: int = 1
    """Which of the call's requests it was, over retries, routes and hedges."""
    run: str | None = None
    """The client that asked."""
    at: int
    """When it began, in microseconds since 1970, UTC."""
    provider: str
    model: str
    """The model that was asked."""
    answered: str | None = None
    """The model that answered, by its own word."""
    task: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    input_tokens: int = 0
    """Of the question, the cached ones included."""
    cached_tokens: int = 0
    written_tokens: int = 0
    output_tokens: int = 0
    """Of the answer, the reasoning ones included."""
    reasoning_tokens: int = 0
    cost_nano: int | None = None
    """Whole nano-dollars. None: nobody knows the price."""
    price_source: str | None = None
    price_date: str | None = None
    duration_us: int = 0
    first_token_us: int | None = None
    outcome: str = "ok"
    """`ok`, or the name of the error."""
    estimated: bool = False
    """Whether tokens were counted here, because the provider's own figures never came."""
    reservation: str | None = None
    """What had been reserved of budgets for it, and ends with it."""

    def __post_init__(self) -> None:
        for name in _COUNTS:
            _check_count(name, getattr(self, name))
        for name in ("cost_nano", "first_token_us"):
            if getattr(self, name) is not None:
                _check_count(name, getattr(self, name))
        for name in _TEXTS:
            text = getattr(self, name)
            if text is None:
                continue
            if not isinstance(text, str):
                raise ConfigError(f"`{name}` is a text, not {text!r}")
            if not _plain(text):
                object.__setattr__(self, name, storable(text))
        if not isinstance(self.tags, Mapping):
            raise ConfigError(f"`tags` are names and values, not {self.tags!r}")
        if self.tags:
            tags = {storable(str(name)): storable(str(value)) for name, value in self.tags.items()}
            object.__setattr__(self, "tags", dict(sorted(tags.items())))

    @property
    def tags_text(self) -> str:
        """The tags as canonical JSON; an empty text for none."""
        return encode(dict(self.tags)).decode() if self.tags else ""

    def line(self) -> bytes:
        """As a line of a journal: a checksum, and JSON."""
        values = {
            name: value for name in _NAMES if (value := getattr(self, name)) is not None and value != _UNSAID[name]
        }
        text = encode(values)
        return b"%08x %s\n" % (zlib.crc32(text), text)

    @classmethod
    def from_line(cls, line: bytes) -> Entry:
        """The entry of a journal's line. Raises `ValueError` for one that is torn or not ours."""
        checksum, _, text = line.rstrip(b"\n").partition(b" ")
        if not line.endswith(b"\n") or b"%08x" % zlib.crc32(text) != checksum:
            raise ValueError("a line of the journal is torn")
        values: dict[str, Any] = decode(text)
        return cls(**{name: value for name, value in values.items() if name in _UNSAID})


_NAMES = tuple(each.name for each in fields(Entry))
_UNSAID: dict[str, Any] = {each.name: each.default for each in fields(Entry)} | {"tags": {}}
"""What a line leaves out."""


def storable(text: str) -> str:
    """The text as every database takes it: bounded, without NULs and halves of surrogate pairs."""
    return text[:LONGEST_TEXT].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _plain(text: str) -> bool:
    return len(text) <= LONGEST_TEXT and text.isascii() and "\0" not in text


def _check_count(name: str, value: object) -> None:
    most = _BOUNDS.get(name, MOST)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise ConfigError(f"`{name}` is a whole number from 0 to {most}, not {value!r}")


def microseconds(moment: dt.datetime) -> int:
    """Microseconds since 1970, exactly. Raises `ConfigError` for what is no moment, or has no time zone."""
    if not isinstance(moment, dt.datetime) or moment.utcoffset() is None:
        raise ConfigError("a moment needs a time zone, such as `datetime.now(tz=UTC)`")
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def moment_of(us: int) -> dt.datetime:
    """The moment in UTC."""
    return _EPOCH + dt.timedelta(microseconds=us)
