"""What a provider's "no" means (T5): by its type where it has one, by its status otherwise, never by its words."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from journeys.asking import KEY, PATIENCE, client_of, outcome_of
from support.fault_server import FaultServer, HeaderPairs, Step, error, json_reply, reply, sse
from support.llmock import LLMock
from support.openai_wire import completion, error_body, stream_events
from tidegate import (
    AuthenticationFailed,
    BadRequest,
    CallError,
    Client,
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
    Retry,
)
from tidegate.providers.refusals import error_from_event, error_from_response

AGAIN = Retry(attempts=2, first=0.001, longest=0.001, budget=False)
"""Every retryable failure is asked again, however many of them these tests bring about at one address."""
SOON = {"retry-after-ms": "1"}
"""So that a 429 holds its route up for no time that a test would notice."""

Ask = Callable[[Client], str]

ASKS: dict[str, Ask] = {
    "complete": lambda client: client.complete("Hi", timeout=PATIENCE).text,
    "stream": lambda client: "".join(piece.text for piece in client.stream("Hi", timeout=PATIENCE)),
    "stall_detection": lambda client: client.complete("Hi", timeout=PATIENCE, stall_detection=True).text,
}


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        running.on(lambda got: sse(stream_events(["Hi"])) if got.json.get("stream") else json_reply(completion("Hi")))
        yield running


@pytest.fixture(params=ASKS)
def ask(request: pytest.FixtureRequest) -> Ask:
    return ASKS[request.param]


def judged(server: FaultServer, ask: Ask, step: Step) -> tuple[str, bool]:
    """What `step` means to a client that may ask twice: the kind of the failure, and whether it asked again."""
    server.script(step)
    with client_of(server) as client:
        failure = outcome_of(lambda: ask(client))
    assert isinstance(failure, CallError)
    server.script(step)
    with client_of(server, retry=AGAIN) as client:
        again = outcome_of(lambda: ask(client))
    retried = again == "Hi"
    assert retried or type(again) is type(failure)
    assert len(server.requests) == (3 if retried else 2)
    return type(failure).__name__, retried


# By status


def statuses() -> dict[int, tuple[type[CallError], bool]]:
    """What each status becomes, and whether it is asked again."""
    return {
        400: (BadRequest, False),
        401: (AuthenticationFailed, False),
        402: (QuotaExhausted, False),
        403: (PermissionDenied, False),
        404: (ModelNotFound, False),
        405: (BadRequest, False),
        408: (ProviderUnavailable, True),
        409: (Conflict, True),
        410: (BadRequest, False),
        413: (PayloadTooLarge, False),
        415: (BadRequest, False),
        418: (BadRequest, False),
        422: (BadRequest, False),
        429: (RateLimited, True),
        451: (BadRequest, False),
        498: (AuthenticationFailed, False),
        500: (ProviderUnavailable, True),
        501: (ProviderUnavailable, True),
        502: (ProviderUnavailable, True),
        503: (Overloaded, True),
        504: (ProviderUnavailable, True),
        520: (ProviderUnavailable, True),
        529: (Overloaded, True),
        599: (ProviderUnavailable, True),
    }


BODIES: dict[str, Callable[[int], Step]] = {
    "an unknown type": lambda status: error(status, "strange", "odd", headers=SOON),
    "no body": lambda status: reply(status, headers=SOON),
    "a web page": lambda status: reply(status, b"<html>no</html>", {**SOON, "content-type": "text/html"}),
    "half of JSON": lambda status: reply(status, b'{"error": {"mess', {**SOON, "content-type": "application/json"}),
    "an odd JSON": lambda status: json_reply([{"error": 7}], status, SOON),
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("status", statuses())
def test_T5_a_status_decides_where_no_type_does(server: FaultServer, status: int, body: str) -> None:
    kind, retried = statuses()[status]
    assert judged(server, ASKS["complete"], BODIES[body](status)) == (kind.__name__, retried)


@pytest.mark.parametrize("status", statuses())
@pytest.mark.parametrize("way", ["stream", "stall_detection"])
def test_T5_a_status_means_the_same_to_a_stream(server: FaultServer, status: int, way: str) -> None:
    kind, retried = statuses()[status]
    assert judged(server, ASKS[way], error(status, "strange", headers=SOON)) == (kind.__name__, retried)


# By type

FIXED: dict[str, type[CallError]] = {
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
    "ResponsibleAIPolicyViolation": ContentFiltered,
    "model_not_found": ModelNotFound,
}
"""Asking again cannot help, whatever the status says."""


@pytest.mark.parametrize("status", [400, 403, 429, 500, 503])
@pytest.mark.parametrize("name", FIXED)
def test_T5_a_type_that_names_a_fixed_cause_beats_the_status(server: FaultServer, name: str, status: int) -> None:
    for step in (error(status, name, headers=SOON), error(status, "error", name, headers=SOON)):
        assert judged(server, ASKS["complete"], step) == (FIXED[name].__name__, False)
        server.requests.clear()


@pytest.mark.parametrize("name", FIXED)
def test_T5_a_fixed_cause_inside_a_200_is_not_asked_again(server: FaultServer, ask: Ask, name: str) -> None:
    body = error_body("error", name)
    step = json_reply(body) if ask is ASKS["complete"] else sse([body], done=False)
    assert judged(server, ask, step) == (FIXED[name].__name__, False)


INSIDE: dict[str, tuple[type[CallError], bool]] = {
    "overloaded_error": (Overloaded, True),
    "overloaded": (Overloaded, True),
    "server_overloaded": (Overloaded, True),
    "unavailable_error": (Overloaded, True),
    "rate_limit_error": (RateLimited, True),
    "rate_limit_exceeded": (RateLimited, True),
    "server_error": (ProviderUnavailable, True),
    "api_error": (ProviderUnavailable, True),
    "internal_error": (ProviderUnavailable, True),
    "internal_server_error": (ProviderUnavailable, True),
    "timeout_error": (ProviderUnavailable, True),
    "a word of later years": (ProviderUnavailable, True),
    "authentication_error": (AuthenticationFailed, False),
    "invalid_api_key": (AuthenticationFailed, False),
    "permission_error": (PermissionDenied, False),
    "not_found_error": (ModelNotFound, False),
    "request_too_large": (PayloadTooLarge, False),
    "invalid_request_error": (BadRequest, False),
}


@pytest.mark.parametrize("name", INSIDE)
def test_T5_an_error_inside_a_200_is_what_its_type_says(server: FaultServer, ask: Ask, name: str) -> None:
    body = error_body(name)
    step = json_reply(body) if ask is ASKS["complete"] else sse([body], done=False)
    kind, retried = INSIDE[name]
    assert judged(server, ask, step) == (kind.__name__, retried)


@pytest.mark.parametrize("status", statuses())
def test_T5_a_status_inside_a_200_counts_like_one_outside(server: FaultServer, ask: Ask, status: int) -> None:
    body = {"error": {"code": status, "message": "no"}}
    step = json_reply(body) if ask is ASKS["complete"] else sse([body], done=False)
    kind, retried = statuses()[status]
    assert judged(server, ask, step) == (kind.__name__, retried)


SHAPES: dict[str, Any] = {
    "in `error`": {"error": {"type": "overloaded_error", "message": "busy"}},
    "beside a type": {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}},
    "by itself": {"object": "error", "type": "overloaded_error", "message": "busy", "code": None},
    "in the first choice": {"choices": [{"error": {"code": 503, "message": "busy"}, "finish_reason": "error"}]},
    "beside an empty choice": {
        "error": {"code": "overloaded", "message": "busy"},
        "choices": [{"delta": {"content": ""}, "message": {"content": ""}, "finish_reason": "error"}],
    },
}


@pytest.mark.parametrize("shape", SHAPES)
def test_T5_an_error_inside_a_200_is_found_wherever_it_stands(server: FaultServer, ask: Ask, shape: str) -> None:
    """Not to see one is to take half an answer, or none, for a whole one."""
    body = SHAPES[shape]
    step = json_reply(body) if ask is ASKS["complete"] else sse([body])
    assert judged(server, ask, step) == ("Overloaded", True)


@pytest.mark.parametrize(
    ("status", "message", "kind", "retried"),
    [
        (400, "Overloaded, please try again later: rate limit 429, server_error", BadRequest, False),
        (401, "Service temporarily unavailable (503)", AuthenticationFailed, False),
        (429, "insufficient_quota: you exceeded your current quota, check your billing", RateLimited, True),
        (429, "context_length_exceeded content_filter invalid_api_key", RateLimited, True),
        (500, "This model's maximum context length is 8192 tokens", ProviderUnavailable, True),
        (503, "content_policy_violation", Overloaded, True),
    ],
)
def test_T5_the_type_decides_and_not_the_message(
    server: FaultServer,
    status: int,
    message: str,
    kind: type[CallError],
    retried: bool,  # noqa: FBT001
) -> None:
    step = error(status, "x", message=message, headers=SOON)
    assert judged(server, ASKS["complete"], step) == (kind.__name__, retried)


WISHES: list[tuple[int, str, str, bool]] = [
    (503, "server_error", "false", False),
    (429, "rate_limit_error", "false", False),
    (418, "strange", "true", True),
    (400, "invalid_request_error", "true", False),
    (401, "authentication_error", "true", False),
    (404, "x", "true", False),
    (422, "x", "true", False),
    (429, "insufficient_quota", "true", False),
    (500, "content_filter", "true", False),
    (500, "context_length_exceeded", "true", False),
    (503, "model_not_found", "true", False),
    (503, "server_error", "perhaps", True),
    (503, "server_error", " FALSE ", False),
]


@pytest.mark.parametrize(("status", "name", "wish", "retried"), WISHES)
def test_T5_a_providers_wish_about_retries_is_heard_unless_the_cause_is_fixed(
    server: FaultServer,
    status: int,
    name: str,
    wish: str,
    retried: bool,  # noqa: FBT001
) -> None:
    step = error(status, name, headers={**SOON, "x-should-retry": wish})
    assert judged(server, ASKS["complete"], step)[1] == retried


# What an error tells


def refused(status: int, body: object, headers: HeaderPairs = ()) -> CallError:
    given = {name.lower(): value for name, value in dict(headers).items()}
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return error_from_response(status, given, text, None, 0.0)


def test_an_error_tells_what_the_provider_told(server: FaultServer) -> None:
    server.script(error(429, "tokens", "rate_limit_exceeded", "Slow\n down.", {"x-request-id": "req_7", **SOON}))
    with client_of(server) as client:
        failure = outcome_of(lambda: client.complete("Hi"))
    assert isinstance(failure, RateLimited)
    assert (failure.provider, failure.model, failure.status) == ("openai", "gpt-4o-mini", 429)
    assert (failure.code, failure.request_id, failure.retry_after) == ("rate_limit_exceeded", "req_7", 0.001)
    assert failure.message == "Slow down"
    assert failure.body is not None
    assert json.loads(failure.body)["error"]["type"] == "tokens"
    assert KEY not in repr(vars(failure))


MESSAGES: dict[str, tuple[object, str]] = {
    "OpenAI": ({"error": {"message": "no.", "type": "x"}}, "no"),
    "an error that is a word": ({"error": "no such model"}, "no such model"),
    "FastAPI": ({"detail": "not here"}, "not here"),
    "Mistral": ({"object": "error", "message": "no", "type": "x"}, "no"),
    "a message beside the error": ({"error": {"type": "x"}, "message": "no"}, "no"),
    "many lines": ({"error": {"message": "a\r\n\r\n  b\tc"}}, "a b c"),
    "a very long one": ({"error": {"message": "x" * 9999}}, "x" * 497 + "…"),
    "a list of problems": ({"detail": [{"loc": ["body"]}]}, "[{'loc': ['body']}]"),
    "a plain word": ("no", "no"),
    "nothing": (b"", "the provider answered with an empty body"),
    "spaces": (b" \n", "the provider answered with an empty body"),
    "a page": (b"<!doctype html><p>", "the provider answered with a web page instead of JSON"),
    "no reason": ({"error": {}}, "the provider gave no reason"),
    "plain text": (b"upstream connect error", "the provider gave no reason"),
    "bad UTF-8": (b"\xff\xfe", "the provider gave no reason"),
}


@pytest.mark.parametrize("shape", MESSAGES)
def test_a_message_is_found_wherever_a_host_puts_it(shape: str) -> None:
    body, message = MESSAGES[shape]
    assert refused(400, body).message == message


@pytest.mark.parametrize("name", ["x-request-id", "request-id", "x-correlation-id", "apim-request-id", "CF-Ray"])
def test_the_id_of_a_request_has_many_names(name: str) -> None:
    assert refused(400, {}, {name: "req_7"}).request_id == "req_7"


def test_an_id_is_cut_and_an_odd_one_is_left_out() -> None:
    assert refused(400, {}, {"x-request-id": "x" * 999}).request_id == "x" * 128
    assert refused(400, {}, {"x-request-id": "a\tb"}).request_id is None
    assert refused(400, {}).request_id is None


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (
            {"error": {"code": "content_filter", "innererror": {"code": "ResponsibleAIPolicyViolation"}}},
            ContentFiltered,
        ),
        ({"error": {"code": "x", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}, ContentFiltered),
        ({"error": {"code": None, "type": "insufficient_quota"}}, QuotaExhausted),
        ({"error": {"code": "rate_limit_exceeded", "type": "insufficient_quota"}}, QuotaExhausted),
        ({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}, RateLimited),
        ({"code": "insufficient_quota"}, QuotaExhausted),
        ({"error": {"code": ["insufficient_quota"]}}, RateLimited),
        ({"error": [1]}, RateLimited),
        ([], RateLimited),
        (None, RateLimited),
    ],
)
def test_a_type_is_found_in_every_field_that_may_hold_one(body: object, kind: type[CallError]) -> None:
    assert type(refused(429, body)) is kind


@pytest.mark.parametrize("value", ["busy", ["busy"], 7, True, {"message": "busy"}, {"code": True}, {"code": 200}])
def test_an_error_inside_a_200_of_any_shape_is_the_providers_fault(value: object) -> None:
    failure = error_from_event(value, None)
    assert type(failure) is ProviderUnavailable
    assert failure.status is None


# Judged by a server of others


@pytest.fixture(scope="module")
def running_mock() -> Iterator[LLMock]:
    with LLMock() as running:
        yield running


@pytest.fixture
def mock(running_mock: LLMock) -> LLMock:
    running_mock.reset()
    return running_mock


def asking(mock: LLMock, ask: Ask) -> str | CallError:
    with Client("openai/gpt-4o-mini", base_url=mock.base_url(), api_key=KEY, retry=AGAIN, breaker=None) as client:
        outcome = outcome_of(lambda: ask(client))
    assert isinstance(outcome, str | CallError)
    return outcome


JUDGED_RETRIED = [status for status, (_, retried) in statuses().items() if retried]
JUDGED_FINAL = [status for status, (_, retried) in statuses().items() if not retried]


@pytest.mark.parametrize("status", JUDGED_RETRIED)
def test_T5_llmock_sees_what_is_worth_a_retry_asked_again(mock: LLMock, ask: Ask, status: int) -> None:
    mock.queue({"type": "fail", "status": status, "retry_after": 0.002})
    assert isinstance(asking(mock, ask), str)
    verdict = mock.judge(calls=1, attempts=2)
    assert verdict.calls[0].succeeded


@pytest.mark.parametrize("status", JUDGED_FINAL)
def test_T5_llmock_sees_what_is_not_worth_a_retry_asked_once(mock: LLMock, ask: Ask, status: int) -> None:
    mock.queue({"type": "fail", "status": status, "times": 1})
    failure = asking(mock, ask)
    assert isinstance(failure, CallError)
    assert type(failure) is statuses()[status][0]
    mock.judge(calls=1, attempts=1)


@pytest.mark.parametrize("code", FIXED)
def test_T5_llmock_sees_a_fixed_cause_asked_once(mock: LLMock, code: str) -> None:
    """Its verdict warns that a 429 was given up at once, which is what this one is for: hence not strict."""
    mock.queue({"type": "fail", "status": 429, "code": code, "retry_after": 0})
    assert type(asking(mock, ASKS["complete"])) is FIXED[code]
    verdict = mock.judge(calls=1, attempts=1, strict=False)
    assert [finding.code for finding in verdict.findings] == ["gave_up"]


def test_T5_llmock_would_have_noticed_a_retry_of_a_400(mock: LLMock) -> None:
    """The judge of these tests is awake."""
    mock.queue({"type": "fail", "status": 400, "times": 2})
    for _ in range(2):
        asking(mock, ASKS["complete"])
    with pytest.raises(AssertionError, match="retried_non_retryable"):
        mock.judge(calls=1, attempts=2)
    with pytest.raises(AssertionError, match="1 call"):
        mock.judge(calls=2, attempts=2)
