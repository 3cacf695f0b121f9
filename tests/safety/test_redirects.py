"""X2: a redirect is an error that says where it points, and nothing goes there: no request, no key, no body."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from journeys.asking import KEY, client_of, outcome_of
from support.fault_server import FaultServer, Step, json_reply, redirect, reply, sse
from support.openai_wire import completion, stream_events
from tidegate import BadRequest, Client, ProviderError, Retry

Ask = Callable[[Client], object]

STATUSES = (300, 301, 302, 303, 304, 307, 308)


def complete(client: Client) -> object:
    return client.complete("Hi")


def complete_watched(client: Client) -> object:
    return client.complete("Hi", stall_detection=True)


def stream(client: Client) -> object:
    with client.stream("Hi") as answer:
        return list(answer)


def submit(client: Client) -> object:
    return client.submit("Hi").result(10)


WAYS: list[Ask] = [complete, complete_watched, stream, submit]


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """The configured origin. It answers well whatever it is asked a second time."""
    with FaultServer() as running:
        running.always(json_reply(completion()))
        yield running


@pytest.fixture
def elsewhere() -> Iterator[FaultServer]:
    with FaultServer() as running:
        running.always(json_reply(completion("From elsewhere.")))
        yield running


def redirected(client: Client, ask: Ask) -> ProviderError:
    failure = outcome_of(lambda: ask(client))
    assert isinstance(failure, ProviderError)
    return failure


@pytest.mark.parametrize("ask", WAYS)
@pytest.mark.parametrize("status", STATUSES)
def test_X2_a_redirect_to_another_origin_is_an_error(
    server: FaultServer, elsewhere: FaultServer, status: int, ask: Ask
) -> None:
    """It names the new address and says what to do about it; the other origin gets not even a connection."""
    server.script(redirect(f"{elsewhere.base_url}/chat/completions", status))
    with client_of(server, retry=Retry(attempts=3, first=0.001)) as client:
        failure = redirected(client, ask)
    assert type(failure) is BadRequest
    assert (failure.status, failure.retryable, len(failure.attempts)) == (status, False, 1)
    assert f"redirect to `{elsewhere.base_url}/chat/completions`" in str(failure)
    assert "set `base_url` to the new address" in str(failure)
    assert len(server.requests) == 1
    assert (elsewhere.connections, elsewhere.requests) == (0, [])


@pytest.mark.parametrize("ask", WAYS)
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize(
    "location", ["/v2/chat/completions", "{url}/v2/chat/completions", "//{host}/v2/chat/completions"]
)
def test_X2_a_redirect_within_the_origin_is_an_error_too(
    server: FaultServer, status: int, location: str, ask: Ask
) -> None:
    """What is asked of another path of the same host was never meant for it."""
    server.script(redirect(location.format(url=server.url, host=server.url.partition("//")[2]), status))
    with client_of(server) as client:
        failure = redirected(client, ask)
    assert failure.status == status
    assert "/v2/chat/completions`" in str(failure)
    assert len(server.requests) == 1


def test_X2_a_redirect_to_plain_http_is_an_error() -> None:
    """From https, where the key was safe."""
    with FaultServer(tls="trusted") as server, FaultServer() as elsewhere:
        server.script(redirect(f"{elsewhere.base_url}/chat/completions"))
        with client_of(server, ca_bundle=server.ca_file) as client:
            failure = redirected(client, complete)
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
        assert f"`{elsewhere.base_url}/chat/completions`" in str(failure)
        assert elsewhere.connections == 0


SECRETS = "https://me:hunter2@elsewhere.test:444/v1/chat?sig=hunter2&key=hunter2#hunter2"


def test_X2_the_address_is_said_without_its_secrets(server: FaultServer) -> None:
    """User, password, query and fragment are left out, and a key that it repeats."""
    server.script(redirect(SECRETS), redirect(f"https://elsewhere.test/{KEY}/chat"))
    with client_of(server) as client:
        first, second = redirected(client, complete), redirected(client, complete)
    assert "redirect to `https://elsewhere.test:444/v1/chat`" in str(first)
    assert "hunter2" not in f"{first} {first!r} {vars(first)}"
    assert "redirect to `https://elsewhere.test/[key]/chat`" in str(second)


@pytest.mark.parametrize(
    "location",
    [
        "",
        "?",
        "#",
        "http://[",
        "https://[::1",
        "\x1b[31m",
        "javascript:alert(1)",
        "//",
        "x" * 10_000,
        "https://\xe9.test/\xff",
    ],
)
def test_X2_an_odd_address_is_no_worse(server: FaultServer, location: str) -> None:
    server.script(redirect(location))
    with client_of(server) as client:
        failure = redirected(client, complete)
    assert failure.status == 307
    assert "answered with a redirect" in str(failure)
    assert str(failure).isprintable()
    assert len(str(failure)) < 500


NO_ADDRESS: list[Any] = [reply(307), reply(302, b'{"error": {"message": "Moved."}}'), reply(302, b"<html>")]


@pytest.mark.parametrize("step", NO_ADDRESS)
def test_X2_a_redirect_without_an_address_is_an_error(server: FaultServer, step: Step) -> None:
    server.script(step)
    with client_of(server) as client:
        failure = redirected(client, complete)
    assert failure.status in (302, 307)
    assert "Redirects are not followed" in str(failure)
    assert len(server.requests) == 1


def test_X2_a_header_of_a_good_answer_moves_nothing(server: FaultServer, elsewhere: FaultServer) -> None:
    """`Location`, `Refresh` and `Alt-Svc` of a 200 mean nothing here."""
    headers = {"location": elsewhere.url, "refresh": f"0; url={elsewhere.url}", "alt-svc": f'h2=":{elsewhere.port}"'}
    server.script(json_reply(completion("Here."), headers=headers), sse(stream_events(["Here."]), headers=headers))
    with client_of(server) as client:
        assert client.complete("Hi").text == "Here."
        with client.stream("Hi") as answer:
            assert "".join(chunk.text for chunk in answer) == "Here."
        client.complete("Hi")
    assert len(server.requests) == 3
    assert elsewhere.connections == 0


def test_X2_the_connection_serves_on_after_a_redirect(server: FaultServer) -> None:
    server.script(redirect("https://elsewhere.test/"))
    with client_of(server) as client:
        redirected(client, complete)
        assert client.complete("Hi").text == "Hello."
    assert server.connections == 1
