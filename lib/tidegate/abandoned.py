"""Closes what the program dropped without closing.

A destructor runs wherever the garbage collector happens to strike, possibly inside a critical section of the same
thread, so it must take no lock. `SimpleQueue.put` is made for that; a daemon thread does the rest.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import Protocol


class Closeable(Protocol):
    """Something with a `close()`."""

    def close(self) -> None:
        """Free what it holds."""
        ...


_dropped: queue.SimpleQueue[Closeable] = queue.SimpleQueue()
_thread: threading.Thread | None = None


def watch_for_dropped() -> None:
    """Have the closing thread running (also in a forked child). Call it where closeable things are made."""
    global _thread  # noqa: PLW0603 (one thread a process)
    if _thread is None or not _thread.is_alive():
        _thread = threading.Thread(target=_close_all, args=(_dropped,), name="tidegate-abandoned", daemon=True)
        _thread.start()


def close_later(dropped: Closeable) -> None:
    """Close it soon, in another thread. Safe in a destructor."""
    _dropped.put(dropped)


def _close_all(waiting: queue.SimpleQueue[Closeable]) -> None:
    # `waiting` is a variable of this thread's own: the interpreter stops the thread at its exit where it stands and
    # never frees its frame, so what still waits is not freed among modules that have been torn down, noisily.
    while True:
        dropped = waiting.get()
        with contextlib.suppress(Exception):  # nobody is left to tell, and the thread must live on
            dropped.close()
        del dropped
