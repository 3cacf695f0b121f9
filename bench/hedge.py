"""What a hedge buys and costs: 3 % of a server's answers take 20 times as long as the others.

Run `python bench/hedge.py` (less than 30 s), with `--short` for a third of it. See `bench/README.md`.

Sixteen threads ask one after the other, each way in turn and in rounds. What is shown, of all rounds together:

* p50, p95, p99, longest: milliseconds from the call to its answer.
* extra %: second requests as a share of the calls; first lost: how many of them answered before the first.
* us CPU: of this process, a call.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tidegate
from support import answers, tables
from support.processes import answering

_DELAY, _LATE, _TIMES = 0.02, 0.03, 20
"""Seconds of an answer, share of those that are late, and how many times as long these take."""
_THREADS = 16

WAYS: dict[str, tidegate.Hedge | None] = {
    "no hedge": None,
    "Hedge()": tidegate.Hedge(),
    'Hedge(after="p90", extra=0.1)': tidegate.Hedge(after="p90", extra=0.1),
    "Hedge(after=0.05)": tidegate.Hedge(after=0.05),
}


@dataclass
class Sample:
    """What one way's rounds have shown."""

    seconds: list[float] = field(default_factory=list)
    requests: int = 0
    first_lost: int = 0
    cpu: float = 0.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Ask in every way, print the table, and write the report when a file is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="one round instead of three")
    parser.add_argument("--calls", type=int, default=800, metavar="N", help="calls of a way in a round (800)")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    options = parser.parse_args(arguments)
    found = tables.circumstances()
    samples = {way: Sample() for way in WAYS}
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        lateness = ("--late", str(_LATE), "--times", str(_TIMES))
        url, _ = stack.enter_context(answering(home, "--delay", str(_DELAY), *lateness))
        clients = {way: stack.enter_context(_client(url, hedge)) for way, hedge in WAYS.items()}
        pool = stack.enter_context(ThreadPoolExecutor(_THREADS))
        for _ in range(1 if options.short else 3):
            for way, client in clients.items():
                _ask(client, options.calls, pool, samples[way])
    tables.print_circumstances(found, {})
    results = {way: _figures(sample) for way, sample in samples.items()}
    _print(results)
    tables.write_json(options.json, {"bench": "hedge", **found, "results": results})


def _client(url: str, hedge: tidegate.Hedge | None) -> tidegate.Client:
    model = f"openai/{answers.MODEL}"
    return tidegate.Client(model, base_url=f"{url}/v1", api_key=answers.API_KEY, hedge=hedge, retry=None)


def _ask(client: tidegate.Client, calls: int, pool: ThreadPoolExecutor, sample: Sample) -> None:
    cpu = time.process_time()
    for seconds, outcomes in pool.map(lambda _: _timed(client), range(calls)):
        sample.seconds.append(seconds)
        sample.requests += len(outcomes)
        sample.first_lost += outcomes[0] == "Cancelled"
    sample.cpu += time.process_time() - cpu


def _timed(client: tidegate.Client) -> tuple[float, list[str]]:
    began = time.monotonic()
    answer = client.complete(answers.PROMPT, max_tokens=answers.MAX_TOKENS)
    return time.monotonic() - began, [attempt.outcome for attempt in answer.attempts]


def _figures(sample: Sample) -> dict[str, Any]:
    ordered = sorted(sample.seconds)
    calls = len(ordered)
    places = {f"p{percent}": 1e3 * ordered[percent * calls // 100] for percent in (50, 95, 99)}
    return {
        "calls": calls,
        **places,
        "longest": 1e3 * ordered[-1],
        "extra": 100 * (sample.requests - calls) / calls,
        "first_lost": sample.first_lost,
        "cpu": 1e6 * sample.cpu / calls,
    }


def _print(results: Mapping[str, Mapping[str, Any]]) -> None:
    title = f"{_LATE:.0%} of the answers take {_TIMES * _DELAY:g} s, the others {_DELAY:g} s; {_THREADS} threads"
    heads = ("way", "calls", "p50 ms", "p95 ms", "p99 ms", "longest", "extra %", "first lost", "us CPU")
    tables.print_table(title, heads, [(way, *one.values()) for way, one in results.items()])


if __name__ == "__main__":
    main()
