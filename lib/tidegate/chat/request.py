"""One question as a value, checked before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from tidegate.chat.messages import Message, Prompt, to_messages
from tidegate.chat.tools import Tool, to_tools
from tidegate.errors import ConfigError, nearest

TOOL_CHOICES = ("auto", "none", "required")
REASONING = ("none", "minimal", "low", "medium", "high")


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What is asked, in no provider's words. Build it with `ChatRequest.build`, which checks it."""

    replaceable: ClassVar[bool] = True
    """Whether another model's answer would do as well."""

    messages: tuple[Message, ...]
    temperature: float | None = None
    max_tokens: int | None = None
    tools: tuple[Tool, ...] = ()
    schema: Mapping[str, Any] | None = None
    """The JSON schema that the answer must follow."""
    schema_name: str = "answer"
    stop: tuple[str, ...] = ()
    seed: int | None = None
    top_p: float | None = None
    tool_choice: str | None = None
    """`auto`, `none`, `required`, or the name of the one tool that has to be called."""
    reasoning: str | int | None = None
    """How much to think: one of `REASONING`, or a number of tokens."""
    logprobs: int | None = None
    """How many likely tokens to name at each place, with their probabilities; 0 for those of the answer alone."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Fields that only this provider knows, put into the body as they are."""

    @classmethod
    def build(
        cls,
        prompt: Prompt,
        *,
        system: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        tools: Iterable[Tool | Mapping[str, Any]] | None = None,
        schema: Any = None,  # noqa: ANN401 (a JSON schema, or anything with `model_json_schema()`)
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
        top_p: float | None = None,
        tool_choice: str | None = None,
        reasoning: str | int | None = None,
        logprobs: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Self:
        """Check every part and put them together. Raises `ConfigError` naming what is wrong."""
        name, checked_schema = _schema(schema)
        checked_tools = to_tools(tools) if tools else ()
        return cls(
            messages=to_messages(prompt, system),
            temperature=_temperature(temperature),
            max_tokens=_whole("max_tokens", max_tokens, least=1),
            tools=checked_tools,
            schema=checked_schema,
            schema_name=name,
            stop=_stop(stop),
            seed=_whole("seed", seed, least=None),
            top_p=_share(top_p),
            # Without tools there is nothing to choose, and some providers refuse a request that says so.
            tool_choice=_tool_choice(tool_choice, checked_tools) if checked_tools or tool_choice != "none" else None,
            reasoning=_reasoning(reasoning),
            logprobs=_whole("logprobs", logprobs, least=0),
            options=checked_options(options),
        )


def _temperature(value: float | None) -> float | None:
    """Between 0 and 2, the widest range that any provider takes."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 2:
        raise ConfigError(f"`temperature` is a number from 0 to 2, not {value!r}")
    return float(value)


def _whole(name: str, value: int | None, *, least: int | None) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        bound = "" if least is None else f" of at least {least}"
        raise ConfigError(f"`{name}` is a whole number{bound}, not {value!r}")
    return value


def _share(value: float | None) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ConfigError(f"`top_p` is a number above 0 and up to 1, not {value!r}")
    return float(value)


def _tool_choice(choice: str | None, tools: tuple[Tool, ...]) -> str | None:
    if choice is None:
        return None
    names = [tool.name for tool in tools]
    if not isinstance(choice, str) or choice not in (*TOOL_CHOICES, *names):
        shown = str(choice)[:60]
        raise ConfigError(
            f"`tool_choice` is {', '.join(TOOL_CHOICES)} or the name of one of `tools`, not `{shown}`"
            f"{nearest(shown, (*TOOL_CHOICES, *names))}"
        )
    if not tools:
        raise ConfigError(f"`tool_choice={choice!r}` needs `tools`")
    return choice


def _reasoning(reasoning: str | int | None) -> str | int | None:
    if reasoning is None or reasoning in REASONING:
        return reasoning
    if isinstance(reasoning, int) and not isinstance(reasoning, bool) and reasoning > 0:
        return reasoning
    raise ConfigError(f"`reasoning` is {', '.join(REASONING)}, or a number of tokens, not {reasoning!r}")


def _stop(stop: str | Sequence[str] | None) -> tuple[str, ...]:
    if stop is None:
        return ()
    words: tuple[object, ...] = (stop,) if isinstance(stop, str) or not isinstance(stop, Iterable) else tuple(stop)
    texts = tuple(word for word in words if isinstance(word, str) and word)
    if len(texts) < len(words):
        raise ConfigError("`stop` is a text, or a list of texts, none of them empty")
    return texts


def _schema(schema: Any) -> tuple[str, Mapping[str, Any] | None]:  # noqa: ANN401 (see `build`)
    if schema is None:
        return "answer", None
    if isinstance(schema, Mapping):
        return "answer", schema
    describe = getattr(schema, "model_json_schema", None)
    if not callable(describe):
        raise ConfigError(f"`schema` is a JSON schema (a dict) or a pydantic model, not `{type(schema).__name__}`")
    try:
        found = describe()
    except Exception as error:  # noqa: BLE001 (the model's own code; pydantic's errors are not known here)
        problem = str(error).splitlines()[0]
    else:
        return _schema_name(schema), found
    raise ConfigError(f"`schema` cannot be written as a JSON schema: {problem}")


def _schema_name(model: object) -> str:
    """The model's name as OpenAI takes it: letters, digits, `_` and `-`, at most 64. `Box[int]` is no such name."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", getattr(model, "__name__", "answer"))[:64]


def checked_options(options: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What is passed on as it is. Raises `ConfigError` for what has an argument of its own."""
    if not options:
        return {}
    if not isinstance(options, Mapping):
        raise ConfigError(f"`options` is a dict of fields for the provider, not `{type(options).__name__}`")
    taken = next((key for key in ("model", "messages", "stream") if key in options), None)
    if taken is not None:
        raise ConfigError(f"`options` may not set `{taken}`: pass it to the call itself")
    return options
