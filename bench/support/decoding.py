"""What reading an answer and a streamed chunk costs with one client of one provider, with the network taken away.

Run as `python -m support.decoding CLIENT PROVIDER SECONDS`, CLIENT `tidegate` or `official`; prints a line of JSON. The
client is used as its own users use it; only its transport is one that answers from memory, in pieces of 4 KB.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from support import forms

CHUNKS = 400
"""Between a short stream and a long one: their difference is what the chunks cost."""

KEY = "sk-bench-0123456789abcdef"
ASKED: Any = [{"role": "user", "content": "When is high tide?"}]


class Ask(Protocol):
    """Asks once, and answers the text that was read."""

    def __call__(self, *, streamed: bool) -> str:
        """The text."""
        ...


class Served:
    """What the transport answers."""

    def __init__(self, provider: str) -> None:
        self.body = forms.whole(provider, forms.pieces(CHUNKS))
        self.streams = {count: forms.stream(provider, forms.pieces(count)) for count in (1, CHUNKS + 1)}
        self.words = CHUNKS + 1
        self.streamed = False

    @property
    def content_type(self) -> str:
        """Of what is answered now."""
        return "text/event-stream" if self.streamed else "application/json"

    def pieces(self) -> Iterator[bytes]:
        """What is answered now, as it would come from a socket."""
        content = self.streams[self.words] if self.streamed else self.body
        for start in range(0, len(content), 4_096):
            yield content[start : start + 4_096]


def main() -> None:
    """Measure, and print the figures."""
    client, provider, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    served = Served(provider)
    ask = tidegate(provider, served) if client == "tidegate" else OFFICIAL[provider](served)
    expected = "".join(forms.pieces(CHUNKS))
    served.streamed, served.words = False, CHUNKS
    if ask(streamed=False) != expected:
        raise SystemExit(f"{client} reads another text in {provider}'s answer")
    call = _cost(ask, served, seconds, streamed=False)
    served.words = CHUNKS + 1
    served.streamed = True
    if ask(streamed=True) != "".join(forms.pieces(CHUNKS + 1)):
        raise SystemExit(f"{client} reads another text in {provider}'s stream")
    long = _cost(ask, served, seconds, streamed=True)
    served.words = 1
    short = _cost(ask, served, seconds / 2, streamed=True)
    print(json.dumps({"call_us": call, "stream_us": short, "chunk_us": (long - short) / CHUNKS}))


def _cost(ask: Ask, served: Served, seconds: float, *, streamed: bool) -> float:
    """CPU of the process for one, in microseconds."""
    served.streamed = streamed
    for _ in range(3):
        ask(streamed=streamed)
    done, began, until = 0, time.process_time(), time.perf_counter() + seconds
    while time.perf_counter() < until:
        ask(streamed=streamed)
        done += 1
    return (time.process_time() - began) / done * 1e6


# tidegate


class _Response:
    """As the transport's own, without a connection."""

    status = 200

    def __init__(self, served: Served) -> None:
        self._served = served
        self.headers = {"content-type": served.content_type}

    def read(self, limit: int) -> bytes:
        return b"".join(self._served.pieces())[:limit]

    def pieces(self) -> Iterator[bytes]:
        return self._served.pieces()

    def content_seen(self) -> None:
        """There is no clock to be told."""

    def wind_down(self, seconds: float) -> None:
        """There is nothing to wait for."""

    def close(self) -> None:
        """There is nothing to be freed."""


class _Memory:
    def __init__(self, served: Served) -> None:
        self._served = served

    def send(self, *_: object) -> _Response:
        return _Response(self._served)

    def close(self) -> None:
        """There is nothing to be freed."""


def tidegate(provider: str, served: Served) -> Ask:
    """A client with everything on that is on by default."""
    assembly: Any = importlib.import_module("tidegate.assembly")

    assembly.SessionTransport = lambda **_: _Memory(served)
    client: Any = importlib.import_module("tidegate").Client(f"{provider}/m", api_key=KEY)

    def ask(*, streamed: bool) -> str:
        if not streamed:
            return str(client.complete("When is high tide?", max_tokens=500).text)
        return "".join(chunk.text for chunk in client.stream("When is high tide?", max_tokens=500))

    return ask


# The official packages


def _transport(httpx: Any, served: Served) -> Any:  # noqa: ANN401 (whichever generation of it)
    class Body(httpx.SyncByteStream):  # type: ignore[misc]
        def __iter__(self) -> Iterator[bytes]:
            return served.pieces()

    def answer(request: object) -> Any:  # noqa: ANN401
        return httpx.Response(200, headers={"content-type": served.content_type}, stream=Body(), request=request)

    return httpx.MockTransport(answer)


def _http(package: str, served: Served) -> Any:  # noqa: ANN401
    """The HTTP client that a package is built on: httpx, or the one that followed it."""
    base: Any = importlib.import_module(f"{package}._base_client")
    httpx = base.httpx if hasattr(base, "httpx") else base.httpx2
    return httpx.Client(transport=_transport(httpx, served))


def openai(served: Served) -> Ask:
    """Chat completions."""
    module: Any = importlib.import_module("openai")
    create = module.OpenAI(api_key=KEY, http_client=_http("openai", served)).chat.completions.create

    def ask(*, streamed: bool) -> str:
        asked = {"model": "m", "messages": ASKED, "max_completion_tokens": 500}
        if not streamed:
            return str(create(**asked).choices[0].message.content)
        chunks = create(**asked, stream=True, stream_options={"include_usage": True})
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

    return ask


def responses(served: Served) -> Ask:
    """Responses."""
    module: Any = importlib.import_module("openai")
    create = module.OpenAI(api_key=KEY, http_client=_http("openai", served)).responses.create

    def ask(*, streamed: bool) -> str:
        asked = {"model": "m", "input": "When is high tide?", "max_output_tokens": 500}
        if not streamed:
            return str(create(**asked).output_text)
        events = create(**asked, stream=True)
        return "".join(event.delta for event in events if event.type == "response.output_text.delta")

    return ask


def anthropic(served: Served) -> Ask:
    """Messages."""
    module: Any = importlib.import_module("anthropic")
    create = module.Anthropic(api_key=KEY, http_client=_http("anthropic", served)).messages.create

    def ask(*, streamed: bool) -> str:
        asked = {"model": "m", "messages": ASKED, "max_tokens": 500}
        if not streamed:
            return str(create(**asked).content[0].text)
        return "".join(
            event.delta.text
            for event in create(**asked, stream=True)
            if event.type == "content_block_delta" and event.delta.type == "text_delta"
        )

    return ask


def cohere(served: Served) -> Ask:
    """Chat."""
    module: Any = importlib.import_module("cohere")
    httpx: Any = importlib.import_module("httpx")
    client = module.ClientV2(api_key=KEY, httpx_client=httpx.Client(transport=_transport(httpx, served)))

    def ask(*, streamed: bool) -> str:
        asked = {"model": "m", "messages": ASKED, "max_tokens": 500}
        if not streamed:
            return str(client.chat(**asked).message.content[0].text)
        return "".join(
            event.delta.message.content.text for event in client.chat_stream(**asked) if event.type == "content-delta"
        )

    return ask


def gemini(served: Served) -> Ask:
    """Content generation."""
    module: Any = importlib.import_module("google.genai")
    httpx: Any = importlib.import_module("httpx")
    options = module.types.HttpOptions(httpx_client=httpx.Client(transport=_transport(httpx, served)))
    models = module.Client(api_key=KEY, http_options=options).models
    config = module.types.GenerateContentConfig(max_output_tokens=500)

    def ask(*, streamed: bool) -> str:
        asked = {"model": "m", "contents": "When is high tide?", "config": config}
        if not streamed:
            return str(models.generate_content(**asked).text)
        return "".join(chunk.text or "" for chunk in models.generate_content_stream(**asked))

    return ask


OFFICIAL: dict[str, Callable[[Served], Ask]] = {
    "openai": openai,
    "openai-responses": responses,
    "anthropic": anthropic,
    "cohere": cohere,
    "gemini": gemini,
}

if __name__ == "__main__":
    main()
