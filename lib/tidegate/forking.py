"""What must be made anew in the child of an `os.fork()`: locks that another thread held, sockets, threads."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

_undisturbed = threading.RLock()


@contextlib.contextmanager
def no_fork() -> Iterator[None]:
    """A fork in another thread waits until the block is left. For imports that are made late.

    A child that is forked while another thread imports a module inherits the module's lock, and waits for ever when it
    imports the module itself.
    """
    with _undisturbed:
        yield


_resets: list[weakref.WeakMethod[Callable[[], None]]] = []


def reset_in_child(method: Callable[[], None]) -> None:
    """Call the bound `method` in every forked child for as long as its object lives."""
    if len(_resets) % 64 == 63:
        _resets[:] = [kept for kept in _resets if kept() is not None]
    _resets.append(weakref.WeakMethod(method))


def _in_child() -> None:
    for reference in tuple(_resets):
        reset: Any = reference()
        if reset is not None:
            reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_undisturbed.acquire, after_in_parent=_undisturbed.release, after_in_child=_undisturbed.release
    )
    os.register_at_fork(after_in_child=_in_child)
