"""What a call answers: a `Completion`, or an opened `Stream` of `Chunk`s. Both say when they are done."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, Self

from tidegate.abandoned import close_later, settle_at_exit, watch_for_dropped
from tidegate.attempts import Attempt
from tidegate.chat.details import Citation, Thought, TokenLogprob
from tidegate.chat.messages import Message
from tidegate.chat.timeline import Timeline, Trace
from tidegate.errors import CallError, Cancelled, StreamUnfinished

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion

    from tidegate.chat.tools import ToolCall
    from tidegate.chat.usage import Usage

_WHOLE = frozenset({"stop", "tool_calls"})
_CUT = frozenset({"length", "content_filter"})


def _no_trace() -> Trace:
    trace = Trace(lambda: 0.0)
    trace.end()
    return trace


@dataclass(frozen=True, slots=True)
class Completion:
    """One whole answer, or (after a stream was closed early) what there was of it."""

    text: str
    provider: str
    model: str
    """The model that answered, in the provider's words: often a dated version of the one that was asked."""
    finish_reason: str | None = None
    """`stop`, `length`, `tool_calls` or `content_filter`; any other value is the provider's own."""
    usage: Usage | None = None
    """None when the provider gave no figures."""
    cost: Decimal | None = None
    """US dollars; None when the price is unknown, never 0 for that."""
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""
    """The thinking that the provider shows, where it does."""
    refusal: str | None = None
    """The model's own words of refusal, where the provider keeps them apart."""
    id: str | None = None
    """The provider's id of the answer."""
    thoughts: tuple[Thought, ...] = ()
    """The thinking as the provider wants it back with the next turn; `message` has it."""
    citations: tuple[Citation, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    """Of the answer's tokens, where `logprobs=` asked for them."""
    interrupted: bool = False
    """True for what was there when a stream broke off or was closed."""
    raw_data: Any = field(default=None, repr=False, compare=False)
    trace: Trace = field(default_factory=_no_trace, repr=False, compare=False)

    @property
    def complete(self) -> Literal["yes", "no", "unknown"]:
        """Whether the answer is whole.

        `no` when it was cut (by `max_tokens`, a filter, a close), `unknown` when the provider did not say why it
        stopped.
        """
        if self.interrupted or self.finish_reason in _CUT:
            return "no"
        return "yes" if self.finish_reason in _WHOLE else "unknown"

    @property
    def message(self) -> Message:
        """The answer as the assistant's turn, to go on from: with its tool calls and its thoughts."""
        return Message("assistant", self.text, self.tool_calls, thoughts=self.thoughts)

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """What was tried for this answer, oldest first."""
        return tuple(self.trace.attempts)

    @property
    def timeline(self) -> Timeline:
        """Where the time went."""
        return self.trace.timeline()

    @property
    def raw(self) -> Any:  # noqa: ANN401 (the provider's own JSON)
        """The provider's own JSON: an object, or the list of a stream's events."""
        if isinstance(self.raw_data, list):
            return [json.loads(event) for event in self.raw_data]
        return self.raw_data

    def to_openai(self) -> ChatCompletion:
        """The same answer as the official `openai` package's type."""
        from tidegate.chat.openai_sdk import to_chat_completion  # noqa: PLC0415 (the SDK takes 0.4 s to import)

        return to_chat_completion(self)

    def when_done(self, ending: Callable[[Ending], None]) -> None:
        """Call `ending` at once: a completion is done."""
        ending(Ending(self, None))


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a streamed answer."""

    text: str
    index: int
    """0 for the first chunk of the stream."""
    timestamp: float
    """Seconds since 1970-01-01 UTC at which it was read."""
    finish_reason: str | None = None
    """Set on the chunk with which the answer ends."""
    restarted: bool = False
    """The answer begins anew with this chunk: forget the text before it."""
    reasoning: str = ""
    """A piece of the thinking that the provider shows, where it does."""


class Ending(NamedTuple):
    """How a reply ended. `completion` is what there is of the answer; `error` is None when it is whole."""

    completion: Completion | None
    error: CallError | None


class ChunkSource(Protocol):
    """Where a `Stream` gets its chunks."""

    def next_chunk(self) -> Chunk | None:
        """Wait for the next chunk; None when the answer is whole. Raises a `CallError` when it breaks."""
        ...

    def close(self) -> None:
        """End it and free what it holds. From any thread, any number of times; unblocks `next_chunk`."""
        ...

    def completion(self, *, interrupted: bool) -> Completion:
        """The answer so far."""
        ...


class Stream(Iterator[Chunk]):
    """An answer that is still coming. Iterate it once, from one thread; `close()` it from any.

    ::

        with client.stream("…") as stream:
            for chunk in stream:
                print(chunk.text, end="", flush=True)
        print(stream.completion.usage)
    """

    def __init__(self, source: ChunkSource) -> None:
        self._source = source
        self._pieces: list[str] = []
        self._joined = (self._pieces, 0, "")
        self._lock = threading.Lock()
        self._ending: Ending | None = None
        self._listeners: list[Callable[[Ending], None]] = []
        watch_for_dropped()
        settle_at_exit(self)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Chunk:
        """The next chunk. Raises `StreamInterrupted`, `DeadlineExceeded` or `Cancelled` when the answer breaks off."""
        if self._ending is not None:
            if self._ending.error is not None:
                raise self._ending.error
            raise StopIteration
        try:
            chunk = self._source.next_chunk()
        except CallError as error:
            raise self._broken(error) from error.__cause__
        except BaseException:
            self.close()
            raise
        if chunk is None:
            self._end(None)
            raise StopIteration
        if chunk.restarted:
            self._pieces = []
        self._pieces.append(chunk.text)
        return chunk

    def _broken(self, error: CallError) -> CallError:
        """The error to raise: the one that ended the stream first, which another thread's `close()` may have done."""
        error.partial = self.text
        self._end(error)
        self._source.close()
        return error if self._ending is None else (self._ending.error or error)

    @property
    def text(self) -> str:
        """The answer so far."""
        if self._ending is not None and self._ending.completion is not None:
            return self._ending.completion.text  # a chunk on its way when another thread closed may be in one alone
        pieces, joined, text = self._joined
        if pieces is not self._pieces or joined != len(self._pieces):
            pieces = self._pieces
            joined = len(pieces)
            text = "".join(pieces[:joined])
            self._joined = (pieces, joined, text)  # one assignment: another thread may read it
        return text

    @property
    def completion(self) -> Completion:
        """The whole answer with its usage and cost, after the last chunk; what there was of it, after `close()`.

        Raises `StreamUnfinished` before that.
        """
        if self._ending is None or self._ending.completion is None:
            raise StreamUnfinished(
                "the stream has not ended yet: read it to its end, or close it, before `.completion`"
            )
        return self._ending.completion

    def close(self) -> None:
        """End the stream and free its connection. A thread that waits for the next chunk gets `Cancelled` at once."""
        if self._ending is None:
            self._source.close()
            self._end(Cancelled("the stream was closed before its end", partial=self.text))

    def settle(self) -> None:
        """Take what there is for the end of it, as at the end of the program; its connection stays as it is."""
        if self._ending is None:
            self._end(Cancelled("the program ended before the stream did", partial=self.text))

    def when_done(self, ending: Callable[[Ending], None]) -> None:
        """Call `ending` exactly once: on the last chunk, a failure or an early close; at once if that has been."""
        with self._lock:
            if self._ending is None:
                self._listeners.append(ending)
                return
        ending(self._ending)

    def _end(self, error: CallError | None) -> None:
        completion = self._source.completion(interrupted=error is not None)
        with self._lock:
            if self._ending is not None:
                return
            self._ending = ending = Ending(completion, error)
            listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener(ending)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_ending", self) is None:
            close_later(self)

    def __repr__(self) -> str:
        state = "open" if self._ending is None else "ended" if self._ending.error is None else "broken off"
        return f"<Stream {state}, {len(self.text)} characters>"


Reply = Completion | Stream
