"""Keeps a run's conversation within the model's window, and a tool's result never without its call."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tidegate.chat.messages import Message

Count = Callable[[Sequence[Message]], int]
"""Tokens of a conversation."""

ROUGH = 2
"""Characters that a token has at least, in the long run."""


def surely_fits(messages: Sequence[Message], room: int) -> bool:
    """Whether nothing has to be counted to know that the conversation is within `room` tokens."""
    return sum(len(message.text) + sum(len(c.arguments) for c in message.tool_calls) + 40 for message in messages) < (
        room * ROUGH
    )


def trimmed(messages: Sequence[Message], room: int, count: Count, task: int) -> list[Message]:
    """The conversation within `room` tokens, as far as that goes.

    The oldest rounds go first: what was said before this task, then its steps, each with the results of its calls.
    What stays always: instructions, the task itself (the message at the index `task`), and its last round.
    """
    kept = list(messages)
    if count(kept) <= room:
        return kept
    rounds = _rounds(kept, task)
    gone: set[int] = set()
    for places in rounds[:-1]:
        gone.update(places)
        left = [message for place, message in enumerate(kept) if place not in gone]
        if count(left) <= room:
            return left
    return [message for place, message in enumerate(kept) if place not in gone]


def _rounds(messages: Sequence[Message], task: int) -> list[list[int]]:
    """The places of what comes and goes together, oldest first."""
    rounds: list[list[int]] = []
    for place, message in enumerate(messages):
        if message.role in ("system", "developer") or place == task:
            continue
        if message.role == "assistant" or not rounds or (message.role == "user" and place < task):
            rounds.append([])
        rounds[-1].append(place)
    return rounds
