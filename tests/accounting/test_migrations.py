"""Older ledgers are brought up to date in place, and keep what is in them."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, inspect, text

from support.postgres import PostgresServer
from support.victims import calls, check_sums
from tidegate import Ledger
from tidegate.accounting import migrations
from tidegate.accounting.database import Database
from tidegate.accounting.schema import metadata
from tidegate.accounting.sqlite_file import budgets_in
from tidegate.accounting.sums import add_to_sums
from tidegate.errors import LedgerUnusable

PATIENCE = 30.0
"""Seconds that a test waits for what must come."""

# As revision 1 made it. What a released revision made never changes, so neither does this.
SQLITE_1 = """
CREATE TABLE tidegate_attempts (
    id INTEGER NOT NULL PRIMARY KEY, call_id VARCHAR NOT NULL, attempt INTEGER NOT NULL, run VARCHAR,
    at BIGINT NOT NULL, task VARCHAR, tags VARCHAR NOT NULL, provider VARCHAR NOT NULL, model VARCHAR NOT NULL,
    answered VARCHAR, input_tokens BIGINT NOT NULL, cached_tokens BIGINT NOT NULL, written_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL, reasoning_tokens BIGINT NOT NULL, cost_nano BIGINT, price_source VARCHAR,
    price_date VARCHAR, duration_us BIGINT NOT NULL, first_token_us BIGINT, outcome VARCHAR NOT NULL,
    estimated BOOLEAN NOT NULL, UNIQUE (call_id, attempt)
);
CREATE INDEX tidegate_attempts_at ON tidegate_attempts (at, id);
CREATE TABLE tidegate_version (version_num VARCHAR NOT NULL PRIMARY KEY);
INSERT INTO tidegate_version VALUES ('1');
"""
POSTGRESQL_1 = SQLITE_1.replace("id INTEGER NOT NULL PRIMARY KEY", "id BIGSERIAL PRIMARY KEY")

COLUMNS = ("call_id", "attempt", "run", "at", "task", "tags", "provider", "model", "answered", "input_tokens",
           "cached_tokens", "written_tokens", "output_tokens", "reasoning_tokens", "cost_nano", "price_source",
           "price_date", "duration_us", "first_token_us", "outcome", "estimated")  # fmt: skip


def row(number: int) -> tuple[Any, ...]:
    """One of a few tasks, tags, models and quarters of an hour; every fifth failed, every seventh has no price."""
    tags = ["", '{"tenant":"acme"}', '{"tenant":"other","x":"ü"}'][number % 3]
    cost = None if number % 7 == 0 else 1_000_000 + number
    return (f"call-{number}", 1 + number % 2, "run", 1_700_000_000_000_000 + number * 60_000_000,
            ["a", None][number % 2], tags, "openai", ["m", "n"][number % 2], None, number, number // 2, 0, 10, 3, cost,
            "table", "2026-01-01", 5_000, None, "ok" if number % 5 else "Cancelled", number % 4 == 0)  # fmt: skip


def run_script(url: str, script: str, rows: list[tuple[Any, ...]]) -> None:
    """Make a database and its rows without the library under test."""
    command = f"INSERT INTO tidegate_attempts ({', '.join(COLUMNS)}) VALUES ({', '.join(['?'] * len(COLUMNS))})"  # noqa: S608 (the names above)
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
            connection.executescript(script)
            connection.executemany(command, rows)
        return
    with psycopg.connect(url.replace("+psycopg", "")) as server:
        server.execute(script.encode())
        server.cursor().executemany(command.replace("?", "%s").encode(), rows)


@pytest.fixture
def old_url(either_url: str) -> str:
    """A ledger of revision 1 with 120 rows."""
    script = SQLITE_1 if either_url.startswith("sqlite") else POSTGRESQL_1
    run_script(either_url, script, [row(number) for number in range(120)])
    return either_url


def version_of(url: str) -> str:
    with contextlib.closing(Database(url)) as database, database.reading() as connection:
        return str(connection.scalar(text("SELECT version_num FROM tidegate_version")))


def test_a_ledger_of_revision_1_keeps_its_rows_and_has_their_sums(old_url: str) -> None:
    with Ledger(old_url, tz="UTC") as ledger:
        rows = {each.call_id: each for each in ledger.records()}
        assert list(rows) == [f"call-{number}" for number in range(120)]
        sixth, seventh = rows["call-6"], rows["call-7"]
        assert (sixth.attempt, sixth.task, sixth.tags, sixth.model) == (1, "a", {}, "m")
        assert (sixth.cost, seventh.cost) == (Decimal("0.001000006"), None)
        assert rows["call-2"].tags == {"tenant": "other", "x": "ü"}
        assert ledger.cost(tags={"tenant": "acme"}) == sum(
            each.cost or 0 for each in rows.values() if each.tags.get("tenant") == "acme"
        )
        summary = ledger.summary(days=10**6, by="task")
        assert (summary.count, summary.unpriced, summary.failed) == (120, 18, 24)
        assert {name: part.count for name, part in summary.groups.items()} == {"a": 60, "(none)": 60}
    assert version_of(old_url) == migrations.NEWEST
    check_sums(old_url)


def test_a_ledger_of_revision_2_has_its_sums_made_anew(old_url: str) -> None:
    """It had one table of sums in place of the two of today; what was in it is not looked at."""
    with Ledger(old_url, tz="UTC") as ledger:
        before = ledger.summary(days=10**6, by="model")
    with contextlib.closing(Database(old_url)) as database, database.writing() as connection:
        for command in (
            "DROP TABLE tidegate_totals",
            "DROP TABLE tidegate_labelled",
            "CREATE TABLE tidegate_sums (key VARCHAR NOT NULL PRIMARY KEY, quarter BIGINT NOT NULL)",
            "UPDATE tidegate_version SET version_num = '2'",
        ):
            connection.execute(text(command))
    with Ledger(old_url, tz="UTC") as ledger:
        assert ledger.summary(days=10**6, by="model").groups == before.groups
    assert version_of(old_url) == migrations.NEWEST
    with contextlib.closing(Database(old_url)) as database, database.reading() as connection:
        assert "tidegate_sums" not in inspect(connection).get_table_names()
    check_sums(old_url)


def test_more_rows_than_a_page_are_added_up_once(old_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "PAGE", 7)
    Database(old_url).close()
    check_sums(old_url)


def test_an_upgraded_ledger_is_like_a_new_one(old_url: str) -> None:
    with contextlib.closing(Database(old_url)) as database, database.reading() as connection:
        found = inspect(connection)
        assert set(found.get_table_names()) == set(metadata.tables)
        for table in metadata.sorted_tables:
            columns = {each["name"]: each["nullable"] for each in found.get_columns(table.name)}
            assert columns == {each.name: each.nullable for each in table.columns}, table
            assert {each["name"] for each in found.get_indexes(table.name)} >= {each.name for each in table.indexes}


def test_what_is_recorded_after_an_upgrade_is_added_to_the_sums(old_url: str) -> None:
    with Ledger(old_url, tz="UTC") as ledger:
        ledger.record("openai/m", 1, 2, "0.5", task="a")
        assert ledger.summary(days=10**6).count == 121
    check_sums(old_url)


def test_an_upgrade_that_fails_half_way_changes_nothing_and_is_made_the_next_time(
    old_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages: list[int] = []

    def fail(connection: Connection, rows: list[dict[str, Any]]) -> None:
        pages.append(len(rows))
        add_to_sums(connection, rows)
        if len(pages) == 2:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(migrations, "PAGE", 50)
        patch.setattr(migrations, "add_to_sums", fail)
        with pytest.raises(LedgerUnusable, match="No space left"):
            Database(old_url)
    assert pages == [50, 50]
    assert stored_version(old_url) == "1"
    assert sorted(calls(old_url)) == sorted(f"call-{number}" for number in range(120))
    check_sums(old_url)


def stored_version(url: str) -> str:
    """Without opening the ledger, which would upgrade it."""
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            assert sorted(tables) == ["tidegate_attempts", "tidegate_version"]
            return str(connection.execute("SELECT version_num FROM tidegate_version").fetchone()[0])
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        found = connection.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        assert sorted(name for (name,) in found) == ["tidegate_attempts", "tidegate_version"]
        version = connection.execute("SELECT version_num FROM tidegate_version").fetchone()
        assert version is not None
        return str(version[0])


UPGRADER = """
import sys
from tidegate import Ledger
import tidegate.accounting.database, alembic.operations
print("ready", flush=True)
sys.stdin.readline()
with Ledger(sys.argv[1], tz="UTC") as ledger:
    ledger.record("p/m", 1, 2, "0.25", task=sys.argv[2])
"""


def test_processes_that_upgrade_at_once_all_get_it(old_url: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", UPGRADER, old_url, str(number)],
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for number in range(2)
        ]
        for process in processes:
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        for process in processes:
            assert process.communicate(timeout=PATIENCE)[1] == ""
            assert process.returncode == 0
    assert len(calls(old_url)) == 122
    check_sums(old_url)


def test_budgets_of_a_ledger_of_revision_1_are_none_and_looking_does_not_upgrade_it(tmp_path: Path) -> None:
    file = tmp_path / "usage.db"
    run_script(f"sqlite:///{file}", SQLITE_1, [])
    before = file.read_bytes()
    assert budgets_in(file) == []
    assert file.read_bytes() == before


def test_the_tables_of_another_program_in_postgresql_stay_as_they_are(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    with postgres.connect(url) as connection:
        connection.execute("CREATE TABLE notes (words VARCHAR)")
        connection.execute("INSERT INTO notes VALUES ('mine')")
    with Ledger(url) as ledger:
        ledger.record("p/m", 1, 1, "1")
    with postgres.connect(url) as connection:
        assert connection.execute("SELECT words FROM notes").fetchall() == [("mine",)]
