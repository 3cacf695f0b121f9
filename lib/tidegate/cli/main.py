"""Where the shell begins: which command is meant, and what its end means to the caller.

0: done. 1: the job failed. 2: asked wrongly, nothing was sent. 130: stopped by Ctrl-C. 141: nobody reads any more.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Protocol, cast

from tidegate.errors import ConfigError, TidegateError, nearest
from tidegate.version import __version__

COMMANDS = {
    "ask": "ask a model, and see the answer come",
    "chat": "talk with a model",
    "agent": "finish a task with tools",
    "parse": "the JSON in what a model wrote",
    "usage": "what was used and what it cost",
    "budget": "budgets that every program of a ledger keeps to",
    "models": "providers, their models, windows and prices",
    "doctor": "what is installed, set and reachable",
    "demo": "see it work, without a key: one answer live, then twenty at once",
}
"""Each command, which is a module of this folder, in a few words."""

DONE, FAILED, ASKED_WRONGLY = 0, 1, 2
INTERRUPTED, NOBODY_READS = 130, 141
"""What a shell makes of a program that SIGINT or SIGPIPE ended: 128 and the signal's number."""


class Command(Protocol):
    """A module of this folder."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Say what the command can be told."""
        ...

    def run(self, options: argparse.Namespace) -> int:
        """Do it; answers the exit code."""
        ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; answers its exit code. `argv` is what follows the program's name, by default `sys.argv[1:]`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _open_streams()
    debug = "--debug" in arguments
    try:
        return _run(arguments)
    except SystemExit as leaving:  # argparse has said why
        return leaving.code if isinstance(leaving.code, int) else FAILED
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends what is still winding down
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to write goes nowhere
        return NOBODY_READS
    except Exception as error:  # noqa: BLE001 (whatever it is, its traceback is for those who asked for it)
        if debug:
            traceback.print_exc()
        return _failed(error)


def _run(arguments: list[str]) -> int:
    name = arguments[0] if arguments and arguments[0] in COMMANDS else None
    command = cast("Command", importlib.import_module(f"tidegate.cli.{name}")) if name else None
    options = _parser(name, command).parse_args(_known(arguments))
    if command is None:  # `--help` and `--version` have been answered
        _parser(None, None).print_help(sys.stderr)
        return ASKED_WRONGLY
    if options.debug:
        _log_everything()
    status = command.run(options)
    sys.stdout.flush()  # here a reader that is gone can still be told from a failure
    return status


def _parser(name: str | None, command: Command | None) -> argparse.ArgumentParser:
    """The whole shell's parser; only the command that is meant was imported, so only it has its arguments."""
    parser = argparse.ArgumentParser(
        prog="tidegate",
        description="A client for language models that keeps its promises about pace, time, money and text.",
        epilog="`tidegate COMMAND --help` says more.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"tidegate {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")
    for each, about in COMMANDS.items():
        sub = commands.add_parser(each, help=about, description=f"{about[0].upper()}{about[1:]}.", allow_abbrev=False)
        if each == name and command is not None:
            command.add_arguments(sub)
    return parser


def _known(arguments: list[str]) -> list[str]:
    """The arguments. Leaves when the first is no command, with the one that may have been meant."""
    if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        known = f" (commands: {', '.join(COMMANDS)})"
        raise ConfigError(f"there is no command `{arguments[0]}`{nearest(arguments[0], COMMANDS)}{known}")
    return arguments


def _failed(error: Exception) -> int:
    from tidegate.cli.remarks import complain, explained  # noqa: PLC0415 (only when something is wrong)

    if isinstance(error, TidegateError):
        complain(explained(error))
        # A ledger's address may well be right, where its disk or its server fails.
        wrong = isinstance(error, ConfigError) and not isinstance(error.__cause__, OSError)
        return ASKED_WRONGLY if wrong else FAILED
    if isinstance(error, ModuleNotFoundError):
        complain(f"the package `{error.name}` is missing: `pip install tidegate` brings what it needs")
    elif isinstance(error, UnicodeDecodeError):
        complain(f"standard input is no {error.encoding} text")
        return ASKED_WRONGLY
    elif isinstance(error, OSError):
        complain(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
    else:
        complain(f"a mistake in tidegate itself, {type(error).__name__}: {explained(error)} (--debug shows where)")
    return FAILED


def _open_streams() -> None:
    """Let no closed stream and no odd character stop a command."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 (as long as the process)
        reconfigure = getattr(getattr(sys, name), "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
    reconfigure = getattr(sys.stdin, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="strict")  # what cannot be read must not be asked


def _log_everything() -> None:
    import logging  # noqa: PLC0415

    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("tidegate").setLevel(logging.DEBUG)
