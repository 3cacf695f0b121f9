"""Rounds in which processes take turns, and what one of them takes more than another."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.databases import new_database
from support.processes import Worker, payer

Samples = dict[str, list[dict[str, float]]]
"""Of each way one measurement a round."""


def payers(
    ways: Sequence[str], home: Path, server: str | None, stack: contextlib.ExitStack, prefix: str = "paying"
) -> dict[str, Worker]:
    """A process for each way of `support.paying`, each with a folder or a database of its own."""
    found = {}
    for number, way in enumerate(ways):
        arguments = [way, str(home / f"{prefix}_{number}")]
        if "PostgreSQL" in way:
            if server is None:
                continue
            arguments.append(new_database(server, f"{prefix}_{number}"))
        found[way] = stack.enter_context(payer(way.partition(",")[0], home, *arguments))
    return found


def in_turns(workers: Mapping[str, Worker], url: str, *, threads: int, rounds: int, seconds: float) -> Samples:
    """Each worker once a round, in an order that moves on, so that what disturbs a while disturbs them all."""
    names = list(workers)
    samples: Samples = {name: [] for name in names}
    for name in names:
        workers[name].measure("call", url, threads=threads, pool=threads, seconds=0)
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            one = workers[name].measure("call", url, threads=threads, pool=threads, seconds=seconds)
            samples[name].append(one)
    return samples


def costs(samples: Samples, figure: str) -> dict[str, list[float]]:
    """Microseconds a call, of `cpu` or `wall`."""
    return {name: [1e6 * one[figure] / one["units"] for one in taken] for name, taken in samples.items()}


def more(costs: Mapping[str, Sequence[float]], name: str, base: str) -> tuple[float, float]:
    """How much more than the base: in microseconds, and in per cent, each a median over the rounds."""
    pairs = list(zip(costs[name], costs[base], strict=True))
    return statistics.median(a - b for a, b in pairs), statistics.median(100 * (a / b - 1) for a, b in pairs)
