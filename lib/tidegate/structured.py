"""Values instead of texts: ask for one, read it, ask again with what was wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from tidegate.chat.messages import Message, Prompt, to_messages
from tidegate.chat.reply import Completion, Stream
from tidegate.clock import SYSTEM_CLOCK
from tidegate.errors import BadRequest, ConfigError, ParseError, TidegateError
from tidegate.parsing.asking import schema_text, shortened
from tidegate.parsing.found import RepairLevel
from tidegate.parsing.partial import PartialReader
from tidegate.parsing.reading import RobustParser
from tidegate.parsing.result import ParseResult
from tidegate.parsing.schema import Schema

T = TypeVar("T")
R = TypeVar("R")

_LONGEST_ANSWER = 4_000
"""Characters of an answer that are shown again to the model: the context does not grow with the attempts."""

_LONGEST_PROBLEM = 800

_MOST_REFUSALS = 1_000

_NO_SCHEMA = (
    "response_format", "json_schema", "json schema", "structured output", "grammar",
    "output_config", "output_format", "responsejsonschema", "response_json_schema", "response_schema",
)  # fmt: skip
"""Words of providers that refuse a request for its schema."""


@dataclass(frozen=True, slots=True)
class Parsed(Generic[T]):
    """A value that a model was asked for. `completion` is the answer that it was in, `attempts` are all of them."""

    data: T
    completion: Completion
    result: ParseResult[T]
    """How it was read: strategy, repairs, what was dropped."""
    attempts: tuple[Completion, ...]


class SchemaRefusals:
    """Which models refused which schema, so that they are asked without it from then on. Shared by threads."""

    def __init__(self) -> None:
        self._known: set[tuple[str | None, str]] = set()

    def asked(self, ask: Callable[..., R], schema: Schema, model: str | None) -> R:
        """What `ask(schema=…)` answers, or `ask()` where this provider, or this model, does not take the schema."""
        written = schema.json_schema()
        key = (model, schema_text(written))
        if key not in self._known:
            try:
                return ask(schema=written)
            except BadRequest as error:
                if not any(word in str(error).casefold() for word in _NO_SCHEMA):
                    raise
            if len(self._known) < _MOST_REFUSALS:
                self._known.add(key)
        return ask()


class Asking(Generic[T]):
    """Asks for one value. `complete` is the client's; `seconds` is the deadline of all attempts together."""

    def __init__(
        self,
        complete: Callable[..., Completion],
        into: Any,  # noqa: ANN401 (what `parse` takes)
        *,
        retries: int,
        repair: RepairLevel,
        seconds: float | None,
        refusals: SchemaRefusals,
    ) -> None:
        if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
            raise ConfigError(f"`retries` is a whole number of at least 0, not {retries!r}")
        self._complete = complete
        self._parser = RobustParser(repair=repair)
        self._into = into
        self._schema = schema_of(into)
        self._retries = retries
        self._ends_at = None if seconds is None else SYSTEM_CLOCK.monotonic() + seconds
        self._refusals = refusals

    def ask(self, prompt: Prompt, system: str | None, options: Mapping[str, Any]) -> Parsed[T]:
        """The value. Raises `ParseError` with every attempt's text, or what `complete` raises."""
        messages = with_schema(to_messages(prompt, system), self._schema)
        answers: list[Completion] = []
        asked: list[Message] = list(messages)
        while True:
            answers.append(self._answer(asked, options, answers))
            result: ParseResult[T] = self._parser.parse(answers[-1].text, self._into)
            if result.success and not _is_cut(answers[-1], result):
                return Parsed(result.unwrap(), answers[-1], result, tuple(answers))
            if len(answers) > self._retries or self._left() == 0 or _is_refused(answers[-1]):
                raise _error(answers, result)
            asked = [*messages, *_once_more(answers[-1], result)]

    def _answer(self, messages: list[Message], options: Mapping[str, Any], before: list[Completion]) -> Completion:
        def ask(**schema: Any) -> Completion:
            left = self._left()
            timed = {} if left is None else {"timeout": max(left, 0.001)}
            return self._complete(messages, **schema, **timed, **options)

        try:
            return self._refusals.asked(ask, self._schema, options.get("model"))
        except TidegateError as error:
            if before and error.__cause__ is None:  # what was answered, and paid for, before it is not lost
                error.__cause__ = _error(before, self._parser.parse(before[-1].text, self._into))
            raise

    def _left(self) -> float | None:
        return None if self._ends_at is None else max(0.0, self._ends_at - SYSTEM_CLOCK.monotonic())


def schema_of(into: Any) -> Schema:  # noqa: ANN401
    """What is asked for. Raises `ConfigError`, also for nothing."""
    schema = Schema.of(into)
    if schema is None:
        raise ConfigError(
            "`into` says what is asked for: a pydantic model, a type such as `list[int]`, or a JSON schema"
        )
    return schema


def with_schema(messages: tuple[Message, ...], schema: Schema) -> tuple[Message, ...]:
    """The conversation, whose system message says which JSON is wanted."""
    wanted = f"Answer with JSON alone, no other words, following this JSON schema:\n{schema_text(schema.json_schema())}"
    if messages and messages[0].role == "system" and isinstance(messages[0].content, str):
        first = dataclasses.replace(messages[0], content=f"{messages[0].content}\n\n{wanted}")
        return (first, *messages[1:])
    return (Message("system", wanted), *messages)


def _is_cut(answer: Completion, result: ParseResult[Any]) -> bool:
    """Whether the answer broke off, and what is missing may be a part of the value."""
    return answer.finish_reason == "length" and bool(result.truncated or result.repairs)


def _is_refused(answer: Completion) -> bool:
    """Whether the model, or a filter, will not answer this: it would be paid for again and refuse again."""
    return bool(answer.refusal) or answer.finish_reason == "content_filter"


def _once_more(answer: Completion, result: ParseResult[Any]) -> tuple[Message, ...]:
    problem = (result.error or "it breaks off")[:_LONGEST_PROBLEM]
    shorter = " It was cut, so be shorter." if answer.finish_reason == "length" else ""
    ask = f"This cannot be used: {problem}.{shorter} Write all of the JSON again, corrected, and nothing else."
    if not answer.text.strip():  # providers refuse empty messages
        return (Message("user", ask),)
    return (Message("assistant", shortened(answer.text, _LONGEST_ANSWER)), Message("user", ask))


def _error(answers: list[Completion], result: ParseResult[Any]) -> ParseError:
    last = answers[-1]
    count = f"{len(answers)} answers" if len(answers) > 1 else "the answer"
    why = result.error or f"it breaks off in {result.truncated}"
    cut = "; it was cut at its limit of tokens: raise `max_tokens`" if last.finish_reason == "length" else ""
    refused = f"; the model refused: {last.refusal[:200]}" if last.refusal else ""
    filtered = "; the provider's filter stopped it" if last.finish_reason == "content_filter" else ""
    message = f"{last.provider}/{last.model}: no value could be read in {count}: {why}{cut}{refused}{filtered}"
    return ParseError(message, texts=[answer.text for answer in answers])


class ParsedStream(Iterator[T]):
    """Snapshots of a value that is still being written; see `parsing.PartialReader`. Iterate it once, from one thread.

    After the last one `data` is the whole, validated value, `result` how it was read, and `completion` the answer.
    """

    def __init__(self, ask: Callable[[], Stream], into: Any, repair: RepairLevel) -> None:  # noqa: ANN401
        self._reader: PartialReader[T] = PartialReader(into)
        self._into, self._parser = into, RobustParser(repair=repair)
        self._stream = ask()  # once it is clear that what is asked for makes sense
        self._result: ParseResult[T] | None = None
        self._shown: T | None = None

    def __next__(self) -> T:
        """The next snapshot, once it is another one. Raises `ParseError` at the end if the whole is no such value."""
        for chunk in self._stream:
            if chunk.restarted:
                self._reader = PartialReader(self._into)
            snapshot = self._reader.feed(chunk.text)
            if snapshot is not None and snapshot is not self._shown:
                self._shown = snapshot
                return snapshot
        if self._result is None:
            self._result = self._parser.parse(self._stream.completion.text, self._into)
            if not self._result.success:
                raise _error([self._stream.completion], self._result)
            data = self._result.unwrap()
            if data != self._shown:
                return data
        raise StopIteration

    @property
    def data(self) -> T:
        """The whole value. Raises `ParseError` if it is none, and `StreamUnfinished` before the end."""
        return self.result.unwrap()

    @property
    def result(self) -> ParseResult[T]:
        """How the whole was read. Raises `StreamUnfinished` before the end."""
        completion = self.completion
        if self._result is None:  # closed early
            self._result = self._parser.parse(completion.text, self._into)
        return self._result

    @property
    def completion(self) -> Completion:
        """The answer with its usage and cost. Raises `StreamUnfinished` before the end."""
        return self._stream.completion

    def close(self) -> None:
        """End the stream and free its connection."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ParsedStream of {self._stream!r}>"
