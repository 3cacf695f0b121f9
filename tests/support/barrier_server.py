"""A provider that answers nobody until a given number of requests wait at the same time."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from .openai_wire import completion


class BarrierServer:
    """Answers all at once when `expected` requests are in flight; one thread serves any number of connections."""

    def __init__(self, expected: int) -> None:
        body = json.dumps(completion("hello")).encode()
        self.answer = (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        self.expected = expected
        self.connections: list[asyncio.Transport] = []
        self.waiting: list[asyncio.Transport] = []
        self.most_in_flight = 0
        self._port: Future[int] = Future()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="barrier-server")

    @property
    def base_url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port.result(timeout=10)}/v1"

    def arrived(self, transport: asyncio.Transport) -> None:
        """One more request waits."""
        self.waiting.append(transport)
        self.most_in_flight = max(self.most_in_flight, len(self.waiting))
        if len(self.waiting) >= self.expected:
            waiting, self.waiting = self.waiting, []
            for each in waiting:
                each.write(self.answer)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, backlog=4096)
        )
        self._port.set_result(server.sockets[0].getsockname()[1])
        self._loop.run_forever()
        server.close()
        for connection in self.connections:
            connection.abort()
        self._loop.run_until_complete(asyncio.sleep(0))  # the aborts take effect in the loop
        self._loop.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)


class _Connection(asyncio.Protocol):
    def __init__(self, server: BarrierServer) -> None:
        self._server = server
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.connections.append(transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        if not blank:
            return
        length = next(
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
        )
        if len(body) >= length:
            self._received = body[length:]
            self._server.arrived(self._transport)
