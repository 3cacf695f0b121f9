"""Closes what the program dropped without closing, and what is still open when it ends.

A destructor runs wherever the garbage collector happens to strike, possibly inside a critical section of the same
thread, so it must take no lock. `SimpleQueue.put` is made for that; a daemon thread does the rest.
"""

from __future__ import annotations

import atexit
import contextlib
import queue
import threading
import weakref
from typing import Protocol

from tidegate.forking import reset_in_child


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


class Settleable(Protocol):
    """Something with a `settle()`."""

    def settle(self) -> None:
        """Enter what it came to, and wake nobody."""
        ...


_open: weakref.WeakSet[Settleable] = weakref.WeakSet()


def settle_at_exit(opened: Settleable) -> None:
    """Settle it when the program ends, if it still is there: what it cost is to be entered."""
    _open.add(opened)


# When this runs, all threads but daemons have ended. One of those may wait for the next chunk: to close what it waits
# for would have it die of an error, noisily.
@atexit.register
def _settle_open() -> None:
    for opened in list(_open):
        with contextlib.suppress(Exception):  # the program is over, and nobody is left to tell
            opened.settle()


reset_in_child(_open.clear)  # what was open in the parent is the parent's


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
