"""A quota that no sliding minute is ever over."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.pace.bucket import Bucket
from tidegate.pace.window import SLOTS, SlidingWindow


def test_what_was_taken_comes_back_one_interval_after_the_response() -> None:
    window = SlidingWindow([Bucket(2, 60, 2)])
    assert window.admit(0.0, [2]) == 0.0
    assert window.admit(1.0, [1]) == math.inf  # no response has come: nobody knows when the server counted it
    window.finished(3.0, [2])
    assert window.admit(10.0, [1]) == pytest.approx(53.0, abs=60 / SLOTS + 1e-3)
    assert window.admit(62.9, [1]) > 0
    assert window.admit(63.06, [2]) == 0.0


def test_R5_more_than_the_limit_never_fits() -> None:
    assert SlidingWindow([Bucket(2, 60, 2)]).admit(0.0, [3]) == math.inf


def test_R3_units_are_taken_together_or_not_at_all() -> None:
    window = SlidingWindow([Bucket(5, 60, 5), Bucket(100, 60, 100)])
    window.admit(0.0, [1, 90])
    assert window.admit(0.0, [1, 20]) == math.inf
    assert window.levels(0.0) == (1.0, 90.0)


def test_what_is_given_back_may_be_taken_again() -> None:
    window = SlidingWindow([Bucket(100, 60, 100)])
    window.admit(0.0, [100])
    window.change(0.0, [-60])
    assert window.admit(0.0, [60]) == 0.0


def test_its_memory_does_not_grow_with_what_is_sent() -> None:
    window = SlidingWindow([Bucket(1e9, 60, 1e9)])
    for step in range(50_000):
        window.admit(step / 500, [1])
        window.finished(step / 500, [1])
    assert len(window._returning[0]) <= SLOTS + 1


@given(
    st.lists(st.tuples(st.floats(0, 20), st.integers(1, 4), st.floats(0, 1), st.floats(0, 2)), min_size=1, max_size=120)
)
def test_R1_no_sliding_minute_of_the_servers_log_is_over(steps: list[tuple[float, int, float, float]]) -> None:
    """Wherever between sending and the response the server counts a request."""
    window, now = SlidingWindow([Bucket(6, 60, 6)]), 0.0
    log: list[tuple[float, int]] = []
    pending: list[tuple[float, int]] = []
    for pause, units, counted, trip in steps:
        now += pause
        for end, done in sorted(entry for entry in pending if entry[0] <= now):
            window.finished(end, [done])
            pending.remove((end, done))
        if window.admit(now, [units]) == 0:
            log.append((now + counted * trip, units))
            pending.append((now + trip, units))
    for moment, _ in log:
        assert sum(units for when, units in log if moment - 60 < when <= moment) <= 6
