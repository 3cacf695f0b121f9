"""Facts about models, as data.

From the providers' own model pages, as of `AS_OF`. A model that is not here works all the same, with nothing assumed
about it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

AS_OF = "2026-11"
"""When the facts were gathered."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a model. None is unknown."""

    context_window: int | None = None
    """Tokens of the conversation and its answer together."""
    max_output: int | None = None
    """Tokens of an answer."""
    tools: bool | None = None
    images: bool | None = None
    json_schema: bool | None = None
    """Whether the provider holds the answer to a JSON schema. Where it does not, the schema is asked for otherwise."""
    thinking: Literal["none", "tokens", "effort"] | None = None
    """How it is told how much to think: not at all, by a number of tokens, or by an effort's name."""


UNKNOWN = ModelFacts()


def _gpt(window: int, output: int, *, thinks: bool = False, images: bool = True) -> ModelFacts:
    return ModelFacts(
        window, output, tools=True, images=images, json_schema=True, thinking="effort" if thinks else "none"
    )


def _claude(
    output: int,
    thinking: Literal["none", "tokens", "effort"],
    *,
    json_schema: bool = True,
) -> ModelFacts:
    return ModelFacts(200_000, output, tools=True, images=True, json_schema=json_schema, thinking=thinking)


def _gemini(output: int, thinking: Literal["none", "tokens", "effort"]) -> ModelFacts:
    return ModelFacts(1_048_576, output, tools=True, images=True, json_schema=True, thinking=thinking)


def _command(window: int, output: int, *, tools: bool = True, images: bool = False, thinks: bool = False) -> ModelFacts:
    thinking: Literal["none", "tokens"] = "tokens" if thinks else "none"
    return ModelFacts(window, output, tools=tools, images=images, json_schema=True, thinking=thinking)


_FACTS: dict[str, ModelFacts] = {
    "openai/gpt-4o-mini": _gpt(128_000, 16_384),
    "openai/gpt-4o": _gpt(128_000, 16_384),
    "openai/gpt-4.1": _gpt(1_047_576, 32_768),
    "openai/gpt-4.1-mini": _gpt(1_047_576, 32_768),
    "openai/gpt-4.1-nano": _gpt(1_047_576, 32_768),
    "openai/o3-mini": _gpt(200_000, 100_000, thinks=True, images=False),
    "openai/o3": _gpt(200_000, 100_000, thinks=True),
    "openai/o4-mini": _gpt(200_000, 100_000, thinks=True),
    "openai/gpt-5": _gpt(400_000, 128_000, thinks=True),
    "openai/gpt-5-mini": _gpt(400_000, 128_000, thinks=True),
    "openai/gpt-5-nano": _gpt(400_000, 128_000, thinks=True),
    "anthropic/claude-3-haiku": _claude(4_096, "none", json_schema=False),
    "anthropic/claude-3-5-haiku-latest": _claude(8_192, "none", json_schema=False),
    "anthropic/claude-3-5-sonnet": _claude(8_192, "none", json_schema=False),
    "anthropic/claude-3-7-sonnet-latest": _claude(64_000, "tokens", json_schema=False),
    "anthropic/claude-sonnet-4-0": _claude(64_000, "tokens", json_schema=False),
    "anthropic/claude-opus-4-0": _claude(32_000, "tokens", json_schema=False),
    "anthropic/claude-opus-4-1": _claude(32_000, "tokens"),
    "anthropic/claude-haiku-4-5": _claude(64_000, "tokens"),
    "anthropic/claude-sonnet-4-5": _claude(64_000, "tokens"),
    "anthropic/claude-opus-4-5": _claude(64_000, "tokens"),
    "gemini/gemini-2.0-flash": _gemini(8_192, "none"),
    "gemini/gemini-2.0-flash-lite": _gemini(8_192, "none"),
    "gemini/gemini-2.5-flash": _gemini(65_536, "tokens"),
    "gemini/gemini-2.5-flash-lite": _gemini(65_536, "tokens"),
    "gemini/gemini-2.5-pro": _gemini(65_536, "tokens"),
    "gemini/gemini-3-pro-preview": _gemini(65_536, "effort"),
    "gemini/gemini-3-flash-preview": _gemini(65_536, "effort"),
    "cohere/command-r": _command(128_000, 4_096),
    "cohere/command-r-plus": _command(128_000, 4_096),
    "cohere/command-r7b": _command(128_000, 4_096),
    "cohere/command-a": _command(256_000, 8_192),
    "cohere/command-a-vision": _command(128_000, 8_192, tools=False, images=True),
    "cohere/command-a-reasoning": _command(256_000, 32_768, thinks=True),
    "groq/llama-3.1-8b-instant": ModelFacts(131_072, 131_072, tools=True, images=False),
    "groq/llama-3.3-70b-versatile": ModelFacts(131_072, 32_768, tools=True, images=False),
    "deepseek/deepseek-chat": ModelFacts(128_000, 8_192, tools=True, images=False),
    "deepseek/deepseek-reasoner": ModelFacts(128_000, 65_536, tools=True, images=False),
    # The embedded server shares a window of 16,384 tokens among 8 slots.
    "local/smollm2-135m-instruct": ModelFacts(2_048, tools=False, images=False),
}

_SAME = {"azure": "openai", "openai-responses": "openai"}
"""Providers that serve another one's models."""

_VERSION = re.compile(r"(?:-(?:latest|0|20\d{6}|20\d\d-\d\d-\d\d|\d\d-20\d\d|\d{3}))\Z")
"""What stands behind a model's name for one version of it."""


def facts(provider: str, model: str) -> ModelFacts:
    """What is known of `provider/model`, or of the model that it is a version of; nothing, for one not listed."""
    name = f"{_SAME.get(provider, provider)}/{model}"
    found = _FACTS.get(name)
    if found is None:
        plain = _VERSION.sub("", name)
        found = next((_FACTS[each] for each in (plain, f"{plain}-latest", f"{plain}-0") if each in _FACTS), None)
    return found or UNKNOWN


def known_models() -> tuple[str, ...]:
    """The listed models, as `provider/model`."""
    return tuple(_FACTS)
