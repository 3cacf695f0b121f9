"""Many calls at the same time."""

from __future__ import annotations

import pytest

import tidegate
from support.barrier_server import BarrierServer


def _all_in_flight(calls: int) -> None:
    with (
        BarrierServer(calls) as server,
        tidegate.Client("openai/gpt-4o-mini", base_url=server.base_url, api_key="sk-test-key", retry=None) as client,
    ):
        outcomes = list(client.map([f"prompt {number}" for number in range(calls)], workers=calls))
    assert server.most_in_flight == calls
    assert [outcome.index for outcome in outcomes] == list(range(calls))
    assert [outcome.error for outcome in outcomes] == [None] * calls


def test_T11_a_hundred_calls_are_in_flight_at_once() -> None:
    """No lock, pool or queue of the client lets fewer calls wait for their answers than there are threads."""
    _all_in_flight(100)


@pytest.mark.slow
def test_T11_a_thousand_calls_are_in_flight_at_once() -> None:
    """As with a hundred. What they reach of the ideal throughput is shown by `bench/concurrency.py`."""
    _all_in_flight(1000)
