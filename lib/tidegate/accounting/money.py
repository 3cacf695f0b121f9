"""Money: whole nano-dollars (10⁻⁹ US dollars) where it is stored or added up, `Decimal` where a program sees it.

So sums are exact, whatever their order.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

from tidegate.errors import ConfigError

NANO = 10**9
"""Nano-dollars of a US dollar."""

LARGEST = 2**63 - 1
"""What a database's integer holds."""

_ONE = Decimal(1).scaleb(-9)
_MOST = Decimal(LARGEST).scaleb(-9)


def nano_of(cost: Decimal) -> int:
    """Whole nano-dollars of `cost` US dollars, halves to even. Raises `ConfigError` for less than nothing, and NaN."""
    if not isinstance(cost, Decimal) or not cost.is_finite() or cost < 0:
        raise ConfigError("a cost is a Decimal of US dollars, zero or more")
    if cost > _MOST:
        raise ConfigError("a cost is less than nine thousand million US dollars")
    return int(cost.quantize(_ONE, ROUND_HALF_EVEN).scaleb(9))  # rounded once, however many digits it has


def dollars_of(nano: int) -> Decimal:
    """US dollars of so many nano-dollars, exactly."""
    return Decimal(nano).scaleb(-9)


def dollar_text(dollars: Decimal) -> str:
    """For people: two decimals, and below ten cents as many as show two figures, such as `$0.00012`."""
    if not dollars:
        return "$0"
    return f"${dollars:,.{max(2, 1 - dollars.adjusted())}f}"


def spoken(dollars: Decimal) -> str:
    """As one writes it: `$5.00`, `$0.10`, `$0.000325`: cents at least, and no zeros after them."""
    whole, _, cents = f"{dollars.normalize():f}".partition(".")
    return f"${whole}.{cents:0<2}"
