"""What a step of an agent costs, beside LangChain's and pydantic-ai's agents on the same script.

Run `python bench/agent.py` (two minutes), with `--short` for some seconds. See `bench/README.md`.

A scripted model on loopback asks for a tool four times and then answers; 1,000 such runs are 5,000 steps. Each library
is used as its documentation shows. tidegate has everything on that is on by default, the ledger among it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support import tables
from support.processes import output_of, package_versions, scripted_model

_LIBRARIES = {"tidegate": "tidegate", "langchain": "agents", "pydantic-ai": "pydantic-ai"}
"""Each library, and whose interpreter it runs in."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, and write the report when a file is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="one round of 20 runs each")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    options = parser.parse_args(arguments)
    rounds, runs = (1, 20) if options.short else (5, 200)
    found = tables.circumstances()
    figures: dict[str, list[dict[str, Any]]] = {name: [] for name in _LIBRARIES}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        packages = {
            "agents": ("langchain", "langchain-openai", "openai"),
            "pydantic-ai": ("pydantic-ai-slim", "openai"),
        }
        versions = package_versions(packages, packages, home)
        with scripted_model(home) as url:
            for _ in range(rounds):
                for name, client in _LIBRARIES.items():
                    command = ["-m", "support.acting", name, f"{url}/v1", str(runs)]
                    figures[name].append(output_of(client, home, command))
    tables.print_circumstances(found, versions)
    own = [each["cpu_us"] for each in figures["tidegate"]]
    rows = []
    for name, each in figures.items():
        cpu = [one["cpu_us"] for one in each]
        ratio = statistics.median(mine / theirs for mine, theirs in zip(own, cpu, strict=True))
        rows.append((name, statistics.median(cpu), statistics.median(one["wall_us"] for one in each), ratio))
    heads = ("agent", "us CPU a step", "us a step", "tidegate's CPU to it")
    tables.print_table(f"{rounds} rounds of {runs} runs of five steps", heads, rows)
    tables.write_json(options.json, {"bench": "agent", **found, "versions": versions, "figures": figures})


if __name__ == "__main__":
    main()
