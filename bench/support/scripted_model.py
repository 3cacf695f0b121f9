"""A model that always plays the same script: four calls of a calculator, then the answer. OpenAI's format, from memory.

Run as `python -m support.scripted_model`; prints its port. The step is told by the number of results in the request.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from typing import Any

STEPS = 5
"""Answers of one run, the last of which is the text."""

ANSWER = "It is 110."


def _answer(results: int) -> bytes:
    message: dict[str, Any] = {"role": "assistant", "content": ANSWER, "refusal": None}
    reason = "stop"
    if results < STEPS - 1:
        arguments = json.dumps({"a": 25, "b": results})
        call = {"id": f"call_{results}", "type": "function", "function": {"name": "add", "arguments": arguments}}
        message, reason = {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls"
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    usage = {"prompt_tokens": 60, "completion_tokens": 20, "total_tokens": 80}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": "gpt-4o-mini"}
    body = json.dumps({**head, "choices": [choice], "usage": usage}).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


ANSWERS = [_answer(results) for results in range(STEPS)]


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._transport: Any = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, mark, body = self._buffer.partition(b"\r\n\r\n")
        if not mark:
            return
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if len(body) < int(lengths[0].split(b":")[1]):
            return
        self._buffer = b""
        results = body.count(b'"role":"tool"') + body.count(b'"role": "tool"')
        self._transport.write(ANSWERS[min(results, STEPS - 1)])


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def _end_with_standard_input() -> None:
    """Whoever started it ends it by closing the pipe."""
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=_end_with_standard_input, daemon=True).start()
    asyncio.run(_serve())
