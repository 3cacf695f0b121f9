"""Bars in a terminal."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

FULL = "━"


def bar(part: Decimal | int, whole: Decimal | int, width: int) -> str:
    """A bar of `width` cells for the whole; something of it for every part above nothing."""
    if part <= 0 or whole <= 0 or width < 1:
        return ""
    return FULL * min(width, max(1, round(width * Fraction(part) / Fraction(whole))))
