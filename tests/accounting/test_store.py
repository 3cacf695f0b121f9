"""Behind a ledger: what dead processes left is taken in, and who listens is told what was spent."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.postgres import PostgresServer
from support.shop import shop_at
from support.victims import calls, check_sums
from tidegate.accounting import store as store_module
from tidegate.accounting.entries import Entry
from tidegate.accounting.journal import Journal
from tidegate.accounting.purses import Claim, Purse
from tidegate.accounting.store import Store
from tidegate.accounting.turns import alone_in
from tidegate.clock import SYSTEM_CLOCK
from tidegate.errors import LedgerUnusable, LedgerWarning


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "usage.db"


@pytest.fixture
def pending(tmp_path: Path) -> Path:
    return tmp_path / "usage.db.pending"


@contextlib.contextmanager
def opened(file: Path) -> Iterator[Store]:
    with contextlib.closing(Store(f"sqlite:///{file}", sync=False, clock=SYSTEM_CLOCK)) as store:
        store.database()
        yield store


def entry(name: object, cost: int = 1) -> Entry:
    return Entry(call_id=str(name), at=1_700_000_000_000_000, provider="p", model="m", cost_nano=cost)


def leave(folder: Path, *names: object) -> Path:
    """A journal of a process that is gone; where it is."""
    journal = Journal(folder)
    segments = {journal.append(entry(name))[0] for name in names}
    journal.close()
    (segment,) = segments
    return segment.path


def taken_in(file: Path) -> list[str]:
    with opened(file):
        pass
    check_sums(f"sqlite:///{file}")
    return sorted(calls(f"sqlite:///{file}"))


def test_L1_whoever_opens_it_takes_in_what_all_dead_processes_left(file: Path, pending: Path) -> None:
    leave(pending, "a", "b")
    leave(pending, "c")
    assert taken_in(file) == ["a", "b", "c"]
    assert list(pending.iterdir()) == []


def test_L1_more_than_a_batch_is_taken_in(file: Path, pending: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "BATCH", 7)
    leave(pending, *range(30))
    assert taken_in(file) == sorted(map(str, range(30)))


def test_L1_a_journal_that_cannot_be_removed_comes_again_and_changes_nothing(
    file: Path, pending: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = leave(pending, "a", "b")
    content = path.read_bytes()
    assert taken_in(file) == ["a", "b"]
    path.write_bytes(content + content)
    assert taken_in(file) == ["a", "b"]


def test_L1_a_database_that_does_not_take_it_leaves_the_journal(
    file: Path, pending: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = leave(pending, "a")
    with opened(file.with_name("other.db")) as other:
        rows = type(other._opened()[1])

    def fail(*_args: object) -> None:
        raise LedgerUnusable("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(rows, "write", fail)
        with pytest.raises(LedgerUnusable, match="the disk is full"), opened(file):
            pytest.fail("what was acknowledged is not in it")
    assert path.exists()
    assert taken_in(file) == ["a"]


def test_one_torn_line_is_what_a_killed_process_leaves_and_more_are_told(file: Path, pending: Path) -> None:
    with leave(pending, "a").open("ab") as stream:
        stream.write(b"0000")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert taken_in(file) == ["a"]
    with leave(pending, "b").open("ab") as stream:
        stream.write(b"torn\ntorn\n" + entry("c").line())
    with pytest.warns(LedgerWarning, match=r"the ledger: 2 lines of .*\.journal are torn, and left out"):
        assert taken_in(file) == ["a", "b", "c"]


def test_L1_a_torn_journal_is_taken_in_also_where_warnings_are_errors(file: Path, pending: Path) -> None:
    path = leave(pending, "a")
    with path.open("ab") as stream:
        stream.write(b"torn\ntorn\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert taken_in(file) == ["a"]
    assert not path.exists()


def test_what_another_one_is_taking_in_is_left_to_it(file: Path, pending: Path) -> None:
    leave(pending, "a")
    with opened(file.with_name("nothing.db")), alone_in(pending) as alone:
        assert alone
        assert taken_in(file) == []
    assert taken_in(file) == ["a"]


def test_look_around_takes_in_what_was_left_since(file: Path, pending: Path) -> None:
    with shop_at(f"sqlite:///{file}") as shop:
        store = shop.ledger.store
        leave(pending, "a")
        assert store.look_around() == []
        assert calls(store.url) == ["a"]


def test_it_is_shown_without_what_is_secret() -> None:
    def shown(url: str) -> str:
        return Store(url, sync=False, clock=SYSTEM_CLOCK).shown

    assert shown("postgresql://user:secret@host:5/name?password=x") == "postgresql://user:***@host:5/name"
    assert shown("postgresql://user@host/name") == "postgresql://user@host/name"
    assert shown("postgresql://user:a@b:c@host/name") == "postgresql://user:***@host/name"
    assert shown("postgresql://host/name") == "postgresql://host/name"
    assert shown("postgresql://user:a?secret@host/name") == "postgresql://user:***@host/name"
    assert shown("postgresql://user:a/secret@host/name") == "postgresql://user:***@host/name"
    assert shown("postgresql://user:a@secret@host/name") == "postgresql://…"
    assert shown("postgresql://user:a?secret@host:port/name") == "postgresql://…"
    assert shown("sqlite:////var/usage.db?timeout=5") == "sqlite:////var/usage.db"


@pytest.mark.parametrize("name", ["\0usage.db", "%00usage.db"])
def test_an_address_with_a_nul_is_refused_before_anything_is_made(tmp_path: Path, name: str) -> None:
    """No system has such a file."""
    with pytest.raises(LedgerUnusable, match="no NUL"):
        Store(f"sqlite:///{tmp_path}/deep/{name}", sync=False, clock=SYSTEM_CLOCK)
    assert list(tmp_path.iterdir()) == []


def test_L1_what_was_left_by_one_who_came_through_a_symlink_is_seen_by_all(file: Path, tmp_path: Path) -> None:
    """The journals lie beside the file itself, however its name is reached."""
    link, folder = tmp_path / "link.db", tmp_path / "elsewhere"
    link.symlink_to(file)
    with opened(link) as store:
        leave(store.bookkeeper._journal.folder, "a")
    assert taken_in(file) == ["a"]
    folder.symlink_to(tmp_path)
    leave(tmp_path / "link.db.pending", "b")  # where an earlier release had it
    assert taken_in(folder / "link.db") == ["a", "b"]


def test_L1_what_was_left_under_another_spelling_of_a_server_is_seen(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One database has one folder of journals, and those of earlier releases are found as well."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    url = postgres.new_database()
    long, short = (f"{scheme}://{url.partition('://')[2]}" for scheme in ("postgresql+psycopg", "postgresql"))
    once = hashlib.sha256(short.encode()).hexdigest()[:16]
    with contextlib.closing(Store(short, sync=False, clock=SYSTEM_CLOCK)) as store:
        leave(store.bookkeeper._journal.folder, "a")
    leave(tmp_path / "tidegate" / "pending" / once, "b")
    with contextlib.closing(Store(long, sync=False, clock=SYSTEM_CLOCK)) as store:
        store.database()
    assert sorted(calls(long)) == ["a", "b"]


class Listener:
    def __init__(self) -> None:
        self.told: list[dict[str, int]] = []

    def on_spent(self, spent: dict[str, int]) -> None:
        self.told.append(spent)


def test_who_listens_is_told_what_is_spent_of_purses_for_as_long_as_it_lives(file: Path) -> None:
    with shop_at(f"sqlite:///{file}") as shop:
        first, second = Listener(), Listener()
        for each in (first, second):
            shop.ledger.store.on_spent(each.on_spent)
        shop.spend("nobody counts it", 5)
        shop.ledger.flush()
        assert first.told == []
        now = int(shop.clock.time() * 1_000_000)
        purse = Purse(now - 10**9, now + 10**9)
        shop.reserve("a", 10, Claim(purse, 100))
        del second
        gc.collect()
        shop.spend("a", 7)
        shop.ledger.flush()
        assert first.told == [{purse.scope: 12}]
