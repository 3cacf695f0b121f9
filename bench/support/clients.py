"""The clients that are compared, each used as its own documentation shows and with a pool as large as it needs.

Each is imported only in the process that measures it: nothing is at the top of this file. Answers are taken as far as
a program would: the text itself, decoded.
"""

from __future__ import annotations

import importlib
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

from support import answers

MESSAGES = [{"role": "user", "content": answers.PROMPT}]
_BODY = {"model": answers.MODEL, "messages": MESSAGES, "max_tokens": answers.MAX_TOKENS}
_HEADERS = {"Authorization": f"Bearer {answers.API_KEY}"}


class Client(Protocol):
    """One way to ask a model."""

    def complete(self) -> str:
        """The text of a plain answer."""
        ...

    def pieces(self) -> Iterator[str]:
        """The texts of a streamed answer; those that are empty may be left out."""
        ...


class HttpClient:
    """The standard library's `http.client`: the floor. One connection a thread."""

    packages = ()

    def __init__(self, base_url: str, threads: int) -> None:  # noqa: ARG002 (each client is made alike)
        self._http: Any = importlib.import_module("http.client")
        url = urlsplit(base_url)
        self._address, self._path = (url.hostname, url.port), f"{url.path}/chat/completions"
        self._own = threading.local()

    def _ask(self, body: dict[str, Any]) -> Any:  # noqa: ANN401 (a response of an untyped import)
        if not hasattr(self._own, "connection"):
            self._own.connection = self._http.HTTPConnection(*self._address, timeout=60)
        headers = {**_HEADERS, "Content-Type": "application/json"}
        self._own.connection.request("POST", self._path, json.dumps(body), headers)
        return self._own.connection.getresponse()

    def complete(self) -> str:  # noqa: D102 (as in `Client`)
        return cast("str", json.loads(self._ask(_BODY).read())["choices"][0]["message"]["content"])

    def pieces(self) -> Iterator[str]:  # noqa: D102 (as in `Client`)
        for line in self._ask({**_BODY, "stream": True}):
            if line.startswith(b"data: {"):
                yield from _texts(json.loads(line[6:]))


class Requests:
    """`requests` with a shared session, streams through sseclient-py."""

    packages = ("requests", "urllib3", "sseclient-py")

    def __init__(self, base_url: str, threads: int) -> None:
        requests: Any = importlib.import_module("requests")
        self._sse: Any = importlib.import_module("sseclient")
        self._url = f"{base_url}/chat/completions"
        self._session = requests.Session()
        self._session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=threads))

    def complete(self) -> str:  # noqa: D102 (as in `Client`)
        response = self._session.post(self._url, json=_BODY, headers=_HEADERS, timeout=60)
        response.raise_for_status()
        return cast("str", response.json()["choices"][0]["message"]["content"])

    def pieces(self) -> Iterator[str]:  # noqa: D102 (as in `Client`)
        body = {**_BODY, "stream": True}
        with self._session.post(self._url, json=body, headers=_HEADERS, stream=True, timeout=60) as response:
            response.raise_for_status()
            # Iterating over the response itself reads 128 bytes at a time, which costs several times as much.
            for event in self._sse.SSEClient(response.iter_content(None)).events():
                if event.data != "[DONE]":
                    yield from _texts(json.loads(event.data))


class OpenAI:
    """The official SDK."""

    packages = ("openai", "httpx2", "httpcore2", "pydantic")

    def __init__(self, base_url: str, threads: int) -> None:
        openai: Any = importlib.import_module("openai")
        httpx2: Any = importlib.import_module("httpx2")
        limits = httpx2.Limits(max_connections=threads, max_keepalive_connections=threads)
        http = openai.DefaultHttpxClient(limits=limits)
        self._client = openai.OpenAI(base_url=base_url, api_key=answers.API_KEY, timeout=60, http_client=http)

    def complete(self) -> str:  # noqa: D102 (as in `Client`)
        reply = self._client.chat.completions.create(**_BODY)
        return cast("str", reply.choices[0].message.content)

    def pieces(self) -> Iterator[str]:  # noqa: D102 (as in `Client`)
        with self._client.chat.completions.create(**_BODY, stream=True) as stream:
            yield from _chunk_texts(stream)


class LiteLLM:
    """litellm's `completion`, with its defaults."""

    packages = ("litellm", "openai", "httpx")

    def __init__(self, base_url: str, threads: int) -> None:  # noqa: ARG002 (its pool is its own affair)
        self._litellm: Any = importlib.import_module("litellm")
        where = {"api_base": base_url, "api_key": answers.API_KEY, "timeout": 60}
        self._arguments = {**_BODY, "model": f"openai/{answers.MODEL}", **where}

    def complete(self) -> str:  # noqa: D102 (as in `Client`)
        return cast("str", self._litellm.completion(**self._arguments).choices[0].message.content)

    def pieces(self) -> Iterator[str]:  # noqa: D102 (as in `Client`)
        yield from _chunk_texts(self._litellm.completion(**self._arguments, stream=True))


class Tidegate:
    """tidegate with all its defaults on."""

    packages = ("tidegate", "requests", "urllib3", "pydantic", "orjson", "sseclient-py")

    def __init__(self, base_url: str, threads: int) -> None:  # noqa: ARG002 (its pool is its own affair)
        tidegate: Any = importlib.import_module("tidegate")
        self.client = tidegate.Client(f"openai/{answers.MODEL}", base_url=base_url, api_key=answers.API_KEY)

    def complete(self) -> str:  # noqa: D102 (as in `Client`)
        return cast("str", self.client.complete(answers.PROMPT, max_tokens=answers.MAX_TOKENS).text)

    def pieces(self) -> Iterator[str]:  # noqa: D102 (as in `Client`)
        with self.client.stream(answers.PROMPT, max_tokens=answers.MAX_TOKENS) as stream:
            for chunk in stream:
                yield chunk.text


CLIENTS: dict[str, Callable[[str, int], Client]] = {
    "http.client": HttpClient,
    "requests": Requests,
    "openai": OpenAI,
    "litellm": LiteLLM,
    "tidegate": Tidegate,
}
"""By name: made from a base URL and the number of threads that will share it."""


def packages_of(name: str) -> tuple[str, ...]:
    """The distributions whose versions belong beside a client's figures."""
    return cast("tuple[str, ...]", getattr(CLIENTS[name], "packages"))  # noqa: B009 (not part of `Client`)


def _texts(payload: dict[str, Any]) -> Iterator[str]:
    for choice in payload["choices"]:
        if text := choice["delta"].get("content"):
            yield text


def _chunk_texts(chunks: Any) -> Iterator[str]:  # noqa: ANN401 (an SDK's own stream)
    for chunk in chunks:
        if chunk.choices and (text := chunk.choices[0].delta.content):
            yield text
