"""What the journeys share: a client of a scripted server, and a stop-watch that a busy machine cannot fool."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from support.fault_server import FaultServer
from tidegate import Client, TidegateError

T = TypeVar("T")

KEY = "sk-test-canary-0123456789abcdef"
MODEL = "openai/gpt-4o-mini"

SLACK = 0.1
"""Seconds that a call may last beyond its deadline (T2)."""
UNBLOCKED = 0.05
"""Seconds within which a cancelled call lets its thread go (T9)."""
TRIES = 3
"""How often a time is measured at most, before it is held against a promise. Other programs on the machine can make
any single measurement long, and none of them short: the shortest is the library's own."""

PATIENCE = 30.0
"""Seconds that a test waits for what must come, and comes at once unless something is broken."""


@contextlib.contextmanager
def client_of(server: FaultServer, **options: Any) -> Iterator[Client]:
    """A client of `server`, without retries and circuits unless asked for. At its end nothing is left in flight."""
    with contextlib.ExitStack() as stack:
        client = Client(
            MODEL, **{"base_url": server.base_url, "api_key": KEY, "retry": None, "breaker": None, **options}
        )
        stack.callback(client.close, cancel=True)
        yield client


def outcome_of(work: Callable[[], T]) -> T | TidegateError:
    """What `work` answers, or the error of ours that it raises. Any other error passes."""
    try:
        return work()
    except TidegateError as error:
        return error


def seconds_of(work: Callable[[], object]) -> float:
    """How long `work` takes, also when it ends in an error of ours."""
    began = time.monotonic()
    outcome_of(work)
    return time.monotonic() - began


def shortest(measure: Callable[[], float], promised: float) -> float:
    """The shortest of up to `TRIES` measurements; no more are taken once one keeps the promise."""
    best = float("inf")
    for _ in range(TRIES):
        best = min(best, measure())
        if best <= promised:
            break
    return best


@contextlib.contextmanager
def program(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python program of its own, killed at the end if it is still there."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for the program's end: exit code (negative for a signal), standard output, standard error."""
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err
