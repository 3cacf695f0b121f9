"""The error tree: what each class says, and that it survives a pickle."""

from __future__ import annotations

import copy
import inspect
import pickle
import re

import pytest

from tidegate import errors
from tidegate.attempts import Attempt
from tidegate.errors import CallError, ConfigError, RateLimited, StreamInterrupted, TidegateError

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, TidegateError)]
CALL_ERRORS = [kind for kind in CLASSES if issubclass(kind, CallError)]
RETRYABLE = {
    "TransportError", "ConnectFailed", "ConnectionLost", "FirstTokenTimeout", "IdleTimeout", "ProtocolError",
    "MalformedResponse", "MalformedEvent", "TruncatedStream", "RateLimited", "Conflict", "ProviderUnavailable",
    "Overloaded",
}  # fmt: skip
BLAMING = (RETRYABLE | {"TLSFailed", "ResponseTooLarge"}) - {"RateLimited", "Conflict"}


def _drawn() -> dict[str, str]:
    """Each class of the docstring's drawing, with the class that it hangs on."""
    parents: list[tuple[int, str]] = []
    found = {}
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ([│├└─ ]*)([A-Z]\w+)", line)
        if not match:
            continue
        depth, name = len(match[1]), match[2]
        parents = [(level, parent) for level, parent in parents if level < depth]
        found[name] = parents[-1][1] if parents else "Exception"
        parents.append((depth, name))
    return found


def test_the_drawing_is_the_tree() -> None:
    assert _drawn() == {kind.__name__: kind.__mro__[1].__name__ for kind in CLASSES}


def test_what_may_be_retried_stands_on_the_class() -> None:
    assert {kind.__name__ for kind in CALL_ERRORS if kind.retryable} == RETRYABLE


def test_what_blames_the_provider_stands_on_the_class() -> None:
    assert {kind.__name__ for kind in CALL_ERRORS if kind.blames_provider} == BLAMING


def test_a_config_error_is_a_value_error_and_a_deadline_a_timeout() -> None:
    assert issubclass(ConfigError, ValueError)
    assert issubclass(errors.DeadlineExceeded, TimeoutError)


def _full(kind: type[CallError]) -> CallError:
    attempts = tuple(Attempt(n, "openai", "gpt-4o-mini", 0.5, "RateLimited", 429, 2.0, f"req_{n}") for n in (1, 2))
    return kind(
        "slow down", provider="openai", model="gpt-4o-mini", status=429, request_id="req_2", retry_after=2.0,
        code="rate_limit", body="{}", partial="half", attempts=attempts,
    )  # fmt: skip


@pytest.mark.parametrize("kind", CALL_ERRORS)
@pytest.mark.parametrize("duplicate", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy])  # noqa: S301 (ours)
def test_a_call_error_survives_a_pickle_with_all_that_it_knows(kind: type[CallError], duplicate: object) -> None:
    error = _full(kind)
    error.retryable = not kind.retryable
    assert callable(duplicate)
    twin = duplicate(error)
    assert type(twin) is kind
    assert str(twin) == str(error)
    assert twin.__dict__ == error.__dict__


@pytest.mark.parametrize("kind", CALL_ERRORS)
def test_a_message_is_one_line_that_says_what_where_and_what_to_do(kind: type[CallError]) -> None:
    text = str(_full(kind))
    assert "\n" not in text
    assert text.startswith("openai/gpt-4o-mini: slow down (HTTP 429, request req_2, after 2 attempts, retry after 2 s)")
    assert text.endswith(kind.hint)


def test_what_is_not_known_is_not_mentioned() -> None:
    assert str(errors.PermissionDenied("no")) == "no"


def test_a_body_is_kept_to_its_limit() -> None:
    error = RateLimited("no", body="x" * 100_000)
    assert error.body is not None
    assert len(error.body) == errors.BODY_LIMIT


def test_an_interruption_has_its_causes_facts_and_is_worth_a_retry_if_the_cause_is() -> None:
    cause = _full(errors.Overloaded)
    error = StreamInterrupted.because(cause)
    assert (error.provider, error.status, error.request_id, error.retry_after) == ("openai", 429, "req_2", 2.0)
    assert error.retryable
    assert not StreamInterrupted.because(_full(errors.ContentFiltered)).retryable


def test_locating_an_error_keeps_what_is_known() -> None:
    assert _full(RateLimited).locate("groq", "other").provider == "openai"
    assert RateLimited("no").locate("groq", "llama").model == "llama"


def test_the_nearest_name_is_offered_only_when_something_is_near() -> None:
    assert errors.nearest("opnai", ["openai", "groq"]) == "; did you mean `openai`?"
    assert errors.nearest("zzzzzz", ["openai", "groq"]) == ""
