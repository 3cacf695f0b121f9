"""From a name such as `openai/gpt-4o-mini` to whom it means: the one table of all providers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from tidegate.errors import ConfigError, nearest
from tidegate.options import SecretStr
from tidegate.pipeline.call import Route
from tidegate.providers import embedded, local
from tidegate.providers.anthropic import AnthropicProvider
from tidegate.providers.azure import API_VERSION, AzureProvider
from tidegate.providers.base import Account, Provider, checked_base_url
from tidegate.providers.cohere import CohereProvider
from tidegate.providers.compatible import COMPATIBLE, OPENAI, speaking
from tidegate.providers.gemini import GeminiProvider
from tidegate.providers.hosts import Host
from tidegate.providers.responses import ResponsesProvider
from tidegate.transport.session import is_loopback


def _azure(account: Account, environ: Mapping[str, str]) -> Provider:
    return AzureProvider(account, OPENAI, api_version=environ.get("OPENAI_API_VERSION") or API_VERSION)


_OPENAI_HEADERS = (("OpenAI-Organization", "OPENAI_ORG_ID"), ("OpenAI-Project", "OPENAI_PROJECT_ID"))

HOSTS: dict[str, Host] = {
    "openai": Host(
        "https://api.openai.com/v1",
        ("OPENAI_API_KEY",),
        ("OPENAI_BASE_URL",),
        speaking(OPENAI),
        "gpt-4o-mini",
        about="OpenAI",
        headers=_OPENAI_HEADERS,
    ),
    "anthropic": Host(
        "https://api.anthropic.com",
        ("ANTHROPIC_API_KEY",),
        ("ANTHROPIC_BASE_URL",),
        lambda account, _: AnthropicProvider(account),
        "claude-haiku-4-5",
        about="Anthropic",
    ),
    "gemini": Host(
        "https://generativelanguage.googleapis.com",
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        ("GEMINI_BASE_URL", "GOOGLE_GEMINI_BASE_URL"),
        lambda account, _: GeminiProvider(account),
        "gemini-2.5-flash",
        about="Google Gemini",
    ),
    "cohere": Host(
        "https://api.cohere.com",
        ("CO_API_KEY", "COHERE_API_KEY"),
        ("CO_API_URL", "COHERE_BASE_URL"),
        lambda account, _: CohereProvider(account),
        "command-a-03-2025",
        about="Cohere",
    ),
    "azure": Host(
        None,
        ("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN"),
        ("AZURE_OPENAI_ENDPOINT",),
        _azure,
        about="Azure OpenAI",
    ),
    "openai-responses": Host(
        "https://api.openai.com/v1",
        ("OPENAI_API_KEY",),
        ("OPENAI_BASE_URL",),
        lambda account, _: ResponsesProvider(account),
        about="OpenAI, by its Responses API",
        headers=_OPENAI_HEADERS,
    ),
    **COMPATIBLE,
}
"""Every provider but the embedded model."""

NAMES: tuple[str, ...] = (*HOSTS, local.NAME)
LOCAL_MODEL = f"{local.NAME}/{embedded.MODEL_NAME}"


class Endpoint(NamedTuple):
    """A route and who serves it."""

    route: Route
    provider: Provider


def split_model(name: str, default_provider: str | None = None) -> tuple[str, str]:
    """`provider/model` as its two parts. A name without a known provider belongs to `default_provider`.

    Raises `ConfigError` when nothing says which provider is meant.
    """
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise ConfigError('a model is named "provider/model", such as "openai/gpt-4o-mini"')
    provider, slash, model = name.partition("/")
    if slash and provider in NAMES:
        if not model:
            raise ConfigError(f"`{name}` names no model: write `{provider}/…`")
        return provider, model
    if name in NAMES:
        raise ConfigError(f"`{name}` is a provider: name a model of it, such as `{_example(name)}`")
    if default_provider is not None:
        return default_provider, name
    if not slash:
        raise ConfigError(f"`{name}` names no provider: write `provider/{name}` (providers: {', '.join(NAMES)})")
    raise ConfigError(f"unknown provider `{provider}`{nearest(provider, NAMES)} (providers: {', '.join(NAMES)})")


def _example(provider: str) -> str:
    if provider == local.NAME:
        return LOCAL_MODEL
    return f"{provider}/{HOSTS[provider].default_model or '…'}"


def default_model(environ: Mapping[str, str] = os.environ) -> str:
    """TIDEGATE_MODEL, else the first provider whose key is in the environment, else the embedded model."""
    named = environ.get("TIDEGATE_MODEL")
    if named:
        return named
    for name, host in HOSTS.items():
        if host.default_model is not None and _first(environ, host.keys):
            return f"{name}/{host.default_model}"
    return LOCAL_MODEL


def endpoint(
    provider: str,
    model: str,
    *,
    api_key: SecretStr | None = None,
    base_url: str | None = None,
    allow_http: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> Endpoint:
    """Whom `provider` and `model` mean: what was passed, else what the environment says, else the host's own address.

    Raises `ConfigError` for an unknown provider, a missing or broken key, or an address that would not do.
    """
    if provider == local.NAME:
        if api_key is not None or base_url is not None:
            raise ConfigError(
                "`local` is embedded: it takes no `api_key` and no `base_url` (a server of yours: `llamacpp/…`)"
            )
        return Endpoint(Route(local.NAME, local.checked_model(model)), local.LocalProvider())
    host = HOSTS[provider]
    address = (_first(environ, host.base_urls) or host.base_url) if base_url is None else base_url
    if address is None:
        raise ConfigError(f"`{provider}/{model}` needs `base_url=`: the address of the host's API, often ending in /v1")
    address = checked_base_url(address, allow_http=allow_http)
    account = Account(provider, address, _key(provider, host, address, api_key, environ), _headers(host, environ))
    return Endpoint(Route(provider, model, address, account.key_id), host.speak(account, environ))


def _key(
    provider: str, host: Host, address: str, api_key: SecretStr | None, environ: Mapping[str, str]
) -> SecretStr | None:
    """The key that was passed, else the environment's. A server on this machine may do without."""
    if api_key is not None:
        return api_key
    found = _first(environ, host.keys)
    if found:
        return SecretStr(found)
    if host.key_required and not is_loopback(urlsplit(address).hostname or ""):
        raise ConfigError(f"no key for `{provider}`: set {host.keys[0]} or pass `api_key=`")
    return None


def _headers(host: Host, environ: Mapping[str, str]) -> dict[str, str]:
    return {header: environ[name] for header, name in host.headers if environ.get(name)}


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((environ[name] for name in names if environ.get(name)), None)


class Endpoints:
    """The endpoints of one client, made once each. Shared by threads.

    `api_key` and `base_url` belong to the provider of the client's own model; any other provider has the
    environment's, so that no key ever reaches a host that it is not for.
    """

    def __init__(
        self,
        model: str,
        *,
        api_key: SecretStr | None = None,
        base_url: str | None = None,
        allow_http: bool = False,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._provider, _ = split_model(model)
        self._api_key = api_key
        self._base_url = base_url
        self._allow_http = allow_http
        self._environ = environ
        self._by_name: dict[str, Endpoint] = {}
        self._by_route: dict[Route, Provider] = {}
        self.main = self.named(model)

    def named(self, name: str | None) -> Endpoint:
        """The endpoint of `provider/model`, or of a model of the client's own provider; None is the client's own."""
        if name is None:
            return self.main
        found = self._by_name.get(name) if isinstance(name, str) else None
        if found is None:
            provider, model = split_model(name, self._provider)
            own = provider == self._provider
            found = endpoint(
                provider,
                model,
                api_key=self._api_key if own else None,
                base_url=self._base_url if own else None,
                allow_http=self._allow_http,
                environ=self._environ,
            )
            self._by_name[name] = found
            self._by_route[found.route] = found.provider
        return found

    def provider_of(self, route: Route) -> Provider:
        """Who serves a route that `named` has answered."""
        return self._by_route[route]
