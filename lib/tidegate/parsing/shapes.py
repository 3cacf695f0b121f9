"""What may stand at a place of a value that is still arriving, and how it is shown until it is whole."""

from __future__ import annotations

import collections.abc
import copy
import datetime as dt
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from functools import cached_property, lru_cache
from typing import Annotated, Any, Final, Literal, NewType, Union, get_args, get_origin
from uuid import UUID

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, JsonValue, PrivateAttr, RootModel, TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo, ModelPrivateAttr

ABSENT: Final[Any] = object()
"""What has not arrived, or cannot be shown."""

_UNSET = PrivateAttr().default
"""pydantic's own sign for no default."""

_SCALARS = (
    bool, int, float, complex, bytes, Decimal, dt.date, dt.time, dt.timedelta, UUID, Enum, type(None),
)  # fmt: skip
_LISTS = frozenset({list, collections.abc.Sequence, collections.abc.MutableSequence})
_OBJECTS = frozenset({dict, collections.abc.Mapping, collections.abc.MutableMapping})


class _Sign(Enum):
    NOTHING = "no value of this kind can stand there"
    WAITS = "it is shown when it is whole"


@dataclass(frozen=True, slots=True)
class _Values:
    """A dict."""

    annotation: Any


@dataclass(frozen=True, slots=True)
class _Takes:
    """What an annotation takes. `lists`: the annotation of the items; `objects`: a model, or `_Values`."""

    text: bool = False
    lists: Any = _Sign.NOTHING
    objects: Any = _Sign.NOTHING


_OTHER = _Takes(lists=_Sign.WAITS, objects=_Sign.WAITS)
_ANYTHING = _Takes(text=True, lists=Any, objects=_Values(Any))


class Place:
    """Where a value may stand. Text is shown as it grows if `text` says so, every other scalar when it is whole."""

    def __init__(self, takes: _Takes, check: _Check | None) -> None:
        self.text = takes.text
        self._takes = takes
        self._check = check

    @cached_property
    def items(self) -> Place | None:
        """Where the items of a list stand; `None`: no list is shown before it is whole."""
        lists = self._takes.lists
        return None if isinstance(lists, _Sign) else place_of(lists)

    @cached_property
    def values(self) -> Place | None:
        """Where the values of a dict stand; `None`: no dict is shown before it is whole."""
        objects = self._takes.objects
        return place_of(objects.annotation) if isinstance(objects, _Values) else None

    @cached_property
    def fields(self) -> Fields | None:
        """The fields of a model; `None`: an object is none of the models that can be shown as they grow."""
        objects = self._takes.objects
        return None if isinstance(objects, _Sign | _Values) else fields_of(objects)

    @property
    def openers(self) -> str:
        """What a container that is shown as it grows begins with."""
        takes = self._takes
        return "{" * (not isinstance(takes.objects, _Sign)) + "[" * (not isinstance(takes.lists, _Sign))

    def whole(self, value: object) -> Any:
        """The value as it is shown once it is complete; `ABSENT` if it is none that can stand here."""
        if self._check is None or (self.text and isinstance(value, str)):
            return value
        return self._check(value)


class _Check:
    """Validates a complete value in lax mode. Made when it is needed first."""

    def __init__(self, annotation: Any, config: ConfigDict | None = None) -> None:
        self._annotation = annotation
        self._config = config

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        try:
            return TypeAdapter(self._annotation, config=self._config)
        except PydanticUserError:  # models and dataclasses have a config of their own
            return TypeAdapter(self._annotation)

    def __call__(self, value: object) -> Any:
        try:
            return self._adapter.validate_python(value)
        except Exception:  # noqa: BLE001 (validators of the user's may raise anything, and `finish` tells)
            return ABSENT


class _Never(_Check):
    def __call__(self, value: object) -> Any:  # noqa: ARG002 (as above)
        return ABSENT


PLAIN = Place(_ANYTHING, None)
"""Where anything may stand."""
UNSEEN = Place(_OTHER, _Never(Any))
"""Where nothing is shown."""


def root_place(into: object) -> Place:
    """Where a whole document stands: plain values for what cannot be shown as it grows, and for a JSON schema."""
    if into is None or isinstance(into, Mapping):
        return PLAIN
    place = place_of(into)
    return place if place.openers else PLAIN


def place_of(annotation: object) -> Place:
    """Where a value of this annotation stands."""
    try:
        return _cached_place(annotation)
    except TypeError:  # metadata that cannot be hashed
        return _place(annotation)


def _place(annotation: object, config: ConfigDict | None = None) -> Place:
    takes = _takes(annotation)
    return PLAIN if takes is _ANYTHING else Place(takes, _Check(annotation, config))


_cached_place = lru_cache(maxsize=1024)(_place)


# Annotations


def _takes(annotation: Any) -> _Takes:
    if annotation is Any or annotation is object or annotation is JsonValue:
        return _ANYTHING
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _takes(arguments[0])
    if hasattr(annotation, "__value__"):  # `type X = …`, also that of typing_extensions
        return _takes(annotation.__value__)
    if isinstance(annotation, NewType):
        return _takes(annotation.__supertype__)
    if origin is Union or origin is types.UnionType:
        return _any_of(_takes(each) for each in arguments)
    return _takes_one(annotation, origin or annotation, arguments)


def _takes_one(annotation: object, origin: Any, arguments: tuple[Any, ...]) -> _Takes:
    if annotation is str:
        return _Takes(text=True)
    if _is_model(annotation):
        return _Takes(objects=annotation)
    if origin is Literal or (isinstance(origin, type) and issubclass(origin, _SCALARS)):
        return _Takes()
    if origin in _LISTS:
        return _Takes(lists=arguments[0] if arguments else Any)
    if origin in _OBJECTS and (not arguments or arguments[0] in (str, Any)):
        return _Takes(objects=_Values(arguments[1] if arguments else Any))
    return _OTHER


def _any_of(ways: Iterable[_Takes]) -> _Takes:
    """A union. Where two of its types take an object, only the whole one says which of them it is."""
    ways = list(ways)
    return _Takes(
        any(each.text for each in ways),
        _only(each.lists for each in ways),
        _only(each.objects for each in ways),
    )


def _only(ways: Iterable[object]) -> object:
    found = [each for each in ways if each is not _Sign.NOTHING]
    return found[0] if len(found) == 1 else _Sign.WAITS if found else _Sign.NOTHING


def _is_model(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel) and not issubclass(annotation, RootModel)


# Models


class Fields:
    """The fields of a model by the names that they may arrive under."""

    def __init__(self, model: type[BaseModel]) -> None:
        self.model = model
        self.open = model.model_config.get("extra") == "allow"
        """Whether keys that it does not know are kept."""
        self._annotations = model.model_fields
        self._names = {alias: name for name in reversed(model.model_fields) for alias in _aliases(model, name)}
        self._places: dict[str, Place] = {}

    def name(self, key: str) -> str | None:
        """The field that a key is for."""
        return self._names.get(key)

    def place(self, name: str) -> Place:
        """Where a field's value stands. Found when it is needed: models may be in themselves."""
        if name not in self._places:
            self._places[name] = _place(_annotation(self._annotations[name]), _config(self.model))
        return self._places[name]

    def blank(self) -> dict[str, Any]:
        """What the fields are before they arrive: their defaults, or `None`."""
        return {name: _default(field) for name, field in self._annotations.items()}

    def private(self) -> dict[str, Any] | None:
        """What the private attributes are, if there are any."""
        attributes = self.model.__private_attributes__
        defaults = {name: _private_default(each) for name, each in attributes.items()}
        return {name: each for name, each in defaults.items() if each is not _UNSET} if attributes else None


@lru_cache(maxsize=1024)
def fields_of(model: type[BaseModel]) -> Fields:
    """The fields of a model, found once."""
    return Fields(model)


def _aliases(model: type[BaseModel], name: str) -> Iterator[str]:
    alias, config = model.model_fields[name].validation_alias, model.model_config
    if alias is None or config.get("populate_by_name") or config.get("validate_by_name"):
        yield name
    for each in alias.choices if isinstance(alias, AliasChoices) else [alias]:
        if isinstance(each, str):  # a path into another member is seen at the end only
            yield each


def _annotation(field: FieldInfo) -> Any:
    metadata = list(field.metadata)
    if field.discriminator is not None:
        metadata.append(Field(discriminator=field.discriminator))
    annotation: Any = field.annotation
    for each in metadata:
        annotation = Annotated[annotation, each]
    return annotation


def _config(model: type[BaseModel]) -> ConfigDict:
    config = model.model_config
    return ConfigDict(arbitrary_types_allowed=True, strict=config.get("strict", False))


def _private_default(attribute: ModelPrivateAttr) -> Any:
    factory: Any = attribute.default_factory
    try:
        return copy.deepcopy(attribute.default) if factory is None else factory()
    except Exception:  # noqa: BLE001 (a factory may need the fields)
        return _UNSET


def _default(field: FieldInfo) -> Any:
    if field.is_required():
        return None
    try:
        return field.get_default(call_default_factory=True, validated_data={})
    except Exception:  # noqa: BLE001 (a factory may need the other fields)
        return None
