"""What a person sees on a terminal: rich, imported here alone."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Protocol

from tidegate.chat.reply import Completion


class Bar(Protocol):
    """Where progress is told."""

    def advance(self, completion: Completion | None) -> None:
        """One more is done; None for one that failed."""
        ...


class _Silent:
    def advance(self, completion: Completion | None) -> None:
        """Nobody watches."""


@contextlib.contextmanager
def progress_bar(total: int | None, *, visible: bool) -> Iterator[Bar]:
    """A bar with rate, failures, cost and time left, on a terminal (standard error); otherwise nothing."""
    if not visible or not sys.stderr.isatty():
        yield _Silent()
        return
    from rich.console import Console  # noqa: PLC0415 (only where somebody watches)
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[facts]}"), TimeElapsedColumn())
    left = (TextColumn("left"), TimeRemainingColumn()) if total is not None else ()
    with Progress(*columns, *left, console=Console(stderr=True), transient=False) as display:
        yield _Drawn(display, display.add_task("", total=total, facts=""))


class _Drawn:
    def __init__(self, display: Any, task: Any) -> None:  # noqa: ANN401 (rich's Progress)
        self._display, self._task = display, task
        self._failed = 0
        self._cost = Decimal(0)

    def advance(self, completion: Completion | None) -> None:
        if completion is None:
            self._failed += 1
        elif completion.cost is not None:
            self._cost += completion.cost
        task = self._display.tasks[0]
        rate = f"{task.speed:.1f}/s" if task.speed else ""
        failed = f"  [red]{self._failed} failed[/red]" if self._failed else ""
        self._display.update(self._task, advance=1, facts=f"{rate}  ${self._cost:.4f}{failed}")
