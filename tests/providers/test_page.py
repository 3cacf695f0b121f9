"""The page about providers says what the code does."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from tidegate.catalog import facts, known_models
from tidegate.providers.registry import NAMES

FILE = Path(__file__).parents[2] / "docs" / "tables.py"


@pytest.fixture(scope="module")
def tables() -> Any:  # noqa: ANN401 (a script)
    spec = importlib.util.spec_from_file_location("tables", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_its_tables_are_those_of_the_code(tables: Any) -> None:  # noqa: ANN401
    page = tables.PAGE.read_text(encoding="utf-8")
    assert tables.written(page) == page, "run `python docs/tables.py`"


def test_a_table_that_is_out_of_date_would_be_noticed(tables: Any) -> None:  # noqa: ANN401
    page = tables.PAGE.read_text(encoding="utf-8")
    assert tables.written(page.replace("| by name, tokens |", "| - |")) == page


# The facts beside it


def test_every_fact_is_about_a_model_of_a_provider_that_exists() -> None:
    for name in known_models():
        assert name.split("/", 1)[0] in NAMES
        known = facts(*name.split("/", 1))
        assert known.context_window is not None
        assert known.max_output is None or known.max_output <= known.context_window


@pytest.mark.parametrize(
    ("provider", "model", "like"),
    [
        ("anthropic", "claude-haiku-4-5-20251001", "anthropic/claude-haiku-4-5"),
        ("anthropic", "claude-3-7-sonnet-latest", "anthropic/claude-3-7-sonnet-latest"),
        ("anthropic", "claude-sonnet-4-20250514", "anthropic/claude-sonnet-4-0"),
        ("openai", "gpt-4o-2024-08-06", "openai/gpt-4o"),
        ("azure", "gpt-4o", "openai/gpt-4o"),
        ("openai-responses", "gpt-5-2025-08-07", "openai/gpt-5"),
        ("cohere", "command-a-03-2025", "cohere/command-a"),
        ("gemini", "gemini-2.0-flash-001", "gemini/gemini-2.0-flash"),
    ],
)
def test_a_version_is_known_by_its_model(provider: str, model: str, like: str) -> None:
    assert facts(provider, model) == facts(*like.split("/"))
    assert facts(provider, model).context_window


def test_of_a_model_that_nobody_lists_nothing_is_assumed() -> None:
    assert facts("anthropic", "claude-of-tomorrow") == facts("nobody", "x")
    assert facts("anthropic", "claude-of-tomorrow").context_window is None
