"""`tidegate models --update-prices`, from a server on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from support.fault_server import FaultServer, Reset, Step, error, gzip_bomb, json_reply, redirect, reply
from support.shell import run
from tidegate.accounting import kept_prices
from tidegate.cli import price_update
from tidegate.cli.main import main

TABLE = [
    {
        "id": "openai",
        "name": "OpenAI",
        "api_pattern": "https://api\\.openai\\.com",
        "models": [
            {
                "id": name,
                "match": {"equals": name},
                "context_window": 128_000,
                "prices": {"input_mtok": 0.17, "output_mtok": 0.6},
            }
            for name in ("gpt-4o-mini", "gpt-7")
        ],
    }
]


@pytest.fixture
def prices() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


def _update(server: FaultServer, *more: str) -> int:
    return main(["models", "--update-prices", "--from", f"{server.base_url}/data.json", *more])


def test_a_fetched_table_is_kept_told_in_a_line_and_used_from_then_on(
    prices: FaultServer, capsys: pytest.CaptureFixture[str]
) -> None:
    prices.script(json_reply(TABLE))
    assert _update(prices) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out.startswith("2 models of 1 provider: 1 new, ")
    assert "1 with other prices. Kept in " in shown.out
    assert main(["models", "openai"]) == 0
    listed = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in listed.splitlines() if line}
    assert rows["openai/gpt-4o-mini"] == rows["openai/gpt-7"] == ["128,000", "0.17", "0.60"]
    assert "(genai-prices, fetched 20" in listed
    [request] = prices.requests
    assert (request.method, request.path.rpartition("/")[2]) == ("GET", "data.json")
    assert not any(name.lower() in ("authorization", "cookie") for name, _ in request.headers.pairs)


def test_the_same_table_again_changes_nothing(prices: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    prices.always(json_reply(TABLE))
    assert [_update(prices), _update(prices)] == [0, 0]
    assert "2 models of 1 provider: nothing has changed." in capsys.readouterr().out.splitlines()[1]


def test_the_change_as_json(prices: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    prices.script(json_reply(TABLE))
    assert _update(prices, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == {"source", "providers", "models", "new", "gone", "changed", "file"}
    assert (found["providers"], found["models"], found["new"], found["changed"]) == (1, 2, 1, 1)
    assert Path(found["file"]) == kept_prices.file()


FAILURES: dict[str, Step] = {
    "HTTP 404": error(404),
    "HTTP 307": redirect("http://127.0.0.1:9/data.json"),
    "connection": (Reset(),),
    "no JSON": reply(200, b"<html>welcome to this network</html>"),
    "no list of providers": json_reply({"models": []}),
    "larger than": gzip_bomb(2 * 2**20),
}


@pytest.mark.parametrize("said", FAILURES)
def test_a_failure_is_one_line_and_nothing_has_changed(
    said: str, prices: FaultServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(price_update, "LARGEST", 2**20)
    prices.script(json_reply(TABLE), FAILURES[said])
    assert _update(prices) == 0
    before = kept_prices.file().read_bytes()
    capsys.readouterr()
    assert _update(prices) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("tidegate: the prices stay as they are: ")
    assert said in shown.err
    assert shown.err.count("\n") == 1
    assert kept_prices.file().read_bytes() == before


def test_without_a_network_it_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with FaultServer() as gone:
        pass
    assert _update(gone) == 1
    assert "tidegate: the prices stay as they are: " in capsys.readouterr().err
    assert not kept_prices.file().exists()


def test_a_file_where_the_folder_should_be_is_one_line(prices: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    prices.script(json_reply(TABLE))
    kept_prices.file().parent.write_text("")
    assert _update(prices) == 1
    shown = capsys.readouterr().err
    assert "the prices stay as they are: " in shown
    assert str(kept_prices.file().parent) in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "http://127.0.0.1/"], "--from goes with --update-prices"),
        (["openai", "--update-prices"], "name none"),
        (["--update-prices", "--from", "http://prices.example/data.json"], "use https"),
        (["--update-prices", "--from", "ftp://prices.example/data.json"], "https://host/path"),
        (["--update-prices", "--from", "https://me:secret@prices.example/"], "https://host/path"),
        (["--update-prices", "--from", "https://prices.example:99999/"], "https://host/path"),
        (["--update-prices", "--from", "prices.json"], "https://host/path"),
    ],
)
def test_what_cannot_be_meant_is_asked_wrongly_and_nothing_is_sent(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", *arguments]) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert "secret" not in shown.err


def test_without_an_address_it_asks_where_the_library_does(monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = Mock(return_value=json.dumps(TABLE).encode())
    monkeypatch.setattr(price_update, "_fetched", fetch)
    assert main(["models", "--update-prices"]) == 0
    [address] = fetch.call_args.args
    assert address.startswith("https://")
    assert "genai-prices" in address


def test_nothing_else_touches_the_network(prices: FaultServer) -> None:
    """From a shell: the update is one request, and listing after it none."""
    prices.script(json_reply(TABLE))
    updated = run("models", "--update-prices", "--from", f"{prices.base_url}/data.json")
    assert (updated.returncode, updated.stderr) == (0, "")
    listed = run("models", "gpt-7")
    assert "openai/gpt-7" in listed.stdout
    assert len(prices.requests) == 1
