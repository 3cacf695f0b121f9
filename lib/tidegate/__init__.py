"""tidegate: calls to language models that keep their promises under threads, money and failure."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidegate.chat.messages import Image, Message, Text
    from tidegate.chat.reply import Attempt, Chunk, Completion, Stream
    from tidegate.chat.timeline import Timeline
    from tidegate.chat.tools import Tool, ToolCall
    from tidegate.chat.usage import Usage
    from tidegate.client import Client
    from tidegate.clock import CancelToken
    from tidegate.dispatch import Timeouts
    from tidegate.errors import (
        AuthenticationFailed,
        BadRequest,
        CallError,
        Cancelled,
        ConfigError,
        Conflict,
        ConnectFailed,
        ConnectionLost,
        ContentFiltered,
        ContextLengthExceeded,
        DeadlineExceeded,
        FirstTokenTimeout,
        IdleTimeout,
        MalformedEvent,
        MalformedResponse,
        ModelNotFound,
        Overloaded,
        PayloadTooLarge,
        PermissionDenied,
        ProtocolError,
        ProviderError,
        ProviderUnavailable,
        QuotaExhausted,
        RateLimited,
        ResponseTooLarge,
        StreamInterrupted,
        StreamUnfinished,
        TidegateError,
        TLSFailed,
        TransportError,
        TruncatedStream,
    )
    from tidegate.outcomes import Outcome
    from tidegate.policies.retry import Retry
    from tidegate.reporting.metrics import Metrics
    from tidegate.version import __version__

_HOMES = {
    "tidegate.chat.messages": ("Image", "Message", "Text"),
    "tidegate.chat.reply": ("Attempt", "Chunk", "Completion", "Stream"),
    "tidegate.chat.timeline": ("Timeline",),
    "tidegate.chat.tools": ("Tool", "ToolCall"),
    "tidegate.chat.usage": ("Usage",),
    "tidegate.client": ("Client",),
    "tidegate.clock": ("CancelToken",),
    "tidegate.dispatch": ("Timeouts",),
    "tidegate.errors": (
        "AuthenticationFailed",
        "BadRequest",
        "CallError",
        "Cancelled",
        "ConfigError",
        "Conflict",
        "ConnectFailed",
        "ConnectionLost",
        "ContentFiltered",
        "ContextLengthExceeded",
        "DeadlineExceeded",
        "FirstTokenTimeout",
        "IdleTimeout",
        "MalformedEvent",
        "MalformedResponse",
        "ModelNotFound",
        "Overloaded",
        "PayloadTooLarge",
        "PermissionDenied",
        "ProtocolError",
        "ProviderError",
        "ProviderUnavailable",
        "QuotaExhausted",
        "RateLimited",
        "ResponseTooLarge",
        "StreamInterrupted",
        "StreamUnfinished",
        "TLSFailed",
        "TidegateError",
        "TransportError",
        "TruncatedStream",
    ),
    "tidegate.outcomes": ("Outcome",),
    "tidegate.policies.retry": ("Retry",),
    "tidegate.reporting.metrics": ("Metrics",),
    "tidegate.version": ("__version__",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)  # noqa: PLE0605 (a test compares it with what type checkers see above)


def __getattr__(name: str) -> Any:  # noqa: ANN401 (any public name)
    """Import a public name when it is first used (PEP 562), so that `import tidegate` costs nothing."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module `tidegate` has no attribute `{name}`")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
