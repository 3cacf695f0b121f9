"""OpenAI's Responses. Nothing is kept at OpenAI (`store: false`); what was thought comes back encrypted.

Format: https://platform.openai.com/docs/api-reference/responses and …/responses-streaming
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tidegate.chat.details import Citation, Thought, TokenLogprob
from tidegate.chat.messages import Image, Message
from tidegate.chat.reply import Completion
from tidegate.chat.request import ChatRequest
from tidegate.chat.tools import Tool
from tidegate.chat.usage import Usage
from tidegate.errors import ConfigError
from tidegate.providers.base import Account, Delta
from tidegate.providers.openai import OpenAIProvider, token_logprobs
from tidegate.providers.refusals import Wording, error_from_event
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

_CUT = {"max_output_tokens": "length", "max_tokens": "length", "content_filter": "content_filter"}
"""Why an answer is incomplete, in tidegate's words."""

_WHOLE = frozenset({"response.created", "response.completed", "response.incomplete", "response.failed"})
"""Events that hold the response itself."""


class ResponsesProvider(Speaker):
    """Responses at one address with one key."""

    wordings: ClassVar[Wording] = OpenAIProvider.wordings

    def __init__(self, account: Account) -> None:
        key = account.api_key
        super().__init__(account, {"Authorization": f"Bearer {key.get_secret_value()}"} if key is not None else {})

    def encode(self, request: ChatRequest, model: str, *, streamed: bool) -> HttpRequest:
        """A POST of the request as JSON. Raises `ConfigError` for what this API cannot say."""
        name = self.name
        without_names(name, request.messages)
        unable(name, "stop", request.stop or None, "no stop sequences (`openai/…` has)")
        unable(name, "seed", request.seed, "no seed (`openai/…` has)")
        include = ["reasoning.encrypted_content"] if request.reasoning not in (None, "none") else []
        if request.logprobs is not None:
            include.append("message.output_text.logprobs")
        fields = {
            "model": model,
            "input": [item for message in request.messages for item in self._items(message)],
            "store": False,
            "stream": True if streamed else None,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "max_output_tokens": request.max_tokens,
            "tools": [_tool(tool) for tool in request.tools] or None,
            "tool_choice": _tool_choice(request.tool_choice),
            "text": _text_format(request),
            "reasoning": self._reasoning(request.reasoning),
            "top_logprobs": request.logprobs,
            "include": include or None,
        }
        return self.post("/responses", merged(fields, request.options), streamed=streamed)

    def _reasoning(self, reasoning: str | int | None) -> dict[str, Any] | None:
        if reasoning is None:
            return None
        if isinstance(reasoning, int):
            raise ConfigError(f"`{self.name}` takes `reasoning` by name (`low`, `medium`, `high`), not as a number")
        return {"effort": reasoning} if reasoning == "none" else {"effort": reasoning, "summary": "auto"}

    def _items(self, message: Message) -> list[dict[str, Any]]:
        """A message as items: what was thought, said and called are items of their own."""
        if message.role == "tool":
            return [{"type": "function_call_output", "call_id": message.tool_call_id, "output": _output(message)}]
        items: list[dict[str, Any]] = [
            {
                "type": "reasoning",
                "id": thought.id,
                "summary": [{"type": "summary_text", "text": thought.text}] if thought.text else [],
                "encrypted_content": thought.hidden,
            }
            for thought in message.thoughts
            if thought.provider == self.name and thought.hidden is not None
        ]
        if message.content or not message.tool_calls:
            items.append({"role": message.role, "content": _content(message)})
        items += [
            {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}
            for call in message.tool_calls
        ]
        return items

    def decode(self, body: bytes, model: str) -> Completion:
        """The answer in a 2xx body."""
        answer = read_answer(body, self.account.api_key)
        if not isinstance(answer, Mapping):
            raise self.unreadable("the answer is not an object", body)
        found = _Output(self.account, model)
        found.end(answer)
        if not isinstance(answer.get("output"), list):
            raise self.unreadable("the answer has no `output`", body)
        for index, item in enumerate(objects(answer["output"])):
            found.take(index, item)
        return found.completion(answer)

    def stream_decoder(self, model: str) -> ResponsesStreamDecoder:
        """A new decoder for one stream."""
        return ResponsesStreamDecoder(self.account, model)


class ResponsesStreamDecoder(EventReader):
    """Reads events whose `type` says what they are: items open, grow and are done, and the response ends."""

    def __init__(self, account: Account, model: str) -> None:
        super().__init__(account, model)
        self._output = _Output(account, model)

    def feed(self, event: str, data: str) -> Delta | None:
        """One event. Raises `MalformedEvent`, or the error that the event is."""
        if data.strip() == "[DONE]":
            return None
        said = self.read(data)
        kind = string(said.get("type")) or event
        if kind == "error" or (said.get("error") and not said.get("response")):
            raise error_from_event(said.get("error") or said, self.account.api_key, OpenAIProvider.wordings)
        index = place(said.get("output_index")) or 0
        if kind.endswith(".delta"):
            return self._grow(kind, index, said)
        if kind == "response.output_item.added":
            return self._output.begin(index, mapping(said.get("item")))
        if kind == "response.output_item.done":
            return self._output.take(index, mapping(said.get("item")))
        return self._response(kind, said.get("response")) if kind in _WHOLE else None

    def _grow(self, kind: str, index: int, said: Mapping[str, Any]) -> Delta | None:
        piece = text_of(said.get("delta"))
        if kind in ("response.reasoning_summary_text.delta", "response.reasoning_text.delta"):
            self._output.think(index, piece)
            return Delta(reasoning=piece, content=bool(piece))
        if kind == "response.output_text.delta":
            self._output.grow(index, piece, said.get("logprobs"))
            return Delta(piece, content=bool(piece))
        if kind == "response.refusal.delta":
            self._output.refuse(piece)
        elif kind == "response.function_call_arguments.delta":
            self._output.call(index).arguments.append(piece)
        else:
            return None
        return Delta(content=bool(piece))

    def _response(self, kind: str, response: object) -> Delta | None:
        if not isinstance(response, Mapping):
            raise self.unreadable("its `response` is not an object")
        self._output.end(response)
        if kind == "response.created":
            return None
        self.finish_reason = self._output.finish_reason
        self.finished = self.settled = True
        return Delta(finish_reason=self.finish_reason, content=True)

    def completion(self) -> Completion:
        """The answer so far."""
        return self._output.completion(list(self.events))


class _Output:
    """The items of an answer, whole or growing."""

    def __init__(self, account: Account, model: str) -> None:
        self._account = account
        self._model = model
        self._id: str | None = None
        self._text: dict[int, list[str]] = {}
        self._thinking: dict[int, list[str]] = {}
        self._hidden: dict[int, tuple[str | None, str | None]] = {}
        self._calls: dict[int, GrowingCall] = {}
        self._refusal: list[str] = []
        self._citations: list[Citation] = []
        self._logprobs: list[TokenLogprob] = []
        self._usage: Usage | None = None
        self._reason: str | None = None

    @property
    def finish_reason(self) -> str | None:
        """Why it ended, in tidegate's words."""
        return "tool_calls" if self._reason == "stop" and self._calls else self._reason

    def grow(self, index: int, text: str, logprobs: object) -> None:
        """More of a message."""
        self._text.setdefault(index, []).append(text)
        self._logprobs += token_logprobs(logprobs)

    def think(self, index: int, text: str) -> None:
        """More of what is thought."""
        self._thinking.setdefault(index, []).append(text)

    def refuse(self, text: str) -> None:
        """More of a refusal."""
        self._refusal.append(text)

    def call(self, index: int) -> GrowingCall:
        """The call of this place."""
        return self._calls.setdefault(index, GrowingCall())

    def begin(self, index: int, item: Mapping[str, Any]) -> Delta | None:
        """An item has opened."""
        if item.get("type") != "function_call":
            return None
        call = self.call(index)
        call.id, call.name = text_of(item.get("call_id")) or text_of(item.get("id")), text_of(item.get("name"))
        return Delta(content=True)

    def take(self, index: int, item: Mapping[str, Any]) -> Delta | None:
        """A whole item. What was read of it in pieces stays; what the pieces do not have comes from here."""
        kind = item.get("type")
        if kind == "function_call":
            self.begin(index, item)
            self.call(index).arguments[:] = [json_text(item.get("arguments"))]
        elif kind == "reasoning":
            self._hidden[index] = string(item.get("id")), string(item.get("encrypted_content"))
            parts = objects(item.get("summary")) + objects(item.get("content"))
            text = "".join(text_of(part.get("text")) for part in parts)
            if index not in self._thinking and text:
                self._thinking[index] = [text]
                return Delta(reasoning=text, content=True)
        elif kind == "message":
            return self._message(index, objects(item.get("content")))
        return None

    def _message(self, index: int, parts: list[Mapping[str, Any]]) -> Delta | None:
        known = index in self._text
        for part in parts:
            self._citations += [_citation(each) for each in objects(part.get("annotations"))]
            if not known and part.get("type") == "output_text":
                self.grow(index, text_of(part.get("text")), part.get("logprobs"))
        if not self._refusal:
            self._refusal += [text_of(part.get("refusal")) for part in parts if part.get("type") == "refusal"]
        text = "" if known else "".join(self._text.get(index, ()))
        return Delta(text, content=True) if text else None

    def end(self, response: Mapping[str, Any]) -> None:
        """What a response says of itself. Raises the error that it is."""
        if response.get("error") or response.get("status") == "failed":
            error = response.get("error") or {"message": "the response failed", "code": "server_error"}
            raise error_from_event(error, self._account.api_key, OpenAIProvider.wordings)
        self._id = string(response.get("id")) or self._id
        self._model = string(response.get("model")) or self._model
        self._usage = read_usage(response.get("usage")) or self._usage
        status = string(response.get("status"))
        if status == "completed":
            self._reason = "stop"
        elif status == "incomplete":
            why = string(mapping(response.get("incomplete_details")).get("reason")) or status
            self._reason = _CUT.get(why, why)
        elif status not in (None, "in_progress", "queued"):
            self._reason = status

    def completion(self, raw: object) -> Completion:
        """What there is of the answer."""
        provider = self._account.provider
        thoughts = []
        for index in sorted({*self._thinking, *self._hidden}):
            name, hidden = self._hidden.get(index, (None, None))
            thoughts.append(Thought("".join(self._thinking.get(index, ())), None, hidden, name, provider))
        return Completion(
            text="".join(piece for _, pieces in sorted(self._text.items()) for piece in pieces),
            provider=provider,
            model=self._model,
            finish_reason=self.finish_reason,
            usage=self._usage,
            tool_calls=tuple(call.built(empty="{}") for _, call in sorted(self._calls.items())),
            reasoning="".join(thought.text for thought in thoughts),
            refusal="".join(self._refusal) or None,
            id=self._id,
            thoughts=tuple(thought for thought in thoughts if thought.text or thought.hidden),
            citations=tuple(self._citations),
            logprobs=tuple(self._logprobs),
            raw_data=raw,
        )


def _content(message: Message) -> str | list[dict[str, Any]]:
    if isinstance(message.content, str):
        return message.content
    kind = "output_text" if message.role == "assistant" else "input_text"
    return [_image(part) if isinstance(part, Image) else {"type": kind, "text": part.text} for part in message.content]


def _output(message: Message) -> str | list[dict[str, Any]]:
    return message.content if isinstance(message.content, str) else _content(message)


def _image(image: Image) -> dict[str, Any]:
    return {"type": "input_image", "image_url": image.url, "detail": image.detail or "auto"}


def _tool(tool: Tool) -> dict[str, Any]:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict or False,  # unlike in chat completions it is true where nothing is said
    }


def _tool_choice(choice: str | None) -> str | dict[str, Any] | None:
    return choice if choice in (None, "auto", "none", "required") else {"type": "function", "name": choice}


def _text_format(request: ChatRequest) -> dict[str, Any] | None:
    if request.schema is None:
        return None
    return {"format": {"type": "json_schema", "name": request.schema_name, "schema": request.schema, "strict": False}}


def _citation(annotation: Mapping[str, Any]) -> Citation:
    return Citation(
        start=place(annotation.get("start_index")),
        end=place(annotation.get("end_index")),
        source=string(annotation.get("url")) or string(annotation.get("file_id")) or string(annotation.get("filename")),
        title=string(annotation.get("title")) or string(annotation.get("filename")),
        raw=annotation,
    )


def read_usage(usage: object) -> Usage | None:
    """The figures of a response; None when there are none."""
    into, out = count(usage, "input_tokens"), count(usage, "output_tokens")
    if into is None and out is None:
        return None
    into, out = into or 0, out or 0
    cached = count(mapping(usage).get("input_tokens_details"), "cached_tokens") or 0
    thought = count(mapping(usage).get("output_tokens_details"), "reasoning_tokens") or 0
    return Usage(into, out, min(cached, into), 0, min(thought, out))
