"""A client in a process of its own that measures itself when it is told to.

Run as `python -m support.worker NAME`. Orders come as JSON lines on standard input, and each is answered by one on
standard output. What a client prints of its own accord goes to standard error.
"""

from __future__ import annotations

import gc
import importlib.metadata
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from support import answers
from support.clients import CLIENTS, Client, Tidegate, packages_of

_WARM_UP_ROUNDS = 3
_SETTLE = 0.1
"""Seconds given to threads that a client left working after its last answer: their CPU counts as well."""

_NOWHERE = "http://127.0.0.1:9/v1"
"""A base URL to which nothing is sent."""

Work = Callable[[], int]
"""Does one piece of work, checks the answer, and returns how many units it was."""


def _work(client: Client, form: str) -> Work:
    """What is measured: a plain call, or a whole stream, whose units are its text events."""
    if form == "call":
        return lambda: _complete(client)
    pieces = {"batched": answers.BATCHED_EVENTS, "paced": answers.PACED_EVENTS}[form]
    return lambda: _stream(client, pieces, answers.streamed_text(pieces))


def _complete(client: Client) -> int:
    if client.complete() != answers.TEXT:
        raise AssertionError("not the answer that was sent")
    return 1


def _stream(client: Client, pieces: int, expected: str) -> int:
    if "".join(client.pieces()) != expected:
        raise AssertionError("not the text that was streamed")
    return pieces


def measure(work: Work, threads: int, seconds: float) -> dict[str, float]:
    """Work in so many threads for so long; the process's CPU (user and system) and the wall time, both in seconds."""
    gc.collect()
    units: list[int] = []
    stop = time.monotonic() + seconds
    cpu, wall = time.process_time(), time.monotonic()
    _in_threads(threads, lambda: units.append(_until(stop, work)))
    wall = time.monotonic() - wall
    time.sleep(_SETTLE)
    if len(units) != threads:
        raise RuntimeError("a thread failed")
    return {"cpu": time.process_time() - cpu, "wall": wall, "units": sum(units)}


def _until(stop: float, work: Work) -> int:
    done = work()
    while time.monotonic() < stop:
        done += work()
    return done


def _in_threads(threads: int, run: Callable[[], object]) -> None:
    """In this thread alone, or in new ones until all have ended."""
    if threads == 1:
        run()
        return
    workers = [threading.Thread(target=run) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def versions(name: str) -> dict[str, str]:
    """Of the interpreter and of a client's packages; a package that is run from its source has none of its own.

    For tidegate also the client as it prints itself: figures mean little without the policies that they paid for.
    """
    found = {"python": platform.python_version()}
    for package in packages_of(name):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = str(getattr(importlib.import_module(package), "__version__", "?"))
    if name == "tidegate":
        found["as"] = repr(Tidegate(_NOWHERE, 1).client)
    return found


class _Bench:
    """The client at each base URL, made and warmed up when it is first asked for."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._works: dict[tuple[str, str], Work] = {}

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        if order["do"] == "versions":
            return versions(self._name)
        return measure(self._warm(order["form"], order["url"], order["pool"]), order["threads"], order["seconds"])

    def _warm(self, form: str, url: str, pool: int) -> Work:
        if (form, url) not in self._works:
            work = _work(CLIENTS[self._name](url, pool), form)
            for _ in range(1 if form == "paced" else _WARM_UP_ROUNDS):
                _in_threads(pool if form == "call" else 1, work)
            self._works[form, url] = work
        return self._works[form, url]


def main() -> None:
    """Obey until standard input ends."""
    orders, replies = sys.stdin, os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    bench = _Bench(sys.argv[1])
    for order in orders:
        replies.write(json.dumps(bench.obey(json.loads(order))) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
