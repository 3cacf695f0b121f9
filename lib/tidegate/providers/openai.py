"""OpenAI's chat completions, and every API that speaks the same with small differences (`Dialect`).

Format: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidegate import jsontext
from tidegate.chat.messages import Image, Message
from tidegate.chat.reply import Completion
from tidegate.chat.request import ChatRequest
from tidegate.chat.tools import Tool, ToolCall
from tidegate.chat.usage import Usage
from tidegate.errors import CallError, ConfigError, MalformedEvent, MalformedResponse
from tidegate.providers.base import Account, Delta
from tidegate.providers.refusals import (
    READ_LIMIT,
    error_from_event,
    error_from_response,
    readable,
    redacted,
    request_id,
)
from tidegate.transport.base import HttpRequest
from tidegate.version import USER_AGENT


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a host differs from OpenAI."""

    max_tokens: str = "max_tokens"
    """The field that bounds the answer. OpenAI itself renamed it; its newer models refuse the old name."""
    seed: str = "seed"
    stream_usage: bool = True
    """Whether usage in a stream must be asked for, by `stream_options`."""
    developer_role: bool = False
    """Whether the role `developer` is known; else it is sent as `system`."""


class OpenAIProvider:
    """Chat completions at one address with one key."""

    def __init__(self, account: Account, dialect: Dialect = Dialect()) -> None:
        self.account = account
        self.dialect = dialect
        key = account.api_key
        self._url = f"{account.base_url}/chat/completions"
        self._headers = {
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            **({"Authorization": f"Bearer {key.get_secret_value()}"} if key is not None else {}),
            **account.headers,
        }

    @property
    def name(self) -> str:
        """The account's provider name."""
        return self.account.provider

    def ready(self, seconds: float) -> None:
        """Nothing to do: the server is somebody else's."""

    def encode(self, request: ChatRequest, model: str, *, streamed: bool) -> HttpRequest:
        """A POST of the request as JSON."""
        try:
            body = jsontext.encode(self._body(request, model, streamed=streamed))
        except ValueError as error:
            problem = str(error)
        else:
            headers = {
                **self._headers,
                "Accept": "text/event-stream" if streamed else "application/json",
                # A compressed stream would be held back by whoever compresses it.
                "Accept-Encoding": "identity" if streamed else "gzip, deflate",
                "Content-Length": str(len(body)),
            }
            return HttpRequest("POST", self._url, headers, body, streamed=streamed)
        raise ConfigError(f"the request cannot be written as JSON: {problem}")

    def _body(self, request: ChatRequest, model: str, *, streamed: bool) -> dict[str, Any]:
        dialect = self.dialect
        fields = {
            "model": model,
            "messages": [self._message(message) for message in request.messages],
            "temperature": request.temperature,
            dialect.max_tokens: request.max_tokens,
            "tools": [_tool(tool) for tool in request.tools] or None,
            "response_format": _response_format(request),
            "stop": list(request.stop) or None,
            dialect.seed: request.seed,
            "stream": True if streamed else None,
            "stream_options": {"include_usage": True} if streamed and dialect.stream_usage else None,
        }
        body = {name: value for name, value in fields.items() if value is not None}
        body.update(request.options)
        return body

    def _message(self, message: Message) -> dict[str, Any]:
        role = message.role
        if role == "developer" and not self.dialect.developer_role:
            role = "system"
        fields: dict[str, Any] = {"role": role, "content": _content(message)}
        if message.tool_calls:
            fields["content"] = fields["content"] or None
            fields["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in message.tool_calls
            ]
        if message.tool_call_id is not None:
            fields["tool_call_id"] = message.tool_call_id
        if message.name is not None:
            fields["name"] = message.name
        return fields

    def decode(self, body: bytes, model: str) -> Completion:
        """The first choice of the answer."""
        try:
            answer = jsontext.decode(body)
        except ValueError as caught:
            problem = f"the answer is not JSON: {caught}" if body.strip() else "the answer is empty"
        else:
            failure = _failure(answer)
            if failure:
                raise error_from_event(failure, self.account.api_key)
            completion = self._completion(answer, model)
            if completion is not None:
                return completion
            problem = "the answer has no choices with a message"
        raise MalformedResponse(problem, body=readable(body, self.account.api_key))

    def _completion(self, answer: Any, model: str) -> Completion | None:  # noqa: ANN401 (any JSON value)
        choices = answer.get("choices") if isinstance(answer, Mapping) else None
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = choice.get("message") if isinstance(choice, Mapping) else None
        if not isinstance(choice, Mapping) or not isinstance(message, Mapping):
            return None
        return Completion(
            text=_text(message.get("content")),
            provider=self.name,
            model=_string(answer.get("model")) or model,
            finish_reason=_finish_reason(choice.get("finish_reason")),
            usage=read_usage(answer.get("usage")),
            tool_calls=tuple(_tool_calls(message.get("tool_calls"))),
            reasoning=_text(message.get("reasoning_content") or message.get("reasoning")),
            refusal=_string(message.get("refusal")),
            id=_string(answer.get("id")),
            raw_data=answer,
        )

    def stream_decoder(self, model: str) -> OpenAIStreamDecoder:
        """A new decoder for one stream."""
        return OpenAIStreamDecoder(self.account, model)

    def request_id(self, headers: Mapping[str, str]) -> str | None:
        """The provider's id of the request."""
        return request_id(headers, self.account.api_key)

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes, now: float) -> CallError:
        """The error that a response without a 2xx status means."""
        return error_from_response(status, headers, body, self.account.api_key, now)


class OpenAIStreamDecoder:
    """Reads `chat.completion.chunk` events: unnamed, the last with the usage and no choices, then `[DONE]`."""

    def __init__(self, account: Account, model: str) -> None:
        self._account = account
        self._model = model
        self._id: str | None = None
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._calls: dict[int, _GrowingCall] = {}
        self._finish_reason: str | None = None
        self._usage: Usage | None = None
        self._events: list[str] = []
        self.finished = False
        self.settled = False

    def feed(self, event: str, data: str) -> Delta | None:
        """One event. Raises `MalformedEvent`, or the error that the event is."""
        if data.strip() == "[DONE]":
            self.finished = self.settled = True
            return None
        chunk = self._read(data)
        failure = _failure(chunk)
        if failure or event == "error":
            raise error_from_event(failure or chunk, self._account.api_key)
        if self._id is None:
            self._id = _string(chunk.get("id"))
            self._model = _string(chunk.get("model")) or self._model
        usage = read_usage(chunk.get("usage"))
        self._usage = usage or self._usage
        delta = self._first_choice(chunk.get("choices"), data)
        # Some hosts count with every chunk: figures from before the finish reason may not be the last.
        self.settled = self.finished and usage is not None
        self._events.append(data)
        return delta

    def _first_choice(self, choices: Any, data: str) -> Delta | None:  # noqa: ANN401 (any JSON value)
        if not choices:
            return None
        choice = choices[0] if isinstance(choices, list) else None
        if not isinstance(choice, Mapping):
            raise self._malformed("its `choices` are not a list of objects", data)
        # With `n` > 1 among the options the choices come interleaved; the first is the answer, `raw` has all.
        return self._choice(choice, data) if not choice.get("index") else None

    def _read(self, data: str) -> Mapping[str, Any]:
        try:
            chunk = jsontext.decode(data)
        except ValueError as caught:
            problem = str(caught)
        else:
            if isinstance(chunk, Mapping):
                return chunk
            problem = "it is not an object"
        raise self._malformed(problem, data)

    def _malformed(self, problem: str, data: str) -> MalformedEvent:
        number = len(self._events) + 1
        body = redacted(data[:READ_LIMIT], self._account.api_key)
        return MalformedEvent(f"event {number} of the stream cannot be read: {problem}", body=body)

    def _choice(self, choice: Mapping[str, Any], data: str) -> Delta:
        delta = choice.get("delta") or {}
        if not isinstance(delta, Mapping):
            raise self._malformed("its `delta` is not an object", data)
        text = _text(delta.get("content"))
        reasoning = _text(delta.get("reasoning_content") or delta.get("reasoning"))
        refusal = _string(delta.get("refusal"))
        calls = delta.get("tool_calls")
        if text:
            self._text.append(text)
        if reasoning:
            self._reasoning.append(reasoning)
        if refusal:
            self._refusal.append(refusal)
        if calls:
            self._grow(calls, data)
        reason = _finish_reason(choice.get("finish_reason"))
        if reason is not None:
            self._finish_reason = reason
            self.finished = True
        return Delta(text, reasoning, reason, bool(text or reasoning or refusal or calls or reason))

    def _grow(self, calls: Any, data: str) -> None:  # noqa: ANN401 (any JSON value)
        """Pieces of tool calls: the first has the id and name, the others more of the arguments."""
        if not isinstance(calls, list) or not all(isinstance(piece, Mapping) for piece in calls):
            raise self._malformed("its `tool_calls` are not a list of objects", data)
        for piece in calls:
            index = piece.get("index")
            call = self._calls.setdefault(index if isinstance(index, int) else len(self._calls), _GrowingCall())
            function = piece.get("function")
            function = function if isinstance(function, Mapping) else {}
            call.id = call.id or _string(piece.get("id")) or ""
            call.name = call.name or _string(function.get("name")) or ""
            call.arguments.append(_arguments(function.get("arguments")))

    def completion(self) -> Completion:
        """The answer so far."""
        return Completion(
            text="".join(self._text),
            provider=self._account.provider,
            model=self._model,
            finish_reason=self._finish_reason,
            usage=self._usage,
            tool_calls=tuple(call.built() for _, call in sorted(self._calls.items())),
            reasoning="".join(self._reasoning),
            refusal="".join(self._refusal) or None,
            id=self._id,
            raw_data=list(self._events),
        )


class _GrowingCall:
    """A tool call whose pieces are still coming."""

    __slots__ = ("arguments", "id", "name")

    def __init__(self) -> None:
        self.id = self.name = ""
        self.arguments: list[str] = []

    def built(self) -> ToolCall:
        return ToolCall(self.id, self.name, "".join(self.arguments))


def _failure(answer: Any) -> Any:  # noqa: ANN401 (any JSON value)
    """The error that an answer or an event is: in `error`, by itself, or (at OpenRouter) in its first choice."""
    if not isinstance(answer, Mapping):
        return None
    if answer.get("object") == "error":
        return answer.get("error") or answer
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    return answer.get("error") or (choice.get("error") if isinstance(choice, Mapping) else None)


def _content(message: Message) -> str | list[dict[str, Any]]:
    if isinstance(message.content, str):
        return message.content
    return [
        _image(part) if isinstance(part, Image) else {"type": "text", "text": part.text} for part in message.content
    ]


def _image(image: Image) -> dict[str, Any]:
    address = {"url": image.url} if image.detail is None else {"url": image.url, "detail": image.detail}
    return {"type": "image_url", "image_url": address}


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _response_format(request: ChatRequest) -> dict[str, Any] | None:
    if request.schema is None:
        return None
    return {"type": "json_schema", "json_schema": {"name": request.schema_name, "schema": request.schema}}


def _string(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _text(content: object) -> str:
    """Text of a message or delta: a string, or (at some hosts) a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
    return ""


def _finish_reason(reason: object) -> str | None:
    """OpenAI's own words are tidegate's; those that mean the same are made so, and any other passes through."""
    return _SAME_REASON.get(reason, reason) if isinstance(reason, str) else None


_SAME_REASON = {"function_call": "tool_calls", "eos": "stop"}
"""OpenAI's old word, and Together's for an answer that ended by itself."""


def _tool_calls(calls: object) -> list[ToolCall]:
    found = []
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, Mapping) else None
        if isinstance(function, Mapping):
            arguments = _arguments(function.get("arguments")) or "{}"
            found.append(ToolCall(_string(call.get("id")) or "", _string(function.get("name")) or "", arguments))
    return found


def _arguments(arguments: object) -> str:
    """The JSON text of a call's arguments; some hosts send them as an object."""
    return jsontext.encode(arguments).decode() if isinstance(arguments, Mapping) else _string(arguments) or ""


def read_usage(usage: object) -> Usage | None:
    """OpenAI's usage object; None when it has no counts."""
    if not isinstance(usage, Mapping):
        return None
    into, out = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    if into is None and out is None:
        return None
    cached = _count(usage.get("prompt_tokens_details"), "cached_tokens") or 0
    thought = _count(usage.get("completion_tokens_details"), "reasoning_tokens") or 0
    into, out = into or 0, out or 0
    if thought and _count(usage, "total_tokens") == into + out + thought:
        out += thought  # xAI counts what was thought beside the answer; OpenAI within it
    return Usage(into, out, min(cached, into), 0, min(thought, out))


def _count(source: object, name: str) -> int | None:
    """A token count; None for whatever is none (absent, null, negative, a string)."""
    value = source.get(name) if isinstance(source, Mapping) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
