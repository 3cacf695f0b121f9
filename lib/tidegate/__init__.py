"""tidegate: calls to language models that keep their promises under threads, money and failure."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # each `as` says to type checkers that the name is public
    from tidegate import agent as agent
    from tidegate import parsing as parsing
    from tidegate import streaming as streaming
    from tidegate.accounting.estimates import Estimate as Estimate
    from tidegate.accounting.ledger import Ledger as Ledger
    from tidegate.accounting.prices import Price as Price
    from tidegate.accounting.tokens import count_tokens as count_tokens
    from tidegate.agent import Agent as Agent
    from tidegate.agent import AgentResult as AgentResult
    from tidegate.agent import Toolbox as Toolbox
    from tidegate.agent import tool as tool
    from tidegate.attempts import Attempt as Attempt
    from tidegate.chat.details import Citation as Citation
    from tidegate.chat.details import Thought as Thought
    from tidegate.chat.details import TokenLogprob as TokenLogprob
    from tidegate.chat.embedding import Embeddings as Embeddings
    from tidegate.chat.messages import Image as Image
    from tidegate.chat.messages import Message as Message
    from tidegate.chat.messages import Text as Text
    from tidegate.chat.reply import Chunk as Chunk
    from tidegate.chat.reply import Completion as Completion
    from tidegate.chat.reply import Stream as Stream
    from tidegate.chat.timeline import Timeline as Timeline
    from tidegate.chat.tools import Tool as Tool
    from tidegate.chat.tools import ToolCall as ToolCall
    from tidegate.chat.usage import Usage as Usage
    from tidegate.circuit import Breaker as Breaker
    from tidegate.circuit import CircuitBreaker as CircuitBreaker
    from tidegate.client import Client as Client
    from tidegate.clock import CancelToken as CancelToken
    from tidegate.dispatch import Timeouts as Timeouts
    from tidegate.errors import (
        AllRoutesFailed as AllRoutesFailed,
    )
    from tidegate.errors import (
        AuthenticationFailed as AuthenticationFailed,
    )
    from tidegate.errors import (
        BadRequest as BadRequest,
    )
    from tidegate.errors import (
        BudgetExceeded as BudgetExceeded,
    )
    from tidegate.errors import (
        BudgetUnknown as BudgetUnknown,
    )
    from tidegate.errors import (
        BudgetWarning as BudgetWarning,
    )
    from tidegate.errors import (
        CallError as CallError,
    )
    from tidegate.errors import (
        Cancelled as Cancelled,
    )
    from tidegate.errors import (
        CircuitOpen as CircuitOpen,
    )
    from tidegate.errors import (
        ConfigError as ConfigError,
    )
    from tidegate.errors import (
        Conflict as Conflict,
    )
    from tidegate.errors import (
        ConnectFailed as ConnectFailed,
    )
    from tidegate.errors import (
        ConnectionLost as ConnectionLost,
    )
    from tidegate.errors import (
        ContentFiltered as ContentFiltered,
    )
    from tidegate.errors import (
        ContextLengthExceeded as ContextLengthExceeded,
    )
    from tidegate.errors import (
        DeadlineExceeded as DeadlineExceeded,
    )
    from tidegate.errors import (
        FirstTokenTimeout as FirstTokenTimeout,
    )
    from tidegate.errors import (
        IdleTimeout as IdleTimeout,
    )
    from tidegate.errors import (
        LedgerUnusable as LedgerUnusable,
    )
    from tidegate.errors import (
        LedgerWarning as LedgerWarning,
    )
    from tidegate.errors import (
        MalformedEvent as MalformedEvent,
    )
    from tidegate.errors import (
        MalformedResponse as MalformedResponse,
    )
    from tidegate.errors import (
        ModelNotFound as ModelNotFound,
    )
    from tidegate.errors import (
        Overloaded as Overloaded,
    )
    from tidegate.errors import (
        ParseError as ParseError,
    )
    from tidegate.errors import (
        PayloadTooLarge as PayloadTooLarge,
    )
    from tidegate.errors import (
        PermissionDenied as PermissionDenied,
    )
    from tidegate.errors import (
        ProtocolError as ProtocolError,
    )
    from tidegate.errors import (
        ProviderError as ProviderError,
    )
    from tidegate.errors import (
        ProviderUnavailable as ProviderUnavailable,
    )
    from tidegate.errors import (
        QuotaExhausted as QuotaExhausted,
    )
    from tidegate.errors import (
        RateLimited as RateLimited,
    )
    from tidegate.errors import (
        RequestTooLarge as RequestTooLarge,
    )
    from tidegate.errors import (
        ResponseTooLarge as ResponseTooLarge,
    )
    from tidegate.errors import (
        StreamInterrupted as StreamInterrupted,
    )
    from tidegate.errors import (
        StreamUnfinished as StreamUnfinished,
    )
    from tidegate.errors import (
        TidegateError as TidegateError,
    )
    from tidegate.errors import (
        TLSFailed as TLSFailed,
    )
    from tidegate.errors import (
        TransportError as TransportError,
    )
    from tidegate.errors import (
        TruncatedStream as TruncatedStream,
    )
    from tidegate.handling import ErrorContext as ErrorContext
    from tidegate.handling import ErrorHandler as ErrorHandler
    from tidegate.handling import retry_on as retry_on
    from tidegate.handling import with_error_handling as with_error_handling
    from tidegate.limiter import RateLimiter as RateLimiter
    from tidegate.outcomes import Outcome as Outcome
    from tidegate.policies.admission import Limits as Limits
    from tidegate.policies.budget_options import Budget as Budget
    from tidegate.policies.hedge import Hedge as Hedge
    from tidegate.policies.retry import Retry as Retry
    from tidegate.reporting.metrics import Metrics as Metrics
    from tidegate.streaming import StreamProcessor as StreamProcessor
    from tidegate.streaming import WordWriter as WordWriter
    from tidegate.streaming import sse_events as sse_events
    from tidegate.streaming import tee as tee
    from tidegate.version import __version__ as __version__

_HOMES = {
    "tidegate.agent": ("Agent", "AgentResult", "Toolbox", "tool"),
    "tidegate.streaming": ("StreamProcessor", "WordWriter", "sse_events", "tee"),
    "tidegate.chat.details": ("Citation", "Thought", "TokenLogprob"),
    "tidegate.chat.embedding": ("Embeddings",),
    "tidegate.chat.messages": ("Image", "Message", "Text"),
    "tidegate.accounting.ledger": ("Ledger",),
    "tidegate.accounting.estimates": ("Estimate",),
    "tidegate.accounting.prices": ("Price",),
    "tidegate.accounting.tokens": ("count_tokens",),
    "tidegate.policies.budget_options": ("Budget",),
    "tidegate.attempts": ("Attempt",),
    "tidegate.chat.reply": ("Chunk", "Completion", "Stream"),
    "tidegate.chat.timeline": ("Timeline",),
    "tidegate.chat.tools": ("Tool", "ToolCall"),
    "tidegate.chat.usage": ("Usage",),
    "tidegate.circuit": ("Breaker", "CircuitBreaker"),
    "tidegate.client": ("Client",),
    "tidegate.clock": ("CancelToken",),
    "tidegate.dispatch": ("Timeouts",),
    "tidegate.errors": (
        "AllRoutesFailed",
        "AuthenticationFailed",
        "BadRequest",
        "BudgetExceeded",
        "BudgetUnknown",
        "BudgetWarning",
        "CallError",
        "Cancelled",
        "CircuitOpen",
        "ConfigError",
        "Conflict",
        "ConnectFailed",
        "ConnectionLost",
        "ContentFiltered",
        "ContextLengthExceeded",
        "DeadlineExceeded",
        "FirstTokenTimeout",
        "IdleTimeout",
        "LedgerUnusable",
        "LedgerWarning",
        "MalformedEvent",
        "MalformedResponse",
        "ModelNotFound",
        "Overloaded",
        "ParseError",
        "PayloadTooLarge",
        "PermissionDenied",
        "ProtocolError",
        "ProviderError",
        "ProviderUnavailable",
        "QuotaExhausted",
        "RateLimited",
        "RequestTooLarge",
        "ResponseTooLarge",
        "StreamInterrupted",
        "StreamUnfinished",
        "TLSFailed",
        "TidegateError",
        "TransportError",
        "TruncatedStream",
    ),
    "tidegate.handling": ("ErrorContext", "ErrorHandler", "retry_on", "with_error_handling"),
    "tidegate.limiter": ("RateLimiter",),
    "tidegate.outcomes": ("Outcome",),
    "tidegate.policies.admission": ("Limits",),
    "tidegate.policies.hedge": ("Hedge",),
    "tidegate.policies.retry": ("Retry",),
    "tidegate.reporting.metrics": ("Metrics",),
    "tidegate.version": ("__version__",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_ROOMS = ("agent", "parsing", "streaming")
"""Folders that are public as they are."""

__all__ = sorted((*_HOME_OF, *_ROOMS))  # noqa: PLE0605 (a test compares it with what type checkers see above)


def __getattr__(name: str) -> Any:  # noqa: ANN401 (any public name)
    """Import a public name when it is first used (PEP 562), so that `import tidegate` costs nothing."""
    if name in _ROOMS:
        return importlib.import_module(f"tidegate.{name}")
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module `tidegate` has no attribute `{name}`")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
