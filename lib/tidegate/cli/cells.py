"""How much of a terminal's line a text takes. wcwidth, here alone."""

from __future__ import annotations

import wcwidth


def cells(text: str) -> int:
    """How many cells of a line `text` takes: wide characters two, combining marks none."""
    return wcwidth.width(text)


def fitted(text: str, room: int) -> str:
    """As much of `text` as fits `room` cells, with a mark where it is cut."""
    return text if cells(text) <= room else f"{wcwidth.clip(text, 0, room - 1, fillchar='')}…"


def clusters(text: str) -> list[str]:
    """`text` in pieces that a reader takes for one character: what combines stays with what it combines with."""
    return list(wcwidth.iter_graphemes(text))
