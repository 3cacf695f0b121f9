"""What was acknowledged and is not in the database yet, in a file beside it that survives `kill -9`.

Each process appends to a file of its own, one write an entry, and holds a lock on it for as long as it lives. What is
in the database is cut off again. A file whose lock is free was left behind by a process that died: whoever opens the
ledger next takes its entries in.
"""

from __future__ import annotations

import contextlib
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
        self.path = folder / f"{os.getpid()}-{secrets.token_hex(6)}.journal"
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        if fcntl is not None:
            fcntl.flock(self._file, fcntl.LOCK_EX)
        self.size = 0
        self.pending = 0
        self.appended = self._synced = 0
        self._sync_lock = threading.Lock()

    def append(self, line: bytes) -> None:
        """Write a line whole, or raise `OSError` and leave the file as it was."""
        try:
            written = os.write(self._file, line)
        except OSError:
            self._cut_to_size()
            raise
        if written != len(line):
            self._cut_to_size()
            raise OSError(28, "no space left on the device")
        self.size += written
        self.pending += 1
        self.appended += 1

    def _cut_to_size(self) -> None:
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, self.size)

    def sync(self, number: int) -> None:
        """Have the first `number` entries on the disk itself, where they survive a loss of power.

        One thread does it for all that were written before it began; the others wait for it, or do the next.
        """
        with self._sync_lock:
            if not self._synced:
                _sync_folder(self.path.parent)  # else the file itself may not be found again
            if self._synced < number:
                reached = self.appended
                os.fsync(self._file)
                self._synced = reached

    def clear(self) -> None:
        """All of it is in the database."""
        if self.size:
            os.ftruncate(self._file, 0)
            self.size = 0

    def close(self, *, remove: bool) -> None:
        """Let go of it."""
        if remove:
            with contextlib.suppress(OSError):
                self.path.unlink()
        with contextlib.suppress(OSError):
            os.close(self._file)

    def abandon(self) -> None:
        """In a forked child: the file is the parent's."""
        with contextlib.suppress(OSError):
            os.close(self._file)


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

    def append(self, entry: Entry, *, sync: bool = False) -> Segment:
        """Have the entry survive the process, or with `sync` a loss of power. Raises `OSError`."""
        line = entry.line()
        with self._lock:
            segment = self._segment()
            segment.append(line)
            number = segment.appended
        if sync:
            segment.sync(number)
        return segment

    def _segment(self) -> Segment:
        current = self._current
        if current is None or current.size >= SEGMENT:
            self._current = Segment(self.folder)
            if current is not None and not current.pending:
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
                segment.close(remove=True)

    def close(self) -> None:
        """Remove what is empty; what is not stays for whoever opens the ledger next."""
        with self._lock:
            current, self._current = self._current, None
        if current is not None:
            current.close(remove=not current.pending)

    def abandon(self) -> None:
        """In a forked child: nothing of this is the child's."""
        if self._current is not None:
            self._current.abandon()


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
        except (ValueError, TypeError):
            torn += 1
    return entries, torn
