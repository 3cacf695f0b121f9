"""The table of hosts: each row builds a client, names its key, and sends to its address in its dialect."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from journeys.asking import KEY
from support.fault_server import FaultServer, json_reply, sse
from support.openai_wire import completion, stream_events
from tidegate import Client, ConfigError, Message
from tidegate.chat.request import ChatRequest
from tidegate.providers import registry
from tidegate.providers.compatible import COMPATIBLE
from tidegate.providers.registry import endpoint

HOSTS = {"openai": registry.HOSTS["openai"], **COMPATIBLE}
"""Who speaks OpenAI's chat completions."""

KEYLESS = ["vllm", "ollama", "llamacpp", "compatible"]
KEYED = [name for name in HOSTS if name not in KEYLESS]
ADDRESSED = [name for name, host in HOSTS.items() if host.base_url]

QUIRKS: dict[str, dict[str, object]] = {
    "openai": {"max_completion_tokens": 9, "seed": 3, "role": "developer", "asks for usage": True},
    "groq": {"max_completion_tokens": 9, "seed": 3, "role": "system", "asks for usage": True},
    "mistral": {"max_tokens": 9, "random_seed": 3, "role": "system", "asks for usage": False},
}
COMMON = {"max_tokens": 9, "seed": 3, "role": "system", "asks for usage": True}


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        running.on(lambda got: sse(stream_events(["Hi"])) if got.json.get("stream") else json_reply(completion("Hi")))
        yield running


def test_the_rows_that_need_no_key_are_those_of_ones_own_servers() -> None:
    assert [name for name, host in HOSTS.items() if not host.key_required] == KEYLESS


@pytest.mark.parametrize("name", KEYED)
def test_a_missing_key_is_named_by_its_variable(name: str) -> None:
    with pytest.raises(ConfigError, match=f"no key for `{name}`: set {name.upper()}_API_KEY or pass `api_key=`"):
        Client(f"{name}/m")


@pytest.mark.parametrize("name", KEYLESS)
def test_a_server_of_ones_own_needs_no_key(server: FaultServer, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"{name.upper()}_BASE_URL", server.base_url)
    with Client(f"{name}/m", retry=None) as client:
        assert client.complete("Hi").text == "Hi"
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize("name", HOSTS)
def test_a_host_is_asked_with_the_environments_key_and_address(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(f"{name.upper()}_API_KEY", KEY)
    monkeypatch.setenv(f"{name.upper()}_BASE_URL", f"{server.url}/proxy/v9/")
    with Client(f"{name}/some/model:1b", retry=None) as client:
        done = client.complete("Hi")
    (request,) = server.requests
    assert (done.text, done.provider, request.path) == ("Hi", name, "/proxy/v9/chat/completions")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.json["model"] == "some/model:1b"


@pytest.mark.parametrize("name", ADDRESSED)
def test_a_hosts_own_path_is_kept(server: FaultServer, name: str) -> None:
    path = urlsplit(HOSTS[name].base_url or "").path
    with Client(f"{name}/m", api_key=KEY, base_url=f"{server.url}{path}", retry=None) as client:
        client.complete("Hi")
    own = endpoint(name, "m", environ={f"{name.upper()}_API_KEY": KEY}).provider
    request = own.encode(ChatRequest.build("Hi"), "m", streamed=False)
    assert server.requests[0].path == urlsplit(request.url).path == f"{path}/chat/completions"
    assert request.url == f"{HOSTS[name].base_url}/chat/completions"


@pytest.mark.parametrize("name", ADDRESSED)
def test_an_address_is_https_or_this_machine(name: str) -> None:
    parts = urlsplit(HOSTS[name].base_url or "")
    assert parts.scheme == ("http" if name in KEYLESS else "https")
    assert (parts.hostname == "127.0.0.1") == (name in KEYLESS)


@pytest.mark.parametrize("name", HOSTS)
def test_a_host_is_asked_in_its_dialect(server: FaultServer, name: str) -> None:
    with Client(f"{name}/m", api_key=KEY, base_url=server.base_url, retry=None) as client:
        answer = client.stream([Message("developer", "Be brief."), Message("user", "Hi")], max_tokens=9, seed=3)
        assert "".join(piece.text for piece in answer) == "Hi"
    body = server.requests[0].json
    known = {"max_tokens", "max_completion_tokens", "seed", "random_seed"}
    found = {field: value for field, value in body.items() if field in known}
    found["role"] = body["messages"][0]["role"]
    found["asks for usage"] = "stream_options" in body
    assert found == QUIRKS.get(name, COMMON)
    assert answer.completion.usage is not None


def test_a_host_without_an_address_asks_for_one() -> None:
    with pytest.raises(ConfigError, match="`compatible/m` needs `base_url=`"):
        Client("compatible/m", api_key=KEY)


@pytest.mark.parametrize("name", HOSTS)
def test_every_host_is_described(name: str) -> None:
    host = HOSTS[name]
    assert host.about
    assert host.keys == (f"{name.upper()}_API_KEY",)
    assert host.base_urls == (f"{name.upper()}_BASE_URL",)
