"""Nano-dollars."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.accounting.money import LARGEST, dollar_text, dollars_of, nano_of
from tidegate.errors import ConfigError


@given(st.integers(0, LARGEST))
def test_L5_nano_dollars_come_back_whole(nano: int) -> None:
    assert nano_of(dollars_of(nano)) == nano


@given(st.decimals(0, 9_000_000_000, allow_nan=False, allow_infinity=False))
def test_L5_a_cost_is_rounded_once_and_halves_go_to_even(cost: Decimal) -> None:
    assert nano_of(cost) == round(Fraction(cost) * 10**9)


def test_L5_a_cost_of_more_digits_than_a_calculation_keeps_is_rounded_once() -> None:
    assert nano_of(Decimal("123456789.1234567885000000000000000001")) == 123456789_123456789
    assert nano_of(Decimal("123456789.1234567885")) == 123456789_123456788


@pytest.mark.parametrize("wrong", ["NaN", "sNaN", "Infinity", "-0.000000001", "1E+999999", "9223372036.854775808"])
def test_L5_what_is_no_amount_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigError, match="a cost is"):
        nano_of(Decimal(wrong))


def test_L5_a_float_is_no_amount() -> None:
    with pytest.raises(ConfigError, match="Decimal"):
        nano_of(0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("dollars", "shown"),
    [
        ("0", "$0"),
        ("1234.5", "$1,234.50"),
        ("0.1", "$0.10"),
        ("0.000123", "$0.00012"),
        ("0.000000001", "$0.0000000010"),
    ],
)
def test_people_see_two_figures_of_what_is_small(dollars: str, shown: str) -> None:
    assert dollar_text(Decimal(dollars)) == shown
