"""Everything tidegate raises.

::

    TidegateError
    ├── ConfigError (also ValueError)     your input is wrong; nothing was sent
    │   └── LedgerUnusable                a ledger's address, file or database cannot be used
    ├── StreamUnfinished                  `stream.completion` was read before the stream had ended
    ├── ParseError (also ValueError)      no value could be read in a text, or none that fits what was asked for
    └── CallError                         one call went wrong; carries which call, and what is known of it
        ├── DeadlineExceeded (also TimeoutError)   the call's own time ran out
        ├── Cancelled                     cancelled or closed by you
        ├── RequestTooLarge               needs more than its limits ever allow; nothing was sent
        ├── CircuitOpen                   its route has failed too often; nothing was sent
        ├── BudgetExceeded                it may cost more than a budget has left; nothing was sent
        ├── BudgetUnknown                 no budget can tell: no price, or no ledger; nothing was sent
        ├── AllRoutesFailed               no fallback could answer either; see `failures`
        ├── StreamInterrupted             the answer broke off after you had seen some; see `partial`
        ├── TransportError                no whole answer arrived
        │   ├── ConnectFailed             the provider could not be reached
        │   ├── TLSFailed                 its certificate or handshake was refused
        │   ├── ConnectionLost            the connection broke before the answer was whole
        │   ├── FirstTokenTimeout         the stream's first token did not come in time
        │   ├── IdleTimeout               the stream went silent (keep-alives do not count)
        │   └── ResponseTooLarge          the answer passed a size cap
        ├── ProtocolError                 an answer arrived, and is not what the provider promises
        │   ├── MalformedResponse         its body cannot be read
        │   ├── MalformedEvent            one event of its stream cannot be read
        │   └── TruncatedStream           its stream ended before the answer did
        └── ProviderError                 the provider said no
            ├── BadRequest                400, 405, 422 …: it does not accept this request
            │   ├── ContextLengthExceeded     the conversation does not fit the model
            │   ├── ContentFiltered           refused by the provider's content policy
            │   ├── PayloadTooLarge           413
            │   └── ModelNotFound             404
            ├── AuthenticationFailed      401, or Cohere's 498
            ├── PermissionDenied          403
            ├── QuotaExhausted            402, or a 429 that means "pay first"
            ├── RateLimited               429
            ├── Conflict                  409
            └── ProviderUnavailable       408, 5xx
                └── Overloaded            503, 529

Whether a failure may be retried and whether it is the provider's fault live on the class (`retryable`,
`blames_provider`), so no other file looks at status codes again. `LedgerWarning` and `BudgetWarning` are no errors:
they are told with `warnings.warn` where a call goes on.
"""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, ClassVar, Self

from tidegate.attempts import Attempt

BODY_LIMIT = 8 * 1024
"""Characters of a provider's error body that an error keeps."""


class TidegateError(Exception):
    """The root of every error that tidegate raises on purpose."""


class ConfigError(TidegateError, ValueError):
    """An argument, a setting or a file is wrong. Nothing was sent and nothing was spent."""


class LedgerUnusable(ConfigError):
    """A ledger's address, file or database cannot be used. It was left as it was."""


class LedgerWarning(UserWarning):
    """The ledger could not be written. The answer that was paid for is there all the same."""


class BudgetWarning(UserWarning):
    """A call goes on although a budget is used up or cannot be looked at, because the budget says so."""


class StreamUnfinished(TidegateError):
    """`stream.completion` is known only after the last chunk, or after `close()`."""


class ParseError(TidegateError, ValueError):
    """No value could be read in a text, or none that fits what was asked for; the message has what each strategy said.

    `texts` are the answers that were read, in order: one of `parsing.parse`, one of each attempt of `Client.parse`.
    They are not in the message, which may be logged.
    """

    def __init__(self, message: str, *, texts: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.texts = tuple(texts)


class CallError(TidegateError):
    """One call went wrong. Attributes that nobody knows are None.

    `retryable` says whether sending the same request again can help; an instance may narrow its class (a provider
    may forbid a retry in a header). `blames_provider` says whether the failure counts against the provider's health.
    """

    retryable: bool = False
    blames_provider: ClassVar[bool] = False
    may_be_billed: ClassVar[bool] = False
    """Whether the provider may have answered all the same, if the request had left."""
    hint: str = ""
    """What the user can do about it."""

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        model: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        code: str | None = None,
        body: str | None = None,
        partial: str = "",
        attempts: tuple[Attempt, ...] = (),
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.provider = provider
        """The provider's name, such as `openai`."""
        self.model = model
        """The model that was asked."""
        self.status = status
        """HTTP status, when a response arrived."""
        self.request_id = request_id
        """The provider's id of the request: quote it to their support."""
        self.retry_after = retry_after
        """Seconds that the provider asked to wait."""
        self.code = code
        """The provider's own error code or type."""
        self.body = None if body is None else body[:BODY_LIMIT]
        """The provider's error body, secrets removed, at most `BODY_LIMIT` characters."""
        self.partial = partial
        """The text that had arrived."""
        self.attempts = attempts
        """What was tried, oldest first."""
        if hint is not None:
            self.hint = hint

    def __str__(self) -> str:
        text = f"{self._call()}{self.message}"
        facts = [f"HTTP {self.status}"] if self.status else []
        if self.request_id:
            facts.append(f"request {self.request_id}")
        if len(self.attempts) > 1:
            facts.append(f"after {len(self.attempts)} attempts")
        if self.retry_after is not None:
            facts.append(f"retry after {self.retry_after:g} s")
        if facts:
            text += f" ({', '.join(facts)})"
        return f"{text}. {self.hint}" if self.hint else text

    def _call(self) -> str:
        if self.provider and self.model:
            return f"{self.provider}/{self.model}: "
        return f"{self.provider}: " if self.provider else ""

    @property
    def route(self) -> str:
        """Which call this was, as `provider/model`."""
        return self._call().removesuffix(": ")

    def locate(self, provider: str, model: str) -> Self:
        """Fill in which call this was, unless that is known already; returns the error itself."""
        self.provider = self.provider or provider
        self.model = self.model or model
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, {k: v for k, v in self.__dict__.items() if k != "message"}))


def _rebuild(kind: type[CallError], message: str, state: dict[str, Any]) -> CallError:
    error = kind(message)
    error.__dict__.update(state)
    return error


class DeadlineExceeded(CallError, TimeoutError):
    """The call's own time (`timeout=`) ran out: queueing, retries and streaming together."""

    may_be_billed = True
    hint = "Raise `timeout=`, or lower `max_tokens=`."


class Cancelled(CallError):
    """The call was cancelled, or its stream closed, by the program itself."""

    may_be_billed = True


class RequestTooLarge(CallError):
    """The call needs more requests or tokens than its limits allow at any time. Nothing was sent."""

    hint = "Send less, lower `max_tokens=`, or raise the limit."


class CircuitOpen(CallError):
    """The route has failed too often lately. Nothing was sent; `retry_after` says when it will be tried again."""

    hint = "A route in `fallbacks=` would be asked instead."


class BudgetExceeded(CallError):
    """The call may cost more than a budget has left. Nothing was sent."""

    hint = "Lower `max_tokens=`, wait until the budget renews, or raise it."

    budget: str = ""
    """Which budget, in words."""
    asked: Decimal | None = None
    """US dollars that the call may cost at most."""
    left: Decimal | None = None
    """US dollars of the budget that are not spent."""
    renews_at: dt.datetime | None = None
    """When it begins anew; None: never."""


class BudgetUnknown(CallError):
    """No budget can tell whether the call fits: its model has no known price, or the ledger cannot be asked.

    Nothing was sent.
    """

    hint = "Name the model's price with `prices=`, or see what is wrong with the ledger."


class AllRoutesFailed(CallError):
    """Neither the route that was asked nor any fallback could answer. `failures` has what each of them said."""

    failures: tuple[CallError, ...] = ()

    @classmethod
    def of(cls, failures: Sequence[CallError]) -> Self:
        """All failures together, in the order in which the routes were asked."""
        error = cls("no route could answer: " + "; ".join(f"{each.route}: {each.message}" for each in failures))
        error.failures = tuple(failures)
        error.partial = next((each.partial for each in reversed(failures) if each.partial), "")
        return error


class StreamInterrupted(CallError):
    """The answer broke off after some of it had been shown. `partial` has that text, `__cause__` the reason."""

    may_be_billed = True
    hint = 'What arrived is in `.partial`; `recover="restart"` asks again by itself.'

    @classmethod
    def because(cls, cause: CallError) -> Self:
        """The interruption with its cause's facts; raise it `from` the cause. It is worth a retry if its cause is."""
        error = cls(
            f"the answer broke off: {cause.message}",
            provider=cause.provider,
            model=cause.model,
            status=cause.status,
            request_id=cause.request_id,
            retry_after=cause.retry_after,
            code=cause.code,
            body=cause.body,
        )
        error.retryable = cause.retryable
        return error


class TransportError(CallError):
    """No whole answer arrived."""

    retryable = True
    blames_provider = True
    may_be_billed = True


class ConnectFailed(TransportError):
    """The provider could not be reached: name look-up, TCP connect or proxy."""

    may_be_billed = False
    hint = "Check the network and `base_url`; `tidegate doctor` tries each provider."


class TLSFailed(TransportError):
    """The TLS handshake failed, most often over the certificate."""

    retryable = False
    may_be_billed = False
    hint = "For a private certificate authority pass `ca_bundle=`; verification cannot be switched off."


class ConnectionLost(TransportError):
    """The connection broke before the answer was whole."""


class FirstTokenTimeout(TransportError):
    """A stream's first token did not come in time. Keep-alives and pings do not count."""

    hint = "Raise `Timeouts(first_token=…)` if this model thinks longer."


class IdleTimeout(TransportError):
    """A stream went silent. Keep-alives and pings do not count."""

    hint = "Raise `Timeouts(idle=…)` if this model pauses longer."


class ResponseTooLarge(TransportError):
    """The answer, or one event of it, passed a size cap."""

    retryable = False


class ProtocolError(CallError):
    """An answer arrived, and it is not what the provider promises."""

    retryable = True
    blames_provider = True
    may_be_billed = True


class MalformedResponse(ProtocolError):
    """The body is not the JSON it should be."""

    hint = "Check that `base_url` is the API itself, not a web page or a proxy's."


class MalformedEvent(ProtocolError):
    """One event of a stream cannot be read, so the answer may have a hole."""


class TruncatedStream(ProtocolError):
    """The stream ended without a finish reason or terminator: the answer may be half."""


class ProviderError(CallError):
    """The provider answered, and the answer is no."""


class BadRequest(ProviderError):
    """The provider does not accept this request; the same request will fail again."""


class ContextLengthExceeded(BadRequest):
    """The conversation and its answer do not fit the model's context window."""

    hint = "Shorten the conversation, lower `max_tokens=`, or choose a model with a larger window."


class ContentFiltered(BadRequest):
    """The provider's content policy refused the request."""


class PayloadTooLarge(BadRequest):
    """The request's body is too large for the provider."""


class ModelNotFound(BadRequest):
    """The provider has no such model or path."""

    hint = "Check the model's name and `base_url`; `tidegate models` lists known names."


class AuthenticationFailed(ProviderError):
    """The key was refused."""

    hint = "Check the API key; `tidegate doctor` shows which one is used, without showing it."


class PermissionDenied(ProviderError):
    """The key is good, and may not do this."""


class QuotaExhausted(ProviderError):
    """The account has no credit left or reached its spend limit: waiting does not help."""

    hint = "Check the plan and the billing of the provider's account."


class RateLimited(ProviderError):
    """Too many requests or tokens a minute. Says nothing bad about the provider's health."""

    retryable = True
    hint = "Set `limits=` to the account's own limits to be paced instead of refused."


class Conflict(ProviderError):
    """The provider was busy with something that collides with this request."""

    retryable = True


class ProviderUnavailable(ProviderError):
    """The provider failed, or took too long."""

    retryable = True
    blames_provider = True


class Overloaded(ProviderUnavailable):
    """The provider has no capacity right now."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A `; did you mean …?` for an error message, or an empty string when nothing is near."""
    found = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.5)
    return f"; did you mean `{found[0]}`?" if found else ""
