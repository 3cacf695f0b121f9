"""The corpus: texts, and what is to be read in them.

Made from seeds, so that it is the same everywhere. `TUNING` is for whoever builds a parser; `HELD_OUT` is what figures
are published for, and nobody looks at its cases before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from corpus import truths
from corpus.damage import CUT, KINDS, LOSSES
from corpus.styles import NOTHING, OTHERS, WRAPS
from corpus.tokens import Layout, text_of, tokens

TUNING = range(6000)
HELD_OUT = range(1_000_000, 1_008_000)

_LAYOUTS = (Layout(), Layout(comma=",", colon=":"), Layout(indent=2), Layout(indent=2), Layout(indent=4, ascii=True))

_UNTYPED = ("XML fields", "key: value")

_TRIALS = 60
"""Of values, until two kinds of damage are taken for such as never come together."""

# The parts of the corpus, in hundredths.
_CLEAN, _ONE, _TWO, _OTHER, _NONE = 6, 56, 22, 13, 3


@dataclass(frozen=True, slots=True)
class Case:
    """One answer of a model. `found`: whether there is a value in it. `typed`: whether the style tells types apart.

    `lost`: part of the value is gone from the text, so that nobody can know the whole.
    """

    seed: int
    text: str
    truth: Any
    style: str
    damages: tuple[str, ...] = ()
    found: bool = True
    typed: bool = True
    lost: bool = False


def cases(seeds: Sequence[int], calls: Sequence[list[dict[str, Any]]]) -> Iterator[Case]:
    """A case for each seed. `calls`: real ones, see `truths.real_calls`."""
    for seed in seeds:
        yield case(seed, calls)


def case(seed: int, calls: Sequence[list[dict[str, Any]]]) -> Case:
    """The case of this seed."""
    chance = Random(f"case {seed}")
    part = chance.randrange(100)
    if part < _CLEAN:
        return _damaged(seed, chance, calls, 0)
    if part < _CLEAN + _ONE:
        return _damaged(seed, chance, calls, 1)
    if part < _CLEAN + _ONE + _TWO:
        return _damaged(seed, chance, calls, 2)
    if part < _CLEAN + _ONE + _TWO + _OTHER:
        return _other(seed, chance, calls)
    return Case(seed, chance.choice(NOTHING), None, "nothing", found=False)


def _truth(chance: Random, calls: Sequence[list[dict[str, Any]]]) -> Any:
    how = chance.random()
    if how < 0.35:
        chosen = chance.choice(calls)
        return chosen[0] if len(chosen) == 1 else chosen
    return truths.own_call(chance) if how < 0.5 else truths.record(chance)


def _damaged(seed: int, chance: Random, calls: Sequence[list[dict[str, Any]]], count: int) -> Case:
    """A JSON document with so many kinds of damage: the first value that has something for each of them to damage."""
    while True:
        names = _in_order(chance.sample(sorted(KINDS), count))
        for _ in range(_TRIALS):
            truth = _truth(chance, calls)
            document = list(tokens(truth, chance.choice(_LAYOUTS)))
            if all([KINDS[name](document, chance) for name in names]):  # noqa: C419 (each of them is to be done)
                style = chance.choice(sorted(WRAPS))
                text = WRAPS[style](text_of(document), chance).partition(CUT)[0]
                return Case(seed, text, truth, style, tuple(names), lost=bool(LOSSES & set(names)))


def _in_order(names: Sequence[str]) -> list[str]:
    """Those last that leave no tokens for others."""
    last = ("HTML entities", "cut off", "all of it escaped")
    return sorted(names, key=lambda name: last.index(name) + 1 if name in last else 0)


def _other(seed: int, chance: Random, calls: Sequence[list[dict[str, Any]]]) -> Case:
    style = chance.choice(sorted(OTHERS))
    truth = _truth_for(style, chance, calls)
    return Case(seed, OTHERS[style](truth, chance), truth, style, typed=style not in _UNTYPED)


def _truth_for(style: str, chance: Random, calls: Sequence[list[dict[str, Any]]]) -> Any:
    if style in _UNTYPED:
        return truths.flat_record(chance)
    if style == "thought, action, input":
        return chance.choice((truths.own_call(chance), chance.choice(calls)[0]))
    if style == "call syntax":
        return chance.choice(([truths.own_call(chance)], chance.choice(calls)))
    if style == "one after another":
        return chance.choice([each for each in calls if len(each) > 1])
    if style == "YAML":
        return chance.choice((truths.own_call(chance), truths.record(chance)))
    return _truth(chance, calls)
