"""`tidegate models`."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from support.shell import KEY
from tidegate.accounting.prices import listed_models
from tidegate.cli.main import main
from tidegate.providers.registry import LOCAL_MODEL, NAMES


def test_every_provider_is_listed_with_its_key_as_set_or_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    assert main(["models"]) == 0
    shown = capsys.readouterr()
    rows = {line.split()[0]: line.split() for line in shown.out.splitlines() if line}
    assert rows.keys() >= {*NAMES}
    assert rows["groq"][1:] == ["✓", "GROQ_API_KEY", "llama-3.1-8b-instant", "https://api.groq.com/openai/v1"]
    assert rows["openai"][1:3] == ["-", "OPENAI_API_KEY"]
    assert "Asked by default: groq/llama-3.1-8b-instant." in shown.out
    assert shown.err == ""
    assert KEY not in shown.out


def test_providers_as_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MISTRAL_API_KEY", KEY)
    monkeypatch.setenv("MISTRAL_BASE_URL", "https://eu.example.com/v1/")
    assert main(["models", "--json"]) == 0
    out = capsys.readouterr().out
    found = json.loads(out)
    assert found["default"] == "mistral/mistral-small-latest"
    [mistral] = [each for each in found["providers"] if each["name"] == "mistral"]
    assert (mistral["base_url"], mistral["key_set"]) == ("https://eu.example.com/v1", True)
    assert KEY not in out


def test_an_address_with_a_password_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"https://me:{KEY}@example.com/v1")
    for arguments in (["models"], ["models", "--json"]):
        assert main(arguments) == 0
        shown = capsys.readouterr()
        assert "user name or password" in shown.out
        assert KEY not in shown.out + shown.err


def test_a_provider_s_models_have_their_window_and_price(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "openai"]) == 0
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line}
    assert rows["openai/gpt-4o-mini"] == ["128,000", "0.15", "0.60"]
    assert not any(name.startswith("groq/") for name in rows)


def test_a_part_of_a_name_finds_it_at_every_provider(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "GPT-4o-mini", "--json"]) == 0
    models = json.loads(capsys.readouterr().out)["models"]
    assert {"openai/gpt-4o-mini", "openrouter/openai/gpt-4o-mini"} <= {model["name"] for model in models}


def test_the_embedded_model_is_listed_and_free(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "local", "--json"]) == 0
    [model] = json.loads(capsys.readouterr().out)["models"]
    assert (model["name"], model["context_window"], model["input_price"]) == (LOCAL_MODEL, 2048, 0)


def test_a_name_that_fits_nothing_is_1_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "opnai"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "did you mean `openai`?" in shown.err


def test_json_has_every_price_of_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "openai/gpt-5.4", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["prices"].startswith("genai-prices 0.")
    [model] = [each for each in shown["models"] if each["name"] == "openai/gpt-5.4"]
    rates = {"input_price", "output_price", "cached_price", "cache_write_price", "reasoning_price"}
    assert model.keys() == {"name", "context_window", *rates, "request_price", "tiered", "above", "price_date"}
    assert (model["input_price"], model["cached_price"], model["tiered"]) == (2.5, 0.25, True)
    [(start, above)] = model["above"].items()
    assert int(start) > 200_000
    assert above.keys() == rates
    assert above["input_price"] == 5


def test_the_table_that_prices_come_from_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "openai"]) == 0
    assert "(genai-prices 0." in capsys.readouterr().out


def test_only_chat_models_are_listed_and_tiers_are_told() -> None:
    openai = {model.name: model for model in listed_models("openai")}
    assert openai["gpt-4o"].price.output == Decimal(10)
    assert "text-embedding-3-small" not in openai
    assert not any(name.endswith("-") for name in openai)
    assert any(model.above for model in listed_models("xai"))
    assert listed_models("nobody") == []
