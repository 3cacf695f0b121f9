"""Texts to be embedded, as a request, and the vectors that come of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Self, get_args
from typing import Literal as _Literal

from tidegate.chat.messages import Message
from tidegate.chat.request import ChatRequest, checked_options
from tidegate.errors import ConfigError, nearest

if TYPE_CHECKING:
    from tidegate.attempts import Attempt
    from tidegate.chat.usage import Usage

Purpose = _Literal["document", "query", "classification", "clustering", "similarity"]
PURPOSES: tuple[str, ...] = get_args(Purpose)

Vector = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class EmbedRequest(ChatRequest):
    """Some texts of which a vector each is asked for. `messages` are the same texts, for whoever counts tokens."""

    replaceable: ClassVar[bool] = False

    texts: tuple[str, ...] = ()
    dimensions: int | None = None
    purpose: Purpose | None = None

    @classmethod
    def of(
        cls,
        texts: tuple[str, ...],
        *,
        dimensions: int | None = None,
        purpose: Purpose | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Self:
        """A request for texts that `checked_texts` has seen. Raises `ConfigError` for the rest."""
        if dimensions is not None and (
            isinstance(dimensions, bool) or not isinstance(dimensions, int) or dimensions < 1
        ):
            raise ConfigError(f"`dimensions` is a whole number of at least 1, not {dimensions!r}")
        if purpose is not None and purpose not in PURPOSES:
            shown = str(purpose)[:40]
            raise ConfigError(f"`purpose` is one of {', '.join(PURPOSES)}, not `{shown}`{nearest(shown, PURPOSES)}")
        return cls(
            messages=tuple(Message("user", text) for text in texts),
            max_tokens=0,  # nothing is written
            options=checked_options(options),
            texts=texts,
            dimensions=dimensions,
            purpose=purpose,
        )


@dataclass(frozen=True, slots=True)
class CountRequest(ChatRequest):
    """A conversation of which the provider is asked how many tokens it is."""

    replaceable: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Embeddings:
    """A vector for each text, in their order. As a sequence it is its vectors."""

    vectors: tuple[Vector, ...]
    provider: str
    model: str
    usage: Usage | None = None
    """Of all requests together; None when the provider gave no figures for one of them."""
    cost: Decimal | None = None
    """US dollars; None when the price is unknown, never 0 for that."""
    attempts: tuple[Attempt, ...] = ()
    """What was tried, request by request."""

    def __len__(self) -> int:
        return len(self.vectors)

    def __iter__(self) -> Iterator[Vector]:
        return iter(self.vectors)

    def __getitem__(self, index: int) -> Vector:
        return self.vectors[index]

    @property
    def dimensions(self) -> int:
        """Numbers in each vector."""
        return len(self.vectors[0])


def checked_texts(texts: str | Iterable[str]) -> tuple[str, ...]:
    """The texts. Raises `ConfigError` for none, for what is no text, and for an empty one."""
    found = (texts,) if isinstance(texts, str) else tuple(texts) if isinstance(texts, Iterable) else None
    if found is None or isinstance(texts, bytes | Mapping):
        raise ConfigError(f"`embed` takes a list of texts, not `{type(texts).__name__}`")
    if not found:
        raise ConfigError("`embed` was given no text: nothing to send")
    for index, text in enumerate(found):
        if not isinstance(text, str):
            raise ConfigError(f"`embed` takes texts: number {index} is `{type(text).__name__}`")
        if not text.strip():
            raise ConfigError(f"`embed` was given an empty text (number {index}, counted from 0)")
    return found
