"""What the environment says of each provider: its address, and whether there is a key. Never the key."""

from __future__ import annotations

import os
from dataclasses import dataclass

from tidegate.errors import ConfigError
from tidegate.options import SecretStr
from tidegate.providers.base import Account, checked_base_url
from tidegate.providers.hosts import Host
from tidegate.providers.registry import HOSTS, default_model, split_model
from tidegate.settings import ClientSettings
from tidegate.terminal import Cell
from tidegate.transport.session import is_loopback


@dataclass(frozen=True, slots=True)
class KnownProvider:
    """One provider, as a client without further arguments would find it."""

    name: str
    about: str
    base_url: str | None
    """None when it is given nowhere, or is not fit to be used (or shown)."""
    key_variable: str | None
    """The environment's name of its key: the one that is set, else the usual one; None for one that has no key."""
    key_set: bool
    key_required: bool
    default_model: str | None
    configured: bool
    """Whether a key or an address was set for it: then somebody counts on it."""
    problem: str | None
    """What is wrong with the address or the key that is set."""

    @property
    def on_this_machine(self) -> bool:
        """Whether its address is one of this machine."""
        return self.base_url is not None and is_loopback(_host_of(self.base_url))


def known_providers(settings: ClientSettings) -> list[KnownProvider]:
    """Every provider of the table, in its order."""
    own, _ = split_model(settings.model or default_model())
    return [_known(name, host, settings if name == own else None, settings.allow_http) for name, host in HOSTS.items()]


def _known(name: str, host: Host, own: ClientSettings | None, allow_http: bool) -> KnownProvider:  # noqa: FBT001
    """`own` has the settings that are for the provider of the default model alone."""
    set_key = _first_set(host.keys)
    variable, key = set_key or (host.keys[0] if host.keys else None, "")
    set_address = (_first_set(host.base_urls) or ("", None))[1]
    if own is not None:
        if own.api_key is not None:
            variable, key = "TIDEGATE_API_KEY", own.api_key.get_secret_value()
        set_address = own.base_url or set_address
    url, problem = _checked(name, set_address or host.base_url, key, allow_http=allow_http)
    return KnownProvider(
        name=name,
        about=host.about,
        base_url=url,
        key_variable=variable,
        key_set=bool(key),
        key_required=host.key_required,
        default_model=host.default_model,
        configured=bool(key or set_address),
        problem=problem,
    )


def _checked(name: str, address: str | None, key: str, *, allow_http: bool) -> tuple[str | None, str | None]:
    """The address when it may be used, and what is wrong."""
    if address is None:
        return None, None
    try:
        address = checked_base_url(address, allow_http=allow_http)
    except ConfigError as error:
        return None, str(error)
    try:
        Account(name, address, SecretStr(key) if key else None)
    except ConfigError as error:
        return address, str(error)
    return address, None


def _first_set(names: tuple[str, ...]) -> tuple[str, str] | None:
    return next(((name, os.environ[name]) for name in names if os.environ.get(name)), None)


def _host_of(url: str) -> str:
    return url.split("/")[2].rsplit(":", 1)[0].strip("[]")


NO_KEY = Cell("  none needed")


def key_cell(provider: KnownProvider) -> Cell:
    """Which variable has the key, and whether it is set."""
    if provider.key_set:
        return Cell(f"✓ {provider.key_variable}", "green")
    return Cell(f"- {provider.key_variable}", "dim") if provider.key_required else NO_KEY
