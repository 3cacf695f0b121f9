"""What letting a call in costs, and what its circuit breaker does: microseconds, memory, and a share of the call.

Run `python bench/admission.py` (three minutes), with `--quick` for less than 40 s. See `bench/README.md`.

**Admission**, when nobody else asks: the policy is all that a client does (it estimates tokens, asks the gate, and puts
the books right at the end), with response headers it learns from them as well. pyrate-limiter is asked for as many
tokens, without the requests. Grown: what the process's memory gained over all admissions but the first thousand.

**Breaker**: clients with and without one ask a loopback server that costs next to nothing; they take turns, and what is
shown is the median of the ratios within each round. The control is a second client without: what it differs from the
first by is noise. Then breakers alone, around a function that does nothing and around
one that takes a millisecond.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support import admitting, breaking, tables
from support.processes import nginx, output_of, package_versions

_TPM = (2_000_000, 50_000_000)
_THREADS = 64
_PROMISED_US = 50
_PROMISED_SHARE = 5
_VERSIONS = {"tidegate": ("pyrate-limiter", "pybreaker", "requests", "urllib3")}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, and write the report when a file is named."""
    options = _parser().parse_args(arguments)
    admissions, rounds, seconds = (10_000, 6, 0.4) if options.quick else (100_000, 48, 0.6)
    found = tables.circumstances()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        versions = package_versions(["tidegate"], _VERSIONS, home)
        admission = [_admission(way, tpm, admissions, home) for way in admitting.WAYS for tpm in _TPM]
        with nginx(home) as url:
            size = ["--rounds", str(rounds), *_size(_THREADS, seconds)]
            taken = _run(home, "support.breaking", "clients", f"{url}/v1", *size)
        alone = [_alone(way, threads, seconds, home) for threads in (1, _THREADS) for way in breaking.WAYS]
    share = _share(taken)
    tables.print_circumstances(found, versions)
    _print_admission(admission, admissions)
    _print_share(share, rounds)
    _print_alone(alone)
    report = {"bench": "admission", **found, "versions": versions, "admission": admission, "share": share}
    tables.write_json(options.json, report | {"clients": taken, "alone": alone})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", "--short", action="store_true", help="fewer of everything: less than 40 s")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    return parser


def _run(home: Path, *arguments: str) -> Any:  # noqa: ANN401 (JSON)
    return output_of("tidegate", home, ["-m", *arguments])


def _size(threads: int, seconds: float) -> list[str]:
    return ["--threads", str(threads), "--seconds", str(seconds)]


def _admission(way: str, tpm: int, admissions: int, home: Path) -> dict[str, Any]:
    return {"way": way, "tpm": tpm, **_run(home, "support.admitting", way, str(tpm), str(admissions))}


def _alone(way: str, threads: int, seconds: float, home: Path) -> dict[str, Any]:
    taken = _run(home, "support.breaking", "alone", way, *_size(threads, seconds))
    return {"way": way, "threads": threads, **taken}


def _share(taken: Sequence[dict[str, dict[str, float]]]) -> list[dict[str, Any]]:
    """Of each client what a call costs, and how much more than without a breaker: median and quartiles."""
    shares = []
    for figure, title in (("cpu", "CPU"), ("wall", "wall time")):
        costs = [{name: 1e6 * one[figure] / one["units"] for name, one in each.items()} for each in taken]
        for name in breaking.CLIENTS:
            more = [100 * (each[name] / each["without"] - 1) for each in costs]
            low, middle, high = statistics.quantiles(more, method="inclusive")
            cost = statistics.median(each[name] for each in costs)
            shares.append({"of": f"{title}, {name}", "us": cost, "percent": middle, "low": low, "high": high})
    return shares


def _print_admission(results: Sequence[dict[str, Any]], admissions: int) -> None:
    title = (
        f"An admission of {admitting.TOKENS:,} tokens, 1 thread, {admissions:,} of them (promised: {_PROMISED_US} us)"
    )
    heads = ("way", "tokens a minute", "us CPU", "least", "us", "KiB grown", "blocks grown")
    rows = [
        (one["way"], one["tpm"], one["cpu_us"], one["least_us"], one["wall_us"], one["bytes"] // 1024, one["blocks"])
        for one in results
    ]
    tables.print_table(title, heads, rows)


def _print_share(shares: Sequence[dict[str, Any]], rounds: int) -> None:
    title = f"A call with and without a breaker, {_THREADS} threads, {rounds} rounds (promised: {_PROMISED_SHARE} %)"
    heads = ("of a call", "us", "% more than without", "lower quartile", "upper quartile")
    keys = ("of", "us", "percent", "low", "high")
    tables.print_table(title, heads, [tuple(one[key] for key in keys) for one in shares])


def _print_alone(results: Sequence[dict[str, Any]]) -> None:
    title = f"A breaker alone: around nothing, and around a function of {1_000 * breaking.NAP:g} ms"
    heads = ("way", "threads", "us CPU", "calls/s of the function")
    tables.print_table(
        title, heads, [tuple(one[key] for key in ("way", "threads", "cpu_us", "napping_per_s")) for one in results]
    )


if __name__ == "__main__":
    main()
