"""Our completion as the official `openai` package's type. The one file that imports that package."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from openai.types.chat import ChatCompletion

if TYPE_CHECKING:
    from tidegate.chat.reply import Completion

_FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})


def to_chat_completion(completion: Completion) -> ChatCompletion:
    """Validated by the official type. A finish reason that it does not know becomes `stop`."""
    reason = completion.finish_reason if completion.finish_reason in _FINISH_REASONS else "stop"
    return ChatCompletion.model_validate(
        {
            "id": completion.id or "",
            "object": "chat.completion",
            "created": _created(completion.raw_data),
            "model": completion.model,
            "choices": [
                {
                    "index": 0,
                    "finish_reason": reason,
                    "logprobs": _logprobs(completion),
                    "message": _message(completion),
                }
            ],
            "usage": _usage(completion),
        }
    )


def _created(raw: Any) -> int:  # noqa: ANN401 (the provider's own JSON)
    created = raw.get("created") if isinstance(raw, dict) else None
    return created if isinstance(created, int) else int(time.time())


def _message(completion: Completion) -> dict[str, Any]:
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in completion.tool_calls
    ]
    content = completion.text or (None if calls or completion.refusal else "")
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": completion.refusal}
    return {**message, "tool_calls": calls} if calls else message


def _logprobs(completion: Completion) -> dict[str, Any] | None:
    if not completion.logprobs:
        return None
    content = [
        {
            **_token(each.token, each.logprob),
            "top_logprobs": [_token(token, logprob) for token, logprob in each.alternatives],
        }
        for each in completion.logprobs
    ]
    return {"content": content, "refusal": None}


def _token(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode("utf-8", "replace"))}


def _usage(completion: Completion) -> dict[str, Any] | None:
    usage = completion.usage
    if usage is None or usage.estimated:  # there it means what the provider counted
        return None
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
