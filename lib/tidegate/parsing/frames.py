"""Containers that are still open, and views of them that do not change later."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from tidegate.parsing.shapes import ABSENT, PLAIN, UNSEEN, Fields, Place


def frame_of(place: Place, opener: str) -> Frame:
    """What holds the members of a container that begins at a place."""
    if opener == "[":
        return _Items(PLAIN, place) if place.items is None else _Items(place.items)
    if place.fields is not None:
        return _Instance(place.fields)
    return _Members(PLAIN, place) if place.values is None else _Members(place.values)


class Frame:
    """A container that is still open. `waits` is its place if it is not shown before it is whole."""

    __slots__ = ("waits",)
    opener = ""

    def __init__(self, waits: Place | None = None) -> None:
        self.waits = waits

    def member(self, key: str) -> Place:
        """Where the value of this key stands. A key that comes again is not shown: the first is not taken back."""
        raise NotImplementedError

    def item(self) -> Place:
        """Where the next item stands."""
        raise NotImplementedError

    def put(self, value: object) -> None:
        """Keep the value of the last member or item that was asked for."""
        raise NotImplementedError

    def view(self, inner: object) -> Any:
        """What has arrived, with the value that is still open, in a container of its own."""
        raise NotImplementedError

    def size(self) -> int:
        """What a view costs, in copied items of a list."""
        raise NotImplementedError

    def closed(self) -> Any:
        """The complete container; nothing is put into it any more."""
        raise NotImplementedError


class _Items(Frame):
    __slots__ = ("_place", "_store")
    opener = "["

    def __init__(self, place: Place, waits: Place | None = None) -> None:
        super().__init__(waits)
        self._place = place
        self._store: list[Any] = []

    def item(self) -> Place:
        return self._place

    def put(self, value: object) -> None:
        self._store.append(value)

    def view(self, inner: object) -> list[Any]:
        return self._store.copy() if inner is ABSENT else [*self._store, inner]

    def size(self) -> int:
        return len(self._store) + 4

    def closed(self) -> list[Any]:
        return self._store


class _Members(Frame):
    __slots__ = ("_key", "_place", "_store")
    opener = "{"

    def __init__(self, place: Place, waits: Place | None = None) -> None:
        super().__init__(waits)
        self._place = place
        self._key: Any = ""
        self._store: dict[Any, Any] = {}

    def member(self, key: str) -> Place:
        self._key = key
        return UNSEEN if key in self._store else self._place

    def put(self, value: object) -> None:
        self._store[self._key] = value

    def view(self, inner: object) -> Any:
        return self._store.copy() if inner is ABSENT else {**self._store, self._key: inner}

    def size(self) -> int:
        return 3 * len(self._store) + 4

    def closed(self) -> Any:
        return self._store


class _Instance(_Members):
    """An instance of a model, of which some fields may be absent."""

    __slots__ = ("_blank", "_fields", "_private")

    def __init__(self, fields: Fields) -> None:
        super().__init__(PLAIN)
        self._fields = fields
        self._blank = fields.blank()
        self._private = fields.private()

    def member(self, key: str) -> Place:
        name = self._fields.name(key)
        self._key = (key,) if name is None else name  # a key that is no field's may be called as a field is
        if self._key in self._store or (name is None and not self._fields.open):
            return UNSEEN
        return PLAIN if name is None else self._fields.place(name)

    def view(self, inner: object) -> Any:
        return self._made(super().view(inner))

    def size(self) -> int:
        return 3 * (len(self._blank) + len(self._store)) + 40

    def closed(self) -> Any:
        return self._made(self._store)

    def _made(self, given: dict[Any, Any]) -> BaseModel:
        """As `model_construct`, which would run `model_post_init` and confuse a field with another's alias."""
        instance = object.__new__(self._fields.model)
        values = {name: each for name, each in given.items() if isinstance(name, str)}
        extra = {name[0]: each for name, each in given.items() if isinstance(name, tuple)}
        object.__setattr__(instance, "__dict__", {**self._blank, **values})
        object.__setattr__(instance, "__pydantic_fields_set__", {*values, *extra})
        object.__setattr__(instance, "__pydantic_extra__", extra if self._fields.open else None)
        object.__setattr__(instance, "__pydantic_private__", self._private and dict(self._private))
        return instance
