"""A ledger whose disk or server fails: calls go on, one warning says so, and what waits is written afterwards."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import event

from support.fault_server import FaultServer, json_reply
from support.openai_wire import completion
from support.postgres import PostgresServer
from support.victims import check_sums
from tidegate import Client, Ledger, Price
from tidegate.accounting import bookkeeper, database
from tidegate.errors import LedgerUnusable, LedgerWarning

PATIENCE = 30.0
"""Seconds that a test waits for what must come."""

MODEL = "openai/gpt-4o-mini"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails is told and tried again at once."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.02)
    monkeypatch.setattr(bookkeeper, "LINGER", 0.001)
    monkeypatch.setattr(bookkeeper, "AGAIN", 0.01)


@pytest.fixture
def told() -> Iterator[Callable[[], list[str]]]:
    """What the program was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")

        def messages() -> list[str]:
            assert {each.category for each in caught} <= {LedgerWarning}
            return [str(each.message) for each in caught]

        yield messages


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "usage.db"


@pytest.fixture
def ledger(file: Path) -> Iterator[Ledger]:
    with Ledger(f"sqlite:///{file}", tz="UTC") as opened:
        opened.record("p/m", 1, 1, "1", task="before")
        opened.flush()
        yield opened


def until(condition: Callable[[], object]) -> None:
    """Wait for what another thread is about to do."""
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.001)


def tasks_in(url: str) -> dict[str, int]:
    """What a program that opens it afterwards finds."""
    with Ledger(url, tz="UTC") as ledger:
        found = {label: part.count for label, part in ledger.summary(by="task").groups.items()}
    check_sums(url)
    return found


def record(ledger: Ledger, task: str, times: int = 1) -> None:
    for _ in range(times):
        ledger.record("p/m", 1, 1, "0.5", task=task)


# Ways in which a file fails, each with how it is mended


FILLER = """
INSERT INTO tidegate_attempts (call_id, attempt, at, tags, provider, model, input_tokens, cached_tokens, written_tokens,
                               output_tokens, reasoning_tokens, duration_us, outcome, estimated)
VALUES (?, 0, 0, '', '', '', 0, 0, 0, 0, 0, 0, '', 0)
"""


@contextlib.contextmanager
def full(ledger: Ledger, file: Path) -> Iterator[None]:
    """SQLite answers the same as when the disk itself is full. Not even one more row fits in."""

    def limit(connection: sqlite3.Connection, *_rest: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    engine = ledger.store.database()._engine
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as filler:
        limit(filler)
        with contextlib.suppress(sqlite3.OperationalError):
            for number in itertools.count():
                filler.execute(FILLER, [number])
        event.listen(engine, "checkout", limit)
        yield
        with ledger.store.bookkeeper._writing:
            event.remove(engine, "checkout", limit)
            engine.dispose()
            filler.execute("DELETE FROM tidegate_attempts WHERE attempt = 0")


@contextlib.contextmanager
def locked(ledger: Ledger, file: Path) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@contextlib.contextmanager
def replaced_by_garbage(ledger: Ledger, file: Path) -> Iterator[None]:
    kept = file.with_name("kept")
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file.rename(kept)
    file.write_text("some notes on where the money went, in place of the ledger")
    yield
    assert file.read_text().startswith("some notes"), "what is no ledger is left as it was"
    kept.replace(file)


@contextlib.contextmanager
def overwritten(ledger: Ledger, file: Path) -> Iterator[None]:
    """In place: the same file, as a disk that decays would have it."""
    ledger.store.database().close()
    good = file.read_bytes()
    file.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * (len(good) // 256))
    yield
    with ledger.store.bookkeeper._writing:
        ledger.store.database().close()
        remove_log(file)
        file.write_bytes(good)


def remove_log(file: Path) -> None:
    """What SQLite would take for newer than the file itself."""
    for name in ("usage.db-wal", "usage.db-shm"):
        file.with_name(name).unlink(missing_ok=True)


@contextlib.contextmanager
def folder_in_the_way(ledger: Ledger, file: Path) -> Iterator[None]:
    """The folder is gone, with the journal and everything, and cannot be made again."""
    ledger.store.database().close()
    kept = file.parent.rename(file.parent.with_name("kept"))
    file.parent.write_bytes(b"")
    yield
    file.parent.unlink()
    kept.rename(file.parent)


WAYS = [
    (full, "database or disk is full"),
    (locked, "database is locked"),
    (replaced_by_garbage, "the file is no SQLite database"),
    (overwritten, "malformed|not a database|disk I/O error"),
    (folder_in_the_way, "File exists"),
]
Way = Callable[[Ledger, Path], contextlib.AbstractContextManager[None]]


@pytest.mark.parametrize(("fails", "reason"), WAYS, ids=[way.__name__ for way, _ in WAYS])
def test_L2_what_waits_for_a_disk_is_written_when_it_is_good_again_and_one_warning_says_so(
    ledger: Ledger, file: Path, told: Callable[[], list[str]], fails: Way, reason: str
) -> None:
    with fails(ledger, file):
        record(ledger, "during", 300)
        until(told)
        with pytest.raises(LedgerUnusable, match=reason):
            ledger.flush()
        record(ledger, "during", 300)
        assert ledger.queued == 600
        (message,) = told()
        assert message.startswith("the ledger: ")
        assert "entries are not in it yet" in message
    until(lambda: not ledger.queued)
    record(ledger, "after")
    assert ledger.cost(task="during") == 300
    assert len(told()) == 1
    ledger.close()
    assert tasks_in(ledger.url) == {"before": 1, "during": 600, "after": 1}
    assert len(told()) == 1


@pytest.mark.parametrize("fails", [full, locked, overwritten], ids=lambda way: way.__name__)
def test_L2_closing_says_what_is_not_in_it_and_the_next_to_open_it_takes_it_in(
    ledger: Ledger, file: Path, told: Callable[[], list[str]], fails: Way
) -> None:
    with fails(ledger, file):
        record(ledger, "during", 40)
        until(told)
        ledger.close()
        assert len(told()) == 2
        assert told()[1].startswith("the ledger: 40 entries ($20.00) could not be written (")
        assert told()[1].endswith(
            f"; 40 of them are in {file}.pending, and are taken in when the ledger is next opened"
        )
    assert tasks_in(ledger.url) == {"before": 1, "during": 40}
    assert len(told()) == 2


def test_L2_a_file_that_is_removed_is_made_again_and_nothing_is_written_into_the_void(
    ledger: Ledger, file: Path, told: Callable[[], list[str]]
) -> None:
    """To the operating system the removed file is as good as ever."""
    for each in file.parent.glob("usage.db*"):
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    record(ledger, "after", 3)
    until(lambda: not ledger.queued)
    assert tasks_in(ledger.url) == {"after": 3}
    shutil.rmtree(file.parent)
    record(ledger, "again", 2)
    assert ledger.cost(task="again") == 1
    ledger.close()
    assert tasks_in(ledger.url) == {"again": 2}
    assert told() == []


def test_L1_after_its_journals_were_removed_entries_survive_the_process_again(ledger: Ledger, file: Path) -> None:
    pending = Path(f"{file}.pending")
    with ledger.store.bookkeeper._writing:
        shutil.rmtree(pending)
        record(ledger, "after")
        (journal,) = pending.iterdir()
        assert b'"after"' in journal.read_bytes()
    assert ledger.cost(task="after") == Decimal("0.5")


def test_L2_a_ledger_put_in_anothers_place_is_gone_on_with(ledger: Ledger, file: Path, tmp_path: Path) -> None:
    """As a restored backup is: what is recorded afterwards is in it, not in the one that was replaced."""
    other = f"sqlite:///{tmp_path / 'backup.db'}"
    with Ledger(other, tz="UTC") as backup:
        record(backup, "restored")
    (tmp_path / "backup.db").replace(file)
    remove_log(file)
    record(ledger, "after")
    ledger.close()
    assert tasks_in(ledger.url) == {"restored": 1, "after": 1}


def test_a_newer_ledger_put_in_its_place_is_left_as_it_was(
    ledger: Ledger, file: Path, tmp_path: Path, told: Callable[[], list[str]]
) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "newer.db")) as connection:
        connection.executescript(
            "CREATE TABLE tidegate_version (version_num TEXT); INSERT INTO tidegate_version VALUES ('99')"
        )
    before = (tmp_path / "newer.db").read_bytes()
    (tmp_path / "newer.db").replace(file)
    remove_log(file)
    record(ledger, "after")
    until(told)
    assert "newer tidegate" in told()[0]
    ledger.close()
    assert file.read_bytes() == before


def test_L2_a_journal_that_cannot_be_written_is_told_once_however_often_the_database_is(
    file: Path, told: Callable[[], list[str]]
) -> None:
    file.parent.mkdir()
    Path(f"{file}.pending").write_text("in the way")
    with Ledger(f"sqlite:///{file}", tz="UTC") as ledger:
        for _ in range(5):
            record(ledger, "during")
            ledger.flush()
            desk = ledger.store.bookkeeper._desk
            assert desk is not None
            desk.ask(None)
    (message,) = told()
    assert message == f"the ledger: its journal in {file}.pending cannot be written (File exists)"
    Path(f"{file}.pending").unlink()
    assert tasks_in(f"sqlite:///{file}") == {"during": 5}


# A server that goes away


def test_L2_what_waits_for_postgresql_is_written_when_it_is_back(told: Callable[[], list[str]]) -> None:
    with PostgresServer() as server:
        url = server.new_database()
        with Ledger(url, tz="UTC") as ledger:
            record(ledger, "before")
            ledger.flush()
            server.stop()
            record(ledger, "during", 50)
            until(told)
            with pytest.raises(LedgerUnusable):
                ledger.summary()
            record(ledger, "during", 50)
            assert ledger.queued == 100
            server.go_on()
            until(lambda: not ledger.queued)
            record(ledger, "after")
        (message,) = told()
        assert "entries are not in it yet" in message
        with Ledger(url, tz="UTC") as ledger:
            record(ledger, "last")
            ledger.flush()
            server.stop()
            record(ledger, "left", 2)
            ledger.close()
        assert "2 entries ($1.00) could not be written" in told()[-1]
        server.go_on()
        assert tasks_in(url) == {"before": 1, "during": 100, "after": 1, "last": 1, "left": 2}


# For real, in a program of its own


NOT_A_BYTE = """
import resource, sys, time, warnings
from tidegate import Ledger
from tidegate.accounting import bookkeeper
bookkeeper.AGAIN = 0.01
none, (_, most) = 0, resource.getrlimit(resource.RLIMIT_FSIZE)
with Ledger(sys.argv[1], tz="UTC") as ledger, warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    ledger.record("p/m", 1, 1, "0.5", task="before")
    ledger.flush()
    resource.setrlimit(resource.RLIMIT_FSIZE, (none, most))
    for _ in range(20):
        ledger.record("p/m", 1, 1, "0.5", task="during")
    try:
        ledger.flush()
    except Exception as error:
        print(type(error).__name__)
    while len(caught) < 2:
        time.sleep(0.001)
    assert ledger.queued == 20
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    ledger.record("p/m", 1, 1, "0.5", task="after")
    assert ledger.cost(task="during") == 10
print(*{each.category.__name__ for each in caught}, len(caught))
"""

READ_ONLY = """
import os, sys, time, warnings
from pathlib import Path
from tidegate import Ledger
from tidegate.accounting import bookkeeper
bookkeeper.AGAIN = 0.01
folder = Path(sys.argv[1])
with Ledger(f"sqlite:///{folder}/usage.db", tz="UTC") as ledger, warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    ledger.record("p/m", 1, 1, "0.5", task="before")
    assert ledger.cost() == 0.5
    ledger.store.database().close()
    ledger.store.bookkeeper._journal.close()
    places = [folder, folder / "usage.db.pending", folder / "usage.db"]
    if not os.geteuid():  # who may write anywhere
        for place in places:
            os.chown(place, 65534, 65534)
        os.setegid(65534)
        os.seteuid(65534)
    for place in places:
        place.chmod(place.stat().st_mode & 0o555)
    for _ in range(20):
        ledger.record("p/m", 1, 1, "0.5", task="during")
    try:
        ledger.flush()
    except Exception as error:
        print(type(error).__name__)
    while len(caught) < 2:
        time.sleep(0.001)
    assert ledger.queued == 20
    for place in places:
        place.chmod(place.stat().st_mode | 0o200)
    ledger.record("p/m", 1, 1, "0.5", task="after")
    assert ledger.cost(task="during") == 10
print(*{each.category.__name__ for each in caught}, len(caught))
"""


def run(code: str, *arguments: str) -> list[str]:
    """What a program says that ends well."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout.splitlines()


def test_L2_where_not_a_byte_can_be_written_to_any_file_all_is_kept_in_memory(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'usage.db'}"
    assert run(NOT_A_BYTE, url) == ["LedgerUnusable", "LedgerWarning 2"], "of the journal and of the database"
    assert tasks_in(url) == {"before": 1, "during": 20, "after": 1}


def test_L2_a_folder_that_becomes_read_only() -> None:
    with tempfile.TemporaryDirectory() as folder:  # not in pytest's own, which another user cannot reach
        assert run(READ_ONLY, folder) == ["LedgerUnusable", "LedgerWarning 2"], "of the journal and of the database"
        assert tasks_in(f"sqlite:///{folder}/usage.db") == {"before": 1, "during": 20, "after": 1}


# A client over them


@pytest.mark.parametrize(("fails", "reason"), WAYS, ids=[way.__name__ for way, _ in WAYS])
def test_L2_a_clients_answers_come_whatever_its_ledger_does(
    file: Path, told: Callable[[], list[str]], fails: Way, reason: str
) -> None:
    with FaultServer() as server:
        server.always(json_reply(completion(usage=(50, 40))))
        client = Client(MODEL, api_key="sk-1", base_url=server.base_url, ledger=f"sqlite:///{file}", breaker=None,
                        prices={MODEL: Price(input="1", output="10")}, tz="UTC")  # fmt: skip
        with client:
            client.complete("Hi", task="before")
            client.ledger.flush()
            with fails(client.ledger, file):
                outcomes = list(client.map(["Hi"] * 30, task="during"))
                assert [each.error for each in outcomes] == [None] * 30
                assert {each.completion and each.completion.cost for each in outcomes} == {Decimal("0.00045")}
                until(told)
                assert client.ledger.queued == 30
            client.complete("Hi", task="after")
    assert len(told()) == 1
    assert "entries are not in it yet" in told()[0]
    assert tasks_in(f"sqlite:///{file}") == {"before": 1, "during": 30, "after": 1}


def test_L2_the_users_own_ledger_that_cannot_even_be_opened_costs_nobody_an_answer(
    monkeypatch: pytest.MonkeyPatch, told: Callable[[], list[str]]
) -> None:
    monkeypatch.delenv("TIDEGATE_LEDGER")
    home = Path(os.environ["XDG_DATA_HOME"])
    (home / "tidegate").write_text("in the way")
    with FaultServer() as server:
        server.always(json_reply(completion()))
        with Client(MODEL, api_key="sk-1", base_url=server.base_url) as client:
            for _ in range(3):
                assert client.complete("Hi").text
            until(lambda: len(told()) == 2)
            (home / "tidegate").unlink()
            until(lambda: not client.ledger.queued)
            assert client.ledger.summary().count == 3
