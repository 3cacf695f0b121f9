"""What was acknowledged and is not in the database yet, in a file beside it that survives `kill -9`.

Each process appends to a file of its own, one write an entry, and holds a lock on it for as long as it lives. What is
in the database is cut off again. A file whose lock is free was left behind by a process that died: whoever opens the
ledger next takes its entries in.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path

from tidegate.accounting.entries import Entry

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be removed either
    fcntl = None  # type: ignore[assignment]

SEGMENT = 4 * 2**20
"""Bytes after which a new file is begun: one that is always in use could never be cut off."""


class Segment:
    """One file, and how many of its entries are not in the database."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path, self._file = _new_file(folder)
        self.size = 0
        self.pending = 0
        self.appended = self._synced = 0
        self._sync_lock = threading.Lock()
        self._unsynced = False
        self.closed = False
        self.broken = False
        """Whether no line can follow: a piece of one is at the end, or what is before it may not be on the disk."""

    def append(self, line: bytes) -> None:
        """Write a line whole, or raise `OSError` and leave the file as it was."""
        try:
            written = os.write(self._file, line)
        except OSError:
            self._cut_to_size()
            raise
        if written != len(line):
            self._cut_to_size()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.size += written
        self.pending += 1
        self.appended += 1

    def _cut_to_size(self) -> None:
        try:
            os.ftruncate(self._file, self.size)
        except OSError:  # the next line would become one with the piece, and both unreadable
            self.broken = True

    @property
    def removed(self) -> bool:
        """Whether nobody could find it any more."""
        try:
            return not os.fstat(self._file).st_nlink
        except OSError:
            return True

    def sync(self, number: int) -> None:
        """Have the first `number` entries on the disk itself, where they survive a loss of power.

        One thread does it for all that were written before it began; the others wait for it, or do the next. Raises
        `OSError`, and after that for all that were waiting: a system says once that it has lost what was written.
        """
        with self._sync_lock:
            if self._synced >= number:
                return
            if self._unsynced:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            try:
                if not self._synced:
                    for folder in self.path.parents[:2]:  # else the file itself may not be found again
                        _sync_folder(folder)
                reached = self.appended
                os.fsync(self._file)
            except OSError:
                self._unsynced = self.broken = True
                raise
            self._synced = reached

    def clear(self) -> None:
        """All of it is in the database."""
        if self.size:
            with contextlib.suppress(OSError):  # then it grows until the next one is begun, and its entries come again
                os.ftruncate(self._file, 0)
                self.size = 0

    def close(self, *, remove: bool) -> None:
        """Let go of it, once: another thread may have been given the file's number by then."""
        if remove:
            with contextlib.suppress(OSError):
                self.path.unlink()
        if not self.closed:
            self.closed = True
            with contextlib.suppress(OSError):
                os.close(self._file)


def _new_file(folder: Path) -> tuple[Path, int]:
    """A file that nobody else has, open and locked."""
    while True:
        path = folder / f"{os.getpid()}-{secrets.token_hex(6)}.journal"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        if fcntl is None:
            return path, file
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            os.close(file)
            raise
        if os.fstat(file).st_nlink:
            return path, file
        os.close(file)  # in the moment before it was locked, somebody took it for one that was left behind


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened
        file = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


class Journal:
    """This process's journal. Shared by threads. A forked child makes its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._current: Segment | None = None
        self._full: set[Segment] = set()
        """Earlier ones, of which something is not in the database."""

    def append(self, entry: Entry) -> tuple[Segment, int]:
        """Have the entry survive the process; for the segment's `sync`, its number there. Raises `OSError`."""
        line = entry.line()
        with self._lock:
            segment = self._segment()
            segment.append(line)
            return segment, segment.appended

    def _segment(self) -> Segment:
        current = self._current
        if current is None or current.broken or current.size >= SEGMENT or current.removed:
            self._current = Segment(self.folder)
            if current is not None and current.pending:
                self._full.add(current)
            elif current is not None:
                current.close(remove=True)
        assert self._current is not None  # noqa: S101 (made above)
        return self._current

    def done(self, segment: Segment) -> None:
        """One of the segment's entries is in the database."""
        with self._lock:
            segment.pending -= 1
            if segment.pending:
                return
            if segment is self._current:
                segment.clear()
            else:
                self._full.discard(segment)
                segment.close(remove=True)

    def close(self) -> None:
        """Remove what is empty; what is not stays for whoever opens the ledger next."""
        with self._lock:
            current, self._current = self._current, None
            if current is not None:
                current.close(remove=not current.pending)
            for segment in self._full:
                segment.close(remove=False)

    def abandon(self) -> None:
        """In a forked child: nothing of this is the child's, who would keep it locked when the parent has died."""
        for segment in (self._current, *self._full):
            if segment is not None:
                segment.close(remove=False)


def left_behind(folder: Path) -> Iterator[tuple[Path, list[Entry], int]]:
    """The journals of processes that are gone: each file, its entries, and how many of its lines are torn.

    Each is locked while it is looked at, so two openers do not take the same one in. Whoever has kept the entries
    removes the file before it asks for the next.
    """
    for path in sorted(folder.glob("*.journal")) if folder.is_dir() else ():
        try:
            file = os.open(path, os.O_RDWR)
        except OSError:
            continue
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # its process lives
            os.close(file)
            continue
        try:
            with os.fdopen(os.dup(file), "rb") as stream:
                entries, torn = _read(stream.read())
            yield path, entries, torn
        finally:
            os.close(file)


def _read(content: bytes) -> tuple[list[Entry], int]:
    entries, torn = [], 0
    for line in content.splitlines(keepends=True):
        try:
            entries.append(Entry.from_line(line))
        except (ValueError, TypeError, AttributeError):
            torn += 1
    return entries, torn
