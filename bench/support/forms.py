"""Answers and streams in each provider's own form, as bytes: the same text in all of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

WORDS = ("The ", "tide ", "comes ", "in ", "twice ", "a ", "day, ", "and ", "out ", "again; ")
USAGE = (40, 400)

PROVIDERS = ("openai", "openai-responses", "anthropic", "cohere", "gemini")

Json = dict[str, Any]


def pieces(count: int) -> list[str]:
    """So many words."""
    return [WORDS[index % len(WORDS)] for index in range(count)]


def whole(provider: str, words: Sequence[str]) -> bytes:
    """A body."""
    return json.dumps(_WHOLE[provider]("".join(words))).encode()


def stream(provider: str, words: Sequence[str]) -> bytes:
    """The events of a stream, a word each."""
    return b"".join(_STREAM[provider](words))


def _event(data: Json, name: str | None = None) -> bytes:
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(data).encode() + b"\n\n"


# OpenAI's chat completions


def _chat_usage() -> Json:
    into, out = USAGE
    details = {"prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0}}
    return {"prompt_tokens": into, "completion_tokens": out, "total_tokens": into + out, **details}


def _chat(text: str) -> Json:
    message = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": "m"}
    return {**head, "choices": [choice], "usage": _chat_usage(), "service_tier": "default", "system_fingerprint": "fp"}


def _chat_stream(words: Sequence[str]) -> list[bytes]:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "m",
            "service_tier": "default", "system_fingerprint": "fp"}  # fmt: skip

    def chunk(delta: Json, reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _event({**head, "choices": [choice], "usage": None})

    end = _event({**head, "choices": [], "usage": _chat_usage()})
    first = chunk({"role": "assistant", "content": "", "refusal": None})
    return [first, *(chunk({"content": word}) for word in words), chunk({}, "stop"), end, b"data: [DONE]\n\n"]


# OpenAI's responses


def _response(text: str, status: str = "completed") -> Json:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    item = {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [part]}
    into, out = USAGE
    usage = {"input_tokens": into, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": out,
             "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": into + out}  # fmt: skip
    done = status == "completed"
    return {
        "id": "resp_1", "object": "response", "created_at": 1_700_000_000, "status": status, "error": None,
        "incomplete_details": None, "instructions": None, "metadata": {}, "model": "m", "parallel_tool_calls": True,
        "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0, "output": [item] if done else [],
        "usage": usage if done else None,
    }  # fmt: skip


def _response_stream(words: Sequence[str]) -> list[bytes]:
    text = "".join(words)
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    item = _response(text)["output"][0]
    part = item["content"][0]
    events: list[Json] = [
        {"type": "response.created", "response": _response("", "in_progress")},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**item, "status": "in_progress", "content": []},
        },
        {"type": "response.content_part.added", **place, "part": {**part, "text": ""}},
        *({"type": "response.output_text.delta", **place, "delta": word, "logprobs": []} for word in words),
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": _response(text)},
    ]
    return [_event({**each, "sequence_number": number}, each["type"]) for number, each in enumerate(events)]


# Anthropic's messages


def _message(text: str) -> Json:
    into, out = USAGE
    usage = {"input_tokens": into, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
             "output_tokens": out, "service_tier": "standard"}  # fmt: skip
    content = [{"type": "text", "text": text}]
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": content,
            "stop_reason": "end_turn", "stop_sequence": None, "usage": usage}  # fmt: skip


def _message_stream(words: Sequence[str]) -> list[bytes]:
    whole_message = _message("")
    events: list[Json] = [
        {"type": "message_start", "message": {**whole_message, "content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}} for word in words),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None},
         "usage": {"output_tokens": USAGE[1]}},
        {"type": "message_stop"},
    ]  # fmt: skip
    return [_event(each, each["type"]) for each in events]


# Cohere's chat


def _cohere_usage() -> Json:
    into, out = USAGE
    counts = {"input_tokens": into, "output_tokens": out}
    return {"billed_units": counts, "tokens": {"input_tokens": into + 60, "output_tokens": out}}


def _cohere(text: str) -> Json:
    message = {"role": "assistant", "content": [{"type": "text", "text": text}]}
    return {"id": "c-1", "finish_reason": "COMPLETE", "message": message, "usage": _cohere_usage()}


def _cohere_stream(words: Sequence[str]) -> list[bytes]:
    opened = {"message": {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}}
    events: list[Json] = [
        {"type": "message-start", "id": "c-1", "delta": opened},
        {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}},
        *({"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": word}}}} for word in words),
        {"type": "content-end", "index": 0},
        {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": _cohere_usage()}},
    ]
    return [_event(each, each["type"]) for each in events]


# Gemini's content


def _gemini(text: str, *, last: bool = True) -> Json:
    into, out = USAGE
    counts = {"promptTokenCount": into, "candidatesTokenCount": out, "totalTokenCount": into + out}
    candidate: Json = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
    if last:
        candidate["finishReason"] = "STOP"
    return {"candidates": [candidate], "usageMetadata": counts, "modelVersion": "m", "responseId": "r-1"}


def _gemini_stream(words: Sequence[str]) -> list[bytes]:
    return [_event(_gemini(word, last=index == len(words))) for index, word in enumerate(words, 1)]


_WHOLE: dict[str, Any] = {
    "openai": _chat, "openai-responses": _response, "anthropic": _message, "cohere": _cohere, "gemini": _gemini,
}  # fmt: skip
_STREAM: dict[str, Any] = {
    "openai": _chat_stream, "openai-responses": _response_stream, "anthropic": _message_stream,
    "cohere": _cohere_stream, "gemini": _gemini_stream,
}  # fmt: skip
