"""What an answer may have beside its text: thoughts, citations, and how likely its tokens were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tidegate.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Thought:
    """A piece of a model's thinking, kept as its provider wants it back with the next turn.

    Providers sign what a model thought, or hide it, and some refuse a tool's result without it. It is sent back to the
    provider it came from and to nobody else: to any other it says nothing.
    """

    text: str = ""
    """Empty where the provider keeps it to itself."""
    signature: str | None = None
    """The provider's proof that the thought is its own. Opaque."""
    hidden: str | None = None
    """The thought itself, encrypted by the provider, where it is not shown."""
    id: str | None = None
    provider: str = ""
    """Whose it is: a provider's name, as before the slash of a model's name."""

    def __post_init__(self) -> None:
        for name in ("text", "provider"):
            if not isinstance(getattr(self, name), str):
                raise ConfigError(f"a thought's `{name}` is a text")


@dataclass(frozen=True, slots=True)
class Citation:
    """A part of an answer, and what it is taken from."""

    text: str = ""
    """The part of the answer, where the provider says which."""
    start: int | None = None
    """Where that part begins in the answer, as its provider counts (characters; bytes at Gemini). None: not said."""
    end: int | None = None
    source: str | None = None
    """What is cited: its address, else its id, else its title."""
    title: str | None = None
    quote: str = ""
    """The source's own words, where they are given."""
    raw: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """The provider's own JSON of it."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token of an answer and the natural logarithm of its probability."""

    token: str
    logprob: float
    alternatives: tuple[tuple[str, float], ...] = ()
    """Other tokens that were likely there, and their logarithms, the likeliest first."""
