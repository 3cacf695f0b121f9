"""What another library's exception means in the words of this one, without importing that library.

An SDK's error carries the HTTP response, or the error that a stream held, and that says all: it is read by the same
rules as our own calls' are. An error without either is known by the name of its class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidegate.errors import CallError, ConnectionLost, ProviderUnavailable, TLSFailed
from tidegate.providers.refusals import error_from_event, error_from_response

_KINDS: dict[tuple[str, str], type[CallError]] = {
    ("builtins", "ConnectionError"): ConnectionLost,
    ("builtins", "TimeoutError"): ConnectionLost,
    ("ssl", "SSLCertVerificationError"): TLSFailed,
    ("requests", "ConnectionError"): ConnectionLost,
    ("requests", "Timeout"): ConnectionLost,
    ("requests", "ChunkedEncodingError"): ConnectionLost,
    ("requests", "SSLError"): TLSFailed,
    ("urllib3", "TimeoutError"): ConnectionLost,
    ("urllib3", "ProtocolError"): ConnectionLost,
    ("http", "IncompleteRead"): ConnectionLost,
    ("openai", "APIConnectionError"): ConnectionLost,
    ("anthropic", "APIConnectionError"): ConnectionLost,
    ("httpx", "TimeoutException"): ConnectionLost,
    ("httpx", "NetworkError"): ConnectionLost,
    ("httpx", "RemoteProtocolError"): ConnectionLost,
    ("httpx2", "TimeoutException"): ConnectionLost,
    ("httpx2", "NetworkError"): ConnectionLost,
    ("httpx2", "RemoteProtocolError"): ConnectionLost,
}
"""By package and class. Anthropic's and httpx2's are made as openai's and httpx's are."""

_OF_STREAMS = {("openai", "APIError"), ("anthropic", "APIError")}
"""What the official SDKs raise for an error inside a stream, with the error in `body`."""


def as_call_error(error: BaseException, now: float) -> CallError | None:
    """The error itself if it is a `CallError`, else one that says the same, else None: it is not about a call.

    `now` is the time in seconds since 1970, for dates in Retry-After.
    """
    if isinstance(error, CallError):
        return error
    response = getattr(error, "response", None)
    status = getattr(error, "status_code", None) or getattr(response, "status_code", None)
    if isinstance(status, int) and 400 <= status <= 599:
        return error_from_response(status, _headers(response), _body(response), None, now)
    names = [(kind.__module__.partition(".")[0], kind.__name__) for kind in type(error).__mro__]
    body = getattr(error, "body", None)
    if isinstance(body, Mapping) and any(name in _OF_STREAMS for name in names):
        return _from_stream(body)
    found = next((_KINDS[name] for name in names if name in _KINDS), None)
    return None if found is None else found(str(error) or type(error).__name__)


def _headers(response: object) -> dict[str, str]:
    headers = getattr(response, "headers", None)
    return {str(name).lower(): str(value) for name, value in headers.items()} if isinstance(headers, Mapping) else {}


def _body(response: object) -> bytes:
    """What is there of the body. Nothing is read from a connection: that could take any time."""
    if getattr(response, "_content_consumed", True) is False:  # requests', which would read it now
        return b""
    try:
        content: Any = getattr(response, "content", b"")
    except Exception:  # noqa: BLE001 (httpx raises one of its own for a body that was not read)
        return b""
    return content if isinstance(content, bytes) else b""


def _from_stream(body: Mapping[Any, Any]) -> CallError:
    """The error that an event of a stream held."""
    try:
        return error_from_event(dict(body), None)
    except ValueError:  # JSON that cannot be written again, such as a huge integer
        return ProviderUnavailable("the provider reported an error inside its stream")
