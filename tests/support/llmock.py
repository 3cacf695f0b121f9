"""The real `llmock` server on loopback: a mock of the providers that nobody here wrote, and that judges its clients.

::

    with LLMock() as mock:
        mock.queue({"type": "fail", "status": 503, "retry_after": 0.01})
        ...                                     # talk to `mock.base_url()`
        mock.judge(calls=1, attempts=2)

It runs in a thread of its own and answers a few hundred requests a second: it is for behaviour, not for load. Unless a
fault says otherwise it asks for a second's patience with every error that is worth a retry, so give `retry_after`.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from llmock.journal import RequestRecord
from llmock.scenarios import behavior_from_dict
from llmock.testing import LLMockServer
from llmock.verdict import Verdict
from llmock.verdict import judge as verdict_on

JOURNAL_SECONDS = 5.0
"""How long its journal may take to hold what has been asked: a client can leave before the server has sent it all."""


class LLMock:
    """A running server, from `with` to its end."""

    def __init__(self) -> None:
        self._server = LLMockServer()

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.stop()

    def base_url(self, provider: str = "openai") -> str:
        """Where it plays this provider."""
        return self._server.base_url(provider)

    def queue(self, *behaviors: dict[str, Any]) -> None:
        """What the next requests meet, in the words of its `/_llmock/scenario`. Raises `ValueError` for a typo."""
        self._server.state.scenarios.add(*map(behavior_from_dict, behaviors))

    @property
    def unused(self) -> int:
        """How many queued behaviours are still waiting for a request."""
        return len(self._server.state.scenarios.pending())

    @property
    def requests(self) -> list[RequestRecord]:
        """What has been asked so far, in order."""
        return self._server.state.journal.records(wait=JOURNAL_SECONDS)

    def judge(self, *, calls: int, attempts: int, strict: bool = True) -> Verdict:
        """Its verdict on the client. Raises `AssertionError` with its report if the client misbehaved.

        It finds nothing wrong with a client that never called: so the numbers are compared first. `strict` counts its
        warnings too, among them one for each failure that is given up without a retry.
        """
        verdict = verdict_on(self.requests)
        assert (len(verdict.calls), verdict.attempts) == (calls, attempts), verdict.render()
        assert self.unused == 0, "a fault that was queued was never met"
        verdict.assert_ok(strict=strict)
        return verdict

    def reset(self) -> None:
        """Forget what was asked and what was queued."""
        self._server.state.reset()
