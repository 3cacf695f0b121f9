"""What was found in a text: values, and everything that was done to get them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from tidegate.parsing.schema import Schema

RepairLevel = Literal["none", "safe", "all"]
"""How much a caller lets be repaired: nothing; what can have been meant in one way only; everything."""


class Repair(NamedTuple):
    """One thing that was read as if it had been written otherwise.

    `kind` is a short name, such as `trailing comma`; `position` is a character's place in the text, from 0; `what` says
    more. `certain` is whether nothing else can have been meant, as far as anybody can tell: `repair="safe"` accepts no
    other.
    """

    kind: str
    position: int
    what: str = ""
    certain: bool = True

    def __str__(self) -> str:
        doubt = "" if self.certain else " (not certain)"
        return f"{self.kind} at {self.position}{self.what and f': {self.what}'}{doubt}"


@dataclass(slots=True)
class Found:
    """A value that a strategy found, and what it took.

    `start` and `end`: where in the text, in characters. `cost`: what the repairs weigh, less is likelier meant.
    `truncated`: the path of what breaks off, such as `$.steps[2]`, if something does. `dropped`: paths of what was
    there and is not in the value. `rivals`: other values that it can be read as, about as likely. `typed`: whether the
    format tells text from numbers; where it does not, values are text, and a schema says what they are. `rank`: how
    much its place says that it is the answer, more is surer; see `RANKS`. `doubts`: why `repair="safe"` must not take
    it, though nothing was repaired.
    """

    value: Any
    start: int = 0
    end: int = 0
    repairs: list[Repair] = field(default_factory=list)
    cost: float = 0.0
    truncated: str | None = None
    dropped: list[str] = field(default_factory=list)
    rivals: list[Any] = field(default_factory=list)
    typed: bool = True
    rank: int = 0
    doubts: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Reading(Found):
    """One way to read a document. `choices`: where another way was open, as position and number of ways.

    `problem`: why it cannot be read.
    """

    choices: list[tuple[int, int]] = field(default_factory=list)
    problem: str | None = None


RANKS = {"whole": 50, "call": 40, "tag": 35, "fence": 30, "prose": 20, "lines": 10}
"""What a place says: the text is nothing else; it is marked as a call; it is in a tag, a fence or prose; lines."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a strategy may want to know beside the text.

    `schema`: what the value has to be, or `None`. `repair`: how much may be repaired. `tags`: names of XML tags that
    the caller asked for. `problems`: what the strategies before it said, by name. `tried`: those that were asked the
    same before.
    """

    schema: Schema | None = None
    repair: RepairLevel = "safe"
    tags: tuple[str, ...] = ()
    problems: tuple[tuple[str, str], ...] = ()
    tried: tuple[str, ...] = ()


@runtime_checkable
class Parser(Protocol):
    """A strategy: finds values in a text. Write one of your own by having these two members."""

    @property
    def name(self) -> str:
        """What results and errors call it."""

    def find(self, text: str, asked: Asked) -> Iterable[Found]:
        """Every value that it sees, whether or not it fits the schema: choosing is not its task.

        Raise `ValueError` to say why there is none.
        """
