"""What every provider that speaks JSON over HTTP shares: its account, its headers, what its refusals mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tidegate.chat.tools import ToolCall
from tidegate.errors import CallError, MalformedEvent, MalformedResponse
from tidegate.providers.base import Account
from tidegate.providers.refusals import Wording, error_from_response, readable, request_id
from tidegate.providers.wire import json_headers, json_post, malformed, read_event
from tidegate.transport.base import HttpRequest


class Speaker:
    """One provider at one address with one key. Shared by threads."""

    wordings: ClassVar[Wording] = ()
    """What its messages mean where its types and statuses say less."""

    def __init__(self, account: Account, headers: Mapping[str, str]) -> None:
        """`headers` are those of every request, the key's among them."""
        self.account = account
        self._headers = json_headers({**headers, **account.headers})

    @property
    def name(self) -> str:
        """The account's provider name."""
        return self.account.provider

    @property
    def key(self) -> str | None:
        """The key in clear, for a header."""
        key = self.account.api_key
        return key.get_secret_value() if key is not None else None

    def ready(self, seconds: float) -> None:
        """Nothing to do: the server is somebody else's."""

    def post(self, path: str, fields: Mapping[str, Any], *, streamed: bool = False) -> HttpRequest:
        """A POST to `path` below the account's address. Raises `ConfigError` for what cannot be written as JSON."""
        return json_post(self.account.base_url + path, self._headers, fields, streamed=streamed)

    def request_id(self, headers: Mapping[str, str]) -> str | None:
        """The provider's id of the request."""
        return request_id(headers, self.account.api_key)

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes, now: float) -> CallError:
        """The error that a response without a 2xx status means."""
        return error_from_response(status, headers, body, self.account.api_key, now, wordings=self.wordings)

    def unreadable(self, problem: str, body: bytes) -> MalformedResponse:
        """The error for a 2xx body that is JSON and no answer."""
        return MalformedResponse(problem, body=readable(body, self.account.api_key))


class EventReader:
    """What every decoder of a stream shares. Not shared by threads."""

    def __init__(self, account: Account, model: str) -> None:
        self.account = account
        self.model = model
        self.id: str | None = None
        self.finish_reason: str | None = None
        self.events: list[str] = []
        """What came, as it came."""
        self.finished = False
        """A finish reason or terminator has come: the answer is whole."""
        self.settled = False
        """Nothing that matters is still to come."""

    def read(self, data: str) -> Mapping[str, Any]:
        """The event's JSON object, which is kept. Raises `MalformedEvent`."""
        event = read_event(data, len(self.events) + 1, self.account.api_key)
        self.events.append(data)
        return event

    def unreadable(self, problem: str) -> MalformedEvent:
        """The error for the event that was read last."""
        return malformed(problem, self.events[-1], len(self.events), self.account.api_key)


class GrowingCall:
    """A tool call whose pieces are still coming."""

    __slots__ = ("arguments", "id", "name", "signature")

    def __init__(self, id: str = "", name: str = "") -> None:  # noqa: A002 (as the field is called)
        self.id = id
        self.name = name
        self.signature: str | None = None
        self.arguments: list[str] = []

    def built(self, empty: str = "") -> ToolCall:
        """The call as far as it has come; `empty` are the arguments of one that has none."""
        return ToolCall(self.id, self.name, "".join(self.arguments) or empty, self.signature)
