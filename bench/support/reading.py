"""Processes that read texts for `parsing.py`, each with a limit of time; and the wheel with real calls."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from corpus.truths import CALLS_VERSION
from support import venvs

PEERS = "parsing"
"""The venv of all peers."""

_STARTS_WITHIN = 60.0
_CACHE = venvs.BENCH / ".cache"

venvs._PINS.setdefault(PEERS, venvs.BENCH / "peers-parsing.txt")  # noqa: SLF001 (the list of venvs, which has no other door)


class Reader:
    """The other end of `support.readers`. It is started again when it crashed or took too long."""

    def __init__(self, way: str, home: Path) -> None:
        self._way, self._home = way, home
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, order: dict[str, Any], seconds: float) -> dict[str, Any] | None:
        """The answer; None if there is none within `seconds`."""
        process = self._process or self._start()
        answer = _asked(process, order, seconds)
        if answer is None:
            self.end()
        return answer

    def end(self) -> None:
        """Also in the middle of its work."""
        if self._process is not None:
            self._process.kill()
            with contextlib.suppress(BrokenPipeError), self._process:
                pass
            self._process = None

    def _start(self) -> subprocess.Popen[bytes]:
        client = self._way if self._way.startswith("tidegate") else PEERS
        command = [venvs.python_of(client), "-m", "support.readers", self._way]
        pipe, variables = subprocess.PIPE, venvs.environment(client, self._home)
        self._process = subprocess.Popen(  # noqa: S603 (our own command)
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=variables
        )
        if _line(self._process, _STARTS_WITHIN) is None:
            self.end()
            raise SystemExit(f"{command!r} did not start, with PYTHONPATH={variables['PYTHONPATH']}")
        return self._process


@contextlib.contextmanager
def reader(way: str, home: Path) -> Iterator[Reader]:
    """A process for this way, which is started with its first order."""
    one = Reader(way, home)
    try:
        yield one
    finally:
        one.end()


def _asked(process: subprocess.Popen[bytes], order: dict[str, Any], seconds: float) -> dict[str, Any] | None:
    assert process.stdin is not None  # noqa: S101 (for the type checker)
    try:
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        return None
    line = _line(process, seconds)
    return None if line is None else cast("dict[str, Any]", json.loads(line))


def _line(process: subprocess.Popen[bytes], seconds: float) -> bytes | None:
    """What the process says next, if it does so in time; it says one line for each order."""
    assert process.stdout is not None  # noqa: S101 (for the type checker)
    source, said, give_up = process.stdout.fileno(), bytearray(), time.monotonic() + seconds
    while not said.endswith(b"\n"):
        ready, _, _ = select.select([source], [], [], max(0.0, give_up - time.monotonic()))
        came = os.read(source, 1 << 20) if ready else b""
        if not came:
            return None
        said += came
    return bytes(said)


def calls_wheel() -> Path:
    """The wheel of real calls, downloaded once; nothing of it is installed or run."""
    wheel = _CACHE / f"bfcl_eval-{CALLS_VERSION}-py3-none-any.whl"
    if not wheel.exists():
        print(f"downloading {wheel.name} (once)", file=sys.stderr)
        command = [sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check", "--no-deps",
                   "--only-binary", ":all:", "--dest", str(_CACHE), f"bfcl-eval=={CALLS_VERSION}"]  # fmt: skip
        subprocess.run(command, check=True, stdout=sys.stderr)  # noqa: S603 (our own command)
    return wheel
