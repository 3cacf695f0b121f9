"""Vectors in a provider's answer."""

from __future__ import annotations

import array
import base64
import binascii
import sys
from typing import Any

from tidegate.chat.embedding import Vector


def vectors_in(rows: Any, texts: int) -> tuple[Vector, ...] | str:  # noqa: ANN401 (any JSON value)
    """A vector for each of so many texts, all of one length; or what is wrong with them."""
    if not isinstance(rows, list) or len(rows) != texts:
        return f"it has {len(rows) if isinstance(rows, list) else 'no'} vectors for {texts} texts"
    found = []
    for row in rows:
        vector = _from_base64(row) if isinstance(row, str) else row
        if not isinstance(vector, list) or not vector or not all(type(each) in (float, int) for each in vector):
            return "one of its vectors is no list of numbers"
        found.append(tuple(map(float, vector)))
    return tuple(found) if len({len(vector) for vector in found}) == 1 else "its vectors have several lengths"


def _from_base64(text: str) -> list[float] | None:
    """32-bit floats, little-endian, as OpenAI packs them."""
    try:
        packed = array.array("f", base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        return None
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tolist()
