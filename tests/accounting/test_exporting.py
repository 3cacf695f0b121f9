"""Files for other programs: what is read back from them is what is in the ledger."""

from __future__ import annotations

import csv
import datetime as dt
import json
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tidegate import Ledger
from tidegate.accounting import exporting
from tidegate.accounting.entries import MOST, Entry
from tidegate.accounting.reports import LedgerRow
from tidegate.errors import ConfigError, LedgerUnusable
from tidegate.testing import ManualClock

ENTRIES = [
    Entry(call_id="plain", at=1_700_000_000_000_000, provider="openai", model="m"),
    Entry(
        call_id="all", attempt=2, run="r", at=1_700_000_000_123_456, provider="p", model="m/n", answered="m-1",
        task='a "task", of\ntwo lines', tags={"ä": "ü", "b": 'x"y'}, input_tokens=MOST, cached_tokens=1,
        written_tokens=2, output_tokens=3, reasoning_tokens=4, cost_nano=MOST, price_source="table",
        price_date="2026-01-01", duration_us=1_234_567, first_token_us=89, outcome="StreamInterrupted", estimated=True,
    ),
    Entry(call_id="dear", at=1_700_000_001_000_000, provider="p", model="m", cost_nano=1),
    Entry(call_id="free", at=1_700_000_002_000_000, provider="p", model="m", cost_nano=0, task=""),
]  # fmt: skip


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(f"sqlite:///{tmp_path / 'usage.db'}", tz="Europe/Zurich") as opened:
        for entry in ENTRIES:
            opened.post(entry)
        yield opened


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "out"


def expected(ledger: Ledger) -> list[dict[str, Any]]:
    return [{name: getattr(row, name) for name in exporting.COLUMNS} for row in ledger.records()]


def test_a_line_of_json_is_a_row(ledger: Ledger, file: Path) -> None:
    assert ledger.export("jsonl", file) == len(ENTRIES)
    found = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert [list(each) for each in found] == [list(exporting.COLUMNS)] * len(ENTRIES)
    for each in found:
        each["at"] = dt.datetime.fromisoformat(each["at"])
        assert each["cost"] is None or isinstance(each["cost"], str), "no digit is lost to binary fractions"
        each["cost"] = None if each["cost"] is None else Decimal(each["cost"])
    assert found == expected(ledger)


def test_a_line_of_csv_is_a_row(ledger: Ledger, file: Path) -> None:
    assert ledger.export("csv", file) == len(ENTRIES)
    with file.open(encoding="utf-8", newline="") as stream:
        found = list(csv.DictReader(stream))
    assert [list(each) for each in found] == [list(exporting.COLUMNS)] * len(ENTRIES)
    for text, row in zip(found, expected(ledger), strict=True):
        assert dt.datetime.fromisoformat(text["at"]) == row["at"]
        assert (json.loads(text["tags"]) if text["tags"] else {}) == row["tags"]
        assert (Decimal(text["cost"]) if text["cost"] else None) == row["cost"]
        for name in set(exporting.COLUMNS) - {"at", "tags", "cost"}:
            assert text[name] == ("" if row[name] is None else str(row[name])), name


def test_a_row_of_parquet_is_a_row(ledger: Ledger, file: Path) -> None:
    assert ledger.export("parquet", file) == len(ENTRIES)
    found = pq.read_table(file).to_pylist()
    for each in found:
        each["tags"] = dict(each["tags"])
    assert found == expected(ledger)


def test_parquet_is_written_in_pages(ledger: Ledger, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "_PAGE", 3)
    assert ledger.export("parquet", file) == 4
    assert pq.ParquetFile(file).metadata.num_row_groups == 2
    assert pq.read_table(file)["call_id"].to_pylist() == [entry.call_id for entry in ENTRIES]


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_an_empty_ledger_makes_a_whole_file(tmp_path: Path, file: Path, form: Any) -> None:  # noqa: ANN401 (a Literal)
    with Ledger(f"sqlite:///{tmp_path / 'usage.db'}") as ledger:
        assert ledger.export(form, file) == 0
    match form:
        case "csv":
            assert file.read_bytes().decode() == ",".join(exporting.COLUMNS) + "\r\n"
        case "jsonl":
            assert file.read_bytes() == b""
        case _:
            assert pq.read_table(file).column_names == list(exporting.COLUMNS)


def test_X8_the_file_is_the_users_alone(ledger: Ledger, file: Path) -> None:
    ledger.export("csv", file)
    assert file.stat().st_mode & 0o777 == 0o600


def test_only_the_days_that_are_asked_for_are_written(tmp_path: Path, file: Path) -> None:
    clock = ManualClock(time=1_700_000_000)
    with Ledger(f"sqlite:///{tmp_path / 'usage.db'}", tz="UTC", clock=clock) as ledger:
        ledger.post(Entry(call_id="old", at=1_600_000_000_000_000, provider="p", model="m"))
        ledger.post(Entry(call_id="new", at=1_700_000_000_000_000, provider="p", model="m"))
        assert ledger.export("jsonl", file, days=3) == 1
    assert json.loads(file.read_text())["call_id"] == "new"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@cmd", "\tx", "\rx"])
def test_X8_a_text_that_a_spreadsheet_would_run_is_marked_as_a_text(tmp_path: Path, file: Path, text: str) -> None:
    with Ledger(f"sqlite:///{tmp_path / 'usage.db'}") as ledger:
        ledger.record(f"{text}/{text}", 1, 1, "1", task=text)
        ledger.export("csv", file)
    with file.open(encoding="utf-8", newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert row["task"] == row["model"] == row["provider"] == f"'{text}"
    assert row["cost"] == "1.000000000"


@pytest.mark.parametrize("form", ["xlsx", "", None, 5, ["csv"]])
def test_a_form_that_there_is_not_is_refused(ledger: Ledger, file: Path, form: Any) -> None:  # noqa: ANN401 (that is it)
    with pytest.raises(ConfigError, match="`export` writes csv, jsonl, parquet, not"):
        ledger.export(form, file)
    assert not file.exists()


def test_a_file_that_cannot_be_written_is_named(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere/out.*No such file or directory"):
        ledger.export("csv", tmp_path / "nowhere" / "out")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match="folder"):
        ledger.export("csv", tmp_path / "folder")
    assert list((tmp_path / "folder").iterdir()) == []


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_file_that_is_there_stays_until_the_new_one_is_whole(
    ledger: Ledger, tmp_path: Path, file: Path, form: Any  # noqa: ANN401 (a Literal)
) -> None:  # fmt: skip
    file.write_text("before")
    kept = sorted(tmp_path.iterdir())

    def rows() -> Iterator[LedgerRow]:
        yield next(ledger.records())
        assert file.read_text() == "before"
        raise LedgerUnusable("the server went away")

    with pytest.raises(LedgerUnusable, match="the server went away"):
        exporting.write_rows(form, file, rows())
    assert file.read_text() == "before"
    assert sorted(tmp_path.iterdir()) == kept, "nothing is left beside it"
    assert ledger.export(form, file) == 4
    assert sorted(tmp_path.iterdir()) == kept


def test_parquet_without_its_library_says_what_to_install(
    ledger: Ledger, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'tidegate\[parquet\]'"):
        ledger.export("parquet", file)
    assert not file.exists()
