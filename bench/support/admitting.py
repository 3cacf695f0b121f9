"""What letting one call in costs when nobody else asks, in tidegate and in pyrate-limiter alone.

Run as `python -m support.admitting WAY TPM ADMISSIONS`; prints a line of JSON. One thread admits calls of 1,000 tokens
at nine tenths of the quota, so that it never waits; its clock moves on with each of them, so that an hour of a small
quota passes in seconds. Memory is looked at once a thousand calls have been let in, and again at the end.
"""

from __future__ import annotations

import gc
import importlib
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

TOKENS = 1_000
"""Of each call, its answer included."""
_SHARE = 0.9
"""Of the quota that is used."""
_WARM_UP = 1_000
_SAMPLES = 10
_LEAK_EVERY = 10_000
"""Milliseconds, pyrate-limiter's own interval."""
_ANSWER = 252
_MESSAGE = 4
"""What tidegate counts for a message beside its text."""

Admit = Callable[[], object]


class Moving:
    """A clock that stands still until it is moved on."""

    def __init__(self, rpm: float) -> None:
        self._step = 60 / rpm
        self._now = 1_000.0

    def move(self) -> None:
        """To the moment of the next call."""
        self._now += self._step

    def monotonic(self) -> float:
        """In seconds, as tidegate asks."""
        return self._now

    time = monotonic

    def wait(self, *_: object) -> NoReturn:
        """Nobody may have to."""
        raise AssertionError("a call had to wait, though the quota had room for it")

    def now(self) -> int:
        """In milliseconds, as pyrate-limiter asks."""
        return int(1_000 * self._now)


def policy(tpm: int, clock: Moving, headers: dict[str, str] | None = None) -> Admit:
    """The whole of tidegate's part: the estimate, the gate, and the books when the answer is there."""
    pieces = _tidegate()
    limits = pieces.Limits(rpm=_rpm(tpm), tpm=tpm)
    admission = pieces.AdmissionPolicy(limits, clock=clock)
    request = pieces.ChatRequest.build("word " * (4 * (TOKENS - _MESSAGE - _ANSWER) // 5), max_tokens=_ANSWER)
    call = pieces.Call(
        id="1", request=request, route=pieces.Route("openai", "x"), trace=pieces.Trace(clock.monotonic),
        deadline=pieces.Deadline.after(None, clock), cancel=pieces.CancelToken(),
    )  # fmt: skip
    answer = pieces.Completion("", "openai", "x", usage=pieces.Usage(TOKENS - _ANSWER, _ANSWER))

    def proceed(call: Any) -> Any:  # noqa: ANN401 (imported where it is measured)
        if headers is not None:
            call.heed(200, headers)
        return answer

    return lambda: admission(call, proceed)


def policy_with_headers(tpm: int, clock: Moving) -> Admit:
    """The same for a provider that says in each response what is left: six headers, in OpenAI's form."""
    headers = {
        "x-ratelimit-limit-requests": f"{_rpm(tpm):.0f}",
        "x-ratelimit-limit-tokens": f"{tpm:.0f}",
        "x-ratelimit-remaining-requests": f"{_rpm(tpm) - 1:.0f}",
        "x-ratelimit-remaining-tokens": f"{tpm - TOKENS:.0f}",
        "x-ratelimit-reset-requests": f"{60_000 / _rpm(tpm):.3f}ms",
        "x-ratelimit-reset-tokens": f"{60_000 * TOKENS / tpm:.3f}ms",
    }
    return policy(tpm, clock, headers)


def gate(tpm: int, clock: Moving) -> Admit:
    """The gate alone, as behind `tidegate.RateLimiter`."""
    pieces = _tidegate()
    limiter = pieces.RateLimiter(rpm=_rpm(tpm), tpm=tpm, clock=clock)
    return lambda: limiter.acquire(TOKENS)


def default_bucket(tpm: int, clock: Moving) -> Admit:
    """pyrate-limiter as its documentation begins: a sliding window, with an entry for each token.

    What has left the window is taken out every ten seconds, which its own thread would do by a clock that is not moved.
    """
    package: Any = importlib.import_module("pyrate_limiter")
    bucket = package.InMemoryBucket([package.Rate(tpm, package.Duration.MINUTE)])
    bucket._clock = clock  # noqa: SLF001 (the bucket takes none)
    acquire = _acquiring(package.Limiter(package.SingleBucketFactory(bucket, schedule_leak=False)))
    due = clock.now() + _LEAK_EVERY

    def acquire_and_leak() -> None:
        nonlocal due
        acquire()
        if clock.now() >= due:
            due = clock.now() + _LEAK_EVERY
            bucket.leak(clock.now())

    return acquire_and_leak


def gcra(tpm: int, clock: Moving) -> Admit:
    """pyrate-limiter's constant state, with its own algorithm."""
    package: Any = importlib.import_module("pyrate_limiter")
    rate = package.Rate(tpm, package.Duration.MINUTE)
    return _acquiring(package.Limiter(package.StateBucket([rate], package.GCRA(), clock=clock)))


def _acquiring(limiter: Any) -> Admit:  # noqa: ANN401 (imported where it is measured)
    def acquire() -> None:
        if not limiter.try_acquire("call", weight=TOKENS, blocking=False):
            raise AssertionError("a call was refused, though the quota had room for it")

    return acquire


WAYS: dict[str, Callable[[int, Moving], Admit]] = {
    "tidegate, policy": policy,
    "tidegate, policy and headers": policy_with_headers,
    "tidegate, gate alone": gate,
    "pyrate-limiter, default": default_bucket,
    "pyrate-limiter, GCRA": gcra,
}


def _rpm(tpm: int) -> float:
    return tpm / TOKENS


_PLACES = {
    "Limits": "policies.admission", "AdmissionPolicy": "policies.admission", "ChatRequest": "chat.request",
    "Call": "pipeline.call", "Route": "pipeline.call", "Trace": "chat.timeline", "Deadline": "clock",
    "CancelToken": "clock", "Completion": "chat.reply", "Usage": "chat.usage", "RateLimiter": "limiter",
}  # fmt: skip


def _tidegate() -> SimpleNamespace:
    """What is used of tidegate, by name."""
    found = {name: getattr(importlib.import_module(f"tidegate.{place}"), name) for name, place in _PLACES.items()}
    return SimpleNamespace(**found)


def measure(way: str, tpm: int, admissions: int) -> dict[str, Any]:
    """Microseconds of CPU and of wall time an admission (medians), the least CPU, and what memory has grown by."""
    clock = Moving(_SHARE * _rpm(tpm))
    admit = WAYS[way](tpm, clock)
    _admit_all(admit, clock, _WARM_UP)
    before = _memory()
    samples = [_sample(admit, clock, admissions // _SAMPLES) for _ in range(_SAMPLES)]
    grown = {name: after - before[name] for name, after in _memory().items()}
    cpu, wall = (statistics.median(each) for each in zip(*samples, strict=True))
    return {"cpu_us": cpu, "least_us": min(cpu for cpu, _ in samples), "wall_us": wall, **grown}


def _sample(admit: Admit, clock: Moving, admissions: int) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    _admit_all(admit, clock, admissions)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return 1e6 * cpu / admissions, 1e6 * wall / admissions


def _admit_all(admit: Admit, clock: Moving, admissions: int) -> None:
    move = clock.move
    for _ in itertools.repeat(None, admissions):
        move()
        admit()


def _memory() -> dict[str, int]:
    """Bytes that the process has in memory, and the blocks that Python's allocator has given out."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {"bytes": pages * os.sysconf("SC_PAGE_SIZE"), "blocks": sys.getallocatedblocks()}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))), flush=True)
