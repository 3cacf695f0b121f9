"""`tidegate budget`: budgets that stand in the ledger, and bind every program that uses it."""

from __future__ import annotations

import argparse
import datetime as dt
import re
import sys
from decimal import Decimal
from typing import Any, cast

from tidegate.accounting.ledger import Ledger
from tidegate.accounting.money import dollar_text
from tidegate.accounting.periods import ALWAYS, Period, Span
from tidegate.accounting.purses import Purse
from tidegate.accounting.reports import NO_LABEL
from tidegate.cli.answers import print_json
from tidegate.cli.bars import bar
from tidegate.cli.options import add_days_option, add_ledger_option, add_output_options, open_ledger
from tidegate.cli.remarks import complain, remark
from tidegate.cli.wrapping import write_line
from tidegate.errors import ConfigError, nearest
from tidegate.policies.budget_options import Budget
from tidegate.policies.budgets_in_force import read_budget
from tidegate.terminal import UNBOUNDED, Cell, Column, Style, columns, show_table

MOST_LABELS = 5
"""Of a budget for each task or tag, how many are shown: those that have used most."""

BAR = 12

_SHARE = re.compile(r"0?\.\d+|[01](?:\.0*)?")

_CLOCK = ("hour", "day", "month")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `budget` can be told."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, title="actions")
    _add_set(actions.add_parser("set", help="set a budget, or replace the one of that name", allow_abbrev=False))
    every = actions.add_parser("list", help="the budgets, and what is left of each", allow_abbrev=False)
    clear = actions.add_parser("clear", help="take budgets back", allow_abbrev=False)
    clear.add_argument("names", nargs="*", metavar="NAME", help="as `tidegate budget list` shows them")
    clear.add_argument("--all", action="store_true", help="every one of them")
    for action in (every, clear):
        _add_common(action)
    add_days_option(every)


def _add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("usd", metavar="USD", help="US dollars, such as 5.00")
    parser.add_argument("--per", required=True, metavar="WHAT", help="hour, day, month, task, run or tag:NAME")
    parser.add_argument("--each", metavar="WHAT", help="task or tag:NAME: in every period each has all of it")
    parser.add_argument("--name", help="how it is called (by default after what it is for, such as `day`)")
    parser.add_argument("--on-reach", choices=("raise", "warn"), default="raise", help="refuse calls, or warn (raise)")
    parser.add_argument("--alert-at", metavar="SHARES", help="when to alert, such as 0.5,0.8,1 (which is the default)")
    _add_common(parser)


def _add_common(parser: argparse.ArgumentParser) -> None:
    add_ledger_option(parser)
    add_output_options(parser)


def run(options: argparse.Namespace) -> int:
    """Set, list or clear; answers the exit code."""
    return {"set": _set, "list": _list, "clear": _clear}[options.action](options)


# Set


def _set(options: argparse.Namespace) -> int:
    name, fields = _fields(options)
    budget = Budget(**fields, name=name)  # raises for what is none, before anything is written
    with open_ledger(options) as ledger:
        replaced = name in ledger.budgets()
        ledger.set_budget(name, fields)
        if options.json:
            print_json({"name": name, **fields, "replaced": replaced, "ledger": ledger.url})
        else:
            done = "replaced" if replaced else "set"
            write_line(f"{budget}: {done}. It holds for every client of {ledger.url} within seconds.", sys.stdout)
    return 0


def _fields(options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    fields: dict[str, Any] = {"usd": options.usd, "per": options.per}
    if options.each is not None:
        fields["each"] = options.each
    if options.on_reach != "raise":
        fields["on_reach"] = options.on_reach
    if options.alert_at is not None:
        fields["alert_at"] = _shares(options.alert_at)
    default = options.per if options.each is None else f"{options.per}-each-{options.each}"
    name = default if options.name is None else options.name
    if not name.strip():
        raise ConfigError("--name is the name of a budget, and empty")
    return name, fields


def _shares(text: str) -> list[float]:
    shares = [each.strip() for each in text.split(",")]
    if not all(_SHARE.fullmatch(each) for each in shares):
        raise ConfigError(f"--alert-at is shares from 0 to 1, such as `0.5,0.8,1`, not `{text}`")
    return [float(each) for each in shares]


# List


def _list(options: argparse.Namespace) -> int:
    with open_ledger(options) as ledger:
        budgets = _read(ledger)
        found = [_standing(ledger, name, budget) for name, budget in budgets.items()]
        if options.json:
            print_json({"ledger": ledger.url, "budgets": [_as_json(each) for each in found]})
        elif found:
            _show(found)
        else:
            remark(f"no budget is set in {ledger.url}: `tidegate budget set 5.00 --per day` sets one")
    return 0


def _read(ledger: Ledger) -> dict[str, Budget]:
    if not ledger.store.is_there:
        return {}
    budgets = {}
    for name, options in ledger.store.stored_budgets():
        try:
            budgets[name] = read_budget(name, options)
        except (ConfigError, ValueError) as error:
            complain(f"the budget `{name}` cannot be read, and holds nobody: {error}. Set it anew, or clear it.")
    return budgets


class _Standing:
    """A budget at this moment: one line for all, or one for each of those that share it."""

    def __init__(self, name: str, budget: Budget, renews: dt.datetime | None) -> None:
        self.name, self.budget, self.renews = name, budget, renews
        self.lines: list[tuple[str, Decimal, Decimal]] = []
        """Who, what is spent, what is reserved."""
        self.others = 0


def _standing(ledger: Ledger, name: str, budget: Budget) -> _Standing:
    now = ledger.now
    span = ledger.calendar.span(cast("Period", budget.per), _us(now)) if budget.per in _CLOCK else ALWAYS
    renews = ledger.calendar.local(span.until_us) if budget.per in _CLOCK else None
    standing = _Standing(name, budget, renews)
    label = budget.each or (budget.per if budget.per not in (*_CLOCK, "run") else None)
    if label is not None:
        _add_labels(standing, ledger, label, span)
    elif budget.per in _CLOCK:
        standing.lines = [("", *ledger.standing(Purse(*span)))]
    return standing


def _add_labels(standing: _Standing, ledger: Ledger, label: str, span: Span) -> None:
    """What has no such label is left out: each call without it is on its own."""
    kind = "task" if label == "task" else "tag"
    tag = label.removeprefix("tag:") if kind == "tag" else ""
    used = [value for value in ledger.spent_by(label, span) if value != NO_LABEL]
    for value in used[:MOST_LABELS]:
        purse = Purse(*span, "task", value) if kind == "task" else Purse(*span, "tag", value, tag)
        standing.lines.append((value, *ledger.standing(purse)))
    standing.others = max(0, len(used) - MOST_LABELS)


def _us(moment: dt.datetime) -> int:
    return int(moment.timestamp() * 1_000_000)


def _as_json(standing: _Standing) -> dict[str, Any]:
    budget = standing.budget
    return {
        "name": standing.name,
        "usd": f"{budget.usd:f}",
        "per": budget.per,
        "each": budget.each,
        "on_reach": budget.on_reach,
        "alert_at": list(budget.alert_at),
        "renews_at": None if standing.renews is None else standing.renews.isoformat(),
        "used": [
            {
                "of": who or None,
                "spent": f"{spent:f}",
                "reserved": f"{held:f}",
                "left": f"{budget.usd - spent - held:f}",
            }
            for who, spent, held in standing.lines
        ],
        "others": standing.others,
    }


_COLUMNS = {
    "limit": (0, UNBOUNDED),
    "spent": (60, UNBOUNDED),
    "reserved": (60, UNBOUNDED),
    "used": (0, 59),
    "left": (0, UNBOUNDED),
    "renews": (76, UNBOUNDED),
    "": (90, UNBOUNDED),
}
"""Each on terminals whose lines have from so many to so many cells. `used` is spent and reserved together: without it
the figures of a line would not add up."""


def _show(found: list[_Standing]) -> None:
    out = sys.stdout
    room = columns(out) if out.isatty() else UNBOUNDED
    shown = [number for number, (least, most) in enumerate(_COLUMNS.values(), 1) if least <= room <= most]
    heads = [Column(name, right=name not in ("renews", ""), whole=True) for name in _COLUMNS]
    rows = [row for standing in found for row in _rows(standing)]
    kept = [[row[0], *(row[number] for number in shown)] for row in rows]
    show_table([Column("budget"), *(heads[number - 1] for number in shown)], kept, out)
    if any(standing.budget.on_reach == "warn" for standing in found):
        write_line("\n(warns): calls go all the same.", out)


def _rows(standing: _Standing) -> list[list[str | Cell]]:
    budget = standing.budget
    name = standing.name + (" (warns)" if budget.on_reach == "warn" else "")
    limit = dollar_text(budget.usd)
    renews = "" if standing.renews is None else standing.renews.strftime("%Y-%m-%d %H:%M")
    if not standing.lines:
        what = "each client's own" if budget.per == "run" else "nothing used yet"
        return [[name, limit, "", "", "", "", renews or what, ""]]
    if len(standing.lines) == 1 and not standing.lines[0][0]:
        return [[name, limit, *_amounts(budget, *standing.lines[0][1:]), renews, _bar(budget, *standing.lines[0][1:])]]
    rows: list[list[str | Cell]] = [[name, limit, "", "", "", "", renews, ""]]
    for who, spent, reserved in standing.lines:
        rows.append([f"  {who}", "", *_amounts(budget, spent, reserved), "", _bar(budget, spent, reserved)])
    if standing.others:
        rows.append([Cell(f"  and {standing.others:,} more", "dim"), "", "", "", "", "", "", ""])
    return rows


def _amounts(budget: Budget, spent: Decimal, reserved: Decimal) -> list[str | Cell]:
    left = budget.usd - spent - reserved
    colour = _colour(budget, spent + reserved)
    shown = dollar_text(left) if left >= 0 else f"-{dollar_text(-left)}"
    return [dollar_text(spent), dollar_text(reserved), dollar_text(spent + reserved), Cell(shown, colour)]


def _bar(budget: Budget, spent: Decimal, reserved: Decimal) -> Cell:
    used = spent + reserved
    return Cell(f"{bar(used, budget.usd, BAR):{BAR}} {used / budget.usd:.0%}", _colour(budget, used))


def _colour(budget: Budget, used: Decimal) -> Style:
    share = used / budget.usd
    return "red" if share >= 1 else "yellow" if share >= Decimal("0.8") else "green"


# Clear


def _clear(options: argparse.Namespace) -> int:
    if options.all == bool(options.names):
        raise ConfigError("name the budgets to clear, or say --all")
    with open_ledger(options) as ledger:
        known = list(ledger.budgets()) if ledger.store.is_there else []
        wanted = known if options.all else options.names
        for name in wanted:
            if name not in known:
                raise ConfigError(f"there is no budget `{name}` in {ledger.url}{nearest(name, known)}")
        for name in wanted:
            ledger.clear_budget(name)
        if options.json:
            print_json({"ledger": ledger.url, "cleared": wanted})
        else:
            write_line(f"Cleared: {', '.join(wanted)}." if wanted else "There is none.", sys.stdout)
    return 0
