"""Whether what was read is what was meant.

A verdict begins with `right`, `wrong` (silently, as nothing warned the caller) or `refused`; more may follow it.
"""

from __future__ import annotations

import math
from typing import Any

from corpus.cases import Case

RIGHT, WRONG, REFUSED = "right", "wrong", "refused"
SCALAR = "wrong, no object and no list"
FAILED = "refused, crashed or too slow"
PART = "right, a part that is marked"
WHOLE = "right, the whole, though marked"
MISREAD = "wrong, marked, and no part of it"
UNMARKED = "wrong, a part without a sign"
MARKED = (PART, WHOLE, MISREAD)
"""Where part of the value is gone, what is said to be incomplete."""


def verdict(case: Case, answer: dict[str, Any] | None) -> str:
    """Of what `support.readers` answered to a case; None if it crashed or took too long."""
    if answer is None or "failed" in answer:
        return FAILED
    if "refused" in answer:
        return REFUSED if case.found else RIGHT
    value, marked = answer["value"], answer["marked"]
    if case.found and same(value, case.truth, typed=case.typed):
        return WHOLE if case.lost and marked else RIGHT
    if not isinstance(value, dict | list):
        return SCALAR
    if case.lost and value and part(value, case.truth):
        return PART if marked else UNMARKED
    return MISREAD if case.lost and marked else WRONG


def same(value: Any, truth: Any, *, typed: bool) -> bool:  # noqa: ANN401 (any JSON)
    """Strictly: true is not 1. 1 is 1.0. A style that cannot tell types apart is compared as text."""
    if isinstance(truth, dict):
        fits = isinstance(value, dict) and value.keys() == truth.keys()
        return fits and all(same(value[name], each, typed=typed) for name, each in truth.items())
    if isinstance(truth, list):
        fits = isinstance(value, list) and len(value) == len(truth)
        return fits and all(same(one, other, typed=typed) for one, other in zip(value, truth, strict=True))
    return _same_scalar(value, truth) or (not typed and _as_text(value) == _as_text(truth))


def part(value: Any, truth: Any) -> bool:  # noqa: ANN401 (any JSON)
    """Whether all of it is in the truth: keys and last items may be missing, and a text's end. No half numbers."""
    if isinstance(truth, dict):
        known = isinstance(value, dict) and value.keys() <= truth.keys()
        return known and all(part(each, truth[name]) for name, each in value.items())
    if isinstance(truth, list):
        fits = isinstance(value, list) and len(value) <= len(truth)
        return fits and all(part(one, other) for one, other in zip(value, truth, strict=False))
    if isinstance(truth, str):
        return isinstance(value, str) and truth.startswith(value)
    return _same_scalar(value, truth)


def _same_scalar(value: Any, truth: Any) -> bool:  # noqa: ANN401 (any JSON)
    if _is_number(value) and _is_number(truth):
        return bool(value == truth) or (math.isnan(value) and math.isnan(truth))
    return type(value) is type(truth) and bool(value == truth)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_text(value: object) -> str:
    """`yes` is not `true`, but `True` is."""
    return repr(value) if isinstance(value, dict | list) else str(value).casefold()
