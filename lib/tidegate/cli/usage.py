"""`tidegate usage`: what the ledger has, added up."""

from __future__ import annotations

import argparse
import csv
import datetime as dt
import sys
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tidegate.accounting.ledger import Ledger
from tidegate.accounting.money import dollar_text
from tidegate.accounting.reports import Figures, Summary, added_up
from tidegate.cli.answers import print_json
from tidegate.cli.bars import bar
from tidegate.cli.options import add_days_option, add_ledger_option, add_output_options, count, open_ledger
from tidegate.cli.remarks import remark
from tidegate.cli.wrapping import write_line
from tidegate.errors import ConfigError
from tidegate.terminal import Cell, Column, columns, show_table

_COUNTS = ("count", "failed", "estimated", "unpriced", "input_tokens", "cached_tokens", "output_tokens",
           "reasoning_tokens", "total_tokens")  # fmt: skip

BAR, SHORT_BAR = 24, 10
"""Cells of the longest bar, and where a terminal is narrower than `WIDE`."""

WIDE = 100

MOST_ROWS = 40
"""Of a table for people; JSON and CSV have all."""

ROOMY = 76
"""Cells of a terminal's line from which on there are bars."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `usage` can be told."""
    parser.add_argument("--days", type=count, default=30, metavar="N", help="so many days, today included (30)")
    parser.add_argument(
        "--by",
        default="model",
        metavar="WHAT",
        help="model, task, day, provider or tag:NAME, such as tag:tenant (model)",
    )
    parser.add_argument("--csv", action="store_true", help="the groups as CSV")
    add_ledger_option(parser)
    add_days_option(parser)
    add_output_options(parser)


def run(options: argparse.Namespace) -> int:
    """Add up and show; answers the exit code."""
    if options.csv and options.json:
        raise ConfigError("--csv and --json are two forms of one thing: choose")
    with open_ledger(options) as ledger:
        if not ledger.store.is_there:
            return _nothing(ledger, options)
        summary = ledger.summary(days=options.days, by=options.by)
        groups = _every_day(ledger, summary) if options.by == "day" else summary.groups
        if options.json:
            print_json(_as_json(ledger, summary, groups))
        elif options.csv:
            _write_csv(options.by, groups)
        elif summary.count:
            _show(ledger, summary, groups)
        else:
            when = "today" if options.days == 1 else f"in {_spoken_days(options.days)}"
            remark(f"nothing was used {when} ({ledger.url})")
    return 0


def _nothing(ledger: Ledger, options: argparse.Namespace) -> int:
    nothing = ledger.nothing(options.days, options.by)
    if options.json:
        print_json(_as_json(ledger, nothing, {}))
    elif options.csv:
        _write_csv(options.by, {})
    remark(f"there is no ledger yet at {ledger.url}: the first call makes it")
    return 0


def _every_day(ledger: Ledger, summary: Summary) -> Mapping[str, Figures]:
    """The days without calls as well, from the first on that has some."""
    if not summary.groups:
        return {}
    first, today = dt.date.fromisoformat(min(summary.groups)), ledger.now.date()
    days = (first + dt.timedelta(days=number) for number in range((today - first).days + 1))
    return {day: summary.groups.get(day, Figures()) for day in map(dt.date.isoformat, days)} | dict(summary.groups)


# JSON and CSV


def _figures(figures: Figures) -> dict[str, Any]:
    return {**{name: getattr(figures, name) for name in _COUNTS}, "cost": _exact(figures.total_cost)}


def _exact(cost: Decimal | None) -> str | None:
    """As text: a JSON number would be read as a float."""
    return None if cost is None else f"{cost:f}"


def _as_json(ledger: Ledger, summary: Summary, groups: Mapping[str, Figures]) -> dict[str, Any]:
    means = {"mean_cost": _exact(summary.mean_cost), "daily_mean": _exact(summary.daily_mean)}
    return {
        "ledger": ledger.url,
        "days": summary.days,
        "since": summary.since.isoformat(),
        "by": summary.by,
        "total": {**_figures(summary), **means},
        "groups": [{"name": name, **_figures(figures)} for name, figures in groups.items()],
    }


def _write_csv(by: str, groups: Mapping[str, Figures]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow((by, *_COUNTS, "cost"))
    for name, figures in groups.items():
        safe = f"'{name}" if name[:1] in "=+-@\t\r" else name  # what a spreadsheet would run
        writer.writerow((safe, *_figures(figures).values()))


# For people


def _show(ledger: Ledger, summary: Summary, groups: Mapping[str, Figures]) -> None:
    out = sys.stdout
    roomy = not out.isatty() or columns(out) >= ROOMY
    heads = [
        Column(summary.by or ""),
        *(Column(name, right=True, whole=True) for name in ("calls", "in", "out", "cost")),
    ]
    if roomy:
        heads += [Column("share", right=True, whole=True), Column("", whole=True)]
    longest = BAR if not out.isatty() or columns(out) >= WIDE else SHORT_BAR
    rows = [_row(name, figures, summary, groups, longest) for name, figures in _shortened(groups, summary.by).items()]
    rows.append([Cell(text, "bold") for text in ("together", *_cells(summary), "", "")])
    show_table(heads, [row[: len(heads)] for row in rows], out)
    write_line(f"\n{_means(summary)}", out)
    for note in _notes(ledger, summary):
        write_line(note, out)


def _shortened(groups: Mapping[str, Figures], by: str | None) -> Mapping[str, Figures]:
    """Of very many groups those that cost most, and the others together. Days are never left out."""
    if by == "day" or len(groups) <= MOST_ROWS:
        return groups
    names = list(groups)
    rest = added_up(groups[name] for name in names[MOST_ROWS - 1 :])
    kept = {name: groups[name] for name in names[: MOST_ROWS - 1]}
    return {**kept, f"({len(groups) - len(kept):,} others)": rest}


def _row(
    name: str, figures: Figures, summary: Summary, groups: Mapping[str, Figures], longest: int
) -> list[str | Cell]:
    cost, most = figures.cost_nano, max(each.cost_nano for each in (*groups.values(), figures))
    if not most:  # nothing cost anything: what was used is told in tokens
        cost, most = figures.total_tokens, max(each.total_tokens for each in (*groups.values(), figures))
        whole = summary.total_tokens
    else:
        whole = summary.cost_nano
    share = f"{cost / whole:.0%}" if whole else ""
    return [name, *_cells(figures), share if figures.count else "", Cell(bar(cost, most, longest), "green")]


def _cells(figures: Figures) -> tuple[str, str, str, str]:
    if not figures.count:
        return "-", "-", "-", "-"
    cost = "unknown" if figures.total_cost is None else dollar_text(figures.total_cost)
    mark = "+" if figures.unpriced and figures.total_cost is not None else ""
    return f"{figures.count:,}", _tokens(figures.input_tokens), _tokens(figures.output_tokens), f"{cost}{mark}"


def _tokens(count: int) -> str:
    """`12,345`, and from a million on `1.23 M`."""
    return f"{count:,}" if count < 1_000_000 else f"{count / 1_000_000:,.2f} M"


def _means(summary: Summary) -> str:
    parts = [f"{_spoken_days(summary.days).capitalize()}, since {summary.since.date().isoformat()}"]
    if summary.mean_cost is not None and summary.daily_mean is not None:
        parts.append(f"{dollar_text(summary.mean_cost)} a call, {dollar_text(summary.daily_mean)} a day")
    parts.append(f"{summary.total_tokens:,} tokens")
    return f"{': '.join((parts[0], ', '.join(parts[1:])))}."


def _notes(ledger: Ledger, summary: Summary) -> list[str]:
    notes = []
    if summary.unpriced:
        notes.append(
            f"{_calls(summary.unpriced)} without a known price (+): not in the cost. `Client(prices=…)` names prices."
        )
    if summary.estimated:
        notes.append(
            f"{_calls(summary.estimated)} with tokens that were counted here, as the provider did not tell them."
        )
    if summary.failed:
        notes.append(f"{_calls(summary.failed)} failed, and may have been billed.")
    return [*notes, f"Ledger: {ledger.url}"]


def _calls(number: int) -> str:
    return f"{number:,} call{'' if number == 1 else 's'}"


def _spoken_days(days: int) -> str:
    return "today" if days == 1 else f"the last {days:,} days"
