"""`tidegate doctor`: what is installed, what is set, what is reachable, and what would be used."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from typing import TYPE_CHECKING

from tidegate.cli.findings import EXTRAS, Findings, Reached, examine, install_line
from tidegate.cli.options import add_output_options, seconds
from tidegate.cli.wrapping import write_line
from tidegate.terminal import Cell, Column, Style, painted, show_table

if TYPE_CHECKING:
    from tidegate.cli.providers import KnownProvider


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `doctor` can be told."""
    parser.add_argument("--timeout", type=seconds, default=3.0, metavar="SECONDS", help="for an address to answer (3)")
    add_output_options(parser)


def run(options: argparse.Namespace) -> int:
    """Look everywhere; answers the exit code: 1 when no model can be asked."""
    found = examine(options.timeout)
    if options.json:
        from tidegate.cli.answers import print_json  # noqa: PLC0415 (it imports what may be what is broken)

        print_json(dataclasses.asdict(found))
    else:
        _show(found)
    return 0 if found.usable else 1


def _show(found: Findings) -> None:
    _show_facts(found)
    if found.providers:
        _show_providers(found)
    _show_packages(found)
    sys.stdout.write("\n")
    for problem in found.problems:
        _tell("✗", problem, "red")
    if found.usable:
        _tell("✓", f"ready: {found.default_model} is asked by default ({found.default_because})", "green")
    else:
        _tell("✗", "no model can be asked: set a provider's key, or install the embedded model", "red")


def _tell(mark: str, text: str, style: Style) -> None:
    sys.stdout.write(f"{painted(mark, style, sys.stdout)} ")
    write_line(text, sys.stdout, at=2)


def _show_facts(found: Findings) -> None:
    rows: list[tuple[str | Cell, ...]] = [("tidegate", f"{found.tidegate}, Python {found.python}, {found.system}")]
    rows += [(name, value) for name, value in found.environment.items()]
    show_table((Column("", whole=True), Column("")), rows, sys.stdout)


# Providers


def _show_providers(found: Findings) -> None:
    from tidegate.cli.providers import NO_KEY, key_cell  # noqa: PLC0415 (it imports what may be what is broken)

    reached = {each.provider: each for each in found.reached}
    heads = (Column("provider", whole=True), Column("key"), Column("answer"), Column("address"))
    rows: list[tuple[str | Cell, ...]] = [
        (each.name, key_cell(each), _answer(each, reached.get(each.name)), each.base_url or "")
        for each in found.providers
    ]
    embedded = Cell("✓ installed", "green") if found.embedded_problem is None else Cell("✗ not installed", "red")
    rows.append(("local", NO_KEY, embedded, "embedded"))
    sys.stdout.write("\n")
    show_table(heads, rows, sys.stdout)


def _answer(provider: KnownProvider, reached: Reached | None) -> Cell:
    if provider.problem is not None:
        return Cell(f"✗ {provider.problem}", "red")
    if reached is None:
        return Cell("")
    if reached.status is not None:
        return Cell(f"✓ HTTP {reached.status}, {reached.seconds * 1000:.0f} ms", "green")
    return Cell(f"✗ {reached.problem}", "red") if provider.configured else Cell("- nothing there", "dim")


# Packages


def _show_packages(found: Findings) -> None:
    rows: list[tuple[str | Cell, ...]] = []
    for extra in (None, *EXTRAS):
        packages = [package for package in found.packages if package.extra == extra]
        missing = [package.name for package in packages if package.version is None]
        there = ", ".join(f"{package.name} {package.version}" for package in packages if package.version is not None)
        lacking = Cell(f"not installed: {install_line(extra)}", "red" if extra is None else "dim")
        rows.append((extra or "needed by all", lacking if missing else there))
    sys.stdout.write("\n")
    show_table((Column("extra", whole=True), Column("packages")), rows, sys.stdout)
