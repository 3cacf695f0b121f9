"""Make a conversation smaller that does not fit its model's context window.

One step makes one thing smaller: `max_tokens`, when it is the answer that does not fit, else the conversation, by its
oldest turns. A turn is what a user said and all that followed until a user spoke again, so a tool's call and its result
come and go together. Instructions (`system`, `developer`) and the last turn always stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from tidegate.chat.messages import Image, Text
from tidegate.errors import CallError, ConfigError

M = TypeVar("M")

LEAST_ANSWER = 64
"""Tokens. While there are turns to drop, an answer is not cut down to less: it would be an answer no more."""

BYTES_A_TOKEN = 4
"""Of UTF-8, about, in the tokenizers of today. Only shares depend on it where a provider says its own count."""

MESSAGE_TOKENS = 4
"""What a message costs beside its text."""

PICTURE_TOKENS = 1_000
"""What a picture costs, about: its URL says nothing of it."""


class Shrunk(NamedTuple, Generic[M]):
    """What is left after one step."""

    messages: list[M]
    """The messages that are kept: the same objects, in the same order."""
    max_tokens: int | None
    """The bound of the answer, in tokens."""


def shrink(
    messages: Sequence[M],
    max_tokens: int | None = None,
    *,
    error: BaseException | None = None,
    window: int | None = None,
) -> Shrunk[M]:
    """One step smaller; what is passed in stays as it is.

    `messages` are `Message` objects, dicts in OpenAI's shape, or an SDK's own objects with such fields. `error` is the
    refusal, whose figures count most. `window` is the model's context window in tokens, where it is known.

    It is the answer that does not fit when the conversation leaves it some room and less than `max_tokens`; where no
    window is known, when `max_tokens` is at least as much as the conversation, by a rough count. Then `max_tokens` is
    halved until it fits. Otherwise as many of the oldest turns go as the figures ask for, or, without figures, half of
    what may go.

    Raises `ConfigError` when nothing more can be dropped, or when what is passed is no conversation.
    """
    _check(messages, max_tokens)
    told = figures(error)
    sizes = [_size(message) for message in messages]
    turns = _droppable(messages)
    fit = _Fit(told.window or window, told.prompt, sum(sizes), max_tokens, told.answer)
    smaller = fit.smaller_answer()
    if smaller is not None and (not turns or (fit.blames_answer() and smaller >= LEAST_ANSWER)):
        return Shrunk(list(messages), smaller)
    if not turns:
        raise ConfigError(
            "nothing more can be dropped: what is left are the instructions and the last turn, and a smaller "
            "`max_tokens` would not help"
        )
    gone = _oldest(turns, sizes, fit.excess(sum(sizes[place] for turn in turns for place in turn)))
    return Shrunk([message for place, message in enumerate(messages) if place not in gone], max_tokens)


def _check(messages: object, max_tokens: object) -> None:
    if not isinstance(messages, Sequence) or not all(isinstance(_field(each, "role"), str) for each in messages):
        raise ConfigError("a conversation is a list of messages, each with a `role`")
    if max_tokens is not None and (isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1):
        raise ConfigError(f"`max_tokens` is a whole number of at least 1, not {max_tokens!r}")


@dataclass(frozen=True, slots=True)
class _Fit:
    """How a conversation and its answer stand to the window. All in tokens; None is unknown."""

    window: int | None
    counted: int | None
    """The provider's count of the conversation."""
    estimated: int
    """The rough one."""
    max_tokens: int | None
    default_answer: int | None
    """What the provider reserves for an answer when it is not told."""

    @property
    def prompt(self) -> int:
        return self.estimated if self.counted is None else self.counted

    @property
    def room(self) -> int | None:
        """What the conversation leaves for the answer."""
        return None if self.window is None else self.window - self.prompt

    def blames_answer(self) -> bool:
        if self.max_tokens is None:
            return False
        # What was refused although it seems to fit was counted wrongly: that says nothing.
        unknown = self.room is None or self.room >= self.max_tokens
        return not unknown or self.max_tokens >= self.prompt

    def smaller_answer(self) -> int | None:
        """`max_tokens`, halved until it fits; None when that is of no use."""
        certain = self.counted is not None and self.room is not None
        if self.max_tokens is None or self.max_tokens < 2 or (certain and (self.room or 0) <= 0):
            return None
        smaller = self.max_tokens // 2
        while self.room is not None and smaller > max(self.room, 1):
            smaller //= 2
        return smaller

    def excess(self, droppable: int) -> float:
        """By how much the conversation must get smaller, in roughly counted tokens; `droppable` are what may go."""
        over = 0
        if self.window is not None:
            answer = self.max_tokens or self.default_answer or LEAST_ANSWER
            over = self.prompt - (self.window - min(answer, self.window // 2))
        return droppable / 2 if over <= 0 else over / self.prompt * self.estimated


# Turns


def _droppable(messages: Sequence[object]) -> list[list[int]]:
    """The places of each turn that may go, oldest first: all but the last, and none of the instructions."""
    firsts = _beginnings(messages)
    turns: list[list[int]] = [[]]
    for place, message in enumerate(messages):
        if place in firsts:
            turns.append([])
        if _field(message, "role") not in ("system", "developer"):
            turns[-1].append(place)
    return [turn for turn in turns[:-1] if turn]


def _beginnings(messages: Sequence[object]) -> set[int]:
    """Where a user speaks: but not between a tool's call and its result, nor by a result alone."""
    called: dict[str, int] = {}
    since = []  # of each message, the earliest place of a call that it answers
    for place, message in enumerate(messages):
        since.append(min((called[call] for call in _results(message) if call in called), default=place))
        called.update(dict.fromkeys(_calls(message), place))
    firsts = set()
    open_since = len(messages)
    for place in reversed(range(len(messages))):
        open_since = min(open_since, since[place])
        if open_since >= place and _field(messages[place], "role") == "user":
            firsts.add(place)
    return firsts


def _oldest(turns: Iterable[list[int]], sizes: Sequence[int], excess: float) -> set[int]:
    """The places of the oldest turns that together are as large as `excess`: at least one turn, at most all."""
    gone: set[int] = set()
    size = 0
    for turn in turns:
        gone.update(turn)
        size += sum(sizes[place] for place in turn)
        if size >= excess:
            break
    return gone


# Messages of any kind


def _field(message: object, name: str) -> Any:  # noqa: ANN401 (whatever stands there)
    return message.get(name) if isinstance(message, Mapping) else getattr(message, name, None)


def _parts(message: object, name: str = "content") -> Sequence[Any]:
    parts = _field(message, name)
    return parts if isinstance(parts, Sequence) and not isinstance(parts, str | bytes) else ()


def _calls(message: object) -> Iterator[str]:
    """The ids of the tool calls that a message makes, in OpenAI's shape or in Anthropic's."""
    yield from _texts(_field(call, "id") for call in _parts(message, "tool_calls"))
    yield from _texts(_field(part, "id") for part in _parts(message) if _field(part, "type") == "tool_use")


def _results(message: object) -> Iterator[str]:
    """The ids of the tool calls that a message answers."""
    yield from _texts([_field(message, "tool_call_id")])
    yield from _texts(_field(part, "tool_use_id") for part in _parts(message) if _field(part, "type") == "tool_result")


def _texts(values: Iterable[object]) -> Iterator[str]:
    return (value for value in values if isinstance(value, str))


def _size(message: object) -> int:
    """About how many tokens a message takes."""
    content = _field(message, "content")
    tokens = _size_of_part(content) if isinstance(content, str) else sum(map(_size_of_part, _parts(message)))
    return MESSAGE_TOKENS + tokens + sum(map(_size_of_call, _parts(message, "tool_calls")))


def _size_of_call(call: object) -> int:
    function = _field(call, "function") or call
    return _size_of_text(f"{_field(function, 'name')}{_field(function, 'arguments')}")


def _size_of_part(part: object) -> int:
    if isinstance(part, str | Text):
        return _size_of_text(part if isinstance(part, str) else part.text)
    if isinstance(part, Image) or _field(part, "type") in ("image_url", "image"):
        return PICTURE_TOKENS
    text = _field(part, "text")
    return _size_of_text(text if isinstance(text, str) else str(part))


def _size_of_text(text: str) -> int:
    return round(len(text.encode("utf-8", "replace")) / BYTES_A_TOKEN)


# What a refusal says


@dataclass(frozen=True, slots=True)
class Figures:
    """What a refusal says in numbers, in tokens. None is what it does not say."""

    window: int | None = None
    """The model's context window."""
    prompt: int | None = None
    """The conversation."""
    answer: int | None = None
    """The answer that was asked for."""


def figures(error: BaseException | None) -> Figures:
    """The figures in an error's message and body. They say how much to drop, and never whether to ask again."""
    if error is None:
        return Figures()
    said = f"{error.message}\n{error.body or ''}" if isinstance(error, CallError) else str(error)
    said = said[:READ_LIMIT]
    window, prompt, answer, total = (_first(pattern, said) for pattern in (_WINDOW, _PROMPT, _ANSWER, _TOTAL))
    if total is not None and answer is not None and total > answer:
        prompt = total - answer  # with the tools, which stand in no message
    return Figures(window, prompt, answer)


READ_LIMIT = 16 * 1024
"""Characters of an error in which figures are looked for."""

_NUMBER = r"(\d[\d,]{0,14})"


def _wordings(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(pattern.replace("#", _NUMBER) for pattern in patterns), re.ASCII | re.IGNORECASE)


# Whose words they are: OpenAI, DeepSeek, vLLM and OpenRouter say "maximum context length is # tokens"; Anthropic the
# ones with ">"; Gemini "tokens allowed"; Mistral "maximum context length" after the number; llama.cpp has fields.
_WINDOW = _wordings(
    r'"n_ctx"\s*:\s*#',
    r"context length is (?:only )?#",
    r"context limit: [\d,]{1,15} \+ [\d,]{1,15} > #",
    r"tokens > # maximum",
    r"tokens allowed \(#",
    r"too large for model with #",
    r"available context size \(#",
)
_PROMPT = _wordings(
    r'"n_prompt_tokens"\s*:\s*#',
    r"# (?:tokens )?(?:in the messages|in your prompt|of text input)",
    r"messages resulted in #",
    r"# input tokens",
    r"context limit: # \+",
    r"prompt is too long: #",
    r"input token count \(#",
    r"prompt contains #",
    r"request \(# tokens",
)
_ANSWER = _wordings(
    r"# (?:tokens )?(?:in|for) the (?:completion|output)",
    r"requested # output tokens",
    r"context limit: [\d,]{1,15} \+ #",
    r"is too large: #",
)
_TOTAL = _wordings(r"requested (?:about )?# tokens \(")


def _first(pattern: re.Pattern[str], text: str) -> int | None:
    """The first figure that the pattern finds. Zero is as good as none."""
    found = pattern.search(text)
    digits = next(filter(None, found.groups()), "") if found else ""
    return int(digits.replace(",", "")) or None if digits else None
