"""No connection to SQLite is open in the moment in which the process forks.

SQLite keeps account of a process's locks on a file in memory. A forked child inherits the account, not the locks.
So a transaction that was under way would lock the child out for ever; and what the child commits would be lost when the
parent closes the file, as one that nobody else uses.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

PATIENCE = 30.0
"""Seconds that a fork waits for what is under way."""


class _Doorman:
    """Lets transactions through, and nobody while the process forks."""

    def __init__(self) -> None:
        self._closers: list[weakref.WeakMethod[Callable[[], None]]] = []
        self.renew()

    def renew(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._forks = 0

    def add(self, closer: Callable[[], None]) -> None:
        self._closers = [*(known for known in self._closers if known() is not None), weakref.WeakMethod(closer)]

    @contextlib.contextmanager
    def let_through(self) -> Iterator[None]:
        changed = self._changed  # the child has another one
        with changed:
            changed.wait_for(lambda: not self._forks, PATIENCE)
            self._inside += 1
        try:
            yield
        finally:
            with changed:
                self._inside -= 1
                changed.notify_all()

    def shut(self) -> None:
        self._changed.acquire()
        self._forks += 1
        self._changed.wait_for(lambda: self._inside <= 0, PATIENCE)
        for reference in self._closers:
            closer: Any = reference()
            if closer is not None:
                closer()

    def open(self) -> None:
        self._forks -= 1
        self._changed.notify_all()
        self._changed.release()


_doorman = _Doorman()

using_sqlite = _doorman.let_through
"""The block in which connections are used: a fork in another thread waits until it is left."""

close_before_fork = _doorman.add
"""Call a bound method that closes idle connections before each fork, for as long as its object lives."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_doorman.shut, after_in_parent=_doorman.open, after_in_child=_doorman.renew)
