"""The threads of `submit`. A call that waits for one of them still ends with its deadline, or when it is cancelled."""

from __future__ import annotations

import contextlib
import math
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from tidegate.chat.reply import Completion
from tidegate.clock import CancelToken, Deadline
from tidegate.transport.watchdog import WATCHDOG, Guard

Work = Callable[[], Completion]

EXIT_GRACE = 2.0
"""Seconds that calls without a deadline have left when the program is over, and those of a `map` that nobody takes."""


class Workers:
    """`count` threads that work off what is queued, and one more for what cannot wait for them any longer."""

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="tidegate")
        self._overdue = ThreadPoolExecutor(1, thread_name_prefix="tidegate-overdue")

    def submit(self, work: Work, deadline: Deadline, cancel: CancelToken) -> Future[Completion]:
        """Do `work` in a free thread, or at once when its deadline has passed or its token is cancelled.

        It is expected to see to both first, so that it fails without delay then.
        """
        queued = _Queued(work)
        self._pool.submit(queued.run)
        queued.hasten_by(lambda: self._overdue.submit(queued.run), deadline, cancel)
        return queued.future

    def close(self, *, cancel: bool) -> None:
        """Wait for what was queued; with `cancel` only for what has begun: the rest must have been cancelled."""
        self._pool.shutdown(wait=True, cancel_futures=cancel)
        self._overdue.shutdown(wait=True)


class _Queued:
    """Work that two threads may come for: the first does it."""

    def __init__(self, work: Work) -> None:
        self.future: Future[Completion] = Future()
        self._work = work
        self._taken = threading.Lock()
        self._guard = Guard(WATCHDOG)
        self._forget: Callable[[], None] = _nothing

    def hasten_by(self, hasten: Callable[[], object], deadline: Deadline, cancel: CancelToken) -> None:
        """Call `hasten` when the time is over or the token is cancelled, unless the work was begun before."""

        def late() -> None:
            with contextlib.suppress(RuntimeError):  # the interpreter ends, and no thread begins any more
                hasten()

        self._guard.wake_by(late)
        if deadline.at < math.inf:
            self._guard.until(deadline.at, "deadline")
        self._forget = cancel.on_cancel(late)
        if self._taken.locked():  # it was begun meanwhile, perhaps before there was anything to forget
            self._unwatch()

    def run(self) -> None:
        """Do the work, unless another thread does or the future was cancelled."""
        if not self._taken.acquire(blocking=False):
            return
        self._unwatch()
        future, work = self.future, self._work
        if not future.set_running_or_notify_cancel():
            return
        try:
            completion = work()
        except BaseException as error:  # noqa: BLE001 (whatever it is, it is the future's)
            future.set_exception(error)
            del self, future  # the error's traceback holds this frame: no circle through the future
        else:
            future.set_result(completion)

    def _unwatch(self) -> None:
        self._guard.finish()
        self._forget()


def _nothing() -> None: ...


_at_exit: weakref.WeakSet[CancelToken] = weakref.WeakSet()


def cancel_at_exit(token: CancelToken) -> None:
    """Cancel `token` `EXIT_GRACE` seconds after the program is over.

    The interpreter waits for the threads of an executor before it ends: for a call without a deadline, for ever.
    """
    _at_exit.add(token)


def _leave() -> None:
    timer = threading.Timer(EXIT_GRACE, _cancel_all)
    timer.daemon = True
    timer.start()


def _cancel_all() -> None:
    for token in tuple(_at_exit):
        token.cancel()


# `atexit` would be too late: its functions are called when all threads have ended. `concurrent.futures`, which joins
# its threads by this hook too, has registered before, and is called after.
_on_last_thread: Callable[[Callable[[], None]], None] | None = getattr(threading, "_register_atexit", None)
if _on_last_thread is not None:
    with contextlib.suppress(RuntimeError):  # imported while the interpreter ends
        _on_last_thread(_leave)
