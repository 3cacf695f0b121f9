"""What is read in broken output of language models, right or silently wrong, and how fast; beside other readers.

Run `python bench/parsing.py` (several minutes), with `--short` for less than 25 s. See `bench/README.md`.

**Scores**: the corpus of `bench/corpus`, of which the truth is known. Figures are published for the held-out seeds;
whoever builds a reader uses `--tuning`. Values are compared strictly (true is not 1, but 1 is 1.0); in styles that
cannot tell types apart, scalars are compared as text. A verdict is one of three:

* right: the value that was meant. Where there is none in the text: a refusal. Where part of the value is gone from the
  text ("lost"): the whole all the same, or a part of it *with a sign that something is missing* (keys and last items
  may be missing, and a text's end; half a number is no part).
* refused: of a peer any exception, None, and whatever is empty (every value in the corpus is an object or a list that
  is not): generous, as whoever looks at it sees that it is no answer. Of tidegate only `success=False`. What crashes,
  or takes more than 5 s for a case, counts as refused, too.
* silently wrong: all else. A part with a sign, of a value that is all there, is wrong here; and so is, in the table of
  all cases, what has a sign and is no part. How much of it is "no object, no list" (prose handed back as a string, say)
  has a column: whoever checks the type notices that.

Repairers and partial readers get a second line "with a finder", as most of them cannot find JSON in prose: thoughts are
taken out, then the first fence is tried, what comes from the first `{` or `[{` on, and that up to the last closer. Only
tidegate has a sign for what is missing (`truncated`, `dropped`), so that lost cases have a table of their own and can
be left out. "Silently wrong" is there what has no sign, but for the whole value (where only closers were cut off).

**Speed**: microseconds of CPU a kilobyte and in brackets the ratio to json.loads of the same in JSON, in the same
process and moment; medians of rounds in which all take turns. What is refused (r) or wrong (w) costs what it costs.
Growth: how many times as much a kilobyte of the largest takes as one of the smallest.

**Worst**: seconds of CPU that tidegate takes for texts that might bring a reader down; medians of the rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from corpus.cases import HELD_OUT, TUNING, Case, cases
from corpus.truths import real_calls
from support import documents, reading, scoring, tables
from support.processes import package_versions
from support.readers import FINDER, TIDEGATE, TIDEGATE_ALL, WAYS

_CASE_LIMIT = 5.0
_TEXT_LIMIT = 10.0
"""Seconds, of a text that might bring a reader down; a second is promised."""
_VERSIONS = {
    "tidegate": ("jiter", "pydantic"),
    reading.PEERS: ("json-repair", "fast-json-repair", "partial-json-parser", "jiter", "langchain-core"),
}
_BEST = 3
_MARKS = {"right": "", "wrong": " w", "refused": " r", "failed": " failed"}


@dataclass(frozen=True)
class Size:
    """What is measured, and how much of it."""

    seeds: Sequence[int] = HELD_OUT
    ways: tuple[str, ...] = tuple(WAYS)
    rounds: int = 5
    seconds: float = 0.02
    limit: float = 30.0
    """Seconds of one reading, when speed is measured."""
    clean: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    broken: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    worst: int = 1_000_000


_SHORT = Size(HELD_OUT[:600], rounds=1, limit=2.0, clean=(1_000, 100_000), broken=(4_000,), worst=25_000)

Verdicts = dict[str, list[str]]
"""Of each way, one for each case."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, and write the report when a file is named."""
    options = _parser().parse_args(arguments)
    size = _size(options)
    found = tables.circumstances()
    report: dict[str, Any] = {"bench": "parsing", **found}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        clients = ["tidegate" if way.startswith("tidegate") else reading.PEERS for way in size.ways]
        report["versions"] = package_versions(set(clients), _VERSIONS, home)
        tables.print_circumstances(found, report["versions"])
        for name in options.parts:
            report[name] = _PARTS[name](size, home, options)
    tables.write_json(options.json, report)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", "--quick", action="store_true", help="less of everything: less than 25 s")
    parser.add_argument("--tuning", action="store_true", help="score the seeds that a reader may be tuned with")
    parser.add_argument("--by", choices=("kind", "style"), help="scores also by kind of damage, or by style")
    parser.add_argument("--only", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY", help="some ways alone")
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=list(_PARTS), metavar="NAME")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    return parser


def _size(options: argparse.Namespace) -> Size:
    size = _SHORT if options.short else Size()
    seeds = TUNING[: len(size.seeds)] if options.tuning else size.seeds
    return replace(size, seeds=seeds, ways=tuple(way for way in WAYS if way in options.only))


# Scores


def _scores(size: Size, home: Path, options: argparse.Namespace) -> dict[str, Any]:
    corpus = list(cases(size.seeds, real_calls(reading.calls_wheel())))
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        taken = pool.map(lambda way: _verdicts(way, corpus, home), size.ways)
        verdicts = dict(zip(size.ways, taken, strict=True))
    groups = {
        "the whole value is in the text, or none": [number for number, case in enumerate(corpus) if not case.lost],
        "part of the value is gone from the text": [number for number, case in enumerate(corpus) if case.lost],
        "all": list(range(len(corpus))),
    }
    seeds = "tuning" if options.tuning else "held-out"
    for title, numbers in groups.items():
        titled = f"{len(numbers):,} cases of {seeds} seeds: {title}; % (cases)"
        (_print_lost if "gone" in title else _print_scores)(titled, _chosen(verdicts, numbers))
    if options.by:
        _print_by(options.by, corpus, verdicts)
    return {title: {way: dict(Counter(each)) for way, each in _chosen(verdicts, numbers).items()}
            for title, numbers in (groups | _groups_by(options.by, corpus)).items()}  # fmt: skip


def _verdicts(way: str, corpus: Sequence[Case], home: Path) -> list[str]:
    with reading.reader(way, home) as reader:
        return [scoring.verdict(case, reader.ask({"do": "read", "text": case.text}, _CASE_LIMIT)) for case in corpus]


def _chosen(verdicts: Verdicts, numbers: Sequence[int]) -> Verdicts:
    return {way: [each[number] for number in numbers] for way, each in verdicts.items()}


def _share(verdicts: Sequence[str], *kinds: str) -> float:
    """Per cent that begin with one of these."""
    return 100 * _number(verdicts, *kinds) / max(1, len(verdicts))


def _number(verdicts: Sequence[str], *kinds: str) -> int:
    return sum(each.startswith(kinds) for each in verdicts)


def _both(verdicts: Sequence[str], *kinds: str) -> str:
    """Per cent, and how many."""
    return f"{_share(verdicts, *kinds):.2f} ({_number(verdicts, *kinds):,})"


def _print_scores(title: str, verdicts: Verdicts) -> None:
    heads = ("", "right", "silently wrong", "(no object, no list)", "refused", "(crashed, too slow)")
    kinds = (scoring.RIGHT, scoring.WRONG, scoring.SCALAR, scoring.REFUSED, scoring.FAILED)
    rows = [(way, *(_both(each, kind) for kind in kinds)) for way, each in verdicts.items()]
    tables.print_table(title, heads, rows)


def _print_lost(title: str, verdicts: Verdicts) -> None:
    """In brackets what is part of the column before."""
    heads = (
        "",
        "says that part is missing",
        "(and is no part of it)",
        "the whole, no sign",
        "silently wrong",
        "(a part of it)",
        "refused",
    )
    rows = []
    for way, each in verdicts.items():
        others = ["marked" if one in scoring.MARKED else one for one in each]
        rows.append((
            way, _both(each, *scoring.MARKED), _both(each, scoring.MISREAD), _both(others, scoring.RIGHT),
            _both(others, scoring.WRONG), _both(each, scoring.UNMARKED), _both(each, scoring.REFUSED),
        ))  # fmt: skip
    tables.print_table(title, heads, rows)


def _print_by(by: str, corpus: Sequence[Case], verdicts: Verdicts) -> None:
    """Of tidegate and of the peers that are right most often in all."""
    peers = [way for way in verdicts if way not in (TIDEGATE, TIDEGATE_ALL)]
    best = sorted(peers, key=lambda way: _share(verdicts[way], scoring.RIGHT), reverse=True)[:_BEST]
    ways = [way for way in (TIDEGATE, TIDEGATE_ALL, *best) if way in verdicts]
    heads = (by, "cases", *(f"{way}: right, wrong" for way in ways))
    rows = []
    for name, numbers in _groups_by(by, corpus).items():
        chosen = [[verdicts[way][number] for number in numbers] for way in ways]
        rows.append(
            (name, len(numbers), *(f"{_share(each, 'right'):.1f}, {_share(each, 'wrong'):.1f}" for each in chosen))
        )
    tables.print_table(f"By {by}, %: right and silently wrong", heads, rows)


def _groups_by(by: str | None, corpus: Sequence[Case]) -> dict[str, list[int]]:
    """A case with two kinds of damage counts for both."""
    found: dict[str, list[int]] = {}
    for number, case in enumerate(corpus) if by else ():
        for name in (case.style,) if by == "style" else case.damages or ("no damage",):
            found.setdefault(name, []).append(number)
    return dict(sorted(found.items()))


# Speed


def _speed(size: Size, home: Path, options: argparse.Namespace) -> dict[str, Any]:  # noqa: ARG001 (each part is asked alike)
    ways = [way for way in size.ways if FINDER not in way and "strict" not in way]
    report = {}
    with ExitStack() as stack:
        processes = {way: stack.enter_context(reading.reader(way, home)) for way in ways}
        for how in ("clean", *documents.BROKEN):
            lengths = size.clean if how == "clean" else size.broken
            report[how] = _in_turns(processes, how, lengths, size)
            _print_speed(how, lengths, report[how], size.limit)
    return report


def _in_turns(
    processes: Mapping[str, reading.Reader], how: str, lengths: Sequence[int], size: Size
) -> dict[str, list[dict[str, Any]]]:
    """Of each way one cell for each length. Whoever was too slow for one is not asked for longer ones."""
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in processes}
    for order, kilobytes in _orders(how, lengths, size.seconds):
        samples: dict[str, list[dict[str, Any] | None]] = {way: [] for way in processes}
        for number in range(size.rounds):
            for way, process in _rotated(processes, number):
                if _wants_more(found[way], samples[way]):
                    samples[way].append(process.ask(order, size.limit))
        for way, taken in samples.items():
            found[way].append(_cell(taken, kilobytes))
    return found


def _orders(how: str, lengths: Iterable[int], seconds: float) -> Iterator[tuple[dict[str, Any], float]]:
    """What a process is asked to do, and how many kilobytes it has to read."""
    for length in lengths:
        value = documents.records(length)
        plain = documents.clean(value)
        text = plain if how == "clean" else documents.broken(value, how)
        yield {"do": "time", "text": text, "plain": plain, "seconds": seconds}, len(text.encode()) / 1000


def _rotated(processes: Mapping[str, reading.Reader], number: int) -> list[tuple[str, reading.Reader]]:
    pairs = list(processes.items())
    turn = number % len(pairs)
    return pairs[turn:] + pairs[:turn]


def _wants_more(cells: Sequence[dict[str, Any]], samples: Sequence[dict[str, Any] | None]) -> bool:
    """Not if a shorter document was too slow, nor if this one was, nor if once is enough of it."""
    enough = any(one is None or "s" not in one or one["s"] > _CASE_LIMIT for one in samples)
    return not enough and not any(cell["us"] is None for cell in cells)


def _cell(samples: Sequence[dict[str, Any] | None], kilobytes: float) -> dict[str, Any]:
    taken = [one for one in samples if one is not None and "s" in one]
    if not taken:
        return {"us": None, "tried": bool(samples)}
    us, ratios = [1e6 * one["s"] / kilobytes for one in taken], [one["s"] / one["json_s"] for one in taken]
    return {
        "us": statistics.median(us), "ratio": statistics.median(ratios), "outcome": taken[0]["outcome"],
        "each_us": us, "each_ratio": ratios,
    }  # fmt: skip


def _print_speed(how: str, lengths: Sequence[int], cells: Mapping[str, Sequence[dict[str, Any]]], limit: float) -> None:
    heads = ["", *(f"{length // 1000:,} KB" for length in lengths), *(("growth",) if len(lengths) > 1 else ())]
    rows = []
    for way, row in cells.items():
        first, last = row[0]["us"], row[-1]["us"]
        growth = None if first is None or last is None else f"{last / first:.2f}"
        rows.append((way, *(_speed_text(cell, limit) for cell in row), *((growth,) if len(lengths) > 1 else ())))
    tables.print_table(f"us a KB (times json.loads), {how}", heads, rows)


def _speed_text(cell: Mapping[str, Any], limit: float) -> str | None:
    if cell["us"] is None:
        return f"> {limit:.0f} s" if cell["tried"] else None
    us, ratio = (f"{each:,.0f}" if each >= 100 else f"{each:.3g}" for each in (cell["us"], cell["ratio"]))
    return f"{us} ({ratio}){_MARKS[cell['outcome']]}"


# Worst


def _worst(size: Size, home: Path, options: argparse.Namespace) -> dict[str, Any]:  # noqa: ARG001 (each part is asked alike)
    ways = [way for way in size.ways if way in (TIDEGATE, TIDEGATE_ALL)]
    report: dict[str, dict[str, Any]] = {name: {} for name in documents.WORST}
    for way in ways:
        with reading.reader(way, home) as process:
            for name, make in documents.WORST.items():
                times = [process.ask({"do": "time", "text": make(size.worst)}, _TEXT_LIMIT) for _ in range(size.rounds)]
                report[name][way] = sorted(times, key=_seconds)[len(times) // 2]
    if ways:
        _print_worst(ways, report, size.worst)
    return report


def _print_worst(ways: Sequence[str], report: Mapping[str, Mapping[str, Any]], length: int) -> None:
    rows = [(name, *(_worst_text(taken[way]) for way in ways)) for name, taken in report.items()]
    slowest = [max(_seconds(taken[way]) for taken in report.values()) for way in ways]
    rows.append(("the worst", *(f"{each:.3f}" for each in slowest)))
    tables.print_table(
        f"Seconds of CPU for {length / 1000:,.0f} KB of a text that might bring a reader down", ("", *ways), rows
    )


def _seconds(taken: Mapping[str, Any] | None) -> float:
    return _TEXT_LIMIT if taken is None else float(taken["s"])


def _worst_text(taken: Mapping[str, Any] | None) -> str:
    if taken is None:
        return f"> {_TEXT_LIMIT:.0f}, or crashed"
    outcome = {"value": "read", "failed": "FAILED"}.get(taken["outcome"], taken["outcome"])
    return f"{taken['s']:.3f} {outcome}"


_PARTS: dict[str, Callable[[Size, Path, argparse.Namespace], dict[str, Any]]] = {
    "scores": _scores,
    "speed": _speed,
    "worst": _worst,
}

if __name__ == "__main__":
    main()
