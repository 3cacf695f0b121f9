"""One answer, as every command shows it: live, as JSON, with a word on whether it is whole, and where its time went."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, TextIO

from tidegate.accounting.money import dollar_text
from tidegate.attempts import Attempt
from tidegate.chat.reply import Completion, Stream
from tidegate.chat.timeline import Timeline
from tidegate.chat.usage import Usage
from tidegate.cli.remarks import explained, remark, whisper
from tidegate.cli.wrapping import Paper, write_line
from tidegate.errors import CallError
from tidegate.pipeline.events import Event, RetryScheduled
from tidegate.terminal import Cell, Column, columns, show_table


def show(stream: Stream) -> Completion:
    """Write the answer to standard output as it comes. However it ends, what came stays, on lines of its own."""
    paper = Paper(sys.stdout)
    try:
        with stream:
            for chunk in stream:
                paper.write(chunk.text)
    finally:
        paper.end()
    return stream.completion


def tell_retry(event: Event) -> None:
    """A listener that says why nothing comes yet."""
    if isinstance(event, RetryScheduled):
        whisper(f"{event.call.route}: {type(event.error).__name__}, asking again in {event.delay:.1f} s")


def tell_if_cut(completion: Completion) -> None:
    """Say that an answer is not whole, or may not be; nothing about one that is."""
    if completion.complete == "yes":
        if not completion.text:
            remark(f"the answer is empty{', the model asks for a tool' if completion.tool_calls else ''}")
    elif completion.finish_reason == "length":
        remark("the answer is cut: it reached the limit of tokens (--max-tokens, or the model's own)")
    elif completion.finish_reason == "content_filter":
        remark("the answer is cut: the provider's content filter stopped it")
    elif completion.complete == "no":
        remark("the answer is cut")
    else:
        reason = f"`{completion.finish_reason}`" if completion.finish_reason else "no reason"
        remark(f"the answer may be cut: the provider gave {reason} for its end")


# JSON


def print_json(value: Mapping[str, Any]) -> None:
    """One object on one line of standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=_plain))
    sys.stdout.write("\n")
    sys.stdout.flush()


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return float(value)  # JSON knows no other number; a cost's few figures survive it
    raise TypeError(f"`{type(value).__name__}` has no JSON")


def as_json(completion: Completion) -> dict[str, Any]:
    """An answer as an object."""
    return {
        "text": completion.text,
        "model": completion.model,
        "provider": completion.provider,
        "finish_reason": completion.finish_reason,
        "complete": completion.complete,
        "usage": None if completion.usage is None else dataclasses.asdict(completion.usage),
        "cost": completion.cost,
        "attempts": _attempts_as_json(completion.attempts),
        "timeline": _timeline_as_json(completion.timeline),
    }


def error_as_json(error: CallError) -> dict[str, Any]:
    """A failure as an object: what there is of the answer, and `error` for why there is no more."""
    known = {name: getattr(error, name) for name in ("status", "code", "request_id", "retry_after")}
    return {
        "text": error.partial,
        "model": error.model,
        "provider": error.provider,
        "complete": "no",
        "attempts": _attempts_as_json(error.attempts),
        "error": {"type": type(error).__name__, "message": explained(error), **known},
    }


def _attempts_as_json(attempts: Sequence[Attempt]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(attempt) for attempt in attempts]


def _timeline_as_json(timeline: Timeline) -> dict[str, float]:
    return {name: round(value, 6) for name, value in (*_phases(timeline), ("total", timeline.total))}


def _phases(timeline: Timeline) -> list[tuple[str, float]]:
    return [(field.name, getattr(timeline, field.name)) for field in dataclasses.fields(timeline)]


# Explained

_MEANINGS = {
    "queue": "waiting for a thread",
    "limiter": "waiting for its turn",
    "connect": "reaching the provider",
    "first_token": "until its first word",
    "stream": "until its last",
    "consumer": "showing it",
    "backoff": "waiting to ask again",
    "own": "tidegate itself",
}
"""What each phase of a timeline is, in a few words."""

BAR = 20
"""Cells of a bar that means the whole time."""


def explain(completion: Completion) -> None:
    """Where the time went, what was tried, and what was used, on standard error."""
    out = sys.stderr
    heads = (Column("time"), Column("seconds", right=True), Column("share", right=True), Column(""))
    out.write("\n")
    show_table(heads, _phase_rows(completion.timeline, out), out)
    explain_attempts(completion.attempts)
    out.write(f"\n{used(completion.usage, completion.cost)}\n")
    if completion.usage is not None and completion.cost is None:
        name = f"{completion.provider}/{completion.model}"
        write_line(f'Nobody knows the price of {name}: a `[prices."{name}"]` in tidegate.toml names it.', out)
    out.flush()


def explain_attempts(attempts: Sequence[Attempt]) -> None:
    """What was tried, on standard error."""
    heads = (Column("attempt"), Column("model"), Column("seconds", right=True), Column("outcome"))
    sys.stderr.write("\n")
    show_table(heads, map(_attempt_row, attempts), sys.stderr)


def _phase_rows(timeline: Timeline, out: TextIO) -> list[tuple[str | Cell, ...]]:
    total = timeline.total
    roomy = not out.isatty() or columns(out) >= 60
    rows: list[tuple[str | Cell, ...]] = []
    for name, spent in _phases(timeline):
        if spent >= 0.0005:
            share = spent / total
            bar = Cell("━" * max(1, round(BAR * share)) if roomy else "", "green")
            rows.append((_MEANINGS[name], f"{spent:.3f}", f"{share:.0%}", bar))
    return [*rows, (Cell("together", "bold"), Cell(f"{total:.3f}", "bold"), "", "")]


def _attempt_row(attempt: Attempt) -> tuple[str | Cell, ...]:
    outcome = attempt.outcome + (f" (HTTP {attempt.status})" if attempt.status else "")
    colour = Cell(outcome, "green" if attempt.outcome == "ok" else "red")
    return str(attempt.number), f"{attempt.provider}/{attempt.model}", f"{attempt.duration:.3f}", colour


def used(usage: Usage | None, cost: Decimal | None) -> str:
    """Tokens and dollars in words."""
    if usage is None:
        return "tokens unknown, cost unknown"
    parts = [f"{usage.input_tokens:,} tokens in", f"{usage.output_tokens:,} out"]
    if usage.cached_input_tokens:
        parts[0] += f" ({usage.cached_input_tokens:,} cached)"
    if usage.reasoning_tokens:
        parts[1] += f" ({usage.reasoning_tokens:,} of them thought)"
    return f"{', '.join(parts)}, {'cost unknown' if cost is None else dollar_text(cost)}"
