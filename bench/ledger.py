"""What writing calls down costs: records a second, a call with and without a ledger, and what summaries take.

Run `python bench/ledger.py` (twenty minutes), with `--quick` for less than 20 s. See `bench/README.md`.

**Records** that are durable when the call returns, in 1 and 20 threads, compared with others that survive the same: the
end of the process (`process`), or a loss of power (`power`). "kept" counts until the last one is where it is read from:
tidegate's are in a journal first. What one more record takes is shown as they become more.

**A call** of a client with and without a ledger, beside litellm with and without a callback that writes: rounds in
which they take turns, against a loopback server that costs next to nothing. The control is a second client without.

**kill -9**: twenty threads ask and print each call's number when they have its answer, until the process is killed;
then it is looked up which of the printed ones were written down.

**Summaries** of thirty days, of ever more rows. How long they take depends on how many rows share a quarter of an hour,
a model, a task and tags, as one sum is kept for all of these: three shapes are measured.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import paying, recording, rounds, summing, tables
from support.databases import file_url, new_database, postgres
from support.processes import nginx, output_of, package_versions
from support.venvs import environment, python_of

_THREADS = (1, 20)
_PROMISED_SUMMARY = 0.5
_VERSIONS = {"tidegate": ("sqlalchemy", "psycopg", "pykka", "genai-prices"), "litellm": ("litellm", "openai")}
_QUICK_RECORDS = ("tidegate, SQLite", "sqlite3, a commit a row, NORMAL", "tidegate, SQLite, disk",
                  "sqlite3, a commit a row, FULL")  # fmt: skip
_CALLS = ("tidegate", "tidegate, control", "tidegate, SQLite", "tidegate, SQLite, disk", "tidegate, PostgreSQL",
          "litellm", "litellm, a JSON line", "litellm, a commit a row")  # fmt: skip
_QUICK_CALLS = ("tidegate", "tidegate, control", "tidegate, SQLite")
_KILLED = ("tidegate, SQLite", "litellm, a JSON line", "litellm, a commit a row")
_GROWING = ("a JSON file, rewritten", "tidegate, SQLite")
_ACKNOWLEDGED = 300


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    records: tuple[str, ...] = tuple(recording.WAYS)
    record_rounds: int = 3
    record_seconds: float = 1.5
    growth: tuple[int, ...] = (1_000, 10_000, 100_000)
    growing: tuple[str, ...] = _GROWING
    calls: tuple[str, ...] = _CALLS
    call_rounds: int = 9
    call_seconds: float = 0.6
    killed: tuple[str, ...] = _KILLED
    kills: int = 3
    summaries: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    shapes: tuple[str, ...] = tuple(summing.SHAPES)
    with_postgres: bool = True


_QUICK = Size(
    _QUICK_RECORDS,
    1,
    0.15,
    (100, 1_000),
    _GROWING[:1],
    _QUICK_CALLS,
    3,
    0.1,
    (),
    0,
    (10_000,),
    ("few labels",),
    with_postgres=False,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, and write the report when a file is named."""
    options = _parser().parse_args(arguments)
    size = _QUICK if options.quick else Size()
    found = tables.circumstances()
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(postgres()) if size.with_postgres else None
        clients = {way.partition(",")[0] for way in size.calls}
        versions = package_versions(clients, _VERSIONS, home)
        parts: dict[str, Any] = {name: _PARTS[name](size, home, server) for name in options.parts}
    tables.print_circumstances(found, versions)
    for name, results in parts.items():
        _PRINTERS[name](results)
    tables.write_json(options.json, {"bench": "ledger", **found, "versions": versions, "size": vars(size), **parts})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", "--short", action="store_true", help="less of everything: less than 20 s")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=list(_PARTS), metavar="NAME")
    return parser


# Records


def _records(size: Size, home: Path, server: str | None) -> list[dict[str, Any]]:
    """Every way once a round, each time in a new process with nothing written yet."""
    ways = [way for way in size.records if server is not None or not recording.WAYS[way][2]]
    cells = [(way, threads) for threads in _THREADS for way in ways]
    samples: dict[tuple[str, int], list[dict[str, float]]] = {cell: [] for cell in cells}
    for number in range(size.record_rounds):
        for index, (way, threads) in enumerate(cells):
            name = f"records_{number}_{index}"
            url = [new_database(server, name)] if server is not None and recording.WAYS[way][2] else []
            command = ["rate", way, str(home / name), str(threads), str(size.record_seconds), *url]
            samples[way, threads].append(output_of("tidegate", home, ["-m", "support.recording", *command]))
    return [
        {"way": way, "survives": recording.WAYS[way][1], "threads": threads, **_medians(taken)}
        for (way, threads), taken in samples.items()
    ]


def _medians(taken: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(one[key] for one in taken) for key in taken[0]}


def _print_records(results: Sequence[dict[str, Any]]) -> None:
    heads = ("way", "survives the end of", "records/s", "records/s, kept", "us CPU a record")
    for threads in _THREADS:
        chosen = [one for one in results if one["threads"] == threads]
        keys = ("way", "survives", "per_s", "kept_per_s", "cpu_us")
        title = f"Records that are durable at return, {threads} thread{'s' if threads > 1 else ''}"
        tables.print_table(title, heads, [tuple(one[key] for key in keys) for one in chosen])


def _growth(size: Size, home: Path, server: str | None) -> dict[str, Any]:  # noqa: ARG001 (each part is asked alike)
    lengths = [str(each) for each in size.growth]
    command = ["-m", "support.recording", "growth"]
    return {
        way: output_of("tidegate", home, [*command, way, str(home / f"growth_{number}"), *lengths])
        for number, way in enumerate(size.growing)
    }


def _print_growth(results: dict[str, Any]) -> None:
    rows = [
        (way, one["length"], one["us"], one["bytes"], one["bytes"] / one["length"])
        for way, taken in results.items()
        for one in taken
    ]
    tables.print_table("One more record", ("way", "when there are", "us", "bytes", "bytes a record"), rows)


# Calls


def _calls(size: Size, home: Path, server: str | None) -> list[dict[str, Any]]:
    results = []
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(nginx(home))
        workers = rounds.payers(size.calls, home, server, stack)
        for threads in _THREADS:
            how = {"threads": threads, "rounds": size.call_rounds, "seconds": size.call_seconds}
            results += _compared(rounds.in_turns(workers, f"{url}/v1", **how), threads)
    return results


def _compared(samples: rounds.Samples, threads: int) -> list[dict[str, Any]]:
    found = []
    cpu, wall = rounds.costs(samples, "cpu"), rounds.costs(samples, "wall")
    for way, taken in samples.items():
        base = way.partition(",")[0]
        more_us, percent = rounds.more(cpu, way, base)
        found.append(
            {
                "way": way, "threads": threads, "cpu_us": statistics.median(cpu[way]), "more_us": more_us,
                "percent": percent, "wall_percent": rounds.more(wall, way, base)[1],
                "per_s": statistics.median(one["units"] / one["wall"] for one in taken),
            }
        )  # fmt: skip
    return found


def _print_calls(results: Sequence[dict[str, Any]]) -> None:
    heads = ("client", "us CPU a call", "more than without", "% CPU", "% wall time", "calls/s")
    for threads in _THREADS:
        rows = []
        for one in results:
            if one["threads"] == threads:
                is_base = "," not in one["way"]
                shown = (None,) * 3 if is_base else (one["more_us"], one["percent"], one["wall_percent"])
                rows.append((one["way"], one["cpu_us"], *shown, one["per_s"]))
        tables.print_table(f"A call, {threads} thread{'s' if threads > 1 else ''}", heads, rows)


# Kill -9


def _kills(size: Size, home: Path, server: str | None) -> list[dict[str, Any]]:  # noqa: ARG001 (each part is asked alike)
    if not size.killed:
        return []
    with nginx(home) as url:
        return [_killed(way, size.kills, home, f"{url}/v1") for way in size.killed]


def _killed(way: str, times: int, home: Path, url: str) -> dict[str, Any]:
    said = missing = 0
    for number in range(times):
        folder = home / f"killed_{number}_{way.replace(' ', '_')}"
        acknowledged = _acknowledged(way, home, folder, url)
        if not acknowledged:
            raise SystemExit(f"{way} answered nothing")
        said += len(acknowledged)
        missing += len(acknowledged - paying.kept(way, folder))
    return {"way": way, "acknowledged": said, "missing": missing}


def _acknowledged(way: str, home: Path, folder: Path, url: str) -> set[str]:
    """The numbers that a process printed until it was killed."""
    client = way.partition(",")[0]
    command = [python_of(client), "-m", "support.paying", way, str(folder), "--until-killed", url]
    variables = environment(client, home)
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdout=pipe, stderr=null, text=True, env=variables) as process:  # noqa: S603 (ours)
        assert process.stdout is not None  # noqa: S101 (for the type checker)
        lines = [line for line, _ in zip(process.stdout, range(_ACKNOWLEDGED), strict=False)]
        os.kill(process.pid, signal.SIGKILL)
        lines += process.stdout.readlines()
    return {line.strip() for line in lines if line.endswith("\n") and line.strip().isdigit()}


def _print_kills(results: Sequence[dict[str, Any]]) -> None:
    if results:
        rows = [tuple(one.values()) for one in results]
        tables.print_table("Killed", ("client", "calls that had returned", "of these not written down"), rows)


# Summaries


def _summaries(size: Size, home: Path, server: str | None) -> list[dict[str, Any]]:
    return list(_summed(size, home, server))


def _summed(size: Size, home: Path, server: str | None) -> Iterator[dict[str, Any]]:
    places = ("SQLite", "PostgreSQL") if server is not None else ("SQLite",)
    for shape in size.shapes:
        for length in size.summaries:
            for place in places:
                name = f"sums_{place.lower()}_{shape.replace(' ', '_')}_{length}"
                file = home / f"{name}.db"
                url = file_url(file) if place == "SQLite" or server is None else new_database(server, name)
                found = output_of("tidegate", home, ["-m", "support.summing", url, shape, str(length)])
                yield {"shape": shape, "place": place, **found}
                file.unlink(missing_ok=True)


def _print_summaries(results: Sequence[dict[str, Any]]) -> None:
    groups = [str(by) for by in summing.BY]
    asked = ("in all" if name == "None" else f"by {name}" for name in groups)
    heads = ("rows", "in", "sums", "bytes a row", "us a row written", *asked)
    for shape in dict.fromkeys(one["shape"] for one in results):
        rows = [
            (f"{one['length']:,}", one["place"], one["sums"], one["bytes"] / one["length"], one["fill_us"],
             *(_milliseconds(one["seconds"].get(name)) for name in groups))
            for one in results if one["shape"] == shape
        ]  # fmt: skip
        title = f"Summaries of 30 days in ms: {shape} (promised at a million: {1000 * _PROMISED_SUMMARY:g})"
        tables.print_table(title, heads, rows)


def _milliseconds(seconds: float | None) -> str | None:
    return None if seconds is None else f"{1000 * seconds:,.0f}"


_PARTS = {"records": _records, "growth": _growth, "calls": _calls, "kills": _kills, "summaries": _summaries}
_PRINTERS = {
    "records": _print_records,
    "growth": _print_growth,
    "calls": _print_calls,
    "kills": _print_kills,
    "summaries": _print_summaries,
}


if __name__ == "__main__":
    main()
