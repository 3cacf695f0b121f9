"""The attempts added up by quarters of an hour, so that a summary of a million rows reads some thousand.

A quarter of an hour divides every time zone's day: any user's days, hours and months are whole numbers of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlalchemy import JSON, ColumnElement, Connection, Table, case, cast, func, literal, select
from sqlalchemy.dialects import postgresql, sqlite

from tidegate.accounting.entries import storable
from tidegate.accounting.schema import LABELLED, TOTALS
from tidegate.jsontext import decode

QUARTER = 15 * 60 * 1_000_000
"""Microseconds of a quarter of an hour."""

FIGURES = ("count", "failed", "estimated", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens",
           "cost_nano", "unpriced", "duration_us")  # fmt: skip

Row = Mapping[Any, Any]
"""One of `tidegate_attempts`."""


TASK = "task"
"""The label that a task is."""


def tag_label(name: str) -> str:
    """The label that a tag is."""
    return f"tag:{storable(name)}"


def _of_totals(row: Row) -> list[tuple[str, str]]:
    return [(row["provider"], row["model"])]


def _of_labels(row: Row) -> list[tuple[str, str]]:
    task = [] if row["task"] is None else [(TASK, row["task"])]
    tags = decode(row["tags"]) if row["tags"] else {}
    return [*task, *((tag_label(name), value) for name, value in tags.items())]


_SORTS: Mapping[Table, tuple[tuple[str, str], Callable[[Row], list[tuple[str, str]]]]] = {
    TOTALS: (("provider", "model"), _of_totals),
    LABELLED: (("label", "value"), _of_labels),
}
"""The columns by which each table adds up, and what an attempt has in them: nothing, once, or several times."""


def sums_of(table: Table, rows: Iterable[Row]) -> dict[str, dict[str, Any]]:
    """What rows of `tidegate_attempts` add up to, by the key of each sum."""
    columns, labels_of = _SORTS[table]
    sums: dict[str, dict[str, Any]] = {}
    for row in rows:
        quarter, figures = row["at"] - row["at"] % QUARTER, _figures(row)
        for labels in labels_of(row):
            key = hashlib.sha256(repr((quarter, *labels)).encode()).hexdigest()
            found = sums.get(key)
            if found is None:
                names = dict(zip(columns, labels, strict=True))
                sums[key] = {"key": key, "quarter": quarter, **names, **figures}
            else:
                for name, value in figures.items():
                    found[name] += value
    return sums


def add_to_sums(connection: Connection, rows: Iterable[Row]) -> None:
    """Add rows of `tidegate_attempts` to all sums."""
    added = list(rows)
    for table in _SORTS:
        _add(connection, table, sums_of(table, added))


def _add(connection: Connection, table: Table, sums: Mapping[str, Mapping[str, Any]]) -> None:
    if not sums:
        return
    upsert = upsert_into(connection, table)
    added = {name: table.c[name] + upsert.excluded[name] for name in FIGURES}
    # In one order everywhere: two writers that add to the same sums in different orders wait for each other for ever.
    connection.execute(
        upsert.on_conflict_do_update(index_elements=["key"], set_=added), [sums[key] for key in sorted(sums)]
    )


def upsert_into(connection: Connection, table: Table) -> Any:  # noqa: ANN401 (either dialect's insert: they speak alike)
    """An insert that knows `on_conflict…`."""
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


def _figures(row: Row) -> dict[str, int]:
    return {
        "count": 1,
        "failed": int(row["outcome"] != "ok"),
        "estimated": int(row["estimated"]),
        "unpriced": int(row["cost_nano"] is None),
        "cost_nano": row["cost_nano"] or 0,
        **{
            name: row[name]
            for name in ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "duration_us")
        },
    }


def counted(table: Table) -> dict[str, ColumnElement[int]]:
    """The same for the columns of `ATTEMPTS`."""
    counts = {
        "count": literal(1),
        "failed": case((table.c.outcome != "ok", 1), else_=0),
        "estimated": case((table.c.estimated, 1), else_=0),
        "unpriced": case((table.c.cost_nano.is_(None), 1), else_=0),
    }
    return {name: counts[name] if name in counts else table.c[name] for name in FIGURES}


def tag_value(tags: ColumnElement[str], name: str, dialect: str) -> ColumnElement[str]:
    """The value of a tag in a column of canonical JSON, NULL where there is none."""
    some = func.nullif(tags, "")  # the empty text, which stands for no tags, is no JSON
    if dialect == "sqlite":  # not `json_extract`: its paths cannot say every name
        pairs = func.json_each(some).table_valued("key", "value")
        return select(pairs.c.value).where(pairs.c.key == name).scalar_subquery()
    return func.json_extract_path_text(cast(some, JSON), name)
