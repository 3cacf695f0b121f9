"""What reading each provider's answers costs, beside its official package: a call and a streamed chunk.

Run `python bench/providers.py` (two minutes), with `--short` for half a minute. See `bench/README.md`.

Both clients are asked as their users ask them, and their answers come from memory: what is measured is all that a
client does itself, without sockets. A chunk is a word; its cost is the difference between a stream of 401 words and one
of a single word. tidegate runs with everything on that is on by default (limits, retries, breaker, ledger, prices).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support import forms, tables
from support.processes import output_of, package_versions

_PACKAGES = {
    "openai": "openai",
    "openai-responses": "openai",
    "anthropic": "anthropic",
    "cohere": "cohere",
    "gemini": "google-genai",
}
_FIGURES = {"call_us": "a call", "stream_us": "a stream of one chunk", "chunk_us": "a further chunk"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, and write the report when a file is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="one round of a fifth of a second each")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    options = parser.parse_args(arguments)
    rounds, seconds = (1, 0.2) if options.short else (5, 0.7)
    found = tables.circumstances()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        versions = package_versions(["providers"], {"providers": sorted(set(_PACKAGES.values()))}, home)
        rows = {provider: _measured(provider, home, rounds, seconds) for provider in forms.PROVIDERS}
    tables.print_circumstances(found, versions)
    heads = ("provider", "official package", "us CPU, tidegate", "us CPU, official", "ratio")
    for figure, title in _FIGURES.items():
        lines = []
        for provider, by in rows.items():
            ours, theirs = (statistics.median(each[figure] for each in by[who]) for who in ("tidegate", "official"))
            lines.append((provider, _PACKAGES[provider], ours, theirs, ours / theirs))
        tables.print_table(f"Reading {title}", heads, lines)
    tables.write_json(options.json, {"bench": "providers", **found, "versions": versions, "rows": rows})


def _measured(provider: str, home: Path, rounds: int, seconds: float) -> dict[str, list[dict[str, Any]]]:
    """The figures of every round; the two take turns."""
    found: dict[str, list[dict[str, Any]]] = {"tidegate": [], "official": []}
    for _ in range(rounds):
        for who, figures in found.items():
            client = "tidegate" if who == "tidegate" else "providers"
            figures.append(output_of(client, home, ["-m", "support.decoding", who, provider, str(seconds)]))
    return found


if __name__ == "__main__":
    main()
