"""What pictures cost: the examples that providers publish, and sizes read from a file's first bytes."""

from __future__ import annotations

import struct
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.accounting.pictures import PictureCount, picture_count, size_of
from tidegate.chat.messages import Image


def _png(width: int, height: int, detail: Literal["auto", "low", "high"] | None = "high") -> Image:
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + b"\x08\x02" + bytes(200)
    return Image(Image.from_bytes(data, "image/png").url, detail)


@pytest.mark.parametrize(
    ("model", "size", "tokens"),
    [
        ("gpt-4o", (1024, 1024), 765),  # OpenAI's guide
        ("gpt-4o", (2048, 4096), 1105),  # OpenAI's guide
        ("gpt-4o", (128, 64), 255),
        ("gpt-4o-mini", (128, 64), 8_500),
        ("gpt-4.1", (1024, 1024), 765),
        ("gpt-5", (1024, 1024), 630),
        ("o1", (1024, 1024), 675),
        ("gpt-4.1-mini", (1024, 1024), 1_659),  # 1,024 patches in OpenAI's guide, and 1.62 for each
        ("gpt-4.1-mini", (1800, 2400), 2_352),  # 1,452 patches in OpenAI's guide
        ("gpt-4.1-nano", (32, 32), 2),
        ("o4-mini", (1800, 2400), 2_497),
    ],
)
def test_a_picture_costs_what_openai_says(model: str, size: tuple[int, int], tokens: int) -> None:
    assert picture_count(_png(*size), "openai", model) == PictureCount(tokens, tokens, exact=True)


@pytest.mark.parametrize(("model", "tokens"), [("gpt-4o", 85), ("gpt-4o-mini", 2_833), ("o3", 75), ("gpt-5", 70)])
def test_low_detail_costs_the_same_whatever_the_size(model: str, tokens: int) -> None:
    """Also where the size is not known."""
    address = Image("https://example.org/a.png", "low")
    for image in (_png(4096, 8192, "low"), address):
        assert picture_count(image, "openai", model) == PictureCount(tokens, tokens, exact=True)


def test_a_picture_of_unknown_size_is_a_guess_with_the_most_it_may_cost() -> None:
    image = Image("https://example.org/a.png", "high")
    assert picture_count(image, "openai", "gpt-4o") == PictureCount(765, 85 + 8 * 170, exact=False)


@pytest.mark.parametrize(("provider", "model"), [("anthropic", "claude-x"), ("gemini", "gemini-2"), ("x", "y")])
def test_other_models_pictures_are_guesses(provider: str, model: str) -> None:
    count = picture_count(_png(1000, 1000), provider, model)
    assert 0 < count.tokens <= count.highest
    assert not count.exact


@given(st.integers(1, 100_000), st.integers(1, 100_000))
def test_no_size_is_over_the_most_that_is_stated(width: int, height: int) -> None:
    """From a line of one pixel to a wall, for every way of counting."""
    for model, most in (("gpt-4o", 1_445), ("gpt-4.1-mini", 2_488), ("o4-mini", 2_642), ("claude-x", 1_600)):
        assert 1 <= picture_count(_png(width, height), "", model).tokens <= most


_SEGMENT = b"\xff\xe1" + struct.pack(">H", 60_002) + bytes(60_000)
_FRAME = b"\xff\xc2" + struct.pack(">HBHH", 17, 8, 480, 640) + bytes(40)


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"GIF89a" + struct.pack("<HH", 640, 480) + bytes(20), (640, 480)),
        (b"\xff\xd8" + _FRAME, (640, 480)),
        (b"\xff\xd8" + _SEGMENT + _FRAME, (640, 480)),
        (b"RIFF\0\0\0\0WEBPVP8X" + bytes(8) + (639).to_bytes(3, "little") + (479).to_bytes(3, "little"), (640, 480)),
        (b"RIFF\0\0\0\0WEBPVP8L" + bytes(4) + b"/" + (639 | 479 << 14).to_bytes(4, "little") + bytes(9), (640, 480)),
        (b"RIFF\0\0\0\0WEBPVP8 " + bytes(10) + struct.pack("<HH", 640, 480) + bytes(9), (640, 480)),
        (b"\xff\xd8" + b"\xff\xe1\0\0" * 100, None),
        (b"\x89PNG", None),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), None),
        (b"", None),
        (b"what is this?", None),
    ],
)
def test_a_size_is_read_from_the_first_bytes(data: bytes, size: tuple[int, int] | None) -> None:
    assert size_of(Image.from_bytes(data, "image/x").url) == size


@given(st.binary(max_size=200), st.sampled_from([b"\xff\xd8", b"RIFF", b"\x89PNG", b"GIF8", b""]))
def test_no_bytes_break_it(data: bytes, start: bytes) -> None:
    for url in (Image.from_bytes(start + data, "image/x").url, "data:image/png;base64," + data.decode("latin-1")):
        size = size_of(url)
        assert size is None or min(size) > 0
