"""X1: a key is shown nowhere, whatever the other side makes of it.

The key of these tests looks like no provider's, so that only the knowledge of the very key can hide it, and has
characters that JSON may escape. Any eight of its characters in a row count as shown.

Two limits. What a program itself passes (`Client(api_key="…")`) stands in the frames of that program, and a
`traceback` that is asked for the locals of all frames shows those of the program too. And a 2xx answer that repeats
the key is, until it has been read, a local of the frames that read it.
"""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
import signal
import socket
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from journeys.asking import client_of, outcome_of
from support.fault_server import (
    Close,
    FaultServer,
    Reset,
    Send,
    Step,
    blackhole,
    cut_at,
    error,
    head,
    http_chunk,
    json_reply,
    redirect,
    refused,
    reply,
    sse,
    sse_event,
    stall_before_headers,
)
from support.openai_wire import completion, error_body, stream_events
from support.proxy import Proxy
from tidegate import CallError, Client, ConfigError, Retry, StreamInterrupted, TidegateError, Timeouts
from tidegate.options import SecretStr
from tidegate.settings import ClientSettings, load_settings

CANARY = "canary/7Q2x+9Zk0t=ide<gate>0123456789"
PIECE = 8
"""Characters of the key in a row that count as the key shown."""
PASSWORD = "pass-of-the-proxy-5521"  # noqa: S105 (nobody's)
QUICK = Timeouts(first_token=0.05, idle=0.05)

Ask = Callable[[Client], object]


def complete(client: Client) -> object:
    return client.complete("Hi")


def complete_watched(client: Client) -> object:
    return client.complete("Hi", stall_detection=True)


def stream(client: Client) -> object:
    with client.stream("Hi") as answer:
        return [repr(chunk) for chunk in answer]


WAYS: dict[str, Ask] = {"complete": complete, "stall_detection": complete_watched, "stream": stream}

ESCAPED = json.dumps(CANARY).strip('"').replace("/", "\\/").replace("<", "\\u003c").replace(">", "\\u003E")
"""The key as PHP and Go write it in JSON."""
STRADDLING = " " * (8192 - len('{"error": "') - 20) + CANARY
"""The key where an error's body is cut."""

REFUSALS: dict[str, Step] = {
    "a 401 repeats it": error(401, "authentication_error", "invalid_api_key", f"Incorrect API key provided: {CANARY}."),
    "a 401 repeats it with JSON's escapes": reply(401, f'{{"error": {{"message": "No: {ESCAPED}"}}}}'.encode()),
    "a 401 repeats all headers as a web page": reply(401, f"<p>Authorization: Bearer {CANARY}</p>".encode()),
    "a 403 names it as the error's type and code": error(403, CANARY, CANARY),
    "a 400 repeats it where the body is cut": reply(400, json.dumps({"error": STRADDLING}).encode()),
    "a 400 repeats it for ever": reply(400, (CANARY * 3000).encode()),
    "a 400 ends inside it": reply(400, CANARY[:-3].encode()),
    "a 400 breaks off inside it": cut_at(head(400, {"content-length": "99"}) + CANARY[:20].encode(), 10**6),
    "a 500 repeats it in its headers": error(
        500,
        headers=[
            (name, CANARY)
            for name in (
                "x-request-id",
                "request-id",
                "retry-after",
                "www-authenticate",
                "x-should-retry",
                "set-cookie",
            )
        ],
    ),
    "a 500 has it in its request id": error(500, headers={"x-request-id": f"req-{CANARY}-1"}),
    "a redirect repeats it": redirect(f"https://elsewhere.test/{CANARY}/?key={CANARY}#{CANARY}"),
}
"""Answers that are no 2xx."""

ANSWERS: dict[str, Step] = {
    "a body that is no JSON": reply(200, f"Your key is {CANARY}".encode()),
    "a body that ends inside the key": reply(200, CANARY[:-3].encode()),
    "a body without choices": json_reply({"key": CANARY}),
    "an error in a 200": json_reply(error_body("server_error", None, f"Your key is {CANARY}")),
    "a long error in a 200": json_reply({"error": STRADDLING}),
    "an event that is no JSON": sse([f"{{{CANARY}"]),
    "an event that is cut inside the key": sse([" " * 8172 + CANARY]),
    "an event that is not UTF-8": sse([b"data: \xff" + CANARY.encode() + b"\n\n"]),
    "an error event": sse([error_body("server_error", CANARY, f"Your key is {CANARY}")]),
    "an error event after some text": sse(
        [*stream_events(["Hello"], finish=None, usage=None), error_body("server_error", None, CANARY)]
    ),
    "a broken event after some text": sse([*stream_events(["Hello"], finish=None, usage=None), f"{{{CANARY}"]),
    "a stream's body that is no stream": reply(200, CANARY.encode(), {"content-type": "text/event-stream"}),
}
"""Answers that are a 2xx, and none."""

LOSSES: dict[str, Step] = {
    "no answer": stall_before_headers(),
    "a reset": (Reset(),),
    "an end": (Close(),),
    "a head that is none": (Send(b"HTTP/9 what\r\n\r\n"), Close()),
    "half a body": cut_at(head(200, {"content-length": "99"}) + b"{", 10**6),
    "half a stream": sse([*stream_events(["Hello"], finish=None, usage=None), Reset()]),
    "silence after some text": (
        Send(head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})),
        Send(http_chunk(b"".join(map(sse_event, stream_events(["Hello"], finish=None, usage=None))))),
        *stall_before_headers(),
    ),
}
"""No answer, or half of one."""


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """All that anybody logs from here on, down to DEBUG."""
    caplog.set_level(logging.DEBUG)
    for name in ("urllib3", "requests", "tidegate"):
        caplog.set_level(logging.DEBUG, name)
    yield caplog
    for record in caplog.records:
        assert_hidden(f"the log of {record.name}", record.getMessage(), str(record.__dict__))
        assert_hidden("the log", caplog.handler.format(record))


def shown(text: str, secret: str = CANARY) -> bool:
    """Whether the secret or a piece of it stands in the text, as it is or as some JSON writes it."""
    plain = text.replace("\\/", "/").replace("\\u003c", "<").replace("\\u003E", ">")
    return any(secret[at : at + PIECE] in each for each in (text, plain) for at in range(len(secret) - PIECE + 1))


def assert_hidden(what: str, *texts: str, secret: str = CANARY) -> None:
    for text in texts:
        assert not shown(text, secret), f"{what} shows the key"


def faces(failure: BaseException) -> dict[str, str]:
    """Everything that an error says of itself, and each error behind it."""
    found: dict[str, str] = {}
    behind: BaseException | None = failure
    while behind is not None:
        name = type(behind).__name__
        found[f"{name}'s text"] = str(behind)
        found[f"{name}'s repr"] = repr(behind)
        found[f"{name}'s attributes"] = f"{vars(behind)!r} {behind.args!r} {getattr(behind, '__notes__', ())!r}"
        if isinstance(behind, TidegateError):
            copied = pickle.loads(pickle.dumps(behind))  # noqa: S301 (pickled just now)
            found[f"{name}'s pickle"] = pickle.dumps(behind, protocol=5).decode("latin-1")
            found[f"{name}'s oldest pickle"] = pickle.dumps(behind, protocol=0).decode("latin-1")
            found[f"{name} from its pickle"] = f"{copied} {copied!r} {vars(copied)!r}"
        behind = behind.__cause__ or behind.__context__  # the context also where `from None` hides it
    found["traceback"] = "".join(traceback.format_exception(failure))
    return found


def with_locals(failure: BaseException) -> str:
    """The traceback with the locals of every frame."""
    return "".join(traceback.TracebackException.from_exception(failure, capture_locals=True).format())


def own_faces(client: Client, events: list[Any]) -> dict[str, str]:
    corridor = client._corridor
    parts = (client, client._settings, corridor, corridor.transport, *corridor.policies, corridor.endpoints.main)
    return {
        "the client": " ".join(f"{part} {part!r}" for part in parts),
        "its figures": repr(client.metrics()),
        "its events": f"{events} {events!r}",
        "its calls": " ".join(f"{event.call!r} {event.call.trace.attempts!r}" for event in events),
    }


def failure_of(ask: Ask, client: Client) -> BaseException:
    failure = outcome_of(lambda: ask(client))
    assert isinstance(failure, CallError)
    return failure


def cases(*tables: dict[str, Step]) -> list[Any]:
    return [
        pytest.param(ask, step, id=f"{way}: {trick}")
        for table in tables
        for trick, step in table.items()
        for way, ask in WAYS.items()
        if way != "complete" or not any(isinstance(act, Send) and b"event-stream" in act.data for act in step)
    ]


# Failures


@pytest.mark.parametrize(("ask", "step"), cases(REFUSALS, ANSWERS, LOSSES))
def test_X1_a_failure_shows_no_key(
    server: FaultServer, log: pytest.LogCaptureFixture, ask: Ask, step: Step, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither the error does, nor any behind it, a pickle, a traceback, a log, an event or the client's figures."""
    server.always(step)
    events: list[Any] = []
    retry = Retry(attempts=2, first=0.001, longest=0.001)
    options = {"timeout": 0.5, "timeouts": QUICK, "retry": retry, "listeners": [events.append]}
    with client_of(server, api_key=CANARY, **options) as client:
        failure = failure_of(ask, client)
        texts = faces(failure) | own_faces(client, events)
    assert server.requests[0].headers["authorization"] == f"Bearer {CANARY}"
    for what, text in texts.items():
        assert_hidden(what, text)
    assert_hidden("the output", *capfd.readouterr())
    assert events


@pytest.mark.parametrize(("ask", "step"), cases(REFUSALS, LOSSES))
def test_X1_a_traceback_with_locals_shows_no_key(server: FaultServer, ask: Ask, step: Step) -> None:
    """What an answer that is no 2xx repeats does not wait in a local either."""
    server.always(step)
    with client_of(server, api_key=CANARY, timeout=0.5, timeouts=QUICK) as client:
        text = with_locals(failure_of(ask, client))
    assert "dispatch.py" in text  # the frames are there,
    assert " = <tidegate." in text  # with what they hold
    assert_hidden("a traceback with locals", text)


def test_X1_what_looks_like_any_key_is_hidden_too(server: FaultServer) -> None:
    """A gateway may repeat the key that it uses itself."""
    server.always(
        error(401, message="The gateway's sk-proj-abcdefghijklmnop0123 was refused (Bearer abcdefghijklmnop0123)")
    )
    with client_of(server, api_key=CANARY) as client:
        failure = failure_of(complete, client)
    for what, text in faces(failure).items():
        assert "abcdefghijklmnop" not in text, what
    assert "The gateway's [key] was refused" in str(failure)


def test_X1_what_is_hidden_leaves_the_rest_of_the_message(server: FaultServer) -> None:
    server.always(REFUSALS["a 401 repeats it with JSON's escapes"])
    with client_of(server, api_key=CANARY) as client:
        assert "No: [key]" in str(failure_of(complete, client))


def test_X1_a_connection_that_fails_shows_no_key(log: pytest.LogCaptureFixture) -> None:
    with refused() as (host, port), blackhole() as (deaf, deaf_port):
        for address in (f"http://{host}:{port}/v1", f"http://{deaf}:{deaf_port}/v1", f"https://{host}:{port}/v1"):
            with Client("openai/x", api_key=CANARY, base_url=address, retry=None, timeout=0.05) as client:
                failure = failure_of(complete, client)
            for what, text in faces(failure).items():
                assert_hidden(what, text)
            assert_hidden("a traceback with locals", with_locals(failure))


def test_X1_a_refused_certificate_shows_no_key(log: pytest.LogCaptureFixture) -> None:
    with FaultServer(tls="self-signed") as server, client_of(server, api_key=CANARY) as client:
        failure = failure_of(complete, client)
        assert server.requests == []
    for what, text in {**faces(failure), "locals": with_locals(failure)}.items():
        assert_hidden(what, text)


@pytest.mark.parametrize("answer", ["407 Proxy Authentication Required", f"403 {PASSWORD} {CANARY}", "200 OK"])
def test_X1_a_proxy_that_fails_shows_neither_the_key_nor_its_password(
    log: pytest.LogCaptureFixture, answer: str
) -> None:
    """Nor does a proxy that says yes, and then talks no TLS."""
    with refused() as (_, nowhere), Proxy(nowhere, answer=answer) as proxy:
        options: dict[str, Any] = {"base_url": "https://elsewhere.test/v1", "proxy": proxy.url_for("me", PASSWORD)}
        with Client("openai/x", api_key=CANARY, retry=None, timeout=5, **options) as client:
            del options
            failure = failure_of(complete, client)
            texts = {**faces(failure), "locals": with_locals(failure), **own_faces(client, [])}
    assert proxy.requests[0].line.startswith("CONNECT elsewhere.test:443 ")
    for what, text in texts.items():
        assert_hidden(what, text)
        assert_hidden(what, text, secret=PASSWORD)
    assert_hidden("the log", log.text, secret=PASSWORD)


def test_X1_ctrl_c_shows_no_key_in_the_locals_of_any_frame(server: FaultServer) -> None:
    """Those of the libraries below, which are in the middle of the request, among them."""
    server.always([lambda _: os.kill(os.getpid(), signal.SIGINT), *stall_before_headers()])
    with client_of(server, api_key=CANARY) as client, pytest.raises(KeyboardInterrupt) as caught:
        client.complete("Hi")
    text = with_locals(caught.value)
    assert "in urlopen" in text
    assert "headers = <headers " in text
    assert_hidden("a traceback with locals", text)


def test_X1_ctrl_c_while_a_request_leaves_shows_no_key_in_its_bytes(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_socket: socket.socket, data: bytes) -> None:
        assert CANARY.encode() in data
        raise KeyboardInterrupt

    monkeypatch.setattr(socket.socket, "sendall", interrupted)
    with client_of(server, api_key=CANARY) as client, pytest.raises(KeyboardInterrupt) as caught:
        client.complete("Hi")
    text = with_locals(caught.value)
    assert "bytes of a request>" in text
    assert_hidden("a traceback with locals", text)


# Successes


@pytest.mark.parametrize("ask", [complete, complete_watched, stream])
def test_X1_a_success_shows_no_key(server: FaultServer, log: pytest.LogCaptureFixture, ask: Ask) -> None:
    """Also where the server repeats it in a header, and the client logs all there is."""
    answer = json_reply(completion("Hello")) if ask is complete else sse(stream_events(["Hel", "lo"]))
    server.script(error(503), [Send(bytes_with_header(answer)), *answer[1:]])
    events: list[Any] = []
    retry = Retry(attempts=2, first=0.001)
    with client_of(server, api_key=CANARY, retry=retry, listeners=[events.append]) as client:
        said = repr(ask(client))
        texts = own_faces(client, events)
    assert len(server.requests) == 2
    assert_hidden("the answer", said)
    for what, text in texts.items():
        assert_hidden(what, text)
    assert {record.name for record in log.records} >= {"tidegate", "urllib3.connectionpool"}


def bytes_with_header(step: Step) -> bytes:
    """The first bytes of an answer, with a request id that repeats the key."""
    first = step[0]
    assert isinstance(first, Send)
    line, rest = first.data.split(b"\r\n", 1)
    return b"\r\n".join([line, f"x-request-id: {CANARY}".encode(), rest])


def test_X1_a_completion_and_its_parts_show_no_key(server: FaultServer) -> None:
    server.script((Send(bytes_with_header(json_reply(completion("Hello")))),))
    with client_of(server, api_key=CANARY) as client:
        answer = client.complete("Hi", task="t", tags={"a": "b"})
    parts = (answer, answer.timeline, answer.attempts, answer.usage, answer.raw, answer.trace, answer.to_openai())
    assert_hidden("the completion", *(f"{part} {part!r}" for part in parts))
    assert_hidden("its pickle", pickle.dumps(answer).decode("latin-1"))


def test_X1_a_stream_shows_no_key(server: FaultServer) -> None:
    server.always(sse(stream_events(["Hel", "lo"])))
    with client_of(server, api_key=CANARY) as client, client.stream("Hi") as opened:
        before = f"{opened} {opened!r} {vars(opened)!r}"
        chunks = [repr(chunk) for chunk in opened]
        assert_hidden("the stream", before, *chunks, f"{opened!r} {opened.completion!r} {opened.completion.timeline!r}")


def test_X1_a_request_on_its_way_shows_no_key(server: FaultServer) -> None:
    with client_of(server, api_key=CANARY) as client:
        call, untie = client._prepare("Hi")
        untie()
        provider = client._corridor.endpoints.provider_of(call.route)
        request = provider.encode(call.request, call.route.model, streamed=False)
        assert CANARY in request.headers["Authorization"]
        assert_hidden("the request", f"{request} {request!r} {call} {call!r} {provider} {provider!r}")
        assert_hidden("the account", repr(vars(provider)["account"]))


def test_X1_a_client_cannot_be_pickled_with_its_key(server: FaultServer) -> None:
    with (
        client_of(server, api_key=CANARY) as client,
        pytest.raises((TypeError, AttributeError), match="pickle") as caught,
    ):
        pickle.dump(client, io.BytesIO())
    assert_hidden("the error", str(caught.value))


# Where a key comes from


def from_argument(_: Path, __: pytest.MonkeyPatch, url: str) -> Client:
    return Client("openai/x", api_key=CANARY, base_url=url, retry=None)


def from_provider_variable(_: Path, patch: pytest.MonkeyPatch, url: str) -> Client:
    patch.setenv("OPENAI_API_KEY", CANARY)
    return Client("openai/x", base_url=url, retry=None)


def from_own_variable(_: Path, patch: pytest.MonkeyPatch, url: str) -> Client:
    patch.setenv("TIDEGATE_API_KEY", CANARY)
    return Client("openai/x", base_url=url, retry=None)


def from_file(folder: Path, _: pytest.MonkeyPatch, url: str) -> Client:
    file = folder / "t.toml"
    file.write_text(f'api_key = "{CANARY}"\n', encoding="utf-8")
    return Client.from_config(file, model="openai/x", base_url=url, retry=None)


def from_profile(folder: Path, _: pytest.MonkeyPatch, url: str) -> Client:
    file = folder / "t.toml"
    file.write_text(f'[profiles.p]\napi_key = "{CANARY}"\n', encoding="utf-8")
    return Client.from_config(file, "p", model="openai/x", base_url=url, retry=None)


Source = Callable[[Path, pytest.MonkeyPatch, str], Client]
SOURCES: list[Source] = [from_argument, from_provider_variable, from_own_variable, from_file, from_profile]


@pytest.mark.parametrize("source", SOURCES)
def test_X1_a_key_is_hidden_wherever_it_comes_from(
    server: FaultServer,
    log: pytest.LogCaptureFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: Source,
) -> None:
    server.always(REFUSALS["a 401 repeats it"])
    with source(tmp_path, monkeypatch, server.base_url) as client:
        failure = failure_of(complete, client)
        texts = faces(failure) | own_faces(client, [])
    assert server.requests[0].headers["authorization"] == f"Bearer {CANARY}"
    for what, text in texts.items():
        assert_hidden(what, text)
    assert_hidden("a traceback with locals", with_locals(failure))


WRONG_KEYS = [f"{CANARY}\n", f" {CANARY}", f"{CANARY}\r\nx-evil: 1", f"{CANARY}\0", f"{CANARY} {CANARY}", f"{CANARY}é"]


@pytest.mark.parametrize("key", WRONG_KEYS)
def test_X1_a_refused_key_is_not_shown(log: pytest.LogCaptureFixture, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Client("openai/x", api_key=key)
    for what, text in faces(caught.value).items():
        assert_hidden(what, text)


@pytest.mark.parametrize(
    "text",
    [
        f'api_key = "{CANARY}',
        f'api_key = ["{CANARY}"]',
        f'api_key = {{a = "{CANARY}"}}',
        f'apikey = "{CANARY}"',
        f'api_key = "{CANARY}"\ntimeout = -1',
        f'api_key = "{CANARY}"\napi_key = "{CANARY}"',
        f"api_key = {CANARY}",
        f'api_key = "{CANARY}"\n[profiles.a]\nx = 1',
    ],
)
def test_X1_a_wrong_file_shows_no_key(tmp_path: Path, text: str) -> None:
    file = tmp_path / "t.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        Client.from_config(file, "b" if "profiles" in text else None)
    for what, face in faces(caught.value).items():
        assert_hidden(what, face)


def test_X1_settings_show_neither_key_nor_password() -> None:
    """Nor does a wrong setting beside them."""
    proxy = f"http://me:{PASSWORD}@127.0.0.1:1"
    settings = load_settings({"api_key": CANARY, "proxy": proxy}, environ={})
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == CANARY
    for text in (str(settings), repr(settings), format(settings)):
        assert_hidden("the settings", text)
        assert_hidden("the settings", text, secret=PASSWORD)
    with pytest.raises(ConfigError) as caught:
        ClientSettings(api_key=SecretStr(CANARY), proxy=proxy, timeout=-1)
    assert caught.value.__context__ is None  # pydantic's error would hold all that it was given
    for what, text in faces(caught.value).items():
        assert_hidden(what, text)
        assert_hidden(what, text, secret=PASSWORD)


def test_X1_another_providers_key_is_neither_sent_nor_shown(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client's key belongs to its own provider: a model of another one gets that one's."""
    monkeypatch.setenv("GROQ_BASE_URL", server.base_url)
    server.always(error(401))
    with client_of(server, api_key=CANARY) as client:
        failure = outcome_of(lambda: client.complete("Hi", model="groq/x"))
    assert isinstance(failure, CallError)
    assert "authorization" not in server.requests[0].headers


def test_X1_the_search_finds_a_key_that_is_shown() -> None:
    """In case all of the above could not fail."""
    assert shown(f"x{CANARY}x")
    assert shown(CANARY[:PIECE])
    assert shown(CANARY[-PIECE:])
    assert shown(ESCAPED)
    leak = StreamInterrupted("x", body=CANARY)
    assert [what for what, text in faces(leak).items() if shown(text)] == [
        "StreamInterrupted's attributes",
        "StreamInterrupted's pickle",
        "StreamInterrupted's oldest pickle",
        "StreamInterrupted from its pickle",
    ]
