"""The budget race: what is spent of a budget by callers that ask all at once; and what a budget adds to a call.

Run `python bench/budget.py` (six minutes), with `--quick` for less than 20 s. See `bench/README.md`.

**Race**: a budget that so many calls fit into exactly, and more calls than that, from callers that ask as fast as they
get answers, which take 0.2 s. The server's own count of what it answered says what was spent; "returned" is how many of
these answers a caller got. One caller alone is the control: it shows that each client was told its budget rightly.

**Processes**: the same for tidegate, with four processes of fifty threads on one ledger. What is still set aside when
all have ended should be nothing.

**Cost**: calls of a client that has a ledger, with and without budgets that are far from reached, against a loopback
server that costs next to nothing; rounds in which they take turns.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from support import budgeting, rounds, tables
from support.databases import file_url, new_database, postgres
from support.processes import nginx, outage_server, package_versions, raced
from tidegate import Ledger
from tidegate.accounting import queries

_LATENCY = 0.2
_THREADS = (1, 20)
_COST = ("tidegate, SQLite", "tidegate, SQLite, 1 budget", "tidegate, SQLite, 3 budgets", "tidegate, PostgreSQL",
         "tidegate, PostgreSQL, 1 budget")  # fmt: skip


@dataclass(frozen=True)
class Race:
    """A budget, and who wants it."""

    fit: int
    """Calls that the budget is enough for."""
    callers: int
    calls: int
    processes: int = 1

    @property
    def usd(self) -> Decimal:
        """The budget."""
        return self.fit * budgeting.CALL_USD

    def arguments(self, url: str, ledger: str, at: float = 0.0) -> list[str]:
        """Of `support.budgeting`, for one process."""
        numbers = {"usd": self.usd, "callers": self.callers, "calls": self.calls // self.processes, "at": at}
        return [
            f"{url}/v1",
            "--ledger",
            ledger,
            *(text for key, one in numbers.items() for text in (f"--{key}", str(one))),
        ]

    def __str__(self) -> str:
        callers = f"{self.processes} processes of {self.callers}" if self.processes > 1 else f"{self.callers}"
        return f"{self.fit} calls fit into the budget, {self.calls} are asked, {callers} at a time"


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    races: tuple[Race, ...] = (Race(10, 1, 13), Race(10, 50, 200), Race(200, 50, 400))
    ways: tuple[str, ...] = tuple(budgeting.WAYS)
    rounds: int = 3
    shared: Race = Race(200, 50, 400, processes=4)
    lead: float = 4.0
    """Seconds in which several processes get ready, to begin together."""
    cost: tuple[str, ...] = _COST
    cost_rounds: int = 9
    cost_seconds: float = 0.6
    with_postgres: bool = True


_QUICK = Size(
    (Race(10, 50, 60),), ("tidegate", "litellm, BudgetManager"), 1, Race(20, 20, 40, processes=2), 1.0,
    _COST[:2], 2, 0.15, with_postgres=False,
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Race, print the tables, and write the report when a file is named."""
    options = _parser().parse_args(arguments)
    size = _QUICK if options.quick else Size()
    found = tables.circumstances()
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(postgres()) if size.with_postgres else None
        versions = package_versions({way.partition(",")[0] for way in size.ways}, budgeting.PACKAGES, home)
        parts = {name: _PARTS[name](size, home, server) for name in options.parts}
    tables.print_circumstances(found, versions)
    for name, results in parts.items():
        _PRINTERS[name](results, size)
    tables.write_json(options.json, {"bench": "budget", **found, "versions": versions, **parts})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", "--short", action="store_true", help="less of everything: less than 20 s")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=list(_PARTS), metavar="NAME")
    return parser


# The race


def _races(size: Size, home: Path, server: str | None) -> list[dict[str, Any]]:  # noqa: ARG001 (each part is asked alike)
    return [_raced(race, way, size.rounds, home) for race in size.races for way in size.ways]


def _raced(race: Race, way: str, times: int, home: Path) -> dict[str, Any]:
    """The round whose spending is the median, and the spending of every one."""
    taken = sorted((_race(race, way, home) for _ in range(times)), key=lambda one: one["served"])
    return {"race": str(race), "way": way, **taken[len(taken) // 2], "each": [one["served"] for one in taken]}


def _race(race: Race, way: str, home: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=home) as folder, outage_server(home, "--latency", str(_LATENCY)) as url:
        place = Path(folder)
        arguments = race.arguments(url, file_url(place / "usage.db"))
        came = raced(way.partition(",")[0], place, [way, *arguments])
        served = _served(url)
    return {**came, "served": served, "share": served / race.fit}


def _served(url: str) -> int:
    with urllib.request.urlopen(f"{url}/log") as response:  # noqa: S310 (our own server)
        return sum(status == 200 for _, _, status in json.load(response))


def _print_races(results: Sequence[dict[str, Any]], size: Size) -> None:
    heads = (
        "client",
        "answers paid for",
        "% of the budget",
        "returned",
        "refused",
        "failed",
        "s",
        "paid for, each round",
    )
    for race in map(str, size.races):
        rows = [
            (one["way"], one["served"], f"{100 * one['share']:.1f}", one["answered"], one["refused"], one["failed"],
             one["seconds"], " ".join(map(str, one["each"])))
            for one in results if one["race"] == race
        ]  # fmt: skip
        tables.print_table(f"{race}: median of {size.rounds}", heads, rows)
    for one in results:
        for error, times in one["errors"][:1]:
            print(f"{one['way']}: {times:,} times {error}")


# Several processes


def _shared(size: Size, home: Path, server: str | None) -> list[dict[str, Any]]:
    places = {"SQLite": file_url(home / "shared.db")}
    if server is not None:
        places["PostgreSQL"] = new_database(server, "shared")
    return [{"place": place, **_share(size.shared, ledger, size.lead, home)} for place, ledger in places.items()]


def _share(race: Race, ledger: str, lead: float, home: Path) -> dict[str, Any]:
    Ledger(ledger).close()
    with outage_server(home, "--latency", str(_LATENCY)) as url, ThreadPoolExecutor(race.processes) as pool:
        command = ["tidegate", *race.arguments(url, ledger, time.monotonic() + lead)]
        came = list(pool.map(lambda _: raced("tidegate", home, command), range(race.processes)))
        served = _served(url)
    with Ledger(ledger) as kept:
        left, cost = queries.reserved(kept.store.database()), kept.cost()
    counts = {key: sum(one[key] for one in came) for key in ("answered", "refused", "failed")}
    seconds = max(one["seconds"] for one in came)
    return {"served": served, "share": served / race.fit, **counts, "seconds": seconds, "written": str(cost),
            "reserved": left, "errors": [error for one in came for error in one["errors"]]}  # fmt: skip


def _print_shared(results: Sequence[dict[str, Any]], size: Size) -> None:
    heads = ("one ledger in", "answers paid for", "% of the budget", "refused", "failed", "s", "in the ledger, $",
             "still set aside")  # fmt: skip
    rows = [
        (one["place"], one["served"], f"{100 * one['share']:.1f}", one["refused"], one["failed"], one["seconds"],
         one["written"], one["reserved"])
        for one in results
    ]  # fmt: skip
    tables.print_table(f"tidegate: {size.shared} (${size.shared.usd})", heads, rows)
    for one in results:
        for error, times in one["errors"][:2]:
            print(f"{one['place']}: {times:,} times {error}")


# What it costs


def _costs(size: Size, home: Path, server: str | None) -> list[dict[str, Any]]:
    results = []
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(nginx(home))
        workers = rounds.payers(size.cost, home, server, stack, "cost")
        for threads in _THREADS:
            how = {"threads": threads, "rounds": size.cost_rounds, "seconds": size.cost_seconds}
            results += _compared(rounds.in_turns(workers, f"{url}/v1", **how), threads)
    return results


def _compared(samples: rounds.Samples, threads: int) -> list[dict[str, Any]]:
    found = []
    cpu, wall = rounds.costs(samples, "cpu"), rounds.costs(samples, "wall")
    for way, taken in samples.items():
        base = ",".join(way.split(",")[:2])
        found.append(
            {
                "way": way, "threads": threads, "is_base": way == base, "cpu_us": statistics.median(cpu[way]),
                "more_us": rounds.more(cpu, way, base)[0], "wall_us": statistics.median(wall[way]),
                "more_wall_us": rounds.more(wall, way, base)[0],
                "per_s": statistics.median(one["units"] / one["wall"] for one in taken),
            }
        )  # fmt: skip
    return found


def _print_costs(results: Sequence[dict[str, Any]], size: Size) -> None:  # noqa: ARG001 (as the others)
    heads = ("client", "us CPU a call", "more than without", "us a call", "more than without", "calls/s")
    for threads in _THREADS:
        rows = []
        for one in results:
            if one["threads"] == threads:
                more = (None, None) if one["is_base"] else (one["more_us"], one["more_wall_us"])
                rows.append((one["way"], one["cpu_us"], more[0], one["wall_us"], more[1], one["per_s"]))
        tables.print_table(
            f"A call with and without budgets, {threads} thread{'s' if threads > 1 else ''}", heads, rows
        )


_PARTS = {"races": _races, "processes": _shared, "costs": _costs}
_PRINTERS = {"races": _print_races, "processes": _print_shared, "costs": _print_costs}


if __name__ == "__main__":
    main()
