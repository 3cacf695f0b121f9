"""One task on its way: ask the model, do what it wants, show it what came of that, until it has answered."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tidegate.agent import textual
from tidegate.agent.events import (
    AgentEvent,
    AgentResult,
    AgentStep,
    AnswerText,
    AnswerWithdrawn,
    Done,
    StepFinished,
    Stopped,
    ThoughtText,
    ToolFinished,
    ToolStarted,
)
from tidegate.agent.history import surely_fits, trimmed
from tidegate.agent.toolbox import Toolbox, ToolOutcome, ToolStart
from tidegate.catalog import facts
from tidegate.chat.messages import Message
from tidegate.chat.reply import Completion
from tidegate.chat.tools import ToolCall
from tidegate.client import Client
from tidegate.clock import CancelToken, Clock, Deadline
from tidegate.errors import (
    BudgetExceeded,
    BudgetUnknown,
    CallError,
    Cancelled,
    ConfigError,
    ContextLengthExceeded,
    DeadlineExceeded,
    TidegateError,
)
from tidegate.policies.budget_options import Budget

ASKED_AGAIN = 2
"""How often in a row a model is told that it answered with nothing, or in no format."""

ANSWER_ROOM = 1_024
"""Tokens of the window that are kept free for an answer that nobody bounds."""

SMALLER = 0.6
"""Share of a conversation that is kept when a provider says that it is too long, and nobody knows by how much."""

SHRUNK_AT_MOST = 2
"""How often for one step."""

EMPTY = "Your answer was empty. Use a tool, or answer the task."


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may use."""

    max_steps: int
    max_repeats: int
    timeout: float | None
    budget: Budget | None


class _Stop(Exception):
    """The run ends here."""

    def __init__(self, stopped: Stopped, answer: str = "", error: TidegateError | None = None) -> None:
        super().__init__(stopped)
        self.stopped: Stopped = stopped
        self.answer = answer
        self.error = error


class Run:
    """One task. `events` is used once."""

    def __init__(
        self,
        client: Client,
        tools: Toolbox,
        limits: Limits,
        protocol: str,
        asked: dict[str, Any],
        *,
        streamed: bool,
        task_id: str,
        clock: Clock,
    ) -> None:
        self._client = client
        self._tools = tools
        self._limits = limits
        self._asked = asked
        self._streamed = streamed
        self._task_id = task_id
        self._clock = clock
        self._began = clock.monotonic()
        self._deadline = Deadline.after(limits.timeout, clock)
        self._cancel = CancelToken()
        provider, _, model = (asked.get("model") or client.model).partition("/")
        self._facts = facts(provider, model)
        self._textual = bool(len(tools)) and (protocol == "text" or (protocol == "auto" and self._facts.tools is False))
        self._protocol = protocol
        self._steps: list[AgentStep] = []
        self._said = ""
        """The last text that was said: what there is of an answer when the run is stopped."""
        self._last_calls: object = None
        self._repeats = 0
        self._fruitless = 0
        """Answers in a row of which nothing came."""
        self._task = 0
        """The place of the task in the conversation."""
        self.conversation: list[Message] = []

    def events(self, before: Sequence[Message], task: str, cancel: CancelToken | None) -> Iterator[AgentEvent]:
        """All that happens, `Done` at last. Raises `ConfigError` alone."""
        untie = cancel.on_cancel(self._cancel.cancel) if cancel is not None else None
        self.conversation = [*before, Message("user", task)]
        self._task = len(self.conversation) - 1
        try:
            yield from self._work()
        except _Stop as stop:
            answer = stop.answer or (self._said if stop.stopped != "answered" else "")
            yield Done(self._result(stop.stopped, answer, stop.error))
        finally:
            self._cancel.cancel()  # tools and streams that still work at it
            if untie is not None:
                untie()

    def _result(self, stopped: Stopped, answer: str, error: TidegateError | None) -> AgentResult:
        seconds = self._clock.monotonic() - self._began
        return AgentResult(answer, stopped, tuple(self._steps), self._task_id, seconds, error)

    def _work(self) -> Iterator[AgentEvent]:
        for number in range(1, self._limits.max_steps + 1):
            completion = yield from self._ask(number)
            yield from self._act(number, completion)
        raise _Stop("max_steps")

    # Asking

    def _ask(self, number: int) -> Generator[AgentEvent, None, Completion]:
        """The model's next answer."""
        tries = 0
        while True:
            try:
                return (yield from self._answer(number))
            except ContextLengthExceeded as error:
                tries += 1
                if tries > SHRUNK_AT_MOST or not self._shrink():
                    raise _Stop("failed", error=error) from error
            except Cancelled as error:
                raise _Stop("cancelled", error=error) from error
            except DeadlineExceeded as error:
                raise _Stop("timeout" if self._deadline.expired else "failed", error=error) from error
            except (BudgetExceeded, BudgetUnknown) as error:
                raise _Stop("budget", error=error) from error
            except CallError as error:
                raise _Stop("failed", error=error) from error
            except ConfigError:
                if self._textual or self._protocol != "auto" or not len(self._tools) or self._steps:
                    raise
                self._textual = True  # the provider has no words for tools

    def _answer(self, number: int) -> Generator[AgentEvent, None, Completion]:
        if self._cancel.cancelled:
            raise _Stop("cancelled", error=Cancelled("the run was cancelled"))
        if self._deadline.expired:
            raise _Stop("timeout", error=DeadlineExceeded("the time of the run is over"))
        options: dict[str, Any] = {**self._asked, "task": self._task_id, "cancel": self._cancel}
        if self._limits.timeout is not None:
            options["timeout"] = max(0.001, self._deadline.remaining())
        if self._limits.budget is not None:
            options["budgets"] = [self._limits.budget]
        if len(self._tools) and not self._textual:
            options["tools"] = self._tools.specs
        messages = self._fitting()
        if self._streamed and not self._textual:
            return (yield from self._stream(number, messages, options))
        return self._client.complete(messages, **options)

    def _stream(
        self, number: int, messages: list[Message], options: dict[str, Any]
    ) -> Generator[AgentEvent, None, Completion]:
        with self._client.stream(messages, recover="restart", **options) as stream:
            shown: list[str] = []
            for chunk in stream:
                if chunk.restarted and shown:
                    yield AnswerWithdrawn(number, "".join(shown))
                    shown.clear()
                if chunk.reasoning:
                    yield ThoughtText(number, chunk.reasoning)
                if chunk.text:
                    shown.append(chunk.text)
                    yield AnswerText(number, chunk.text)
        return stream.completion

    def _fitting(self) -> list[Message]:
        """The conversation, within the model's window."""
        messages = self.conversation
        if self._textual:
            told = Message("system", textual.instructions(self._tools.specs))
            messages = [told, *messages]
        window = self._facts.context_window
        if window is None:
            return messages
        room = window - min(self._asked.get("max_tokens") or ANSWER_ROOM, window // 2)
        if surely_fits(messages, room):
            return messages
        kept = trimmed(messages, room, self._count, self._task + len(messages) - len(self.conversation))
        if len(kept) < len(messages):
            self._keep(kept)
        return kept

    def _shrink(self) -> bool:
        """Make the conversation smaller, whatever its window is; says whether that could be done."""
        size = self._count(self.conversation)
        kept = trimmed(self.conversation, round(size * SMALLER), self._count, self._task)
        smaller = len(kept) < len(self.conversation)
        self._keep(kept)
        return smaller

    def _keep(self, kept: Sequence[Message]) -> None:
        task = self.conversation[self._task]
        own = {id(message) for message in self.conversation}
        self.conversation = [message for message in kept if id(message) in own]
        self._task = next(place for place, message in enumerate(self.conversation) if message is task)

    def _count(self, messages: Sequence[Message]) -> int:
        tools = None if self._textual else self._tools.specs
        return self._client.count_tokens(list(messages), model=self._asked.get("model"), tools=tools)

    # Acting

    def _act(self, number: int, completion: Completion) -> Iterator[AgentEvent]:
        if self._textual:
            yield from self._act_on_text(number, completion)
            return
        self.conversation.append(completion.message)
        if completion.tool_calls:
            if completion.text:
                self._said = completion.text
                if self._streamed:
                    yield AnswerWithdrawn(number, completion.text)
            thought = "\n".join(filter(None, (completion.reasoning, completion.text)))
            yield from self._use(number, completion, thought, completion.tool_calls)
        elif completion.finish_reason == "content_filter":
            yield self._finish(number, completion, completion.reasoning)
            raise _Stop("filtered", completion.text)
        elif completion.text.strip():
            if not self._streamed:
                yield AnswerText(number, completion.text)
            yield self._finish(number, completion, completion.reasoning)
            raise _Stop("answered", completion.text)
        else:
            yield from self._ask_again(number, completion, completion.reasoning, EMPTY, "empty")

    def _act_on_text(self, number: int, completion: Completion) -> Iterator[AgentEvent]:
        text = completion.text
        self.conversation.append(Message("assistant", text or "(nothing)"))
        written = textual.read(text, self._tools.names, number) if text.strip() else None
        if written is None:
            self._said = text.strip() or self._said
            note, stopped = (textual.AGAIN, "unreadable") if text.strip() else (EMPTY, "empty")
            yield from self._ask_again(number, completion, completion.reasoning, note, stopped)  # type: ignore[arg-type]
            return
        thought = "\n".join(filter(None, (completion.reasoning, written.thought)))
        if thought:
            yield ThoughtText(number, thought)
        if written.call is None:
            answer = written.answer or ""
            if not answer.strip():
                yield from self._ask_again(number, completion, thought, EMPTY, "empty")
                return
            self.conversation[-1] = Message("assistant", answer)
            yield AnswerText(number, answer)
            yield self._finish(number, completion, thought)
            raise _Stop("answered", answer)
        self._said = written.thought or self._said
        yield from self._use(number, completion, thought, (written.call,))

    def _use(
        self, number: int, completion: Completion, thought: str, calls: Sequence[ToolCall]
    ) -> Iterator[AgentEvent]:
        """Run the tools and show the model what came of it."""
        self._fruitless = 0
        outcomes: dict[int, ToolOutcome] = {}
        try:
            for index, event in self._tools.events(calls, cancel=self._cancel, deadline=self._deadline):
                if isinstance(event, ToolStart):
                    yield ToolStarted(number, event.call, event.arguments)
                else:
                    outcomes[index] = event
                    yield ToolFinished(number, event)
        except Cancelled as error:
            self._record(number, completion, thought, calls, outcomes)
            raise _Stop("cancelled", error=error) from error
        self._record(number, completion, thought, calls, outcomes)
        yield StepFinished(self._steps[-1])
        self._count_repeats(calls)

    def _record(
        self,
        number: int,
        completion: Completion,
        thought: str,
        calls: Sequence[ToolCall],
        outcomes: dict[int, ToolOutcome],
    ) -> None:
        """Every call has its result in the conversation, also one that nobody waited for."""
        lost = [ToolOutcome(call, "it was cancelled", failed=True, problem="cancelled") for call in calls]
        found = tuple(outcomes.get(index, lost[index]) for index in range(len(calls)))
        if self._textual:
            self.conversation.append(Message("user", textual.result(found[0].text)))
        else:
            self.conversation += [outcome.message for outcome in found]
        self._steps.append(AgentStep(number, thought, found, completion))

    def _count_repeats(self, calls: Sequence[ToolCall]) -> None:
        same = [(call.name, _canonical(call.arguments)) for call in calls]
        self._repeats = self._repeats + 1 if same == self._last_calls else 1
        self._last_calls = same
        if self._repeats >= self._limits.max_repeats:
            raise _Stop("repeated")

    def _ask_again(
        self, number: int, completion: Completion, thought: str, note: str, stopped: Stopped
    ) -> Iterator[AgentEvent]:
        self._fruitless += 1
        if not self.conversation[-1].text and not self.conversation[-1].thoughts:
            self.conversation.pop()
        self.conversation.append(Message("user", note))
        yield self._finish(number, completion, thought, note)
        if self._fruitless > ASKED_AGAIN:
            raise _Stop(stopped)

    def _finish(self, number: int, completion: Completion, thought: str, note: str | None = None) -> StepFinished:
        self._steps.append(AgentStep(number, thought, (), completion, note))
        return StepFinished(self._steps[-1])


def _canonical(arguments: str) -> object:
    """Arguments, whatever the order and the spaces they were written in."""
    try:
        return json.dumps(json.loads(arguments or "{}"), sort_keys=True)
    except ValueError:
        return arguments.strip()
