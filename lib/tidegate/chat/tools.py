"""Tools that a model may ask to be called, and its calls."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tidegate.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may ask for. `parameters` is a JSON schema of an object."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})
    strict: bool | None = None
    """Ask the provider to hold arguments to the schema, where it can."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ConfigError("a tool's name has 1 to 128 letters, digits, `_`, `-` or `.`")
        if not isinstance(self.description, str):
            raise ConfigError(f"the description of the tool `{self.name}` is a text")
        if not isinstance(self.parameters, Mapping):
            raise ConfigError(f"the parameters of the tool `{self.name}` are a JSON schema (a dict)")


def to_tools(tools: Iterable[Tool | Mapping[str, Any]] | None) -> tuple[Tool, ...]:
    """Tools from `Tool` objects or from dicts in OpenAI's shape."""
    if tools is not None and not isinstance(tools, Iterable):
        raise ConfigError(f"`tools` is a list of tools, not `{type(tools).__name__}`")
    found = tuple(_tool(tool) for tool in tools or ())
    names = [tool.name for tool in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"two tools are called `{twice}`")
    return found


def _tool(tool: Tool | Mapping[str, Any]) -> Tool:
    if isinstance(tool, Tool):
        return tool
    function = tool.get("function", tool) if isinstance(tool, Mapping) else None
    if not isinstance(function, Mapping) or "name" not in function:
        raise ConfigError("a tool is a `Tool`, or a dict with `name`, `description` and `parameters`")
    known = {key: function[key] for key in ("description", "parameters", "strict") if function.get(key) is not None}
    return Tool(function["name"], **known)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish to call a tool. `arguments` is the JSON text as the model wrote it, checked by nobody yet."""

    id: str
    name: str
    arguments: str = "{}"
    signature: str | None = None
    """The provider's proof of the thinking behind it, where it wants that back (Gemini). Opaque."""

    @classmethod
    def from_dict(cls, call: ToolCall | Mapping[str, Any]) -> ToolCall:
        """From OpenAI's shape: `{"id": …, "function": {"name": …, "arguments": …}}`."""
        if isinstance(call, ToolCall):
            return call
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise ConfigError("a tool call has an `id` and a `function` with `name` and `arguments`")
        arguments = function.get("arguments", "{}")
        return cls(
            str(call.get("id") or ""),
            function["name"],
            arguments if isinstance(arguments, str) else json.dumps(arguments),
        )

    def parsed(self) -> Any:  # noqa: ANN401 (whatever the model wrote)
        """The arguments as Python values. Raises `ValueError` when the model wrote broken JSON."""
        return json.loads(self.arguments or "{}")
