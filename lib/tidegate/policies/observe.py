"""Outermost of all: stops the watch of a call and tells how it ended, once, whatever happened inside."""

from __future__ import annotations

from collections.abc import Callable

from tidegate.chat.reply import Completion, Ending, Reply
from tidegate.errors import CallError, Cancelled
from tidegate.pipeline.call import Call
from tidegate.pipeline.chain import Proceed
from tidegate.pipeline.events import CallEnded, Event


class ObservePolicy:
    """One `CallEnded` a call."""

    def __init__(self, announce: Callable[[Event], None]) -> None:
        self._announce = announce

    def __call__(self, call: Call, proceed: Proceed) -> Reply:
        """The reply, watched to its end."""
        try:
            reply = proceed(call)
        except CallError as error:
            self._end(call, None, error)
            raise
        except BaseException as stop:  # Ctrl-C and the like: the call is over all the same
            self._end(call, None, Cancelled(f"the call was stopped by {type(stop).__name__}"))
            raise
        if isinstance(reply, Completion):
            self._end(call, reply, None)
        else:
            reply.when_done(lambda ending: self._ended(call, ending))
        return reply

    def _ended(self, call: Call, ending: Ending) -> None:
        self._end(call, ending.completion, ending.error)

    def _end(self, call: Call, completion: Completion | None, error: CallError | None) -> None:
        call.trace.end()
        if error is not None:
            error.locate(call.route.provider, call.route.model)
            error.attempts = tuple(call.trace.attempts)
        self._announce(CallEnded(call, completion, error))

    def __repr__(self) -> str:
        return "Observe"
