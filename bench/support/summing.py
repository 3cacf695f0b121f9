"""What a ledger's summaries take, as its rows become more.

Run as `python -m support.summing URL SHAPE LENGTH`; prints a line of JSON. Rows go in through the ledger's own writer,
spread evenly over the last thirty days, in ten thousands at a time; the labels of SHAPE say how many of them share a
quarter of an hour, a model, a task and tags. Each summary is of all of these days.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

from tidegate import Ledger
from tidegate.accounting.entries import Entry

DAYS = 30
BY = (None, "model", "day", "task", "tag:tenant")
SHAPES = {"few labels": (4, 3, 1), "many labels": (5, 8, 10), "a task each": (4, 0, 1)}
"""Models, tasks (0: each row has one of its own, and a summary by task is the rows themselves), and tenants."""
_TIMES = 3
_BATCH = 10_000
_SPAN = (DAYS - 1) * 86_400 * 1_000_000
_FORGIVING = 0.5
"""Seconds above which a summary is measured once only."""


def entries(shape: str, start: int, stop: int, length: int) -> Iterator[Entry]:
    """Calls number `start` to `stop` of `length`, in the order of their time."""
    models, tasks, tenants = SHAPES[shape]
    now, chance = time.time_ns() // 1_000, random.Random(start)  # noqa: S311 (the same rows each time)
    for number in range(start, stop):
        yield Entry(
            call_id=f"call-{number}",
            at=now - _SPAN + _SPAN * number // length,
            provider="openai",
            model=f"model-{chance.randrange(models)}",
            task=f"task-{chance.randrange(tasks) if tasks else number}",
            tags={"tenant": f"tenant-{chance.randrange(tenants)}"},
            input_tokens=chance.randrange(4_000),
            output_tokens=chance.randrange(1_000),
            cost_nano=chance.randrange(2_000_000),
            duration_us=1_000_000,
        )


def fill(ledger: Ledger, shape: str, length: int) -> None:
    """Have so many rows in an empty ledger."""
    rows: Any = ledger.store._opened()[1]  # noqa: SLF001 (the ledger's own writer, without a journal for each row)
    for start in range(0, length, _BATCH):
        rows.write(list(entries(shape, start, min(start + _BATCH, length), length)), ())


def size(ledger: Ledger) -> int:
    """Bytes that the rows and all that belongs to them take on the disk."""
    with ledger.store.database().reading() as connection:
        if ledger.store.file is not None:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            return int(pages * connection.exec_driver_sql("PRAGMA page_size").scalar_one())
        tables = ("tidegate_attempts", "tidegate_totals", "tidegate_labelled")
        names = " + ".join(f"pg_total_relation_size('{name}')" for name in tables)
        return int(connection.exec_driver_sql(f"SELECT {names}").scalar_one())


def sums(ledger: Ledger) -> int:
    """How many sums the rows come to."""
    with ledger.store.database().reading() as connection:
        tables = ("tidegate_totals", "tidegate_labelled")
        return sum(int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()) for table in tables)  # noqa: S608


def taken(ledger: Ledger, by: str | None, expected: int) -> float:
    """Seconds of a summary: the median of a few."""
    found = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        summary = ledger.summary(days=DAYS, by=by)
        found.append(time.perf_counter() - began)
        if summary.count != expected:
            raise AssertionError(f"{summary.count} rows are summed up of {expected}")
        if found[-1] > _FORGIVING:
            break
    return statistics.median(found)


def main(arguments: list[str]) -> None:
    """Fill a ledger and ask it."""
    url, shape, length = arguments[0], arguments[1], int(arguments[2])
    with Ledger(url, tz="UTC") as ledger:
        began = time.monotonic()
        fill(ledger, shape, length)
        filled = time.monotonic() - began
        found = {
            "length": length, "sums": sums(ledger), "bytes": size(ledger), "fill_us": 1e6 * filled / length,
            "seconds": {str(by): taken(ledger, by, length) for by in BY if SHAPES[shape][1] or by != "task"},
        }  # fmt: skip
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
