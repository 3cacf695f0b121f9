"""What an import costs: time, memory and modules, each in fresh interpreters.

Run `python bench/imports.py`, with `--short` for fewer of them. See `bench/README.md`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support import tables
from support.processes import output_of, versions_of

STATEMENTS = {
    "import tidegate": "tidegate",
    "from tidegate import Client": "tidegate",
    "import requests": "requests",
    "import openai": "openai",
    "import litellm": "litellm",
}
"""Each with the client in whose environment it runs."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, and write the report when a file is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="three interpreters each instead of eleven")
    parser.add_argument("--json", metavar="FILE", help="write the figures of every interpreter there")
    options = parser.parse_args(arguments)
    rounds = 3 if options.short else 11
    found = tables.circumstances()
    with tempfile.TemporaryDirectory() as folder:
        versions = versions_of(STATEMENTS.values(), Path(folder))
        samples = _rounds(rounds, Path(folder))
    results = {statement: _medians(taken) for statement, taken in samples.items()}
    tables.print_circumstances(found, versions)
    _print(rounds, results)
    report = {"bench": "imports", **found, "versions": versions, "results": results, "samples": samples}
    tables.write_json(options.json, report)


def _rounds(rounds: int, home: Path) -> dict[str, list[dict[str, Any]]]:
    """Every statement once a round; a round before them, which does not count, leaves the compiled files behind."""
    samples: dict[str, list[dict[str, Any]]] = {statement: [] for statement in STATEMENTS}
    for number in range(rounds + 1):
        for statement, client in STATEMENTS.items():
            cost = output_of(client, home, ["-m", "support.importing", statement])
            if number:
                samples[statement].append(cost)
    return samples


def _medians(taken: Sequence[dict[str, Any]]) -> dict[str, Any]:
    keys = ("seconds", "cpu", "mib", "modules")
    medians = {key: statistics.median(one[key] for one in taken) for key in keys}
    return {**medians, "seconds_least": min(one["seconds"] for one in taken), "heavy": taken[0]["heavy"]}


def _print(rounds: int, results: dict[str, dict[str, Any]]) -> None:
    heads = ("statement", "ms", "least", "ms CPU", "MiB", "modules", "heavy ones among them")
    rows = [
        (statement, *(1000 * one[key] for key in ("seconds", "seconds_least", "cpu")), one["mib"], int(one["modules"]),
         ", ".join(one["heavy"]) or None)
        for statement, one in results.items()
    ]  # fmt: skip
    tables.print_table(f"One import in a fresh interpreter: median of {rounds}", heads, rows)


if __name__ == "__main__":
    main()
