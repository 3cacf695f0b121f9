"""What `parse` returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from tidegate.errors import ParseError
from tidegate.parsing.found import Repair

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ParseResult(Generic[T]):
    """A value that was found in a text, or why there is none.

    `data`: the dict, list or scalar, or the validated instance; `None` without success. `strategy`: the name of the one
    that found it. `repairs`: what was read otherwise than it was written, in the order of the text. `truncated`: the
    path of what breaks off, such as `$.steps[2]`; `None` if the value is whole. `dropped`: paths of what was in the
    text and is not in the data. `error`: what every strategy said; `None` with success.
    """

    success: bool
    data: T | None = None
    strategy: str | None = None
    repairs: tuple[Repair, ...] = ()
    truncated: str | None = None
    dropped: tuple[str, ...] = ()
    error: str | None = None
    text: str = ""
    """What was parsed."""

    def unwrap(self) -> T:
        """The data. Raises `ParseError` if there is none."""
        if not self.success:
            raise ParseError(self.error or "no value was found", texts=(self.text,))
        return self.data  # type: ignore[return-value]  # with success it is a T, which may be None

    def __bool__(self) -> bool:
        return self.success

    def __repr__(self) -> str:
        if not self.success:
            return f"ParseResult(refused: {self.error})"
        notes = [f"data={_short(self.data)}", f"strategy={self.strategy!r}"]
        notes += [
            f"{name}={len(value)}" for name, value in (("repairs", self.repairs), ("dropped", self.dropped)) if value
        ]
        notes += [f"truncated={self.truncated!r}"] * (self.truncated is not None)
        return f"ParseResult({', '.join(notes)})"


def _short(data: Any) -> str:
    text = repr(data)
    return text if len(text) <= 100 else f"{text[:97]}..."
