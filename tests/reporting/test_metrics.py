"""The figures of the last calls."""

from __future__ import annotations

import statistics
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tidegate
from support.fault_server import FaultServer, error, json_reply, sse
from support.openai_wire import completion, stream_events
from tidegate.reporting.metrics import WINDOW, percentile


def test_nothing_called_is_all_zero(server: FaultServer) -> None:
    metrics = _client(server).metrics()
    assert (metrics.calls, metrics.failure_rate, metrics.p99, metrics.first_token_p50) == (0, 0.0, 0.0, None)


@pytest.fixture
def server() -> object:
    with FaultServer() as server:
        yield server


def _client(server: FaultServer) -> tidegate.Client:
    return tidegate.Client("openai/gpt-4o-mini", base_url=server.base_url, api_key="sk-test-key", retry=None)


def test_calls_failures_tokens_and_cost_are_counted(server: FaultServer) -> None:
    server.script(json_reply(completion("a", usage=(1000, 100))), error(401), sse(stream_events(["b"], usage=(10, 1))))
    client = _client(server)
    client.complete("x")
    with pytest.raises(tidegate.AuthenticationFailed):
        client.complete("x")
    with client.stream("x") as stream:
        list(stream)
    metrics = client.metrics()
    assert (metrics.calls, metrics.failures, metrics.errors) == (3, 1, {"AuthenticationFailed": 1})
    assert metrics.failure_rate == pytest.approx(1 / 3)
    assert (metrics.attempts, metrics.input_tokens, metrics.output_tokens) == (3, 1010, 101)
    assert metrics.cost == 1010 * Decimal("0.15") / 10**6 + 101 * Decimal("0.60") / 10**6
    assert metrics.first_token_p50 is not None
    assert 0 < metrics.first_token_p50 <= metrics.p99


def test_an_answer_without_a_known_price_is_counted_as_such(server: FaultServer) -> None:
    server.always(json_reply(completion("a", model="who-knows")))
    client = tidegate.Client("openai/who-knows", base_url=server.base_url, api_key="sk-test-key")
    client.complete("x")
    assert (client.metrics().unpriced, client.metrics().cost) == (1, Decimal(0))


def test_the_window_forgets_the_oldest(server: FaultServer) -> None:
    client = _client(server)
    client._corridor.window._rows.extend([None] * (WINDOW + 5))  # type: ignore[list-item]
    assert len(client._corridor.window._rows) == WINDOW


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=50))
def test_percentiles_are_those_of_the_statistics_module(values: list[float]) -> None:
    ordered = sorted(values)
    expected = statistics.quantiles(ordered, n=100, method="inclusive")
    for share in (0.5, 0.95, 0.99):
        assert percentile(ordered, share) == pytest.approx(expected[round(share * 100) - 1], rel=1e-9, abs=1e-9)


def test_a_percentile_of_nothing_is_none_and_of_one_is_it() -> None:
    assert percentile([], 0.5) is None
    assert percentile([3.0], 0.99) == 3.0
