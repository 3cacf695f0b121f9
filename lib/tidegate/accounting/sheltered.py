"""Work that Ctrl-C must not break off half-way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def sheltered(work: Callable[[], T]) -> T:
    """What `work` answers or raises. Ctrl-C ends the wait for it, and the work goes on.

    Signals strike the main thread alone, so the work is done in another one. Struck within a database's driver, they
    leave connections behind that hold a lock, which nobody can use and nobody can close.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    future: Future[T] = Future()
    thread = threading.Thread(target=_carry, args=(work, future), name="tidegate-sheltered", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no more threads, or the interpreter ends
        return work()
    return future.result()


def _carry(work: Callable[[], T], future: Future[T]) -> None:
    try:
        answer = work()
    except BaseException as error:  # noqa: BLE001 (it is raised by whoever waits)
        future.set_exception(error)
    else:
        future.set_result(answer)
