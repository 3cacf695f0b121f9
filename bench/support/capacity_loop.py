"""A loop that keeps what is left of both quotas in hand, and starts a request as soon as there is enough of both.

This is how OpenAI's cookbook processes requests in parallel (`examples/api_request_parallel_processor.py` there), in
words of its own: what is left grows with time up to a minute's worth; requests that failed come first and have five
attempts; after a refusal for pace the loop starts nothing for 15 s; it looks once a millisecond. Where that script
compares the code in an error's body with "429", this looks at the status, which is what is meant: else it would never
pause.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

ATTEMPTS = 5
PAUSE = 15.0
"""Seconds without a new request after a refusal."""
LOOK = 0.001
"""Seconds between two looks at what is left."""


@dataclass
class _Request:
    body: dict[str, Any]
    tokens: int
    attempts: int = ATTEMPTS


class _Left:
    """Of one quota a minute."""

    def __init__(self, limit: float) -> None:
        self._limit, self._at, self.units = limit, time.monotonic(), limit

    def refill(self) -> None:
        now = time.monotonic()
        self.units = min(self._limit, self.units + self._limit * (now - self._at) / 60)
        self._at = now


class CapacityLoop:
    """Sends what `bodies` yields to `url`. `done(error)` is told of each request's end, with None for an answer."""

    def __init__(self, url: str, key: str, *, rpm: float, tpm: float, done: Callable[[str | None], None]) -> None:
        self._url, self._headers = url, {"Authorization": f"Bearer {key}"}
        self._requests, self._tokens = _Left(rpm), _Left(tpm)
        self._done = done
        self._again: deque[_Request] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._refused_at = float("-inf")

    async def run(self, bodies: Iterator[tuple[dict[str, Any], int]]) -> None:
        """Until every request has ended; each comes with the tokens that it is counted at."""
        aiohttp: Any = importlib.import_module("aiohttp")
        waiting: _Request | None = None
        async with aiohttp.ClientSession() as session:
            while True:
                waiting = waiting or self._next(bodies)
                if waiting is not None and self._take(waiting):
                    self._start(session, waiting)
                    waiting = None
                elif waiting is None and not self._tasks and not self._again:
                    return
                await asyncio.sleep(LOOK)
                await asyncio.sleep(max(0.0, self._refused_at + PAUSE - time.monotonic()))

    def _next(self, bodies: Iterator[tuple[dict[str, Any], int]]) -> _Request | None:
        if self._again:
            return self._again.popleft()
        found = next(bodies, None)
        return None if found is None else _Request(*found)

    def _take(self, request: _Request) -> bool:
        self._requests.refill()
        self._tokens.refill()
        if self._requests.units < 1 or self._tokens.units < request.tokens:
            return False
        self._requests.units -= 1
        self._tokens.units -= request.tokens
        return True

    def _start(self, session: Any, request: _Request) -> None:  # noqa: ANN401 (of an untyped import)
        request.attempts -= 1
        task = asyncio.create_task(self._ask(session, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self, session: Any, request: _Request) -> None:  # noqa: ANN401 (of an untyped import)
        error: str | None = None
        try:
            async with session.post(self._url, headers=self._headers, json=request.body) as response:
                await response.json()
            if response.status == 429:
                self._refused_at = time.monotonic()
            error = None if response.status == 200 else f"status {response.status}"
        except Exception as caught:  # noqa: BLE001 (whatever it is counts as a failed attempt)
            error = repr(caught)
        if error is not None and request.attempts:
            self._again.append(request)
        else:
            self._done(error)
