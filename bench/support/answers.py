"""What every loopback server answers, and what every client must have made of it."""

from __future__ import annotations

import json
from typing import Any

MODEL = "gpt-4o-mini"
PROMPT = "What is a tide gate?"
MAX_TOKENS = 256
API_KEY = "sk-test"

TEXT = (
    "A tide gate is a hinged or sliding gate in a dike or a sea wall. At low tide the water behind it runs out freely; "
    "when the tide rises the sea itself presses the gate shut, so that the land behind stays dry without anyone there."
)
"""The plain answer's text."""

BATCHED_EVENTS = 1_000
"""Text events of the stream that comes at once, many events a read."""
PACED_EVENTS = 300
"""Text events of the stream that comes one event a read."""
GAP = 0.002
"""Seconds between two events of the paced stream: even the slowest client is waiting again when the next one comes."""

_SHAPE = {"id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT", "created": 1_741_569_952, "model": "gpt-4o-mini-2024-07-18"}
_USAGE = {
    "prompt_tokens": 13,
    "completion_tokens": 54,
    "total_tokens": 67,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 0,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}


def completion() -> bytes:
    """The body of a plain answer, with the fields that OpenAI's own answers have."""
    message: dict[str, Any] = {"role": "assistant", "content": TEXT, "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    answer = {"object": "chat.completion", "choices": [choice], "usage": _USAGE, "system_fingerprint": "fp_0123456789"}
    return _bytes(_SHAPE | answer | {"service_tier": "default"})


def events(pieces: int) -> list[bytes]:
    """A stream's events, ready to send: role, `pieces` of text, finish reason, usage, `[DONE]`."""
    payloads = [
        _chunk([{"delta": {"role": "assistant", "content": "", "refusal": None}, "finish_reason": None}]),
        *(_chunk([{"delta": {"content": piece(number)}, "finish_reason": None}]) for number in range(pieces)),
        _chunk([{"delta": {}, "finish_reason": "stop"}]),
        _chunk([], usage=_USAGE),
        b"[DONE]",
    ]
    return [b"data: " + payload + b"\n\n" for payload in payloads]


def piece(number: int) -> str:
    """The text of one event."""
    return f" token{number}"


def streamed_text(pieces: int) -> str:
    """The text of a whole stream."""
    return "".join(map(piece, range(pieces)))


def _chunk(choices: list[dict[str, Any]], usage: object = None) -> bytes:
    full = [{"index": 0, **choice, "logprobs": None} for choice in choices]
    rest = {"object": "chat.completion.chunk", "system_fingerprint": "fp_0123456789", "service_tier": "default"}
    return _bytes(_SHAPE | rest | {"choices": full, "usage": usage})


def _bytes(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
