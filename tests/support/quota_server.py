"""A chat endpoint that enforces its quota, as providers do: continuously refilled buckets, counted in its own way.

It says what is left in OpenAI's headers, refuses with 429 and Retry-After, and keeps a log of everything.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from .openai_wire import completion, error_body


def counts_more(body: dict[str, Any]) -> int:
    """A provider's own estimate: more than there are tokens in the text, and the bound of the answer."""
    letters = sum(len(str(message["content"])) for message in body["messages"])
    return 20 + letters // 3 + int(body.get("max_tokens") or body.get("max_completion_tokens") or 16)


@dataclass(frozen=True, slots=True)
class Served:
    """One request, as the server saw it."""

    at: float
    """On the monotonic clock."""
    status: int
    text: str
    """The last message."""
    tokens: int


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024  # by default five: of many that connect at once some would wait for seconds


class QuotaServer:
    """Listens from `with` to its end."""

    def __init__(
        self,
        *,
        rpm: float,
        tpm: float,
        latency: float = 0.05,
        count: Callable[[dict[str, Any]], int] = counts_more,
        down: Callable[[], bool] = lambda: False,
    ) -> None:
        """`latency` is in seconds. While `down()`, everything is answered with 503."""
        self.rpm, self.tpm = rpm, tpm
        self.latency = latency
        self.log: list[Served] = []
        self._count = count
        self._down = down
        self._lock = threading.Lock()
        self._requests, self._tokens, self._at = rpm, tpm, time.monotonic()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="quota-server")

    @property
    def base_url(self) -> str:
        """For an OpenAI-shaped client."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def count_of(self, status: int) -> int:
        """How many requests were answered so."""
        return sum(served.status == status for served in self.log)

    def admit(self, body: dict[str, Any]) -> tuple[int, dict[str, str]]:
        """Take it from the buckets, or not: the status and the headers."""
        tokens = self._count(body)
        with self._lock:
            now = time.monotonic()
            passed, self._at = now - self._at, now
            self._requests = min(self.rpm, self._requests + passed * self.rpm / 60)
            self._tokens = min(self.tpm, self._tokens + passed * self.tpm / 60)
            fits = self._requests >= 1 and self._tokens >= tokens
            status = 503 if self._down() else 200 if fits else 429
            if status == 200:
                self._requests, self._tokens = self._requests - 1, self._tokens - tokens
            self.log.append(Served(now, status, str(body["messages"][-1]["content"]), tokens))
            return status, self._said()

    def _said(self) -> dict[str, str]:
        return {
            "x-ratelimit-limit-requests": f"{self.rpm:.0f}",
            "x-ratelimit-limit-tokens": f"{self.tpm:.0f}",
            "x-ratelimit-remaining-requests": str(int(self._requests)),
            "x-ratelimit-remaining-tokens": str(int(self._tokens)),
            "x-ratelimit-reset-requests": f"{(self.rpm - self._requests) * 60 / self.rpm:.3f}s",
            "x-ratelimit-reset-tokens": f"{(self.tpm - self._tokens) * 60 / self.tpm:.3f}s",
        }

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(server: QuotaServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status, headers = server.admit(body)
            if status == 200:
                time.sleep(server.latency)
            answers = {
                200: completion("Yes.", usage=(20, 16)),
                429: error_body("rate_limit_exceeded", "rate_limit_exceeded", "Too many"),
                503: error_body("server_error", None, "Down"),
            }
            text = json.dumps(answers[status]).encode()
            self.send_response(status)
            for name, value in {"content-type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
