"""The strategies that read JSON: the whole answer, or the documents in its prose."""

from __future__ import annotations

from collections.abc import Iterator

from tidegate.parsing.answer import Answer, answer_in
from tidegate.parsing.documents import documents
from tidegate.parsing.found import RANKS, Asked, Found
from tidegate.parsing.signs import skip
from tidegate.parsing.strict import read_strict

_LONGEST_SCALAR = 5_000


class JSONText:
    """The answer is a JSON document and nothing else, or begins with one."""

    name = "json"

    def find(self, text: str, asked: Asked) -> Iterator[Found]:
        """The document that the answer begins with."""
        answer = answer_in(text)
        if not _begins_like_json(answer):
            yield from self._scalar(answer)
            return
        yield from _ranked(_read(answer, asked, prose=False), answer)

    @staticmethod
    def _scalar(answer: Answer) -> Iterator[Found]:
        """A number, a truth value or null, if nothing else is there."""
        read = read_strict(answer.body) if len(answer.body) < _LONGEST_SCALAR else None
        if read is None:
            raise ValueError("the text does not begin like a JSON document")
        yield Found(read.value, answer.start, answer.stop, rank=RANKS["whole"])


class JSONSpan:
    """JSON documents somewhere in prose."""

    name = "span"

    def find(self, text: str, asked: Asked) -> Iterator[Found]:
        """Every document that is not inside of another one."""
        answer = answer_in(text)
        if "json" in asked.tried and _begins_like_json(answer):
            return  # what there is was found, or is broken, and said so
        found = _read(answer, asked, prose=True)
        if not found:
            raise ValueError("no JSON document is in the text")
        yield from _ranked(found, answer)


def _begins_like_json(answer: Answer) -> bool:
    at = skip(answer.text, answer.start)
    return answer.text[at : at + 1] in tuple("{[\"'“\\")


def _read(answer: Answer, asked: Asked, *, prose: bool) -> list[Found]:
    return documents(
        answer.text, answer.start, answer.stop, ends_here=not answer.ended, repair=asked.repair != "none", prose=prose
    )


def _ranked(found: list[Found], answer: Answer) -> Iterator[Found]:
    for each in found:
        nothing_else = (
            not answer.text[answer.start : each.start].strip() and not answer.text[each.end : answer.stop].strip()
        )
        each.rank = RANKS["whole" if nothing_else else "prose"]
        yield each
