"""The embedded model: a small real model behind a real server on this machine. It proves the plumbing, not wisdom."""

from __future__ import annotations

from collections.abc import Mapping

from tidegate.chat.messages import Image
from tidegate.chat.reply import Completion
from tidegate.chat.request import ChatRequest
from tidegate.errors import CallError, ConfigError
from tidegate.providers import embedded
from tidegate.providers.base import Account
from tidegate.providers.openai import OpenAIProvider, OpenAIStreamDecoder
from tidegate.transport.base import HttpRequest

NAME = "local"


def checked_model(model: str) -> str:
    """The model's name. Raises `ConfigError` for one that is not embedded."""
    if model != embedded.MODEL_NAME:
        raise ConfigError(f"`local/{model}`: the one embedded model is `local/{embedded.MODEL_NAME}`")
    return model


class LocalProvider:
    """llama.cpp's server, which speaks OpenAI's format; started when the first request is encoded."""

    name = NAME

    def ready(self, seconds: float) -> None:
        """Start the server if need be. Raises `TimeoutError`, or `ConfigError` with the line that installs it."""
        embedded.base_url(min(seconds, embedded.START_SECONDS))

    def encode(self, request: ChatRequest, model: str, *, streamed: bool) -> HttpRequest:
        """A POST to the server. Raises `ConfigError` for what the model cannot do."""
        if request.tools:
            raise ConfigError(f"`local/{model}` cannot call tools: its server would ignore them")
        if any(isinstance(part, Image) for message in request.messages for part in message.content):
            raise ConfigError(f"`local/{model}` cannot see pictures")
        return self._speaker(embedded.base_url()).encode(request, model, streamed=streamed)

    def decode(self, body: bytes, model: str) -> Completion:
        """The answer."""
        return self._speaker("").decode(body, model)

    def stream_decoder(self, model: str) -> OpenAIStreamDecoder:
        """A new decoder for one stream."""
        return OpenAIStreamDecoder(Account(NAME, ""), model)

    def request_id(self, headers: Mapping[str, str]) -> str | None:
        """The id that its server gave the request, if any."""
        return self._speaker("").request_id(headers)

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes, now: float) -> CallError:
        """The error that a response without a 2xx status means."""
        return self._speaker("").refusal(status, headers, body, now)

    @staticmethod
    def _speaker(base_url: str) -> OpenAIProvider:
        return OpenAIProvider(Account(NAME, base_url))
