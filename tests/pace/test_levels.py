"""Buckets that are taken from together."""

from __future__ import annotations

import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.pace.bucket import Bucket
from tidegate.pace.levels import Quota

REQUESTS = Bucket(600, 60, 600)
TOKENS = Bucket(60_000, 60, 60_000)


def quota() -> Quota:
    return Quota([REQUESTS, TOKENS])


def test_a_full_bucket_goes_at_once_and_then_as_it_refills() -> None:
    limiter = Quota([REQUESTS])
    assert [limiter.admit(0.0, [1]) for _ in range(600)] == [0.0] * 600
    assert limiter.admit(0.0, [1]) == pytest.approx(0.1)
    assert limiter.admit(0.05, [1]) == pytest.approx(0.05)
    assert limiter.admit(0.1, [1]) == 0.0


def test_R3_units_are_taken_together_or_not_at_all() -> None:
    limiter = quota()
    assert limiter.admit(0.0, [1, 60_000]) == 0.0
    assert limiter.admit(0.0, [1, 1_000]) == pytest.approx(1.0)
    assert limiter.levels(0.0) == (1.0, 60_000.0)


def test_the_wait_is_that_of_the_bucket_which_takes_longest() -> None:
    limiter = quota()
    limiter.change(0.0, [600, 60_000])
    assert limiter.admit(0.0, [60, 500]) == pytest.approx(6.0)


def test_R5_more_than_a_bucket_holds_never_fits() -> None:
    assert quota().admit(0.0, [1, 60_001]) == math.inf


def test_what_is_given_back_may_be_taken_again_and_no_level_falls_below_nothing() -> None:
    limiter = quota()
    limiter.admit(0.0, [1, 50_000])
    limiter.change(0.0, [0, -40_000])
    assert limiter.levels(0.0) == (1.0, 10_000.0)
    limiter.change(0.0, [-9, -99_999])
    assert limiter.levels(0.0) == (0.0, 0.0)


def test_what_was_not_foreseen_delays_the_next() -> None:
    limiter = quota()
    limiter.change(0.0, [0, 120_000])
    assert limiter.admit(0.0, [1, 1_000]) == pytest.approx(61.0)


def test_a_clock_that_steps_back_neither_drains_nor_fills() -> None:
    limiter = Quota([REQUESTS])
    limiter.admit(100.0, [600])
    assert limiter.admit(50.0, [1]) == pytest.approx(0.1)
    assert limiter.levels(50.0) == (600.0,)


def test_rates_of_millions_a_minute_lose_nothing_to_rounding() -> None:
    limiter = Quota([Bucket(50e6, 60, 50e6)])
    limiter.admit(0.0, [50e6])
    granted = sum(limiter.admit(second / 10, [83_333]) == 0 for second in range(1, 601))
    assert granted in (599, 600)


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 300), st.integers(0, 40_000)), min_size=1, max_size=200))
def test_never_more_than_the_burst_and_what_refilled(steps: list[tuple[float, int, int]]) -> None:
    """In any order, from the first grant to any later one."""
    limiter, now = quota(), 0.0
    sent = [0.0, 0.0]
    for pause, requests, tokens in steps:
        now += pause
        if limiter.admit(now, [requests, tokens]) == 0:
            sent = [sent[0] + requests, sent[1] + tokens]
        for units, bucket in zip(sent, limiter.buckets, strict=True):
            assert units <= (bucket.size + bucket.rate * now) * (1 + 1e-6)


@given(st.integers(1, 600), st.integers(1, 60_000), st.floats(0, 100))
def test_the_wait_that_is_said_is_enough_and_not_too_long(requests: int, tokens: int, now: float) -> None:
    limiter = quota()
    limiter.admit(now, [600, 60_000])
    wait = limiter.admit(now, [requests, tokens])
    assert limiter.admit(now + wait * 0.99, [requests, tokens]) > 0
    assert limiter.admit(now + wait + 1e-6, [requests, tokens]) == 0


def test_threads_never_take_the_same_unit() -> None:
    limiter = Quota([Bucket(1_000, 60, 1_000)])
    granted: list[float] = []

    def take() -> None:
        granted.extend(limiter.admit(0.0, [1]) for _ in range(200))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert granted.count(0.0) == 1_000
