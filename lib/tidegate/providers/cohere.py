"""Cohere's chat, version 2.

Format: https://docs.cohere.com/v2/reference/chat and /v2/docs/streaming
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tidegate.chat.details import Citation, Thought, TokenLogprob
from tidegate.chat.embedding import EmbedRequest, Vector
from tidegate.chat.messages import Image, Message
from tidegate.chat.reply import Completion
from tidegate.chat.request import ChatRequest
from tidegate.chat.tools import Tool, ToolCall
from tidegate.chat.usage import Usage
from tidegate.errors import CallError, ConfigError, ContextLengthExceeded, ProviderUnavailable, QuotaExhausted
from tidegate.providers.base import Account, Delta
from tidegate.providers.instructions import with_instructions
from tidegate.providers.refusals import Wording, error_from_event
from tidegate.providers.speaker import EventReader, GrowingCall, Speaker
from tidegate.providers.vectors import vectors_in
from tidegate.providers.wire import (
    count,
    json_text,
    mapping,
    merged,
    number,
    objects,
    place,
    read_answer,
    string,
    text_of,
    without_names,
)
from tidegate.transport.base import HttpRequest

PLAN = "tool_plan"
"""The `id` of a thought that Cohere calls a plan, and wants back with the tool calls that it led to."""

_REASONS = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "ERROR_LIMIT": "length",
    "TOOL_CALL": "tool_calls",
    "ERROR_TOXIC": "content_filter",
}

_PURPOSES = {
    "document": "search_document",
    "query": "search_query",
    "classification": "classification",
    "clustering": "clustering",
}

_FAILED = frozenset({"ERROR", "TIMEOUT"})
"""Reasons to stop that are failures of the provider inside a 200."""


class CohereProvider(Speaker):
    """Chat at one address with one key."""

    wordings: ClassVar[Wording] = (
        ("too many tokens", ContextLengthExceeded),
        ("calls / month", QuotaExhausted),
    )

    def __init__(self, account: Account) -> None:
        key = account.api_key
        super().__init__(account, {"Authorization": f"Bearer {key.get_secret_value()}"} if key is not None else {})
        self._root = "" if account.base_url.endswith("/v2") else "/v2"

    def encode(self, request: ChatRequest, model: str, *, streamed: bool) -> HttpRequest:
        """A POST of the request as JSON. Raises `ConfigError` for what Cohere cannot say."""
        name = self.name
        without_names(name, request.messages)
        if request.logprobs:
            raise ConfigError(f"`{name}` gives the probabilities of the answer's own tokens only: say `logprobs=0`")
        if request.tools and request.schema is not None:
            request = with_instructions(request)  # its JSON mode and tools exclude each other
        tools, choice = _tools(request)
        fields = {
            "model": model,
            "messages": [self._message(message) for message in request.messages],
            "stream": streamed,
            "temperature": request.temperature,
            "p": request.top_p,
            "max_tokens": request.max_tokens,
            "stop_sequences": list(request.stop) or None,
            "seed": request.seed,
            "tools": tools or None,
            "strict_tools": True if any(tool.strict for tool in request.tools) else None,
            "tool_choice": choice,
            "response_format": None
            if request.schema is None
            else {"type": "json_object", "json_schema": request.schema},
            "thinking": self._thinking(request.reasoning),
            "logprobs": True if request.logprobs is not None else None,
        }
        return self.post(f"{self._root}/chat", merged(fields, request.options), streamed=streamed)

    def _thinking(self, reasoning: str | int | None) -> dict[str, Any] | None:
        if reasoning is None:
            return None
        if reasoning == "none":
            return {"type": "disabled"}
        if reasoning == "high":
            return {"type": "enabled"}
        if isinstance(reasoning, int):
            return {"type": "enabled", "token_budget": reasoning}
        raise ConfigError(f"`{self.name}` takes `reasoning` as `none`, `high` or a number of tokens, not {reasoning!r}")

    def _message(self, message: Message) -> dict[str, Any]:
        if message.role == "tool":
            return {"role": "tool", "tool_call_id": message.tool_call_id, "content": _result(message)}
        role = "system" if message.role == "developer" else message.role
        fields: dict[str, Any] = {"role": role, "content": _content(message)}
        if message.role == "assistant":
            self._remember(message, fields)
        return fields

    def _remember(self, message: Message, fields: dict[str, Any]) -> None:
        """Put what the model thought and what it called into its own turn."""
        own = [thought for thought in message.thoughts if thought.provider == self.name]
        plan = "".join(thought.text for thought in own if thought.id == PLAN)
        thinking = [{"type": "thinking", "thinking": thought.text} for thought in own if thought.id != PLAN]
        if thinking:
            said = fields["content"]
            fields["content"] = thinking + ([{"type": "text", "text": said}] if isinstance(said, str) and said else [])
        if message.tool_calls:
            fields["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in message.tool_calls
            ]
            if plan:
                fields["tool_plan"] = plan
            if not fields["content"]:
                del fields["content"]

    def decode(self, body: bytes, model: str) -> Completion:
        """The answer in a 2xx body."""
        answer = read_answer(body, self.account.api_key)
        message = mapping(answer).get("message")
        reason = string(mapping(answer).get("finish_reason"))
        if reason in _FAILED:
            raise _failure(reason, answer)
        if isinstance(answer, Mapping) and (answer.get("error") or isinstance(message, str)):
            raise error_from_event(answer, self.account.api_key, self.wordings)
        if not isinstance(message, Mapping):
            raise self.unreadable("the answer has no `message`", body)
        content = message.get("content")
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else objects(content)
        thinking = "".join(text_of(part.get("thinking")) for part in parts if part.get("type") == "thinking")
        return _completion(
            self.name,
            string(answer.get("model")) or model,
            text="".join(text_of(part.get("text")) for part in parts if part.get("type") == "text"),
            thinking=thinking,
            plan=text_of(message.get("tool_plan")),
            reason=reason,
            usage=read_usage(answer.get("usage")),
            calls=[_call(each) for each in objects(message.get("tool_calls"))],
            citations=[_citation(each) for each in objects(message.get("citations"))],
            logprobs=[found for each in objects(answer.get("logprobs")) for found in _logprobs(each)],
            id=string(answer.get("id")),
            raw=answer,
        )

    embed_batch = 96
    """The most that it takes: https://docs.cohere.com/v2/reference/embed"""

    def encode_embed(self, request: EmbedRequest, model: str) -> HttpRequest:
        """A POST of texts to embed. Cohere wants to be told for what; without a word they are documents."""
        purpose = _PURPOSES.get(request.purpose or "document")
        if purpose is None:
            raise ConfigError(f"`{self.name}` takes `purpose` as {', '.join(_PURPOSES)}, not {request.purpose!r}")
        fields = {
            "model": model,
            "texts": list(request.texts),
            "input_type": purpose,
            "embedding_types": ["float"],
            "output_dimension": request.dimensions,
        }
        return self.post(f"{self._root}/embed", merged(fields, request.options))

    def decode_embed(self, body: bytes, model: str, texts: int) -> tuple[tuple[Vector, ...], Usage | None, str]:
        """Their vectors."""
        answer = mapping(read_answer(body, self.account.api_key))
        found = vectors_in(mapping(answer.get("embeddings")).get("float"), texts)
        if isinstance(found, str):
            raise self.unreadable(f"the answer cannot be read: {found}", body)
        return found, read_usage(answer.get("meta")), model

    def stream_decoder(self, model: str) -> CohereStreamDecoder:
        """A new decoder for one stream."""
        return CohereStreamDecoder(self.account, model)


class CohereStreamDecoder(EventReader):
    """Reads events whose `type` says what they are; the last one says why it stopped and what it cost."""

    def __init__(self, account: Account, model: str) -> None:
        super().__init__(account, model)
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._plan: list[str] = []
        self._calls: dict[int, GrowingCall] = {}
        self._citations: list[Citation] = []
        self._logprobs: list[TokenLogprob] = []
        self._usage: Usage | None = None

    def feed(self, event: str, data: str) -> Delta | None:
        """One event. Raises `MalformedEvent`, or the error that the event is."""
        if data.strip() == "[DONE]":
            self.settled = self.settled or self.finished
            return None
        said = self.read(data)
        kind = string(said.get("type")) or event
        if kind == "error" or (said.get("error") and "type" not in said):
            raise error_from_event(said.get("error") or said, self.account.api_key, CohereProvider.wordings)
        delta = mapping(said.get("delta"))
        if kind == "message-start":
            self.id = string(said.get("id"))
        elif kind == "message-end":
            return self._end(delta)
        elif kind in ("content-start", "content-delta"):
            return self._grow(mapping(delta.get("message")).get("content"), said.get("logprobs"))
        elif kind == "tool-plan-delta":
            plan = text_of(mapping(delta.get("message")).get("tool_plan"))
            self._plan.append(plan)
            return Delta(reasoning=plan, content=bool(plan))
        elif kind in ("tool-call-start", "tool-call-delta"):
            return self._grow_call(place(said.get("index")), mapping(delta.get("message")).get("tool_calls"))
        elif kind == "citation-start":
            cited = mapping(delta.get("message")).get("citations")
            self._citations += [_citation(each) for each in objects([cited] if isinstance(cited, Mapping) else cited)]
        return None

    def _grow(self, content: object, logprobs: object) -> Delta:
        text, thinking = text_of(mapping(content).get("text")), text_of(mapping(content).get("thinking"))
        self._text.append(text)
        self._thinking.append(thinking)
        if isinstance(logprobs, Mapping):
            self._logprobs += _logprobs(logprobs)
        return Delta(text, thinking, content=bool(text or thinking))

    def _grow_call(self, index: int | None, piece: object) -> Delta:
        if isinstance(piece, list):
            piece = piece[0] if piece else None
        if not isinstance(piece, Mapping):
            raise self.unreadable("its `tool_calls` are not an object")
        call = self._calls.setdefault(len(self._calls) if index is None else index, GrowingCall())
        function = mapping(piece.get("function"))
        call.id = call.id or text_of(piece.get("id"))
        call.name = call.name or text_of(function.get("name"))
        call.arguments.append(json_text(function.get("arguments")))
        return Delta(content=True)

    def _end(self, delta: Mapping[str, Any]) -> Delta:
        reason = string(delta.get("finish_reason"))
        if reason in _FAILED:
            raise _failure(reason, delta)
        self._usage = read_usage(delta.get("usage"))
        self.finished = self.settled = True
        self.finish_reason = _REASONS.get(reason, reason) if reason is not None else None
        return Delta(finish_reason=self.finish_reason, content=self.finish_reason is not None)

    def completion(self) -> Completion:
        """The answer so far."""
        return _completion(
            self.account.provider,
            self.model,
            text="".join(self._text),
            thinking="".join(self._thinking),
            plan="".join(self._plan),
            reason=self.finish_reason,
            usage=self._usage,
            calls=[call.built(empty="{}") for _, call in sorted(self._calls.items())],
            citations=self._citations,
            logprobs=self._logprobs,
            id=self.id,
            raw=list(self.events),
        )


def _completion(
    provider: str,
    model: str,
    *,
    text: str,
    thinking: str,
    plan: str,
    reason: str | None,
    usage: Usage | None,
    calls: list[ToolCall],
    citations: list[Citation],
    logprobs: list[TokenLogprob],
    id: str | None,  # noqa: A002 (as the field is called)
    raw: object,
) -> Completion:
    thoughts = (Thought(thinking, provider=provider), Thought(plan, id=PLAN, provider=provider))
    return Completion(
        text=text,
        provider=provider,
        model=model,
        finish_reason=_REASONS.get(reason, reason) if reason is not None else None,
        usage=usage,
        tool_calls=tuple(calls),
        reasoning=thinking + plan,
        id=id,
        thoughts=tuple(thought for thought in thoughts if thought.text),
        citations=tuple(citations),
        logprobs=tuple(logprobs),
        raw_data=raw,
    )


def _failure(reason: str | None, said: Mapping[str, Any]) -> CallError:
    why = string(said.get("error"))
    return ProviderUnavailable(
        f"the provider ended the answer with {reason}{f': {why[:300]}' if why else ''}", code=reason
    )


def _tools(request: ChatRequest) -> tuple[list[dict[str, Any]], str | None]:
    """The tools and whether one has to be called. A single one is chosen by leaving the others out."""
    choice = request.tool_choice
    if choice in (None, "auto"):
        return [_tool(tool) for tool in request.tools], None
    if choice in ("none", "required"):
        return [_tool(tool) for tool in request.tools], choice.upper()
    return [_tool(tool) for tool in request.tools if tool.name == choice], "REQUIRED"


def _tool(tool: Tool) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
    }


def _result(message: Message) -> str:
    if any(isinstance(part, Image) for part in message.content):
        raise ConfigError("`cohere` takes no pictures in a tool's result")
    return message.text


def _content(message: Message) -> str | list[dict[str, Any]]:
    if isinstance(message.content, str):
        return message.content
    return [
        {"type": "text", "text": part.text}
        if not isinstance(part, Image)
        else {
            "type": "image_url",
            "image_url": {"url": part.url} if part.detail is None else {"url": part.url, "detail": part.detail},
        }
        for part in message.content
    ]


def _call(call: Mapping[str, Any]) -> ToolCall:
    function = mapping(call.get("function"))
    return ToolCall(
        text_of(call.get("id")), text_of(function.get("name")), json_text(function.get("arguments")) or "{}"
    )


def _citation(cited: Mapping[str, Any]) -> Citation:
    source = next(iter(objects(cited.get("sources"))), {})
    document = mapping(source.get("document"))
    title = string(document.get("title"))
    return Citation(
        text=text_of(cited.get("text")),
        start=place(cited.get("start")),
        end=place(cited.get("end")),
        source=string(document.get("url")) or string(source.get("id")) or title,
        title=title,
        quote=text_of(document.get("snippet")) or text_of(document.get("text")),
        raw=cited,
    )


def _logprobs(item: Mapping[str, Any]) -> list[TokenLogprob]:
    """Of a piece of text: Cohere gives each of its tokens a number, but says the text of them all together."""
    values = item.get("logprobs")
    found = [number(value) for value in values] if isinstance(values, list) else []
    text = text_of(item.get("text"))
    return [TokenLogprob(text if index == 0 else "", value) for index, value in enumerate(found)]


def read_usage(usage: object) -> Usage | None:
    """What Cohere bills, else what it counted; None when it says neither."""
    billed, counted = mapping(mapping(usage).get("billed_units")), mapping(mapping(usage).get("tokens"))
    figures = billed if count(billed, "input_tokens") is not None else counted
    into, out = count(figures, "input_tokens"), count(figures, "output_tokens")
    if into is None and out is None:
        return None
    into = into or 0
    return Usage(into, out or 0, min(count(usage, "cached_tokens") or 0, into))
