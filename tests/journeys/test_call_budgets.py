"""Budgets of one call, beside those of its client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from journeys.asking import client_of
from support.fault_server import FaultServer, json_reply, sse
from support.openai_wire import completion, stream_events
from tidegate import Budget, BudgetExceeded, Client, ConfigError, Price

PRICES = {"openai/gpt-4o-mini": Price(input=0, output=1_000)}  # a tenth of a cent for each token of an answer
TASK = Budget(usd="0.05", per="task")


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        running.on(lambda got: sse(stream_events(["Hi"])) if got.json.get("stream") else json_reply(completion("Hi")))
        yield running


@pytest.fixture
def client(server: FaultServer, tmp_path: Path) -> Iterator[Client]:
    with client_of(server, prices=PRICES, ledger=f"sqlite:///{tmp_path}/usage.db") as made:
        yield made


def test_a_call_is_held_to_its_own_budget(server: FaultServer, client: Client) -> None:
    asked: dict[str, Any] = {"max_tokens": 20, "task": "t", "budgets": [TASK]}
    for _ in range(5):  # 7 tokens each, and 20 are set aside
        client.complete("Hi", **asked)
    with pytest.raises(BudgetExceeded, match="a task"):
        client.complete("Hi", **asked)
    with pytest.raises(BudgetExceeded):
        client.stream("Hi", **asked)
    assert len(server.requests) == 5
    client.complete("Hi", max_tokens=20, task="t")  # who names none is held to none
    client.complete("Hi", max_tokens=20, task="another", budgets=[TASK])


def test_it_holds_for_what_is_queued_and_mapped_too(server: FaultServer, client: Client) -> None:
    asked: dict[str, Any] = {"max_tokens": 20, "task": "t", "budgets": [TASK]}
    assert client.submit("Hi", **asked).result().text == "Hi"
    outcomes = list(client.map(["Hi"] * 20, workers=8, **asked))
    spent = 1 + sum(outcome.ok for outcome in outcomes)
    assert 2 <= spent <= 5
    assert all(isinstance(outcome.error, BudgetExceeded) for outcome in outcomes if not outcome.ok)


@pytest.mark.parametrize("wrong", ["0.10", TASK, ["0.10"], [None]])
def test_what_is_no_budget_is_refused(server: FaultServer, client: Client, wrong: Any) -> None:  # noqa: ANN401
    with pytest.raises(ConfigError, match="`budgets` is a list of `Budget`"):
        client.complete("Hi", budgets=wrong)
    assert server.requests == []


@pytest.mark.parametrize("options", [{"ledger": None}, {"budgets": ()}])
def test_a_client_that_keeps_none_says_so(server: FaultServer, options: dict[str, Any]) -> None:
    with client_of(server, **options) as client, pytest.raises(ConfigError, match="keeps no budgets"):
        client.complete("Hi", budgets=[TASK])
    assert server.requests == []
