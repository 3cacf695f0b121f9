"""Hosts that speak OpenAI's chat completions: where each is, what its key is called, how it differs.

As of 2026-11, from each host's own API reference.
"""

from __future__ import annotations

from tidegate.providers.base import Account
from tidegate.providers.hosts import Host, Speak
from tidegate.providers.openai import Dialect, OpenAIProvider

PLAIN = Dialect()
OPENAI = Dialect(max_tokens="max_completion_tokens", developer_role=True)


def speaking(dialect: Dialect) -> Speak:
    """How a host is spoken to that speaks this dialect."""

    def speak(account: Account, environ: object) -> OpenAIProvider:  # noqa: ARG001 (see `Speak`)
        return OpenAIProvider(account, dialect)

    return speak


def _row(
    base_url: str | None,
    keys: tuple[str, ...],
    base_urls: tuple[str, ...],
    default_model: str | None = None,
    *,
    about: str,
    dialect: Dialect = PLAIN,
    key_required: bool = True,
) -> Host:
    return Host(base_url, keys, base_urls, speaking(dialect), default_model, key_required=key_required, about=about)


COMPATIBLE: dict[str, Host] = {
    "groq": _row(
        "https://api.groq.com/openai/v1",
        ("GROQ_API_KEY",),
        ("GROQ_BASE_URL",),
        "llama-3.1-8b-instant",
        dialect=Dialect(max_tokens="max_completion_tokens", embeds=False),
        about="Groq",
    ),
    "mistral": _row(
        "https://api.mistral.ai/v1",
        ("MISTRAL_API_KEY",),
        ("MISTRAL_BASE_URL",),
        "mistral-small-latest",
        # Its streams carry usage unasked, and it refuses fields that it does not know.
        dialect=Dialect(
            seed="random_seed",
            stream_usage=False,
            required="any",
            reasoning="",
            logprobs=False,
            dimensions="output_dimension",
        ),
        about="Mistral AI",
    ),
    "together": _row(
        "https://api.together.xyz/v1",
        ("TOGETHER_API_KEY",),
        ("TOGETHER_BASE_URL",),
        "meta-llama/Llama-3.3-70B-Instruct-Turbo",
        about="Together AI",
    ),
    "openrouter": _row(
        "https://openrouter.ai/api/v1",
        ("OPENROUTER_API_KEY",),
        ("OPENROUTER_BASE_URL",),
        "openai/gpt-4o-mini",
        dialect=Dialect(reasoning="reasoning"),
        about="OpenRouter",
    ),
    "deepseek": _row(
        "https://api.deepseek.com/v1",
        ("DEEPSEEK_API_KEY",),
        ("DEEPSEEK_BASE_URL",),
        "deepseek-chat",
        dialect=Dialect(reasoning="thinking", thoughts="reasoning_content", json_schema=False, embeds=False),
        about="DeepSeek",
    ),
    "xai": _row(
        "https://api.x.ai/v1",
        ("XAI_API_KEY",),
        ("XAI_BASE_URL",),
        "grok-3-mini",
        about="xAI",
        dialect=Dialect(embeds=False),
    ),
    "vllm": _row(
        "http://127.0.0.1:8000/v1", ("VLLM_API_KEY",), ("VLLM_BASE_URL",), key_required=False, about="a vLLM server"
    ),
    "ollama": _row(
        "http://127.0.0.1:11434/v1",
        ("OLLAMA_API_KEY",),
        ("OLLAMA_BASE_URL",),
        key_required=False,
        about="an Ollama server",
    ),
    "llamacpp": _row(
        "http://127.0.0.1:8080/v1",
        ("LLAMACPP_API_KEY",),
        ("LLAMACPP_BASE_URL",),
        key_required=False,
        about="a llama.cpp server",
    ),
    "compatible": _row(
        None,
        ("COMPATIBLE_API_KEY",),
        ("COMPATIBLE_BASE_URL",),
        key_required=False,
        about="any other host that speaks OpenAI's chat completions",
    ),
}
