"""A price table that was fetched, as it is kept: one JSON file beside the user's own ledger."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from tidegate.accounting.store import data_folder
from tidegate.errors import ConfigError
from tidegate.jsontext import decode, encode

_FORMAT = 1
_UNREAD = frozenset({"extractors", "description", "price_comments", "pricing_urls"})
"""What nobody needs in order to know a price: a good third of a table."""


class Kept(NamedTuple):
    """A table as it was fetched."""

    fetched: str
    """When, as ISO text."""
    beside: str
    """The version of the package that was installed then: a newer one carries a newer table."""
    providers: list[Any]


def file() -> Path:
    """Where it is kept: in the folder where programs keep the user's data."""
    return data_folder() / "prices.json"


def stamp() -> object:
    """What changes when the file does; None when there is none."""
    try:
        found = file().stat()
    except OSError:
        return None
    return str(file()), found.st_mtime_ns, found.st_ino


def load() -> Kept | None:
    """The table that is kept, if any. Raises `ConfigError` for a file that cannot be read."""
    path = file()
    try:
        return _kept(decode(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        problem = str(error) or type(error).__name__
    raise ConfigError(f"the prices kept in {path} cannot be read: {problem}")


def _kept(found: Any) -> Kept:  # noqa: ANN401 (any JSON value)
    if found["format"] != _FORMAT:
        raise ValueError("it was written by another tidegate")
    return Kept(str(found["fetched"]), str(found["beside"]), found["providers"])


def providers_of(body: bytes) -> list[Any]:
    """What a fetched file says. Raises `ConfigError` for one that is no list of providers."""
    try:
        found = decode(body)
    except ValueError as error:
        problem = f"no JSON ({error})"
    else:
        if isinstance(found, list) and all(isinstance(each, dict) for each in found):
            return [_without_what_is_not_read(provider) for provider in found]
        problem = "no list of providers"
    raise ConfigError(f"this is no price table of `genai-prices`: {problem}")


def _without_what_is_not_read(value: Any) -> Any:  # noqa: ANN401 (any JSON value)
    if isinstance(value, dict):
        return {name: _without_what_is_not_read(each) for name, each in value.items() if name not in _UNREAD}
    return [_without_what_is_not_read(each) for each in value] if isinstance(value, list) else value


def save(kept: Kept) -> Path:
    """Write it, for its owner alone, whole or not at all. Raises `OSError`."""
    path = file()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix="prices-", dir=path.parent)  # made 0600
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(encode({"format": _FORMAT, **kept._asdict()}))
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
    return path
