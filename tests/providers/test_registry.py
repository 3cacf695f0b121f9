"""Names: whom `provider/model` means, with which key and at which address."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from journeys.asking import KEY, client_of
from support.fault_server import FaultServer, json_reply
from support.openai_wire import completion
from tidegate import Client, ConfigError
from tidegate.options import SecretStr
from tidegate.providers.openai import OpenAIProvider
from tidegate.providers.registry import HOSTS, LOCAL_MODEL, NAMES, Endpoints, default_model, endpoint, split_model


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        running.always(json_reply(completion()))
        yield running


# Names


@pytest.mark.parametrize(
    ("name", "default", "means"),
    [
        ("openai/gpt-4o", None, ("openai", "gpt-4o")),
        ("openrouter/openai/gpt-4o", None, ("openrouter", "openai/gpt-4o")),
        ("together/meta-llama/Llama-3.3-70B", None, ("together", "meta-llama/Llama-3.3-70B")),
        ("ollama/llama3.2:1b", None, ("ollama", "llama3.2:1b")),
        ("groq/x", "openai", ("groq", "x")),
        ("gpt-4o", "openai", ("openai", "gpt-4o")),
        ("meta-llama/Llama-3.3", "together", ("together", "meta-llama/Llama-3.3")),
    ],
)  # fmt: skip
def test_a_name_is_a_provider_and_its_model(name: str, default: str | None, means: tuple[str, str]) -> None:
    assert split_model(name, default) == means


NAMELESS: dict[str, tuple[Any, str]] = {
    "nothing": ("", 'a model is named "provider/model", such as "openai/gpt-4o-mini"'),
    "spaces": ("  ", "a model is named"),
    "a line break": ("openai/gpt\n", "a model is named"),
    "None": (None, "a model is named"),
    "a number": (7, "a model is named"),
    "bytes": (b"openai/gpt-4o", "a model is named"),
    "a list": (["openai/gpt-4o"], "a model is named"),
    "a provider with a letter missing": ("opnai/gpt-4o", "unknown provider `opnai`; did you mean `openai`"),
    "a provider in capitals": ("OpenAI/gpt-4o", "unknown provider `OpenAI`; did you mean `openai`"),
    "a provider with a space": (" openai/gpt-4o", "unknown provider ` openai`; did you mean `openai`"),
    "a provider nobody knows": ("zzzz/gpt-4o", r"unknown provider `zzzz` \(providers: openai, anthropic, "),
    "no provider": ("gpt-4o", "`gpt-4o` names no provider: write `provider/gpt-4o`"),
    "a provider alone": ("openai", "`openai` is a provider: name a model of it, such as `openai/gpt-4o-mini`"),
    "a provider and a slash": ("groq/", "`groq/` names no model: write `groq/…`"),
    "the embedded provider alone": ("local", f"name a model of it, such as `{LOCAL_MODEL}`"),
    "a provider without a default": ("ollama", "such as `ollama/…`"),
    "another embedded model": ("local/gpt-4o", f"the one embedded model is `{LOCAL_MODEL}`"),
}


@pytest.mark.parametrize("what", NAMELESS)
def test_a_name_that_means_nobody_says_so(server: FaultServer, what: str) -> None:
    name, says = NAMELESS[what]
    with pytest.raises(ConfigError, match=says):
        Endpoints(name, environ={"OPENAI_BASE_URL": server.base_url})
    if isinstance(name, str):
        with pytest.raises(ConfigError, match=says):
            Client(name)
    assert server.connections == 0


@pytest.mark.parametrize("name", ["", " ", "openai/", "openai", "x\ny", 7, ["openai/gpt-4o"]], ids=repr)
def test_a_wrong_model_of_a_call_is_refused(server: FaultServer, name: Any) -> None:  # noqa: ANN401
    with client_of(server) as client:
        for ask in (client.complete, client.stream, client.submit):
            with pytest.raises(ConfigError, match="model"):
                ask("Hi", model=name)
    assert server.connections == 0


def test_an_empty_model_is_not_the_default_one() -> None:
    """A variable that was to hold a name and is empty must not ask whoever comes next."""
    with pytest.raises(ConfigError, match="a model is named"):
        Client("")


def test_an_empty_address_is_not_the_providers_own() -> None:
    """What was meant for a proxy of one's own must not go to the public."""
    with pytest.raises(ConfigError, match="`base_url` is empty"):
        Client("openai/gpt-4o", api_key=KEY, base_url="")


# The model when none is named


def test_without_a_name_the_environments_model_is_asked() -> None:
    assert default_model({"TIDEGATE_MODEL": "groq/x", "OPENAI_API_KEY": KEY}) == "groq/x"


@pytest.mark.parametrize("name", [name for name, host in HOSTS.items() if host.default_model])
def test_without_a_name_the_provider_whose_key_is_there_is_asked(name: str) -> None:
    assert default_model({HOSTS[name].keys[0]: KEY}) == f"{name}/{HOSTS[name].default_model}"


def test_of_several_keys_the_first_in_the_table_counts() -> None:
    environ = {host.keys[0]: KEY for host in HOSTS.values()}
    assert default_model(environ) == "openai/gpt-4o-mini"
    assert default_model({**environ, "OPENAI_API_KEY": ""}).startswith("anthropic/")


def test_without_a_key_the_embedded_model_is_asked() -> None:
    assert default_model({}) == LOCAL_MODEL
    assert default_model({"OLLAMA_API_KEY": KEY, "OPENAI_API_KEY": ""}) == LOCAL_MODEL


# Keys and addresses


def account_of(model: str, environ: dict[str, str], **given: Any) -> tuple[str, str | None]:
    provider = endpoint(*split_model(model), environ=environ, **given).provider
    assert isinstance(provider, OpenAIProvider)
    key = provider.account.api_key
    return provider.account.base_url, key.get_secret_value() if key else None


def test_what_is_passed_beats_the_environment_beats_the_table() -> None:
    environ = {"OPENAI_API_KEY": "sk-env", "OPENAI_BASE_URL": "https://env.example.com/v1/"}
    assert account_of("openai/m", {"OPENAI_API_KEY": "sk-env"}) == ("https://api.openai.com/v1", "sk-env")
    assert account_of("openai/m", environ) == ("https://env.example.com/v1", "sk-env")
    assert account_of(
        "openai/m", environ, api_key=SecretStr("sk-given"), base_url="https://given.example.com/v1"
    ) == ("https://given.example.com/v1", "sk-given")  # fmt: skip


def test_an_empty_variable_is_as_good_as_none() -> None:
    environ = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": ""}
    assert account_of("openai/m", environ) == ("https://api.openai.com/v1", KEY)
    with pytest.raises(ConfigError, match="set OPENAI_API_KEY or pass `api_key=`"):
        account_of("openai/m", {"OPENAI_API_KEY": ""})


def test_the_environments_organisation_and_project_are_sent(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-7")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-7")
    with client_of(server) as client:
        client.complete("Hi")
    headers = server.requests[0].headers
    assert (headers["openai-organization"], headers["openai-project"]) == ("org-7", "proj-7")


def test_another_provider_of_the_same_client_has_its_own_key_and_address(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that was passed never reaches a host that it is not for."""
    with FaultServer() as other, client_of(server) as client:
        other.always(json_reply(completion("from Groq")))
        monkeypatch.setenv("GROQ_API_KEY", "gsk-groq-0123456789")
        monkeypatch.setenv("GROQ_BASE_URL", other.base_url)
        assert client.complete("Hi", model="groq/llama").text == "from Groq"
        assert client.complete("Hi").text == "Hello."
        assert other.requests[0].headers["authorization"] == "Bearer gsk-groq-0123456789"
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
        with pytest.raises(ConfigError, match="no key for `mistral`: set MISTRAL_API_KEY"):
            client.complete("Hi", model="mistral/x")


def test_an_endpoint_is_made_once() -> None:
    endpoints = Endpoints("openai/gpt-4o", api_key=SecretStr(KEY), environ={})
    assert endpoints.named(None) is endpoints.named("openai/gpt-4o") is endpoints.main
    assert endpoints.named("gpt-4.1") is endpoints.named("gpt-4.1")
    assert endpoints.provider_of(endpoints.main.route) is endpoints.main.provider


def test_a_route_tells_accounts_apart_and_holds_no_key() -> None:
    routes = [endpoint("openai", "m", api_key=SecretStr(key), environ={}).route for key in ("sk-a", "sk-b", "sk-a")]
    assert routes[0] == routes[2] != routes[1]
    assert "sk-a" not in repr(routes)
    assert str(routes[0]) == "openai/m"


def test_the_embedded_model_takes_no_key_and_no_address() -> None:
    for given in ({"api_key": SecretStr(KEY)}, {"base_url": "http://127.0.0.1:1/v1"}):
        with pytest.raises(ConfigError, match="`local` is embedded"):
            endpoint(*split_model(LOCAL_MODEL), **given)
    assert set(NAMES) == {*HOSTS, "local"}
