"""What a client can be told, and where from: an argument, else the environment, else a file, else the default."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from tidegate.accounting.ledger import Durability
from tidegate.accounting.prices import Price
from tidegate.circuit import Breaker
from tidegate.dispatch import Timeouts
from tidegate.errors import ConfigError, nearest
from tidegate.options import Count, HiddenText, Options, Seconds, SecretStr
from tidegate.policies.admission import Limits
from tidegate.policies.budget import DEFAULT_MAX_TOKENS
from tidegate.policies.budget_options import Budget
from tidegate.policies.hedge import Hedge
from tidegate.policies.retry import Retry

PREFIX = "TIDEGATE_"

USERS_OWN = "user"
"""As `ledger`: the one in the user's data folder."""


class ClientSettings(Options):
    """Everything a `Client` is made of, checked.

    Each field may stand in the environment as `TIDEGATE_<FIELD>`, a field of a field as `TIDEGATE_<FIELD>__<FIELD>`,
    such as `TIDEGATE_RETRY__ATTEMPTS=2`.
    """

    spoken_name: ClassVar[str | None] = "Client"

    model: str | None = None
    api_key: SecretStr | None = None
    base_url: str | None = None
    timeout: Seconds | None = 60.0
    timeouts: Timeouts = Timeouts()
    retry: Retry | None = Retry()
    limits: Limits | None = None
    fallbacks: tuple[str, ...] = ()
    breaker: Breaker | None = Breaker()
    hedge: Hedge | None = None
    ledger: HiddenText = USERS_OWN
    budgets: tuple[Budget, ...] | None = None
    prices: Mapping[str, Price] = {}
    tz: str | None = None
    durability: Durability = "call"
    default_max_tokens: Count = DEFAULT_MAX_TOKENS
    workers: Count | None = None
    allow_http: bool = False
    ca_bundle: str | None = None
    proxy: HiddenText = "env"


def load_settings(
    arguments: Mapping[str, Any],
    *,
    file: str | os.PathLike[str] | None = None,
    profile: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> ClientSettings:
    """Put the sources together and check the result once. Raises `ConfigError` naming the field and its source."""
    sources = {
        f"in the file `{file}`": _from_file(file, profile),
        f"in the environment, as `{PREFIX}…`": _from_environment(environ),
        "": arguments,
    }
    merged: dict[str, Any] = {}
    for place, source in sources.items():
        _check(source, place)
        for name, value in source.items():
            merged[name] = _over(merged.get(name), value)
    settings = ClientSettings(**merged)
    for wrong, problem in _contradictions(settings):
        if wrong:
            raise ConfigError(problem)
    return settings


def _contradictions(settings: ClientSettings) -> Iterator[tuple[bool, str]]:
    """Options that are right one by one, and cannot all be meant: looked at when the sources are together."""
    retry, limits = settings.retry, settings.limits
    if retry is not None:
        yield (
            retry.first > retry.longest,
            f"`Retry(first=…)`: {retry.first:g} s are more than `longest`, {retry.longest:g} s",
        )
    if limits is not None:
        yield (
            limits.store is not None and not limits.by_unit,
            "`Limits(store=…)`: there is nothing to share; set `rpm`, `tpm`, `itpm` or `otpm` too",
        )
        for name, part in (("itpm", limits.itpm), ("otpm", limits.otpm)):
            yield (
                part is not None and limits.tpm is not None and part > limits.tpm,
                f"`Limits({name}=…)`: it is part of `tpm`, and cannot be more",
            )

    yield (
        bool(settings.budgets) and settings.ledger is None,
        "`Client(budgets=…)`: a budget needs a ledger, and `ledger=None` switches it off",
    )


def _check(source: Mapping[str, Any], place: str) -> None:
    """Refuse what is wrong in one source, and say which: all together, nobody could tell whose it was."""
    try:
        ClientSettings(**source)
    except ConfigError as error:
        problem = f"{error} ({place})" if place else str(error)
    else:
        return
    raise ConfigError(problem)


def _over(known: object, value: object) -> object:
    """`value` instead of what is known; two tables are merged field by field."""
    return {**known, **value} if isinstance(known, dict) and isinstance(value, Mapping) else value


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, field in ClientSettings.model_fields.items():
        value = environ.get(PREFIX + name.upper())
        if value:
            found[name] = None if value.lower() in ("none", "off") else value
        nested = _options_class(field.annotation)
        for inner in nested.model_fields if nested else ():
            value = environ.get(f"{PREFIX}{name.upper()}__{inner.upper()}")
            if value:
                found.setdefault(name, {})[inner] = None if value.lower() in ("none", "off") else value
    return found


def _options_class(annotation: Any) -> type[Options] | None:  # noqa: ANN401 (a type form)
    kinds = (annotation, *getattr(annotation, "__args__", ()))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Options)), None)


def _from_file(file: str | os.PathLike[str] | None, profile: str | None) -> dict[str, Any]:
    if file is None:
        return {}
    path = Path(file)
    try:
        with path.open("rb") as stream:
            table = tomllib.load(stream)
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problem = f"is no TOML: {error}"
    else:
        return _with_profile(table, path, profile)
    raise ConfigError(f"the file `{path}` {problem}")


def _with_profile(table: dict[str, Any], path: Path, profile: str | None) -> dict[str, Any]:
    """The file's own fields, and over them those of `[profiles.<name>]`."""
    profiles = table.pop("profiles", {})
    if profile is None:
        return table
    if not isinstance(profiles, dict) or not isinstance(profiles.get(profile), dict):
        raise ConfigError(f"`{path}` has no `[profiles.{profile}]`{nearest(profile, profiles)}")
    chosen: dict[str, Any] = profiles[profile]
    return {**table, **{name: _over(table.get(name), value) for name, value in chosen.items()}}
