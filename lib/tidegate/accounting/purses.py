"""Purses: what is spent and reserved of some part of the calls in some span of time.

A budget of 5 dollars a day has a purse for each day; a budget a day for each tenant has one for each tenant and day.
Whoever keeps to a budget looks at the same purse as everybody else who uses the ledger.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

from tidegate.accounting.entries import Entry, storable

_LONGEST = 200
"""Bytes of a label that stand in a purse's name as they are."""

Kind = Literal["all", "task", "tag", "run", "call"]


@dataclass(frozen=True)
class Purse:
    """Of the calls that belong to `kind` and `value`, those that begin from `since_us` on and before `until_us`."""

    since_us: int
    until_us: int
    kind: Kind = "all"
    value: str = ""
    tag: str = ""
    """The tag's name, where `kind` is `tag`."""

    @cached_property
    def owner(self) -> str:
        """Whose calls they are, as a text."""
        return owner(self.kind, self.value, self.tag)

    @cached_property
    def scope(self) -> str:
        """The purse's name in the ledger."""
        return f"{self.since_us}-{self.until_us} {self.owner}"


@lru_cache(1_000)  # asked several times for each entry, nearly always for the same labels
def owner(kind: Kind, value: str = "", tag: str = "") -> str:
    """The name for calls that belong to `kind` and `value`; long or ambiguous labels are named by a digest."""
    tag, value = storable(tag), storable(value)
    text = f"{tag}={value}" if kind == "tag" else value
    if len(text.encode()) > _LONGEST or "=" in tag:
        text = "#" + hashlib.sha256(f"{len(tag)} {text}".encode()).hexdigest()
    return f"{kind}:{text}"


def owners_of(entry: Entry) -> Iterator[str]:
    """Everybody whom an entry belongs to."""
    yield owner("all")
    yield owner("call", entry.call_id)
    if entry.task is not None:
        yield owner("task", entry.task)
    if entry.run is not None:
        yield owner("run", entry.run)
    for name, value in entry.tags.items():
        yield owner("tag", value, name)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a call asks of one purse: to stay within `limit_nano`, or (not `hard`) only to be counted."""

    purse: Purse
    limit_nano: int
    hard: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a request for money."""

    outcome: Literal["granted", "wait", "refused"]
    """`wait`: only what others have reserved stands in the way."""
    claim: Claim | None = None
    """The claim that stands in the way."""
    spent_nano: int = 0
    reserved_nano: int = 0
