"""What several commands are told in the same words, and the client that follows from it."""

from __future__ import annotations

import argparse
import math
import os
from typing import TYPE_CHECKING, Any

from tidegate.cli.remarks import whisper
from tidegate.errors import ConfigError

if TYPE_CHECKING:
    from tidegate.accounting.ledger import Ledger
    from tidegate.client import Client
    from tidegate.pipeline.events import Listener


TOY = (
    "no key is set, so the embedded model answers: a toy of 135 million parameters that proves the plumbing. "
    "For a real one set a key such as OPENAI_API_KEY, or name it with -m (`tidegate models` lists them)"
)
"""What somebody should know who named no model and set no key."""


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Whom to ask, and how."""
    parser.add_argument(
        "-m", "--model", metavar="NAME", help="provider/model; else TIDEGATE_MODEL, else by the key that is set"
    )
    parser.add_argument("--system", metavar="TEXT", help="instructions that stand before the conversation")
    parser.add_argument("--max-tokens", type=count, metavar="N", help="the longest answer, in tokens")
    parser.add_argument("--temperature", type=float, metavar="T", help="0 (always the likeliest word) to 2")
    parser.add_argument("--timeout", type=seconds, metavar="SECONDS", help="for the whole answer and its retries (60)")
    parser.add_argument("--base-url", metavar="URL", help="another address of the provider's API")


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """What every command has."""
    parser.add_argument("--json", action="store_true", help="the result as JSON")
    parser.add_argument("--debug", action="store_true", help="log what happens, and show tracebacks")


def add_ledger_option(parser: argparse.ArgumentParser) -> None:
    """Which ledger is meant."""
    parser.add_argument(
        "--ledger", metavar="URL", help="the ledger: a file or a URL; else TIDEGATE_LEDGER, else the user's own"
    )


def add_days_option(parser: argparse.ArgumentParser) -> None:
    """Whose days are meant."""
    parser.add_argument("--tz", metavar="NAME", help="whose days, such as Europe/Zurich (those of this machine)")


def open_ledger(options: argparse.Namespace) -> Ledger:
    """The ledger that the options mean. Nothing is made on the disk yet. Raises `ConfigError`, `LedgerUnusable`."""
    from tidegate.accounting.ledger import Ledger  # noqa: PLC0415
    from tidegate.settings import USERS_OWN, load_settings  # noqa: PLC0415

    settings = load_settings({})
    url = settings.ledger if options.ledger is None else _ledger_url(options.ledger)
    if url is None:
        raise ConfigError("no ledger is kept here (TIDEGATE_LEDGER=none): name one with --ledger")
    return Ledger(None if url == USERS_OWN else url, tz=getattr(options, "tz", None) or settings.tz, lazily=True)


def _ledger_url(text: str) -> str:
    from tidegate.accounting.sqlite_file import quoted  # noqa: PLC0415

    return text if "://" in text else f"sqlite:///{quoted(text)}"


def seconds(text: str) -> float:
    """A duration above zero."""
    value = float(text) if _is_number(text) else math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"a number of seconds above 0, not `{text}`")
    return value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def count(text: str) -> int:
    """A whole number above zero."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number of at least 1, not `{text}`")
    return int(text)


def open_client(options: argparse.Namespace, *listeners: Listener) -> Client:
    """The client that the options mean; says so when nobody chose the toy. Raises `ConfigError`."""
    from tidegate.client import Client  # noqa: PLC0415 (`doctor` must run where this cannot be imported)
    from tidegate.providers.registry import LOCAL_MODEL  # noqa: PLC0415

    given: dict[str, Any] = {} if options.timeout is None else {"timeout": options.timeout}
    client = Client(options.model, base_url=options.base_url, listeners=listeners, **given)
    if client.model == LOCAL_MODEL and not (options.model or os.environ.get("TIDEGATE_MODEL")):
        whisper(TOY)
    return client


def request_options(options: argparse.Namespace) -> dict[str, Any]:
    """The keywords of `Client.stream` and `Client.complete`."""
    return {"system": options.system, "max_tokens": options.max_tokens, "temperature": options.temperature}
