"""A part of the corpus of broken answers, whose whole figures `bench/parsing.py` prints."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tidegate.parsing import parse

BENCH = Path(__file__).parents[2] / "bench"
SEEDS = range(1_500)


@pytest.fixture
def cases(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Of seeds that the parser was tuned with, and of made-up calls only: real ones have to be downloaded."""
    monkeypatch.syspath_prepend(str(BENCH))
    from corpus import cases, truths  # noqa: PLC0415 (the benchmarks' own)

    chance = Random(1)  # noqa: S311 (the same calls each time)
    calls = [[truths.own_call(chance) for _ in range(chance.choice((1, 1, 2, 3)))] for _ in range(200)]
    return [case for case in cases.cases(SEEDS, calls) if case.typed]


def same(value: Any, truth: Any) -> bool:
    """As JSON: `true` is not 1, and 1.0 is 1."""
    if isinstance(value, dict) and isinstance(truth, dict):
        return value.keys() == truth.keys() and all(same(value[name], truth[name]) for name in value)
    if isinstance(value, list) and isinstance(truth, list):
        return len(value) == len(truth) and all(map(same, value, truth))
    if isinstance(value, bool) or isinstance(truth, bool):
        return value is truth
    return bool(value == truth)


def test_J2_of_broken_answers_nine_in_ten_are_read_and_one_in_fifty_is_wrong_at_most(cases: list[Any]) -> None:
    """The benchmark has the figures; this holds the line."""
    right = wrong = 0
    for case in cases:
        result = parse(case.text)
        if not case.found or case.lost:
            wrong += result.success and not (case.lost and same(result.data, case.truth))
        elif result.success:
            right += same(result.data, case.truth)
            wrong += not same(result.data, case.truth)
    whole = sum(case.found and not case.lost for case in cases)
    assert right > 0.9 * whole
    assert wrong < 0.02 * len(cases)


def test_J2_what_is_whole_and_unbroken_is_always_read(cases: list[Any]) -> None:
    """In each style."""
    for case in cases:
        alone = case.style == "tool call tags" and isinstance(case.truth, list) and len(case.truth) == 1
        if case.found and not case.damages and not alone:  # one call in tags is that call, not a list of it
            result = parse(case.text)
            assert result.success, (case.style, case.text, result.error)
            assert same(result.data, case.truth), (case.style, json.dumps(case.truth), result)
