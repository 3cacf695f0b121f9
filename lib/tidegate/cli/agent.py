"""`tidegate agent`: a task, the tools that it takes, and the answer, live."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

from tidegate.agent import (
    Agent,
    AgentEvent,
    AgentResult,
    AnswerText,
    AnswerWithdrawn,
    Done,
    StepFinished,
    ThoughtText,
    ToolFinished,
    ToolStarted,
    calculator,
    clock,
    fetch_url,
)
from tidegate.agent.toolbox import ToolOutcome
from tidegate.cli.answers import print_json, tell_retry, used
from tidegate.cli.options import add_model_options, add_output_options, count, open_client
from tidegate.cli.remarks import explained, remark
from tidegate.cli.wrapping import Paper
from tidegate.errors import CallError, ConfigError, nearest
from tidegate.terminal import Cell, Column, columns, harmless, painted, show_table

TOOLS: dict[str, Callable[..., Any]] = {"calculator": calculator, "clock": clock, "fetch": fetch_url}
"""What `--tools` may name."""

_LONGEST_RESULT = 12
"""Lines of a tool's result that are shown."""

_STOPPED = {
    "max_steps": "the task is not finished: it took as many steps as it may (--max-steps)",
    "budget": "the task is not finished: its next step may cost more than is left (--budget)",
    "timeout": "the task is not finished: its time is over (--timeout)",
    "repeated": "the task is not finished: the model makes the same call again and again",
    "empty": "the task is not finished: the model answers with nothing",
    "unreadable": "the task is not finished: what the model writes cannot be read",
    "filtered": "the answer is cut: the provider's content filter stopped it",
    "cancelled": "the task was stopped",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `agent` can be told."""
    parser.add_argument("task", nargs="+", metavar="TASK", help="what is to be done")
    parser.add_argument(
        "--tools", default="calculator,clock", metavar="NAMES", help=f"of {', '.join(TOOLS)} (calculator,clock)"
    )
    parser.add_argument("--max-steps", type=count, default=10, metavar="N", help="answers of the model at most (10)")
    parser.add_argument("--budget", metavar="USD", help="US dollars that the task may cost at most")
    add_model_options(parser)
    parser.add_argument("--explain", action="store_true", help="say what each step took and cost")
    add_output_options(parser)


def run(options: argparse.Namespace) -> int:
    """Work on the task; answers the exit code."""
    tools = [_tool(name.strip()) for name in options.tools.split(",") if name.strip()]
    seconds, options.timeout = options.timeout, None  # it is that of the whole task
    with open_client(options, tell_retry) as client:
        agent = Agent(
            client, tools, system=options.system, max_steps=options.max_steps, budget=options.budget, timeout=seconds,
            max_tokens=options.max_tokens, temperature=options.temperature,
        )  # fmt: skip
        events = agent.stream(" ".join(options.task))
        result = _as_lines(events) if options.json else _shown(events)
    if options.explain:
        _explain(result)
    if result.stopped == "failed" and result.error is not None:
        raise result.error
    if result.stopped != "answered":
        remark(_STOPPED[result.stopped])
        return 1
    return 0


def _tool(name: str) -> Callable[..., Any]:
    if name not in TOOLS:
        raise ConfigError(f"there is no tool `{name}`{nearest(name, TOOLS)} (tools: {', '.join(TOOLS)})")
    return TOOLS[name]


# For people


def _shown(events: Iterator[AgentEvent]) -> AgentResult:
    """Thoughts and tools on standard error, the answer on standard output: live, where a person looks at it."""
    answer, aside = Paper(sys.stdout), _Aside(sys.stderr)
    live = sys.stdout.isatty()
    try:
        for event in events:
            if isinstance(event, AnswerText):
                aside.end()
                if live:
                    answer.write(event.text)
            elif isinstance(event, AnswerWithdrawn):
                answer.end()
            elif isinstance(event, Done):
                if not live:
                    answer.write(event.result.answer)
                return event.result
            else:
                aside.show(event)
    finally:
        aside.end()
        answer.end()
    raise ConfigError("the run ended without a result")


class _Aside:
    """What is not the answer: thoughts, dim, and tools in boxes."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._open = False
        """Whether a line of thoughts has not ended."""

    def show(self, event: AgentEvent) -> None:
        if isinstance(event, ThoughtText):
            self._out.write(painted(harmless(event.text), "dim", self._out))
            self._open = not event.text.endswith("\n")
        elif isinstance(event, ToolStarted):
            self.end()
            self._out.write(painted(f"▸ {_call(event.call.name, event.arguments)}\n", "dim", self._out))
        elif isinstance(event, ToolFinished):
            self.end()
            self._box(event.outcome)
        self._out.flush()

    def end(self) -> None:
        """Begin a new line."""
        if self._open:
            self._out.write("\n")
            self._open = False

    def _box(self, outcome: ToolOutcome) -> None:
        width = min(columns(self._out), 100)
        head = f"─ {harmless(outcome.call.name)[:40]} "
        foot = f" {outcome.seconds * 1000:.0f} ms ─" if outcome.problem is None else f" {outcome.problem} ─"
        lines = harmless(outcome.text).split("\n")
        left = len(lines) - _LONGEST_RESULT
        shown = [line[: width - 4] for line in lines[:_LONGEST_RESULT]] + ([f"… {left} more lines"] if left > 0 else [])
        self._put(f"╭{head}{'─' * (width - len(head) - 1)}", outcome)
        for line in shown:
            self._put("│ ", outcome, end="")
            self._out.write(f"{line}\n")
        self._put(f"╰{'─' * (width - len(foot) - 1)}{foot}", outcome)

    def _put(self, text: str, outcome: ToolOutcome, end: str = "\n") -> None:
        self._out.write(painted(text, "red" if outcome.failed else "dim", self._out) + end)


def _call(name: str, arguments: Mapping[str, Any]) -> str:
    given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    return harmless(f"{name}({given})")[:200]


def _explain(result: AgentResult) -> None:
    heads = (Column("step"), Column("action"), Column("in", right=True), Column("out", right=True), Column("cost"))
    rows: list[tuple[str | Cell, ...]] = []
    for step in result.steps:
        did = ", ".join(harmless(outcome.call.name) for outcome in step.outcomes) or (
            "asked again" if step.note else "answer"
        )
        usage = step.usage
        figures = ("", "") if usage is None else (f"{usage.input_tokens:,}", f"{usage.output_tokens:,}")
        cost = "unknown" if step.cost is None else f"${step.cost.normalize():f}"
        rows.append((str(step.number), did, *figures, cost))
    sys.stderr.write("\n")
    show_table(heads, rows, sys.stderr)
    sys.stderr.write(f"\n{used(result.usage, result.cost)} in {result.seconds:.1f} s, as task {result.task_id}\n")


# For programs


def _as_lines(events: Iterator[AgentEvent]) -> AgentResult:
    """Each event as an object on a line of standard output."""
    for event in events:
        if isinstance(event, Done):
            print_json({"event": "done", **_result(event.result)})
            return event.result
        print_json(_object(event))
    raise ConfigError("the run ended without a result")


def _object(event: AgentEvent) -> dict[str, Any]:
    if isinstance(event, ThoughtText):
        return {"event": "thought", "step": event.step, "text": event.text}
    if isinstance(event, AnswerText):
        return {"event": "answer", "step": event.step, "text": event.text}
    if isinstance(event, AnswerWithdrawn):
        return {"event": "withdrawn", "step": event.step, "text": event.text}
    if isinstance(event, ToolStarted):
        return {"event": "tool", "step": event.step, "name": event.call.name, "arguments": dict(event.arguments)}
    if isinstance(event, ToolFinished):
        outcome = event.outcome
        told = {"name": outcome.call.name, "result": outcome.text, "problem": outcome.problem}
        return {"event": "result", "step": event.step, **told, "seconds": round(outcome.seconds, 6)}
    assert isinstance(event, StepFinished)  # noqa: S101 (there is no other)
    usage = event.step.usage
    counted = None if usage is None else dataclasses.asdict(usage)
    return {"event": "step", "step": event.step.number, "usage": counted, "cost": event.step.cost}


def _result(result: AgentResult) -> dict[str, Any]:
    error = result.error
    return {
        "answer": result.answer,
        "stopped": result.stopped,
        "steps": len(result.steps),
        "usage": dataclasses.asdict(result.usage),
        "cost": result.cost,
        "seconds": round(result.seconds, 6),
        "task": result.task_id,
        "error": None
        if error is None
        else {
            "type": type(error).__name__,
            "message": explained(error) if isinstance(error, CallError) else str(error),
        },
    }
