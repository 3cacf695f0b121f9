"""Many calls in flight in one process: each caller asks again as soon as it has its answer.

Run as `python -m support.closed_loop WAY URL --in-flight N --delay SECONDS --warm-up SECONDS --seconds SECONDS`; prints
two lines of JSON: when it will measure, and what it measured. Callers start evenly over the first `delay`, so that
answers arrive as a steady flow; the measured time opens `warm-up` seconds after that.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import itertools
import json
import math
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from support import answers
from support.clients import CLIENTS, MESSAGES, Tidegate

_LEAD = 2.0
"""Seconds in which all callers are made, before the first call: one signal to start would wake them all at once."""
_STOP_WAITING = 60.0
"""Seconds after which a call that has not ended counts as hung."""


@dataclass
class Run:
    """When to start, to measure and to stop; and what was measured. All moments are monotonic seconds."""

    in_flight: int
    delay: float
    warm_up: float
    seconds: float
    announce: Callable[[dict[str, float]], None]
    """Told when the measured time will open and close: CPU is measured from outside, where nothing has to wait for
    this process's GIL."""
    begun: float = float("inf")
    joined: list[float] = field(default_factory=list)
    """The moment of every caller's first question. `list.append` is atomic, so threads share it."""
    ends: list[float] = field(default_factory=list)
    """The moment of every answer."""
    latencies: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def opens(self) -> float:
        """When the measured time begins."""
        return self.begun + self.delay + self.warm_up

    @property
    def closes(self) -> float:
        """When it ends."""
        return self.opens + self.seconds

    def begin(self) -> None:
        """Fix the moment of the first call, a little ahead, so that callers can sleep each until its own."""
        self.begun = time.monotonic() + _LEAD

    def say_when(self) -> None:
        """Tell when it will be measured, once all callers stand ready; raises when that took too long."""
        if time.monotonic() > self.begun:
            raise RuntimeError("the callers were not ready in time")
        self.announce({"opens": self.opens, "closes": self.closes})

    def wait_for(self, number: int) -> float:
        """Seconds until the caller of this number starts."""
        return max(0.0, self.begun + self.delay * number / self.in_flight - time.monotonic())

    def answered(self, text: str, asked: float | None = None) -> None:
        """Note one answer."""
        if text != answers.TEXT:
            raise AssertionError("not the answer that was sent")
        now = time.monotonic()
        self.ends.append(now)
        if asked is not None and self.opens <= now < self.closes:
            self.latencies.append(now - asked)

    def _by_second(self) -> list[int]:
        """Answers in each second from the first call on: whether the flow is steady, or breaks down, or recovers."""
        counts = [0] * math.ceil(self.closes - self.begun)
        for end in self.ends:
            if self.begun <= end < self.closes:
                counts[int(end - self.begun)] += 1
        return counts

    def result(self) -> dict[str, Any]:
        """Answers in the measured time, how many callers took part from its start, latencies where they show."""
        percentiles = statistics.quantiles(self.latencies, n=100) if len(self.latencies) > 1 else None
        return {
            "answers": sum(self.opens <= end < self.closes for end in self.ends),
            "callers": sum(moment < self.opens for moment in self.joined),
            "p50": percentiles and percentiles[49],
            "p99": percentiles and percentiles[98],
            "answers_by_second": self._by_second(),
            "errors": len(self.errors),
            "first_error": self.errors[0] if self.errors else None,
        }


def in_threads(name: str) -> Callable[[Run, str], None]:
    """One shared client, and as many plain threads as calls in flight."""

    def go(run: Run, url: str) -> None:
        ask = CLIENTS[name](url, run.in_flight).complete
        threads = [threading.Thread(target=_caller, args=(run, ask, n), daemon=True) for n in range(run.in_flight)]
        run.begin()
        for thread in threads:
            thread.start()
        run.say_when()
        _join(threads, run)

    return go


def _caller(run: Run, ask: Callable[[], str], number: int) -> None:
    time.sleep(run.wait_for(number))
    run.joined.append(time.monotonic())
    while (asked := time.monotonic()) < run.closes:
        try:
            run.answered(ask(), asked)
        except Exception as error:  # noqa: BLE001 (whatever a client raises is counted, and the caller goes on)
            run.errors.append(repr(error))


def _join(threads: list[threading.Thread], run: Run) -> None:
    give_up = run.closes + _STOP_WAITING
    for thread in threads:
        thread.join(max(0.0, give_up - time.monotonic()))
        if thread.is_alive():
            run.errors.append("a call did not end")


def by_map(run: Run, url: str) -> None:
    """`Client.map` over an endless input."""
    client = Tidegate(url, run.in_flight).client
    run.begin()
    run.say_when()
    for outcome in client.map(_prompts(run), workers=run.in_flight, max_tokens=answers.MAX_TOKENS):
        if outcome.error is None:
            run.answered(outcome.completion.text)
        else:
            run.errors.append(repr(outcome.error))


def _prompts(run: Run) -> Iterator[str]:
    """The first ones at each caller's moment to start, then as fast as they are taken, until the time is over."""
    for number in itertools.count():
        if number < run.in_flight:
            time.sleep(run.wait_for(number))
            run.joined.append(time.monotonic())
        if time.monotonic() >= run.closes:
            return
        yield answers.PROMPT


def in_asyncio(transport: str) -> Callable[[Run, str], None]:
    """AsyncOpenAI over one of its two HTTP clients, with as many tasks as calls in flight."""

    def go(run: Run, url: str) -> None:
        asyncio.run(_ask_in_tasks(run, url, transport))

    return go


async def _ask_in_tasks(run: Run, url: str, transport: str) -> None:
    openai: Any = importlib.import_module("openai")
    limits = importlib.import_module("httpx2").Limits(
        max_connections=run.in_flight, max_keepalive_connections=run.in_flight
    )
    http = getattr(openai, transport)(limits=limits)
    client = openai.AsyncOpenAI(base_url=url, api_key=answers.API_KEY, timeout=60, http_client=http)
    run.begin()
    run.say_when()
    async with client:
        await asyncio.gather(*(_task(run, client, number) for number in range(run.in_flight)))


async def _task(run: Run, client: Any, number: int) -> None:  # noqa: ANN401 (of an untyped import)
    await asyncio.sleep(run.wait_for(number))
    run.joined.append(time.monotonic())
    while (asked := time.monotonic()) < run.closes:
        try:
            reply = await client.chat.completions.create(
                model=answers.MODEL, messages=MESSAGES, max_tokens=answers.MAX_TOKENS
            )
            run.answered(cast("str", reply.choices[0].message.content), asked)
        except Exception as error:  # noqa: BLE001 (whatever a client raises is counted, and the caller goes on)
            run.errors.append(repr(error))


WAYS: dict[str, Callable[[Run, str], None]] = {
    "tidegate, threads": in_threads("tidegate"),
    "tidegate, map": by_map,
    "requests, threads": in_threads("requests"),
    "openai, threads": in_threads("openai"),
    "AsyncOpenAI": in_asyncio("DefaultAsyncHttpxClient"),
    "AsyncOpenAI, aiohttp": in_asyncio("DefaultAioHttpClient"),
}
"""By name, whose first word says in which environment it runs."""


def client_of(way: str) -> str:
    """The client that a way of asking uses."""
    return "openai" if way.startswith("AsyncOpenAI") else way.partition(",")[0]


def main() -> None:
    """Run one way of asking, and print its result."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("url")
    parser.add_argument("--in-flight", type=int, required=True)
    for name in ("--delay", "--warm-up", "--seconds"):
        parser.add_argument(name, type=float, required=True)
    options = parser.parse_args()

    def say(value: dict[str, Any]) -> None:
        replies.write(json.dumps(value) + "\n")
        replies.flush()

    run = Run(options.in_flight, options.delay, options.warm_up, options.seconds, announce=say)
    WAYS[options.way](run, options.url)
    say(run.result())
    sys.stderr.flush()
    os._exit(0)  # a caller that hangs would keep the process


if __name__ == "__main__":
    main()
