"""`tidegate` as somebody at a shell has it: in a process of its own, on pipes or on a terminal."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import tidegate

KEY = "sk-canary-0123456789abcdef"
"""The key that every test's shell has, and that must be seen nowhere but by the server."""

SECONDS = 20.0
"""How long anything may take on a busy machine."""

_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[a-zA-Z]|[()][0-9A-Z]|[=>])")


def environment(**more: str) -> dict[str, str]:
    """What a shell's process is given: this process's environment, and where tidegate lies."""
    return {**os.environ, "PYTHONPATH": str(Path(tidegate.__file__).parents[1]), **more}


def command(*arguments: str) -> list[str]:
    """`tidegate` with these arguments. A warning is an error there as well."""
    return [sys.executable, "-W", "error", "-m", "tidegate", *arguments]


def start(*arguments: str, stdin: int = subprocess.DEVNULL, **more: str) -> subprocess.Popen[str]:
    """A running `tidegate` on pipes."""
    return subprocess.Popen(
        command(*arguments),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(**more),
        encoding="utf-8",
    )


def run(*arguments: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """What `tidegate` answered, on pipes. The key is in none of it."""
    ended = subprocess.run(
        command(*arguments),
        input=stdin,
        capture_output=True,
        env=environment(**more),
        encoding="utf-8",
        timeout=SECONDS,
        check=False,
    )
    assert KEY not in ended.stdout + ended.stderr
    return ended


class Terminal:
    """A program on a terminal of so many cells."""

    def __init__(self, arguments: Sequence[str], *, width: int = 80, height: int = 24, **more: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self.process = subprocess.Popen(
            arguments,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment(TERM="xterm-256color", **more),
            start_new_session=True,
        )
        os.close(slave)
        self.raw = ""
        """All that came, with its escape sequences."""

    @property
    def text(self) -> str:
        """What came, without colours and cursor movements."""
        return _ESCAPES.sub("", self.raw).replace("\r\n", "\n")

    def expect(self, *wanted: str) -> None:
        """Wait until these have come, one after the other.

        A key that is pressed while no prompt reads keys goes to the terminal's line instead: wait for the prompt.
        """
        give_up = time.monotonic() + SECONDS
        pattern = re.compile(".*".join(map(re.escape, wanted)), re.DOTALL)
        while not pattern.search(self.text):
            assert self._read(give_up), f"{wanted!r} never came: {self.raw!r}"

    def type(self, text: str) -> None:
        """Press these keys."""
        os.write(self._master, text.encode())

    def interrupt(self) -> None:
        """Ctrl-C, as a terminal passes it on."""
        self.process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """Read to the end; the exit code."""
        give_up = time.monotonic() + SECONDS
        while self._read(give_up):
            pass
        assert KEY not in self.raw
        return self.process.wait(timeout=SECONDS)

    def _read(self, give_up: float) -> bool:
        if not select.select([self._master], [], [], max(0.0, give_up - time.monotonic()))[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError as error:
            if error.errno != errno.EIO:  # which says that the other side is closed
                raise
            return False
        self.raw += data.decode(errors="replace")
        return bool(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        os.close(self._master)
