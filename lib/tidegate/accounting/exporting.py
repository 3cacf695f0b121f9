"""A ledger's rows in files for other programs."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import IO, Any, Literal

from tidegate.accounting.reports import LedgerRow
from tidegate.errors import ConfigError, LedgerUnusable
from tidegate.jsontext import encode

Format = Literal["csv", "jsonl", "parquet"]

COLUMNS = tuple(each.name for each in fields(LedgerRow))

_PAGE = 10_000
"""Rows of one group of a parquet file."""


def write_rows(form: Format, file: Path, rows: Iterable[LedgerRow]) -> int:
    """Write the rows in the form; answers how many. Raises `ConfigError`, also for a file that cannot be written."""
    write = _FORMS.get(form) if isinstance(form, str) else None
    if write is None:
        raise ConfigError(f"`export` writes {', '.join(_FORMS)}, not {form!r}")
    try:
        with _replacing(file) as stream:
            return write(stream, rows)
    except LedgerUnusable:
        raise
    except OSError as error:
        problem = error.strerror or str(error)
    raise ConfigError(f"the file `{file}` cannot be written: {problem}")


@contextlib.contextmanager
def _replacing(file: Path) -> Iterator[IO[bytes]]:
    """A new file beside it, which takes its place when all went well."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink()
        raise


def values_of(row: LedgerRow) -> dict[str, Any]:
    """A row in JSON's terms: moments as ISO 8601, money as a text, so that no digit is lost."""
    values = {name: getattr(row, name) for name in COLUMNS}
    cost = None if row.cost is None else f"{row.cost:f}"
    return values | {"at": row.at.isoformat(), "cost": cost, "tags": dict(row.tags)}


def _csv(stream: IO[bytes], rows: Iterable[LedgerRow]) -> int:
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    count = 0
    for row in rows:
        values = values_of(row) | {"tags": encode(dict(row.tags)).decode() if row.tags else ""}
        writer.writerow([_harmless(values[name]) for name in COLUMNS])
        count += 1
    text.detach()
    return count


def _harmless(value: object) -> object:
    """A text that a spreadsheet would run as a formula is marked as a text."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value


def _jsonl(stream: IO[bytes], rows: Iterable[LedgerRow]) -> int:
    count = 0
    for row in rows:
        stream.write(encode(values_of(row)) + b"\n")
        count += 1
    return count


def _parquet(stream: IO[bytes], rows: Iterable[LedgerRow]) -> int:
    try:
        import pyarrow as pa  # noqa: PLC0415 (an extra)
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError:
        pa = None
    if pa is None:
        raise ConfigError("parquet needs pyarrow: `pip install 'tidegate[parquet]'`")
    kinds: Mapping[str, Any] = {
        **dict.fromkeys(COLUMNS, pa.string()),
        "at": pa.timestamp("us", tz="UTC"),
        "tags": pa.map_(pa.string(), pa.string()),
        "cost": pa.decimal128(38, 9),
        "duration": pa.float64(),
        "first_token": pa.float64(),
        "estimated": pa.bool_(),
        **{name: pa.int64() for name in COLUMNS if name.endswith("_tokens") or name == "attempt"},
    }
    schema = pa.schema([(name, kinds[name]) for name in COLUMNS])
    count, remaining = 0, iter(rows)
    with pq.ParquetWriter(stream, schema) as writer:
        while page := list(itertools.islice(remaining, _PAGE)):
            columns = [[_arrow(getattr(row, name)) for row in page] for name in COLUMNS]
            writer.write_table(pa.table(columns, schema=schema))
            count += len(page)
    return count


def _arrow(value: object) -> object:
    return list(value.items()) if isinstance(value, Mapping) else value


_FORMS: dict[str, Callable[[IO[bytes], Iterable[LedgerRow]], int]] = {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}
