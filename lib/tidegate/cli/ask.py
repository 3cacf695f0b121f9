"""`tidegate ask`: one question, and its answer as it comes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tidegate.chat.reply import Completion
from tidegate.cli.answers import (
    as_json,
    error_as_json,
    explain,
    explain_attempts,
    print_json,
    show,
    tell_if_cut,
    tell_retry,
)
from tidegate.cli.options import add_model_options, add_output_options, open_client, request_options
from tidegate.client import Client
from tidegate.errors import CallError, ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `ask` can be told."""
    parser.add_argument("prompt", nargs="*", metavar="PROMPT", help="the question; text on standard input follows it")
    add_model_options(parser)
    parser.add_argument("--explain", action="store_true", help="say where the time went, and what was used")
    add_output_options(parser)


def run(options: argparse.Namespace) -> int:
    """Ask; answers the exit code."""
    prompt = _prompt(options.prompt)
    with open_client(options, tell_retry) as client:
        try:
            completion = _answer(client, prompt, options)
        except CallError as error:
            if options.json:
                print_json(error_as_json(error))
            if options.explain:
                explain_attempts(error.attempts)
            raise
    tell_if_cut(completion)
    if options.explain:
        explain(completion)
    return 0


def _answer(client: Client, prompt: str, options: argparse.Namespace) -> Completion:
    if not options.json:
        return show(client.stream(prompt, **request_options(options)))
    # Nobody watches it come. Streamed underneath, a torn answer is simply asked for again.
    completion = client.complete(prompt, stall_detection=True, **request_options(options))
    print_json(as_json(completion))
    return completion


def _prompt(words: Sequence[str]) -> str:
    """What was written, and below it what standard input brings. Raises `ConfigError` when both are empty."""
    parts = [" ".join(words)]
    if sys.stdin is not None and not sys.stdin.isatty():
        parts.append(sys.stdin.read())
    prompt = "\n\n".join(part.strip("\n") for part in parts if part.strip())
    if not prompt:
        raise ConfigError("there is no question: write it after `ask`, or pipe it to standard input")
    return prompt
