"""One process at a time does something with a folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[bool]:
    """Whether nobody else has the folder: then it is ours while the block lasts. Another one's is never waited for."""
    try:
        file = os.open(folder, os.O_RDONLY) if fcntl is not None else None
    except OSError:  # it is not there, or not ours to read: nobody does anything with it
        file = None
    if file is None:
        yield True
        return
    try:
        yield _locked(file)
    finally:
        os.close(file)


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # this file system has no locks
        return True
    return True
