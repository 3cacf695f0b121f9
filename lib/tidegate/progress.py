"""How far `map` has come, on one line: on a terminal (standard error), in a notebook, and nowhere else."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any, Protocol, Self, TextIO

from tidegate.accounting.money import dollar_text
from tidegate.chat.reply import Completion
from tidegate.terminal import painted

TICK = 0.25
"""Seconds between two drawings while nothing happens: the clocks on the line go on."""

FASTEST = 0.05
"""Seconds between two drawings at least."""

WIDTH = 100
"""Cells of the line at most; where nobody says how wide it may be, as in a notebook, 80."""


class Bar(Protocol):
    """Where progress is told. From any thread."""

    def advance(self, completion: Completion | None) -> None:
        """One more is done; None for one that failed."""
        ...


@contextlib.contextmanager
def progress_bar(total: int | None, *, visible: bool) -> Iterator[Bar]:
    """A line with what is done, its rate, failures and cost, and the time it took and still takes.

    Without a terminal or a notebook, when not `visible`, or while another bar is drawn, nothing is shown. What the
    program prints meanwhile stands above the line, on the stream that it was printed to.
    """
    line = _line() if visible else None
    if line is None or not _free.acquire(blocking=False):
        yield _Silent()
        return
    try:
        with line, _Drawn(_Tally(total), line) as bar:
            yield bar
    finally:
        _free.release()


_free = threading.Lock()
"""Held while a bar is drawn: two would write over each other."""


class _Silent:
    def advance(self, completion: Completion | None) -> None:
        """Nobody watches."""


class _Line(Protocol):
    """One line that can be written over."""

    def width(self) -> int: ...

    def draw(self, text: str) -> None: ...

    def __enter__(self) -> object: ...

    def __exit__(self, *_: object) -> None: ...


def _line() -> _Line | None:
    if _in_notebook():
        return _NotebookLine()
    if sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return _TerminalLine(sys.stderr)
    return None


class _Drawn:
    """A bar that somebody sees."""

    def __init__(self, tally: _Tally, line: _Line) -> None:
        self._tally = tally
        self._line = line
        self._lock = threading.Lock()
        self._drawn_at = float("-inf")
        self._over = threading.Event()
        self._ticking = threading.Thread(target=self._tick, name="tidegate-progress", daemon=True)

    def advance(self, completion: Completion | None) -> None:
        self._tally.add(completion)
        if time.monotonic() - self._drawn_at >= FASTEST:
            self._draw()

    def _draw(self) -> None:
        with self._lock:
            self._drawn_at = time.monotonic()
            self._line.draw(self._tally.text(self._line.width(), self._drawn_at))

    def _tick(self) -> None:
        while not self._over.wait(TICK):
            self._draw()

    def __enter__(self) -> Self:
        self._draw()
        self._ticking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._ticking.join()
        self._draw()


class _Tally:
    """What is done so far, and how to say it."""

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._done = self._failed = self._priced = 0
        self._cost = Decimal(0)

    def add(self, completion: Completion | None) -> None:
        with self._lock:
            self._done += 1
            if completion is None:
                self._failed += 1
            elif completion.cost is not None:
                self._priced += 1
                self._cost += completion.cost

    def text(self, width: int, now: float) -> str:
        """The line in `width` cells: what matters least is left out first, the bar takes what remains."""
        with self._lock:
            parts = self._parts(now - self._began)
        room = 0 if self._total is None else 12
        while len(parts) > 1 and sum(len(text) + 2 for _, text in parts) + room > width:
            parts.remove(max(parts))
        count = parts[0][1]
        facts = "  ".join(text for _, text in parts[1:])
        bar = self._bar(min(30, width - sum(len(text) + 2 for _, text in parts)))
        return "  ".join(part for part in (count, bar, facts) if part)[:width]

    def _parts(self, seconds: float) -> list[tuple[int, str]]:
        """What there is to say in its order on the line, each with its rank: the highest goes first."""
        rate = self._done / seconds if seconds > 0 else 0.0
        parts = [(0, f"{self._done}/{self._total}" if self._total is not None else f"{self._done} done")]
        if rate:
            parts.append((4, f"{rate:.1f}/s"))
        if self._failed:
            parts.append((1, f"{self._failed} failed"))
        if self._done > self._failed:
            parts.append((3, self._money()))
        parts.append((5, clock(seconds)))
        if self._total is not None and rate and self._done < self._total:
            parts.append((2, f"{clock((self._total - self._done) / rate)} left"))
        return parts

    def _money(self) -> str:
        unpriced = self._done - self._failed - self._priced
        if unpriced and not self._priced:
            return "cost unknown"
        return f"{dollar_text(self._cost)}{' + unknown' if unpriced else ''}"

    def _bar(self, cells: int) -> str:
        if self._total is None or cells < 4:
            return ""
        full = round(cells * min(1.0, self._done / self._total)) if self._total else cells
        return "━" * full + "┄" * (cells - full)


def clock(seconds: float) -> str:
    """A duration as `0:07`, `12:34` or `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


# A terminal

_ERASE = "\r\x1b[K"
_COLOURED = re.compile(r"(?P<green>━+)|(?P<red>\d+ failed)")


class _TerminalLine:
    """The last line of a terminal. While it is there, what is printed goes above it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.RLock()
        self._text = ""
        self._wrapped: dict[str, _Above] = {}

    def width(self) -> int:
        try:
            columns = os.get_terminal_size(self._stream.fileno()).columns
        except (OSError, ValueError):
            columns = 80
        return max(10, min(WIDTH, columns - 1))  # in the last column a terminal may wrap

    def draw(self, text: str) -> None:
        with self._lock:
            self._text = _COLOURED.sub(self._painted, text)
            self._show(f"{_ERASE}{self._text}")

    def _painted(self, part: re.Match[str]) -> str:
        return painted(part[0], "red" if part["red"] else "green", self._stream)

    def above(self, write: Callable[[], object]) -> None:
        """Write whole lines where the line is, and the line anew below them."""
        with self._lock:
            self._show(_ERASE)
            write()
            self._show(self._text)

    def _show(self, text: str) -> None:
        # A terminal that is gone must not cost the work that goes on.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()

    def __enter__(self) -> None:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is not None and stream.isatty():
                self._wrapped[name] = _Above(stream, self)
                setattr(sys, name, self._wrapped[name])

    def __exit__(self, *_: object) -> None:
        self._show("\n")
        for name, wrapped in self._wrapped.items():
            if getattr(sys, name) is wrapped:
                setattr(sys, name, wrapped.stream)
            wrapped.end()


class _Above:
    """A terminal's stream whose lines go above a bar. A line that is not whole waits for its end."""

    def __init__(self, stream: TextIO, line: _TerminalLine) -> None:
        self.stream = stream
        self._line: _TerminalLine | None = line
        self._lock = threading.Lock()
        self._rest = ""

    def write(self, text: str) -> int:
        with self._lock:
            if self._line is None:
                return self.stream.write(text)
            lines, newline, self._rest = (self._rest + text).rpartition("\n")
            if newline:
                self._line.above(lambda: (self.stream.write(lines + newline), self.stream.flush()))
            return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self.stream.flush()

    def end(self) -> None:
        """The bar is gone: pass everything on, for whoever still holds this."""
        with self._lock:
            self._line = None
            self.stream.write(self._rest)
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (whatever else a stream has)
        return getattr(self.stream, name)


# A notebook


def _in_notebook() -> bool:
    """Whether a notebook shows what this process says. Nothing is imported to find out."""
    get_shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get_shell() if get_shell is not None else None
    return getattr(shell, "kernel", None) is not None


class _NotebookLine:
    """An output of a notebook's cell that is replaced in place; what is printed meanwhile has outputs of its own."""

    def __init__(self) -> None:
        self._display = importlib.import_module("IPython.display").display
        self._handle: Any = None

    def width(self) -> int:
        return 80

    def draw(self, text: str) -> None:
        if self._handle is None:
            self._handle = self._display({"text/plain": text}, raw=True, display_id=True)
        else:
            self._handle.update({"text/plain": text}, raw=True)

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...
