"""What response headers say of limits, in every format that is known."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.pace.headers import Reading, read_limits, seconds_until

NOW = 1_700_000_000.0  # 2023-11-14T22:13:20Z

PROVIDERS = {
    "OpenAI": (
        {
            "x-ratelimit-limit-requests": "500",
            "x-ratelimit-remaining-requests": "499",
            "x-ratelimit-reset-requests": "120ms",
            "x-ratelimit-limit-tokens": "200000",
            "x-ratelimit-remaining-tokens": "198976",
            "x-ratelimit-reset-tokens": "6m0s",
        },
        {"requests": Reading(500, 499, 0.12), "tokens": Reading(200_000, 198_976, 360)},
    ),
    "Anthropic": (
        {
            "anthropic-ratelimit-requests-limit": "50",
            "anthropic-ratelimit-requests-remaining": "49",
            "anthropic-ratelimit-requests-reset": "2023-11-14T22:13:50Z",
            "anthropic-ratelimit-input-tokens-limit": "30000",
            "anthropic-ratelimit-input-tokens-remaining": "29000",
            "anthropic-ratelimit-input-tokens-reset": "2023-11-14T22:13:22.5Z",
            "anthropic-ratelimit-output-tokens-limit": "8000",
            "anthropic-ratelimit-output-tokens-remaining": "0",
            "anthropic-ratelimit-output-tokens-reset": "2023-11-14T22:13:10Z",
        },
        {
            "requests": Reading(50, 49, 30, 60),
            "input_tokens": Reading(30_000, 29_000, 2.5, 60),
            "output_tokens": Reading(8_000, 0, 0, 60),
        },
    ),
    "Azure": (
        {"x-ratelimit-remaining-requests": "12", "x-ratelimit-remaining-tokens": "-1",
         "x-rate-limit-reset-tokens": "11"},
        {"requests": Reading(None, 12, None)},
    ),
    "Azure, which does not know": (
        {"x-ratelimit-limit-requests": "0", "x-ratelimit-remaining-requests": "0"},
        {},
    ),
    "Groq": (
        {
            "x-ratelimit-limit-requests": "14400",
            "x-ratelimit-remaining-requests": "14370",
            "x-ratelimit-reset-requests": "2m59.56s",
            "x-ratelimit-limit-tokens": "18000",
            "x-ratelimit-remaining-tokens": "17997",
            "x-ratelimit-reset-tokens": "7.66s",
        },
        {"requests": Reading(14_400, 14_370, 179.56), "tokens": Reading(18_000, 17_997, 7.66)},
    ),
    "Mistral": (
        {
            "x-ratelimit-limit-req-minute": "60",
            "x-ratelimit-remaining-req-minute": "59",
            "x-ratelimit-limit-tokens-minute": "500000",
            "x-ratelimit-remaining-tokens-minute": "499000",
        },
        {"requests": Reading(60, 59, None, 60), "tokens": Reading(500_000, 499_000, None, 60)},
    ),
    "OpenRouter": (
        {"x-ratelimit-limit": "20", "x-ratelimit-remaining": "19", "x-ratelimit-reset": "1700000030000"},
        {"requests": Reading(20, 19, 30)},
    ),
    "Cohere": ({"x-trial-endpoint-call-limit": "10"}, {}),
}  # fmt: skip


@pytest.mark.parametrize(("headers", "said"), PROVIDERS.values(), ids=PROVIDERS)
def test_each_providers_own_headers_are_read(headers: dict[str, str], said: dict[str, Reading]) -> None:
    found = read_limits(headers, NOW)
    assert found.keys() == said.keys()
    for unit, reading in said.items():
        for field in ("limit", "remaining", "reset", "interval"):
            assert getattr(found[unit], field) == pytest.approx(getattr(reading, field))  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12ms", 0.012), ("1s", 1), ("1m30.5s", 90.5), ("1h", 3600), ("1d", 86_400), ("250µs", 0.00025), ("30", 30),
        ("0.5", 0.5), ("1700000060", 60), ("1700000060000", 60), ("1600000000", 0), ("2023-11-14T22:14:20+00:00", 60),
        ("2023-11-14T22:14:20", 60), ("", None), ("soon", None), ("1s?", None), ("-5", None), ("NaN", None),
        ("1e5", None), ("٣", None), ("9" * 80, None), ("99999d", None), ("s", None), (None, None),
    ],
)  # fmt: skip
def test_a_reset_is_a_duration_a_number_or_a_moment(text: str | None, seconds: float | None) -> None:
    assert seconds_until(text, NOW) == (None if seconds is None else pytest.approx(seconds))


def test_more_than_the_limit_never_remains() -> None:
    headers = {"x-ratelimit-limit-requests": "10", "x-ratelimit-remaining-requests": "99"}
    assert read_limits(headers, NOW)["requests"].remaining == 10


NAMES = [name for headers, _ in PROVIDERS.values() for name in headers]


@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=30) | st.integers().map(str) | st.floats().map(str)))
def test_R7_whatever_headers_say_the_figures_are_finite_and_not_negative(headers: dict[str, str]) -> None:
    for reading in read_limits(headers, NOW).values():
        for figure in (reading.limit, reading.remaining, reading.reset):
            assert figure is None or (math.isfinite(figure) and figure >= 0)
