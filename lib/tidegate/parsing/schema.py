"""What a value has to be: a pydantic model, any type, or a JSON schema; and what lax validation changed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from tidegate.errors import ConfigError
from tidegate.parsing.strict import read_strict

Path = tuple[str | int, ...]

_ROUNDS = 20
"""Of putting values right that are not on a list, one or more in each."""

_SHORTEST = 3
"""Letters of a name that another one may be near to."""

_NOTHING = frozenset({"null", "none", "nil", "n/a", ""})
_SHOWN = 3


class Mismatch(ValueError):
    """A value is not what the schema says."""


@dataclass(frozen=True, slots=True)
class Change:
    """One value that was taken for another: `coerced` (`"8080"` for 8080) or `nearest name` (`hihg` for `high`)."""

    kind: str
    path: str
    what: str
    certain: bool = True


@dataclass(frozen=True, slots=True)
class Validated:
    """`data`: the instance. `extra`: paths of keys that the schema does not know and that are not in `data`."""

    data: Any
    changes: tuple[Change, ...] = ()
    extra: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Wrong:
    path: Path
    value: Any
    message: str
    listed: bool
    """Whether it had to be one of a list."""


class Schema:
    """Made by `Schema.of`. Shared by threads."""

    def __init__(self, name: str, document: Mapping[str, Any]) -> None:
        self.name = name
        self._document = document

    @staticmethod
    def of(into: Any) -> Schema | None:
        """The schema of a pydantic model, of anything else that can stand in an annotation, or a JSON schema (a dict).

        Raises `ConfigError` for what is none of these.
        """
        if into is None or isinstance(into, Schema):
            return into
        if isinstance(into, Mapping):
            return _Written(into)
        return _Typed(into)

    def json_schema(self) -> dict[str, Any]:
        """As JSON schema, in the version that the field uses: draft 2020-12."""
        return dict(self._document)

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of its members at the top, if it is an object."""
        return frozenset(self._at(()).get("properties", ()))

    def validate(self, value: Any, *, typed: bool = True, strict: bool = False) -> Validated:
        """The instance that `value`, made of JSON's types, stands for.

        `typed=False`: scalars may have been written as text. `strict`: nothing is coerced. Raises `Mismatch`.
        """
        changes: list[Change] = []
        for _ in range(_ROUNDS):
            wrong, data = self._check(value, strict=strict and typed)
            if not wrong:
                return Validated(data, (*changes, *self._coerced(value, data)), tuple(self._extra(value, data)))
            if strict and typed:
                break
            value, made = self._put_right(value, wrong, typed=typed)
            if not made:
                break
            changes += made
        raise Mismatch(self._told(wrong))

    def _check(self, value: Any, *, strict: bool) -> tuple[list[_Wrong], Any]:
        raise NotImplementedError

    def _coerced(self, value: Any, data: Any) -> Iterator[Change]:  # noqa: ARG002 (see `_Typed`)
        """What the making of `data` changed beside; as a rule nothing, since it is the value."""
        return iter(())

    def _extra(self, value: Any, data: Any) -> Iterator[str]:  # noqa: ARG002 (see `_Typed`)
        """Keys of the value that are not in `data`."""
        return iter(())

    def _told(self, wrong: Iterable[_Wrong]) -> str:
        wrong = list(wrong)
        told = "; ".join(f"{shown(each.path)}: {each.message}" for each in wrong[:_SHOWN])
        more = len(wrong) - _SHOWN
        return f"it is no {self.name}: {told}{f'; and {more} more' if more > 0 else ''}"

    # Putting right

    def _put_right(self, value: Any, wrong: list[_Wrong], *, typed: bool) -> tuple[Any, list[Change]]:
        made: list[Change] = []
        for each in wrong:
            new, kind = self._instead(each, typed=typed)
            if kind:
                value = _with(value, each.path, new)
                made.append(Change(kind, shown(each.path), f"{_short(each.value)} became {_short(new)}"))
        return value, made

    def _instead(self, wrong: _Wrong, *, typed: bool) -> tuple[Any, str]:
        """What may stand there, and the kind of the change; no kind, if that is not known."""
        if not isinstance(wrong.value, str):
            return None, ""
        at = self._at(wrong.path)
        names = [each for each in _options(at, self._resolve) if isinstance(each, str)]
        name = nearest(wrong.value, names)
        if name is not None and name != wrong.value:
            return name, "nearest name"
        if not typed and wrong.value.strip().casefold() in _NOTHING and _may_be_null(at, self._resolve):
            return None, "coerced"
        if not typed and wrong.value.lstrip()[:1] in ("{", "["):  # lines of text may have JSON in them
            read = read_strict(wrong.value)
            return (None, "") if read is None else (read.value, "coerced")
        return None, ""

    # The schema's parts

    def _resolve(self, part: Any) -> dict[str, Any]:
        for _ in range(_ROUNDS):
            if not isinstance(part, Mapping):
                return {}
            reference = part.get("$ref")
            if not isinstance(reference, str) or not reference.startswith("#/"):
                return dict(part)
            target: Any = self._document
            for step in reference[2:].split("/"):
                target = target.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(target, Mapping) else None
            part = target
        return {}

    def _at(self, path: Path) -> dict[str, Any]:
        """The part of the schema that is for this place."""
        part = self._resolve(self._document)
        for step in path:
            part = self._resolve(self._inside(part, step))
        return part

    def alternatives(self, path: Path) -> list[dict[str, Any]]:
        """The ways in which a value at this place may be made, each a part of the schema without `anyOf`."""
        parts = [self._at(path)]
        for _ in range(_ROUNDS):
            open_ = next((each for each in parts if "anyOf" in each or "oneOf" in each), None)
            if open_ is None:
                break
            parts.remove(open_)
            parts += [self._resolve(each) for name in ("anyOf", "oneOf") for each in open_.get(name, ())]
        return parts

    def _inside(self, part: dict[str, Any], step: str | int) -> Any:
        ways = [part, *(self._resolve(each) for name in ("anyOf", "oneOf", "allOf") for each in part.get(name, ()))]
        for way in ways:
            if isinstance(step, int) and isinstance(way.get("items"), Mapping):
                return way["items"]
            if isinstance(step, str) and step in way.get("properties", {}):
                return way["properties"][step]
        for way in ways:
            if isinstance(step, str) and isinstance(way.get("additionalProperties"), Mapping):
                return way["additionalProperties"]
        return {}


class _Typed(Schema):
    """By pydantic."""

    def __init__(self, into: Any) -> None:
        try:
            self._adapter: TypeAdapter[Any] = TypeAdapter(into)
            document = self._adapter.json_schema()
        except (PydanticSchemaGenerationError, PydanticUserError) as error:
            problem = str(error).splitlines()[0]
            raise ConfigError(
                f"`into={into!r}` is nothing that pydantic can validate: {problem}. Give a pydantic model, a "
                "dataclass, a type such as `list[int]`, or a JSON schema as a dict"
            ) from None
        super().__init__(getattr(into, "__name__", None) or str(into), document)
        self.into = into

    def _check(self, value: Any, *, strict: bool) -> tuple[list[_Wrong], Any]:
        try:
            if strict:  # as JSON, where a date is text
                return [], self._adapter.validate_json(json.dumps(value), strict=True)
            return [], self._adapter.validate_python(value)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False)
        except Exception as error:  # noqa: BLE001 (validators of the model's own may raise anything)
            told = f"{type(error).__name__}: {error}"[:200]
            return [_Wrong((), value, told, listed=False)], None
        return [
            _Wrong(
                _real(each["loc"], value), each["input"], each["msg"], listed=each["type"] in ("enum", "literal_error")
            )
            for each in problems
        ], None

    def _dumped(self, data: Any) -> Any:
        return self._adapter.dump_python(data, mode="json", by_alias=True, warnings=False)

    def _coerced(self, value: Any, data: Any) -> Iterator[Change]:
        try:
            dumped = self._dumped(data)
        except Exception:  # noqa: BLE001 (serializers of the model's own may do anything, and this is a report)
            return
        yield from _differences(value, dumped, ())

    def _extra(self, value: Any, data: Any) -> Iterator[str]:
        try:
            dumped = self._dumped(data)
        except Exception:  # noqa: BLE001 (as above)
            return
        yield from self._unknown(value, dumped, ())

    def _unknown(self, value: Any, dumped: Any, path: Path) -> Iterator[str]:
        if isinstance(value, dict) and isinstance(dumped, dict):
            known = self._at(path).get("properties", {})
            for name, each in value.items():
                if name in dumped:
                    yield from self._unknown(each, dumped[name], (*path, name))
                elif name not in known:
                    yield shown((*path, name))
        elif isinstance(value, list) and isinstance(dumped, list) and len(value) == len(dumped):
            for place, (before, after) in enumerate(zip(value, dumped, strict=True)):
                yield from self._unknown(before, after, (*path, place))


class _Written(Schema):
    """A JSON schema; the value is kept as it is, but for text that stands for a number, a truth value or nothing."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        import jsonschema  # noqa: PLC0415 (it takes a tenth of a second, and most give types)
        import referencing  # noqa: PLC0415

        self._unresolvable = referencing.exceptions.Unresolvable
        kind = jsonschema.validators.validator_for(dict(document), default=jsonschema.Draft202012Validator)
        try:
            kind.check_schema(dict(document))
        except jsonschema.SchemaError as error:
            raise ConfigError(f"this is no JSON schema: {error.message}") from None
        # A registry of its own, so that no reference is ever fetched.
        self._validator = kind(dict(document), registry=referencing.Registry())
        super().__init__(str(document.get("title", "value of the schema")), document)

    def _check(self, value: Any, *, strict: bool) -> tuple[list[_Wrong], Any]:  # noqa: ARG002 (nothing is coerced here)
        try:
            errors = sorted(
                self._validator.iter_errors(value), key=lambda each: [str(step) for step in each.absolute_path]
            )
        except (self._unresolvable, RecursionError) as error:
            raise ConfigError(f"the JSON schema cannot be used: {error}") from None
        except (ArithmeticError, ValueError) as error:  # `multipleOf`, of a number that is infinite or too large
            return [_Wrong((), value, f"it cannot be checked: {error}"[:200], listed=False)], value
        return [
            _Wrong(tuple(each.absolute_path), each.instance, each.message[:200], listed=each.validator == "enum")
            for each in errors
        ], value

    def _instead(self, wrong: _Wrong, *, typed: bool) -> tuple[Any, str]:
        new, kind = super()._instead(wrong, typed=typed)
        if kind or not isinstance(wrong.value, str):
            return new, kind
        wanted = self._at(wrong.path).get("type", ())
        for each in [wanted] if isinstance(wanted, str) else wanted:
            found = _as_type(wrong.value, each)
            if found is not None:
                return found, "coerced"
        return None, ""


def plain(data: Any) -> Any:
    """The data made of JSON's types: instances as dicts, dates as text."""
    return TypeAdapter(Any).dump_python(data, mode="json", by_alias=True)


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The one of `names` that was meant: alike but for case and punctuation, or one slip away; `None` if several are.

    A slip is a letter too many or too few, or two that changed places. Signs that mean something and digits have to be
    the same, and so have the first letter and the number of words: `not urgent` is not near to `urgent`.
    """
    names = list(dict.fromkeys(names))
    if name in names:
        return name
    likely = [each for each in names if _meaning(each) == _meaning(name)]
    alike = [each for each in likely if _plain(each) == _plain(name)]
    if alike:
        return alike[0] if len(alike) == 1 else None
    if len(name) < _SHORTEST or len(name) > 100:  # of so little or so much nothing is near
        return None
    near = [each for each in names if _slipped(_plain(name), _plain(each))]
    if len(near) != 1 or near[0] not in likely or len(_words(near[0])) != len(_words(name)):
        return None
    return near[0]


def _meaning(name: str) -> tuple[str, ...]:
    """What may not be lost of a name: its digits, and signs such as those of `-1`, `1.5`, `<= 5` and `C++`."""
    return tuple(re.findall(r"\d+|(?<=\d)[.,:/](?=\d)|(?<![^\W_])-(?=\d)|[+<>=#%&|^~*@$€£°]", name))


def _slipped(one: str, other: str) -> bool:
    """Whether a letter is too many or too few, or two next to each other have changed places; not the first one."""
    if one[:1] != other[:1]:
        return False
    if len(one) == len(other):
        apart = [place for place, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
        return len(apart) == 2 and apart[1] == apart[0] + 1 and one[apart[0]] == other[apart[1]] and (
            one[apart[1]] == other[apart[0]])  # fmt: skip
    short, long = sorted((one, other), key=len)
    return len(long) == len(short) + 1 and any(long[:at] + long[at + 1 :] == short for at in range(1, len(long)))


def shown(path: Iterable[str | int]) -> str:
    """`$.steps[2].text`."""
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)


def _plain(name: str) -> str:
    return "".join(sign for sign in name.casefold() if sign.isalnum())


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W_]+", name)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _options(part: dict[str, Any], resolve: Any) -> Iterator[Any]:
    yield from part.get("enum", ())
    if "const" in part:
        yield part["const"]
    for name in ("anyOf", "oneOf", "allOf"):
        for each in part.get(name, ()):
            yield from _options(resolve(each), resolve)


def _may_be_null(part: dict[str, Any], resolve: Any) -> bool:
    kind = part.get("type")
    if kind == "null" or (isinstance(kind, list) and "null" in kind):
        return True
    return any(_may_be_null(resolve(each), resolve) for name in ("anyOf", "oneOf") for each in part.get(name, ()))


def _real(loc: tuple[str | int, ...], value: Any) -> Path:
    """The place in the value; pydantic puts the names of a union's branches between."""
    path: list[str | int] = []
    for step in loc:
        if isinstance(value, dict) and step in value:  # noqa: SIM114 (not the same to mypy)
            value = value[step]
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        elif isinstance(value, dict) and step == loc[-1]:  # a member that is missing
            value = None
        else:
            continue
        path.append(step)
    return tuple(path)


def _with(value: Any, path: Path, new: Any) -> Any:
    """A copy in which `new` is at this place."""
    if not path:
        return new
    first, *rest = path
    if isinstance(value, dict):
        return {**value, first: _with(value.get(first), tuple(rest), new)}
    return [_with(each, tuple(rest), new) if place == first else each for place, each in enumerate(value)]


def _differences(value: Any, dumped: Any, path: Path) -> Iterator[Change]:
    """Scalars whose type is another than it was."""
    if isinstance(value, dict) and isinstance(dumped, dict):
        for name, each in value.items():
            if name in dumped:
                yield from _differences(each, dumped[name], (*path, name))
    elif isinstance(value, list) and isinstance(dumped, list):
        for place, (before, after) in enumerate(zip(value, dumped, strict=False)):
            yield from _differences(before, after, (*path, place))
    elif _is_early(value, dumped):
        yield Change("coerced", shown(path), f"{_short(value)} became {_short(dumped)}", certain=False)
    elif type(value) is not type(dumped) and not (type(value) is int and type(dumped) is float):
        yield Change("coerced", shown(path), f"{_short(value)} became {_short(dumped)}")


_EARLY = re.compile(r"(?:19[67]\d)-\d\d-\d\d")


def _is_early(value: Any, dumped: Any) -> bool:
    """Whether a number was taken for seconds since 1970 and became a date long ago: `2024`, or `20240506`."""
    number = isinstance(value, int | float) or (isinstance(value, str) and value.strip().isdigit())
    return number and isinstance(dumped, str) and _EARLY.match(dumped) is not None


def _as_type(text: str, kind: str) -> Any:
    plain = text.strip()
    if kind == "boolean":
        return {"true": True, "false": False, "yes": True, "no": False}.get(plain.casefold())
    try:
        if kind == "integer":
            return int(plain)
        return float(plain) if kind == "number" else None
    except ValueError:
        return None
