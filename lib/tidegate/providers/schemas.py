"""JSON schemas as providers with constrained decoding take them: closed objects, and no bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_BOUNDS = frozenset({
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "maxItems",
    "uniqueItems", "minContains", "maxContains", "minProperties", "maxProperties",
})  # fmt: skip
"""What Anthropic's structured outputs refuse:
https://docs.anthropic.com/en/docs/build-with-claude/structured-outputs#json-schema-limitations
"""

_BY_NAME = frozenset({"properties", "$defs", "definitions", "patternProperties"})
"""Below these stand schemas by names of the user's own."""

_VALUES = frozenset({"const", "enum", "default", "examples", "required"})
"""Below these stand values, which are nobody's to change."""


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with `additionalProperties: false` at every object, and its bounds moved into descriptions.

    What was moved is checked here, once the answer has come (`parse`), and told to the model in words.
    """
    result: dict[str, Any] = {}
    moved: list[str] = []
    for name, value in schema.items():
        if name in _BOUNDS or (name == "minItems" and value not in (0, 1)):
            moved.append(f"{name}: {value}")
        elif name in _BY_NAME and isinstance(value, Mapping):
            result[name] = {key: _each(each) for key, each in value.items()}
        elif name in _VALUES:
            result[name] = value
        else:
            result[name] = _each(value)
    if result.get("type") == "object" or "properties" in result:
        result["additionalProperties"] = False
    if moved:
        about = result.get("description")
        said = f"({', '.join(moved)})"
        result["description"] = f"{about} {said}" if isinstance(about, str) and about else said
    return result


def _each(value: Any) -> Any:  # noqa: ANN401 (any JSON value)
    if isinstance(value, Mapping):
        return closed(value)
    return [_each(each) for each in value] if isinstance(value, list) else value


def can_be_closed(schema: object) -> bool:
    """Whether every object of the schema names all its fields. One of any fields cannot be closed."""
    if isinstance(schema, list):
        return all(map(can_be_closed, schema))
    if not isinstance(schema, Mapping):
        return True
    if schema.get("additionalProperties", False) is not False or "patternProperties" in schema:
        return False
    if schema.get("type") == "object" and not isinstance(schema.get("properties"), Mapping):
        return False
    return all(
        all(map(can_be_closed, value.values()))
        if name in _BY_NAME and isinstance(value, Mapping)
        else can_be_closed(value)
        for name, value in schema.items()
        if name not in _VALUES
    )
