"""Where a call's conversation and the bound of its answer stand among its arguments, and how to put others there."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Place = int | str
"""The number of a positional argument, or the name of one that is passed by name."""


class Parameters:
    """What a function takes, as far as it can be known."""

    def __init__(self, function: Callable[..., Any]) -> None:
        try:
            found = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):  # some that are not written in Python do not say
            found = []
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        self.numbers = {each.name: number for number, each in enumerate(found) if each.kind in positional}
        """The places of those that may be passed without their names."""
        self.defaults = {
            each.name: each.default for each in found if each.kind in by_name and each.default is not each.empty
        }
        """The values of those that may be left out and passed by name."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """What one call of a function was passed."""

    parameters: Parameters
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def place(self, name: str) -> Place | None:
        """Where the argument of that name stands, or may stand; None for one that the function does not take."""
        number = self.parameters.numbers.get(name, len(self.args))
        if name not in self.kwargs and number < len(self.args):
            return number
        return name if name in self.kwargs or name in self.parameters.defaults else None

    def value(self, place: Place) -> Any:  # noqa: ANN401 (whatever was passed)
        """What stands there, or the default that would."""
        if isinstance(place, int):
            return self.args[place]
        return self.kwargs[place] if place in self.kwargs else self.parameters.defaults[place]

    def replaced(self, place: Place, value: object) -> Arguments:
        """These arguments, with another value in that place."""
        if isinstance(place, int):
            return dataclasses.replace(self, args=(*self.args[:place], value, *self.args[place + 1 :]))
        return dataclasses.replace(self, kwargs={**self.kwargs, place: value})

    def places(self) -> tuple[Place, ...]:
        """Where something was passed, in order."""
        return (*range(len(self.args)), *self.kwargs)


def conversation_of(arguments: Arguments) -> Place | None:
    """Where the conversation stands: in `messages`, else in the first argument that is a list of messages."""
    named = arguments.place("messages")
    places = arguments.places() if named is None else (named, *arguments.places())
    return next((place for place in places if _is_conversation(arguments.value(place))), None)


def question_of(arguments: Arguments) -> Sequence[object]:
    """A question that is no list of messages, as a conversation of one turn; empty when there is none."""
    places = (arguments.place(name) for name in ("messages", "prompt"))
    question = next((arguments.value(place) for place in places if place is not None), None)
    if isinstance(question, str):
        return [{"role": "user", "content": question}]
    return [question] if _is_message(question) else []


def bound_of(arguments: Arguments) -> Place | None:
    """Where the bound of the answer stands, in tokens, if it is bound."""
    for name in ("max_tokens", "max_completion_tokens"):
        place = arguments.place(name)
        value = None if place is None else arguments.value(place)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return place
    return None


def _is_conversation(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(map(_is_message, value))


def _is_message(value: object) -> bool:
    return isinstance(value.get("role") if isinstance(value, Mapping) else getattr(value, "role", None), str)
