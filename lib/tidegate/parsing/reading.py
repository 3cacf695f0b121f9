"""Runs the strategies over a text, and chooses what they found: by the schema, not by luck."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from tidegate.errors import ConfigError
from tidegate.parsing.bare import BareValue
from tidegate.parsing.blocks import YAMLBlock
from tidegate.parsing.calls import ToolCallText
from tidegate.parsing.documents import TooMuch
from tidegate.parsing.found import RANKS, Asked, Found, Parser, Repair, RepairLevel
from tidegate.parsing.lines import KeyValueLines
from tidegate.parsing.literals import PythonLiteral
from tidegate.parsing.marks import Fenced, Tagged
from tidegate.parsing.result import ParseResult
from tidegate.parsing.schema import Mismatch, Schema, Validated
from tidegate.parsing.strict import read_strict
from tidegate.parsing.tags import XMLTags
from tidegate.parsing.whole import JSONSpan, JSONText

T = TypeVar("T")

LARGEST = 4_000_000
"""Characters of a text that is read at all."""

STRATEGIES: dict[str, type[Parser]] = {
    "json": JSONText,
    "tool_call": ToolCallText,
    "fenced": Fenced,
    "tagged": Tagged,
    "python_literal": PythonLiteral,
    "xml": XMLTags,
    "yaml": YAMLBlock,
    "span": JSONSpan,
    "bare": BareValue,
    "key_value": KeyValueLines,
}
"""By name, in the order in which they are tried."""

_MARKING = frozenset({"tool_call", "fenced", "tagged", "span"})
"""Those that find what stands beside something else."""

_LINES = frozenset({"bare", "key_value"})
"""Those that find something in nearly any text: they come last, and only where nothing that looks like JSON is."""


@dataclass(slots=True)
class _Candidate:
    found: Found
    strategy: str
    validated: Validated

    def doubts(self) -> list[str]:
        """Why this cannot be taken for what was meant, as far as `safe` goes."""
        found = self.found
        doubts = [*found.doubts, *(str(each) for each in found.repairs if not each.certain)]
        doubts += [f"{each.path}: {each.what}" for each in self.validated.changes if not each.certain]
        if found.truncated is not None:
            doubts.append(f"it breaks off in {found.truncated}")
        return doubts


class RobustParser:
    """Reads values in what models write, with strategies that you choose. Safe to share between threads.

    `strategies`: names (see `create_robust_parser`) or objects with a `name` and a `find` method, in the order in which
    they are tried; all that need nobody to ask, if you give none. `repair` is the default of `parse`.
    """

    def __init__(self, strategies: Iterable[str | Parser] | None = None, *, repair: RepairLevel = "safe") -> None:
        self.strategies = _made(strategies)
        self.repair = _level(repair)

    @overload
    def parse(self, text: str, into: type[T], *, repair: RepairLevel | None = None) -> ParseResult[T]: ...
    @overload
    def parse(self, text: str, into: Any = None, *, repair: RepairLevel | None = None) -> ParseResult[Any]: ...
    def parse(self, text: str, into: Any = None, *, repair: RepairLevel | None = None) -> ParseResult[Any]:
        """The value in a text: see `tidegate.parsing.parse`."""
        if not isinstance(text, str):
            raise TypeError(f"a text has to be a str, not {type(text).__name__}; decode bytes first")
        level = self.repair if repair is None else _level(repair)
        schema = Schema.of(into)
        if schema is None and self.strategies[:1] and self.strategies[0].name == "json":
            strict = read_strict(text)  # the way of nearly all texts, as short as it can be
            if strict is not None:
                return ParseResult(success=True, data=strict.value, strategy="json", dropped=strict.doubled, text=text)
        return _Run(self.strategies, text, schema, level).result()

    def __repr__(self) -> str:
        return f"RobustParser({', '.join(each.name for each in self.strategies)}; repair={self.repair!r})"


def create_robust_parser(*extra: Parser, repair: RepairLevel = "safe") -> RobustParser:
    """A parser with all the strategies that need nobody to ask, and `extra` ones after them (such as `LLMStrategy`)."""
    return RobustParser([*STRATEGIES, *extra], repair=repair)


def _made(strategies: Iterable[str | Parser] | None) -> tuple[Parser, ...]:
    if isinstance(strategies, str):
        raise ConfigError(f"`strategies` is a list of names, such as [{strategies!r}]")
    made = []
    for each in STRATEGIES if strategies is None else strategies:
        if isinstance(each, str):
            if each not in STRATEGIES:
                raise ConfigError(
                    f"there is no strategy `{each}`; there are {', '.join(STRATEGIES)}, and `LLMStrategy(ask=…)`"
                )
            made.append(STRATEGIES[each]())
        elif isinstance(each, Parser) and not isinstance(each, type):
            made.append(each)
        else:
            raise ConfigError(f"{each!r} is no strategy: it needs a `name` and a method `find(text, asked)`")
    if not made:
        raise ConfigError("`strategies` is empty: nothing could be read")
    return tuple(made)


def _level(repair: object) -> Any:
    if repair not in ("none", "safe", "all"):
        raise ConfigError(f'`repair={repair!r}` is none of "none", "safe" and "all"')
    return repair


class _Run:
    """One text, read once."""

    def __init__(self, strategies: Sequence[Parser], text: str, schema: Schema | None, level: RepairLevel) -> None:
        self.strategies, self.text, self.schema, self.level = strategies, text, schema, level
        self.telling: dict[str, str] = {}
        """What is wrong with what the strategies found, by name, and why the others found nothing."""
        self.absent: dict[str, str] = {}
        self.doubtful: list[_Candidate] = []
        self.mismatched = False

    def result(self) -> ParseResult[Any]:
        """What was chosen, or why nothing was."""
        if len(self.text) > LARGEST:
            return self._refused(f"it has {len(self.text):,} characters, and at most {LARGEST:,} are read")
        for level, strategies in self._rounds():
            for place, strategy in enumerate(strategies):
                chosen = self._tried(strategy, level, tuple(each.name for each in strategies[:place]))
                if chosen is not None:
                    return chosen
        if self.level == "all" and self.doubtful:
            return self._taken(max(self.doubtful, key=_likelihood))
        return self._refused()

    def _rounds(self) -> Iterable[tuple[RepairLevel, list[Parser]]]:
        """First what needs no repair, then with repairs, then lines of text; whoever asks a model comes last."""
        structured = [each for each in self.strategies if each.name in STRATEGIES and each.name not in _LINES]
        lines = [each for each in self.strategies if each.name in _LINES]
        others = [each for each in self.strategies if each.name not in STRATEGIES]
        yield "none", structured
        if self.level != "none":
            yield self.level, structured
        if not self.doubtful:
            yield self.level, lines
        if not (self.level == "all" and self.doubtful):  # the likeliest reading is at hand: no model has to be asked
            yield self.level, others

    def _tried(self, strategy: Parser, level: RepairLevel, before: tuple[str, ...]) -> ParseResult[Any] | None:
        asked = Asked(self.schema, level, problems=(*self.telling.items(), *self.absent.items()), tried=before)
        try:
            found = list(strategy.find(self.text, asked))
        except TooMuch as error:
            return self._refused(str(error))
        except ValueError as error:
            if strategy.name not in self.telling:
                self.absent.setdefault(strategy.name, str(error))
            return None
        fitting: list[_Candidate] = []
        cut: list[Found] = []
        for one in found:
            candidates = list(self._validated(one, strategy))
            fitting += candidates
            if not candidates and one.truncated is not None:
                cut.append(one)  # whole, it might fit
        chosen = self._choice(strategy, fitting, level) if fitting else None
        if chosen is not None and len(fitting) == 1 and any(each.rank >= fitting[0].found.rank for each in cut):
            self.doubtful += fitting
            self._note(strategy, f"a value that breaks off is beside it, at {cut[0].start}", self.level)
            return None
        return chosen

    def _note(self, strategy: Parser, problem: str, level: RepairLevel) -> None:
        if level != "none" or self.level == "none" or strategy.name not in self.telling:
            self.telling[strategy.name] = problem
            self.absent.pop(strategy.name, None)

    def _validated(self, found: Found, strategy: Parser) -> Iterable[_Candidate]:
        """The found value and its rivals, as far as they fit the schema."""
        values = [found.value, *found.rivals]
        problem = None
        fitting = []
        for value in values:
            try:
                fitting.append((value, self._fit(value, found)))
            except Mismatch as error:
                problem = problem or str(error)
        if not fitting:
            self._note(strategy, problem or "it does not fit", self.level)
            return
        if len(fitting) > 1:  # the schema does not decide
            found.repairs.append(
                Repair("ambiguous", found.start, f"{len(fitting)} readings are about as likely", certain=False)
            )
        yield _Candidate(found, strategy.name, fitting[0][1])

    def _fit(self, value: Any, found: Found) -> Validated:
        if self.schema is None:
            return Validated(value)
        return self.schema.validate(value, typed=found.typed, strict=self.level == "none")

    def _choice(self, strategy: Parser, fitting: list[_Candidate], level: RepairLevel) -> ParseResult[Any] | None:
        if level == "none":
            fitting = [each for each in fitting if not each.found.repairs and each.found.truncated is None]
        certain = [each for each in fitting if self.level == "none" or not each.doubts()]
        if len(certain) < len(fitting):
            doubted = [each for each in fitting if each.doubts()]
            self.doubtful += doubted
            self._note(strategy, f"nobody can be sure: {'; '.join(doubted[0].doubts()[:3])}", level)
        best = max((each.found.rank for each in certain), default=0)
        top = [each for each in certain if each.found.rank == best]
        different = _different(top)
        if len(different) == 1:
            chosen = different[0]
            beside = [*fitting, *self.doubtful]
            if self._overruled(chosen) or (self.level != "all" and _disputed(chosen, beside)):
                return None
            if level == "none" and self._rivalled(chosen):
                return None
            return self._taken(chosen)
        if different:
            self.doubtful += different
            self._note(
                strategy, f"there are {len(different)} different values, and nothing says which is meant", self.level
            )
        return None

    def _rivalled(self, candidate: _Candidate) -> bool:
        """Whether something as sure stands beside it, or around it, that only a repair can read.

        What needs no repair is found first, and would be taken without a look at the rest.
        """
        found = candidate.found
        if found.rank >= RANKS["whole"]:
            return False
        for strategy in self.strategies:
            if strategy.name not in _MARKING:
                continue
            try:
                others = list(strategy.find(self.text, Asked(self.schema, "safe")))
            except TooMuch:
                return True
            except ValueError:
                continue
            if any(self._is_rival(each, found) for each in others):
                return True
        return False

    def _is_rival(self, other: Found, found: Found) -> bool:
        same = (other.start, other.end) == (found.start, found.end)
        inside = found.start <= other.start and other.end <= found.end and not (same and other.rank > found.rank)
        if inside or other.rank < found.rank or other.value == found.value:
            return False
        try:
            self._fit(other.value, other)
        except Mismatch:
            return other.truncated is not None and self.schema is not None
        return True

    def _overruled(self, candidate: _Candidate) -> bool:
        """Whether it lies inside of something that could not be read for sure."""
        found = candidate.found
        return self.level != "all" and any(
            each.found.start <= found.start and found.end <= each.found.end and each is not candidate
            for each in self.doubtful
        )

    def _taken(self, candidate: _Candidate) -> ParseResult[Any]:
        found, validated = candidate.found, candidate.validated
        changes = [
            Repair(each.kind, found.start, f"{each.path}: {each.what}", each.certain) for each in validated.changes
        ]
        return ParseResult(
            success=True, data=validated.data, strategy=candidate.strategy,
            repairs=(*sorted(found.repairs, key=lambda each: each.position), *changes),
            truncated=found.truncated, dropped=(*found.dropped, *validated.extra), text=self.text,
        )  # fmt: skip

    def _refused(self, problem: str | None = None) -> ParseResult[Any]:
        told = (
            problem
            or "; ".join(f"{name}: {said}" for name, said in (*self.telling.items(), *self.absent.items()))
            or "nothing was found"
        )
        return ParseResult(success=False, error=told, text=self.text)


def _disputed(chosen: _Candidate, others: list[_Candidate]) -> bool:
    """Whether something else that is as sure, and not inside of it, has a doubt: it may be what was meant."""
    found = chosen.found
    return any(
        each is not chosen
        and each.doubts()
        and each.found.rank >= found.rank
        and each.found.value != found.value
        and not (found.start <= each.found.start and each.found.end <= found.end)
        for each in others
    )


def _likelihood(candidate: _Candidate) -> tuple[int, float, int]:
    found = candidate.found
    return found.rank, -found.cost - 2 * (found.truncated is not None), found.end - found.start


def _different(candidates: list[_Candidate]) -> list[_Candidate]:
    kept: list[_Candidate] = []
    for each in candidates:
        if not any(each.found.value == other.found.value for other in kept):
            kept.append(each)
    return kept


_EVERYTHING: list[RobustParser] = []


@overload
def parse(
    text: str, into: type[T], strategies: Iterable[str | Parser] | None = None, repair: RepairLevel = "safe"
) -> ParseResult[T]: ...
@overload
def parse(
    text: str, into: Any = None, strategies: Iterable[str | Parser] | None = None, repair: RepairLevel = "safe"
) -> ParseResult[Any]: ...
def parse(
    text: str, into: Any = None, strategies: Iterable[str | Parser] | None = None, repair: RepairLevel = "safe"
) -> ParseResult[Any]:
    """Read the value in what a model wrote, and know when nobody can.

    `into`: a pydantic model, any other type that pydantic validates, or a JSON schema (a dict); the plain value if it
    is not given. `strategies`: names or objects, tried in this order; see `RobustParser`. `repair`: `"none"` takes only
    what is written as it should be; `"safe"` repairs what can have been meant in one way only and refuses everything
    else; `"all"` takes the likeliest reading. What was repaired is in the result.

    Never raises for what the text says. Raises `TypeError` if it is no str, and `ConfigError` for other arguments that
    are wrong. A text that is a JSON document always gives exactly what `json.loads` gives.
    """
    if strategies is not None:
        return RobustParser(strategies, repair=repair).parse(text, into)
    if not _EVERYTHING:
        _EVERYTHING.append(RobustParser())
    return _EVERYTHING[0].parse(text, into, repair=repair)
