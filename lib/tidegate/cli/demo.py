"""`tidegate demo`: one answer live, then twenty questions at once, and what they used. Without a key or a network."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from tidegate.accounting.money import dollar_text
from tidegate.chat.reply import Completion
from tidegate.cli.answers import print_json, show
from tidegate.cli.cells import fitted
from tidegate.cli.options import add_output_options
from tidegate.cli.remarks import explained
from tidegate.cli.wrapping import write_line
from tidegate.client import Client
from tidegate.dispatch import Timeouts
from tidegate.outcomes import Outcome
from tidegate.providers import embedded
from tidegate.providers.registry import LOCAL_MODEL
from tidegate.reporting.metrics import Metrics
from tidegate.terminal import Column, columns, painted, show_table

LIVE = "Tell the story of a gate by the sea, in two sentences."
LIVE_TOKENS = 60

COUNTRIES = (
    "Peru", "Japan", "Kenya", "Norway", "France", "Egypt", "Chile", "Cuba", "Greece", "Poland",
    "Austria", "Ireland", "Finland", "Hungary", "Portugal", "Denmark", "Thailand", "Vietnam", "Italy", "Spain",
)  # fmt: skip
TOKENS = 24
"""The longest of the twenty answers, in tokens."""

SECONDS = 120.0
"""The deadline of a call: twenty at once on a busy machine of two cores took 20 s."""

PATIENT = Timeouts(first_token=None, idle=None)
"""The embedded server answers eight at a time: the others wait in its own line for their first word."""

HONEST = (
    "The model is a toy of 135 million parameters that is embedded. It proves the plumbing (a real server, real "
    "streams, real figures), not wisdom."
)


class Figures(NamedTuple):
    """What the demonstration used."""

    model: str
    metrics: Metrics
    live_seconds: float
    many_seconds: float
    own_seconds: float
    """The durations of the twenty calls, added up."""

    @property
    def speed_up(self) -> float:
        """How many were under way at a time, on average."""
        return self.own_seconds / self.many_seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `demo` can be told."""
    parser.add_argument(
        "-m", "--model", metavar="NAME", default=LOCAL_MODEL, help="another model than the embedded one"
    )
    add_output_options(parser)


def run(options: argparse.Namespace) -> int:
    """Show it; answers the exit code."""
    with Client(options.model, timeout=SECONDS, timeouts=PATIENT) as client:
        figures = _Performance(client, silent=options.json).figures()
    if options.json:
        print_json(_as_json(figures))
    else:
        _show(figures)
    return 1 if figures.metrics.failures else 0


class _Performance:
    """What is seen while it runs; nothing when `silent`, apart from the bar."""

    def __init__(self, client: Client, *, silent: bool) -> None:
        self._client = client
        self._silent = silent

    def figures(self) -> Figures:
        if self._client.model == LOCAL_MODEL:
            self._say(HONEST)
            began = time.monotonic()
            embedded.base_url()
            self._say(f"Its server is up after {time.monotonic() - began:.1f} s.")
        live = self._live()
        began = time.monotonic()
        outcomes = self._many()
        passed = time.monotonic() - began
        own = sum(outcome.completion.timeline.total for outcome in outcomes if outcome.completion is not None)
        return Figures(self._client.model, self._client.metrics(), live.timeline.total, passed, own)

    def _live(self) -> Completion:
        self._head("One answer, as it comes")
        self._say(f"> {LIVE}")
        stream = self._client.stream(LIVE, max_tokens=LIVE_TOKENS, temperature=0)
        if not self._silent:
            return show(stream)
        for _ in stream:
            pass
        return stream.completion

    def _many(self) -> Sequence[Outcome]:
        self._head(f"{len(COUNTRIES)} questions at once")
        questions = [f"What is the capital of {country}?" for country in COUNTRIES]
        outcomes = self._client.map(
            questions,
            workers=len(questions),
            ordered=False,
            progress=True,
            max_tokens=TOKENS,
            temperature=0,
            stall_detection=True,  # streamed underneath, so that the time to first token is known
        )
        return [self._told(outcome) for outcome in outcomes]

    def _told(self, outcome: Outcome) -> Outcome:
        answer = outcome.completion.text if outcome.completion is not None else explained(outcome.error or Exception())
        line = f"{COUNTRIES[outcome.index]:<10}{' '.join(answer.split())}"
        self._say(fitted(line, columns(sys.stdout)) if sys.stdout.isatty() else line)
        return outcome

    def _head(self, text: str) -> None:
        if not self._silent:
            sys.stdout.write(f"\n{painted(text, 'bold', sys.stdout)}\n")

    def _say(self, text: str) -> None:
        if not self._silent:
            write_line(text, sys.stdout)


def _show(figures: Figures) -> None:
    metrics = figures.metrics
    rows = [
        ("model", figures.model),
        ("calls", f"{metrics.calls}, {metrics.failures or 'none'} failed"),
        ("tokens", f"{metrics.input_tokens:,} in, {metrics.output_tokens:,} out"),
        ("cost", f"{dollar_text(metrics.cost)}{' and what nobody knows the price of' if metrics.unpriced else ''}"),
        ("time of a call", f"mean {metrics.mean:.2f} s, p50 {metrics.p50:.2f} s, p95 {metrics.p95:.2f} s"),
        ("to first token", f"p50 {metrics.first_token_p50 or 0:.2f} s, p95 {metrics.first_token_p95 or 0:.2f} s"),
        (
            "wall time",
            f"{figures.live_seconds:.1f} s for the one, {figures.many_seconds:.1f} s for the others",
        ),
        ("speed-up", f"{figures.speed_up:.1f} times: their own times add up to {figures.own_seconds:.1f} s"),
    ]
    sys.stdout.write(f"\n{painted('What it used', 'bold', sys.stdout)}\n")
    show_table((Column("", whole=True), Column("")), rows, sys.stdout)
    if figures.model == LOCAL_MODEL:
        caution = "\nThe speed-up is an estimate, and a high one: calls that share cores slow each other down."
        write_line(caution, sys.stdout)


def _as_json(figures: Figures) -> dict[str, Any]:
    metrics = figures.metrics
    return {
        "model": figures.model,
        "calls": metrics.calls,
        "failed": metrics.failures,
        "errors": dict(metrics.errors),
        "input_tokens": metrics.input_tokens,
        "output_tokens": metrics.output_tokens,
        "cost": None if metrics.unpriced else metrics.cost,
        "mean": metrics.mean,
        "p50": metrics.p50,
        "p95": metrics.p95,
        "first_token_p50": metrics.first_token_p50,
        "first_token_p95": metrics.first_token_p95,
        "wall_time_live": figures.live_seconds,
        "wall_time_many": figures.many_seconds,
        "speed_up": figures.speed_up,
    }
