"""What the shell says on standard error: what went wrong and what to do next, in the shell's own words."""

from __future__ import annotations

import sys

from tidegate.cli.wrapping import write_line
from tidegate.errors import (
    CallError,
    ConnectFailed,
    ConnectionLost,
    ContextLengthExceeded,
    DeadlineExceeded,
    FirstTokenTimeout,
    IdleTimeout,
    MalformedResponse,
    ProtocolError,
    ProviderUnavailable,
    RateLimited,
    StreamInterrupted,
    TLSFailed,
)
from tidegate.terminal import Style, harmless, painted

_HINTS: dict[type[CallError], str] = {
    DeadlineExceeded: "Give it more time with --timeout, or ask for less with --max-tokens.",
    StreamInterrupted: "What had come is shown; ask again for the whole.",
    ConnectFailed: "Check the network and the address (--base-url); `tidegate doctor` tries each provider.",
    ConnectionLost: "Ask again.",
    TLSFailed: "For a private certificate authority set SSL_CERT_FILE; verification cannot be switched off.",
    FirstTokenTimeout: "If this model thinks longer, set TIDEGATE_TIMEOUTS__FIRST_TOKEN to more seconds.",
    IdleTimeout: "If this model pauses longer, set TIDEGATE_TIMEOUTS__IDLE to more seconds.",
    MalformedResponse: "Check that the address (--base-url) is the API itself, not a web page or a proxy's.",
    ProtocolError: "Ask again; if it stays, another model may do.",
    ContextLengthExceeded: "Shorten the conversation, lower --max-tokens, or choose a model with a larger window.",
    RateLimited: "Wait, and ask again.",
    ProviderUnavailable: "Ask again later, or ask another model with -m.",
}
"""Where the library's own hint speaks of arguments of Python, or says nothing."""

_WORDS = {
    " or pass `api_key=`": "",
    "say `allow_http=True`": "set TIDEGATE_ALLOW_HTTP=true",
    "`base_url=`": "--base-url",
    "`base_url`": "--base-url",
    "`max_tokens`": "--max-tokens",
    "`temperature`": "--temperature",
    "`timeout`": "--timeout",
    "`system`": "--system",
    "`by` is one of": "--by is one of",
    "`Budget(usd=…)`": "USD",
    "`Budget(per=…)`": "--per",
    "`Budget(each=…)`": "--each",
}
"""Arguments of Python as options of the shell."""

LONGEST = 600
"""Characters of a remark: a provider may send a page of HTML as its reason."""


def explained(error: BaseException) -> str:
    """One line: what went wrong and what to do next."""
    text = str(_with_hint(error)) or type(error).__name__
    for word, instead in _WORDS.items():
        text = text.replace(word, instead)
    text = " ".join(harmless(text).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _with_hint(error: BaseException) -> BaseException:
    if isinstance(error, CallError) and error.hint == type(error).hint:
        hints = (_HINTS[kind] for kind in type(error).__mro__ if kind in _HINTS)
        error.hint = next(hints, error.hint)
    return error


def complain(text: str) -> None:
    """A line about what went wrong."""
    _say(text, "red")


def remark(text: str) -> None:
    """A line beside the result, whoever reads it."""
    _say(text, "yellow")


def whisper(text: str) -> None:
    """A line for somebody who watches: nothing when standard error is no terminal."""
    if sys.stderr.isatty():
        _say(text, "dim")


def _say(text: str, style: Style) -> None:
    name = "tidegate: "
    sys.stderr.write(painted(name, style, sys.stderr))
    write_line(text, sys.stderr, at=len(name))
