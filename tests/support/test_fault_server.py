"""The fault server does what its steps say, byte for byte, and is gone when its `with` statement is."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from . import fault_server, openai_wire
from .fault_server import (
    TLS,
    Action,
    Close,
    Connection,
    Drip,
    FaultServer,
    Gate,
    OnAccept,
    Pause,
    Reset,
    Send,
    Stall,
    Step,
    accept_and_never_answer,
    blackhole,
    bytes_of,
    cut_at,
    drip_headers,
    error,
    gzip_bomb,
    half_body,
    head,
    http_chunk,
    json_reply,
    keepalive_comments,
    redirect,
    refused,
    reply,
    sse,
    sse_event,
    sse_raw,
    stall_before_headers,
)

pytestmark = pytest.mark.timeout(20)

ENDLESS: dict[str, Step] = {
    "stall before headers": stall_before_headers(),
    "accept and never answer": accept_and_never_answer(),
    "dripped headers": drip_headers(0.01),
    "keep-alive comments": keepalive_comments(0.01),
    "stall inside a stream": sse(["one", Stall()]),
    "closed gate": sse([Gate(threading.Event())]),
    "long pause": [Pause(3600)],
    "a client that does not read": [Send(head(200) + b"x" * 2**26)],
}


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


def connect(server: FaultServer) -> contextlib.closing[http.client.HTTPConnection]:
    return contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10))


def ask(server: FaultServer, body: bytes = b"{}") -> tuple[int, bytes]:
    with connect(server) as client:
        client.request("POST", "/v1/chat/completions", body)
        response = client.getresponse()
        return response.status, response.read()


@contextlib.contextmanager
def raw_request(server: FaultServer) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        yield client


def read_to_end(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(65536), b""))


def fault_server_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("fault-server")]


# Serving and recording


def test_a_request_is_recorded_as_it_was_sent(server: FaultServer) -> None:
    server.always(json_reply({}))
    before = time.monotonic()
    with connect(server) as client:
        client.request("POST", "/v1/x?y=1", json.dumps({"a": "ä"}), {"X-Key": "k\xff", "x-key": "second"})
        client.getresponse().read()
    (request,) = server.requests
    assert (request.method, request.path, request.json) == ("POST", "/v1/x?y=1", {"a": "ä"})
    assert request.body == b'{"a": "\\u00e4"}'
    assert request.headers["X-KEY"] == "second"
    assert request.headers.get_all("x-Key") == ["k\xff", "second"]
    assert "content-length" in request.headers
    assert "x-other" not in request.headers
    assert request.connection_id == 1
    assert before <= request.received_at <= time.monotonic()


def test_steps_are_served_in_the_order_they_were_queued_and_then_the_default(server: FaultServer) -> None:
    server.always(reply(204))
    server.script(reply(201), reply(202))
    assert [ask(server)[0] for _ in range(4)] == [201, 202, 204, 204]


def test_a_handler_is_asked_after_the_queue_and_may_leave_the_request_to_the_default(server: FaultServer) -> None:
    server.script(reply(200, b"queued"))
    server.on(lambda request: reply(200, request.body) if request.body != b"pass" else None)
    server.always(reply(200, b"default"))
    assert [ask(server, body)[1] for body in (b"1", b"2", b"pass")] == [b"queued", b"2", b"default"]


def test_a_request_that_nothing_was_scripted_for_is_refused(server: FaultServer) -> None:
    status, body = ask(server)
    assert status == 400
    assert json.loads(body)["error"]["code"] == "unscripted"


def test_a_connection_is_kept_alive_between_requests(server: FaultServer) -> None:
    server.always(json_reply({}))
    with connect(server) as client:
        for _ in range(3):
            client.request("GET", "/")
            client.getresponse().read()
    assert [request.connection_id for request in server.requests] == [1, 1, 1]
    assert server.connections == 1


def test_a_client_that_asks_for_it_has_its_connection_closed(server: FaultServer) -> None:
    server.always(reply(200, b"bye"))
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert read_to_end(client).endswith(b"bye")


def test_open_connections_are_counted_until_the_client_leaves(server: FaultServer) -> None:
    with raw_request(server), raw_request(server):
        server.wait_until(lambda: len(server.requests) == 2)
        assert server.open_connections == 2
    server.wait_until(lambda: server.open_connections == 0)
    assert server.connections == 2


@pytest.mark.parametrize("step", ENDLESS.values(), ids=list(ENDLESS))
def test_a_client_that_leaves_during_an_endless_step_is_noticed(server: FaultServer, step: Step) -> None:
    server.script(step)
    with raw_request(server):
        server.wait_until(lambda: bool(server.requests) or isinstance(step[0], OnAccept))
        server.wait_until(lambda: server.open_connections == 1)
    server.wait_until(lambda: server.open_connections == 0)


def test_waiting_for_what_does_not_happen_says_what_did(server: FaultServer) -> None:
    ask(server)
    with pytest.raises(TimeoutError, match="1 requests, 1 connections"):
        server.wait_until(lambda: len(server.requests) == 2, seconds=0)


def test_waiting_ends_as_soon_as_a_request_comes_and_a_client_leaves(server: FaultServer) -> None:
    waits_for_request, waits_for_leaving = threading.Event(), threading.Event()

    def requested() -> bool:
        waits_for_request.set()
        return len(server.requests) == 1

    def left() -> bool:
        waits_for_leaving.set()
        return server.open_connections == 0

    def request_and_leave() -> None:
        waits_for_request.wait(30)
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        waits_for_leaving.wait(30)
        client.close()

    with ThreadPoolExecutor(1) as pool, socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        server.always(stall_before_headers())
        server.wait_until(lambda: server.open_connections == 1)
        pool.submit(request_and_leave)
        # Longer than this test may take: only being told of the change can end the wait.
        server.wait_until(requested, seconds=3600)
        server.wait_until(left, seconds=3600)


def test_a_request_that_is_cut_is_not_recorded(server: FaultServer) -> None:
    whole = b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"
    for end in range(len(whole)):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            client.sendall(whole[:end])
    server.wait_until(lambda: (server.connections, server.open_connections) == (len(whole), 0))
    assert server.requests == []


def test_a_request_body_without_a_length_is_reported() -> None:
    def send_without_length() -> None:
        with FaultServer() as server, socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            client.sendall(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
            assert read_to_end(client) == b""

    with pytest.raises(ValueError, match="Content-Length"):
        send_without_length()


def test_64_connections_are_served_at_once(server: FaultServer) -> None:
    everybody_is_here = threading.Event()
    server.always([Gate(everybody_is_here), *reply(200, b"ok")])
    with ThreadPoolExecutor(64) as pool:
        answers = [pool.submit(ask, server) for _ in range(64)]
        server.wait_until(lambda: server.open_connections == 64 and len(server.requests) == 64)
        everybody_is_here.set()
        assert [answer.result() for answer in answers] == [(200, b"ok")] * 64


# Stopping


@pytest.mark.parametrize("step", ENDLESS.values(), ids=list(ENDLESS))
def test_stopping_ends_an_endless_step_and_leaves_no_thread(step: Step) -> None:
    with FaultServer() as server, contextlib.ExitStack() as clients:
        server.always(step)
        for _ in range(4):
            clients.enter_context(raw_request(server))
        server.wait_until(lambda: server.open_connections == 4)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 1
        assert server.open_connections == 0
        assert fault_server_threads() == []


@pytest.mark.parametrize("tls", [None, "trusted"])
def test_stopping_ends_idle_and_silent_clients(tls: TLS | None) -> None:
    with FaultServer(tls=tls) as server, socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        server.wait_until(lambda: server.open_connections == 1)
        server.stop()
        assert client.recv(1) == b""
        assert fault_server_threads() == []


def test_a_stopped_server_refuses_connections(server: FaultServer) -> None:
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        ask(server)


def fail(_connection: Connection) -> None:
    raise ZeroDivisionError


def ask_a_server_that_fails() -> None:
    with FaultServer() as server:
        server.always([fail])
        with pytest.raises(http.client.RemoteDisconnected):
            ask(server)


def test_a_failure_inside_the_server_is_raised_at_the_end() -> None:
    with pytest.raises(ZeroDivisionError):
        ask_a_server_that_fails()


def test_a_failure_inside_the_server_does_not_hide_the_failure_of_the_test() -> None:
    failure = KeyError("the test's own")
    with contextlib.suppress(KeyError), FaultServer() as server:
        server.always([fail])
        with contextlib.suppress(http.client.RemoteDisconnected):
            ask(server)
        raise failure
    assert "ZeroDivisionError" in failure.__notes__[0]


def test_an_action_that_does_not_end_is_reported_as_a_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def hang(_connection: Connection) -> None:
        release.wait()

    with FaultServer() as server:
        server.always([hang])
        with raw_request(server):
            server.wait_until(lambda: len(server.requests) == 1)
        monkeypatch.setattr(fault_server, "STOP_SECONDS", 0.05)
        with pytest.raises(RuntimeError, match="could not end"):
            server.stop()
        release.set()
        server.wait_until(lambda: server.open_connections == 0)


# Answers


def test_a_json_reply_carries_its_status_and_headers(server: FaultServer) -> None:
    server.script(json_reply({"a": 1}, 429, [("Retry-After", "1"), ("retry-after", "nonsense")]))
    with connect(server) as client:
        client.request("GET", "/")
        response = client.getresponse()
        assert (response.status, response.reason) == (429, "Too Many Requests")
        assert response.headers.get_all("Retry-After") == ["1", "nonsense"]
        assert response.headers["Content-Type"] == "application/json"
        assert json.load(response) == {"a": 1}


def test_a_given_header_replaces_the_default_one() -> None:
    sent = bytes_of(reply(200, b"four", {"Content-Length": "9"}))
    assert sent == b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfour"


def test_a_status_that_http_does_not_know_and_a_header_beyond_ascii_are_sent() -> None:
    assert head(529, {"x": "٣"}) == "HTTP/1.1 529 Unassigned\r\nx: ٣\r\n\r\n".encode()


def test_an_error_has_the_shape_of_openai(server: FaultServer) -> None:
    server.script(error(429, "insufficient_quota", None, "Pay first.", {"x-should-retry": "false"}))
    status, body = ask(server)
    expected = {"message": "Pay first.", "type": "insufficient_quota", "param": None, "code": None}
    assert (status, json.loads(body)) == (429, {"error": expected})


@pytest.mark.parametrize("status", [302, 307, 308])
def test_a_redirect_names_its_target(server: FaultServer, status: int) -> None:
    server.script(redirect("http://127.0.0.1:1/elsewhere", status))
    with connect(server) as client:
        client.request("GET", "/")
        response = client.getresponse()
        assert (response.status, response.headers["Location"]) == (status, "http://127.0.0.1:1/elsewhere")


@pytest.mark.parametrize("size", [1, 2**20, 3 * 2**20 + 5])
def test_a_gzip_bomb_decodes_to_the_size_asked_for(server: FaultServer, size: int) -> None:
    server.script(gzip_bomb(size))
    with connect(server) as client:
        client.request("GET", "/")
        response = client.getresponse()
        assert response.headers["Content-Encoding"] == "gzip"
        packed = response.read()
    assert gzip.decompress(packed) == b" " * size
    assert len(packed) < size / 500 + 100


@pytest.mark.parametrize("chunked", [True, False])
def test_a_stream_carries_text_mappings_and_bytes(server: FaultServer, chunked: bool) -> None:  # noqa: FBT001
    server.script(sse(["one\ntwo", {"a": 1}, b": comment\n\n", sse_event("x", "ping")], chunked=chunked))
    with connect(server) as client:
        client.request("GET", "/")
        response = client.getresponse()
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.headers["Transfer-Encoding"] == ("chunked" if chunked else None)
        body = response.read()
    expected = b'data: one\ndata: two\n\ndata: {"a": 1}\n\n: comment\n\nevent: ping\ndata: x\n\ndata: [DONE]\n\n'
    assert body == expected


def test_a_connection_survives_a_chunked_stream(server: FaultServer) -> None:
    server.always(sse(["one"], done=False))
    with connect(server) as client:
        for _ in range(2):
            client.request("GET", "/")
            assert client.getresponse().read() == b"data: one\n\n"
    assert server.connections == 1


def test_a_raw_stream_sends_every_piece_as_a_chunk_of_its_own() -> None:
    sent = bytes_of(sse_raw(b"da", b"", b"ta: \xff\r", chunked=True))
    assert sent.partition(b"\r\n\r\n")[2] == b"2\r\nda\r\n6\r\nta: \xff\r\r\n0\r\n\r\n"


def test_an_interval_stands_between_events_and_not_before_the_first() -> None:
    assert sse(["a", "b"], interval=0.5, done=False)[1:-1] == (
        Send(http_chunk(b"data: a\n\n")),
        Pause(0.5),
        Send(http_chunk(b"data: b\n\n")),
    )


def test_a_gate_holds_back_the_second_event_until_the_test_opens_it(server: FaultServer) -> None:
    gate = threading.Event()
    server.script(sse(["one", Gate(gate), "two"], done=False))
    with connect(server) as client:
        client.request("GET", "/")
        response = client.getresponse()
        assert response.read1() == b"data: one\n\n"
        assert client.sock is not None
        client.sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.sock.recv(1)
        client.sock.settimeout(10)
        gate.set()
        assert client.sock.recv(100).startswith(b"b\r\ndata: two")


def test_dripped_bytes_arrive_whole(server: FaultServer) -> None:
    server.script([Drip(bytes_of(reply(200, b"slow")), interval=0.001)])
    assert ask(server) == (200, b"slow")


@pytest.mark.parametrize(("piece", "sent"), [(1, [b"a", b"b", b"c"]), (2, [b"ab", b"c"]), (9, [b"abc"])])
def test_a_drip_sends_pieces_with_waits_only_between_them(piece: int, sent: list[bytes]) -> None:
    log: list[bytes | float] = []

    class Recorder(Connection):
        def __init__(self) -> None:
            pass

        def send(self, data: bytes) -> None:
            log.append(data)

        def wait(self, seconds: float = 0, until: threading.Event | None = None) -> None:
            assert until is None
            if seconds:
                log.append(seconds)

    Drip(b"abc", 0.5, piece)(Recorder())
    assert log[::2] == sent
    assert set(log[1::2]) <= {0.5}


# Misbehaviour


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_response_is_cut_at_every_offset(server: FaultServer, how: str) -> None:
    whole = bytes_of(json_reply({"a": 1}))
    for offset in range(len(whole) + 1):
        server.script(cut_at(whole, offset, "reset" if how == "reset" else "close"))
        got, ending = b"", None
        with raw_request(server) as client:
            try:
                while piece := client.recv(65536):
                    got += piece
            except ConnectionResetError as error:
                ending = error
        assert got == whole[:offset]
        assert (ending is not None) == (how == "reset")


def test_a_half_body_comes_under_the_right_content_length(server: FaultServer) -> None:
    server.script(half_body(b"0123456789", 4))
    with connect(server) as client:
        client.request("GET", "/")
        with pytest.raises(http.client.IncompleteRead) as caught:
            client.getresponse().read()
    assert (caught.value.partial, caught.value.expected) == (b"0123", 6)


@pytest.mark.parametrize("action", [Reset(), Close()])
def test_a_stream_breaks_where_the_action_stands(server: FaultServer, action: Action) -> None:
    server.script(sse(["one", action, "two"]))
    with connect(server) as client:
        client.request("GET", "/")
        response = client.getresponse()
        assert response.read1() == b"data: one\n\n"
        with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
            response.read()


def test_a_server_that_accepts_and_never_answers_records_no_request(server: FaultServer) -> None:
    server.script(accept_and_never_answer(), reply(200, b"next"))
    with raw_request(server) as client:
        server.wait_until(lambda: server.open_connections == 1)
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.recv(1)
        assert server.requests == []
        assert ask(server) == (200, b"next")


def test_a_connection_may_be_reset_when_it_comes(server: FaultServer) -> None:
    server.always([OnAccept(), Reset()])
    with pytest.raises(ConnectionError):
        ask(server)
    assert (server.connections, server.requests) == (1, [])


def test_a_server_that_stalls_has_read_the_request(server: FaultServer) -> None:
    server.script(stall_before_headers())
    with raw_request(server) as client:
        server.wait_until(lambda: len(server.requests) == 1)
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.recv(1)


def test_dripped_headers_begin_well_and_never_end(server: FaultServer) -> None:
    server.script(drip_headers(0.0005))
    with raw_request(server) as client:
        received = b""
        while len(received) < 100:
            received += client.recv(100)
    assert received.startswith(b"HTTP/1.1 200 OK\r\nx-drip:aaa")
    assert received.count(b"\n") == 1


def test_keep_alive_comments_follow_the_events_for_ever(server: FaultServer) -> None:
    server.script(keepalive_comments(0.001, after=["one"]))
    with connect(server) as client:
        client.request("GET", "/")
        response = client.getresponse()
        lines = [response.readline() for _ in range(42)]
    assert lines == [b"data: one\n", b"\n"] + [b": keep-alive\n", b"\n"] * 20


def test_the_bytes_of_a_step_are_what_it_sends() -> None:
    assert bytes_of([Send(b"a"), Pause(1), Drip(b"bc", 1), Stall(), Send(b"d"), Close()]) == b"abcd"


def test_an_endless_step_cannot_be_taken_as_bytes() -> None:
    with pytest.raises(ValueError, match="never stops"):
        bytes_of(keepalive_comments(1))


# TLS


def ask_over_tls(server: FaultServer, context: ssl.SSLContext) -> tuple[int, bytes]:
    client = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=10, context=context)
    with contextlib.closing(client):
        client.request("GET", "/")
        response = client.getresponse()
        return response.status, response.read()


def test_a_trusted_server_is_believed_by_who_knows_its_authority() -> None:
    with FaultServer(tls="trusted") as server:
        server.always(json_reply({}))
        assert server.base_url == f"https://127.0.0.1:{server.port}/v1"
        assert ask_over_tls(server, ssl.create_default_context(cafile=server.ca_file)) == (200, b"{}")
        with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer certificate"):
            ask_over_tls(server, ssl.create_default_context())


@pytest.mark.parametrize(
    ("tls", "reason"),
    [("self-signed", "self-signed certificate"), ("wrong-host", "mismatch"), ("expired", "certificate has expired")],
)
def test_a_bad_certificate_is_refused_for_its_own_reason_and_for_nothing_else(tls: TLS, reason: str) -> None:
    careless = ssl.create_default_context()
    careless.check_hostname = False
    careless.verify_mode = ssl.CERT_NONE
    with FaultServer(tls=tls) as server:
        server.always(json_reply({}))
        with pytest.raises(ssl.SSLCertVerificationError, match=reason):
            ask_over_tls(server, ssl.create_default_context(cafile=server.ca_file))
        assert server.requests == []
        assert ask_over_tls(server, careless) == (200, b"{}")


@pytest.mark.parametrize("step", [ENDLESS["stall inside a stream"], ENDLESS["a client that does not read"]])
def test_a_tls_server_stops_and_notices_like_a_plain_one(step: Step) -> None:
    with FaultServer(tls="trusted") as server:
        server.always(step)
        context = ssl.create_default_context(cafile=server.ca_file)
        clients = [http.client.HTTPSConnection("127.0.0.1", server.port, timeout=10, context=context) for _ in "ab"]
        for client in clients:
            client.request("GET", "/")
        server.wait_until(lambda: len(server.requests) == 2)
        clients[0].close()
        server.wait_until(lambda: server.open_connections == 1)
        server.stop()
        clients[1].close()
        assert fault_server_threads() == []


def test_a_tls_handshake_may_never_be_answered() -> None:
    with FaultServer(tls="trusted") as server:
        server.always(accept_and_never_answer())
        with socket.create_connection(("127.0.0.1", server.port), timeout=0.05) as client:
            context = ssl.create_default_context(cafile=server.ca_file)
            with pytest.raises(TimeoutError):
                context.wrap_socket(client, server_hostname="127.0.0.1")


@pytest.mark.parametrize(("tls", "hello"), [(None, b"\x16\x03\x01\x02\x00\n"), ("trusted", b"GET / HTTP/1.1\r\n\r\n")])
def test_a_client_that_speaks_the_other_protocol_is_hung_up_on(tls: TLS | None, hello: bytes) -> None:
    with FaultServer(tls=tls) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            client.sendall(hello)
            with contextlib.suppress(ConnectionResetError):  # as good as a FIN here
                assert not read_to_end(client).startswith(b"HTTP")
        assert server.requests == []


# Addresses without a server


def test_a_blackhole_never_completes_a_connection() -> None:
    with blackhole() as address:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                socket.create_connection(address, timeout=0.1)


def test_a_refused_address_refuses() -> None:
    with refused() as address, pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=10)


# OpenAI's shapes


def test_a_completion_is_read_by_the_official_types() -> None:
    types = pytest.importorskip("openai.types.chat")
    call = openai_wire.tool_call("add", {"a": 1})
    answer = types.ChatCompletion.model_validate(openai_wire.completion("Hi", usage=(3, 4), tool_calls=[call]))
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("Hi", "stop")
    assert answer.choices[0].message.tool_calls[0].function.arguments == '{"a": 1}'
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (3, 4, 7)


def test_a_stream_is_role_then_text_then_finish_then_usage_without_choices() -> None:
    types = pytest.importorskip("openai.types.chat")
    events = openai_wire.stream_events(["Hel", "lo"], usage=(3, 4))
    chunks = [types.ChatCompletionChunk.model_validate_json(event) for event in events]
    deltas = [chunk.choices[0].delta for chunk in chunks[:-1]]
    assert [delta.role for delta in deltas] == ["assistant", None, None, None]
    assert [delta.content for delta in deltas] == ["", "Hel", "lo", None]
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None, None, None, "stop"]
    assert chunks[-1].choices == []
    assert [chunk.usage and chunk.usage.total_tokens for chunk in chunks] == [None, None, None, None, 7]


def test_a_stream_may_lack_its_finish_reason_and_its_usage() -> None:
    events = [json.loads(event) for event in openai_wire.stream_events(["a"], usage=None, finish=None)]
    assert [event["choices"][0]["delta"].get("content") for event in events] == ["", "a"]


def test_a_tool_call_streams_its_name_first_and_its_arguments_after() -> None:
    opening = openai_wire.tool_call_delta(id="call_1", name="add", arguments="")
    first = openai_wire.chunk(tool_call=opening)["choices"][0]["delta"]["tool_calls"]
    assert first == [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "add", "arguments": ""}}]
    assert openai_wire.tool_call_delta(1, arguments='{"a"') == {"index": 1, "function": {"arguments": '{"a"'}}


@pytest.mark.parametrize("usage", [None, {"prompt_tokens": -1}])
def test_usage_may_be_missing_or_nonsense(usage: dict[str, int] | None) -> None:
    assert openai_wire.completion(usage=usage).get("usage") == usage
