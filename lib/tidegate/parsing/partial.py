"""Values of a text that is still arriving: a typed snapshot after each chunk, which later ones only add to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar, overload

from tidegate.parsing.beginnings import Beginning
from tidegate.parsing.growing import Document
from tidegate.parsing.reading import LARGEST, parse
from tidegate.parsing.result import ParseResult
from tidegate.parsing.schema import Schema
from tidegate.parsing.shapes import root_place

T = TypeVar("T")

_SAVED = 4_000_000
"""Items of a list that may be copied for snapshots whatever arrives: some hundredths of a second."""
_PAID = 32
"""How many more for each character that arrives: what makes the whole stream linear."""


class PartialReader(Generic[T]):
    """Reads a value while its text arrives: feed it chunks, and get what there is so far.

    `into` is what `parse` takes: a pydantic model, another type, a JSON schema (a dict), or nothing for plain values.
    What a snapshot is:

    * Plain values are dicts, lists and scalars. Of a model it is an **instance of the model itself**, also inside of
      other models, lists and dicts. `model_fields_set` has the fields that have arrived; the others are what they are
      by default, or `None`, and `model_dump(exclude_unset=True)` leaves them out. Validators of the model and
      `model_post_init` do not run: they are for whole values. A dataclass, a `TypedDict` or a union of models is shown
      as plain values where it is the whole document, and inside of one when it is complete.
    * Text is shown as far as it has arrived, not yet stripped or checked, and no escape by halves. A number, a word and
      all other types appear when they are complete, coerced as `parse` does it. A value that its type does not take is
      left out, until `finish` says what is wrong.
    * **Nothing is taken back.** Texts, lists and dicts of a snapshot begin with those of each one before it. A key that
      comes twice shows its first value. One exception: when a `</think>` or, for a document that was in prose, a fence
      shows that it was not the answer, the snapshot is that of the next document, as soon as that has begun.
    * Snapshots do not change later, so keep as many as you like. Those parts that are complete are shared between
      them: copy what you want to change.

    The document begins at the first `{` or `[` that can be one: after thoughts, a fence or tag, or in prose. Trailing
    commas, single quotes, keys without quotes, Python's words and comments are read over. At anything that is not
    certain the snapshot is *frozen*: it stays as it is, `frozen` says why, and `finish` decides with the whole text.

    The work is linear in the text, however it is cut: nothing is read twice, and a snapshot is made when the text so
    far is worth the copying. Of the first ten thousand characters or so that is after every chunk; then, while a text
    or list of thousands is open, after some. The snapshot of a complete document is always made; `latest` makes it at
    any time.

    Not for several threads at once. Raises `ConfigError` if `into` is nothing that can be validated.
    """

    @overload
    def __init__(self, into: type[T]) -> None: ...
    @overload
    def __init__(self: PartialReader[Any], into: Any = None) -> None: ...
    def __init__(self, into: Any = None) -> None:
        self._schema = Schema.of(into)
        self._place = root_place(getattr(self._schema, "into", None))
        self._beginning = Beginning(self._place.openers)
        self._document: Document | None = None
        self._snapshot: T | None = None
        self._frozen: str | None = None
        self._pieces: list[str] = []
        self._length = 0
        self._paid = _SAVED
        self._direct = False
        self._result: ParseResult[T] | None = None

    @property
    def snapshot(self) -> T | None:
        """The newest snapshot; `None` until a document has begun."""
        return self._snapshot

    @property
    def frozen(self) -> str | None:
        """Why the snapshot stays as it is, with the place in characters; `None` while it follows the text."""
        return self._frozen

    @property
    def text(self) -> str:
        """All that was fed."""
        self._pieces = ["".join(self._pieces)]
        return self._pieces[0]

    def feed(self, chunk: str) -> T | None:
        """Take the next characters, any number of them; returns `snapshot`, the same object if it shows nothing new.

        Raises `TypeError` if `chunk` is no str, and `RuntimeError` after `finish`. Never raises for what the text says.
        """
        if not isinstance(chunk, str):
            raise TypeError(
                f"a chunk has to be a str, not {type(chunk).__name__}; decode bytes first, with an incremental decoder"
            )
        if self._result is not None:
            raise RuntimeError("this reader is finished; another text needs a reader of its own")
        self._pieces.append(chunk)
        self._length += len(chunk)
        self._paid += len(chunk) * _PAID
        if self._length > LARGEST:
            self._freeze(f"it has more than {LARGEST:,} characters")
        else:
            self._read(chunk)
        if self._paid >= 0:
            self.latest()
        return self._snapshot

    def latest(self) -> T | None:
        """The snapshot of all that has arrived, made now if it is behind. Costs as much as what is open is long."""
        document = self._document
        if document is not None and document.sure and document.changed:
            self._frozen = None
            self._snapshot, cost = document.view()
            self._paid -= cost
        return self._snapshot

    def finish(self) -> ParseResult[T]:
        """What `parse` says of the whole text: the same value, success or refusal. No more can be fed."""
        if self._result is None:
            self.latest()
            self._result = parse(self.text, self._schema)
        return self._result

    def _read(self, chunk: str) -> None:
        at = 0
        while at < len(chunk):
            if self._document is None:
                at = self._look(chunk, at)
            else:
                at = self._document.read(chunk, at)
                if self._document.ended:
                    self._leave(self._document, self._length - len(chunk) + at)

    def _look(self, chunk: str, at: int) -> int:
        at = self._beginning.search(chunk, at)
        if at < len(chunk):
            self._direct = self._beginning.direct
            self._document = Document(self._place, direct=self._direct)
        return at

    def _leave(self, document: Document, at: int) -> None:
        """The document is complete, cannot be read on, or was none."""
        if document.sure:
            self.latest()
            if document.problem is not None:
                self._frozen = f"{document.problem}, at {at}"
            self._beginning.behind(fences=not self._direct)
        else:
            self._beginning.resume()
        self._document = None

    def _freeze(self, problem: str) -> None:
        if self._document is not None and self._document.sure:
            self.latest()
        self._document, self._frozen = None, problem


def grow(pieces: Iterable[str], reader: PartialReader[T]) -> Iterator[T]:
    """Feed a reader, and yield its snapshot whenever it shows more, the last one always; then call `reader.finish()`.

    Takes the next piece only when the next snapshot is asked for. What `pieces` raises goes through.
    """
    shown: T | None = None
    for piece in pieces:
        snapshot = reader.feed(piece)
        if snapshot is not None and snapshot is not shown:
            shown = snapshot
            yield snapshot
    last = reader.latest()
    if last is not None and last is not shown:
        yield last
