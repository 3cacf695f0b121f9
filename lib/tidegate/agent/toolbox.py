"""Runs the tools that a model asks for: those that are registered, within their time, and a failure is a message."""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidegate import jsontext
from tidegate.agent.functions import FunctionTool, tool
from tidegate.chat.messages import Message
from tidegate.chat.tools import Tool, ToolCall
from tidegate.clock import CancelToken, Deadline
from tidegate.errors import Cancelled, ConfigError, nearest
from tidegate.parsing import create_robust_parser

WORKERS = 8
"""Tools that run at a time."""

LEFT_BEHIND = 16
"""Calls that took too long and still run, before no further one is begun."""

_LONGEST_PROBLEM = 2_000

_log = logging.getLogger("tidegate")


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """What came of one call."""

    call: ToolCall
    text: str
    """What the model is told: the result, or what went wrong."""
    failed: bool = False
    problem: str | None = None
    """`unknown`, `arguments`, `refused`, `timeout`, `raised`, `cancelled` or `busy`; None where it worked."""
    value: Any = None
    """What the function returned."""
    seconds: float = 0.0
    error: BaseException | None = None
    """What the function raised."""

    @property
    def message(self) -> Message:
        """As the turn that answers the call."""
        return Message("tool", self.text, tool_call_id=self.call.id or "call", name=self.call.name, failed=self.failed)


@dataclass(frozen=True, slots=True)
class ToolStart:
    """A call begins."""

    call: ToolCall
    arguments: Mapping[str, Any]


class Toolbox:
    """Tools by their names. Shared by threads.

    ::

        tools = Toolbox([calculator, clock])
        outcome = tools.run(ToolCall("1", "calculator", '{"expression": "25 * 4 + 10"}'))
        print(outcome.text)  # 110

    `tools` are functions with `@tool`, or plain functions with types. `workers` of them run at a time, each in a thread
    of its own. Raises `ConfigError` for what is no tool, and for two of one name.
    """

    def __init__(self, tools: Iterable[Callable[..., Any]] = (), *, workers: int = WORKERS) -> None:
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise ConfigError(f"`workers` is a whole number of at least 1, not {workers!r}")
        if isinstance(tools, str | bytes) or not isinstance(tools, Iterable):
            raise ConfigError(f"`tools` is a list of functions, not `{type(tools).__name__}`")
        self._tools: dict[str, FunctionTool[..., Any]] = {}
        self._workers = workers
        self._left: list[threading.Thread] = []
        self._lock = threading.Lock()
        for each in tools:
            self.register(each)

    def register(self, function: Callable[..., Any]) -> FunctionTool[..., Any]:
        """Add a tool; answers it, so that this is a decorator too."""
        made: FunctionTool[..., Any] = tool(function)
        with self._lock:
            if made.name in self._tools:
                raise ConfigError(f"two tools are called `{made.name}`")
            self._tools[made.name] = made
        return made

    @property
    def specs(self) -> tuple[Tool, ...]:
        """What a model is told of them."""
        return tuple(each.spec for each in self._tools.values())

    @property
    def names(self) -> tuple[str, ...]:
        """In the order of their registration."""
        return tuple(self._tools)

    def __len__(self) -> int:
        return len(self._tools)

    def __contains__(self, name: object) -> bool:
        return name in self._tools

    def run(self, call: ToolCall, *, cancel: CancelToken | None = None, timeout: float | None = None) -> ToolOutcome:
        """Run one call. Raises nothing of the tool's, and `Cancelled` when `cancel` is."""
        [outcome] = self.run_all([call], cancel=cancel, timeout=timeout)
        return outcome

    def run_all(
        self, calls: Sequence[ToolCall], *, cancel: CancelToken | None = None, timeout: float | None = None
    ) -> list[ToolOutcome]:
        """Run calls side by side; their outcomes are in the order of the calls."""
        events = self.events(calls, cancel=cancel, deadline=Deadline.after(timeout))
        found = {index: event for index, event in events if isinstance(event, ToolOutcome)}
        return [found[index] for index in range(len(calls))]

    def events(
        self, calls: Sequence[ToolCall], *, cancel: CancelToken | None = None, deadline: Deadline
    ) -> Iterator[tuple[int, ToolStart | ToolOutcome]]:
        """Run calls side by side, and tell of each when it begins and when it is over. Raises `Cancelled`."""
        waiting: deque[tuple[int, _Work]] = deque()
        for index, call in enumerate(calls):
            prepared = self._prepared(call)
            if isinstance(prepared, ToolOutcome):
                yield index, prepared
            else:
                waiting.append((index, prepared))
        signal = threading.Event()
        own = CancelToken()
        forget = cancel.on_cancel(own.cancel) if cancel is not None else None
        forget_signal = own.on_cancel(signal.set)
        running: list[tuple[int, _Work]] = []
        try:
            while waiting or running:
                own.raise_if_cancelled()
                while waiting and len(running) < self._workers:
                    index, work = waiting.popleft()
                    if (refused := self._begin(work, signal, own, deadline)) is not None:
                        yield index, refused
                        continue
                    running.append((index, work))
                    yield index, ToolStart(work.call, work.arguments)
                if running:
                    _wait(signal, running)
                    for entry in [each for each in running if each[1].over]:
                        running.remove(entry)
                        yield entry[0], self._ended(entry[1])
        finally:
            own.cancel()  # whoever still works at it is told that nobody waits
            forget_signal()
            if forget is not None:
                forget()
            for _, work in running:
                self._leave(work)

    # One call

    def _prepared(self, call: ToolCall) -> _Work | ToolOutcome:
        found = self._tools.get(call.name)
        if found is None:
            there = ", ".join(self._tools) or "none"
            problem = f"there is no tool `{call.name[:100]}`{nearest(call.name[:100], self._tools)}; there are: {there}"
            return _failure(call, "unknown", problem)
        try:
            arguments = found.validated(_read(call.arguments))
        except ValueError as error:
            return _failure(call, "arguments", f"the arguments of `{call.name}` do not fit: {error}")
        if found.approve is not None:
            refusal = _asked(found, call, arguments)
            if refusal is not None:
                return _failure(call, "refused", refusal)
        return _Work(call, found, arguments)

    def _begin(
        self, work: _Work, signal: threading.Event, cancel: CancelToken, deadline: Deadline
    ) -> ToolOutcome | None:
        with self._lock:
            self._left = [thread for thread in self._left if thread.is_alive()]
            if len(self._left) >= LEFT_BEHIND:
                problem = f"it was not called: {len(self._left)} earlier calls took too long and still run"
                return _failure(work.call, "busy", problem)
        work.begin(signal, cancel, deadline)
        return None

    def _ended(self, work: _Work) -> ToolOutcome:
        if work.outcome is not None:
            return work.outcome
        self._leave(work)
        problem = f"`{work.call.name}` took longer than {work.seconds:.3g} s, and was given up"
        _log.warning("the tool %s", problem)
        return _failure(work.call, "timeout", problem, seconds=work.seconds)

    def _leave(self, work: _Work) -> None:
        with self._lock:
            if work.thread.is_alive():
                self._left.append(work.thread)

    def __repr__(self) -> str:
        return f"Toolbox({', '.join(self._tools)})"


class _Work:
    """A call that is checked, and then runs."""

    def __init__(self, call: ToolCall, function: FunctionTool[..., Any], arguments: dict[str, Any]) -> None:
        self.call = call
        self.arguments: Mapping[str, Any] = dict(arguments)
        self.outcome: ToolOutcome | None = None
        self.seconds = 0.0
        """How long it may take."""
        self.ends = 0.0
        self.thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._run,), name=f"tidegate-tool-{call.name}", daemon=True
        )
        self._function = function
        self._given = dict(arguments)
        self._done: Callable[[], object] = _nothing

    def begin(self, signal: threading.Event, cancel: CancelToken, deadline: Deadline) -> None:
        """In a thread of its own, which nobody can stop: it is told by `cancel`, and left alone at last."""
        if self._function.takes_cancel is not None:
            self._given[self._function.takes_cancel] = cancel
        limit = self._function.timeout
        self.seconds = min(deadline.remaining(), float("inf") if limit is None else limit)
        self.ends = time.monotonic() + self.seconds
        self._done = signal.set
        self.thread.start()

    @property
    def over(self) -> bool:
        return self.outcome is not None or time.monotonic() >= self.ends

    def _run(self) -> None:
        began = time.monotonic()
        try:
            value = self._function.function(**self._given)
            text = as_text(value, self._function.output_limit)
        except BaseException as error:  # noqa: BLE001 (whatever a tool raises, SystemExit as well, is the model's to know)
            told = f"{type(error).__name__}: {_line(error)}"
            self.outcome = _failure(
                self.call, "raised", f"`{self.call.name}` failed: {told}", time.monotonic() - began, error
            )
        else:
            self.outcome = ToolOutcome(self.call, text, value=value, seconds=time.monotonic() - began)
        self._done()


def _wait(signal: threading.Event, running: Sequence[tuple[int, _Work]]) -> None:
    """Until one of them is over, or somebody cancels."""
    if any(work.over for _, work in running):
        return
    seconds = min(work.ends for _, work in running) - time.monotonic()
    signal.wait(None if seconds == float("inf") else max(0.0, seconds))
    signal.clear()


def _nothing() -> None:
    """Nobody waits yet."""


def _failure(
    call: ToolCall, problem: str, text: str, seconds: float = 0.0, error: BaseException | None = None
) -> ToolOutcome:
    return ToolOutcome(call, text, failed=True, problem=problem, seconds=seconds, error=error)


def _asked(function: FunctionTool[..., Any], call: ToolCall, arguments: Mapping[str, Any]) -> str | None:
    """Why the call may not go; None when it may."""
    assert function.approve is not None  # noqa: S101 (the caller looked)
    try:
        allowed = function.approve(call, arguments)
    except Cancelled:
        raise
    except Exception as error:  # noqa: BLE001 (whoever cannot answer has not said yes)
        _log.warning("`approve` of the tool `%s` raised", call.name, exc_info=error)
        return f"`{call.name}` was not called: nobody could be asked whether it may be"
    if allowed is True:
        return None
    reason = f": {allowed}" if isinstance(allowed, str) and allowed else ""
    return f"`{call.name}` was not called, for it was not allowed{reason}"


def _read(arguments: str) -> dict[str, Any]:
    """A call's arguments as an object. Raises `ValueError` that says what is wrong."""
    text = arguments.strip() or "{}"
    try:
        value = jsontext.decode(text)
    except ValueError:
        result = _PARSER.parse(text)
        if not result.success:
            raise ValueError("they are not JSON that could be read; write them as a JSON object") from None
        value = result.data
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError("they are not a JSON object")  # noqa: TRY004 (a model's mistake, told to it)
    return value


_PARSER = create_robust_parser()


def as_text(value: object, limit: int) -> str:
    """A result as the model is told it, cut to `limit` characters."""
    if isinstance(value, str):
        text = value
    elif value is None:
        text = "(nothing)"
    else:
        dump = getattr(value, "model_dump", None)
        try:
            text = jsontext.encode(dump(mode="json") if callable(dump) else value).decode()
        except (ValueError, TypeError):
            text = str(value)
    if len(text) <= limit:
        return text or "(nothing)"
    return f"{text[:limit]}\n[cut: {limit:,} of {len(text):,} characters]"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:_LONGEST_PROBLEM] or "it said nothing"
