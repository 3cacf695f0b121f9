"""Money over whole clients: what providers are sent, what it costs, and what the ledger says of it afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from journeys.asking import KEY, MODEL, PATIENCE, client_of, finish, program
from support.fault_server import FaultServer, Gate, RecordedRequest, Reset, Step, error, json_reply, sse
from support.openai_wire import completion, stream_events
from tidegate import (
    AllRoutesFailed,
    Budget,
    BudgetExceeded,
    BudgetUnknown,
    BudgetWarning,
    Client,
    ConfigError,
    ConnectionLost,
    Hedge,
    Ledger,
    LedgerUnusable,
    LedgerWarning,
    Price,
    ProviderUnavailable,
    Retry,
    StreamInterrupted,
)
from tidegate.accounting import queries
from tidegate.accounting.periods import Calendar
from tidegate.pipeline.events import BudgetAlert

PRICES = {MODEL: Price(input="1", output="10")}
"""1,000 nano-dollars for a token of a question, 10,000 for one of an answer."""
QUICK = Retry(attempts=3, first=0.001, longest=0.002)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'usage.db'}"


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        server.on(answering())
        yield server


def answering(usage: tuple[int, int] | None = (50, 40)) -> Callable[[RecordedRequest], Step]:
    """Streamed or not, as it is asked."""

    def answer(request: RecordedRequest) -> Step:
        if request.json.get("stream"):
            return sse(stream_events(["Hel", "lo."], usage=usage))
        return json_reply(completion(usage=usage))

    return answer


@contextlib.contextmanager
def paying(server: FaultServer, url: str | None, **options: Any) -> Iterator[Client]:
    with client_of(server, ledger=url, prices=PRICES, **options) as client:
        yield client


def settled(client: Client) -> tuple[int, int]:
    """What all purses have spent and reserved together, in nano-dollars, once all is written."""
    client.ledger.flush()
    database = client.ledger.store.database()
    with database.reading() as connection:
        rows = connection.exec_driver_sql("SELECT spent_nano, reserved_nano FROM tidegate_purses").all()
    assert queries.reserved(database) == sum(reserved for _, reserved in rows) == 0
    return sum(spent for spent, _ in rows), 0


# A budget holds


def test_L3_fifty_threads_cannot_overspend_a_budget_and_every_nano_dollar_is_in_the_ledger(
    server: FaultServer, url: str
) -> None:
    """A provider that answers as long as it may: all that was sent together is within the budget, and nearly all."""
    server.on(answering((20, 90)))
    with paying(server, url, budgets=[Budget(usd="0.01", per="day")], workers=50) as client:
        outcomes = list(client.map(["Hi"] * 50, workers=50, max_tokens=90))
        refused = [each.error for each in outcomes if each.error is not None]
        assert all(isinstance(each, BudgetExceeded) for each in refused)
        cost = Decimal("0.00092")
        assert len(server.requests) == 50 - len(refused)
        assert Decimal("0.009") < len(server.requests) * cost <= Decimal("0.01")
        assert client.ledger.summary(days=1).total_cost == len(server.requests) * cost
        assert settled(client) == (len(server.requests) * 920_000, 0)
    assert {request.json["max_completion_tokens"] for request in server.requests} == {90}


SPENDER = """
import sys, tidegate
base_url, ledger = sys.argv[1:]
with tidegate.Client("openai/gpt-4o-mini", api_key="sk-1", base_url=base_url, ledger=ledger, workers=16, breaker=None,
                     prices={"openai/gpt-4o-mini": tidegate.Price(input="1", output="10")},
                     budgets=[tidegate.Budget(usd="0.02", per="day")]) as client:
    print("ready", flush=True)
    sys.stdin.readline()
    outcomes = list(client.map(["Hi"] * 40, workers=16, max_tokens=90))
    print(*{type(each.error).__name__ for each in outcomes})
"""


@pytest.mark.slow
def test_L3_two_processes_cannot_overspend_a_budget_together(server: FaultServer, url: str) -> None:
    server.on(answering((20, 90)))
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(spender(server, url)) for _ in range(2)]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        said = [finish(process) for process in processes]
    assert [code for code, _, _ in said] == [0, 0], said
    assert {name for _, out, _ in said for name in out.split()} == {"BudgetExceeded", "NoneType"}
    assert Decimal("0.019") < len(server.requests) * Decimal("0.00092") <= Decimal("0.02")
    with Ledger(url) as ledger:
        assert ledger.cost() == len(server.requests) * Decimal("0.00092")


@contextlib.contextmanager
def spender(server: FaultServer, url: str) -> Iterator[Any]:
    import subprocess  # noqa: PLC0415 (this test alone talks to a program)
    import sys  # noqa: PLC0415

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-c", SPENDER, server.base_url, url],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def test_nested_budgets_of_an_app_its_tenants_and_tasks(server: FaultServer, url: str) -> None:
    budgets = [
        Budget(usd="0.01", per="day", name="app"),
        Budget(usd="0.0025", per="day", each="tag:tenant"),
        Budget(usd="0.0015", per="task"),
    ]
    with paying(server, url, budgets=budgets) as client:
        client.complete("Hi", max_tokens=90, task="a", tags={"tenant": "acme"})
        client.complete("Hi", max_tokens=90, task="a", tags={"tenant": "acme"})
        with pytest.raises(BudgetExceeded, match=r"a task \(a\)"):
            client.complete("Hi", max_tokens=90, task="a", tags={"tenant": "acme"})
        client.complete("Hi", max_tokens=90, task="b", tags={"tenant": "acme"})
        client.complete("Hi", max_tokens=90, task="c", tags={"tenant": "acme"})
        with pytest.raises(BudgetExceeded, match=r"tag:tenant \(acme\)"):
            client.complete("Hi", max_tokens=90, task="d", tags={"tenant": "acme"})
        client.complete("Hi", max_tokens=90, task="d", tags={"tenant": "another"})
        assert len(server.requests) == 5
        assert client.ledger.cost(tags={"tenant": "acme"}) == 4 * Decimal("0.00045")
        assert client.ledger.cost(task="a") == 2 * Decimal("0.00045")


def test_L6_a_model_without_a_price_is_refused_before_it_is_sent(server: FaultServer, url: str) -> None:
    with client_of(server, ledger=url, budgets=[Budget(usd=5, per="day")]) as client:
        with pytest.raises(BudgetUnknown, match="openai/nobody-knows"):
            client.complete("Hi", model="openai/nobody-knows")
        assert server.requests == []


def test_L6_without_a_budget_it_is_sent_and_its_cost_unknown(server: FaultServer, url: str) -> None:
    with client_of(server, ledger=url) as client:
        answer = client.complete("Hi", model="openai/nobody-knows")
        assert answer.cost is None or answer.model == "gpt-4o-mini"
        server.on(lambda _request: json_reply(completion(model="nobody-knows-2")))
        assert client.complete("Hi", model="openai/nobody-knows").cost is None
        assert [row.cost for row in client.ledger.records()][1] is None


def test_a_budget_bounds_an_answer_that_nobody_bounded(server: FaultServer, url: str) -> None:
    with paying(server, url, budgets=[Budget(usd=1, per="day")], default_max_tokens=77) as client:
        client.complete("Hi")
        client.complete("Hi", options={"max_completion_tokens": 33})
    assert [request.json["max_completion_tokens"] for request in server.requests] == [77, 33]


def test_an_alert_reaches_the_callback_and_the_listeners(server: FaultServer, url: str) -> None:
    told: list[BudgetAlert] = []
    events: list[object] = []
    budget = Budget(usd="0.0014", per="day", on_alert=told.append)
    with paying(server, url, budgets=[budget], listeners=[events.append]) as client:
        client.complete("Hi", max_tokens=90)
        client.complete("Hi", max_tokens=90)
    assert [alert.share for alert in told] == [0.5]
    assert [event for event in events if isinstance(event, BudgetAlert)] == told


def test_a_budget_that_is_set_in_the_ledger_holds_for_every_client(server: FaultServer, url: str) -> None:
    with Ledger(url) as ledger:
        ledger.set_budget("team", {"usd": "0.0001", "per": "month"})
    with paying(server, url) as client, pytest.raises(BudgetExceeded, match="“team”"):
        client.complete("Hi", max_tokens=90)
    assert server.requests == []


def test_L6_budgets_of_a_ledger_hold_where_it_cannot_be_read_at_the_first_look(server: FaultServer, url: str) -> None:
    with Ledger(url) as ledger:
        ledger.set_budget("team", {"usd": "0.0001", "per": "month"})
    file = Path(url.removeprefix("sqlite:///"))
    whole = file.read_bytes()
    with paying(server, url) as client:
        file.write_bytes(b"no database any more, and long enough to be looked at" * 400)
        with pytest.raises(BudgetUnknown):
            client.complete("Hi", max_tokens=90)
        file.write_bytes(whole)
    assert server.requests == []


@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": None},
        {"max_tokens": -1},
        {"max_completion_tokens": "100000"},
        {"n": "50"},
        {"service_tier": "priority"},
        {"models": ["openai/nobody-knows"]},
    ],
    ids=str,
)
def test_a_call_that_options_take_the_bound_from_is_refused(
    server: FaultServer, url: str, options: dict[str, Any]
) -> None:
    with paying(server, url, budgets=[Budget(usd=1, per="day")]) as client, pytest.raises(BudgetUnknown):
        client.complete("Hi", max_tokens=90, options=options)
    assert server.requests == []


def test_the_dearest_of_the_models_that_may_answer_is_reserved(server: FaultServer, url: str) -> None:
    prices = {**PRICES, "openai/dear": Price(input="1000", output="10000")}
    with client_of(server, ledger=url, prices=prices, budgets=[Budget(usd="0.01", per="day")]) as client:
        client.complete("Hi", max_tokens=90)
        with pytest.raises(BudgetExceeded):
            client.complete("Hi", max_tokens=90, options={"models": ["gpt-4o-mini", "dear"]})
    assert len(server.requests) == 1


# Every attempt is in the ledger, once


def rows_of(client: Client) -> list[tuple[int, str, bool, int | None]]:
    return [(row.attempt, row.outcome, row.estimated, row.output_tokens) for row in client.ledger.records()]


def test_what_a_provider_refused_is_not_billed_and_the_answer_is(server: FaultServer, url: str) -> None:
    server.script(error(500), error(429))
    with paying(server, url, retry=QUICK, budgets=[Budget(usd="0.002", per="day")]) as client:
        client.complete("Hi", max_tokens=90)
        assert len(server.requests) == 3
        assert rows_of(client) == [(3, "ok", False, 40)]
        assert settled(client) == (450_000, 0)


def test_what_broke_off_may_have_been_billed_and_is_estimated(server: FaultServer, url: str) -> None:
    server.script((Reset(),))
    with paying(server, url, retry=QUICK, budgets=[Budget(usd=1, per="day")]) as client:
        client.complete("Hi", max_tokens=90)
        assert rows_of(client) == [(1, "ConnectionLost", True, 0), (2, "ok", False, 40)]


def test_a_fallback_is_billed_as_itself(server: FaultServer, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    with FaultServer() as second:
        second.always(json_reply(completion("two", usage=(10, 10), model="second")))
        monkeypatch.setenv("GROQ_BASE_URL", second.base_url)
        server.on(lambda _request: error(503))
        prices = {**PRICES, "groq/second": Price(input="2", output="2")}
        with client_of(server, ledger=url, prices=prices, fallbacks=["groq/second"]) as client:
            assert client.complete("Hi").text == "two"
            (row,) = client.ledger.records()
            assert (row.provider, row.answered, row.attempt, row.cost) == ("groq", "second", 2, Decimal("0.00004"))


def test_a_hedge_and_its_loser_are_both_in_the_ledger(server: FaultServer, url: str) -> None:
    slow = threading.Event()
    with paying(server, url, hedge=Hedge(after=0.02, extra=1.0), budgets=[Budget(usd=1, per="day")]) as client:
        client.complete("Hi", max_tokens=90)  # a route's first call goes alone
        server.script((Gate(slow), *json_reply(completion("slow"))))
        assert client.complete("Hi", max_tokens=90).text == "Hello."
        slow.set()
        give_up = time.monotonic() + PATIENCE
        while len(rows := rows_of(client)[1:]) < 2 and time.monotonic() < give_up:
            time.sleep(0.01)
        assert sorted(rows) == [(1, "Cancelled", True, 0), (2, "ok", False, 40)]
        assert settled(client)[1] == 0


# Streams


def test_a_streams_cost_is_that_of_its_usage_event(server: FaultServer, url: str) -> None:
    with paying(server, url, budgets=[Budget(usd=1, per="day")]) as client:
        with client.stream("Hi") as stream:
            assert "".join(chunk.text for chunk in stream) == "Hello."
        assert stream.completion.cost == Decimal("0.00045")
        assert rows_of(client) == [(1, "ok", False, 40)]
        assert settled(client) == (450_000, 0)


def test_L7_a_stream_without_its_usage_event_is_counted_here_and_marked(server: FaultServer, url: str) -> None:
    server.on(answering(None))
    with paying(server, url, budgets=[Budget(usd=1, per="day")]) as client:
        with client.stream("Hi") as stream:
            list(stream)
        usage = stream.completion.usage
        assert usage is not None
        assert usage.estimated
        (row,) = client.ledger.records()
        assert row.estimated
        assert 0 < row.output_tokens < 10
        assert row.cost == stream.completion.cost


def test_L7_a_stream_that_is_closed_early_is_counted_here_and_settled(server: FaultServer, url: str) -> None:
    never = threading.Event()
    server.on(lambda _request: sse([*stream_events(["Hel"], finish=None, usage=None), Gate(never)], done=False))
    with paying(server, url, budgets=[Budget(usd=1, per="day")]) as client:
        with client.stream("Hi", max_tokens=90) as stream:
            next(stream)
        ((attempt, outcome, estimated, output),) = rows_of(client)
        assert (attempt, outcome, estimated) == (1, "Cancelled", True)
        assert output is not None
        assert 0 < output < 5
        assert settled(client)[1] == 0


def test_L7_a_stream_that_breaks_after_its_usage_came_is_billed_by_that(server: FaultServer, url: str) -> None:
    events = stream_events(["Hel"], finish=None, usage=(50, 40))
    server.on(lambda _request: sse([*events, Reset()], done=False))
    with paying(server, url, budgets=[Budget(usd=1, per="day")]) as client:
        with pytest.raises(StreamInterrupted), client.stream("Hi", max_tokens=90) as stream:
            list(stream)
        assert rows_of(client) == [(1, "ConnectionLost", False, 40)]
        assert settled(client) == (450_000, 0)


# Estimates


def test_an_estimate_says_what_a_call_may_cost_and_sends_nothing(server: FaultServer, url: str) -> None:
    with paying(server, url, budgets=[Budget(usd="0.0001", per="day")]) as client:
        estimate = client.estimate("Hi", max_tokens=90)
        assert server.requests == []
        assert estimate.output_tokens.high == 90
        assert estimate.cost is not None
        assert estimate.cost.low <= estimate.cost.likely <= estimate.cost.high
        with pytest.raises(BudgetExceeded) as refused:
            client.complete("Hi", max_tokens=90)
        assert refused.value.asked == estimate.cost.high, "what a budget would reserve"
        assert list(client.ledger.records()) == []


# Where the ledger is


def test_by_default_it_is_in_the_users_data_folder_and_made_when_it_is_needed(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TIDEGATE_LEDGER")
    folder = Path(os.environ["XDG_DATA_HOME"]) / "tidegate"
    with client_of(server, prices=PRICES) as client:
        assert not folder.exists()
        client.complete("Hi", task="mine")
        assert client.ledger.cost(task="mine") == Decimal("0.00045")
        assert (folder / "usage.db").exists()
        assert (folder / "usage.db").stat().st_mode & 0o077 == 0
    with Ledger() as ledger:
        assert ledger.cost() == Decimal("0.00045")


def test_without_a_ledger_nothing_is_written(server: FaultServer) -> None:
    with client_of(server, ledger=None, prices=PRICES) as client:
        assert client.complete("Hi").cost == Decimal("0.00045")
        with pytest.raises(ConfigError, match="keeps no ledger"):
            _ = client.ledger
    assert list(Path(os.environ["XDG_DATA_HOME"]).iterdir()) == []


def test_budgets_need_a_ledger(server: FaultServer) -> None:
    with pytest.raises(ConfigError, match=r"`Client\(budgets=…\)`: a budget needs a ledger"):
        Client(MODEL, api_key=KEY, base_url=server.base_url, ledger=None, budgets=[Budget(usd=1, per="day")])


def test_a_ledger_that_is_named_and_is_none_is_refused_at_once(server: FaultServer, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no ledger", encoding="utf-8")
    with pytest.raises(LedgerUnusable, match=r"notes\.txt"):
        Client(MODEL, api_key=KEY, base_url=server.base_url, ledger=f"sqlite:///{tmp_path / 'notes.txt'}")
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "no ledger"


@pytest.mark.parametrize("labels", [{"task": 5}, {"tags": {"tenant": 5}}, {"tags": {5: "x"}}, {"tags": ["x"]}])
def test_labels_that_are_no_text_are_refused_before_anything_is_sent(
    server: FaultServer, url: str, labels: dict[str, Any]
) -> None:
    with paying(server, url) as client, pytest.raises(ConfigError, match=r"is a (text|dict of names and texts)"):
        client.complete("Hi", **labels)
    assert server.requests == []


# A dead disk


def test_L2_a_disk_that_dies_costs_nobody_an_answer(server: FaultServer, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    with paying(server, f"sqlite:///{folder / 'usage.db'}") as client, pytest.warns(LedgerWarning):  # noqa: PT031
        client.complete("Hi")
        client.ledger.flush()
        client.ledger.store.database().close()
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        folder.rmdir()
        folder.write_bytes(b"")  # now a file is where the folder was
        for _ in range(3):
            assert client.complete("Hi").text == "Hello."
        with contextlib.suppress(LedgerUnusable):
            client.ledger.flush()
        client.close()


def test_L2_a_budget_whose_ledger_dies_refuses_and_one_that_warns_does_not(server: FaultServer, tmp_path: Path) -> None:
    for on_reach, expected in (("raise", 0), ("warn", 1)):
        folder = tmp_path / on_reach
        folder.mkdir()
        budgets = [Budget(usd=1, per="day", on_reach=on_reach)]
        before = len(server.requests)
        with paying(server, f"sqlite:///{folder / 'usage.db'}", budgets=budgets) as client:
            client.ledger.store.database().close()
            (folder / "usage.db").write_bytes(b"no database any more, and long enough to be looked at" * 400)
            for extra in ("usage.db-wal", "usage.db-shm"):
                (folder / extra).unlink(missing_ok=True)
            if expected:
                with pytest.warns((BudgetWarning, LedgerWarning)):  # noqa: PT031
                    client.complete("Hi", max_tokens=90)
                    client.close()
            else:
                with pytest.raises(BudgetUnknown):
                    client.complete("Hi", max_tokens=90)
        assert len(server.requests) - before == expected


# The end


KILLED = """
import sys, threading, tidegate
base_url, ledger = sys.argv[1:]
client = tidegate.Client("openai/gpt-4o-mini", api_key="sk-1", base_url=base_url, ledger=ledger, breaker=None,
                         prices={"openai/gpt-4o-mini": tidegate.Price(input="1", output="10")},
                         budgets=[tidegate.Budget(usd="1", per="day")])
client.ledger.store.bookkeeper._writing.acquire()  # nothing gets into the database any more
for _ in range(5):
    client.complete("Hi", max_tokens=90)
print("ready", flush=True)
threading.Event().wait()
"""


def test_L1_what_a_killed_program_was_answered_is_in_the_ledger(server: FaultServer, url: str) -> None:
    with program(KILLED, server.base_url, url) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)
    with Ledger(url) as ledger:
        assert ledger.cost() == 5 * Decimal("0.00045")
        (purse,) = queries.purses(ledger.store.database(), Calendar().span("day", int(time.time() * 1_000_000)), "all")
        assert (purse["spent_nano"], purse["reserved_nano"]) == (5 * 450_000, 0)


STREAMING = """
import sys, tidegate
base_url, ledger = sys.argv[1:]
client = tidegate.Client("openai/gpt-4o-mini", api_key="sk-1", base_url=base_url, ledger=ledger,
                         prices={"openai/gpt-4o-mini": tidegate.Price(input="1", output="10")},
                         budgets=[tidegate.Budget(usd="1", per="day")])
stream = client.stream("Hi", max_tokens=90)
next(stream)
if sys.argv[2].endswith("closed.db"):
    client.close()
elif sys.argv[2].endswith("cancelled.db"):
    client.close(cancel=True)
"""


@pytest.mark.parametrize("name", ["left.db", "closed.db", "cancelled.db"])
def test_a_stream_that_is_open_when_its_client_or_its_program_ends_is_entered(
    server: FaultServer, tmp_path: Path, name: str
) -> None:
    never = threading.Event()
    server.on(lambda _request: sse([*stream_events(["Hel"], finish=None, usage=None), Gate(never)], done=False))
    url = f"sqlite:///{tmp_path / name}"
    with program(STREAMING, server.base_url, url) as process:
        assert finish(process) == (0, "", "")
    with Ledger(url) as ledger:
        (row,) = ledger.records()
        assert (row.outcome, row.estimated) == ("Cancelled", True)
        assert queries.reserved(ledger.store.database()) == 0


def test_a_stream_that_is_read_to_its_end_after_close_is_in_the_ledger_at_once(server: FaultServer, url: str) -> None:
    with paying(server, url) as client:
        stream = client.stream("Hi")
        client.close()
        assert "".join(chunk.text for chunk in stream) == "Hello."
        with Ledger(url) as ledger:
            assert ledger.cost() == Decimal("0.00045")


def test_a_client_that_is_closed_in_the_midst_of_calls_leaves_nothing_reserved(server: FaultServer, url: str) -> None:
    never, asked = threading.Event(), threading.Semaphore(0)

    def stall(_request: RecordedRequest) -> Step:
        asked.release()
        return (Gate(never),)

    server.on(stall)
    client = Client(MODEL, base_url=server.base_url, api_key=KEY, ledger=url, prices=PRICES, retry=None, breaker=None,
                    budgets=[Budget(usd=1, per="day")])  # fmt: skip
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(client.complete, "Hi", max_tokens=90) for _ in range(4)]
        for _ in calls:
            assert asked.acquire(timeout=PATIENCE)
        client.close(cancel=True)
        assert all(call.exception(PATIENCE) is not None for call in calls)
    with Ledger(url) as ledger:
        assert queries.reserved(ledger.store.database()) == 0
        assert ledger.summary(days=1).count == 4


def test_errors_of_every_route_are_told_with_what_budgets_said(
    server: FaultServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A budget's refusal of one route does not hide what became of the others."""
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    with FaultServer() as second:
        monkeypatch.setenv("GROQ_BASE_URL", second.base_url)
        server.on(lambda _request: error(503))
        prices = {**PRICES, "groq/dear": Price(input="1000", output="1000")}
        budgets = [Budget(usd="0.01", per="day")]
        with client_of(server, ledger=url, prices=prices, fallbacks=["groq/dear"], budgets=budgets) as client:
            with pytest.raises((AllRoutesFailed, BudgetExceeded, ProviderUnavailable)) as refused:
                client.complete("Hi", max_tokens=90)
            assert second.requests == []
            assert "budget" in str(refused.value)


def test_json_of_a_row_and_the_errors_that_cost_nothing(server: FaultServer, url: str) -> None:
    server.script((Reset(),))
    with paying(server, url) as client:
        with pytest.raises(ConnectionLost):
            client.complete("Hi")
        client.ledger.export("jsonl", Path(url.removeprefix("sqlite:///")).with_suffix(".jsonl"))
    (line,) = Path(url.removeprefix("sqlite:///")).with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["outcome"] == "ConnectionLost"
