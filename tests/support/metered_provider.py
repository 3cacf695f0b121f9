"""A provider that enforces its quota, answers every question in words of its own, and goes down when it is told to.

::

    with FaultServer() as server:
        provider = MeteredProvider(server, rpm=200, tpm=7_000)
        provider.down.set()                     # connections are reset, requests get 503, streams break off
        ...
        provider.log                            # every request, as the provider saw it

Its quota refills continuously, and it says what is left in OpenAI's headers. What fails is not charged.
"""

from __future__ import annotations

import itertools
import threading
import time

from .fault_server import Action, Connection, FaultServer, Pause, RecordedRequest, Reset, Step, error, json_reply, sse
from .openai_wire import completion, stream_events
from .quota_server import Served, counts_more

PIECES = 4
"""Events that the text of an answer comes in, when it is streamed."""
RESET = 0
"""Status of a request that was answered by a reset."""


def answer_to(question: str) -> str:
    """The whole answer, which no other question has."""
    return f"This is all that there is to say about {question}, from its first word to its last."


class MeteredProvider:
    """What a `FaultServer` does with its requests; called by its threads."""

    def __init__(self, server: FaultServer, *, rpm: float, tpm: float, latency: float = 0.05) -> None:
        """`latency` is in seconds: a streamed answer's first text takes half of it."""
        self.base_url = server.base_url
        self.down = threading.Event()
        """Set while nothing is answered."""
        self.log: list[Served] = []
        self._limits = {"requests": rpm, "tokens": tpm}
        self._left = dict(self._limits)
        self._at = time.monotonic()
        self._latency = latency
        self._failures = itertools.count()
        self._lock = threading.Lock()
        server.on(self._answer)

    def answered(self, since: float = 0.0, until: float = float("inf")) -> list[Served]:
        """Requests that came between those moments of the monotonic clock and were let in."""
        return [served for served in tuple(self.log) if served.status == 200 and since <= served.at <= until]

    def _answer(self, request: RecordedRequest) -> Step:
        question, tokens = str(request.json["messages"][-1]["content"]), counts_more(request.json)
        with self._lock:
            status, headers = self._admit(tokens)
            self.log.append(Served(time.monotonic(), status, question, tokens))
        match status:
            case 200 if request.json.get("stream"):
                return self._streamed(question, headers)
            case 200:
                return (Pause(self._latency), *json_reply(completion(answer_to(question)), headers=headers))
            case 429:
                return error(429, "rate_limit_exceeded", headers=headers)
        return error(status) if status != RESET else (Reset(),)

    def _admit(self, tokens: int) -> tuple[int, dict[str, str]]:
        """The status, and the headers that say what is left."""
        self._refill()
        taken = {"requests": 1, "tokens": tokens}
        if self.down.is_set():
            status = RESET if next(self._failures) % 2 else 503
        elif any(self._left[unit] < taken[unit] for unit in taken):
            status = 429
        else:
            status = 200
            self._left = {unit: left - taken[unit] for unit, left in self._left.items()}
        return status, self._headers()

    def _refill(self) -> None:
        now = time.monotonic()
        passed, self._at = now - self._at, now
        self._left = {unit: min(limit, self._left[unit] + limit * passed / 60) for unit, limit in self._limits.items()}

    def _headers(self) -> dict[str, str]:
        headers = {}
        for unit, limit in self._limits.items():
            headers[f"x-ratelimit-limit-{unit}"] = f"{limit:.0f}"
            headers[f"x-ratelimit-remaining-{unit}"] = str(int(self._left[unit]))
            headers[f"x-ratelimit-reset-{unit}"] = f"{(limit - self._left[unit]) * 60 / limit:.3f}s"
        return headers

    def _streamed(self, question: str, headers: dict[str, str]) -> Step:
        """Half of the latency before the first text and half until the last; broken off when the provider goes down."""
        text = answer_to(question)
        cuts = [len(text) * piece // PIECES for piece in range(PIECES + 1)]
        events = stream_events([text[start:end] for start, end in itertools.pairwise(cuts)])
        paced: list[str | Action] = []
        for event in events:
            paced += [event, Pause(self._latency / 2 / len(events)), self._break_off]
        return (Pause(self._latency / 2), *sse(paced, headers=headers))

    def _break_off(self, connection: Connection) -> None:
        if self.down.is_set():
            connection.end(reset=True)
