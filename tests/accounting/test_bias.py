"""What is learned of an estimate: it gets there, mistakes do not carry it away, and it takes no more memory."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.accounting.bias import CLASSES, EACH, FURTHEST, STEEPEST, Lesson, Line

PRIOR = Line(1.15, 10, 0.6)


def _lesson() -> Lesson:
    return Lesson(PRIOR, least_excess=0.15)


def _taught(slope: float, intercept: float, *, pairs: int = 64, noise: float = 0.05, mistakes: float = 0.0) -> Lesson:
    chance = random.Random(4)  # noqa: S311 (the same figures each time)
    lesson = _lesson()
    for _ in range(pairs):
        counted = round(10 ** chance.uniform(1, 4))
        actual = round((slope * counted + intercept) * chance.gauss(1, noise))
        if chance.random() < mistakes:
            actual = chance.choice([1, 10**9])
        lesson.learn(counted, max(1, actual))
    return lesson


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0), (1.6, 22), (0.6, 350), (2.5, 5)])
def test_it_converges_to_what_is_billed(slope: float, intercept: int) -> None:
    """Within 6 % and five tokens, for short and for long questions."""
    line = _taught(slope, intercept).line
    for counted in (20, 200, 2_000, 20_000):
        expected = slope * counted + intercept
        assert line.likely(counted) == pytest.approx(expected, rel=0.06, abs=5)


def test_a_few_pairs_help_already() -> None:
    before, after = PRIOR.likely(1_000), _taught(1.8, 20, pairs=4).line.likely(1_000)
    assert abs(after - 1_820) < 0.5 * abs(before - 1_820)


def test_mistakes_do_not_carry_it_away() -> None:
    """One figure in seven is nonsense: 1, or a billion."""
    line = _taught(1.6, 22, mistakes=0.15).line
    assert line.likely(1_000) == pytest.approx(1_622, rel=0.1)


def test_short_questions_do_not_make_it_forget_long_ones() -> None:
    lesson = _taught(1.7, 0, noise=0.0)
    for _ in range(500):
        lesson.learn(20, 34)
    assert lesson.line.likely(8_000) == pytest.approx(1.7 * 8_000, rel=0.05)


def test_the_highest_has_room_for_what_was_seen() -> None:
    """Of new pairs of the same kind, fewer than 3 in 100 are above it, and it is not far above."""
    lesson, chance = _taught(1.5, 20, noise=0.15), random.Random(9)  # noqa: S311 (see above)
    over = 0
    for _ in range(1_000):
        counted = round(10 ** chance.uniform(1, 4))
        over += round((1.5 * counted + 20) * chance.gauss(1, 0.15)) > lesson.line.highest(counted)
    assert over < 30
    assert lesson.line.highest(1_000) < 1.5 * lesson.line.likely(1_000)


@given(st.lists(st.tuples(st.integers(-5, 10**12), st.integers(-5, 10**15)), max_size=120))
def test_it_stays_within_bounds_whatever_it_is_told(pairs: list[tuple[int, int]]) -> None:
    """The line, and what is kept."""
    lesson = _lesson()
    for counted, actual in pairs:
        lesson.learn(counted, actual)
    slope, intercept, excess = lesson.line
    assert PRIOR.slope / STEEPEST <= slope <= PRIOR.slope * STEEPEST
    assert -FURTHEST <= intercept <= FURTHEST
    assert 0.15 <= excess <= 3
    assert 1 <= lesson.line.likely(100) <= lesson.line.highest(100)
    assert sum(map(len, lesson._pairs)) <= CLASSES * EACH


def test_what_was_said_leads_back_to_what_was_counted() -> None:
    line = Line(1.3, 40, 0.2)
    assert [line.counted(line.likely(number)) for number in (1, 10, 999)] == [1, 10, 999]


def test_a_figure_above_the_highest_is_learned_from_at_once() -> None:
    """Eight ordinary answers, then dearer ones: the second of those already lies below the highest."""
    lesson = _lesson()
    for _ in range(8):
        lesson.learn(280, 300)
    assert lesson.line.highest(280) < 800
    lesson.learn(280, 816)
    assert lesson.line.highest(280) >= 816
