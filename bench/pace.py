"""How a quota is kept and used: many calls drained against servers that enforce requests and tokens a minute.

Run `python bench/pace.py` (five minutes), with `--quick` for tidegate and the OpenAI SDK against one server (under a
minute), or in full with `--requests 3000 --threads 1 20 200 --cases tokens requests window`. See `bench/README.md`.

Three cases. **tokens**: llmock refills continuously, and the tokens are what binds (prompts of three sizes, two
thirds of the requests that the other quota would allow). **requests**: the same, and the requests bind. **window**: a
server of our own that lets no sliding minute be over; the requests bind.

What is shown:

* 429s: refusals that the server sent.
* failed: calls that ended in an error; not done: those that were not through when patience was over.
* s: from the first request until the last was let in; the least is what the quota makes of it for a client that has
  no cost of its own.
* % of quota: used, of what was allowed. A bucket holds a minute's worth when it is full, which is there at once, so a
  run of less than several minutes is mostly that first burst; what is allowed is the burst and what has been refilled
  since. For a sliding minute it is how full that minute was, on average, from its first being full
  or from the tenth second on.
* % steady: the same without the burst, which would flatter everybody: in the second half of the time, what was used
  of what was refilled in it; a dash where the burst was not spent by then, or the time is too short. For a sliding
  minute: 60 s to the period after which its units were used again.

`support/quota_use.py` has the definitions. A client that keeps its requests evenly apart may be steady at 100 % and
still leave most of the first burst unused: both figures are needed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from support import tables
from support.draining import PACKAGES, WAYS, mean_charge
from support.processes import drained, package_versions, quota_server
from support.quota_use import use_of

_LOOSE = 1.5
"""By how much the quota that does not bind is wider than the calls need."""
_WINDOW_BURST = 1.2
"""Calls of the sliding case, in quotas: the last fifth has to wait for the minute to slide on."""
_PATIENCE = {"bucket": 30.0, "window": 75.0}
"""Seconds beyond the least possible after which a client is not waited for any more."""
_TOGETHER = {"bucket": 1, "window": 5}
"""How many clients are measured at once, each with a server of its own: in the sliding case they wait for most of
their minute."""
_QUICK = ("tidegate", "tidegate, learned", "openai")


@dataclass(frozen=True)
class Case:
    """A server, and what is asked of it."""

    name: str
    kind: str
    rpm: int
    tpm: int
    requests: int
    least: float
    """Seconds that the quota alone makes of it."""
    latency: float = 0.0
    """Seconds that an answer takes."""

    @property
    def server(self) -> list[str]:
        """The arguments of `support.quota_server`."""
        return [self.kind, "--rpm", str(self.rpm), "--tpm", str(self.tpm), "--latency", str(self.latency)]

    @property
    def patience(self) -> float:
        """Seconds after which a client is to ask nothing more."""
        return self.least + _PATIENCE[self.kind]


@dataclass(frozen=True)
class Cell:
    """One measurement."""

    case: Case
    way: str
    threads: int

    def arguments(self, url: str) -> list[str]:
        """For `support.draining`."""
        case = self.case
        numbers = {"rpm": case.rpm, "tpm": case.tpm, "threads": self.threads, "requests": case.requests}
        options = [text for name, number in numbers.items() for text in (f"--{name}", str(number))]
        return [self.way, f"{url}/v1", "--pace", case.kind, "--patience", str(case.patience), *options]


def main(arguments: Sequence[str] | None = None) -> None:
    """Drain in each way, print the tables, and write the report when a file is named."""
    options = _parser().parse_args(arguments)
    if options.quick:
        options.requests, options.seconds, options.cases, options.ways = 700, 10.0, ["tokens"], list(_QUICK)
    made = [CASES[name](options.requests, options.seconds) for name in options.cases]
    cases = [replace(case, latency=options.latency) for case in made]
    found = tables.circumstances()
    with tempfile.TemporaryDirectory() as folder:
        versions = package_versions({way.split(",")[0].split()[0] for way in options.ways}, PACKAGES, Path(folder))
        results = [one for case in cases for one in _measured(case, options.ways, options.threads, Path(folder))]
    tables.print_circumstances(found, versions)
    for case in cases:
        _print(case, [one for one in results if one["case"] == case.name])
    report = {"bench": "pace", **found, "versions": versions, "cases": [vars(case) for case in cases]}
    tables.write_json(options.json, report | {"results": results})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", "--short", action="store_true", help="tidegate and openai against llmock: under a minute"
    )
    parser.add_argument("--requests", type=int, default=1400, metavar="N", help="calls to drain (default 1400)")
    parser.add_argument("--threads", type=int, nargs="+", default=[20], metavar="N", help="threads (default 20)")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=["tokens", "window"], metavar="NAME")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="NAME")
    parser.add_argument("--seconds", type=float, default=15.0, metavar="S", help="of refill a bucket's drain needs")
    parser.add_argument("--latency", type=float, default=0.0, metavar="S", help="seconds an answer takes (default 0)")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    return parser


def _tokens(requests: int, seconds: float) -> Case:
    at_once = requests / (1 + seconds / 60)
    return Case("tokens", "bucket", round(_LOOSE * at_once), round(at_once * mean_charge()), requests, seconds)


def _requests(requests: int, seconds: float) -> Case:
    at_once = requests / (1 + seconds / 60)
    return Case("requests", "bucket", round(at_once), round(_LOOSE * at_once * mean_charge()), requests, seconds)


def _window(requests: int, _seconds: float) -> Case:
    at_once = requests / _WINDOW_BURST
    return Case("window", "window", round(at_once), round(_LOOSE * at_once * mean_charge()), requests, 60.0)


CASES: dict[str, Callable[[int, float], Case]] = {"tokens": _tokens, "requests": _requests, "window": _window}


def _measured(case: Case, ways: Sequence[str], threads: Sequence[int], home: Path) -> Iterator[dict[str, Any]]:
    """Every way in every number of threads, each in new processes."""
    cells = list(_cells(case, ways, threads))
    with ThreadPoolExecutor(_TOGETHER[case.kind]) as pool:
        yield from pool.map(lambda cell: _measure(cell, home), cells)


def _cells(case: Case, ways: Sequence[str], threads: Sequence[int]) -> Iterator[Cell]:
    for way in ways:
        if case.kind == "window" and way == "tidegate, learned":
            continue  # that server's headers teach nothing
        in_loop = way.startswith("capacity loop")
        yield from (Cell(case, way, number) for number in ([0] if in_loop else threads))


def _measure(cell: Cell, home: Path) -> dict[str, Any]:
    case = cell.case
    with quota_server(home, *case.server) as url:
        came = drained(cell.way, home, cell.arguments(url))
        with urllib.request.urlopen(f"{url}/log") as response:  # noqa: S310 (our own server)
            log = json.load(response)
    left = case.requests - came["answered"] - came["failed"]
    use = use_of(case.kind, log, case.rpm, case.tpm, cut_off=case.patience if left else None)
    return {"case": case.name, "way": cell.way, "threads": cell.threads, "not_done": left, **came, **vars(use)}


def _print(case: Case, results: Sequence[dict[str, Any]]) -> None:
    quota = f"{case.rpm:,} requests and {case.tpm:,} tokens a minute"
    delay = f", {case.latency:g} s an answer" if case.latency else ""
    title = f"{case.name}: {case.requests:,} calls, {quota}{delay}; the least is {case.least:g} s"
    heads = ("client", "threads", "429s", "failed", "not done", "s", "% of quota", "% steady")
    rows = [
        (
            *(one["way"], one["threads"] or None, one["refused"], one["failed"], one["not_done"]),
            *(f"{one['seconds']:.1f}", _percent(one["share"]), _percent(one["steady"])),
        )
        for one in results
    ]
    tables.print_table(title, heads, rows)
    for one in results:
        for error, times in one["errors"][:1]:
            print(f"{one['way']}, {one['threads']} threads: {times:,} times {error}")


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.1f}"


if __name__ == "__main__":
    main()
