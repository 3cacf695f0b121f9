"""How long this machine let nobody run: what a test of timing must know of its surroundings."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self


class Stalls:
    """Watches from `with` to its end."""

    STEP = 0.01

    def __init__(self) -> None:
        self.longest = 0.0
        """Seconds by which a sleep of 10 ms was too long, at most."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stalls", daemon=True)

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._over.wait(self.STEP):
            now = time.monotonic()
            self.longest = max(self.longest, now - before - self.STEP)
            before = now

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
