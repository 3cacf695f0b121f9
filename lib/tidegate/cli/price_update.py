"""`tidegate models --update-prices`: the one place where price tables come from the network, and only when asked."""

from __future__ import annotations

import datetime as dt
import sys
import time
from urllib.parse import urlsplit

from tidegate.accounting.price_tables import Change, default_address, keep_table
from tidegate.chat.timeline import Trace
from tidegate.cli.answers import print_json
from tidegate.cli.remarks import complain
from tidegate.cli.wrapping import write_line
from tidegate.clock import CancelToken, Deadline
from tidegate.errors import CallError, ConfigError
from tidegate.providers.base import VISIBLE_ASCII
from tidegate.settings import load_settings
from tidegate.transport.base import HttpRequest, Patience
from tidegate.transport.session import SessionTransport, is_loopback
from tidegate.version import USER_AGENT

SECONDS = 60.0
"""How long the fetch may take."""

LARGEST = 64 * 2**20
"""Bytes of a table at most; it has less than two million."""


def update(address: str | None, *, as_json: bool) -> int:
    """Fetch and keep a table; answers the exit code. Raises `ConfigError` for an address that would not do."""
    address = default_address() if address is None else _checked(address)
    try:
        change = keep_table(_fetched(address), dt.datetime.now(tz=dt.UTC))
    except CallError as error:
        return _failed(f"{error.message} ({address})")
    except ConfigError as error:
        return _failed(f"{error} ({address})")
    except OSError as error:
        return _failed(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
    if as_json:
        print_json(change._asdict())
    else:
        write_line(_told(change), sys.stdout)
    return 0


def _told(change: Change) -> str:
    news = [(change.new, "new"), (change.gone, "gone"), (change.changed, "with other prices")]
    said = ", ".join(f"{count:,} {what}" for count, what in news if count) or "nothing has changed"
    whose = f"{change.providers:,} provider{'s' if change.providers != 1 else ''}"
    return f"{change.models:,} models of {whose}: {said}. Kept in {change.file}"


def _failed(problem: str) -> int:
    complain(f"the prices stay as they are: {problem}")
    return 1


def _checked(address: str) -> str:
    try:
        parts = urlsplit(address)
        fits = (
            bool(parts.hostname)
            and parts.port != 0
            and parts.username is None
            and bool(VISIBLE_ASCII.fullmatch(address))
        )
    except ValueError:  # its host or port cannot be read
        fits = False
    if not fits or parts.scheme not in ("http", "https"):
        raise ConfigError("--from: an `https://host/path` address is needed")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ConfigError("--from: prices that came over http could be anybody's: use https")
    return parts._replace(path=parts.path or "/", fragment="").geturl()


def _fetched(address: str) -> bytes:
    settings = load_settings({})
    transport = SessionTransport(ca_bundle=settings.ca_bundle, proxy=settings.proxy)
    request = HttpRequest(
        "GET", address, {"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "gzip"}
    )
    patience = Patience(Deadline.after(SECONDS), CancelToken(), Trace(time.monotonic))
    try:
        response = transport.send(request, patience)
        if response.status == 200:
            return response.read(LARGEST)
        response.close()
        raise CallError(f"the server answered HTTP {response.status}")
    finally:
        transport.close()
