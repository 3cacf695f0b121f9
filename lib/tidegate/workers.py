"""The threads of `submit`. A call that waits for one of them still ends with its deadline, or when it is cancelled."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from tidegate.chat.reply import Completion
from tidegate.clock import CancelToken, Deadline
from tidegate.transport.watchdog import WATCHDOG, Guard

Work = Callable[[], Completion]


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
