"""What every test of the shell gets: a server that stands for OpenAI, and a key for it."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator

import pytest

from support.fault_server import FaultServer
from support.shell import KEY


@pytest.fixture(autouse=True)
def _nothing_piped_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    with FaultServer() as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        yield running
