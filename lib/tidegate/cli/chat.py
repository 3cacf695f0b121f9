"""`tidegate chat`: a conversation. prompt_toolkit, which reads what somebody types, is imported here alone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence

from tidegate.accounting.money import dollar_text
from tidegate.chat.messages import Message
from tidegate.chat.reply import Stream
from tidegate.cli.answers import as_json, error_as_json, print_json, show, tell_if_cut, tell_retry
from tidegate.cli.options import add_model_options, add_output_options, open_client, request_options
from tidegate.cli.remarks import complain, explained, remark, whisper
from tidegate.client import Client
from tidegate.errors import CallError, ContextLengthExceeded, nearest
from tidegate.terminal import Column, show_table

COMMANDS = {
    "/help": "this list",
    "/cost": "tokens and dollars so far",
    "/clear": "forget the conversation",
    "/quit": "leave",
    "Ctrl-C": "stop an answer",
    "Ctrl-D": "leave",
    "Alt-Enter": "begin a new line",
    "↑ ↓": "what you wrote before",
}
"""What can be typed, beside what is said."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `chat` can be told."""
    add_model_options(parser)
    add_output_options(parser)


def run(options: argparse.Namespace) -> int:
    """Talk until the lines end; answers the exit code, 1 when lines were piped and an answer failed."""
    somebody = sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
    with open_client(options, tell_retry) as client:
        talk = Conversation(client, options, somebody=somebody)
        if somebody:
            whisper(f"you talk with {client.model}; /help lists what can be typed, Ctrl-D leaves")
        for line in _typed() if somebody else _piped():
            if not talk.hear(line):
                break
    return 1 if talk.failed and not somebody else 0


def _piped() -> Iterator[str]:
    return iter(sys.stdin or ())


def _typed() -> Iterator[str]:
    """The lines of whoever sits there, until Ctrl-D."""
    from prompt_toolkit import PromptSession  # noqa: PLC0415 (0.3 s, for those who sit there)
    from prompt_toolkit.key_binding import KeyBindings  # noqa: PLC0415
    from prompt_toolkit.output import create_output  # noqa: PLC0415

    keys = KeyBindings()
    keys.add("escape", "enter")(lambda event: event.current_buffer.insert_text("\n"))
    session: PromptSession[str] = PromptSession(output=create_output(stdout=sys.stderr), key_bindings=keys)
    while True:
        try:
            yield session.prompt("\n> ")
        except KeyboardInterrupt:
            whisper("Ctrl-D leaves")
        except EOFError:
            return


class Conversation:
    """What was said so far, and what the next line means."""

    def __init__(self, client: Client, options: argparse.Namespace, *, somebody: bool) -> None:
        self._client = client
        self._request = request_options(options)
        self._as_json: bool = options.json
        self._somebody = somebody
        self._turns: list[Message] = []
        self._coming: Stream | None = None
        self.failed = False
        """Whether an answer ever failed."""
        self._commands: dict[str, Callable[[], None]] = {
            "/help": self._help,
            "/cost": self._cost,
            "/clear": self._clear,
        }

    def hear(self, line: str) -> bool:
        """Answer a line, or obey it; says whether to go on."""
        line = line.strip()
        if line.startswith("/"):
            return self._obey(line)
        if line:
            self._turn(line)
        return True

    def _turn(self, line: str) -> None:
        asked = [*self._turns, Message("user", line)]
        try:
            text = self._answer(asked)
        except CallError as error:
            text = error.partial
            self._fail(error)
        except KeyboardInterrupt:
            if not self._somebody:
                raise
            text = self._coming.text if self._coming is not None else ""
            sys.stderr.write("\r\x1b[K")  # over the `^C` that the terminal shows
            whisper("stopped")
        if text:  # else this was not asked: the next question follows the answer before it
            self._turns = [*asked, Message("assistant", text)]

    def _answer(self, asked: Sequence[Message]) -> str:
        self._coming = None
        if self._as_json:
            completion = self._client.complete(asked, stall_detection=True, **self._request)
            print_json(as_json(completion))
        else:
            self._coming = self._client.stream(asked, **self._request)
            completion = show(self._coming)
        tell_if_cut(completion)
        return completion.text

    def _fail(self, error: CallError) -> None:
        self.failed = True
        if self._as_json:
            print_json(error_as_json(error))
        complain(explained(error))
        if isinstance(error, ContextLengthExceeded) and self._turns:
            remark("/clear forgets the conversation")

    # Commands

    def _obey(self, line: str) -> bool:
        if line == "/quit":
            return False
        command = self._commands.get(line)
        if command is not None:
            command()
        else:
            complain(f"there is no command `{line}`{nearest(line, [*self._commands, '/quit'])} (/help lists them)")
        return True

    def _help(self) -> None:
        show_table((Column(""), Column("")), COMMANDS.items(), sys.stderr)

    def _cost(self) -> None:
        so_far = self._client.metrics()
        tokens = f"{so_far.input_tokens:,} tokens in, {so_far.output_tokens:,} out"
        unknown = f" (answers of unknown price: {so_far.unpriced})" if so_far.unpriced else ""
        remark(f"questions: {so_far.calls}, {tokens}, {dollar_text(so_far.cost)}{unknown}")

    def _clear(self) -> None:
        self._turns = []
        remark("forgotten")
