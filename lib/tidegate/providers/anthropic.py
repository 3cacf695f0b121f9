"""Anthropic's Messages.

Format: https://docs.anthropic.com/en/api/messages and /en/api/messages-streaming
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tidegate.catalog import facts
from tidegate.chat.details import Citation, Thought
from tidegate.chat.messages import Image, Message
from tidegate.chat.reply import Completion
from tidegate.chat.request import ChatRequest
from tidegate.chat.tools import Tool, ToolCall
from tidegate.chat.usage import Usage
from tidegate.errors import ConfigError, ContextLengthExceeded, QuotaExhausted
from tidegate.providers.base import Account, Delta
from tidegate.providers.instructions import with_instructions
from tidegate.providers.refusals import error_from_event
from tidegate.providers.schemas import can_be_closed, closed
from tidegate.providers.speaker import EventReader, GrowingCall, Speaker
from tidegate.providers.wire import (
    count,
    json_text,
    mapping,
    merged,
    objects,
    place,
    read_answer,
    string,
    text_of,
    unable,
    without_names,
)
from tidegate.transport.base import HttpRequest

VERSION = "2023-06-01"
"""Of the API: https://docs.anthropic.com/en/api/versioning"""

ANSWER_BOUND = 8_192
"""Tokens of an answer that nobody bounds, for Anthropic wants a bound; less where the model gives less."""

THINKING_BUDGETS = {"minimal": 1_024, "low": 1_024, "medium": 4_096, "high": 16_384}
"""Tokens that an effort by name stands for where a model wants a number; 1,024 is the least that it takes."""

FORCED = "tidegate_answer"
"""The tool that is forced where a model has no native JSON-schema output: its arguments are the answer."""

_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class AnthropicProvider(Speaker):
    """Messages at one address with one key."""

    wordings = (
        ("prompt is too long", ContextLengthExceeded),
        ("exceed context limit", ContextLengthExceeded),
        ("credit balance is too low", QuotaExhausted),
        ("reached your specified api usage limits", QuotaExhausted),
    )

    def __init__(self, account: Account) -> None:
        key = account.api_key
        headers = {"x-api-key": key.get_secret_value()} if key is not None else {}
        super().__init__(account, {"anthropic-version": VERSION, **headers})
        self._path = "/messages" if account.base_url.endswith("/v1") else "/v1/messages"

    def encode(self, request: ChatRequest, model: str, *, streamed: bool) -> HttpRequest:
        """A POST of the request as JSON. Raises `ConfigError` for what Anthropic cannot say."""
        fields = self._fields(request, model)
        fields["stream"] = True if streamed else None
        return self.post(self._path, merged(fields, request.options), streamed=streamed)

    def encode_count(self, request: ChatRequest, model: str) -> HttpRequest:
        """The request that asks how many tokens `request` is."""
        fields = self._fields(request, model)
        kept = {"model", "messages", "system", "tools", "tool_choice", "thinking", "output_config"}
        return self.post(f"{self._path}/count_tokens", {k: v for k, v in fields.items() if k in kept and v is not None})

    def decode_count(self, body: bytes) -> int:
        """How many they are."""
        found = count(read_answer(body, self.account.api_key), "input_tokens")
        if found is None:
            raise self.unreadable("the answer has no `input_tokens`", body)
        return found

    def _fields(self, request: ChatRequest, model: str) -> dict[str, Any]:
        name = self.name
        unable(name, "seed", request.seed, "no seed")
        without_names(name, request.messages)
        unable(name, "logprobs", request.logprobs, "no probabilities of tokens")
        if request.temperature is not None and request.temperature > 1:
            raise ConfigError(f"`{name}` takes a `temperature` from 0 to 1, not {request.temperature:g}")
        thinking, effort = self._thinking(request.reasoning, model)
        budget = thinking.get("budget_tokens", 0) if thinking else 0
        if request.max_tokens is not None and request.max_tokens <= budget:
            raise ConfigError(
                f"`max_tokens={request.max_tokens}` leaves nothing to answer with: the {budget:,} tokens of "
                "`reasoning` are among them"
            )
        request, tools, choice = self._with_schema(request, model, thinks=budget > 0)
        output_config: dict[str, Any] = {"effort": effort} if effort else {}
        if request.schema is not None and not any(tool["name"] == FORCED for tool in tools):
            output_config["format"] = {"type": "json_schema", "schema": closed(request.schema)}
        system, messages = self._conversation(request.messages)
        return {
            "model": model,
            "max_tokens": request.max_tokens or self._bound(model, budget),
            "system": system or None,
            "messages": messages,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "stop_sequences": list(request.stop) or None,
            "tools": tools or None,
            "tool_choice": choice,
            "thinking": thinking,
            "output_config": output_config or None,
        }

    def _bound(self, model: str, budget: int) -> int:
        most = facts(self.name, model).max_output
        wanted = ANSWER_BOUND + budget
        return wanted if most is None else min(wanted, most)

    def _thinking(self, reasoning: str | int | None, model: str) -> tuple[dict[str, Any] | None, str | None]:
        """`thinking`, and the effort by name where the model takes one."""
        if reasoning is None:
            return None, None
        if reasoning == "none":
            return {"type": "disabled"}, None
        if isinstance(reasoning, int):
            if reasoning < THINKING_BUDGETS["low"]:
                raise ConfigError(f"`{self.name}` thinks with 1,024 tokens at least: `reasoning={reasoning}` is less")
            return {"type": "enabled", "budget_tokens": reasoning}, None
        if facts(self.name, model).thinking == "tokens":
            return {"type": "enabled", "budget_tokens": THINKING_BUDGETS[reasoning]}, None
        return {"type": "adaptive"}, "low" if reasoning == "minimal" else reasoning

    def _with_schema(
        self, request: ChatRequest, model: str, *, thinks: bool
    ) -> tuple[ChatRequest, list[dict[str, Any]], dict[str, Any] | None]:
        """The request with the schema in words or as a tool, where the model has nothing better."""
        tools = [_tool(tool) for tool in request.tools]
        choice = _tool_choice(request.tool_choice)
        if request.schema is None or (
            facts(self.name, model).json_schema is not False and can_be_closed(request.schema)
        ):
            return request, tools, choice
        if tools or thinks:  # while it thinks no tool can be forced, and beside others none should be
            return with_instructions(request), tools, choice
        about = "Give your whole answer as the arguments of this tool."
        forced = {"name": FORCED, "description": about, "input_schema": dict(request.schema)}
        return request, [forced], {"type": "tool", "name": FORCED}

    def _conversation(self, messages: Sequence[Message]) -> tuple[str, list[dict[str, Any]]]:
        """What stands in `system`, and the turns."""
        system: list[str] = []
        turns: list[dict[str, Any]] = []
        for message in messages:
            if message.role in ("system", "developer"):
                if turns:
                    raise ConfigError(
                        f"`{self.name}` takes system messages before all others only: say it in a user's turn"
                    )
                system.append(message.text)
            elif message.role == "assistant":
                said = self._assistant(message)
                if said:  # a turn of nothing, such as a filtered answer, would be refused
                    turns.append({"role": "assistant", "content": said})
            else:
                blocks = [_result(message)] if message.role == "tool" else _blocks(message)
                if turns and turns[-1]["role"] == "user" and _answers_tools(turns[-1]["content"]):
                    turns[-1]["content"] += blocks  # all results of one turn's calls stand in one turn
                else:
                    turns.append({"role": "user", "content": blocks})
        return "\n\n".join(system), [_plain(turn) for turn in turns]

    def _assistant(self, message: Message) -> list[dict[str, Any]]:
        blocks = [
            {"type": "redacted_thinking", "data": thought.hidden}
            if thought.hidden is not None
            else {"type": "thinking", "thinking": thought.text, "signature": thought.signature}
            for thought in message.thoughts
            if thought.provider == self.name and (thought.hidden is not None or thought.signature is not None)
        ]
        blocks += _blocks(message)
        blocks += [
            {"type": "tool_use", "id": call.id, "name": call.name, "input": _input(call)} for call in message.tool_calls
        ]
        return blocks

    def decode(self, body: bytes, model: str) -> Completion:
        """The answer in a 2xx body."""
        answer = read_answer(body, self.account.api_key)
        if not isinstance(answer, Mapping):
            raise self.unreadable("the answer is not an object", body)
        if answer.get("type") == "error" or answer.get("error"):
            raise error_from_event(answer.get("error") or answer, self.account.api_key, self.wordings)
        if not isinstance(answer.get("content"), list):
            raise self.unreadable("the answer has no `content`", body)
        found = _Content(self.name)
        for index, block in enumerate(objects(answer["content"])):
            found.start(index, block)
        return found.completion(
            model=string(answer.get("model")) or model,
            id=string(answer.get("id")),
            reason=string(answer.get("stop_reason")),
            details=answer.get("stop_details"),
            usage=read_usage(answer.get("usage")),
            raw=answer,
        )

    def stream_decoder(self, model: str) -> AnthropicStreamDecoder:
        """A new decoder for one stream."""
        return AnthropicStreamDecoder(self.account, model)


class AnthropicStreamDecoder(EventReader):
    """Reads named events: a message opens, its blocks open, grow and close, and it says why it stopped."""

    def __init__(self, account: Account, model: str) -> None:
        super().__init__(account, model)
        self._content = _Content(account.provider)
        self._usage: dict[str, Any] = {}
        self._reason: str | None = None
        self._details: Any = None

    def feed(self, event: str, data: str) -> Delta | None:
        """One event. Raises `MalformedEvent`, or the error that the event is."""
        said = self.read(data)
        kind = string(said.get("type")) or event
        if kind == "error":
            raise error_from_event(said.get("error") or said, self.account.api_key, AnthropicProvider.wordings)
        if kind == "content_block_delta":
            return self._content.grow(_index(said), mapping(said.get("delta")))
        if kind == "content_block_start":
            block = said.get("content_block")
            if not isinstance(block, Mapping):
                raise self.unreadable("its `content_block` is not an object")
            return self._content.start(_index(said), block, whole=False)
        if kind == "message_start":
            message = mapping(said.get("message"))
            self.id = string(message.get("id"))
            self.model = string(message.get("model")) or self.model
            self._count(message.get("usage"))
        elif kind == "message_delta":
            return self._delta(said)
        elif kind == "message_stop":
            self.finished = self.settled = True
        return None

    def _delta(self, said: Mapping[str, Any]) -> Delta | None:
        self._count(said.get("usage"))
        delta = mapping(said.get("delta"))
        self._details = delta.get("stop_details") or self._details
        reason = string(delta.get("stop_reason"))
        if reason is None:
            return None
        self._reason = reason
        self.finished = True
        self.finish_reason = self._content.reason(reason)
        return Delta(finish_reason=self.finish_reason, content=True)

    def _count(self, usage: object) -> None:
        """Figures are cumulative: the last ones count, and what later events leave out stays."""
        self._usage.update({name: value for name, value in mapping(usage).items() if value is not None})

    def completion(self) -> Completion:
        """The answer so far."""
        return self._content.completion(
            model=self.model,
            id=self.id,
            reason=self._reason,
            details=self._details,
            usage=read_usage(self._usage),
            raw=list(self.events),
        )


class _Content:
    """The blocks of an answer, whole or still growing."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._text: list[str] = []
        self._thinking: dict[int, _GrowingThought] = {}
        self._calls: dict[int, GrowingCall] = {}
        self._citations: list[Citation] = []
        self._forced: set[int] = set()

    def start(self, index: int, block: Mapping[str, Any], *, whole: bool = True) -> Delta | None:
        """A block: all of it, or its beginning. What is of no known type stays in `raw`."""
        kind = block.get("type")
        if kind == "text":
            text = text_of(block.get("text"))
            begin = sum(map(len, self._text)) if block.get("citations") else 0
            self._text.append(text)
            for each in objects(block.get("citations")):
                self._citations.append(_citation(each, text if whole else "", begin if whole else None))
            return Delta(text, content=True) if text else None
        if kind in ("thinking", "redacted_thinking"):
            thought = self._thinking[index] = _GrowingThought()
            thought.text.append(text_of(block.get("thinking")))
            thought.signature = string(block.get("signature")) or None
            thought.hidden = string(block.get("data"))
            return Delta(reasoning="".join(thought.text), content=True)
        if kind == "tool_use":
            return self._start_call(index, block, whole=whole)
        return None

    def _start_call(self, index: int, block: Mapping[str, Any], *, whole: bool) -> Delta | None:
        name = text_of(block.get("name"))
        begun = block.get("input")
        arguments = json_text(begun) if begun or whole else ""  # in a stream `{}` holds the place of what will come
        if name == FORCED:
            self._forced.add(index)
            self._text.append(arguments)
            return Delta(arguments, content=True)
        call = self._calls[index] = GrowingCall(text_of(block.get("id")), name)
        call.arguments.append(arguments)
        return Delta(content=True)

    def grow(self, index: int, delta: Mapping[str, Any]) -> Delta | None:
        """A piece more of a block."""
        kind = delta.get("type")
        if kind == "text_delta":
            text = text_of(delta.get("text"))
            self._text.append(text)
            return Delta(text, content=bool(text))
        if kind == "input_json_delta":
            piece = text_of(delta.get("partial_json"))
            if index in self._forced:
                self._text.append(piece)
                return Delta(piece, content=bool(piece))
            self._calls.setdefault(index, GrowingCall()).arguments.append(piece)
            return Delta(content=bool(piece))
        if kind == "thinking_delta":
            text = text_of(delta.get("thinking"))
            self._thinking.setdefault(index, _GrowingThought()).text.append(text)
            return Delta(reasoning=text, content=bool(text))
        if kind == "signature_delta":
            thought = self._thinking.setdefault(index, _GrowingThought())
            thought.signature = (thought.signature or "") + text_of(delta.get("signature"))
        elif kind == "citations_delta":
            self._citations.append(_citation(mapping(delta.get("citation"))))
        return None

    def reason(self, reason: str) -> str:
        """Why it stopped, in tidegate's words; one that is not known passes through."""
        if reason == "tool_use" and self._forced and not self._calls:
            return "stop"
        return _REASONS.get(reason, reason)

    def completion(
        self,
        *,
        model: str,
        id: str | None,  # noqa: A002 (as the field is called)
        reason: str | None,
        details: object,
        usage: Usage | None,
        raw: object,
    ) -> Completion:
        """What there is of the answer."""
        thoughts = tuple(thought.built(self._provider) for _, thought in sorted(self._thinking.items()))
        return Completion(
            text="".join(self._text),
            provider=self._provider,
            model=model,
            finish_reason=self.reason(reason) if reason is not None else None,
            usage=usage,
            tool_calls=tuple(call.built(empty="{}") for _, call in sorted(self._calls.items())),
            reasoning="".join(thought.text for thought in thoughts),
            refusal=string(mapping(details).get("explanation")) if reason == "refusal" else None,
            id=id,
            thoughts=thoughts,
            citations=tuple(self._citations),
            raw_data=raw,
        )


class _GrowingThought:
    __slots__ = ("hidden", "signature", "text")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.signature: str | None = None
        self.hidden: str | None = None

    def built(self, provider: str) -> Thought:
        return Thought("".join(self.text), self.signature, self.hidden, provider=provider)


def _index(said: Mapping[str, Any]) -> int:
    return place(said.get("index")) or 0


def _citation(cited: Mapping[str, Any], text: str = "", begin: int | None = None) -> Citation:
    title = string(cited.get("title")) or string(cited.get("document_title"))
    return Citation(
        text=text,
        start=begin,
        end=begin + len(text) if begin is not None else None,
        source=string(cited.get("url")) or string(cited.get("source")) or string(cited.get("file_id")) or title,
        title=title,
        quote=text_of(cited.get("cited_text")),
        raw=cited,
    )


def _tool(tool: Tool) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": tool.name, "input_schema": dict(tool.parameters)}
    fields["input_schema"].setdefault("type", "object")
    if tool.description:
        fields["description"] = tool.description
    if tool.strict is not None:
        fields["strict"] = tool.strict
    return fields


def _tool_choice(choice: str | None) -> dict[str, Any] | None:
    if choice is None:
        return None
    if choice in ("auto", "none"):
        return {"type": choice}
    return {"type": "any"} if choice == "required" else {"type": "tool", "name": choice}


def _input(call: ToolCall) -> Any:  # noqa: ANN401 (any JSON object)
    """Arguments as an object. Those that are none go back in the wrapping that Anthropic's documentation names."""
    try:
        parsed = call.parsed()
    except ValueError:
        parsed = None
    return parsed if isinstance(parsed, dict) else {"INVALID_JSON": call.arguments}


def _result(message: Message) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "type": "tool_result",
        "tool_use_id": message.tool_call_id,
        "content": message.content if isinstance(message.content, str) else _blocks(message),
    }
    if message.failed:
        fields["is_error"] = True
    return fields


def _blocks(message: Message) -> list[dict[str, Any]]:
    """Text and pictures. Blocks of nothing but spaces are refused, so they are left out."""
    if isinstance(message.content, str):
        return [{"type": "text", "text": message.content}] if message.content.strip() else []
    return [
        _image(part) if isinstance(part, Image) else {"type": "text", "text": part.text}
        for part in message.content
        if isinstance(part, Image) or part.text.strip()
    ]


def _image(image: Image) -> dict[str, Any]:
    if image.detail not in (None, "auto"):
        raise ConfigError(f"`anthropic` knows no `detail={image.detail!r}` of a picture")
    if image.url[:5].lower() != "data:":
        return {"type": "image", "source": {"type": "url", "url": image.url}}
    kind, _, data = image.url[5:].partition(";base64,")
    return {"type": "image", "source": {"type": "base64", "media_type": kind.lower(), "data": data}}


def _answers_tools(blocks: Iterable[Mapping[str, Any]]) -> bool:
    return any(block["type"] == "tool_result" for block in blocks)


def _plain(turn: dict[str, Any]) -> dict[str, Any]:
    """One text needs no list around it."""
    blocks = turn["content"]
    return {**turn, "content": blocks[0]["text"]} if len(blocks) == 1 and blocks[0]["type"] == "text" else turn


def read_usage(usage: object) -> Usage | None:
    """Anthropic's figures; None when there are none. What was read from or written to the cache is counted apart."""
    fresh, out = count(usage, "input_tokens"), count(usage, "output_tokens")
    if fresh is None and out is None:
        return None
    cached, written = count(usage, "cache_read_input_tokens") or 0, count(usage, "cache_creation_input_tokens") or 0
    thought = count(mapping(usage).get("output_tokens_details"), "thinking_tokens") or 0
    out = out or 0
    return Usage((fresh or 0) + cached + written, out, cached, written, min(thought, out))
