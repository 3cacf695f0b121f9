"""What an agent tells while it works, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from tidegate.agent.toolbox import ToolOutcome
from tidegate.chat.reply import Completion
from tidegate.chat.tools import ToolCall
from tidegate.chat.usage import Usage
from tidegate.errors import ParseError, TidegateError

Stopped = Literal[
    "answered", "max_steps", "budget", "timeout", "repeated", "empty", "unreadable", "filtered", "cancelled", "failed"
]
"""Why a run ended.

`answered`: the model has. `max_steps`, `budget`, `timeout`: a limit. `repeated`: the same call again and again.
`empty`: it answered with nothing, also when asked once more. `unreadable`: the same for answers in no format.
`filtered`: the provider's filter. `cancelled`: somebody did. `failed`: the model could not be asked; `error` has why.
"""


@dataclass(frozen=True, slots=True)
class AgentStep:
    """One answer of the model, and what was done about it."""

    number: int
    """1 for the first of its run."""
    thought: str
    """What it said before it acted, and what it showed of its thinking."""
    outcomes: tuple[ToolOutcome, ...]
    """What came of its calls, in their order: `outcome.call` is the action, `outcome.text` its result."""
    completion: Completion
    note: str | None = None
    """What it was told where it did nothing of use: that it must answer, or in what format."""

    @property
    def usage(self) -> Usage | None:
        """Tokens."""
        return self.completion.usage

    @property
    def cost(self) -> Decimal | None:
        """US dollars; None when the price is unknown."""
        return self.completion.cost


@dataclass(frozen=True, slots=True)
class AgentResult:
    """What came of a task."""

    answer: str
    """The answer; where the run was stopped, the last that was said, which may be nothing."""
    stopped: Stopped
    steps: tuple[AgentStep, ...]
    task_id: str
    """Under which the ledger has its costs."""
    seconds: float
    error: TidegateError | None = None
    """What the model could not be asked for, or which limit it was."""

    @property
    def usage(self) -> Usage:
        """Tokens of all steps. What no provider told is counted here, and makes it `estimated`."""
        return total_usage([step.usage for step in self.steps])

    @property
    def cost(self) -> Decimal | None:
        """US dollars of all steps; None when one of their prices is unknown."""
        return total_cost([step.cost for step in self.steps])

    def unwrap(self) -> str:
        """The answer. Raises the error that stopped the run, or `ParseError` where there is no answer either."""
        if self.stopped == "answered":
            return self.answer
        if self.error is not None:
            raise self.error
        raise ParseError(f"the task was not finished: {self.stopped}", texts=(self.answer,))


def total_usage(usages: list[Usage | None]) -> Usage:
    """All of them together."""
    known = [usage for usage in usages if usage is not None]
    return Usage(
        sum(usage.input_tokens for usage in known),
        sum(usage.output_tokens for usage in known),
        sum(usage.cached_input_tokens for usage in known),
        sum(usage.cache_write_tokens for usage in known),
        sum(usage.reasoning_tokens for usage in known),
        estimated=len(known) < len(usages) or any(usage.estimated for usage in known),
    )


def total_cost(costs: list[Decimal | None]) -> Decimal | None:
    """All of them together; None when one is unknown."""
    known = [cost for cost in costs if cost is not None]
    return sum(known, Decimal(0)) if len(known) == len(costs) else None


@dataclass(frozen=True, slots=True)
class ThoughtText:
    """A piece of what the model thinks: its reasoning, or a thought that it writes before it acts."""

    step: int
    text: str


@dataclass(frozen=True, slots=True)
class AnswerText:
    """A piece of what the model says, as it comes. What is said before a tool is called turns out to be no answer."""

    step: int
    text: str


@dataclass(frozen=True, slots=True)
class AnswerWithdrawn:
    """What came as answer in this step is none: a tool is called, or the answer begins anew."""

    step: int
    text: str
    """What had come."""


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """A tool begins."""

    step: int
    call: ToolCall
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """A tool is over, or was never called: `outcome.problem` says why."""

    step: int
    outcome: ToolOutcome


@dataclass(frozen=True, slots=True)
class StepFinished:
    """A step is over."""

    step: AgentStep


@dataclass(frozen=True, slots=True)
class Done:
    """The run is over. The last event of every run."""

    result: AgentResult


AgentEvent = ThoughtText | AnswerText | AnswerWithdrawn | ToolStarted | ToolFinished | StepFinished | Done
