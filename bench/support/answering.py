"""A loopback server in a process of its own: answers each POST after a delay, or streams one event at a time.

Run as `python -m support.answering --delay SECONDS` or `--events N --gap SECONDS`; prints its port, and ends when its
standard input does. It reads no more of a request than it must, and every answer's bytes are made in advance. With
`--late SHARE --times N` that share of the plain answers, drawn by chance, takes N times as long.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import random
import sys
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, cast

from support import answers

_BACKLOG = 4096


class _Answer(Protocol):
    """Writes one answer, now or in time; the handle, if there is one, stops it."""

    def __call__(self, transport: asyncio.Transport) -> asyncio.TimerHandle | None: ...


class _Connection(asyncio.Protocol):
    """Splits what comes into requests, and has each one answered."""

    def __init__(self, answer: _Answer) -> None:
        self._answer = answer
        self._received = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while length := _request_length(self._received):
            self._received = self._received[length:]
            self._timer = self._answer(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (why it is lost makes no difference)
        if self._timer is not None:
            self._timer.cancel()


def _request_length(received: bytes) -> int:
    """Bytes of the first request, or 0 while it is not whole. A request has a `Content-Length` or no body."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return 0
    head = received[: end + 2].lower()
    start = head.find(b"\r\ncontent-length:")
    body = int(head[start + 17 : head.index(b"\r\n", start + 2)]) if start >= 0 else 0
    whole = end + 4 + body
    return whole if len(received) >= whole else 0


def _delayed(delay: float, late: float, times: float) -> _Answer:
    """The plain answer, `delay` seconds after the request; `late` of all take so many `times` as long."""
    body = answers.completion()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    answer = head.encode() + body
    loop = asyncio.get_running_loop()

    draw = random.Random(0)  # noqa: S311 (which answers are late is nobody's secret)

    def send(transport: asyncio.Transport) -> asyncio.TimerHandle | None:
        seconds = delay * times if late and draw.random() < late else delay
        return loop.call_later(seconds, transport.write, answer)

    return send


def _paced(pieces: int, gap: float) -> _Answer:
    """A stream, one event in each HTTP chunk and each write, `gap` seconds apart."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    writes = [b"%x\r\n%s\r\n" % (len(event), event) for event in answers.events(pieces)]
    writes[-1] += b"0\r\n\r\n"
    loop = asyncio.get_running_loop()

    def send(transport: asyncio.Transport) -> asyncio.TimerHandle | None:
        transport.write(head)
        remaining = iter(writes)

        def go_on() -> None:
            event = next(remaining, None)
            if event is not None and not transport.is_closing():
                transport.write(event)
                loop.call_later(gap, go_on)

        return loop.call_later(gap, go_on)

    return send


async def _serve(answer: Callable[[], _Answer]) -> None:
    loop = asyncio.get_running_loop()
    made = answer()
    server = await loop.create_server(lambda: _Connection(made), "127.0.0.1", 0, backlog=_BACKLOG)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    ended = asyncio.Event()
    threading.Thread(target=_tell_at_end_of_input, args=(loop, ended), daemon=True).start()
    await ended.wait()


def _tell_at_end_of_input(loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    sys.stdin.read()
    loop.call_soon_threadsafe(ended.set)


def _runner() -> Callable[[Coroutine[Any, Any, None]], None]:
    """The `run` of uvloop where uvloop is installed, else asyncio's."""
    try:
        uvloop: Any = importlib.import_module("uvloop")
    except ImportError:
        return asyncio.run
    return cast("Callable[[Coroutine[Any, Any, None]], None]", uvloop.run)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--delay", type=float)
    parser.add_argument("--late", type=float, default=0.0)
    parser.add_argument("--times", type=float, default=1.0)
    parser.add_argument("--events", type=int, default=answers.PACED_EVENTS)
    parser.add_argument("--gap", type=float, default=answers.GAP)
    options = parser.parse_args(arguments)

    def answer() -> _Answer:
        if options.delay is None:
            return _paced(options.events, options.gap)
        return _delayed(options.delay, options.late, options.times)

    _runner()(_serve(answer))


if __name__ == "__main__":
    main()
