"""The part of a model's text that is the answer: no thoughts before it, no end token after it."""

from __future__ import annotations

import re
from typing import NamedTuple

_THOUGHTS = re.compile(
    r"\s*+<(think|thinking|thought|thoughts|reasoning|reflection|scratchpad|analysis)>", re.IGNORECASE
)
_ENDS = re.compile(
    r"<\|(?:im_end|eot_id|eom_id|end|endoftext|end_of_text|eot|return|call|endofturn)\|>|<end_of_turn>|</s>|<｜end▁of▁sentence｜>"
)
"""What ends an answer, by model: ChatML, Llama 3, Phi, GPT-2, Harmony, Gemma, Llama 2 and Mistral, DeepSeek."""

_MOST = 5
"""End tokens, one after another, that are left out."""


class Answer(NamedTuple):
    """`text[start:stop]` is the answer. `ended`: whether the model said that this is the end of it."""

    text: str
    start: int
    stop: int
    ended: bool

    @property
    def body(self) -> str:
        """The answer's text."""
        return self.text[self.start : self.stop]


def answer_in(text: str) -> Answer:
    """Where the answer is. Thoughts that are not closed are all of it: then it is empty, at the end of the text."""
    start = _after_thoughts(text)
    stop, ended = _before_the_end(text, start)
    return Answer(text, start, stop, ended)


def _after_thoughts(text: str) -> int:
    opened = _THOUGHTS.match(text)
    if opened is None:  # templates may have put the opening tag into the prompt
        closed = text.find("</think>")
        quoted = closed > 0 and text[closed - 1] in "\"'`"
        if closed < 0 or quoted or text.lstrip()[:1] in tuple("{["):  # it is a part of the answer itself
            return 0
        return closed + len("</think>")
    tag = opened[1].casefold()
    if tag in ("thought", "thoughts", "reflection", "analysis", "reasoning") and f"</{tag}>" not in text.casefold():
        return 0
    closed = text.casefold().find(f"</{tag}>", opened.end())
    if closed < 0:
        return len(text)
    after = closed + len(tag) + 3
    # `<thought>…</thought><action>…` is data itself: another element follows, and belongs to it.
    if tag in ("thought", "thoughts", "reasoning") and re.match(
        r"\s*<(?!tool_call|answer|output|json|result)\w", text[after : after + 200]
    ):
        return 0
    return after


def _before_the_end(text: str, start: int) -> tuple[int, bool]:
    """The end tokens that the text ends with, and white space before them, are left out."""
    stop = len(text)
    ended = False
    for _ in range(_MOST):
        tail = text[max(start, stop - 40) : stop]
        stripped = tail.rstrip()
        found = next((each for each in _ENDS.finditer(stripped) if each.end() == len(stripped)), None)
        if found is None:
            break
        stop -= len(tail) - found.start()
        ended = True
    return stop, ended
