"""Each provider's own words for the same answers, streams and errors, so that one suite can hold all to the same.

The forms are those of the providers' published examples (the addresses stand at each class); the texts are our own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from .openai_wire import chunk, completion, error_body

Json = dict[str, Any]

WORD = "tide"


@dataclass(frozen=True)
class Said:
    """What an answer says, in nobody's words."""

    pieces: tuple[str, ...] = ("The tide ", "comes in", ".")
    calls: tuple[tuple[str, str, Json], ...] = ()
    """Tool calls: id, name, arguments."""
    thinking: str = ""
    reason: str = "stop"
    usage: tuple[int, int] = (11, 7)

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.pieces)


CALLS = Said(
    pieces=(),
    calls=(("call-1", "tide", {"port": "Bremen", "day": 3}), ("call-2", "tide", {"port": "Emden"})),
    reason="tool_calls",
)
CUT = Said(pieces=("The tide ",), reason="length")
BLOCKED = Said(pieces=("The ",), reason="content_filter")
THOUGHT = Said(thinking="Moon and sun.")


def event(data: Json, name: str | None = None) -> bytes:
    """One event of a stream."""
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(data).encode() + b"\n\n"


class Wire:
    """One provider's words."""

    provider: ClassVar[str]
    model: ClassVar[str] = "m-1"
    key_header: ClassVar[str] = "authorization"
    path: ClassVar[str]
    """Below the base URL, for `model`."""
    stream_path: ClassVar[str] = ""
    llmock: ClassVar[str | None] = None
    """What llmock calls it."""
    thinks: ClassVar[bool] = True

    def whole(self, said: Said) -> Json:
        """A body."""
        raise NotImplementedError

    def events(self, said: Said) -> list[bytes]:
        """The events of a stream, the last of them without which it is not whole at the end."""
        raise NotImplementedError

    def error(self, status: int, message: str) -> Json:
        """An error's body."""
        raise NotImplementedError

    def error_event(self) -> bytes:
        """An error of the provider's amid a stream: overloaded, where it has a word for that."""
        raise NotImplementedError

    def texts_sent(self, body: Json) -> str:
        """All that was sent, to look for words in."""
        return json.dumps(body)


class OpenAIWire(Wire):
    """Its forms stand at https://platform.openai.com/docs/api-reference/chat/streaming ."""

    provider = "openai"
    path = "/chat/completions"
    llmock: ClassVar[str | None] = "openai"

    def whole(self, said: Said) -> Json:
        calls = [
            {"id": id_, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for id_, name, arguments in said.calls
        ]
        body = completion(said.text or None, finish_reason=said.reason, usage=said.usage, tool_calls=calls or None)
        if said.thinking:
            body["choices"][0]["message"]["reasoning_content"] = said.thinking
        return body

    def events(self, said: Said) -> list[bytes]:
        parts = [chunk("", role="assistant")]
        if said.thinking:
            thought = chunk("")
            thought["choices"][0]["delta"] = {"reasoning_content": said.thinking}
            parts.append(thought)
        parts += [chunk(piece) for piece in said.pieces]
        for index, (id_, name, arguments) in enumerate(said.calls):
            text = json.dumps(arguments)
            first = {"index": index, "id": id_, "type": "function", "function": {"name": name, "arguments": ""}}
            parts.append(chunk(tool_call=first))
            parts += [
                chunk(tool_call={"index": index, "function": {"arguments": piece}}) for piece in (text[:5], text[5:])
            ]
        parts += [chunk(finish_reason=said.reason), chunk(usage=said.usage)]
        return [*map(event, parts), b"data: [DONE]\n\n"]

    def error(self, status: int, message: str) -> Json:  # noqa: ARG002 (it is in the head alone)
        return error_body("server_error", None, message)

    def error_event(self) -> bytes:
        return event({"error": {"type": "overloaded_error", "message": "Busy", "code": None}})


class GroqWire(OpenAIWire):
    """A host of the table, whose forms stand at https://console.groq.com/docs/api-reference ."""

    provider = "groq"
    llmock = "groq"


class AzureWire(OpenAIWire):
    """Its forms stand at https://learn.microsoft.com/azure/ai-services/openai/reference#chat-completions ."""

    provider = "azure"
    key_header = "api-key"
    path = "/openai/deployments/m-1/chat/completions?api-version=2024-10-21"
    llmock: ClassVar[str | None] = None

    def events(self, said: Said) -> list[bytes]:
        checked = {"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": []}
        return [event(checked), *super().events(said)]


class ResponsesWire(Wire):
    """Its forms stand at https://platform.openai.com/docs/api-reference/responses-streaming ."""

    provider = "openai-responses"
    path = "/responses"
    _REASONS: ClassVar[dict[str, str]] = {"length": "max_output_tokens"}

    def _items(self, said: Said) -> list[Json]:
        items: list[Json] = []
        if said.thinking:
            summary = [{"type": "summary_text", "text": said.thinking}]
            items.append({"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": "gAAA"})
        if said.text:
            content = [{"type": "output_text", "text": said.text, "annotations": []}]
            items.append(
                {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": content}
            )
        items += [
            {
                "type": "function_call", "id": f"fc_{id_}", "call_id": id_, "name": name,
                "arguments": json.dumps(arguments), "status": "completed",
            }
            for id_, name, arguments in said.calls
        ]  # fmt: skip
        return items

    def whole(self, said: Said) -> Json:
        cut = None if said.reason in ("stop", "tool_calls") else self._REASONS.get(said.reason, said.reason)
        into, out = said.usage
        return {
            "id": "resp_1",
            "object": "response",
            "created_at": 1_700_000_000,
            "status": "incomplete" if cut else "completed",
            "error": None,
            "incomplete_details": {"reason": cut} if cut else None,
            "model": self.model,
            "output": self._items(said),
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": {
                "input_tokens": into,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": out,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": into + out,
            },
        }

    def events(self, said: Said) -> list[bytes]:
        whole = self.whole(said)
        begun = {**whole, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
        found: list[Json] = [{"type": "response.created", "response": begun}]
        for index, item in enumerate(self._items(said)):
            place = {"output_index": index, "item_id": item["id"]}
            opened: Json = {**item, "status": "in_progress"}
            opened.update({name: type(item[name])() for name in ("arguments", "content") if name in item})
            found.append({"type": "response.output_item.added", "output_index": index, "item": opened})
            if item["type"] == "message":
                part = item["content"][0]
                part_place = {**place, "content_index": 0}
                opened_part = {"type": "response.content_part.added", **part_place, "part": {**part, "text": ""}}
                text = "response.output_text.delta"
                found.append(opened_part)
                found += [{"type": text, **part_place, "delta": piece, "logprobs": []} for piece in said.pieces]
                done = {"type": "response.output_text.done", **part_place, "text": said.text, "logprobs": []}
                found += [done, {"type": "response.content_part.done", **part_place, "part": part}]
            elif item["type"] == "reasoning":
                part_place = {**place, "summary_index": 0}
                part = {"type": "summary_text", "text": ""}
                found.append({"type": "response.reasoning_summary_part.added", **part_place, "part": part})
                kind = "response.reasoning_summary_text.delta"
                found.append({"type": kind, **part_place, "delta": said.thinking})
            else:
                kind, text = "response.function_call_arguments.delta", item["arguments"]
                found += [{"type": kind, **place, "delta": piece} for piece in (text[:5], text[5:])]
            found.append({"type": "response.output_item.done", "output_index": index, "item": item})
        found.append({"type": f"response.{whole['status']}", "response": whole})
        return [event({**each, "sequence_number": n}, each["type"]) for n, each in enumerate(found)]

    def error(self, status: int, message: str) -> Json:  # noqa: ARG002 (it is in the head alone)
        return error_body("server_error", None, message)

    def error_event(self) -> bytes:
        failed = {"id": "resp_1", "status": "failed", "error": {"code": "overloaded", "message": "Busy"}}
        return event({"type": "response.failed", "response": failed}, "response.failed")


class AnthropicWire(Wire):
    """Its forms stand at https://docs.anthropic.com/en/api/messages-streaming ."""

    provider = "anthropic"
    key_header = "x-api-key"
    path = "/v1/messages"
    llmock = "anthropic"
    _REASONS: ClassVar[dict[str, str]] = {
        "stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal",
    }  # fmt: skip

    def _blocks(self, said: Said) -> list[Json]:
        blocks: list[Json] = []
        if said.thinking:
            blocks.append({"type": "thinking", "thinking": said.thinking, "signature": "c2ln"})
        if said.text:
            blocks.append({"type": "text", "text": said.text, "citations": None})
        return blocks + [
            {"type": "tool_use", "id": id_, "name": name, "input": arguments} for id_, name, arguments in said.calls
        ]

    def whole(self, said: Said) -> Json:
        into, out = said.usage
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": self._blocks(said),
            "stop_reason": self._REASONS.get(said.reason, said.reason),
            "stop_sequence": None,
            "usage": {
                "input_tokens": into - 5,
                "cache_creation_input_tokens": 2,
                "cache_read_input_tokens": 3,
                "output_tokens": out,
            },
        }

    def events(self, said: Said) -> list[bytes]:
        whole = self.whole(said)
        opened = {**whole, "content": [], "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 1}}
        found: list[Json] = [{"type": "message_start", "message": opened}, {"type": "ping"}]
        for index, block in enumerate(whole["content"]):
            kind = block["type"]
            empty: dict[str, Json] = {
                "text": {"text": ""},
                "thinking": {"thinking": "", "signature": ""},
                "tool_use": {"input": {}},
            }
            start = {**block, **empty[kind]}
            found.append({"type": "content_block_start", "index": index, "content_block": start})
            deltas: list[Json]
            if kind == "text":
                deltas = [{"type": "text_delta", "text": piece} for piece in said.pieces]
            elif kind == "thinking":
                deltas = [
                    {"type": "thinking_delta", "thinking": said.thinking},
                    {"type": "signature_delta", "signature": block["signature"]},
                ]
            else:
                text = json.dumps(block["input"])
                deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", text[:5], text[5:])]
            found += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
            found.append({"type": "content_block_stop", "index": index})
        ended = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
        found.append({"type": "message_delta", "delta": ended, "usage": {"output_tokens": said.usage[1]}})
        found.append({"type": "message_stop"})
        return [event(each, each["type"]) for each in found]

    def error(self, status: int, message: str) -> Json:
        types = {
            400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
            413: "request_too_large", 429: "rate_limit_error", 500: "api_error", 529: "overloaded_error",
        }  # fmt: skip
        inner = {"type": types.get(status, "api_error"), "message": message}
        return {"type": "error", "error": inner, "request_id": "req_1"}

    def error_event(self) -> bytes:
        return event(self.error(529, "Overloaded"), "error")


class CohereWire(Wire):
    """Its forms stand at https://docs.cohere.com/v2/docs/streaming ."""

    provider = "cohere"
    path = "/v2/chat"
    llmock = "cohere"
    _REASONS: ClassVar[dict[str, str]] = {
        "stop": "COMPLETE", "length": "MAX_TOKENS", "tool_calls": "TOOL_CALL", "content_filter": "ERROR_TOXIC",
    }  # fmt: skip

    def _usage(self, said: Said) -> Json:
        into, out = said.usage
        billed = {"input_tokens": into, "output_tokens": out}
        return {"billed_units": billed, "tokens": {"input_tokens": into + 60, "output_tokens": out + 2}}

    def whole(self, said: Said) -> Json:
        message: Json = {"role": "assistant"}
        content = []
        if said.thinking:
            content.append({"type": "thinking", "thinking": said.thinking})
        if said.text:
            content.append({"type": "text", "text": said.text})
        if content:
            message["content"] = content
        if said.calls:
            message["tool_plan"] = "I will look at the tables."
            message["tool_calls"] = [
                {"id": id_, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
                for id_, name, arguments in said.calls
            ]
        reason = self._REASONS.get(said.reason, said.reason)
        return {"id": "c-1", "finish_reason": reason, "message": message, "usage": self._usage(said)}

    def events(self, said: Said) -> list[bytes]:
        opened = {"message": {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}}
        found: list[Json] = [{"type": "message-start", "id": "c-1", "delta": opened}]
        index = 0
        for kind, pieces in (("thinking", (said.thinking,) if said.thinking else ()), ("text", said.pieces)):
            if not pieces:
                continue
            start = {"message": {"content": {"type": kind, kind: ""}}}
            found.append({"type": "content-start", "index": index, "delta": start})
            found += [
                {"type": "content-delta", "index": index, "delta": {"message": {"content": {kind: piece}}}}
                for piece in pieces
            ]
            found.append({"type": "content-end", "index": index})
            index += 1
        if said.calls:
            plans = ("I will look ", "at the tables.")
            found += [{"type": "tool-plan-delta", "delta": {"message": {"tool_plan": plan}}} for plan in plans]
        for number, (id_, name, arguments) in enumerate(said.calls):
            text = json.dumps(arguments)
            call = {"id": id_, "type": "function", "function": {"name": name, "arguments": ""}}
            found.append({"type": "tool-call-start", "index": number, "delta": {"message": {"tool_calls": call}}})
            for piece in (text[:5], text[5:]):
                more = {"message": {"tool_calls": {"function": {"arguments": piece}}}}
                found.append({"type": "tool-call-delta", "index": number, "delta": more})
            found.append({"type": "tool-call-end", "index": number})
        ended = {"finish_reason": self._REASONS.get(said.reason, said.reason), "usage": self._usage(said)}
        found.append({"type": "message-end", "delta": ended})
        return [event(each, each["type"]) for each in found]

    def error(self, status: int, message: str) -> Json:  # noqa: ARG002 (it is in the head alone)
        return {"message": message}

    def error_event(self) -> bytes:
        ended = {"finish_reason": "ERROR", "error": "Busy", "usage": None}
        return event({"type": "message-end", "delta": ended}, "message-end")


class GeminiWire(Wire):
    """Its forms stand at https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse ."""

    provider = "gemini"
    key_header = "x-goog-api-key"
    path = "/v1beta/models/m-1:generateContent"
    stream_path = "/v1beta/models/m-1:streamGenerateContent?alt=sse"
    llmock = "gemini"
    _REASONS: ClassVar[dict[str, str]] = {
        "stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY",
    }  # fmt: skip

    def _answer(self, parts: Sequence[Json], reason: str | None, usage: tuple[int, int]) -> Json:
        candidate: Json = {"content": {"role": "model", "parts": list(parts)}, "index": 0}
        if reason is not None:
            candidate["finishReason"] = self._REASONS.get(reason, reason)
        into, out = usage
        counts = {"promptTokenCount": into, "candidatesTokenCount": out, "totalTokenCount": into + out}
        return {
            "candidates": [candidate],
            "usageMetadata": counts,
            "modelVersion": self.model,
            "responseId": "r-1",
        }

    @staticmethod
    def _calls(said: Said) -> list[Json]:
        return [
            {"functionCall": {"id": id_, "name": name, "args": arguments}, "thoughtSignature": f"sig-{id_}"}
            for id_, name, arguments in said.calls
        ]

    @staticmethod
    def _thought(said: Said) -> list[Json]:
        return [{"text": said.thinking, "thought": True}] if said.thinking else []

    def whole(self, said: Said) -> Json:
        text = [{"text": said.text}] if said.text else []
        return self._answer([*self._thought(said), *text, *self._calls(said)], said.reason, said.usage)

    def events(self, said: Said) -> list[bytes]:
        parts = [*self._thought(said), *({"text": piece} for piece in said.pieces), *self._calls(said)]
        found = [
            self._answer([part], None if number < len(parts) else said.reason, (said.usage[0], number))
            for number, part in enumerate(parts, 1)
        ]
        found[-1]["usageMetadata"] = self.whole(said)["usageMetadata"]
        return [event(each) for each in found]

    def error(self, status: int, message: str) -> Json:
        words = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
                 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE"}  # fmt: skip
        return {"error": {"code": status, "message": message, "status": words.get(status, "UNKNOWN")}}

    def error_event(self) -> bytes:
        return event(self.error(503, "The model is overloaded."))


WIRES: tuple[Wire, ...] = (
    OpenAIWire(), ResponsesWire(), AzureWire(), AnthropicWire(), CohereWire(), GeminiWire(), GroqWire(),
)  # fmt: skip
"""One row a provider; of the compatible hosts, which differ by their table alone, one for all."""
