"""`map`: many prompts through a pool of threads, in bounded memory, one failure never killing the rest."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from tidegate.chat.messages import Prompt
from tidegate.chat.reply import Completion
from tidegate.clock import CancelToken
from tidegate.errors import ConfigError

WINDOW = 4
"""How many prompts a worker are taken from the input before their outcomes are: the memory that `map` needs."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one prompt of `map`: a completion or an error."""

    index: int
    """The prompt's place in the input, from 0."""
    prompt: Prompt
    completion: Completion | None = None
    error: Exception | None = None

    @property
    def ok(self) -> bool:
        """Whether there is a completion."""
        return self.completion is not None

    def unwrap(self) -> Completion:
        """The completion. Raises the error when there is none."""
        if self.completion is None:
            raise self.error or ConfigError("an outcome without a completion and an error")
        return self.completion


Ask = Callable[[Prompt], Completion]


def outcomes(
    ask: Ask,
    prompts: Iterable[Prompt],
    *,
    workers: int,
    ordered: bool,
    cancel: CancelToken,
    on_outcome: Callable[[Outcome], None],
) -> Generator[Outcome]:
    """Ask every prompt, at most `workers` at a time, and yield what became of each.

    The input is read in the caller's own thread, never further ahead than `WINDOW` prompts a worker. Leaving the loop
    early cancels what is in flight. `on_outcome` is told of each when it is there, in the thread that asked, however
    late it is taken.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="tidegate-map")
    line: _Line = _InOrder() if ordered else _AsCompleted()
    numbered = enumerate(prompts)
    problem: Exception | None = None
    reading = True
    try:
        while reading or len(line):
            if reading and len(line) < workers * WINDOW and not line.ready():
                try:
                    index, prompt = next(numbered)
                except StopIteration:
                    reading = False
                except Exception as error:  # noqa: BLE001 (the input's own: raised when what was asked is delivered)
                    problem, reading = error, False
                else:
                    line.add(pool.submit(_one, ask, index, prompt, on_outcome))
                continue
            yield line.take()
        if problem is not None:
            raise problem  # noqa: TRY301 (what was begun is ended here too)
    except BaseException:  # also Ctrl-C while an outcome is waited for, and an early end of the loop
        pool.shutdown(wait=False, cancel_futures=True)  # first, so that what has not begun never becomes a call
        cancel.cancel()
        raise
    finally:
        pool.shutdown(wait=True)


def _one(ask: Ask, index: int, prompt: Prompt, on_outcome: Callable[[Outcome], None]) -> Outcome:
    try:
        outcome = Outcome(index, prompt, completion=ask(prompt))
    except Exception as error:  # noqa: BLE001 (whatever it is, it is this prompt's outcome)
        outcome = Outcome(index, prompt, error=error)
    on_outcome(outcome)
    return outcome


class _InOrder:
    """Outcomes in the order of the input."""

    def __init__(self) -> None:
        self._futures: deque[Future[Outcome]] = deque()

    def __len__(self) -> int:
        return len(self._futures)

    def add(self, future: Future[Outcome]) -> None:
        self._futures.append(future)

    def ready(self) -> bool:
        return bool(self._futures) and self._futures[0].done()

    def take(self) -> Outcome:
        return self._futures.popleft().result()


class _AsCompleted:
    """Outcomes as they come."""

    def __init__(self) -> None:
        self._done: queue.SimpleQueue[Future[Outcome]] = queue.SimpleQueue()
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def add(self, future: Future[Outcome]) -> None:
        self._waiting += 1
        future.add_done_callback(self._done.put)

    def ready(self) -> bool:
        return not self._done.empty()

    def take(self) -> Outcome:
        outcome = self._done.get().result()
        self._waiting -= 1
        return outcome


_Line = _InOrder | _AsCompleted
