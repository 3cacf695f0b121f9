"""OpenAI's chat completions, and every API that speaks the same with small differences (`Dialect`).

Format: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tidegate.chat.details import Citation, Thought, TokenLogprob
from tidegate.chat.embedding import EmbedRequest, Vector
from tidegate.chat.messages import Image, Message
from tidegate.chat.reply import Completion
from tidegate.chat.request import ChatRequest
from tidegate.chat.tools import Tool, ToolCall
from tidegate.chat.usage import Usage
from tidegate.errors import ConfigError, ContextLengthExceeded
from tidegate.providers.base import Account, Delta
from tidegate.providers.instructions import with_instructions
from tidegate.providers.refusals import error_from_event
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
    unable,
)
from tidegate.transport.base import HttpRequest


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
    required: str = "required"
    """What `tool_choice` is called by which some tool has to be called."""
    reasoning: Literal["", "reasoning_effort", "reasoning", "thinking"] = "reasoning_effort"
    """How it is told how much to think: an effort by name, OpenRouter's object, on and off; not at all."""
    thoughts: str | None = None
    """The field in which thoughts are sent back with the tool calls that they led to, where the host wants them."""
    logprobs: bool = True
    """Whether it says how likely tokens were."""
    json_schema: bool = True
    """Whether it takes a JSON schema. Else it is asked for JSON, and for the schema in words."""
    embeds: bool = True
    """Whether it has embeddings."""
    dimensions: str = "dimensions"
    """The field that bounds the length of vectors."""


class OpenAIProvider(Speaker):
    """Chat completions at one address with one key."""

    wordings = (
        ("maximum context length", ContextLengthExceeded),  # vLLM, Together and others, whose `code` does not say so
        ("exceeds the context window", ContextLengthExceeded),
    )

    def __init__(
        self,
        account: Account,
        dialect: Dialect = Dialect(),
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`headers` have the key, where it is not a bearer's."""
        key = account.api_key
        bearer = {"Authorization": f"Bearer {key.get_secret_value()}"} if key is not None else {}
        super().__init__(account, bearer if headers is None else headers)
        self.dialect = dialect

    def encode(self, request: ChatRequest, model: str, *, streamed: bool) -> HttpRequest:
        """A POST of the request as JSON."""
        fields = self._body(request, model, streamed=streamed)
        return self.post(self.path(model, "/chat/completions"), fields, streamed=streamed)

    def path(self, model: str, method: str) -> str:  # noqa: ARG002 (where a host has a path for each model)
        """Of a method, below the account's address."""
        return method

    def _body(self, request: ChatRequest, model: str, *, streamed: bool) -> dict[str, Any]:
        dialect = self.dialect
        answer_format = _response_format(request) if dialect.json_schema else _JSON if request.schema else None
        request = request if dialect.json_schema else with_instructions(request)
        fields = {
            "model": model,
            "messages": [self._message(message) for message in request.messages],
            "temperature": request.temperature,
            "top_p": request.top_p,
            dialect.max_tokens: request.max_tokens,
            "tools": [_tool(tool) for tool in request.tools] or None,
            "tool_choice": self._tool_choice(request.tool_choice),
            "response_format": answer_format,
            "stop": list(request.stop) or None,
            dialect.seed: request.seed,
            **self._reasoning(request.reasoning),
            **self._logprobs(request.logprobs),
            "stream": True if streamed else None,
            "stream_options": {"include_usage": True} if streamed and dialect.stream_usage else None,
        }
        body = {name: value for name, value in fields.items() if value is not None}
        body.update(request.options)
        return body

    def _tool_choice(self, choice: str | None) -> str | dict[str, Any] | None:
        if choice is None or choice in ("auto", "none"):
            return choice
        if choice == "required":
            return self.dialect.required
        return {"type": "function", "function": {"name": choice}}

    def _reasoning(self, reasoning: str | int | None) -> dict[str, Any]:
        """How much to think, in the host's words. Raises `ConfigError` where it has none for it."""
        if reasoning is None:
            return {}
        form = self.dialect.reasoning
        if form == "reasoning":
            return {"reasoning": {"max_tokens" if isinstance(reasoning, int) else "effort": reasoning}}
        if form == "thinking" and reasoning in ("none", "high"):
            return {"thinking": {"type": "disabled" if reasoning == "none" else "enabled"}}
        if form == "reasoning_effort" and isinstance(reasoning, str):
            return {form: reasoning}
        raise ConfigError(
            f"`{self.name}` takes no `reasoning={reasoning!r}`{_REASONING_TAKEN[form]}; "
            "what else it knows goes into `options`"
        )

    def _logprobs(self, alternatives: int | None) -> dict[str, Any]:
        if alternatives is None:
            return {}
        if not self.dialect.logprobs:
            raise ConfigError(f"`{self.name}` gives no `logprobs`")
        return {"logprobs": True, "top_logprobs": alternatives or None}

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
        own = "".join(thought.text for thought in message.thoughts if thought.provider in ("", self.name))
        if self.dialect.thoughts is not None and message.tool_calls and own:
            fields[self.dialect.thoughts] = own
        return fields

    def decode(self, body: bytes, model: str) -> Completion:
        """The first choice of the answer."""
        answer = read_answer(body, self.account.api_key)
        failure = _failure(answer)
        if failure:
            raise error_from_event(failure, self.account.api_key, self.wordings)
        completion = self._completion(answer, model)
        if completion is None:
            raise self.unreadable("the answer has no choices with a message", body)
        return completion

    def _completion(self, answer: Any, model: str) -> Completion | None:  # noqa: ANN401 (any JSON value)
        choices = answer.get("choices") if isinstance(answer, Mapping) else None
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = choice.get("message") if isinstance(choice, Mapping) else None
        if not isinstance(choice, Mapping) or not isinstance(message, Mapping):
            return None
        reasoning = _text(message.get("reasoning_content") or message.get("reasoning"))
        return Completion(
            text=_text(message.get("content")),
            provider=self.name,
            model=string(answer.get("model")) or model,
            finish_reason=_finish_reason(choice.get("finish_reason")),
            usage=read_usage(answer.get("usage")),
            tool_calls=tuple(_tool_calls(message.get("tool_calls"))),
            reasoning=reasoning,
            refusal=string(message.get("refusal")),
            id=string(answer.get("id")),
            thoughts=(Thought(reasoning, provider=self.name),) if reasoning else (),
            citations=tuple(_citations(message.get("annotations"))),
            logprobs=tuple(token_logprobs(mapping(choice.get("logprobs")).get("content"))),
            raw_data=answer,
        )

    embed_batch = 256
    """Of 2,048 that OpenAI takes: a request that fails is not all of the work."""

    def encode_embed(self, request: EmbedRequest, model: str) -> HttpRequest:
        """A POST of texts to embed."""
        if not self.dialect.embeds:
            raise ConfigError(f"`{self.name}` embeds no texts: ask another provider")
        unable(self.name, "purpose", request.purpose, "one kind of vector for all purposes")
        fields = {
            "model": model,
            "input": list(request.texts),
            "encoding_format": "float",
            self.dialect.dimensions: request.dimensions,
        }
        return self.post(self.path(model, "/embeddings"), merged(fields, request.options))

    def decode_embed(self, body: bytes, model: str, texts: int) -> tuple[tuple[Vector, ...], Usage | None, str]:
        """Their vectors."""
        answer = read_answer(body, self.account.api_key)
        failure = _failure(answer)
        if failure:
            raise error_from_event(failure, self.account.api_key, self.wordings)
        rows = sorted(objects(mapping(answer).get("data")), key=lambda row: place(row.get("index")) or 0)
        found = vectors_in([row.get("embedding") for row in rows], texts)
        if isinstance(found, str):
            raise self.unreadable(f"the answer cannot be read: {found}", body)
        usage = mapping(answer.get("usage"))
        tokens = count(usage, "prompt_tokens")
        tokens = count(usage, "total_tokens") if tokens is None else tokens
        return found, None if tokens is None else Usage(tokens, 0), string(answer.get("model")) or model

    def stream_decoder(self, model: str) -> OpenAIStreamDecoder:
        """A new decoder for one stream."""
        return OpenAIStreamDecoder(self.account, model)


class OpenAIStreamDecoder(EventReader):
    """Reads `chat.completion.chunk` events: unnamed, the last with the usage and no choices, then `[DONE]`."""

    def __init__(self, account: Account, model: str) -> None:
        super().__init__(account, model)
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._calls: dict[int, GrowingCall] = {}
        self._usage: Usage | None = None
        self._citations: list[Citation] = []
        self._logprobs: list[TokenLogprob] = []

    def feed(self, event: str, data: str) -> Delta | None:
        """One event. Raises `MalformedEvent`, or the error that the event is."""
        if data.strip() == "[DONE]":
            self.finished = self.settled = True
            return None
        chunk = self.read(data)
        failure = _failure(chunk)
        if failure or event == "error":
            raise error_from_event(failure or chunk, self.account.api_key, OpenAIProvider.wordings)
        if self.id is None:
            self.id = string(chunk.get("id"))
            self.model = string(chunk.get("model")) or self.model
        usage = read_usage(chunk.get("usage"))
        self._usage = usage or self._usage
        delta = self._first_choice(chunk.get("choices"))
        # Some hosts count with every chunk: figures from before the finish reason may not be the last.
        self.settled = self.finished and usage is not None
        return delta

    def _first_choice(self, choices: Any) -> Delta | None:  # noqa: ANN401 (any JSON value)
        if not choices:
            return None
        choice = choices[0] if isinstance(choices, list) else None
        if not isinstance(choice, Mapping):
            raise self.unreadable("its `choices` are not a list of objects")
        # With `n` > 1 among the options the choices come interleaved; the first is the answer, `raw` has all.
        return self._choice(choice) if not choice.get("index") else None

    def _choice(self, choice: Mapping[str, Any]) -> Delta:
        delta = choice.get("delta") or {}
        if not isinstance(delta, Mapping):
            raise self.unreadable("its `delta` is not an object")
        text = _text(delta.get("content"))
        reasoning = _text(delta.get("reasoning_content") or delta.get("reasoning"))
        refusal = string(delta.get("refusal"))
        calls = delta.get("tool_calls")
        if text:
            self._text.append(text)
        if reasoning:
            self._reasoning.append(reasoning)
        if refusal:
            self._refusal.append(refusal)
        if calls:
            self._grow(calls)
        if delta.get("annotations"):
            self._citations += _citations(delta["annotations"])
        if choice.get("logprobs"):
            self._logprobs += token_logprobs(mapping(choice["logprobs"]).get("content"))
        reason = _finish_reason(choice.get("finish_reason"))
        if reason is not None:
            self.finish_reason = reason
            self.finished = True
        return Delta(text, reasoning, reason, bool(text or reasoning or refusal or calls or reason))

    def _grow(self, calls: Any) -> None:  # noqa: ANN401 (any JSON value)
        """Pieces of tool calls: the first has the id and name, the others more of the arguments."""
        if not isinstance(calls, list) or not all(isinstance(piece, Mapping) for piece in calls):
            raise self.unreadable("its `tool_calls` are not a list of objects")
        for piece in calls:
            index = piece.get("index")
            call = self._calls.setdefault(index if isinstance(index, int) else len(self._calls), GrowingCall())
            function = piece.get("function")
            function = function if isinstance(function, Mapping) else {}
            call.id = call.id or string(piece.get("id")) or ""
            call.name = call.name or string(function.get("name")) or ""
            call.arguments.append(json_text(function.get("arguments")))

    def completion(self) -> Completion:
        """The answer so far."""
        reasoning = "".join(self._reasoning)
        return Completion(
            text="".join(self._text),
            provider=self.account.provider,
            model=self.model,
            finish_reason=self.finish_reason,
            usage=self._usage,
            tool_calls=tuple(call.built() for _, call in sorted(self._calls.items())),
            reasoning=reasoning,
            refusal="".join(self._refusal) or None,
            id=self.id,
            thoughts=(Thought(reasoning, provider=self.account.provider),) if reasoning else (),
            citations=tuple(self._citations),
            logprobs=tuple(self._logprobs),
            raw_data=list(self.events),
        )


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


_JSON = {"type": "json_object"}


def _response_format(request: ChatRequest) -> dict[str, Any] | None:
    if request.schema is None:
        return None
    return {"type": "json_schema", "json_schema": {"name": request.schema_name, "schema": request.schema}}


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


_REASONING_TAKEN = {
    "": "",
    "reasoning_effort": " (it takes an effort by name)",
    "thinking": " (it takes `none` and `high`)",
    "reasoning": "",
}

_SAME_REASON = {"function_call": "tool_calls", "eos": "stop"}
"""OpenAI's old word, and Together's for an answer that ended by itself."""


def _tool_calls(calls: object) -> list[ToolCall]:
    found = []
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, Mapping) else None
        if isinstance(function, Mapping):
            arguments = json_text(function.get("arguments")) or "{}"
            found.append(ToolCall(string(call.get("id")) or "", string(function.get("name")) or "", arguments))
    return found


def _citations(annotations: object) -> list[Citation]:
    found = []
    for each in objects(annotations):
        cited = mapping(each.get("url_citation"))
        if cited:
            found.append(
                Citation(
                    start=place(cited.get("start_index")), end=place(cited.get("end_index")),
                    source=string(cited.get("url")), title=string(cited.get("title")), raw=each,
                )
            )  # fmt: skip
    return found


def token_logprobs(tokens: object) -> list[TokenLogprob]:
    """A list of tokens with their probabilities, as this API and its younger sister write it."""
    return [
        TokenLogprob(
            text_of(each.get("token")),
            number(each.get("logprob")),
            tuple(
                (text_of(other.get("token")), number(other.get("logprob")))
                for other in objects(each.get("top_logprobs"))
            ),
        )
        for each in objects(tokens)
    ]


def read_usage(usage: object) -> Usage | None:
    """OpenAI's usage object; None when it has no counts."""
    if not isinstance(usage, Mapping):
        return None
    into, out = count(usage, "prompt_tokens"), count(usage, "completion_tokens")
    if into is None and out is None:
        return None
    cached = count(usage.get("prompt_tokens_details"), "cached_tokens") or 0
    thought = count(usage.get("completion_tokens_details"), "reasoning_tokens") or 0
    into, out = into or 0, out or 0
    if thought and count(usage, "total_tokens") == into + out + thought:
        out += thought  # xAI counts what was thought beside the answer; OpenAI within it
    return Usage(into, out, min(cached, into), 0, min(thought, out))
