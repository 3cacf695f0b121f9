"""What a provider's "no" means: by its type where it has one, by its HTTP status otherwise.

The types are those that the providers' API references list under errors (OpenAI, Anthropic, Azure OpenAI) and those
that llama.cpp's server sends.
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any
from urllib.parse import urlsplit

from tidegate import jsontext
from tidegate.errors import (
    AuthenticationFailed,
    BadRequest,
    CallError,
    Conflict,
    ContentFiltered,
    ContextLengthExceeded,
    ModelNotFound,
    Overloaded,
    PayloadTooLarge,
    PermissionDenied,
    ProviderUnavailable,
    QuotaExhausted,
    RateLimited,
)
from tidegate.options import SecretStr

RETRY_AFTER_LIMIT = 86_400.0
"""Seconds. Whatever a server asks for, a day is the longest that it is believed."""

_DECISIVE: dict[str, type[CallError]] = {
    "insufficient_quota": QuotaExhausted,
    "billing_hard_limit_reached": QuotaExhausted,
    "billing_not_active": QuotaExhausted,
    "billing_error": QuotaExhausted,
    "enforced_spend_limit_reached": QuotaExhausted,
    "contract_spend_limit_reached": QuotaExhausted,
    "context_length_exceeded": ContextLengthExceeded,
    "exceed_context_size_error": ContextLengthExceeded,
    "content_filter": ContentFiltered,
    "content_policy_violation": ContentFiltered,
    "responsibleaipolicyviolation": ContentFiltered,
    "overloaded_error": Overloaded,
    "model_not_found": ModelNotFound,
}
"""These types mean the same whatever the status."""

_WITHOUT_STATUS: dict[str, type[CallError]] = {
    "rate_limit_error": RateLimited,
    "rate_limit_exceeded": RateLimited,
    "overloaded": Overloaded,
    "server_overloaded": Overloaded,
    "unavailable_error": Overloaded,
    "server_error": ProviderUnavailable,
    "api_error": ProviderUnavailable,
    "internal_error": ProviderUnavailable,
    "internal_server_error": ProviderUnavailable,
    "timeout_error": ProviderUnavailable,
    "authentication_error": AuthenticationFailed,
    "invalid_api_key": AuthenticationFailed,
    "permission_error": PermissionDenied,
    "not_found_error": ModelNotFound,
    "request_too_large": PayloadTooLarge,
    "invalid_request_error": BadRequest,
}
"""What an error inside a 200 means."""

_BY_STATUS: dict[int, type[CallError]] = {
    401: AuthenticationFailed,
    402: QuotaExhausted,
    403: PermissionDenied,
    404: ModelNotFound,
    408: ProviderUnavailable,
    409: Conflict,
    413: PayloadTooLarge,
    429: RateLimited,
    498: AuthenticationFailed,
    503: Overloaded,
    529: Overloaded,
}

_NEVER_RETRIED = frozenset({400, 401, 402, 403, 404, 413, 422})

_FIXED = (QuotaExhausted, ContentFiltered, ContextLengthExceeded, ModelNotFound)
"""Refusals that stay what they are, whatever the status and the headers say."""

_REQUEST_IDS = ("x-request-id", "request-id", "x-correlation-id", "apim-request-id", "x-debug-trace-id", "cf-ray")


Wording = Sequence[tuple[str, type[CallError]]]
"""Words of a provider's messages, in lower case, and what they mean where its types and its status say less."""


def error_from_response(
    status: int, headers: Mapping[str, str], body: bytes, key: SecretStr | None, now: float, *, wordings: Wording = ()
) -> CallError:
    """The error that a response with this status means. `now`: seconds since 1970, for dates in Retry-After."""
    text = readable(body, key)
    types, message = _read_error(text)
    kind = _kind(types, status, message, wordings)
    error = kind(
        message or _no_message(status, headers, text, key),
        status=status,
        request_id=request_id(headers, key),
        retry_after=retry_after(headers, now),
        code=next(iter(types), None),
        body=text,
    )
    if 300 <= status < 400:
        error.hint = (
            "Redirects are not followed, for they would carry the key elsewhere: set `base_url` to the new address."
        )
    _obey_should_retry(error, status, headers)
    return error


def error_from_event(error: object, key: SecretStr | None, wordings: Wording = ()) -> CallError:
    """The error that an `error` object inside a 200 means, in a body or in an event of a stream."""
    text = readable(jsontext.encode(error), key)
    types, message = _read_error(text)
    code = error.get("code") if isinstance(error, Mapping) else None
    status = code if isinstance(code, int) and 400 <= code <= 599 else 200
    kind = _kind(types, status, message, wordings)
    return kind(message or "the provider reported an error inside its answer", code=next(iter(types), None), body=text)


def request_id(headers: Mapping[str, str], key: SecretStr | None) -> str | None:
    """The provider's id of the request, whatever its name; cut to a sane length. None for one that repeats the key."""
    found = next((headers[name] for name in _REQUEST_IDS if headers.get(name)), None)
    if not found or not found.isprintable() or (key is not None and key.get_secret_value() in found):
        return None
    return found[:128]


def _kind(types: list[str], status: int, message: str, wordings: Wording) -> type[CallError]:
    for name in types:
        if name in _DECISIVE:
            return _DECISIVE[name]
    said = message.lower()
    for words, kind in wordings:
        if words in said and status < 500:
            return kind
    if status < 300:
        return next((_WITHOUT_STATUS[name] for name in types if name in _WITHOUT_STATUS), ProviderUnavailable)
    return _BY_STATUS.get(status) or (ProviderUnavailable if status >= 500 else BadRequest)


def _read_error(text: str) -> tuple[list[str], str]:
    """The types and codes that an error body names, lower case, and its message in one line."""
    try:
        body = jsontext.decode(text)
    except ValueError:
        return [], ""
    if not isinstance(body, Mapping):
        return [], _line(body)
    inner = body.get("error", body)
    if not isinstance(inner, Mapping):
        return [], _line(inner)
    deeper = inner.get("innererror")
    sources = [inner, deeper] if isinstance(deeper, Mapping) else [inner]
    named = [source.get(key) for source in sources for key in ("code", "type", "status")]
    message = inner.get("message") or inner.get("detail") or body.get("message") or ""
    return [name.lower()[:128] for name in named if isinstance(name, str)], _line(message)


def _line(message: Any) -> str:  # noqa: ANN401 (any JSON value)
    text = " ".join(str(message).split())
    return (text[:497] + "…" if len(text) > 498 else text).rstrip(".")


def _no_message(status: int, headers: Mapping[str, str], text: str, key: SecretStr | None) -> str:
    if 300 <= status < 400:
        return f"the provider answered with a redirect{_redirected_to(headers, key)}"
    if "html" in headers.get("content-type", "").lower() or text.lstrip()[:1] == "<":
        return "the provider answered with a web page instead of JSON"
    return "the provider gave no reason" if text.strip() else "the provider answered with an empty body"


def _redirected_to(headers: Mapping[str, str], key: SecretStr | None) -> str:
    """Where a redirect points, in words; without user, query and fragment, where secrets stand."""
    location = redacted(headers.get("location", ""), key)
    try:
        parts = urlsplit(location)
    except ValueError:
        return ""
    address = f"{parts.scheme}://" if parts.scheme else "//"
    place = (f"{address}{parts.netloc.rpartition('@')[2]}" if parts.netloc else "") + parts.path
    return f" to `{place[:200]}`" if place and place.isprintable() else ""


READ_LIMIT = 64 * 1024
"""Bytes of a body that are searched for a reason, and for what must not be shown."""


def readable(body: bytes, key: SecretStr | None) -> str:
    """What an error may show of a body: text, without the key."""
    return redacted(body[:READ_LIMIT].decode("utf-8", "replace"), key)


def redacted(text: str, key: SecretStr | None) -> str:
    """`text` without the key, should a provider repeat it, and without anything else that looks like one.

    Cut a text after this, not before: half a key is not found. One that the end of `text` cuts off is.
    """
    secret = key.get_secret_value() if key is not None else ""
    if len(secret) >= 6:
        text = re.sub("".join(map(_as_in_json, secret)), "[key]", text)
        text = _without_cut_off(secret, text)
    return _KEYS.sub("[key]", text)


def _as_in_json(character: str) -> str:
    """A pattern of a key's character in plain text and in JSON, which may escape all but letters and digits."""
    plain = re.escape(character)
    return plain if character.isalnum() else rf"(?:\\?{plain}|(?i:\\u{ord(character):04x}))"


def _without_cut_off(secret: str, text: str) -> str:
    """`text` without the beginning of the secret (of four characters or more) with which it ends."""
    for start in range(max(0, len(text) - 6 * len(secret)), len(text) - 3):
        if text[start] in (secret[0], "\\") and secret.startswith(_unescaped(text[start:])):
            return f"{text[:start]}[key]"
    return text


def _unescaped(text: str) -> str:
    """`text` as JSON means it. An escape that is cut off means nothing."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else found[2] or "", text)


_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|u[0-9a-fA-F]{0,3}$|([^u]|$))")


_KEYS = re.compile(
    r"\b(?:sk|gsk|xai|pk|rk)-[A-Za-z0-9_-]{16,256}|\bAIza[A-Za-z0-9_-]{30,64}|\bBearer [A-Za-z0-9._~+/=-]{16,512}"
)

_DECIMAL = re.compile(r"[+-]?[0-9]{1,200}(\.[0-9]{0,200})?([eE][+-]?[0-9]{1,3})?", re.ASCII)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait by `retry-after-ms` (milliseconds) or `Retry-After` (seconds or an HTTP date, RFC 9110 10.2.3).

    Negative waits and dates gone by are 0; a header sent twice counts with its longer wait; what cannot be read is as
    good as absent, and nothing is longer than `RETRY_AFTER_LIMIT`.
    """
    milliseconds = _longest(headers.get("retry-after-ms"), now, scale=0.001)
    return milliseconds if milliseconds is not None else _longest(headers.get("retry-after"), now, scale=1.0)


def _longest(value: str | None, now: float, *, scale: float) -> float | None:
    if not value or len(value) > 200:
        return None
    date = _date(value, now)
    if date is not None:
        return date
    waits = [wait for part in value.split(",") if (wait := _number(part.strip(), scale)) is not None]
    return max(waits, default=None)


def _number(text: str, scale: float) -> float | None:
    if not _DECIMAL.fullmatch(text):
        return None
    return min(max(0.0, float(text) * scale), RETRY_AFTER_LIMIT)  # infinite, when it is too large for a float


def _date(text: str, now: float) -> float | None:
    if not text[:3].isalpha():
        return None
    try:
        moment = email.utils.parsedate_to_datetime(text)
        if moment.tzinfo is None:  # asctime's form, and `-0000`: an HTTP date is UTC all the same (RFC 9110 5.6.7)
            moment = moment.replace(tzinfo=UTC)
        return min(max(0.0, moment.timestamp() - now), RETRY_AFTER_LIMIT)
    except (ValueError, OverflowError, TypeError):
        return None


def _obey_should_retry(error: CallError, status: int, headers: Mapping[str, str]) -> None:
    """`x-should-retry`, which the official SDKs obey. It cannot make a refusal retryable that names a fixed cause."""
    wish = headers.get("x-should-retry", "").strip().lower()
    if wish == "false":
        error.retryable = False
    elif wish == "true" and status not in _NEVER_RETRIED and not isinstance(error, _FIXED):
        error.retryable = True
