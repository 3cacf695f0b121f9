"""A loopback server that enforces a quota of requests and tokens a minute, and keeps a log of what it let in.

Run as `python -m support.quota_server bucket --rpm N --tpm N`; prints its port, and ends when its standard input does.
`GET /log` answers a row for each request that asked for a completion: the moment, the tokens that it was counted at,
and whether it was let in (1) or refused with a 429 (0).

`bucket` is llmock as it is: buckets that refill continuously, rate-limit headers on every response, the exact wait in
`Retry-After`. Only its limiter is listened to. `window` lets a request in when the requests and the tokens that were
let in during the last 60 s leave room for it: no sliding minute is ever over. It sends no rate-limit headers, and with
a refusal `Retry-After` in whole seconds, rounded up. Both count a request at a quarter of its body's bytes and its
`max_tokens`, which is llmock's rule, when it arrives; an answer follows `--latency` seconds later, a refusal at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import uvicorn
from llmock.main import create_app
from llmock.ratelimit import Admission, LimitSettings, RateLimiter, requested_tokens
from llmock.simulation import MockResponseSettings

from support import answers

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
Row = tuple[float, int, int]

_MINUTE = 60.0
_KEEP_ALIVE = 3600
"""Seconds: whether a client notices that an idle connection was closed is not what is measured here."""
_JSON = (b"content-type", b"application/json")


class _ListenedTo(RateLimiter):
    """llmock's limiter, whose decisions are written down."""

    def __init__(self, settings: LimitSettings, log: list[Row]) -> None:
        super().__init__(settings)
        self._log = log

    def admit(self, provider: str, key: str, tokens: int) -> Admission:
        admission = super().admit(provider, key, tokens)
        self._log.append((time.monotonic(), tokens, int(admission.allowed)))
        return admission


def _bucket(limits: LimitSettings, log: list[Row]) -> App:
    app = create_app(responses=MockResponseSettings(response_style="static"), limits=limits)
    app.state.llmock.limiter = _ListenedTo(limits, log)
    return app


class _SlidingMinute:
    """What was let in during the last minute, and what is asked to be."""

    def __init__(self, rpm: int, tpm: int) -> None:
        self._rpm, self._tpm = rpm, tpm
        self._entries: deque[tuple[float, int]] = deque()
        self._tokens = 0

    def wait(self, now: float, tokens: int) -> float:
        """Let it in and answer 0, or the seconds until it would fit."""
        while self._entries and self._entries[0][0] <= now - _MINUTE:
            self._tokens -= self._entries.popleft()[1]
        requests_over, tokens_over = len(self._entries) + 1 - self._rpm, self._tokens + tokens - self._tpm
        if requests_over <= 0 and tokens_over <= 0:
            self._entries.append((now, tokens))
            self._tokens += tokens
            return 0.0
        for moment, freed in self._entries:
            requests_over, tokens_over = requests_over - 1, tokens_over - freed
            if requests_over <= 0 and tokens_over <= 0:
                return moment + _MINUTE - now
        return math.inf


def _window(limits: LimitSettings, log: list[Row]) -> App:
    minute = _SlidingMinute(limits.rpm or 0, limits.tpm or 0)
    answer = answers.completion()
    refusal = json.dumps(
        {"error": {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}}
    )

    async def app(_scope: Message, receive: Receive, send: Send) -> None:
        body = await _body(receive)
        now, tokens = time.monotonic(), requested_tokens(json.loads(body), len(body))
        wait = minute.wait(now, tokens)
        log.append((now, tokens, int(wait == 0)))
        if wait == 0:
            await _respond(send, 200, answer)
        else:
            await _respond(send, 429, refusal.encode(), (b"retry-after", b"%d" % math.ceil(wait)))

    return app


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def _respond(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [_JSON, length, *headers]})
    await send({"type": "http.response.body", "body": body})


def _with_log(app: App, log: Sequence[Row], latency: float) -> App:
    """The application, whose answers take their time, and beside it the log."""

    async def outer(scope: Message, receive: Receive, send: Send) -> None:
        async def later(message: Message) -> None:
            if message.get("status") == 200 and latency:
                await asyncio.sleep(latency)
            await send(message)

        if scope["path"] == "/log":
            await _respond(send, 200, json.dumps(log).encode())
        else:
            await app(scope, receive, later)

    return outer


def _serve(app: App) -> None:
    """Until standard input ends."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    config = uvicorn.Config(app, log_level="error", lifespan="off", timeout_keep_alive=_KEEP_ALIVE)
    server = uvicorn.Server(config)

    def end() -> None:
        sys.stdin.read()
        server.should_exit = server.force_exit = True

    threading.Thread(target=end, daemon=True).start()
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    server.run(sockets=[listener])


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("bucket", "window"))
    parser.add_argument("--rpm", type=int, required=True)
    parser.add_argument("--tpm", type=int, required=True)
    parser.add_argument("--latency", type=float, default=0.0)
    options = parser.parse_args(arguments)
    log: list[Row] = []
    make = {"bucket": _bucket, "window": _window}[options.kind]
    _serve(_with_log(make(LimitSettings(rpm=options.rpm, tpm=options.tpm), log), log, options.latency))


if __name__ == "__main__":
    main()
