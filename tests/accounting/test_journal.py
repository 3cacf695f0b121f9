"""Journals: what is in one survives the process, what is torn is left out, and what is in the database is cut off."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tidegate.accounting import journal as journal_module
from tidegate.accounting.entries import Entry
from tidegate.accounting.journal import Journal, Segment, left_behind


def entry(number: int = 0, **given: Any) -> Entry:
    return Entry(**{"call_id": f"call-{number}", "at": 1, "provider": "p", "model": "m", **given})


def read(folder: Path) -> list[str]:
    """The calls in the journals that nobody holds, which are left where they are."""
    return [each.call_id for _, entries, _ in left_behind(folder) for each in entries]


def lines(folder: Path) -> list[bytes]:
    return [line for path in sorted(folder.iterdir()) for line in path.read_bytes().splitlines(keepends=True)]


def failing(number: int, times: int = 1) -> Callable[..., Any]:
    left = [times]

    def call(*_args: object) -> None:
        if left[0]:
            left[0] -= 1
            raise OSError(number, os.strerror(number))

    return call


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "usage.db.pending"


def test_L1_what_was_appended_is_in_the_file_before_append_returns(folder: Path) -> None:
    journal = Journal(folder)
    for number in range(3):
        journal.append(entry(number))
        assert [Entry.from_line(line).call_id for line in lines(folder)] == [f"call-{n}" for n in range(number + 1)]
    journal.close()


def test_X8_a_journal_is_its_owners_alone(folder: Path) -> None:
    journal = Journal(folder)
    segment, _ = journal.append(entry())
    assert segment.path.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    journal.close()


def test_what_is_in_the_database_is_cut_off_and_an_empty_journal_is_removed(folder: Path) -> None:
    journal = Journal(folder)
    kept = [journal.append(entry(number))[0] for number in range(3)]
    journal.done(kept[0])
    journal.done(kept[1])
    assert len(lines(folder)) == 3, "it is cut off as a whole"
    journal.done(kept[2])
    assert lines(folder) == []
    segment, _ = journal.append(entry(4))
    assert segment is kept[0]
    assert [Entry.from_line(line).call_id for line in lines(folder)] == ["call-4"]
    journal.done(segment)
    journal.close()
    assert list(folder.iterdir()) == []


def test_L1_what_is_not_in_the_database_is_left_for_the_next(folder: Path) -> None:
    journal = Journal(folder)
    journal.append(entry(1))
    assert read(folder) == [], "its process lives"
    journal.close()
    assert read(folder) == ["call-1"]


def test_a_full_journal_is_followed_by_another_and_removed_once_it_is_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT", 1)
    journal = Journal(folder)
    first, second = (journal.append(entry(number))[0] for number in range(2))
    assert first is not second
    assert len(list(folder.iterdir())) == 2
    journal.done(first)
    assert list(folder.iterdir()) == [second.path]
    journal.done(second)
    third, _ = journal.append(entry(3))
    assert third is second, "it was cut off, so there is room"
    journal.close()


def test_L2_a_write_that_fails_is_told_and_leaves_no_trace(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(folder)
    journal.append(entry(1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", failing(errno.EIO))
        with pytest.raises(OSError, match="Input/output error"):
            journal.append(entry(2))
    journal.append(entry(3))
    journal.close()
    assert read(folder) == ["call-1", "call-3"]


def test_L2_a_write_that_is_short_is_told_as_a_full_disk_and_leaves_no_trace(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(folder)
    journal.append(entry(1))
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, data: write(file, data[:10]))
        with pytest.raises(OSError, match="No space left") as caught:
            journal.append(entry(2))
    assert caught.value.errno == errno.ENOSPC
    assert len(lines(folder)) == 1
    journal.append(entry(3))
    journal.close()
    assert read(folder) == ["call-1", "call-3"]


def test_L1_after_a_piece_that_cannot_be_cut_off_the_next_line_is_read_all_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(folder)
    journal.append(entry(1))
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, data: write(file, data[:10]))
        patch.setattr(os, "ftruncate", failing(errno.EIO))
        with pytest.raises(OSError, match="No space left"):
            journal.append(entry(2))
    journal.append(entry(3))
    journal.close()
    assert sorted(read(folder)) == ["call-1", "call-3"]


def test_a_journal_that_cannot_be_cut_off_is_replaced_in_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(folder)
    segment, _ = journal.append(entry(1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", failing(errno.EIO))
        journal.done(segment)
    assert len(lines(folder)) == 1
    assert segment.size == len(lines(folder)[0])
    journal.done(journal.append(entry(2))[0])
    assert lines(folder) == []
    journal.close()


def test_L1_sync_puts_the_line_and_the_folders_on_the_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(file: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{file}").readlink()))
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    journal = Journal(folder)
    segment, number = journal.append(entry(1))
    segment.sync(number)
    assert synced == [str(folder), str(folder.parent), str(segment.path)]
    segment.sync(number)
    assert len(synced) == 3, "it is there already"
    segment, number = journal.append(entry(2))
    segment.sync(number)
    assert synced[3:] == [str(segment.path)]
    journal.close()


def test_one_fsync_serves_all_that_were_written_before_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    journal = Journal(folder)
    appended = [journal.append(entry(number)) for number in range(5)]
    segment = appended[0][0]
    segment.sync(1)
    monkeypatch.setattr(os, "fsync", synced.append)
    for _, number in appended:
        segment.sync(number)
    assert synced == []
    journal.close()


def test_L1_after_an_fsync_that_failed_nothing_before_it_counts_as_durable(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system says it once, and the next fsync of the same file succeeds although the lines may be lost."""
    journal = Journal(folder)
    segment, first = journal.append(entry(1))
    segment.sync(first)
    _, second = journal.append(entry(2))
    _, third = journal.append(entry(3))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(errno.EIO))
        with pytest.raises(OSError, match="Input/output error"):
            segment.sync(third)
        with pytest.raises(OSError, match="Input/output error"):
            segment.sync(second)
        segment.sync(first)
    fresh, number = journal.append(entry(4))
    assert fresh is not segment
    fresh.sync(number)
    journal.close()
    assert sorted(read(folder)) == ["call-1", "call-2", "call-3", "call-4"], "they survive the process at least"


@pytest.mark.parametrize("end", [b"", b"0", b"00000000 {}", b"\xff\xfe\0", b"a\rb\r\n", b"00000000 []\n"])
def test_L1_a_torn_last_line_is_left_out_and_counted(folder: Path, end: bytes) -> None:
    journal = Journal(folder)
    segment, _ = journal.append(entry(1))
    journal.close()
    with segment.path.open("ab") as file:
        file.write(end)
    [(path, entries, torn)] = left_behind(folder)
    assert path == segment.path
    assert [each.call_id for each in entries] == ["call-1"]
    assert (torn > 0) == bool(end)


def test_a_file_that_holds_something_else_is_all_torn(folder: Path) -> None:
    import zlib  # noqa: PLC0415 (to write lines whose checksums are right)

    folder.mkdir(parents=True)
    foreign = b"".join(
        b"%08x %s\n" % (zlib.crc32(text), text) for text in (b"[]", b"5", b'{"at":1}', b"{", b'{"at":-1}')
    )
    (folder / "x.journal").write_bytes(foreign)
    [(_, entries, torn)] = left_behind(folder)
    assert (entries, torn) == ([], 5)


def test_of_a_folder_that_is_not_there_nothing_is_left(tmp_path: Path) -> None:
    assert list(left_behind(tmp_path / "none")) == []


def test_what_cannot_be_read_is_passed_over(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "a.journal").mkdir()
    (folder / "b.journal").write_bytes(entry(1).line())
    assert read(folder) == ["call-1"]


def test_L1_two_that_look_at_once_do_not_take_the_same_file_in(folder: Path) -> None:
    journal = Journal(folder)
    journal.append(entry(1))
    journal.close()
    looking = left_behind(folder)
    next(looking)
    assert read(folder) == []
    del looking
    assert read(folder) == ["call-1"]


def test_L1_a_new_file_that_is_taken_for_one_left_behind_is_made_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who opens the ledger may remove it in the moment in which it is there and not locked yet."""
    real = fcntl.flock
    removed: list[Path] = []

    def late(file: int, how: int) -> None:
        if not removed:
            removed.extend(folder.iterdir())
            removed[0].unlink()
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    journal = Journal(folder)
    segment, _ = journal.append(entry(1))
    assert segment.path.exists()
    assert segment.path not in removed
    journal.close()
    assert read(folder) == ["call-1"]


def test_a_file_that_cannot_be_locked_is_not_left_open(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(fcntl, "flock", failing(errno.ENOLCK))
    with pytest.raises(OSError, match="No locks"):
        Journal(folder).append(entry(1))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_an_entry_that_is_written_after_the_end_takes_its_file_along(folder: Path) -> None:
    journal = Journal(folder)
    segment, _ = journal.append(entry(1))
    journal.close()
    journal.done(segment)
    assert list(folder.iterdir()) == []


def test_a_segment_is_closed_once(folder: Path) -> None:
    """The number of its file may be somebody else's by then."""
    folder.mkdir(parents=True)
    segment = Segment(folder)
    number = segment._file
    segment.close(remove=False)
    other = os.open(folder, os.O_RDONLY)
    assert other == number
    segment.close(remove=True)
    os.fstat(other)
    os.close(other)
    assert list(folder.iterdir()) == []


FORKER = r"""
import os, sys, time
from pathlib import Path
from tidegate.accounting import journal as journal_module
from tidegate.accounting.entries import Entry
from tidegate.accounting.journal import Journal
journal_module.SEGMENT = 1
journal = Journal(Path(sys.argv[1]))
def entry(name):
    return Entry(call_id=name, at=1, provider="p", model="m")
journal.append(entry("one"))
journal.append(entry("two"))
if os.fork():
    os._exit(0)
journal.abandon()
mine = Journal(Path(sys.argv[1]))
mine.append(entry("child"))
os.write(1, b"abandoned\n")
sys.stdin.read()
"""


def test_L1_what_a_dead_parent_left_can_be_taken_in_while_its_child_lives(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FORKER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"abandoned\n"
        process.wait()
        assert sorted(read(folder)) == ["one", "two"]
        assert process.stdin is not None
        process.stdin.close()
        process.stdout.read()  # its end is the child's
    assert sorted(read(folder)) == ["child", "one", "two"]


def test_threads_append_whole_lines(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT", 2_000)
    journal = Journal(folder)

    def work(thread: int) -> None:
        for number in range(100):
            segment, _ = journal.append(entry(thread * 1000 + number, task="x" * (number % 50)))
            if number % 3 == 0:
                journal.done(segment)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    found = [(entries, torn) for _, entries, torn in left_behind(folder)]
    assert len(found) > 2
    assert sum(torn for _, torn in found) == 0
    calls = [each.call_id for entries, _ in found for each in entries]
    assert len(calls) == len(set(calls))
    assert len(calls) >= 4 * 66
