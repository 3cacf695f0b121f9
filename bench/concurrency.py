"""How many calls one process carries: 1,000 in flight, each 1 s long, in a steady closed loop.

Run `python bench/concurrency.py`, with `--short` for 200 in flight and 3 s. See `bench/README.md`.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import tables
from support.closed_loop import WAYS, client_of
from support.processes import answering, closed_loop, cpu_seconds, versions_of

_DELAY = 1.0
"""Seconds that the server takes over every answer."""
_ENOUGH = 80.0
"""Percent of the ideal that promise T11 asks for."""
_CEILING_FACTOR = 4
"""How many times the clients' connections wrk opens, to find what the server can do."""
_SPARE_FILES = 200
_WRK_SECONDS = 4
_WRK_SCRIPT = """\
wrk.method = "POST"
wrk.body = "{}"
function done(summary, latency)
  local errors = 0
  for _, count in pairs(summary.errors) do errors = errors + count end
  io.write(string.format('\\n{"mean_s": %f, "errors": %d}\\n', latency.mean / 1e6, errors))
end
"""


@dataclass(frozen=True)
class Size:
    """How large a run is."""

    in_flight: int
    seconds: float
    warm_up: float
    rounds: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the server and then each way of asking, print the tables, and write the report when a file is named."""
    options = _parser().parse_args(arguments)
    size = Size(200, 3, 1, 1) if options.short else Size(1_000, 12, 4, 5)
    _allow_files(size.in_flight * _CEILING_FACTOR + _SPARE_FILES)
    found = tables.circumstances()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        versions = versions_of(map(client_of, options.ways), home)
        with answering(home, "--delay", str(_DELAY)) as (url, process):
            server = [_server(url, process, size.in_flight * factor, home) for factor in (1, _CEILING_FACTOR)]
            samples = _rounds(options.ways, f"{url}/v1", size, home)
    results = {way: _medians(taken) for way, taken in samples.items()}
    tables.print_circumstances(found, versions)
    _print_server(server)
    _print(size, results)
    report = {"bench": "concurrency", **found, "versions": versions, "size": vars(size), "server": server}
    tables.write_json(options.json, report | {"results": results, "samples": samples})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="200 in flight, 3 s, one round: under a minute")
    parser.add_argument("--json", metavar="FILE", help="write the figures of every round there")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="NAME")
    return parser


def _allow_files(wanted: int) -> None:
    """Raise the limit of open files for this process and those it starts; each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != hard < wanted:
        raise SystemExit(f"{wanted} open files are needed, and the limit is {hard}: raise it with `ulimit -Hn`")
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _server(url: str, process: int, connections: int, home: Path) -> dict[str, float]:
    """What wrk gets out of the server with so many connections, and the server's CPU meanwhile.

    The rate follows from the mean latency, as wrk asks again at once: a count over so few answers a connection would
    depend on which of them falls beyond the end.
    """
    program = shutil.which("wrk")
    if program is None:
        raise SystemExit("wrk is needed: `apt-get install wrk`")
    script = home / "post.lua"
    script.write_text(_WRK_SCRIPT)
    command = [program, "-t1", f"-c{connections}", f"-d{_WRK_SECONDS}s", "--timeout", "10s", "-s", str(script), url]
    before, start = cpu_seconds(process), time.monotonic()
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 (our own command)
    cpu = (cpu_seconds(process) - before) / (time.monotonic() - start)
    said = json.loads(done.stdout.splitlines()[-1])
    return {"connections": connections, "calls_per_s": connections / said["mean_s"], "cpu_share": cpu, **said}


def _rounds(ways: Sequence[str], url: str, size: Size, home: Path) -> dict[str, list[dict[str, Any]]]:
    """Every way once a round, each time in a new process, in an order that moves on."""
    samples: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for number in range(size.rounds):
        turn = number % len(ways)
        for way in [*ways[turn:], *ways[:turn]]:
            taken = closed_loop(client_of(way), home, _arguments(way, url, size))
            samples[way].append(_completed(taken, size))
    return samples


def _arguments(way: str, url: str, size: Size) -> list[str]:
    times = ["--delay", str(_DELAY), "--warm-up", str(size.warm_up), "--seconds", str(size.seconds)]
    return [way, url, "--in-flight", str(size.in_flight), *times]


def _completed(taken: dict[str, Any], size: Size) -> dict[str, Any]:
    """A sample with what follows from it."""
    rate = taken["answers"] / taken["seconds"]
    percent = 100 * rate * _DELAY / size.in_flight
    return taken | {
        "calls_per_s": rate,
        "percent": percent,
        "cpu_us": 1e6 * taken["cpu_cores"] / rate if rate else None,
    }


def _medians(taken: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of each figure over the rounds; errors are added up, and of the callers the fewest count."""
    keys = ("calls_per_s", "percent", "cpu_cores", "others_cpu_cores", "cpu_us", "p50", "p99")
    known = {key: [one[key] for one in taken if one[key] is not None] for key in keys}
    medians: dict[str, Any] = {key: statistics.median(values) if values else None for key, values in known.items()}
    rest = {
        "percent_each": [round(percent) for percent in known["percent"]],
        "enough": sum(percent >= _ENOUGH for percent in known["percent"]),
        "callers": min(one["callers"] for one in taken),
        "errors": sum(one["errors"] for one in taken),
    }
    return medians | rest


def _print_server(server: Sequence[dict[str, float]]) -> None:
    heads = ("connections", "calls/s", "% of ideal", "server's CPU %", "errors")
    rows = [
        (f"{one['connections']:,}", one["calls_per_s"], 100 * _DELAY / one["mean_s"], 100 * one["cpu_share"],
         int(one["errors"]))
        for one in server
    ]  # fmt: skip
    tables.print_table("The server alone, asked by wrk", heads, rows)


def _print(size: Size, results: dict[str, dict[str, Any]]) -> None:
    title = f"{size.in_flight:,} in flight, {_DELAY:g} s each, {size.seconds:g} s: median of {size.rounds} rounds"
    heads = ("client", "% of ideal", "each round", f"of {_ENOUGH:g} % or more", "callers", "CPU %", "others' %")
    rows = [
        (
            *(way, one["percent"], " ".join(map(str, one["percent_each"])), f"{one['enough']} of {size.rounds}"),
            *(one["callers"], 100 * one["cpu_cores"], 100 * one["others_cpu_cores"]),
            *(one[key] for key in ("cpu_us", "p50", "p99", "errors")),
        )
        for way, one in results.items()
    ]
    tables.print_table(title, (*heads, "us CPU a call", "p50 s", "p99 s", "errors"), rows)
    print("CPU in percent of one core. Others: every other program of the machine, the server among them.")
    for way, one in results.items():
        if one["callers"] < size.in_flight:
            print(f"{way}: in one round only {one['callers']:,} callers had started when the measured time opened.")


if __name__ == "__main__":
    main()
