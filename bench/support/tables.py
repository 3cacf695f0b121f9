"""Where and when figures were measured, and how they are printed."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from support.processes import nginx_program

_QUIET = 0.5
"""Load average above which other programs may have disturbed the figures."""


def circumstances() -> dict[str, Any]:
    """The machine, its load before the run, the date, and the revision that was measured."""
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "load": round(os.getloadavg()[0], 2),
        "revision": _revision(),
    }


def nginx_version() -> str:
    """As nginx says it, such as `1.22.1`."""
    said = subprocess.run([nginx_program(), "-v"], capture_output=True, text=True, check=True)  # noqa: S603
    return said.stderr.rpartition("/")[2].strip()


def print_circumstances(found: Mapping[str, Any], versions: Mapping[str, Mapping[str, str]]) -> None:
    """The lines above the tables."""
    print(f"{found['date']}, revision {found['revision']}")
    print(f"{found['cpu']}, {found['cores']} cores, {found['memory_gib']} GiB, {found['system']}, load {found['load']}")
    if found["load"] > _QUIET:
        print("The machine was not idle when this run began: read the ratios, and repeat the run.")
    for name, packages in versions.items():
        print(f"{name}: {', '.join(f'{package} {version}' for package, version in packages.items())}")


def print_table(title: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A titled table; the first column to the left, the others to the right. None is printed as a dash."""
    cells = [list(heads), *([_text(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    print(f"\n{title}")
    for number, row in enumerate(cells):
        right = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join([row[0].ljust(widths[0]), *right]))
        if number == 0:
            print("  ".join("-" * width for width in widths))


def write_json(path: str | None, report: Mapping[str, Any]) -> None:
    """The whole report with its raw figures, when a file was asked for."""
    if path is not None:
        Path(path).write_text(json.dumps(report, indent=2) + "\n")


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) < 10 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _cpu_name() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.machine()


def _revision() -> str:
    """The commit beside these files, with a `+` when they differ from it; `unknown` outside a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 (our own command)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return said.stdout.strip()
