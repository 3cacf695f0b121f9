"""Tokens of a text or of a whole request: counted where the tokenizer is public, else estimated, which it says.

The rules by which OpenAI adds up messages and tools are from its cookbook, "How to count tokens with tiktoken"
(https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken). Where they end (nested schemas, tool calls,
models that it does not name) the count is an estimate.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tidegate import jsontext
from tidegate.accounting.bias import Lesson, Line
from tidegate.accounting.encoders import Encoder, encoder, encoding_name, model_name
from tidegate.accounting.pictures import picture_count
from tidegate.chat.messages import Message, Prompt, Text
from tidegate.chat.request import ChatRequest
from tidegate.chat.tools import Tool, ToolCall
from tidegate.errors import ConfigError
from tidegate.forking import reset_in_child

MOST = 400_000
"""Characters of a request that are encoded on its way out (20 to 90 ms). Of more, samples are counted. `count_tokens`,
for which nobody waits with a deadline, encodes all."""

BYTES_A_TOKEN = 4
"""UTF-8 bytes for a token, where not even an estimate by tokenizer can be had: OpenAI's own rule of thumb."""

MODELS = 512
"""Models that a counter keeps what it has learned of; then it forgets the one it met first."""

_SAMPLES, _LEAST_SAMPLE = 8, 2_000


@dataclass(frozen=True, slots=True)
class TokenCount:
    """Tokens of a request, or of a text."""

    tokens: int
    """As many as are likely; as many as there are, where it is exact."""
    highest: int
    """A bound for reservations, that real figures have not exceeded in practice."""
    exact: bool
    """Counted with the model's own tokenizer, by rules that its provider has published."""
    unlearned: int
    """Before what has been learned of the model was applied."""


class TokenCounter:
    """Counts, and learns from real figures how far off its estimates are.

    Shared by threads, and safe in a forked child, which keeps what was learned. Counting never fails and never waits
    for anything but, once, the loading of a tokenizer (0.25 s).
    """

    def __init__(self) -> None:
        self._profiles: dict[tuple[str, str], _Profile] = {}
        self._renew()
        reset_in_child(self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()

    def count(self, request: ChatRequest, provider: str, model: str) -> TokenCount:
        """Tokens of a whole request, as `provider` would bill them for `model`."""
        try:
            profile = self._profiles.get((provider, model)) or self._new_profile(provider, model)
            return profile.of_request(request, MOST)
        except Exception:  # noqa: BLE001 (a call must not fail for what cannot be counted, whatever its parts are)
            return _by_length(sum(_length(message) for message in request.messages) + 400 * len(request.tools))

    def count_text(self, text: str, provider: str, model: str) -> TokenCount:
        """Tokens of a text alone, such as what has come of an answer."""
        try:
            profile = self._profiles.get((provider, model)) or self._new_profile(provider, model)
            return profile.of_text(text, MOST)
        except Exception:  # noqa: BLE001 (see `count`)
            return _by_length(len(text.encode("utf-8", "replace")))

    def learns(self, provider: str, model: str) -> bool:
        """Whether there is something to learn: what was never counted here is not worth loading a tokenizer for."""
        profile = self._profiles.get((provider, model))
        return profile is not None and not profile.kin.published

    def learn(self, provider: str, model: str, counted: TokenCount | int, actual: int) -> None:
        """What the provider billed for a request that was counted here; for exact counts there is nothing to learn.

        `counted` is best what `count` answered then. As a plain number it is taken for what `count` says now.
        """
        profile = self._profiles.get((provider, model)) or self._new_profile(provider, model)
        if profile.kin.published:
            return
        with self._lock:
            lesson = profile.lesson
            plain = counted.unlearned if isinstance(counted, TokenCount) else lesson.line.counted(counted)
            lesson.learn(plain, actual)

    def _new_profile(self, provider: str, model: str) -> _Profile:
        made = _Profile(provider, model)
        with self._lock:
            if len(self._profiles) >= MODELS:
                del self._profiles[next(iter(self._profiles))]
            return self._profiles.setdefault((provider, model), made)


def count_tokens(
    text_or_messages: Prompt,
    model: str,
    *,
    tools: Iterable[Tool | Mapping[str, Any]] | None = None,
    schema: Any = None,  # noqa: ANN401 (a JSON schema, or anything with `model_json_schema()`)
) -> int:
    """Tokens of a text, or of a whole request when messages (or a text with tools or a schema) are given.

    `model` is `"provider/model"` or a bare name. Exact for models with a public tokenizer, however long the text; for
    others an estimate, which knows nothing of what clients have learned. Nothing is sent. Raises `ConfigError` for what
    is neither a text nor messages, and for a model that is not a name.
    """
    if not isinstance(model, str) or not model.strip():
        raise ConfigError('`model` is a name such as "openai/gpt-4o-mini" or "gpt-4o-mini"')
    provider, slash, name = model.strip().partition("/")
    profile = _Profile(provider, name) if slash else _Profile("", provider)
    try:
        if isinstance(text_or_messages, str) and not tools and schema is None:
            return profile.of_text(text_or_messages, None).tokens
        return profile.of_request(ChatRequest.build(text_or_messages, tools=tools, schema=schema), None).tokens
    except ConfigError:
        raise
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        problem = str(error) or type(error).__name__
    raise ConfigError(f"it cannot be counted: {problem}")


# What is known of a model before anything was asked of it


class _Kin(NamedTuple):
    """How the requests of related models are counted."""

    line: Line
    least_excess: float = 0.15
    published: bool = False
    """Whether OpenAI says how messages are added up."""
    a_message: int = 3
    a_reply: int = 3
    tool_prompt: int = 0
    """What the provider adds when there are tools."""


# The cookbook names gpt-3.5, gpt-4, gpt-4o and gpt-4o-mini. That gpt-4.1 and gpt-4.5 are billed as gpt-4o is, and the
# o-models a token less, is from figures that users have published.
_PUBLISHED_NAMES = re.compile(r"(gpt-4o|chatgpt-4o|gpt-4\.1|gpt-4\.5|gpt-4|gpt-3\.5|gpt-35)(?![a-z0-9.])")
_PUBLISHED = _Kin(Line(1, 0, 0), published=True)

# The tokenizer is public, but not what is put around messages.
_KNOWN_TEXT = _Kin(Line(1, 0, 0.05), least_excess=0.03)

# The format `harmony`, which these models were published with, says what model it is, today's date and more.
_HARMONY = _Kin(Line(1, 65, 0.1), least_excess=0.03, a_message=4)

# Slopes are to o200k_base, from 60 texts each of 1,500 characters in English, German, French, Russian, Chinese and
# Japanese (manual pages), Python and JSON: the geometric mean of the medians, with room above it for the language
# furthest off. Measured, with that language's 95th percentile: Llama 3 1.03 (1.19), Qwen 3 1.04 (1.21), Mistral's
# Tekken 1.06 (1.30) and the one before it 1.30 (1.56), Claude 2 1.20 (1.84). SmolLM2 has 1.18 in English and 2.6 in
# Russian, and a system prompt of its own. What newer Claudes, Gemini, Grok and Command count with is not public: theirs
# are guesses, and have most to learn.
_ESTIMATED: tuple[tuple[str, _Kin], ...] = (
    ("claude", _Kin(Line(1.25, 5, 0.6), tool_prompt=346)),  # as its page on tool use says
    ("llama", _Kin(Line(1.05, 5, 0.3))),
    ("qwen", _Kin(Line(1.05, 5, 0.3))),
    ("tral", _Kin(Line(1.15, 5, 0.4))),  # Mistral, Ministral, Magistral, Codestral, Mixtral, Pixtral, Devstral
    ("gem", _Kin(Line(1.05, 0, 0.5))),  # Gemini, Gemma
    ("deepseek", _Kin(Line(1.1, 5, 0.4))),
    ("smol", _Kin(Line(1.2, 15, 0.6))),
    ("command", _Kin(Line(1.1, 5, 0.5))),
    ("grok", _Kin(Line(1.1, 5, 0.5))),
)
_UNKNOWN = _Kin(Line(1.15, 10, 0.6))
_BLIND = _Kin(Line(1, 10, 1.5), least_excess=0.5)
"""Without any tokenizer. Of the texts above, four in a hundred had more than twice a token for four bytes."""


def _kin(name: str, encoding: str | None) -> _Kin:
    if encoding is None:
        return next((kin for word, kin in _ESTIMATED if word in name), _UNKNOWN)
    if name.startswith("gpt-oss"):
        return _HARMONY
    return _PUBLISHED if _PUBLISHED_NAMES.match(name) else _KNOWN_TEXT


class _Profile:
    """How one model's requests are counted, and what has been learned of it."""

    def __init__(self, provider: str, model: str) -> None:
        self._provider = provider
        self._name = name = model_name(model)
        encoding = encoding_name(name)
        if encoding not in {"cl100k_base", "o200k_base"}:
            encoding = None
        self._encoder = encoder(encoding or "o200k_base")
        self._own_tokenizer = encoding is not None and self._encoder is not None
        self.kin = _kin(name, encoding) if self._encoder is not None else _BLIND
        self._tool_start = 10 if encoding == "cl100k_base" else 7
        self.lesson = Lesson(self.kin.line, least_excess=self.kin.least_excess)

    def of_text(self, text: str, most: int | None) -> TokenCount:
        """A text's tokens: what surrounds a request is not in it."""
        tally = _Tally(self._encoder, most)
        tally.add(text)
        if self._own_tokenizer:
            return TokenCount(tally.tokens, tally.tokens + tally.margin, tally.exact, tally.tokens)
        slope, _, excess = self.lesson.line
        likely = round(slope * tally.tokens)
        highest = likely + round(excess * (likely + bool(text))) + tally.margin
        return TokenCount(likely, highest, exact=False, unlearned=tally.tokens)

    def of_request(self, request: ChatRequest, most: int | None) -> TokenCount:
        """A request's tokens."""
        kin = self.kin
        tally = _Tally(self._encoder, most)
        tally.tokens = kin.a_reply
        for message in request.messages:
            self._add_message(tally, message)
        if request.tools:
            self._add_tools(tally, request.tools)
        if request.schema is not None:
            tally.guess(jsontext.encode(request.schema).decode(), 12)
        margin = tally.margin + kin.a_reply + len(request.messages)
        counted = tally.tokens
        if kin.published:
            return TokenCount(counted, counted + margin, tally.exact, counted)
        line = self.lesson.line
        return TokenCount(line.likely(counted), line.highest(counted) + margin, exact=False, unlearned=counted)

    def _add_message(self, tally: _Tally, message: Message) -> None:
        tally.tokens += self.kin.a_message + 1  # each role is one token
        content = message.content
        if isinstance(content, str):
            tally.add(content)
        else:
            for part in content:
                if isinstance(part, Text):
                    tally.add(part.text)
                else:
                    tokens, highest, exact = picture_count(part, self._provider, self._name)
                    tally.take(self._before_slope(tokens), self._before_slope(highest), exact=exact)
        if message.name is not None:
            tally.tokens += 1
            tally.add(message.name)
        if message.tool_calls:
            _add_calls(tally, message.tool_calls)

    def _before_slope(self, tokens: int) -> int:
        """What becomes `tokens` with the usual slope, which is the text's: for what is known in the model's own."""
        return round(tokens / self.kin.line.slope)

    def _add_tools(self, tally: _Tally, tools: Iterable[Tool]) -> None:
        before = tally.tokens
        tally.tokens += 12 + self._before_slope(self.kin.tool_prompt)
        for tool in tools:
            tally.tokens += self._tool_start
            tally.add(f"{tool.name}:{tool.description.removesuffix('.')}")
            _add_schema(tally, tool.parameters, _OF_OBJECTS)
        tally.margin += (tally.tokens - before) // 4


def _add_calls(tally: _Tally, calls: Iterable[ToolCall]) -> None:
    """What a model has asked to be called: the text is known, and what is put around it is not."""
    for call in calls:
        tally.guess(call.name, 3)
        tally.guess(call.arguments, 1)
        tally.margin += 12


_OF_OBJECTS = frozenset({"type", "properties", "required"})
_OF_PROPERTIES = _OF_OBJECTS | {"description", "enum"}
_NOT_SHOWN = frozenset({"title", "additionalProperties"})
"""Models are not shown these, as far as one can tell from what is billed."""


def _add_schema(tally: _Tally, schema: Mapping[str, Any], usual: frozenset[str]) -> None:
    """The properties of an object. What the published rules are silent about is counted as the JSON that it is."""
    unusual = schema.keys() - usual
    if unusual:
        tally.exact = False
        silent = {key: schema[key] for key in unusual - _NOT_SHOWN}
        if silent:
            tally.guess(jsontext.encode(silent).decode(), 0)
    properties = schema.get("properties")
    if properties:
        tally.tokens += 3
        for name, value in properties.items():
            tally.tokens += 3
            _add_property(tally, name, value)


def _add_property(tally: _Tally, name: str, value: Any) -> None:  # noqa: ANN401 (whatever stands there)
    if not isinstance(value, Mapping):
        tally.guess(f"{name}:{value}", 0)
        return
    tally.add(f"{name}:{value.get('type', '')}:{str(value.get('description', '')).removesuffix('.')}")
    if "enum" in value:
        tally.tokens -= 3
        for item in value["enum"]:
            tally.tokens += 3
            tally.add(str(item))
    _add_schema(tally, value, _OF_PROPERTIES)
    tally.exact = tally.exact and "properties" not in value


class _Tally:
    """A sum of tokens: how far it can be trusted, and how much may still be encoded for it."""

    __slots__ = ("_encoder", "_left", "exact", "margin", "tokens")

    def __init__(self, encoder: Encoder | None, most: int | None) -> None:
        """`most` characters are encoded; None: all."""
        self._encoder = encoder
        self._left = most
        self.tokens = 0
        self.margin = 0
        """What may come on top, where something is a guess."""
        self.exact = encoder is not None

    def add(self, text: str) -> None:
        """The tokens of a text."""
        left, length = self._left, len(text)
        if self._encoder is None:
            self.tokens += -(-len(text.encode("utf-8", "replace")) // BYTES_A_TOKEN)
        elif left is None or length <= left:
            tokens, exact = self._encoder.count(text)
            self.tokens += tokens
            self.exact = self.exact and exact
            if left is not None:
                self._left = left - length
        else:
            self._sample(self._encoder, text, left)

    def _sample(self, encoder: Encoder, text: str, left: int) -> None:
        """A text that is too long: some of it, from all over it, stands for all."""
        known = encoder.known(text)
        if known is not None:
            self.take(known.tokens, known.tokens, exact=known.exact)
            return
        each = min(len(text), max(left, _LEAST_SAMPLE)) // _SAMPLES
        starts = [index * (len(text) - each) // (_SAMPLES - 1) for index in range(_SAMPLES)]
        counted = sum(encoder.count(text[start : start + each]).tokens for start in starts)
        tokens = round(counted * len(text) / (each * _SAMPLES)) if each else len(text)
        self._left = max(0, left - each * _SAMPLES)
        self.take(tokens, tokens + tokens // 5, exact=False)

    def guess(self, text: str, around: int) -> None:
        """A text that the provider writes in a way of its own, with so many tokens more."""
        before = self.tokens
        self.add(text)
        self.tokens += around
        self.margin += (self.tokens - before) // 2
        self.exact = False

    def take(self, tokens: int, highest: int, exact: bool) -> None:  # noqa: FBT001 (the fields of a count)
        """What was counted elsewhere."""
        self.tokens += tokens
        self.margin += highest - tokens
        self.exact = self.exact and exact


def _by_length(size: int) -> TokenCount:
    """What is said when nothing can be counted."""
    tokens = 10 + size // BYTES_A_TOKEN
    return TokenCount(tokens, 2 * tokens + tokens // 2, exact=False, unlearned=tokens)


def _length(message: Message) -> int:
    """UTF-8 bytes of a message, roughly: whatever else is in it."""
    return len(message.text.encode("utf-8", "replace")) + sum(len(call.arguments) for call in message.tool_calls)
