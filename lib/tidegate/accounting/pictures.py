"""What a picture costs in tokens, by the rules that providers publish, as of 2026-11.

OpenAI: https://platform.openai.com/docs/guides/images-vision#calculating-costs. Anthropic: the page "Vision" of its
documentation. Google: the page "Understand and count tokens" of the Gemini API.
"""

from __future__ import annotations

import binascii
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tidegate.chat.messages import Image

Size = tuple[int, int]
"""Width and height in pixels."""


class PictureCount(NamedTuple):
    """Tokens of a picture."""

    tokens: int
    highest: int
    exact: bool


class _Rule(NamedTuple):
    cost: Callable[[Size], int]
    highest: int
    """Whatever the size."""
    low: int | None = None
    """With `detail="low"`, where that makes a difference."""
    published: bool = True
    """Whether it is said of the very model; else it is that of its nearest kin."""


_USUAL: Size = (1024, 1024)
"""What is assumed of a picture whose size is not known: of an address, and of a format that is not read here."""

_UNKNOWN = PictureCount(1_000, 3_000, exact=False)
"""For models about whose pictures nothing is known here."""


def picture_count(image: Image, provider: str, name: str) -> PictureCount:
    """What the model of that name, without a provider's prefix, takes for the picture."""
    rule = _rule(provider, name)
    if rule is None:
        return _UNKNOWN
    if image.detail == "low" and rule.low is not None:
        return PictureCount(rule.low, rule.low, exact=rule.published)
    size = size_of(image.url)
    tokens = rule.cost(size or _USUAL)
    if size is None or not rule.published:
        return PictureCount(tokens, max(tokens, rule.highest), exact=False)
    # With `detail="auto"` the model decides; a large picture is looked at closely.
    return PictureCount(tokens, tokens, exact=image.detail == "high" or rule.low is None)


# Squares of 512 pixels


def _tiled(base: int, tile: int, *, published: bool = True) -> _Rule:
    def cost(size: Size) -> int:
        width, height = _within(size, 2_048)
        shrink = min(1.0, 768 / min(width, height))
        return base + tile * _squares(width * shrink, height * shrink, 512)

    # No more than 8 squares: 2,048 by 768.
    return _Rule(cost, base + 8 * tile, low=base, published=published)


# Squares of 32 pixels, at most 1,536 of them

_PATCHES = 1_536


def _patched(factor: float) -> _Rule:
    def cost(size: Size) -> int:
        return round(factor * _patches(size))

    return _Rule(cost, round(factor * _PATCHES))


def _patches(size: Size) -> int:
    width, height = size
    if _squares(width, height, 32) <= _PATCHES:
        return _squares(width, height, 32)
    shrink = math.sqrt(_PATCHES * 32**2 / (width * height))
    across, down = width * shrink / 32, height * shrink / 32
    if min(across, down) < 1:  # a line: the rule would shrink it to nothing
        return _PATCHES
    shrink *= min(math.floor(across) / across, math.floor(down) / down)
    return min(_PATCHES, _squares(width * shrink, height * shrink, 32))


def _squares(width: float, height: float, side: int) -> int:
    """How many cover the picture; a billionth of a pixel more is the arithmetic's."""
    return math.ceil(width / side - 1e-9) * math.ceil(height / side - 1e-9)


def _within(size: Size, side: int) -> tuple[float, float]:
    shrink = min(1.0, side / max(size))
    return max(1.0, size[0] * shrink), max(1.0, size[1] * shrink)


# By the area, and squares of 768 pixels


def _by_area(size: Size) -> int:
    width, height = _within(size, 1_568)
    return min(1_600, math.ceil(width * height / 750))


def _of_gemini(size: Size) -> int:
    return 258 if max(size) <= 384 else 258 * _squares(*size, 768)


_RULES: tuple[tuple[str, _Rule], ...] = (
    ("gpt-4o-mini", _tiled(2_833, 5_667)),
    ("gpt-4.1-mini", _patched(1.62)),
    ("gpt-4.1-nano", _patched(2.46)),
    ("o4-mini", _patched(1.72)),
    ("gpt-5-mini", _patched(1.62)),
    ("gpt-5-nano", _patched(2.46)),
    ("gpt-5.", _tiled(70, 140, published=False)),
    ("gpt-5", _tiled(70, 140)),
    ("computer-use", _tiled(65, 129)),
    ("gpt-4o", _tiled(85, 170)),
    ("chatgpt-4o", _tiled(85, 170)),
    ("gpt-4", _tiled(85, 170)),
    ("o1", _tiled(75, 150)),
    ("o3", _tiled(75, 150)),
    ("claude", _Rule(_by_area, 1_600, published=False)),
    ("gemini", _Rule(_of_gemini, 258 * 16, published=False)),
)
"""By the beginning of the model's name; the first that fits."""


def _rule(provider: str, name: str) -> _Rule | None:
    found = next((rule for start, rule in _RULES if name.startswith(start)), None)
    if found is None and provider == "anthropic":
        return _Rule(_by_area, 1_600, published=False)
    return found


# The size, as the first bytes of a file say it

_SOME, _MANY = 96, 262_144
"""Characters of base64 that are decoded: of nearly every file the first few are enough. Behind large thumbnails a JPEG
says its size late."""


def size_of(url: str) -> Size | None:
    """The size of a picture in a data URL; None when it is an address, or not to be read."""
    if url[:5].lower() != "data:":
        return None
    start = url.find(",", 0, 128) + 1
    for length in (_SOME, _MANY):
        size = _read(_decoded(url[start : start + length]))
        if size is not None and min(size) > 0:
            return size
    return None


def _decoded(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text[: len(text) // 4 * 4])
    except (binascii.Error, ValueError):
        return b""


def _read(data: bytes) -> Size | None:
    if data.startswith(b"\x89PNG") and len(data) >= 24:
        return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    if data.startswith(b"GIF8") and len(data) >= 10:
        return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    if data.startswith(b"\xff\xd8"):
        return next(_jpeg_sizes(data), None)
    if data.startswith(b"RIFF") and len(data) >= 30:
        return _read_webp(data)
    return None


def _jpeg_sizes(data: bytes) -> Iterator[Size]:
    """The sizes in its frame headers: segments of a marker and a length each, up to the picture itself."""
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            height, width = int.from_bytes(data[place + 5 : place + 7]), int.from_bytes(data[place + 7 : place + 9])
            yield width, height
        place += 2 + max(2, int.from_bytes(data[place + 2 : place + 4]))


def _read_webp(data: bytes) -> Size | None:
    kind = data[12:16]
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    return None
