"""A provider that is down for a while: how often it is asked in vain, and how soon it is used again.

Run `python bench/outage.py` (a minute and a half), with `--quick` for less than 40 s. See `bench/README.md`.

Twenty callers ask once a second. After some seconds the provider answers 503 to everything, without a Retry-After, and
at the end of the outage it is well again. All ways are measured at the same time, each with callers and servers in
processes of its own: they wait for most of the time. What is shown:

* calls: those that began and ended in the outage; failed: how many of them ended in an error.
* attempts a call: requests that these calls cost the provider which is down.
* s a call: how long it took until a caller knew, median and longest.
* first again, all again: seconds from the outage's end until the provider has been asked with success, and until it has
  been for every caller; failed after: calls that began after the end and failed all the same.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import tables
from support.outage_callers import EVERY, PACKAGES, WAYS
from support.processes import outage_server, package_versions, through_an_outage

_QUICK = ("tidegate", "tidegate, fallback", "openai")


@dataclass(frozen=True)
class Size:
    """How large a run is: callers, and seconds."""

    callers: int
    before: float
    outage: float
    patience: float
    """How long the provider's return is waited for."""


_FULL = Size(callers=20, before=3, outage=45, patience=40)
_SHORT = Size(callers=20, before=1, outage=15, patience=17)
"""Each ends halfway between two moments at which a circuit that is tried every 30 s is tried."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Go through the outage in every way, print the table, and write the report when a file is named."""
    options = _parser().parse_args(arguments)
    size, ways = (_SHORT, _QUICK) if options.quick else (_FULL, tuple(options.ways))
    found = tables.circumstances()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        versions = package_versions(set(map(_client, ways)), PACKAGES, home)
        with ThreadPoolExecutor(len(ways)) as pool:
            results = dict(zip(ways, pool.map(lambda way: _measured(way, size, home), ways), strict=True))
    tables.print_circumstances(found, versions)
    _print(size, results)
    report = {"bench": "outage", **found, "versions": versions, "size": vars(size), "results": results}
    tables.write_json(options.json, report)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", "--short", action="store_true", help="tidegate and openai, 15 s of outage")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="NAME")
    return parser


def _client(way: str) -> str:
    return way.split(",", maxsplit=1)[0]


def _measured(way: str, size: Size, home: Path) -> dict[str, Any]:
    times = [text for name, number in vars(size).items() for text in (f"--{name}", str(number))]
    with outage_server(home) as url, outage_server(home) as other:
        return through_an_outage(_client(way), home, [way, url, other, *times])


def _print(size: Size, results: Mapping[str, Mapping[str, Any]]) -> None:
    title = f"{size.outage:g} s of outage, {size.callers} callers, each of which asks every {EVERY:g} s"
    heads = ("client", "calls", "failed", "attempts a call", "s a call", "longest", "first again", "all again",
             "failed after")  # fmt: skip
    keys = ("calls", "failed", "attempts", "seconds", "longest", "first_again", "all_again", "failed_after")
    tables.print_table(title, heads, [(way, *(one[key] for key in keys)) for way, one in results.items()])
    for way, one in results.items():
        for error, times in one["errors"][:1]:
            print(f"{way}: {times:,} times {error.splitlines()[0]}")
        if one["failed_before"]:
            print(f"{way}: {one['failed_before']} calls failed before the outage")


if __name__ == "__main__":
    main()
