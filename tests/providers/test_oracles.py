"""The official packages as oracles: given the same bytes, they read the same in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import anthropic
import cohere
import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion

from journeys.asking import KEY
from support.fault_server import FaultServer, json_reply, sse_raw
from support.wires import BLOCKED, CALLS, CUT, THOUGHT, WIRES, Said, Wire
from tidegate import Client, Completion

OFFICIAL = ("openai", "openai-responses", "azure", "anthropic", "cohere")
SAID = {"text": Said(), "two calls": CALLS, "cut": CUT, "filtered": BLOCKED, "thought": THOUGHT}
rows = pytest.mark.parametrize(
    "wire", [wire for wire in WIRES if wire.provider in OFFICIAL], ids=lambda wire: wire.provider
)

ASKED: Any = [{"role": "user", "content": "When is high tide?"}]


@dataclass
class Read:
    """What an official package reads in an answer, in its own words."""

    text: str
    calls: list[tuple[str, str, Any]]
    reason: str | None
    into: int
    out: int


def read_chat(answer: ChatCompletion) -> Read:
    [choice] = answer.choices
    assert answer.usage is not None
    calls: Any = choice.message.tool_calls or []
    return Read(
        choice.message.content or "",
        [(call.id, call.function.name, json.loads(call.function.arguments)) for call in calls],
        choice.finish_reason,
        answer.usage.prompt_tokens,
        answer.usage.completion_tokens,
    )


def by_openai(url: str, *, streamed: bool) -> Read:
    with openai.OpenAI(api_key=KEY, base_url=f"{url}/v1", max_retries=0) as official:
        return _by_chat(official, streamed=streamed)


def _by_chat(official: openai.OpenAI, *, streamed: bool) -> Read:
    if not streamed:
        return read_chat(official.chat.completions.create(model="m-1", messages=ASKED))
    with official.chat.completions.stream(
        model="m-1", messages=ASKED, stream_options={"include_usage": True}
    ) as stream:
        return read_chat(stream.get_final_completion())


def by_azure(url: str, *, streamed: bool) -> Read:
    with openai.AzureOpenAI(api_key=KEY, azure_endpoint=url, api_version="2024-10-21", max_retries=0) as official:
        return _by_chat(official, streamed=streamed)


def by_responses(url: str, *, streamed: bool) -> Read:
    with openai.OpenAI(api_key=KEY, base_url=f"{url}/v1", max_retries=0) as official:
        if not streamed:
            answer: Any = official.responses.create(model="m-1", input="When is high tide?")
        else:
            with official.responses.stream(model="m-1", input="When is high tide?") as stream:
                last: Any = list(stream)[-1]  # `get_final_response()` raises for an answer that was cut
            answer = last.response
    calls: Any = [item for item in answer.output if item.type == "function_call"]
    assert answer.usage is not None
    why = answer.incomplete_details.reason if answer.incomplete_details else None
    return Read(
        answer.output_text,
        [(call.call_id, call.name, json.loads(call.arguments)) for call in calls],
        why or ("tool_calls" if calls else answer.status),
        answer.usage.input_tokens,
        answer.usage.output_tokens,
    )


def by_anthropic(url: str, *, streamed: bool) -> Read:
    asked: Any = {"model": "m-1", "max_tokens": 100, "messages": ASKED}
    with anthropic.Anthropic(api_key=KEY, base_url=url, max_retries=0) as official:
        if streamed:
            with official.messages.stream(**asked) as stream:
                answer: Any = stream.get_final_message()
        else:
            answer = official.messages.create(**asked)
    counted = answer.usage
    return Read(
        "".join(block.text for block in answer.content if block.type == "text"),
        [(block.id, block.name, block.input) for block in answer.content if block.type == "tool_use"],
        answer.stop_reason,
        counted.input_tokens + counted.cache_creation_input_tokens + counted.cache_read_input_tokens,
        counted.output_tokens,
    )


def by_cohere(url: str, *, streamed: bool) -> Read:
    with httpx.Client() as http:
        return _by_cohere(cohere.ClientV2(api_key=KEY, base_url=url, httpx_client=http), streamed=streamed)


def _by_cohere(official: cohere.ClientV2, *, streamed: bool) -> Read:
    if not streamed:
        answer = official.chat(model="m-1", messages=ASKED)
        calls: Any = answer.message.tool_calls or []
        content: Any = answer.message.content or []
        billed: Any = answer.usage.billed_units if answer.usage else None
        return Read(
            "".join(part.text for part in content if part.type == "text"),
            [(call.id, call.function.name, json.loads(call.function.arguments)) for call in calls],
            answer.finish_reason,
            int(billed.input_tokens),
            int(billed.output_tokens),
        )
    text, ended = "", None
    pieces: dict[int, list[str]] = {}
    for each in official.chat_stream(model="m-1", messages=ASKED):
        event: Any = each
        if event.type == "content-delta":
            text += event.delta.message.content.text or ""
        elif event.type == "tool-call-start":
            call = event.delta.message.tool_calls
            pieces[event.index] = [call.id, call.function.name, call.function.arguments]
        elif event.type == "tool-call-delta":
            pieces[event.index][2] += event.delta.message.tool_calls.function.arguments
        elif event.type == "message-end":
            ended = event.delta
    assert ended is not None
    billed = ended.usage.billed_units
    found = [(id_, name, json.loads(arguments)) for id_, name, arguments in pieces.values()]
    return Read(text, found, ended.finish_reason, int(billed.input_tokens), int(billed.output_tokens))


BY = {
    "openai": by_openai,
    "openai-responses": by_responses,
    "azure": by_azure,
    "anthropic": by_anthropic,
    "cohere": by_cohere,
}

SAME_REASON = {
    "openai-responses": {"completed": "stop", "max_output_tokens": "length"},
    "anthropic": {"end_turn": "stop", "max_tokens": "length", "tool_use": "tool_calls", "refusal": "content_filter"},
    "cohere": {"COMPLETE": "stop", "MAX_TOKENS": "length", "TOOL_CALL": "tool_calls", "ERROR_TOXIC": "content_filter"},
}
"""The official words, and the ones that tidegate has for all of them."""


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


def ours(server: FaultServer, wire: Wire, *, streamed: bool) -> Completion:
    url = server.base_url if wire.provider.startswith("openai") else server.url
    with Client(f"{wire.provider}/m-1", api_key=KEY, base_url=url, retry=None) as client:
        if not streamed:
            return client.complete("When is high tide?")
        with client.stream("When is high tide?") as answer:
            list(answer)
        return answer.completion


@rows
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("what", SAID)
def test_the_official_package_reads_the_same(server: FaultServer, wire: Wire, what: str, *, streamed: bool) -> None:
    said = SAID[what]
    if streamed and wire.provider in ("openai", "azure") and what in ("cut", "filtered"):
        # The official helper raises there instead of answering: its plain iterator is compared.
        server.always(sse_raw(*wire.events(said)))
        assert ours(server, wire, streamed=True).finish_reason == official_reason(server)
        return
    server.always(sse_raw(*wire.events(said)) if streamed else json_reply(wire.whole(said)))
    theirs = BY[wire.provider](server.url, streamed=streamed)
    done = ours(server, wire, streamed=streamed)
    assert done.usage is not None
    found = [(call.id, call.name, call.parsed()) for call in done.tool_calls]
    same = SAME_REASON.get(wire.provider, {})
    assert (done.text, found) == (theirs.text, theirs.calls)
    assert done.finish_reason == same.get(theirs.reason or "", theirs.reason)
    assert (done.usage.input_tokens, done.usage.output_tokens) == (theirs.into, theirs.out)


def official_reason(server: FaultServer) -> str | None:
    with openai.OpenAI(api_key=KEY, base_url=server.base_url, max_retries=0) as official:
        chunks = list(official.chat.completions.create(model="m-1", messages=ASKED, stream=True))
    return next(choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason)


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.provider)
@pytest.mark.parametrize("what", SAID)
def test_every_answer_is_also_one_of_the_official_type(server: FaultServer, wire: Wire, what: str) -> None:
    server.always(json_reply(wire.whole(SAID[what])))
    url = server.base_url if wire.provider.startswith("openai") else server.url
    with Client(f"{wire.provider}/m-1", api_key=KEY, base_url=url, retry=None) as client:
        done = client.complete("Hi")
    official = done.to_openai()
    assert ChatCompletion.model_validate(official.model_dump(), strict=True) == official
    read = read_chat(official)
    assert (read.text, read.into, read.out) == (done.text, *SAID[what].usage)
    assert read.reason == done.finish_reason
    assert read.calls == [(call.id, call.name, call.parsed()) for call in done.tool_calls]
