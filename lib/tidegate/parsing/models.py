"""What agents read in a model's answer."""

from __future__ import annotations

from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field


class ToolCall(BaseModel):
    """A call of a tool, as text: `{"name": …, "arguments": {…}}`, and the other names that models use for these two."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(min_length=1, validation_alias=AliasChoices("name", "tool", "tool_name", "function", "action"))
    arguments: dict[str, Any] = Field(
        default_factory=dict,
        validation_alias=AliasChoices(
            "arguments", "args", "parameters", "params", "input", "tool_input", "action_input"
        ),
    )


class AgentAction(BaseModel):
    """One step of an agent that writes its steps as text: what it thinks, what it does, with what."""

    model_config = ConfigDict(frozen=True)

    thought: str | None = Field(default=None, validation_alias=AliasChoices("thought", "thinking", "reasoning"))
    action: str = Field(min_length=1, validation_alias=AliasChoices("action", "tool", "name", "tool_name"))
    input: dict[str, Any] | list[Any] | str | int | float | bool | None = Field(
        default=None,
        validation_alias=AliasChoices("input", "action_input", "tool_input", "arguments", "args", "parameters"),
    )
