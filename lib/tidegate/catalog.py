"""Facts about models, as data.

From the providers' own model pages, as of 2026-11. A model that is not here works all the same, with nothing assumed
about it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a model. None is unknown."""

    context_window: int | None = None
    """Tokens of the conversation and its answer together."""
    max_output: int | None = None
    """Tokens of an answer."""
    tools: bool | None = None
    images: bool | None = None


UNKNOWN = ModelFacts()

_FACTS: dict[str, ModelFacts] = {
    "openai/gpt-4o-mini": ModelFacts(128_000, 16_384, tools=True, images=True),
    "openai/gpt-4o": ModelFacts(128_000, 16_384, tools=True, images=True),
    "openai/gpt-4.1": ModelFacts(1_047_576, 32_768, tools=True, images=True),
    "openai/gpt-4.1-mini": ModelFacts(1_047_576, 32_768, tools=True, images=True),
    "openai/gpt-4.1-nano": ModelFacts(1_047_576, 32_768, tools=True, images=True),
    "openai/o3-mini": ModelFacts(200_000, 100_000, tools=True, images=False),
    "openai/o4-mini": ModelFacts(200_000, 100_000, tools=True, images=True),
    "openai/gpt-5": ModelFacts(400_000, 128_000, tools=True, images=True),
    "openai/gpt-5-mini": ModelFacts(400_000, 128_000, tools=True, images=True),
    "groq/llama-3.1-8b-instant": ModelFacts(131_072, 131_072, tools=True, images=False),
    "groq/llama-3.3-70b-versatile": ModelFacts(131_072, 32_768, tools=True, images=False),
    "deepseek/deepseek-chat": ModelFacts(128_000, 8_192, tools=True, images=False),
    "deepseek/deepseek-reasoner": ModelFacts(128_000, 65_536, tools=True, images=False),
    # The embedded server shares a window of 16,384 tokens among 8 slots.
    "local/smollm2-135m-instruct": ModelFacts(2_048, tools=False, images=False),
}


def facts(provider: str, model: str) -> ModelFacts:
    """What is known of `provider/model`; nothing, for a model that is not listed."""
    return _FACTS.get(f"{provider}/{model}", UNKNOWN)


def known_models() -> tuple[str, ...]:
    """The listed models, as `provider/model`."""
    return tuple(_FACTS)
