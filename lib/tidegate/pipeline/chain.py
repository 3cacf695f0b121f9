"""Policies and how they are put one round the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from tidegate.chat.reply import Reply
from tidegate.pipeline.call import Call

Proceed = Callable[[Call], Reply]
"""The rest of the corridor. Raises a `CallError`, or answers a reply that will say when it is done."""


class Policy(Protocol):
    """Acts before, calls `proceed` (not at all, once or several times), acts after.

    What it takes before it must settle exactly once: in the error path, or in the reply's `when_done`.
    """

    def __call__(self, call: Call, proceed: Proceed) -> Reply:
        """Carry the call."""
        ...


def fold(policies: Sequence[Policy], dispatch: Proceed) -> Proceed:
    """One callable for the whole corridor, the first policy outermost."""
    proceed = dispatch
    for policy in reversed(policies):
        proceed = partial(_step, policy, proceed)
    return proceed


def _step(policy: Policy, proceed: Proceed, call: Call) -> Reply:
    return policy(call, proceed)
