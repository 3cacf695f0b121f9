"""Hosts that speak OpenAI's chat completions: where each is, what its key is called, how it differs.

As of 2026-11, from each host's own API reference.
"""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.providers.openai import Dialect

PLAIN = Dialect()
OPENAI = Dialect(max_tokens="max_completion_tokens", developer_role=True)


@dataclass(frozen=True, slots=True)
class Host:
    """One row: what must be known to reach a host."""

    base_url: str | None
    """None: `base_url=` must be given."""
    keys: tuple[str, ...] = ()
    """Environment names of the key, the first that is set wins. None of them: the host needs no key."""
    base_urls: tuple[str, ...] = ()
    """Environment names of another address."""
    default_model: str | None = None
    """Asked when a key is there and no model is named."""
    key_required: bool = True
    dialect: Dialect = PLAIN
    about: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    """Headers whose value stands in the environment: (header, environment name)."""


HOSTS: dict[str, Host] = {
    "openai": Host(
        "https://api.openai.com/v1",
        ("OPENAI_API_KEY",),
        ("OPENAI_BASE_URL",),
        "gpt-4o-mini",
        dialect=OPENAI,
        about="OpenAI",
        headers=(("OpenAI-Organization", "OPENAI_ORG_ID"), ("OpenAI-Project", "OPENAI_PROJECT_ID")),
    ),
    "groq": Host(
        "https://api.groq.com/openai/v1",
        ("GROQ_API_KEY",),
        ("GROQ_BASE_URL",),
        "llama-3.1-8b-instant",
        dialect=Dialect(max_tokens="max_completion_tokens"),
        about="Groq",
    ),
    "mistral": Host(
        "https://api.mistral.ai/v1",
        ("MISTRAL_API_KEY",),
        ("MISTRAL_BASE_URL",),
        "mistral-small-latest",
        # Its streams carry usage unasked, and it refuses fields that it does not know.
        dialect=Dialect(seed="random_seed", stream_usage=False),
        about="Mistral AI",
    ),
    "together": Host(
        "https://api.together.xyz/v1",
        ("TOGETHER_API_KEY",),
        ("TOGETHER_BASE_URL",),
        "meta-llama/Llama-3.3-70B-Instruct-Turbo",
        about="Together AI",
    ),
    "openrouter": Host(
        "https://openrouter.ai/api/v1",
        ("OPENROUTER_API_KEY",),
        ("OPENROUTER_BASE_URL",),
        "openai/gpt-4o-mini",
        about="OpenRouter",
    ),
    "deepseek": Host(
        "https://api.deepseek.com/v1", ("DEEPSEEK_API_KEY",), ("DEEPSEEK_BASE_URL",), "deepseek-chat", about="DeepSeek"
    ),
    "xai": Host("https://api.x.ai/v1", ("XAI_API_KEY",), ("XAI_BASE_URL",), "grok-3-mini", about="xAI"),
    "vllm": Host(
        "http://127.0.0.1:8000/v1", ("VLLM_API_KEY",), ("VLLM_BASE_URL",), key_required=False, about="a vLLM server"
    ),
    "ollama": Host(
        "http://127.0.0.1:11434/v1",
        ("OLLAMA_API_KEY",),
        ("OLLAMA_BASE_URL",),
        key_required=False,
        about="an Ollama server",
    ),
    "llamacpp": Host(
        "http://127.0.0.1:8080/v1",
        ("LLAMACPP_API_KEY",),
        ("LLAMACPP_BASE_URL",),
        key_required=False,
        about="a llama.cpp server",
    ),
    "compatible": Host(
        None,
        ("COMPATIBLE_API_KEY",),
        ("COMPATIBLE_BASE_URL",),
        key_required=False,
        about="any other host that speaks OpenAI's chat completions",
    ),
}
