"""Many texts, embedded in as few requests as a provider takes, several at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any, cast

from tidegate.chat.embedding import Embeddings, Vector
from tidegate.chat.reply import Completion
from tidegate.chat.usage import Usage
from tidegate.clock import CancelToken
from tidegate.errors import CallError
from tidegate.outcomes import outcomes

MOST_BYTES = 256 * 1024
"""UTF-8 bytes of the texts of one request: OpenAI takes 300,000 tokens in one, and a token is a byte at least."""


def batches(texts: Sequence[str], most: int) -> Iterator[tuple[str, ...]]:
    """The texts in groups of `most` at most, and of `MOST_BYTES` unless one alone has more."""
    group: list[str] = []
    size = 0
    for text in texts:
        length = len(text.encode("utf-8", "replace"))
        if group and (len(group) == most or size + length > MOST_BYTES):
            yield tuple(group)
            group, size = [], 0
        group.append(text)
        size += length
    yield tuple(group)


def embedded(
    ask: Callable[[tuple[str, ...]], Completion],
    groups: Sequence[tuple[str, ...]],
    *,
    workers: int,
    cancel: CancelToken,
) -> Embeddings:
    """Ask for each group, `workers` at a time, and put the answers together.

    Raises the first error; the rest is cancelled then.
    """
    if len(groups) == 1:
        return together([ask(groups[0])])
    failures: list[CallError] = []

    def ask_or_stop(group: tuple[str, ...]) -> Completion:
        try:
            return ask(group)
        except CallError as error:
            failures.append(error)  # the first one is the cause of the others
            cancel.cancel()
            raise

    asked = outcomes(
        cast("Any", ask_or_stop), cast("Any", groups), workers=workers, ordered=True, cancel=cancel,
        on_outcome=lambda _: None,
    )  # fmt: skip
    answers: list[Completion] = []
    with contextlib.closing(asked):
        for outcome in asked:
            if outcome.error is not None:
                raise failures[0] if failures else outcome.error
            answers.append(cast("Completion", outcome.completion))
    return together(answers)


def together(answers: Sequence[Completion]) -> Embeddings:
    """The answers to several requests as one."""
    vectors: list[Vector] = [vector for answer in answers for vector in answer.raw_data]
    costs = [answer.cost for answer in answers]
    known = [cost for cost in costs if cost is not None]
    return Embeddings(
        vectors=tuple(vectors),
        provider=answers[0].provider,
        model=answers[0].model,
        usage=_sum([answer.usage for answer in answers]),
        cost=sum(known, Decimal(0)) if len(known) == len(costs) else None,
        attempts=tuple(attempt for answer in answers for attempt in answer.attempts),
    )


def _sum(usages: Sequence[Usage | None]) -> Usage | None:
    known = [usage for usage in usages if usage is not None]
    if len(known) < len(usages):
        return None
    return Usage(sum(usage.input_tokens for usage in known), 0, estimated=any(usage.estimated for usage in known))
