"""What a circuit breaker costs: as a part of a call, and alone.

Run as `python -m support.breaking clients URL --threads N --rounds N --seconds S` or as
`python -m support.breaking alone WAY --threads N --seconds S`; prints a line of JSON. Clients that differ in a breaker
alone take turns, in an order that moves on. In `alone`, nothing is called, or something that sleeps for a millisecond.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from support import answers
from support.worker import measure

NAP = 0.001
"""Seconds that the called function takes, where there is one."""
_BATCH = 100
"""Pieces of work between two looks at the clock, where a piece takes microseconds."""
_WARM_UP = 0.5

Function = Callable[[], object]
Guard = Callable[[Function], Function]
"""What makes a function that a breaker watches of one that none does."""


def unguarded(function: Function) -> Function:
    """The function alone."""
    return function


def tidegate(function: Function) -> Function:
    """A permit before, and the outcome after."""
    package: Any = importlib.import_module("tidegate")
    breaker = package.CircuitBreaker()

    def call() -> None:
        breaker.permit()
        function()
        breaker.success()

    return call


def tidegate_decorator(function: Function) -> Function:
    """The breaker as a decorator."""
    package: Any = importlib.import_module("tidegate")
    guarded: Function = package.CircuitBreaker()(function)
    return guarded


def pybreaker(function: Function) -> Function:
    """As pybreaker itself has it."""
    package: Any = importlib.import_module("pybreaker")
    breaker = package.CircuitBreaker()
    return lambda: breaker.call(function)


WAYS: dict[str, Guard] = {
    "no breaker": unguarded,
    "tidegate, permit and success": tidegate,
    "tidegate, decorator": tidegate_decorator,
    "pybreaker, call": pybreaker,
}


def alone(way: str, threads: int, seconds: float) -> dict[str, float]:
    """Microseconds of CPU that a breaker takes, and calls a second of a function that takes a millisecond."""
    at_once = _measured(WAYS[way](lambda: None), _BATCH, threads, seconds)
    napping = _measured(WAYS[way](lambda: time.sleep(NAP)), 1, threads, seconds)
    return {"cpu_us": 1e6 * at_once["cpu"] / at_once["units"], "napping_per_s": napping["units"] / napping["wall"]}


def _measured(call: Function, batch: int, threads: int, seconds: float) -> dict[str, float]:
    def work() -> int:
        for _ in range(batch):
            call()
        return batch

    return measure(work, threads, seconds)


CLIENTS = ("with", "without", "control")
"""The last is made as the one before it: what they differ by is noise."""


def clients(url: str, threads: int, rounds: int, seconds: float) -> list[dict[str, dict[str, float]]]:
    """Of each round what each client took."""
    works = {name: _asking(url, threads, **({} if name == "with" else {"breaker": None})) for name in CLIENTS}
    for work in works.values():
        measure(work, threads, _WARM_UP)
    taken = []
    for number in range(rounds):
        turn = number % len(CLIENTS)
        order = [*CLIENTS[turn:], *CLIENTS[:turn]]
        taken.append({name: measure(works[name], threads, seconds) for name in (order if number % 2 else order[::-1])})
    return taken


def _asking(url: str, threads: int, **options: object) -> Callable[[], int]:
    package: Any = importlib.import_module("tidegate")
    client = package.Client(
        f"openai/{answers.MODEL}", base_url=url, api_key=answers.API_KEY, workers=threads, **options
    )

    def work() -> int:
        if client.complete(answers.PROMPT, max_tokens=answers.MAX_TOKENS).text != answers.TEXT:
            raise AssertionError("not the answer that was sent")
        return 1

    return work


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one thing."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("clients", "alone"))
    parser.add_argument("which", help="a URL for `clients`, a way for `alone`")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args(arguments)
    if options.what == "clients":
        found: object = clients(options.which, options.threads, options.rounds, options.seconds)
    else:
        found = alone(options.which, options.threads, options.seconds)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
