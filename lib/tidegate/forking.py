"""What must be made anew in the child of an `os.fork()`: locks that another thread held, sockets, threads."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any

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
    os.register_at_fork(after_in_child=_in_child)
