"""A loopback provider that is down from one moment to another, and keeps a log of who asked when.

Run as `python -m support.outage_server [--latency SECONDS]`; prints its port, and ends when its standard input does.
`GET /outage/FROM/UNTIL` (seconds of the monotonic clock, which all processes share) says when it answers 503 to
everything; `GET /log` gives `[moment, first word of the question, status]` of every request.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from support import answers

LATENCY = 0.05
"""Seconds that an answer takes unless something else is asked for; a failure takes none."""

_FAILURE = {"error": {"message": "The server is overloaded or not ready yet.", "type": "server_error", "code": None}}


class _Provider(ThreadingHTTPServer):
    """When it is down, and what it was asked."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, latency: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._latency = latency
        self.down = (math.inf, math.inf)
        self.log: list[tuple[float, str, int]] = []

    def answer(self, question: str) -> tuple[int, bytes]:
        """Status and body for a question, which is put into the log."""
        now = time.monotonic()
        status = 503 if self.down[0] <= now < self.down[1] else 200
        self.log.append((now, question.split(maxsplit=1)[0], status))
        if status != 200:
            return status, json.dumps(_FAILURE).encode()
        time.sleep(self._latency)
        return status, answers.completion()

    def handle_error(self, *_: object) -> None:
        """A client that leaves before its answer is no error of the server's; any other shows in the figures."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Provider

    def do_POST(self) -> None:
        """A question."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self._send(*self.server.answer(body["messages"][-1]["content"]))

    def do_GET(self) -> None:
        """The log, or an announcement of the outage."""
        if self.path.startswith("/outage/"):
            begin, end = map(float, self.path.split("/")[2:])
            self.server.down = (begin, end)
        self._send(200, json.dumps(self.server.log).encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=float, default=LATENCY)
    with _Provider(parser.parse_args().latency) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdout.write(f"{server.server_address[1]}\n")
        sys.stdout.flush()
        sys.stdin.read()
        server.shutdown()


if __name__ == "__main__":
    main()
