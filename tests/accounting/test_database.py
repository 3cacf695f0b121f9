"""A ledger's database: what can be opened, what is left as it was, and what several threads and processes do to it."""

from __future__ import annotations

import contextlib
import gc
import os
import sqlite3
import subprocess
import sys
import threading
import traceback
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine, insert, select, text

from support.postgres import PostgresServer
from support.redis_server import free_port
from tidegate.accounting import database as database_module
from tidegate.accounting import migrations, sqlite_forks
from tidegate.accounting.database import Database, checked_url, same_place
from tidegate.accounting.schema import ALERTS, BUDGETS, VERSION, metadata
from tidegate.accounting.sqlite_file import budgets_in, file_of, quoted
from tidegate.errors import LedgerUnusable
from tidegate.testing import ManualClock

PATIENCE = 30.0
"""Seconds that a test waits for what must come."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "usage.db"


@contextlib.contextmanager
def opened(file: Path) -> Iterator[Database]:
    with contextlib.closing(Database(f"sqlite:///{file}")) as database:
        yield database


def add(database: Database, name: str) -> None:
    with database.writing() as connection:
        connection.execute(insert(BUDGETS).values(name=name, options="{}"))


def names(database: Database) -> list[str]:
    with database.reading() as connection:
        return sorted(connection.scalars(select(BUDGETS.c.name)))


def unusable(url: str) -> str:
    """How it is refused."""
    with pytest.raises(LedgerUnusable) as caught:
        Database(url)
    return str(caught.value)


# What can be opened


def test_a_new_database_has_all_tables_of_the_newest_revision(either_url: str) -> None:
    with contextlib.closing(Database(either_url)) as database, database.reading() as connection:
        for table in metadata.sorted_tables:
            connection.execute(select(table)).all()
        assert connection.scalars(select(VERSION.c.version_num)).all() == [migrations.NEWEST]


def test_it_can_be_opened_again_and_has_what_it_had(either_url: str) -> None:
    for number in range(3):
        with contextlib.closing(Database(either_url)) as database:
            assert names(database) == [str(each) for each in range(number)]
            add(database, str(number))


def test_X8_a_file_and_the_folders_that_are_made_for_it_are_the_users_alone(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "deeper" / "usage.db"
    with opened(file) as database:
        add(database, "a")
        for made in file.parent.iterdir():
            assert made.stat().st_mode & 0o777 == 0o600, made
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_an_empty_file_becomes_a_ledger(file: Path) -> None:
    file.touch()
    with opened(file) as database:
        add(database, "a")


@pytest.mark.parametrize("sync", [False, True])
def test_a_commit_survives_a_loss_of_power_only_if_that_was_asked_for(file: Path, *, sync: bool) -> None:
    with contextlib.closing(Database(f"sqlite:///{file}", sync=sync)) as database, database.writing() as connection:
        assert connection.scalar(text("PRAGMA synchronous")) == (2 if sync else 1)
        assert connection.scalar(text("PRAGMA journal_mode")) == "wal"


# What cannot


@pytest.mark.parametrize("url", ["", "usage.db", "sqlite", None, 5, b"sqlite:///x"])
def test_what_is_no_address_is_refused_with_an_example(url: object) -> None:
    with pytest.raises(LedgerUnusable, match="a ledger's address looks like `sqlite:///usage"):
        checked_url(url)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("oracle+cx_oracle://user:secret@host/x", "a ledger is an address like"),
        ("mysql+pymysql://user:secret@host/x", "a ledger is an address like"),
        ("postgresql+psycopg2://user:secret@host/x", "driver is not installed"),
        ("nonsense://user:secret@host/x", "a ledger is an address like"),
        ("sqlite+aiosqlite:///x.db", "synchronous one: write `sqlite:///…`"),
        ("postgresql+asyncpg://user:secret@host/x", "synchronous one: write `postgresql+psycopg://…`"),
        ("postgresql://user:pass@secret@host/x", "an `@` in its password or its options is written `%40`"),
        ("postgresql://host:1/x?password=a@secret", "an `@` in its password or its options is written `%40`"),
        ("postgresql://user:secret@host:port/x", "not understood"),
        ("://user:secret@host", "not understood"),
        ("sqlite://", "it needs a file"),
        ("sqlite:///", "it needs a file"),
        ("sqlite:///:memory:", "it needs a file"),
        ("sqlite:///file:secret.db?uri=true", "it needs a file"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_what_is_secret_in_it(url: str, problem: str) -> None:
    said = unusable(url)
    assert problem in said
    assert f"`{url.partition('://')[0]}://…`" in said
    assert "secret" not in said


def test_postgresql_is_reached_by_the_driver_that_is_asked_for_in_the_extra() -> None:
    assert checked_url("postgresql://u@h/x").drivername == "postgresql+psycopg"


@pytest.mark.parametrize(
    "other",
    [
        "postgresql+psycopg://me:other@HOST/x",
        "postgresql://me@host:5432/x?connect_timeout=3",
        "postgresql://me@/x?host=host",
        "postgresql:///x?host=host&user=me&password=y",
    ],
)
def test_addresses_of_one_database_are_the_same_place(other: str) -> None:
    """Neither the driver nor the password nor how it is spelled makes another one of it."""
    assert same_place(other) == same_place("postgresql://me:secret@host/x")


@pytest.mark.parametrize("other", ["you@host/x", "me@host/y", "me@host:1/x", "me@there/x", "me@host/x?options=-cx%3Dy"])
def test_addresses_of_several_databases_are_several_places(other: str) -> None:
    """A journal must never be taken into the tables of another one."""
    assert same_place(f"postgresql://{other}") != same_place("postgresql://me@host/x")


def test_a_name_with_a_percent_sign_means_one_file_to_all_who_read_the_address(tmp_path: Path) -> None:
    """Budgets are looked for in the very file that is opened."""
    url = f"sqlite:///{quoted(tmp_path / 'a%20b?.db')}"
    with contextlib.closing(Database(url)) as database:
        assert database.file == file_of(url) == tmp_path / "a%20b?.db"
        assert database.shown == url
    assert (tmp_path / "a%20b?.db").exists()


def test_L5_a_number_that_is_too_large_for_it_is_told_as_every_failure(either_url: str) -> None:
    """The driver of SQLite raises an `OverflowError` of its own."""
    with contextlib.closing(Database(either_url)) as database:
        with pytest.raises(LedgerUnusable, match="cannot be used") as caught, database.writing() as connection:
            connection.execute(insert(ALERTS).values(scope="x", usd_nano=2**70, thousandths=1))
        assert isinstance(caught.value.__cause__, OSError)
        add(database, "a")


@pytest.mark.parametrize("secret", ["user:secret@127.0.0.1:{port}/x", "127.0.0.1:{port}/x?password=secret&user=me"])
def test_X1_a_server_that_is_not_there_is_named_without_its_password(secret: str) -> None:
    port = free_port()
    with pytest.raises(LedgerUnusable, match="refused") as caught:
        Database(f"postgresql+psycopg://{secret.format(port=port)}")
    assert str(port) in str(caught.value)
    said = "".join(traceback.format_exception(caught.value))
    assert "secret" not in said.replace("{secret", "")


def test_X1_a_password_that_is_wrong_is_not_repeated(postgres: PostgresServer) -> None:
    url = postgres.new_database().replace("tidegate@", "nobody:secret@")
    said = unusable(url)
    assert "nobody" in said
    assert "secret" not in said


def test_a_server_has_ten_seconds_to_let_us_in_unless_the_address_says_otherwise(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def create(url: URL, **options: Any) -> Engine:
        asked.append(options["connect_args"])
        return create_engine(url, **options)

    monkeypatch.setattr(database_module, "create_engine", create)
    url = postgres.new_database()
    Database(url).close()
    Database(f"{url}?connect_timeout=3").close()
    assert asked == [{"connect_timeout": 10}, {}]


def text_file(file: Path) -> None:
    file.write_text("not a database, but some notes on where the money went")


def short_file(file: Path) -> None:
    file.write_bytes(b"SQL")


def others_database(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.executescript("CREATE TABLE bookmarks (url TEXT); INSERT INTO bookmarks VALUES ('x')")


def others_wal_database(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript("CREATE TABLE bookmarks (url TEXT); INSERT INTO bookmarks VALUES ('x')")


def others_view(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE VIEW one AS SELECT 1")


def others_version(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA user_version = 3")


def others_application(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA application_id = 7")


def newer_ledger(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.executescript(
            "CREATE TABLE tidegate_version (version_num TEXT); INSERT INTO tidegate_version VALUES ('99');"
            "CREATE TABLE tidegate_attempts (wonders TEXT)"
        )


def newer_wal_ledger(file: Path) -> None:
    with opened(file) as database, database.writing() as connection:
        connection.execute(VERSION.update().values(version_num="99"))


def broken_database(file: Path) -> None:
    file.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 40)


def cut_database(file: Path) -> None:
    with opened(file) as database:
        add(database, "a")
    file.write_bytes(file.read_bytes()[:6000])


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (text_file, "no SQLite database"),
        (short_file, "no SQLite database"),
        (others_database, "another program's database"),
        (others_wal_database, "another program's database"),
        (others_view, "another program's database"),
        (others_version, "another program's database"),
        (others_application, "another program's database"),
        (newer_ledger, "written by a newer tidegate (revision 99"),
        (newer_wal_ledger, "written by a newer tidegate (revision 99"),
        (broken_database, ""),
        (cut_database, "malformed"),
    ],
)
def test_a_file_that_is_no_ledger_is_named_and_left_as_it_was(
    file: Path, make: Callable[[Path], None], problem: str
) -> None:
    make(file)
    before = file.read_bytes()
    said = unusable(f"sqlite:///{file}")
    assert str(file) in said
    assert problem in said
    assert file.read_bytes() == before
    assert unusable(f"sqlite:///{file}") == said, "also the second time"
    assert file.read_bytes() == before


def test_a_newer_ledger_in_postgresql_is_left_as_it_was(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    with contextlib.closing(Database(url)) as database, database.writing() as connection:
        connection.execute(VERSION.update().values(version_num="99"))
    assert "newer tidegate (revision 99" in unusable(url)
    with postgres.connect(url) as direct:
        assert direct.execute("SELECT version_num FROM tidegate_version").fetchall() == [("99",)]


def test_a_folder_is_no_ledger(tmp_path: Path) -> None:
    assert unusable(f"sqlite:///{tmp_path}").endswith(f"{tmp_path} cannot be opened: it is no file")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(file: Path) -> None:
    file.write_text("x")
    assert str(file) in unusable(f"sqlite:///{file}/deep/usage.db")
    assert file.read_text() == "x"


def test_a_file_is_not_made_where_nobody_may_write() -> None:
    assert "cannot be opened" in unusable("sqlite:////proc/usage.db")


def test_what_cannot_be_opened_leaves_no_connection_open(file: Path) -> None:
    cut_database(file)
    gc.collect()
    before = set(Path("/proc/self/fd").iterdir())
    unusable(f"sqlite:///{file}")
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_budgets_are_read_without_opening_it(file: Path) -> None:
    assert budgets_in(file) == []
    file.touch()
    assert budgets_in(file) == []
    with opened(file) as database:
        add(database, "b")
        add(database, "a")
        assert budgets_in(file) == [("a", "{}"), ("b", "{}")]


def test_budgets_that_cannot_be_read_are_not_taken_for_none(file: Path) -> None:
    broken_database(file)
    with pytest.raises(LedgerUnusable, match=str(file)):
        budgets_in(file)


# Transactions


def test_what_is_raised_inside_takes_all_of_the_transaction_back(either_url: str) -> None:
    with contextlib.closing(Database(either_url)) as database:
        with pytest.raises(KeyError), database.writing() as connection:  # noqa: PT012 (both are the transaction)
            connection.execute(insert(BUDGETS).values(name="a", options="{}"))
            raise KeyError
        assert names(database) == []
        add(database, "b")
        assert names(database) == ["b"]


def test_what_the_database_says_is_told_in_a_line_without_values(either_url: str) -> None:
    with contextlib.closing(Database(either_url)) as database:
        name = str(uuid.uuid4())  # not in the lines of this file, which a traceback shows
        add(database, name)
        with pytest.raises(LedgerUnusable, match=r"cannot be used: .*(?i:unique)") as caught:
            add(database, name)
    assert "\n" not in str(caught.value)
    assert name not in "".join(traceback.format_exception(caught.value))


def test_a_reader_sees_one_state_while_others_write(either_url: str) -> None:
    with contextlib.closing(Database(either_url)) as database, contextlib.closing(Database(either_url)) as other:
        add(database, "a")
        with database.reading() as connection:
            assert connection.scalars(select(BUDGETS.c.name)).all() == ["a"]
            add(other, "b")
            assert connection.scalars(select(BUDGETS.c.name)).all() == ["a"]
        assert names(database) == ["a", "b"]


def test_a_writer_waits_no_longer_than_it_was_told_to(file: Path) -> None:
    with (
        opened(file) as database,
        opened(file) as other,
        other.writing(),
        pytest.raises(LedgerUnusable, match="locked"),
        database.writing(0.001),
    ):
        pytest.fail("the other one has it")


def test_a_writer_of_postgresql_waits_no_longer_than_it_was_told_to(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    with contextlib.closing(Database(url)) as database, contextlib.closing(Database(url)) as other:
        with other.writing() as connection:
            other.lock(connection, 5)
            with pytest.raises(LedgerUnusable, match="lock timeout"), database.writing(0.001) as mine:
                database.lock(mine, 5)
        with database.writing(0.001) as mine:
            database.lock(mine, 5)


def test_the_patience_of_one_writer_is_not_the_next_readers(file: Path) -> None:
    with opened(file) as database:
        with database.writing(0.001) as connection:
            assert connection.scalar(text("PRAGMA busy_timeout")) == 1
        with database.reading() as connection:
            assert connection.scalar(text("PRAGMA busy_timeout")) == 1000 * database_module.BUSY_SECONDS
        with database.writing() as connection:
            assert connection.scalar(text("PRAGMA busy_timeout")) == 1000 * database_module.BUSY_SECONDS


def test_a_file_that_cannot_be_switched_to_wal_at_once_is_tried_again(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite waits for nobody in this step, and two processes that make a ledger together meet in it."""
    with contextlib.closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN EXCLUSIVE")
        waited: list[float] = []

        class Clock(ManualClock):
            def wait(self, event: threading.Event, seconds: float) -> bool:
                waited.append(seconds)
                other.rollback()
                return super().wait(event, seconds)

        monkeypatch.setattr(database_module, "SYSTEM_CLOCK", Clock())
        with contextlib.closing(sqlite3.connect(file, timeout=0)) as connection:
            database_module._use_wal(connection.cursor())
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert waited == [0.01]


def test_a_file_that_stays_locked_is_given_up(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "SYSTEM_CLOCK", ManualClock())
    monkeypatch.setattr(database_module, "BUSY_SECONDS", 1.0)
    with contextlib.closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with (
            contextlib.closing(sqlite3.connect(file, timeout=0)) as connection,
            pytest.raises(sqlite3.OperationalError, match="locked"),
        ):
            database_module._use_wal(connection.cursor())


def test_the_clock_of_a_shared_database_is_its_own(either_url: str) -> None:
    clock = ManualClock(time=1_000.0)
    with contextlib.closing(Database(either_url, clock=clock)) as database, database.reading() as connection:
        now = database.now(connection)
        assert now == 1_000_000_000 if database.is_sqlite else now > 1_700_000_000_000_000


def test_after_the_server_was_gone_it_is_used_again() -> None:
    with PostgresServer() as server:
        url = server.new_database()
        with contextlib.closing(Database(url)) as database:
            add(database, "a")
            server.stop()
            with pytest.raises(LedgerUnusable, match="cannot be used"):
                add(database, "b")
            server.go_on()
            add(database, "c")
            assert names(database) == ["a", "c"]


def test_threads_that_find_the_file_removed_make_it_again_once(file: Path) -> None:
    with opened(file) as database:
        for round_ in range(20):
            for each in file.parent.glob("usage.db*"):
                each.unlink()
            threads = [threading.Thread(target=add, args=(database, f"{round_}-{number}")) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE)
            assert names(database) == [f"{round_}-{number}" for number in range(8)]
    with opened(file) as again:
        assert len(names(again)) == 8


def test_a_file_that_is_made_again_is_not_used_before_it_is_ready(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its number alone it may look like the one that was removed."""
    monkeypatch.setattr(database_module, "_identity", lambda path: (1, 1) if path.exists() else None)
    with opened(file) as database:
        prepare, seen = database._prepare, []

        def look_and_prepare() -> None:
            seen.append(database._moved())
            prepare()

        monkeypatch.setattr(database, "_prepare", look_and_prepare)
        file.unlink()
        add(database, "a")
        assert seen == [True]
        assert not database._moved()


# Several processes

OPENER = """
import os, sys, time
from tidegate.accounting.database import Database
from sqlalchemy import insert
from tidegate.accounting.schema import BUDGETS
url, rounds = sys.argv[1:]
for number in range(int(rounds)):
    children = []
    begin = time.time() + 0.02
    for each in range(4):
        child = os.fork()
        if not child:
            status = 1
            try:
                while time.time() < begin:
                    pass
                database = Database(url.format(number))
                with database.writing() as connection:
                    connection.execute(insert(BUDGETS).values(name=str(each), options="{}"))
                database.close()
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    if any([os.waitpid(child, 0)[1] for child in children]):
        sys.exit(f"round {number}")
"""


def test_processes_that_make_one_ledger_at_the_same_moment_all_get_it(tmp_path: Path, postgres: PostgresServer) -> None:
    for url, rounds in ((f"sqlite:///{tmp_path}/{{}}.db", 15), (postgres.new_database(), 1)):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(
            [sys.executable, "-c", OPENER, url, str(rounds)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        with contextlib.closing(Database(url.format(0))) as database:
            assert names(database) == ["0", "1", "2", "3"]


# Forks


def in_child(work: Callable[[], None]) -> Callable[[], None]:
    """Do it in a forked child; what is answered waits for it to end well."""
    child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001 (a child must not go on with the parent's tests)
            traceback.print_exc()
        finally:
            os._exit(1)

    def wait() -> None:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    return wait


def test_T10_what_a_forked_child_commits_stays_when_its_parent_closes(either_url: str) -> None:
    """SQLite removes its write-ahead log with the last connection; the child's must count."""
    begun, closed = os.pipe(), os.pipe()
    database = Database(either_url)
    add(database, "parent")

    def work() -> None:
        add(database, "child 1")
        os.write(begun[1], b"x")
        os.read(closed[0], 1)
        add(database, "child 2")
        database.close()

    wait = in_child(work)
    assert os.read(begun[0], 1) == b"x"
    database.close()
    os.write(closed[1], b"x")
    wait()
    for each in (*begun, *closed):
        os.close(each)
    with contextlib.closing(Database(either_url)) as again:
        assert names(again) == ["child 1", "child 2", "parent"]


def test_T10_a_fork_waits_for_a_transaction_and_its_child_can_write(either_url: str) -> None:
    """An unfinished one would lock the child out for ever: SQLite's memory of its locks is forked, too."""
    database = Database(either_url)
    inside, goes_on = threading.Event(), threading.Event()

    def write() -> None:
        with database.writing() as connection:
            connection.execute(insert(BUDGETS).values(name="thread", options="{}"))
            inside.set()
            if database.is_sqlite:
                _until(lambda: sqlite_forks._doorman._forks == 1)
            else:
                assert goes_on.wait(PATIENCE)

    thread = threading.Thread(target=write)
    thread.start()
    assert inside.wait(PATIENCE)
    wait = in_child(lambda: add(database, "child"))
    goes_on.set()
    thread.join(PATIENCE)
    wait()
    add(database, "parent")
    assert names(database) == ["child", "parent", "thread"]
    database.close()


def _until(condition: Callable[[], bool]) -> None:
    give_up = threading.Event()
    for _ in range(int(PATIENCE * 1000)):
        if condition():
            return
        give_up.wait(0.001)
    raise AssertionError


def test_T10_threads_write_while_the_process_forks_again_and_again(either_url: str) -> None:
    database = Database(either_url)
    ended = threading.Event()
    written: list[str] = []
    failed: list[BaseException] = []

    def write(thread: int) -> None:
        try:
            while not ended.is_set():
                name = f"{thread}-{len(written)}"
                add(database, name)
                written.append(name)
        except LedgerUnusable as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for number in range(10):
        in_child(lambda name=f"child {number}": add(database, name))()  # type: ignore[misc]
    ended.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert failed == []
    assert names(database) == sorted([*written, *(f"child {number}" for number in range(10))])
    database.close()


def test_T10_a_fork_that_no_transaction_makes_room_for_goes_on_some_time(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_forks, "PATIENCE", 0.01)
    with opened(file) as database, database.reading():
        in_child(lambda: None)()
    with opened(file) as database:
        in_child(lambda: add(database, "child"))()
        assert names(database) == ["child"]


def test_a_database_that_nobody_holds_is_not_kept_for_the_next_fork(file: Path) -> None:
    for _ in range(3):
        with opened(file):
            pass
    gc.collect()
    with opened(file):
        assert len([each for each in sqlite_forks._doorman._closers if each() is not None]) == 1
