"""What is exchanged with a provider for each kind of request: a conversation, texts to embed, tokens to count."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from tidegate.chat.embedding import CountRequest, EmbedRequest, Vector
from tidegate.chat.reply import Completion
from tidegate.chat.request import ChatRequest
from tidegate.chat.usage import Usage
from tidegate.errors import ConfigError
from tidegate.providers.base import Provider
from tidegate.transport.base import HttpRequest


@runtime_checkable
class Embedder(Protocol):
    """A provider that embeds texts."""

    embed_batch: int
    """Texts in one request at most."""

    def encode_embed(self, request: EmbedRequest, model: str) -> HttpRequest:
        """The request on the wire. Raises `ConfigError` for what this provider cannot say."""
        ...

    def decode_embed(self, body: bytes, model: str, texts: int) -> tuple[tuple[Vector, ...], Usage | None, str]:
        """The vectors of so many texts, their usage, and the model's own name. Raises `MalformedResponse`."""
        ...


@runtime_checkable
class Tokenizer(Protocol):
    """A provider that says how many tokens a conversation is."""

    def encode_count(self, request: ChatRequest, model: str) -> HttpRequest:
        """The request on the wire."""
        ...

    def decode_count(self, body: bytes) -> int:
        """How many they are. Raises `MalformedResponse`."""
        ...


def embedder(provider: Provider) -> Embedder:
    """The provider, as one that embeds. Raises `ConfigError` for one that does not."""
    if not isinstance(provider, Embedder):
        raise ConfigError(f"`{provider.name}` embeds no texts: name a model of a provider that does, such as "
                          "`openai/text-embedding-3-small`")  # fmt: skip
    return provider


def tokenizer(provider: Provider) -> Tokenizer:
    """The provider, as one that counts. Raises `ConfigError` for one that does not."""
    if not isinstance(provider, Tokenizer):
        raise ConfigError(f"`{provider.name}` counts no tokens for others: leave out `remote=True` to count here")
    return provider


def encode(provider: Provider, request: ChatRequest, model: str, *, streamed: bool) -> HttpRequest:
    """The request on the wire, of whatever kind it is."""
    if isinstance(request, EmbedRequest):
        return embedder(provider).encode_embed(request, model)
    if isinstance(request, CountRequest):
        return tokenizer(provider).encode_count(request, model)
    return provider.encode(request, model, streamed=streamed)


def decode(provider: Provider, request: ChatRequest, body: bytes, model: str) -> Completion:
    """The answer to it. Vectors are in `raw_data`; a count is the usage's `input_tokens`."""
    if isinstance(request, EmbedRequest):
        vectors, usage, name = embedder(provider).decode_embed(body, model, len(request.texts))
        return Completion("", provider.name, name, "stop", usage, raw_data=vectors)
    if isinstance(request, CountRequest):
        return Completion("", provider.name, model, "stop", Usage(tokenizer(provider).decode_count(body), 0))
    return provider.decode(body, model)
