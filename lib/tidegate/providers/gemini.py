"""Google's Gemini: `generateContent` and `streamGenerateContent`.

Format: https://ai.google.dev/api/generate-content
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

from tidegate import jsontext
from tidegate.catalog import facts
from tidegate.chat.details import Citation, Thought, TokenLogprob
from tidegate.chat.embedding import EmbedRequest, Vector
from tidegate.chat.messages import Image, Message
from tidegate.chat.reply import Completion
from tidegate.chat.request import ChatRequest
from tidegate.chat.tools import Tool, ToolCall
from tidegate.chat.usage import Usage
from tidegate.errors import (
    AuthenticationFailed,
    CallError,
    ConfigError,
    ContentFiltered,
    ContextLengthExceeded,
    QuotaExhausted,
    RateLimited,
)
from tidegate.providers.base import Account, Delta
from tidegate.providers.refusals import RETRY_AFTER_LIMIT, Wording, error_from_event
from tidegate.providers.speaker import EventReader, Speaker
from tidegate.providers.vectors import vectors_in
from tidegate.providers.wire import (
    count,
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

THINKING_BUDGETS = {"none": 0, "minimal": 512, "low": 1_024, "medium": 8_192, "high": 24_576}
"""Tokens that an effort by name stands for where a model wants a number; as Google's own OpenAI-compatible API maps
them (https://ai.google.dev/gemini-api/docs/openai#thinking).
"""

MADE_ID = "tidegate-"
"""With this begins the id of a call to which Gemini gave none. It is never sent to Gemini."""

UNSIGNED = "skip_thought_signature_validator"
"""What stands for the signature of a call that Gemini did not make, such as another provider's before a fallback: its
third generation refuses a turn whose first call has none (https://ai.google.dev/gemini-api/docs/thought-signatures#faqs).
"""

_REASONS = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
}

_PURPOSES = {
    "document": "RETRIEVAL_DOCUMENT",
    "query": "RETRIEVAL_QUERY",
    "classification": "CLASSIFICATION",
    "clustering": "CLUSTERING",
    "similarity": "SEMANTIC_SIMILARITY",
}

_FILE = re.compile(r"https://generativelanguage\.googleapis\.com/|https://www\.youtube\.com/", re.IGNORECASE)
"""Addresses that Gemini fetches from."""

_SIGNED = ("effort", None)
"""How models think whose calls have to be signed: those of the third generation, and those that nobody knows yet."""

_VERSIONED = re.compile(r"/v\d[a-z0-9]*\Z")
_SECONDS = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")


class GeminiProvider(Speaker):
    """Content generation at one address with one key."""

    wordings: ClassVar[Wording] = (
        ("exceeds the maximum number of tokens", ContextLengthExceeded),
        ("api key not valid", AuthenticationFailed),
        ("api key expired", AuthenticationFailed),
    )

    def __init__(self, account: Account) -> None:
        key = account.api_key
        super().__init__(account, {"x-goog-api-key": key.get_secret_value()} if key is not None else {})
        self._root = "" if _VERSIONED.search(account.base_url) else "/v1beta"

    def encode(self, request: ChatRequest, model: str, *, streamed: bool) -> HttpRequest:
        """A POST of the request as JSON. Raises `ConfigError` for what Gemini cannot say."""
        method = "streamGenerateContent?alt=sse" if streamed else "generateContent"
        return self.post(
            self.path(model, method), merged(self._fields(request, model), request.options), streamed=streamed
        )

    def path(self, model: str, method: str) -> str:
        """Of a model's method. Raises `ConfigError` for a name that would be another path."""
        if ".." in model.split("/"):
            raise ConfigError(f"`{self.name}/{model}` is no model's name")
        resource = model if model.startswith(("models/", "tunedModels/")) else f"models/{model}"
        return f"{self._root}/{quote(resource, safe='/')}:{method}"

    def encode_count(self, request: ChatRequest, model: str) -> HttpRequest:
        """The request that asks how many tokens `request` is."""
        fields = {name: value for name, value in self._fields(request, model).items() if value is not None}
        resource = model if "/" in model else f"models/{model}"
        return self.post(self.path(model, "countTokens"), {"generateContentRequest": {"model": resource, **fields}})

    def decode_count(self, body: bytes) -> int:
        """How many they are."""
        found = count(read_answer(body, self.account.api_key), "totalTokens")
        if found is None:
            raise self.unreadable("the answer has no `totalTokens`", body)
        return found

    def _fields(self, request: ChatRequest, model: str) -> dict[str, Any]:
        without_names(self.name, request.messages)
        system, contents = self._conversation(request.messages, signed=facts(self.name, model).thinking in _SIGNED)
        config = {
            "temperature": request.temperature,
            "topP": request.top_p,
            "maxOutputTokens": request.max_tokens,
            "stopSequences": list(request.stop) or None,
            "seed": request.seed,
            "responseMimeType": None if request.schema is None else "application/json",
            "responseJsonSchema": request.schema,
            "responseLogprobs": True if request.logprobs is not None else None,
            "logprobs": request.logprobs or None,
            "thinkingConfig": self._thinking(request.reasoning, model),
        }
        config = {name: value for name, value in config.items() if value is not None}
        return {
            "systemInstruction": {"parts": [{"text": text} for text in system]} if system else None,
            "contents": contents,
            "tools": [{"functionDeclarations": [_tool(tool) for tool in request.tools]}] if request.tools else None,
            "toolConfig": _tool_choice(request.tool_choice),
            "generationConfig": config or None,
        }

    def _thinking(self, reasoning: str | int | None, model: str) -> dict[str, Any] | None:
        if reasoning is None:
            return None
        if isinstance(reasoning, int):
            return {"thinkingBudget": reasoning, "includeThoughts": True}
        if reasoning == "none" or facts(self.name, model).thinking == "tokens":
            return {"thinkingBudget": THINKING_BUDGETS[reasoning], "includeThoughts": reasoning != "none"}
        return {"thinkingLevel": reasoning.upper(), "includeThoughts": True}

    def _conversation(self, messages: Sequence[Message], *, signed: bool) -> tuple[list[str], list[dict[str, Any]]]:
        """The system's texts, and the turns; `signed` where calls have to be."""
        system: list[str] = []
        turns: list[dict[str, Any]] = []
        names: dict[str, str] = {}
        for message in messages:
            names.update((call.id, call.name) for call in message.tool_calls)
            if message.role in ("system", "developer"):
                if turns:
                    raise ConfigError(
                        f"`{self.name}` takes system messages before all others only: say it in a user's turn"
                    )
                system.append(message.text)
            elif message.role == "assistant":
                turns.append({"role": "model", "parts": self._said(message, signed=signed)})
            else:
                parts = [self._result(message, names)] if message.role == "tool" else _parts(message)
                if message.role == "tool" and turns and "functionResponse" in turns[-1]["parts"][-1]:
                    turns[-1]["parts"] += parts  # the results of calls that were made together come together
                else:
                    turns.append({"role": "user", "parts": parts})
        return system, turns

    def _said(self, message: Message, *, signed: bool) -> list[dict[str, Any]]:
        parts = _parts(message)
        own = [thought for thought in message.thoughts if thought.provider == self.name and thought.signature]
        if own and parts:
            parts[-1]["thoughtSignature"] = own[-1].signature
        lacking = signed and not any(call.signature for call in message.tool_calls)
        for index, call in enumerate(message.tool_calls):
            made: dict[str, Any] = {"name": call.name, "args": _arguments(call)}
            if call.id and not call.id.startswith(MADE_ID):
                made["id"] = call.id
            part: dict[str, Any] = {"functionCall": made}
            signature = UNSIGNED if lacking and index == 0 else call.signature
            if signature is not None:
                part["thoughtSignature"] = signature
            parts.append(part)
        return parts or [{"text": ""}]

    def _result(self, message: Message, names: Mapping[str, str]) -> dict[str, Any]:
        if any(isinstance(part, Image) for part in message.content):
            raise ConfigError(f"`{self.name}` takes no pictures in a tool's result")
        called = message.tool_call_id or ""
        name = message.name or names.get(called)
        if name is None:
            raise ConfigError(
                f"`{self.name}` wants the name of the tool with its result: no message before calls `{called}`, "
                "and the result has no `name`"
            )
        response: dict[str, Any] = {"name": name, "response": _response(message)}
        if not called.startswith(MADE_ID):
            response["id"] = called
        return {"functionResponse": response}

    def decode(self, body: bytes, model: str) -> Completion:
        """The first candidate of the answer."""
        answer = read_answer(body, self.account.api_key)
        if isinstance(answer, list) and len(answer) == 1:
            answer = answer[0]  # errors come in a list at times
        if not isinstance(answer, Mapping):
            raise self.unreadable("the answer is not an object", body)
        found = _Content(self.account, model)
        found.take(answer)
        if found.empty:
            raise self.unreadable("the answer has no candidates", body)
        return found.completion(answer)

    embed_batch = 100
    """The most that it takes: https://ai.google.dev/api/embeddings"""

    def encode_embed(self, request: EmbedRequest, model: str) -> HttpRequest:
        """A POST of texts to embed."""
        each = {
            "model": model if "/" in model else f"models/{model}",
            "taskType": _PURPOSES[request.purpose] if request.purpose else None,
            "outputDimensionality": request.dimensions,
        }
        wanted = {name: value for name, value in each.items() if value is not None}
        wanted.update(request.options)
        asked = [{**wanted, "content": {"parts": [{"text": text}]}} for text in request.texts]
        return self.post(self.path(model, "batchEmbedContents"), {"requests": asked})

    def decode_embed(self, body: bytes, model: str, texts: int) -> tuple[tuple[Vector, ...], Usage | None, str]:
        """Their vectors."""
        answer = mapping(read_answer(body, self.account.api_key))
        if answer.get("error"):
            raise _error(answer["error"], self.account)
        found = vectors_in([each.get("values") for each in objects(answer.get("embeddings"))], texts)
        if isinstance(found, str):
            raise self.unreadable(f"the answer cannot be read: {found}", body)
        return found, read_usage(answer.get("usageMetadata")), model

    def stream_decoder(self, model: str) -> GeminiStreamDecoder:
        """A new decoder for one stream."""
        return GeminiStreamDecoder(self.account, model)

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes, now: float) -> CallError:
        """The error that a response without a 2xx status means; how long to wait stands in its body."""
        error = super().refusal(status, headers, body, now)
        wait, daily = _retry_info(error.body)
        if daily and isinstance(error, RateLimited):
            error = QuotaExhausted(
                error.message, status=status, request_id=error.request_id, code=error.code, body=error.body
            )
        elif wait is not None and error.retry_after is None:
            error.retry_after = wait
        return error


class GeminiStreamDecoder(EventReader):
    """Reads answers in pieces: each event is a whole `GenerateContentResponse` with what is new."""

    def __init__(self, account: Account, model: str) -> None:
        super().__init__(account, model)
        self._content = _Content(account, model)

    def feed(self, event: str, data: str) -> Delta | None:  # noqa: ARG002 (events have no names here)
        """One event. Raises `MalformedEvent`, or the error that the event is."""
        if data.strip() == "[DONE]":
            return None
        delta = self._content.take(self.read(data))
        if self._content.finish_reason is not None:
            self.finish_reason = self._content.finish_reason
            self.finished = True
            self.settled = self._content.counted
        return delta

    def completion(self) -> Completion:
        """The answer so far."""
        return self._content.completion(list(self.events))


class _Content:
    """A candidate, whole or growing."""

    def __init__(self, account: Account, model: str) -> None:
        self._account = account
        self._model = model
        self._id: str | None = None
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[ToolCall] = []
        self._signature: str | None = None
        self._citations: list[Citation] = []
        self._logprobs: list[TokenLogprob] = []
        self._message: str | None = None
        self.empty = True
        self.usage: Usage | None = None
        self.counted = False
        """Whether the last piece had figures: those of the last of all are whole."""
        self.finish_reason: str | None = None

    def take(self, answer: Mapping[str, Any]) -> Delta | None:
        """An answer or a piece of one. Raises the error that it is."""
        if answer.get("error"):
            raise _error(answer["error"], self._account)
        self._id = self._id or string(answer.get("responseId"))
        self._model = string(answer.get("modelVersion")) or self._model
        usage = read_usage(answer.get("usageMetadata"))
        self.counted = usage is not None
        self.usage = usage or self.usage
        candidate = next((each for each in objects(answer.get("candidates")) if not each.get("index")), None)
        if candidate is None:
            blocked = string(mapping(answer.get("promptFeedback")).get("blockReason"))
            if blocked is not None:
                raise ContentFiltered(f"the provider refused the question: {blocked}", code=blocked.lower())
            return None
        self.empty = False
        return self._candidate(candidate)

    def _candidate(self, candidate: Mapping[str, Any]) -> Delta:
        texts: list[str] = []
        thoughts: list[str] = []
        calls = len(self._calls)
        for part in objects(mapping(candidate.get("content")).get("parts")):
            self._part(part, texts, thoughts)
        self._text += texts
        self._reasoning += thoughts
        self._citations += _citations(candidate)
        self._logprobs += _logprobs(candidate.get("logprobsResult"))
        reason = string(candidate.get("finishReason"))
        if reason is not None and reason != "FINISH_REASON_UNSPECIFIED":
            self._message = string(candidate.get("finishMessage"))
            mapped = _REASONS.get(reason, reason)
            self.finish_reason = "tool_calls" if mapped == "stop" and self._calls else mapped
        text, thought = "".join(texts), "".join(thoughts)
        some = bool(text or thought or self.finish_reason or len(self._calls) > calls)
        return Delta(text, thought, self.finish_reason, some)

    def _part(self, part: Mapping[str, Any], texts: list[str], thoughts: list[str]) -> None:
        signature = string(part.get("thoughtSignature"))
        called = part.get("functionCall")
        if isinstance(called, Mapping):
            made = f"{MADE_ID}{self._id or 'call'}-{len(self._calls)}"
            arguments = jsontext.encode(called.get("args") or {}).decode()
            name = text_of(called.get("name"))
            self._calls.append(ToolCall(string(called.get("id")) or made, name, arguments, signature))
            return
        self._signature = signature or self._signature
        (thoughts if part.get("thought") is True else texts).append(text_of(part.get("text")))

    def completion(self, raw: object) -> Completion:
        """What there is of the answer."""
        reasoning = "".join(self._reasoning)
        provider = self._account.provider
        return Completion(
            text="".join(self._text),
            provider=provider,
            model=self._model,
            finish_reason=self.finish_reason,
            usage=self.usage,
            tool_calls=tuple(self._calls),
            reasoning=reasoning,
            refusal=self._message if self.finish_reason == "content_filter" else None,
            id=self._id,
            thoughts=(Thought(reasoning, self._signature, provider=provider),) if reasoning or self._signature else (),
            citations=tuple(self._citations),
            logprobs=tuple(self._logprobs),
            raw_data=raw,
        )


def _error(error: object, account: Account) -> CallError:
    found = error_from_event(error, account.api_key, GeminiProvider.wordings)
    found.retry_after = _retry_info(found.body)[0]
    return found


def _retry_info(body: str | None) -> tuple[float | None, bool]:
    """Seconds to wait, and whether it is a day's quota that is used up: `google.rpc` RetryInfo and QuotaFailure."""
    try:
        said = jsontext.decode(body or "")
    except ValueError:
        return None, False
    if isinstance(said, list) and said:
        said = said[0]
    error = mapping(mapping(said).get("error")) or mapping(said)
    wait: float | None = None
    daily = False
    for detail in objects(error.get("details")):
        kind = text_of(detail.get("@type"))
        if kind.endswith("google.rpc.RetryInfo"):
            seconds = _SECONDS.fullmatch(text_of(detail.get("retryDelay")))
            wait = min(float(seconds[1]), RETRY_AFTER_LIMIT) if seconds else wait
        elif kind.endswith("google.rpc.QuotaFailure"):
            daily = daily or any("PerDay" in text_of(each.get("quotaId")) for each in objects(detail.get("violations")))
    return wait, daily


def _tool(tool: Tool) -> dict[str, Any]:
    declared: dict[str, Any] = {"name": tool.name, "description": tool.description}
    if tool.parameters.get("properties"):
        declared["parametersJsonSchema"] = tool.parameters
    return declared


def _tool_choice(choice: str | None) -> dict[str, Any] | None:
    if choice is None:
        return None
    if choice in ("auto", "none"):
        return {"functionCallingConfig": {"mode": choice.upper()}}
    config: dict[str, Any] = {"mode": "ANY"}
    if choice != "required":
        config["allowedFunctionNames"] = [choice]
    return {"functionCallingConfig": config}


def _arguments(call: ToolCall) -> Any:  # noqa: ANN401 (any JSON object)
    """Arguments as an object: Gemini takes nothing else, so those that are none are named as what they are."""
    try:
        parsed = call.parsed()
    except ValueError:
        parsed = None
    return parsed if isinstance(parsed, dict) else {"invalid_json": call.arguments}


def _response(message: Message) -> dict[str, Any]:
    """A result as an object, by the keys that Gemini's documentation names."""
    if message.failed:
        return {"error": message.text}
    try:
        parsed = jsontext.decode(message.text)
    except ValueError:
        parsed = None
    return parsed if isinstance(parsed, dict) else {"result": message.text}


def _parts(message: Message) -> list[dict[str, Any]]:
    if isinstance(message.content, str):
        return [{"text": message.content}] if message.content else []
    return [_image(part) if isinstance(part, Image) else {"text": part.text} for part in message.content]


def _image(image: Image) -> dict[str, Any]:
    if image.detail not in (None, "auto"):
        raise ConfigError(f"`gemini` knows no `detail={image.detail!r}` of a single picture")
    if image.url[:5].lower() == "data:":
        kind, _, data = image.url[5:].partition(";base64,")
        return {"inlineData": {"mimeType": kind.lower(), "data": data}}
    if _FILE.match(image.url):
        return {"fileData": {"fileUri": image.url}}
    raise ConfigError(
        "`gemini` fetches no pictures from other hosts: use `Image.from_file(path)` or `Image.from_bytes(data, …)`"
    )


def _citations(candidate: Mapping[str, Any]) -> list[Citation]:
    cited = mapping(candidate.get("citationMetadata"))
    found = [
        Citation(
            start=place(each.get("startIndex")), end=place(each.get("endIndex")),
            source=string(each.get("uri")), title=string(each.get("title")), raw=each,
        )
        for each in objects(cited.get("citationSources") or cited.get("citations"))
    ]  # fmt: skip
    grounds = mapping(candidate.get("groundingMetadata"))
    chunks = [
        mapping(each.get("web") or each.get("retrievedContext")) for each in objects(grounds.get("groundingChunks"))
    ]
    for support in objects(grounds.get("groundingSupports")):
        segment = mapping(support.get("segment"))
        places = support.get("groundingChunkIndices")
        for index in places if isinstance(places, list) else ():
            source = chunks[index] if place(index) is not None and index < len(chunks) else {}
            found.append(
                Citation(
                    text_of(segment.get("text")), place(segment.get("startIndex")) or 0, place(segment.get("endIndex")),
                    string(source.get("uri")) or string(source.get("title")), string(source.get("title")), raw=support,
                )
            )  # fmt: skip
    return found


def _logprobs(result: object) -> list[TokenLogprob]:
    chosen = objects(mapping(result).get("chosenCandidates"))
    others = objects(mapping(result).get("topCandidates"))
    found = []
    for index, each in enumerate(chosen):
        likely = objects(others[index].get("candidates")) if index < len(others) else []
        found.append(TokenLogprob(*_token(each), tuple(_token(other) for other in likely)))
    return found


def _token(token: Mapping[str, Any]) -> tuple[str, float]:
    return text_of(token.get("token")), number(token.get("logProbability"))


def read_usage(usage: object) -> Usage | None:
    """Gemini's figures; None when there are none. Thoughts are counted beside the answer, and so are tools' prompts."""
    into, out = count(usage, "promptTokenCount"), count(usage, "candidatesTokenCount")
    if into is None and out is None:
        return None
    thought = count(usage, "thoughtsTokenCount") or 0
    into = (into or 0) + (count(usage, "toolUsePromptTokenCount") or 0)
    cached = count(usage, "cachedContentTokenCount") or 0
    return Usage(into, (out or 0) + thought, min(cached, into), 0, thought)
