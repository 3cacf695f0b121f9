"""A loopback HTTP/1.1 server whose every byte, pause and break is scripted by the test.

::

    with FaultServer() as server:
        server.script(error(503), json_reply({"ok": True}))     # one step for each request
        gate = threading.Event()
        server.always(sse(["first", Gate(gate), "second"]))     # once the script is used up
        ...                                                     # talk to `server.base_url`
        assert server.requests[0].json == {...}

A *step* answers one request: a sequence of actions, run in order on the client's connection. A builder
(`json_reply`, `sse`, `cut_at`, …) makes the steps that are needed most; since steps are plain sequences they can be
joined, and any `callable(connection)` is an action. When a step is over and did not end the connection, the next
request on it is read.

Every wait ends when the client hangs up or the server stops, so a stalled connection never outlives its test. What
goes wrong inside the server (an action that raises) is raised by the `with` statement at its end.
"""

from __future__ import annotations

import contextlib
import json
import math
import select
import socket
import ssl
import struct
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from types import TracebackType
from typing import Any, Literal, Self

import trustme

from .openai_wire import error_body

TLS = Literal["trusted", "self-signed", "wrong-host", "expired"]
HeaderPairs = Mapping[str, str] | Iterable[tuple[str, str]]
"""Headers to send, as UTF-8 and unchecked: pairs may repeat a name, and values may be nonsense."""

HOST = "127.0.0.1"
STOP_SECONDS = 1.0
"""How long `stop()` waits for the server's threads before it calls them leaked."""
GATE_POLL_SECONDS = 0.005
"""How often a closed gate is looked at: a test's `threading.Event` cannot be waited for together with a socket."""
CLIENT_GONE = getattr(select, "POLLRDHUP", 0)
"""Linux tells a waiting server that the client hung up; elsewhere it is noticed at the next send."""


# Requests, as they came


class Headers(Mapping[str, str]):
    """Received headers: names in any case, values as Latin-1 (which loses no byte). `[]` gives a name's last value."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self.pairs = tuple(pairs)
        """Name and value in the order and the case of the wire."""
        self._last = {name.lower(): value for name, value in self.pairs}

    def __getitem__(self, name: str) -> str:
        return self._last[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._last

    def __iter__(self) -> Iterator[str]:
        return iter(self._last)

    def __len__(self) -> int:
        return len(self._last)

    def get_all(self, name: str) -> list[str]:
        """Every value of `name`, in order."""
        return [value for other, value in self.pairs if other.lower() == name.lower()]


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """One request that arrived whole."""

    method: str
    path: str
    """The request target, query and all."""
    headers: Headers
    body: bytes
    connection_id: int
    """Which connection carried it, counted from 1."""
    received_at: float
    """`time.monotonic()` when its last byte had been read."""

    @property
    def json(self) -> Any:  # noqa: ANN401  # tests compare it with what they sent
        """The body, decoded. Raises `ValueError` when it is not JSON."""
        return json.loads(self.body)


# Actions


class ConnectionEnded(Exception):  # a way out, not a failure
    """Raised by an action, or by the client's or the server's going: this connection is over."""


class Connection:
    """One client's connection, as actions see it. Used by its own thread, apart from `shut_down`."""

    def __init__(self, number: int, client: socket.socket) -> None:
        self.id = number
        """Counted from 1."""
        self._socket = client
        self._received = client.makefile("rb")
        self._gone = select.poll()
        self._gone.register(client, CLIENT_GONE)

    def send(self, data: bytes) -> None:
        """Send all of `data`, at once."""
        with _ended_by_network():
            self._socket.sendall(data)

    def wait(self, seconds: float = math.inf, until: threading.Event | None = None) -> None:
        """Wait for so many seconds, or until the event is set.

        Raises `ConnectionEnded` as soon as the client hangs up or the server stops.
        """
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not (until and until.is_set()):
            nap = min(left, GATE_POLL_SECONDS) if until else left
            if self._gone.poll(None if nap == math.inf else nap * 1000):
                raise ConnectionEnded

    def end(self, *, reset: bool = False) -> None:
        """End the connection: with a FIN, or with a RST. Always raises `ConnectionEnded`."""
        if reset:
            # Lingering for zero seconds makes `close` send a RST instead of a FIN.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise ConnectionEnded

    def read_request(self) -> RecordedRequest:
        """Read one request, after the TLS handshake if that is still to be done.

        Raises `ConnectionEnded` when the client leaves before it is whole.
        """
        with _ended_by_network():
            method, path = self._read_request_line()
            headers = Headers(self._read_headers())
            if "transfer-encoding" in headers:
                raise ValueError("the fault server reads request bodies with a `Content-Length` only")
            body = self._received.read(length := int(headers.get("content-length", "0")))
        if len(body) < length:
            raise ConnectionEnded
        return RecordedRequest(method, path, headers, body, self.id, time.monotonic())

    def _read_request_line(self) -> tuple[str, str]:
        words = self._read_line().split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise ConnectionEnded  # not HTTP: a TLS client, perhaps
        return words[0], words[1]

    def _read_headers(self) -> Iterator[tuple[str, str]]:
        while line := self._read_line():
            name, _, value = line.partition(":")
            yield name, value.strip()

    def _read_line(self) -> str:
        line = self._received.readline()
        if not line.endswith(b"\n"):
            raise ConnectionEnded
        return line.rstrip(b"\r\n").decode("latin-1")

    def shut_down(self) -> None:
        """End every read, write and wait of this connection, from any thread."""
        # Not `SSLSocket.shutdown`: it drops the TLS layer first, and a writer could go on in plain text.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the socket back."""
        self._received.close()
        self._socket.close()


@contextlib.contextmanager
def _ended_by_network() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConnectionEnded from error


Action = Callable[[Connection], None]
Step = Sequence[Action]


@dataclass(frozen=True, slots=True)
class Send:
    """Send bytes in one piece."""

    data: bytes

    def __call__(self, connection: Connection) -> None:
        connection.send(self.data)


@dataclass(frozen=True, slots=True)
class Drip:
    """Send bytes `piece` at a time, `interval` seconds apart; header bytes too, if `data` has them."""

    data: bytes
    interval: float
    piece: int = 1

    def __call__(self, connection: Connection) -> None:
        for start in range(0, len(self.data), self.piece):
            connection.wait(self.interval if start else 0)
            connection.send(self.data[start : start + self.piece])


@dataclass(frozen=True, slots=True)
class Repeat:
    """Send the same bytes for ever, `interval` seconds apart."""

    data: bytes
    interval: float

    def __call__(self, connection: Connection) -> None:
        while True:
            connection.send(self.data)
            connection.wait(self.interval)


@dataclass(frozen=True, slots=True)
class Gate:
    """Go on only when the test sets the event."""

    event: threading.Event

    def __call__(self, connection: Connection) -> None:
        connection.wait(until=self.event)


@dataclass(frozen=True, slots=True)
class Pause:
    """Go on after some seconds."""

    seconds: float

    def __call__(self, connection: Connection) -> None:
        connection.wait(self.seconds)


@dataclass(frozen=True, slots=True)
class Stall:
    """Never go on."""

    def __call__(self, connection: Connection) -> None:
        connection.wait()


@dataclass(frozen=True, slots=True)
class Reset:
    """End the connection with a RST. What was sent before still reaches the client."""

    def __call__(self, connection: Connection) -> None:
        connection.end(reset=True)


@dataclass(frozen=True, slots=True)
class Close:
    """End the connection with a FIN (under TLS without a `close_notify`, as a server that dies would).

    The system turns the FIN into a RST when the client has sent what was never read.
    """

    def __call__(self, connection: Connection) -> None:
        connection.end()


@dataclass(frozen=True, slots=True)
class OnAccept:
    """As a step's first action: run the step when a connection comes, before TLS and before anything is read."""

    def __call__(self, connection: Connection) -> None:
        pass  # it is only a mark


# Bytes


def head(status: int, headers: HeaderPairs = ()) -> bytes:
    """A status line and headers, with nothing added."""
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = "Unassigned"
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in _pairs(headers)), "", ""]
    return "\r\n".join(lines).encode()


def http_chunk(data: bytes) -> bytes:
    """Bytes as one chunk of the chunked encoding; no bytes give no chunk, for an empty one would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


LAST_CHUNK = b"0\r\n\r\n"


def sse_event(data: str, name: str | None = None) -> bytes:
    """One server-sent event; each line of `data` becomes a `data:` line."""
    lines = [] if name is None else [f"event: {name}"]
    lines += [f"data: {line}" for line in data.split("\n")]
    return ("\n".join(lines) + "\n\n").encode()


def bytes_of(step: Step) -> bytes:
    """All that a step sends, waits and breaks left out: what `cut_at` and `Drip` want. Endless steps have none."""
    if any(isinstance(action, Repeat) for action in step):
        raise ValueError("a step with `Repeat` never stops sending")
    return b"".join(action.data for action in step if isinstance(action, Send | Drip))


def _pairs(headers: HeaderPairs) -> list[tuple[str, str]]:
    return list(headers.items() if isinstance(headers, Mapping) else headers)


def _with_defaults(headers: HeaderPairs, **defaults: str) -> list[tuple[str, str]]:
    """The test's headers, after the defaults (`content_type` is `content-type`) that it did not set itself."""
    given = _pairs(headers)
    names = {name.lower() for name, _ in given}
    missing = [(name.replace("_", "-"), value) for name, value in defaults.items()]
    return [pair for pair in missing if pair[0] not in names] + given


# Steps that answer


def reply(status: int, body: bytes = b"", headers: HeaderPairs = ()) -> Step:
    """An answer with a `Content-Length`, which `headers` may replace by a wrong one."""
    return (Send(head(status, _with_defaults(headers, content_length=str(len(body)))) + body),)


def json_reply(obj: object, status: int = 200, headers: HeaderPairs = ()) -> Step:
    """An answer in JSON."""
    return reply(status, json.dumps(obj).encode(), _with_defaults(headers, content_type="application/json"))


def error(
    status: int,
    type: str = "server_error",  # noqa: A002  # the field's own name
    code: str | None = None,
    message: str = "The request failed.",
    headers: HeaderPairs = (),
) -> Step:
    """An error in OpenAI's shape."""
    return json_reply(error_body(type, code, message), status, headers)


def redirect(location: str, status: int = 307) -> Step:
    """A redirect (302, 307 or 308) to a URL or a path."""
    return reply(status, headers={"Location": location})


def gzip_bomb(decoded_bytes: int, headers: HeaderPairs = ()) -> Step:
    """A small gzip body that decodes to `decoded_bytes` spaces, about a thousand times larger."""
    body = _gzipped_spaces(decoded_bytes)
    return reply(200, body, _with_defaults(headers, content_type="application/json", content_encoding="gzip"))


@cache
def _gzipped_spaces(count: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    megabyte = b" " * 2**20
    parts = [packer.compress(megabyte[: count - done]) for done in range(0, count, len(megabyte))]
    return b"".join([*parts, packer.flush()])


def sse(
    events: Iterable[str | bytes | Mapping[str, Any] | Action],
    *,
    chunked: bool = True,
    done: bool = True,
    interval: float = 0,
    headers: HeaderPairs = (),
) -> Step:
    """A stream of server-sent events, `interval` seconds apart.

    Text is an event's data, a mapping its JSON, bytes are sent as they are, and an action is run where it stands:
    `sse(["one", Gate(event), "two", Reset()])`. `done` adds `[DONE]`. The end is the last chunk of the chunked
    encoding, or with `chunked=False` the end of the connection.
    """
    actions = [_event_action(event, chunked=chunked) for event in [*events, *(["[DONE]"] if done else [])]]
    if interval:
        actions = [each for action in actions for each in (Pause(interval), action)][1:]
    return (_stream_head(headers, chunked=chunked), *actions, _stream_end(chunked=chunked))


def sse_raw(*pieces: bytes, chunked: bool = True, headers: HeaderPairs = ()) -> Step:
    """A stream of just these bytes, sent piece by piece wherever they are cut."""
    return sse(pieces, chunked=chunked, done=False, headers=headers)


def _event_action(event: str | bytes | Mapping[str, Any] | Action, *, chunked: bool) -> Action:
    if isinstance(event, Mapping):
        event = json.dumps(event)
    if isinstance(event, str):
        event = sse_event(event)
    if isinstance(event, bytes):
        return Send(http_chunk(event) if chunked else event)
    return event


def _stream_head(headers: HeaderPairs, *, chunked: bool) -> Action:
    framing = {"transfer_encoding": "chunked"} if chunked else {"connection": "close"}
    return Send(head(200, _with_defaults(headers, content_type="text/event-stream", **framing)))


def _stream_end(*, chunked: bool) -> Action:
    return Send(LAST_CHUNK) if chunked else Close()


# Steps that misbehave


def cut_at(response: bytes, offset: int, how: Literal["close", "reset"] = "close") -> Step:
    """The first `offset` bytes of a whole response (`bytes_of(…)`), then the end of the connection."""
    return (Send(response[:offset]), Reset() if how == "reset" else Close())


def half_body(body: bytes, sent: int, how: Literal["close", "reset"] = "close") -> Step:
    """The first `sent` bytes of a body under the right `Content-Length`, then the end of the connection."""
    response = bytes_of(reply(200, body, {"content-type": "application/json"}))
    return cut_at(response, len(response) - len(body) + sent, how)


def stall_before_headers() -> Step:
    """Read the request, and answer nothing."""
    return (Stall(),)


def accept_and_never_answer() -> Step:
    """Accept the connection, and neither shake hands, nor read, nor answer. No request is recorded."""
    return (OnAccept(), Stall())


def drip_headers(interval: float) -> Step:
    """Headers that come a byte at a time and never end."""
    return (Drip(head(200, {"x-drip": ""}).rstrip(), interval), Pause(interval), Repeat(b"a", interval))


def keepalive_comments(
    interval: float, after: Iterable[str | bytes | Mapping[str, Any] | Action] = (), headers: HeaderPairs = ()
) -> Step:
    """A stream that, after some events, sends only comments, for ever."""
    opening = sse(after, done=False, headers=headers)[:-1]
    return (*opening, Repeat(http_chunk(b": keep-alive\n\n"), interval))


# The server


class FaultServer:
    """See the module. `tls` chooses what is wrong, if anything, with the certificate of an `https` server."""

    def __init__(self, *, tls: TLS | None = None) -> None:
        self.tls = tls
        self.requests: list[RecordedRequest] = []
        """Every request that arrived whole, in order."""
        self.connections = 0
        """How many connections were accepted so far."""
        self._changed = threading.Condition(threading.RLock())
        self._script: deque[Step] = deque()
        self._handler: Callable[[RecordedRequest], Step | None] = lambda _request: None
        self._default: Step = error(400, code="unscripted", message="The fault server has no step for this request.")
        self._open: set[Connection] = set()
        self._threads: list[threading.Thread] = []
        self._failures: list[BaseException] = []
        self._resources = contextlib.ExitStack()
        self._stopped = False

    def script(self, *steps: Step) -> None:
        """Queue steps; each serves one request, first come, first served."""
        with self._changed:
            self._script.extend(steps)

    def on(self, handler: Callable[[RecordedRequest], Step | None]) -> None:
        """Ask `handler` for the step when the queue is empty; None leaves it to `always`. Called by many threads."""
        self._handler = handler

    def always(self, step: Step) -> None:
        """Serve this step when nothing else has one. Until it is set, an unscripted request gets a 400."""
        self._default = step

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`, or `https` with TLS."""
        return f"{'https' if self.tls else 'http'}://{HOST}:{self.port}"

    @property
    def base_url(self) -> str:
        """`url` with `/v1`."""
        return f"{self.url}/v1"

    @property
    def ca_file(self) -> str:
        """Path of a PEM file with the authority behind every certificate here but the self-signed one. TLS only."""
        return self._ca_file

    @property
    def open_connections(self) -> int:
        """How many connections neither side has ended."""
        with self._changed:
            return len(self._open)

    def wait_until(self, condition: Callable[[], bool], seconds: float = 5) -> None:
        """Wait for something about requests or connections to become true. Raises `TimeoutError` if it does not."""
        with self._changed:
            if not self._changed.wait_for(condition, seconds):
                facts = f"{len(self.requests)} requests, {self.connections} connections, {len(self._open)} of them open"
                raise TimeoutError(f"not within {seconds:g} s; the fault server has seen {facts}")

    def __enter__(self) -> Self:
        if self.tls:
            self._tls_context = _tls_context(self.tls)
            self._ca_file = self._resources.enter_context(_authority().cert_pem.tempfile())
        self._listener = self._resources.enter_context(socket.create_server((HOST, 0), backlog=256))
        self._listener.settimeout(0)
        self.port: int = self._listener.getsockname()[1]
        for end in (sockets := socket.socketpair()):
            self._resources.enter_context(end)
        self._alarm, self._stopping = sockets
        self._spawn(self._accept_all)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        if not self._failures:
            return
        if error is None:
            raise self._failures[0]
        error.add_note(f"The fault server failed as well: {self._failures[0]!r}")

    def stop(self) -> None:
        """End every connection and join every thread; a second call does nothing.

        Raises `RuntimeError` when a thread does not end within a second.
        """
        with self._changed:
            if self._stopped:
                return
            self._stopped = True
            self._alarm.send(b"!")  # wakes the accepting thread
            for connection in self._open:
                connection.shut_down()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._resources.close()
        if leaked := [thread.name for thread in self._threads if thread.is_alive()]:
            raise RuntimeError(f"the fault server could not end {leaked}")

    def _spawn(self, work: Callable[..., None], *arguments: object) -> None:
        name = f"fault-server-{len(self._threads)}"
        thread = threading.Thread(target=self._guarded, args=(work, *arguments), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _guarded(self, work: Callable[..., None], *arguments: object) -> None:
        try:
            work(*arguments)
        except BaseException as failure:  # noqa: BLE001  # kept for `__exit__`: a thread has nobody to raise to
            self._failures.append(failure)

    def _accept_all(self) -> None:
        either = select.poll()
        either.register(self._listener, select.POLLIN)
        either.register(self._stopping, select.POLLIN)
        while not self._stopped:
            either.poll()
            try:
                client, _ = self._listener.accept()
            except (BlockingIOError, ConnectionError):  # this was the alarm, or the client left while it waited
                continue
            with contextlib.suppress(OSError):  # the client left before it was served
                self._admit(client)

    def _admit(self, client: socket.socket) -> None:
        client.settimeout(None)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.tls:
            client = self._tls_context.wrap_socket(client, server_side=True, do_handshake_on_connect=False)
        with self._changed:
            if self._stopped:
                client.close()
                return
            self.connections += 1
            connection = Connection(self.connections, client)
            self._open.add(connection)
            self._changed.notify_all()
            self._spawn(self._serve, connection)

    def _serve(self, connection: Connection) -> None:
        try:
            _run(self._step_on_accept(), connection)
            while True:
                request = connection.read_request()
                _run(self._step_for(request), connection)
                if request.headers.get("connection", "").lower() == "close":
                    connection.end()
        except ConnectionEnded:
            pass
        finally:
            self._release(connection)

    def _step_on_accept(self) -> Step:
        with self._changed:
            step = self._script[0] if self._script else self._default
            if not (step and isinstance(step[0], OnAccept)):
                return ()
            return self._script.popleft() if self._script else step

    def _step_for(self, request: RecordedRequest) -> Step:
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
            if self._script:
                return self._script.popleft()
        step = self._handler(request)
        return self._default if step is None else step

    def _release(self, connection: Connection) -> None:
        with self._changed:  # closed under the lock, so that `stop` never touches a socket that is gone
            connection.close()
            self._open.discard(connection)
            self._changed.notify_all()


def _run(step: Step, connection: Connection) -> None:
    for action in step:
        action(connection)


# Certificates


@cache
def _authority() -> trustme.CA:
    return trustme.CA()


@cache
def _tls_context(tls: TLS) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if tls == "self-signed":
        _present_itself(trustme.CA(), context)
    elif tls == "wrong-host":
        _authority().issue_cert("elsewhere.test").configure_cert(context)
    elif tls == "expired":
        past = datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 1, 2, tzinfo=UTC)
        _authority().issue_cert(HOST, "localhost", not_before=past[0], not_after=past[1]).configure_cert(context)
    else:
        _authority().issue_cert(HOST, "localhost").configure_cert(context)
    return context


def _present_itself(authority: trustme.CA, context: ssl.SSLContext) -> None:
    """An authority's own certificate is signed by nobody else: it serves as the self-signed one."""
    with authority.cert_pem.tempfile() as certificate, authority.private_key_pem.tempfile() as key:
        context.load_cert_chain(certificate, key)


# Addresses without a server


@contextlib.contextmanager
def refused() -> Iterator[tuple[str, int]]:
    """A (host, port) that refuses connections, and that nobody else can take meanwhile."""
    with socket.socket() as bound:
        bound.bind((HOST, 0))
        yield bound.getsockname()


@contextlib.contextmanager
def blackhole() -> Iterator[tuple[str, int]]:
    """A (host, port) where `connect` never completes: Linux drops what does not fit a listener's backlog.

    Raises `RuntimeError` where the system lets connections in all the same.
    """
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((HOST, 0))
        listener.listen(0)
        for _ in range(16):
            if not _connects(stack.enter_context(socket.socket()), listener.getsockname()):
                break
        else:
            raise RuntimeError("this system's listen backlog cannot be filled")
        yield listener.getsockname()


def _connects(filler: socket.socket, address: tuple[str, int]) -> bool:
    """Whether a loopback connection comes about within a tenth of a second, which is a thousand times what it needs."""
    filler.settimeout(0)
    filler.connect_ex(address)
    ready = select.poll()
    ready.register(filler, select.POLLOUT)
    return bool(ready.poll(100))
