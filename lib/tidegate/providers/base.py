"""What the corridor asks of a provider, and what all of them share: their address, their key, their headers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from tidegate.chat.reply import Completion
from tidegate.chat.request import ChatRequest
from tidegate.errors import CallError, ConfigError
from tidegate.options import SecretStr
from tidegate.transport.base import HttpRequest
from tidegate.transport.session import is_loopback

VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")

_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?")
"""A host's name or number. With anything else in it, such as a backslash, libraries differ on where a host ends."""


class Delta(NamedTuple):
    """What one event of a stream brought for the reader."""

    text: str = ""
    reasoning: str = ""
    finish_reason: str | None = None
    content: bool = False
    """Whether this is part of the answer (a piece of a tool call is, a ping is not)."""


class StreamDecoder(Protocol):
    """Reads the events of one stream. Not shared by threads."""

    finished: bool
    """A finish reason or terminator has come: the answer is whole."""
    settled: bool
    """Nothing that matters is still to come."""

    def feed(self, event: str, data: str) -> Delta | None:
        """One event. Raises a `CallError` for an event that cannot be read or that is an error."""
        ...

    def completion(self) -> Completion:
        """The answer so far."""
        ...


class Provider(Protocol):
    """One provider at one address with one key. Shared by threads, so it keeps no state of a call."""

    @property
    def name(self) -> str:
        """As it stands before the slash of a model's name."""
        ...

    def ready(self, seconds: float) -> None:
        """Be able to serve. Raises `TimeoutError` when that takes longer than `seconds`, `ConfigError` when it fails.

        Only a provider that starts something of its own has anything to do here.
        """
        ...

    def encode(self, request: ChatRequest, model: str, *, streamed: bool) -> HttpRequest:
        """The request on the wire. Raises `ConfigError` for what this provider cannot say."""
        ...

    def decode(self, body: bytes, model: str) -> Completion:
        """The answer in a 2xx body. Raises a `CallError`: a body may be broken, or an error in disguise."""
        ...

    def stream_decoder(self, model: str) -> StreamDecoder:
        """A new decoder for one stream."""
        ...

    def request_id(self, headers: Mapping[str, str]) -> str | None:
        """The provider's id of the request, from a response's headers; None for one that repeats the key."""
        ...

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes, now: float) -> CallError:
        """What a response that is no 2xx means. `now` is in seconds since 1970 (for dates in headers)."""
        ...


@dataclass(frozen=True)
class Account:
    """Where a provider is and who asks: checked once, so that a request needs no further checks."""

    provider: str
    base_url: str
    api_key: SecretStr | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Further headers for every request, such as an organisation's id."""

    def __post_init__(self) -> None:
        if self.api_key is not None and not VISIBLE_ASCII.fullmatch(self.api_key.get_secret_value()):
            raise ConfigError(
                f"the API key for `{self.provider}` holds spaces, line breaks or characters that no key has "
                "(it is not shown here): check how it was pasted or read"
            )
        for name, value in self.headers.items():
            if not isinstance(value, str) or not value.isprintable() or not value.isascii():
                raise ConfigError(f"the header `{name}` for `{self.provider}` has a line break or an odd character")

    @property
    def key_id(self) -> str:
        """A short fingerprint of the key: tells accounts apart, tells nothing of the key."""
        if self.api_key is None:
            return ""
        return hashlib.sha256(b"tidegate:" + self.api_key.get_secret_value().encode()).hexdigest()[:12]


def checked_base_url(url: str, *, allow_http: bool = False) -> str:
    """The base URL without a trailing slash. Raises `ConfigError` for one that would leak the key or cannot work."""
    if not isinstance(url, str) or not VISIBLE_ASCII.fullmatch(url):
        raise ConfigError("`base_url` is empty, or holds spaces or odd characters")
    problem = _problem_with(url, allow_http=allow_http)
    if problem:
        raise ConfigError(f"`base_url` {problem}")
    return urlsplit(url).geturl().rstrip("/")  # its scheme in lower case


def _problem_with(url: str, *, allow_http: bool) -> str | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is no address: its host or port cannot be read"
    if parts.username is not None or parts.password is not None:
        return "holds a user name or password: pass the key as `api_key=` (nothing of the address is shown here)"
    if parts.scheme not in ("http", "https") or not _HOST.fullmatch(parts.hostname or "") or port == 0:
        return "is not an `https://host/path` address"
    if "?" in url or "#" in url:
        return "has a `?` or `#`: it is the part of the address before the API's own paths"
    if parts.scheme == "http" and not allow_http and not is_loopback(parts.hostname or ""):
        return f"(`http://{parts.hostname}`) would send the key in clear text: use https, or say `allow_http=True`"
    return None
