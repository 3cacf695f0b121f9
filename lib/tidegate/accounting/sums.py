"""The attempts added up by quarters of an hour, so that a summary of a million rows reads some thousand.

A quarter of an hour divides every time zone's day: any user's days, hours and months are whole numbers of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import JSON, ColumnElement, Connection, Table, cast, func, select
from sqlalchemy.dialects import postgresql, sqlite

from tidegate.accounting.schema import SUMS

QUARTER = 15 * 60 * 1_000_000
"""Microseconds of a quarter of an hour."""

FIGURES = ("count", "failed", "estimated", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens",
           "cost_nano", "unpriced", "duration_us")  # fmt: skip


def add_to_sums(connection: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows of `tidegate_attempts` to the sums."""
    sums: dict[str, dict[str, Any]] = {}
    for row in rows:
        labels = _labels(row)
        key = hashlib.sha256(repr(tuple(labels.values())).encode()).hexdigest()
        found = sums.setdefault(key, {"key": key, **labels, **dict.fromkeys(FIGURES, 0)})
        for name, value in _figures(row).items():
            found[name] += value
    if not sums:
        return
    upsert = upsert_into(connection, SUMS)
    added = {name: SUMS.c[name] + upsert.excluded[name] for name in FIGURES}
    # In one order everywhere: two writers that add to the same sums in different orders wait for each other for ever.
    connection.execute(
        upsert.on_conflict_do_update(index_elements=["key"], set_=added), [sums[key] for key in sorted(sums)]
    )


def upsert_into(connection: Connection, table: Table) -> Any:  # noqa: ANN401 (either dialect's insert: they speak alike)
    """An insert that knows `on_conflict…`."""
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


def _labels(row: Mapping[str, Any]) -> dict[str, Any]:
    names = ("provider", "model", "task", "tags")
    return {"quarter": row["at"] - row["at"] % QUARTER, **{name: row[name] for name in names}}


def _figures(row: Mapping[str, Any]) -> dict[str, int]:
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


def tag_value(tags: ColumnElement[str], name: str, dialect: str) -> ColumnElement[str]:
    """The value of a tag in a column of canonical JSON, NULL where there is none."""
    some = func.nullif(tags, "")  # the empty text, which stands for no tags, is no JSON
    if dialect == "sqlite":  # not `json_extract`: its paths cannot say every name
        pairs = func.json_each(some).table_valued("key", "value")
        return select(pairs.c.value).where(pairs.c.key == name).scalar_subquery()
    return func.json_extract_path_text(cast(some, JSON), name)
