"""Functions that a model may call: their names, what they are for and what they take, as Python has them."""

from __future__ import annotations

import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, ParamSpec, TypeVar, overload

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from tidegate.chat.tools import Tool, ToolCall
from tidegate.clock import CancelToken
from tidegate.errors import ConfigError

P = ParamSpec("P")
R = TypeVar("R")

Approve = Callable[[ToolCall, Mapping[str, Any]], bool | str]
"""`approve(call, arguments)`: True lets the call go; False, or a reason as text, does not, and the model is told."""

TIMEOUT = 30.0
"""Seconds that a call of a tool may take, unless it says otherwise."""

OUTPUT_LIMIT = 20_000
"""Characters of a tool's result that the model is shown: some 5,000 tokens."""


@dataclass(frozen=True, eq=False)
class FunctionTool(Generic[P, R]):
    """A function as a tool. It is called as the function that it is; `spec` is what a model is told of it."""

    function: Callable[P, R]
    spec: Tool
    arguments: type[BaseModel] = field(repr=False)
    """Validates what a model gives it."""
    timeout: float | None = TIMEOUT
    output_limit: int = OUTPUT_LIMIT
    approve: Approve | None = None
    takes_cancel: str | None = None
    """The parameter that gets the run's `CancelToken`, if there is one."""

    def __post_init__(self) -> None:
        for attribute in functools.WRAPPER_ASSIGNMENTS:
            if hasattr(self.function, attribute):
                object.__setattr__(self, attribute, getattr(self.function, attribute))
        object.__setattr__(self, "__wrapped__", self.function)

    @property
    def name(self) -> str:
        """As the model calls it."""
        return self.spec.name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The function itself."""
        return self.function(*args, **kwargs)

    def validated(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as the function takes them. Raises `ValueError` that says what does not fit."""
        try:
            made = self.arguments.model_validate(dict(arguments))
        except ValidationError as error:
            problem = "; ".join(_told(each) for each in error.errors()[:8])
        else:
            given = {name: getattr(made, name) for name in made.model_fields_set}
            return {self.arguments.model_fields[name].alias or name: value for name, value in given.items()}
        raise ValueError(problem)


def _told(problem: Any) -> str:  # noqa: ANN401 (pydantic's own shape)
    place = ".".join(map(str, problem["loc"])) or "arguments"
    return f"{place}: {problem['msg']}"


@overload
def tool(function: Callable[P, R], /) -> FunctionTool[P, R]: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = TIMEOUT,
    output_limit: int = OUTPUT_LIMIT,
    approve: Approve | None = None,
    strict: bool | None = None,
) -> Callable[[Callable[P, R]], FunctionTool[P, R]]: ...
def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = TIMEOUT,
    output_limit: int = OUTPUT_LIMIT,
    approve: Approve | None = None,
    strict: bool | None = None,
) -> Any:
    """Make a typed function a tool that a model may call.

    ::

        @tool
        def tide(port: str, day: int = 1) -> str:
            "When high tide comes to a port."

    `name` is the function's, `description` the part of its docstring before `Args:`, and the JSON schema comes from its
    type hints through pydantic, with the descriptions under `Args:` (or `:param port: …`, or `Annotated` with `Field`).
    A parameter of the type `CancelToken` is not shown to the model: it gets the run's own.

    A call may take `timeout` seconds (30; None for as long as the run has) and `output_limit` characters of its result
    reach the model (20,000). `approve` is asked before each call. `strict` asks the provider to hold arguments to the
    schema, where it can. The function runs in a thread and must not be a coroutine. Raises `ConfigError`.
    """
    if function is None:
        return lambda found: _made(found, name, description, timeout, output_limit, approve, strict)
    return _made(function, name, description, timeout, output_limit, approve, strict)


def _made(  # noqa: PLR0917 (see `tool`)
    function: Callable[..., Any],
    name: str | None,
    description: str | None,
    timeout: float | None,
    output_limit: int,
    approve: Approve | None,
    strict: bool | None,  # noqa: FBT001
) -> FunctionTool[..., Any]:
    if isinstance(function, FunctionTool):
        return function
    if not callable(function) or isinstance(function, type):
        raise ConfigError(f"a tool is a function, not `{type(function).__name__}`")
    called: str = name or str(getattr(function, "__name__", type(function).__name__))
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigError(f"the tool `{called}` is asynchronous: tools run in threads, so make it a plain function")
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0):
        raise ConfigError(f"`timeout` of the tool `{called}` is a number of seconds above 0, or None, not {timeout!r}")
    if isinstance(output_limit, bool) or not isinstance(output_limit, int) or output_limit < 1:
        raise ConfigError(f"`output_limit` of the tool `{called}` is a number of characters, not {output_limit!r}")
    if approve is not None and not callable(approve):
        raise ConfigError(f"`approve` of the tool `{called}` is a function of the call and its arguments")
    about, told = _docstring(inspect.getdoc(function) or "")
    model, cancel = _arguments(function, called, told)
    spec = Tool(called, about if description is None else description, _schema(model), strict)
    return FunctionTool(function, spec, model, timeout, output_limit, approve, cancel)


# What it takes


def _arguments(
    function: Callable[..., Any], called: str, told: Mapping[str, str]
) -> tuple[type[BaseModel], str | None]:
    """A model of its parameters, and the parameter that gets a `CancelToken`."""
    hints = _hints(function, called)
    fields: dict[str, Any] = {}
    cancel: str | None = None
    for index, parameter in enumerate(inspect.signature(function).parameters.values()):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise ConfigError(
                f"the tool `{called}` takes `{parameter}`: a model gives arguments by their names, so name each"
            )
        if parameter.name not in hints:
            raise ConfigError(f"the parameter `{parameter.name}` of the tool `{called}` has no type")
        hint = hints[parameter.name]
        if _is_cancel(hint):
            cancel = parameter.name
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        # Under a name that no field of pydantic's own is hidden by, such as `schema` or `_private`.
        about: dict[str, Any] = {"description": told[parameter.name]} if parameter.name in told else {}
        fields[f"field_{index}"] = (hint, Field(default, alias=parameter.name, title=parameter.name, **about))
    try:
        return create_model(called, __config__=ConfigDict(extra="forbid", populate_by_name=False), **fields), cancel
    except (PydanticSchemaGenerationError, PydanticUserError, TypeError) as error:
        problem = str(error).splitlines()[0]
    raise ConfigError(f"the types of the tool `{called}` cannot be told to a model: {problem}")


def _hints(function: Callable[..., Any], called: str) -> dict[str, Any]:
    plain = function if inspect.isroutine(function) else type(function).__call__
    try:
        return typing.get_type_hints(plain, include_extras=True)
    except Exception as error:  # noqa: BLE001 (a hint may be any expression)
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise ConfigError(f"the types of the tool `{called}` cannot be read: {problem}")


def _is_cancel(hint: object) -> bool:
    members = typing.get_args(hint) if isinstance(hint, types.UnionType) else ()
    return hint is CancelToken or CancelToken in members


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(by_alias=True)
    schema.pop("title", None)
    schema.setdefault("properties", {})
    for name, each in schema["properties"].items():
        if each.get("title") == name:
            del each["title"]
    return schema


# What it is for

_SECTION = re.compile(r"^(?:Args|Arguments|Parameters|Returns?|Raises|Yields?|Examples?|Notes?):\s*$", re.MULTILINE)
_FIELD = re.compile(r"^:(?:param|arg|argument|parameter)\s+(?:[\w\[\], .|]+\s+)?\*{0,2}(\w+):\s*(.*)$", re.MULTILINE)
_ENTRY = re.compile(r"^(\s+)\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s*(.*)$")


def _docstring(text: str) -> tuple[str, dict[str, str]]:
    """What a docstring says of the function, and of each of its parameters."""
    told = {found[1]: found[2].strip() for found in _FIELD.finditer(text)}
    head = text[: found.start()] if (found := re.search(r"^:\w+", text, re.MULTILINE)) else text
    section = _SECTION.search(head)
    if section is None:
        return head.strip(), told
    about = head[: section.start()].strip()
    for match in _SECTION.finditer(head):
        if match[0].strip() in ("Args:", "Arguments:", "Parameters:"):
            following = _SECTION.search(head, match.end())
            told.update(_entries(head[match.end() : following.start() if following else len(head)]))
    return about, told


def _entries(section: str) -> dict[str, str]:
    """`name: text` lines, and further lines that are indented below them."""
    told: dict[str, str] = {}
    name, depth = "", 0
    for line in section.splitlines():
        found = _ENTRY.match(line)
        if found is not None and (not name or len(found[1]) <= depth):
            name, depth = found[2], len(found[1])
            told[name] = found[3].strip()
        elif name and line.strip():
            told[name] = f"{told[name]} {line.strip()}".strip()
    return told
