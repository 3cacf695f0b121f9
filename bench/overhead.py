"""What a call costs: CPU of the client's process, a call and a streamed chunk, beside other clients.

Run `python bench/overhead.py`, with `--short` for less than a minute. See `bench/README.md`.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import answers, tables
from support.clients import CLIENTS
from support.processes import Worker, answering, nginx, worker

_MANY_THREADS = 20
_BASES = ("openai", "requests")
"""Whom the others are compared to."""


@dataclass(frozen=True)
class Form:
    """One way of asking, in one number of threads."""

    key: str
    title: str
    unit: str
    threads: int
    work: str
    """Which work of `support.worker` it is."""


FORMS = (
    Form("call_1", "A plain call, 1 thread", "call", 1, "call"),
    Form("call_20", f"A plain call, {_MANY_THREADS} threads", "call", _MANY_THREADS, "call"),
    Form("batched", "A streamed chunk, many events in one read", "chunk", 1, "batched"),
    Form("paced", f"A streamed chunk, one event in each read (every {answers.GAP * 1000:g} ms)", "chunk", 1, "paced"),
)

Samples = list[dict[str, float]]
"""One measurement a round."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, and write the report when a file is named."""
    options = _parser().parse_args(arguments)
    rounds, seconds = (3, 0.25) if options.short else (7, 1.5)
    found = tables.circumstances()
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        workers = {name: stack.enter_context(worker(name, home)) for name in options.clients}
        versions = {name: one.versions() for name, one in workers.items()}
        web = stack.enter_context(nginx(home))
        slow, _ = stack.enter_context(answering(home, "--gap", str(answers.GAP)))
        urls = {"call": f"{web}/v1", "batched": f"{web}/stream/v1", "paced": f"{slow}/v1"}
        samples = {form.key: _rounds(form, workers, urls[form.work], rounds, seconds) for form in FORMS}
    versions["server"] = {"nginx": tables.nginx_version()}
    results = {form.key: _results(samples[form.key]) for form in FORMS}
    tables.print_circumstances(found, versions)
    for form in FORMS:
        _print(form, results[form.key], rounds)
    report = {"bench": "overhead", **found, "versions": versions, "results": results, "samples": samples}
    tables.write_json(options.json, report)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="fewer and shorter rounds: under a minute")
    parser.add_argument("--json", metavar="FILE", help="write the figures of every round there")
    parser.add_argument("--clients", nargs="+", choices=CLIENTS, default=list(CLIENTS), metavar="NAME")
    return parser


def _rounds(form: Form, workers: Mapping[str, Worker], url: str, rounds: int, seconds: float) -> dict[str, Samples]:
    """Every client once a round, in an order that moves on, so that what disturbs a while disturbs them all."""
    names = list(workers)
    samples: dict[str, Samples] = {name: [] for name in names}
    how = {"threads": form.threads, "pool": _MANY_THREADS}
    for name in names:
        workers[name].measure(form.work, url, **how, seconds=0)
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            samples[name].append(workers[name].measure(form.work, url, **how, seconds=seconds))
    return samples


def _results(samples: Mapping[str, Samples]) -> dict[str, dict[str, Any]]:
    """Medians over the rounds; a ratio is the median of the ratios within each round."""
    costs = {name: [1e6 * sample["cpu"] / sample["units"] for sample in taken] for name, taken in samples.items()}
    return {
        name: {
            "cpu_us": statistics.median(costs[name]),
            "cpu_us_least": min(costs[name]),
            "cpu_us_most": max(costs[name]),
            "units_per_s": statistics.median(sample["units"] / sample["wall"] for sample in samples[name]),
            **{f"to_{base}": _ratio(costs[name], costs.get(base)) for base in _BASES},
        }
        for name in samples
    }


def _ratio(costs: Sequence[float], base: Sequence[float] | None) -> float | None:
    return None if base is None else statistics.median(a / b for a, b in zip(costs, base, strict=True))


def _print(form: Form, results: Mapping[str, Mapping[str, Any]], rounds: int) -> None:
    heads = ("client", f"us CPU a {form.unit}", "least", "most", *(f"to {base}" for base in _BASES), f"{form.unit}s/s")
    keys = ("cpu_us", "cpu_us_least", "cpu_us_most", *(f"to_{base}" for base in _BASES), "units_per_s")
    rows = [(name, *(one[key] for key in keys)) for name, one in results.items()]
    tables.print_table(f"{form.title}: median of {rounds} rounds", heads, rows)


if __name__ == "__main__":
    main()
