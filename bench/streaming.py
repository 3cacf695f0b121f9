"""What callbacks cost a stream: time for each of 1,000 chunks, with none, with two, and with two that are slow.

Run `python bench/streaming.py` (a few seconds). See `bench/README.md`.

The chunks come from memory. "Reading" is the time until the last chunk was read: what holds a socket up; "all" is the
time until the callbacks have seen everything. The two callbacks are `on_chunk` and `on_word`; the slow ones take 1 ms
for every chunk.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

from support import tables
from tidegate.chat.reply import Chunk
from tidegate.streaming import StreamProcessor

CHUNKS = 1_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, and write the report when a file is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="three rounds")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    options = parser.parse_args(arguments)
    rounds = 3 if options.short else 15
    found = tables.circumstances()
    ways: dict[str, Callable[[], tuple[float, float]]] = {
        "a plain loop": _plain,
        "two callbacks": lambda: _with(StreamProcessor(on_chunk=_nothing, on_word=_nothing)),
        "two slow callbacks": lambda: _with(StreamProcessor(on_chunk=_slow, on_word=_nothing)),
    }
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            measured[name].append(way())
    rows = [
        (name, *(statistics.median(each[place] for each in samples) for place in (0, 1)))
        for name, samples in measured.items()
    ]
    tables.print_circumstances(found, {})
    tables.print_table(f"us a chunk, of {CHUNKS:,}", ("", "reading", "all"), rows)
    tables.write_json(options.json, {"bench": "streaming", **found, "samples": measured})


def _chunks(read: list[float]) -> Iterator[Chunk]:
    for number in range(CHUNKS):
        yield Chunk("tide comes " if number % 2 else "in and out ", number, 0.0)
    read.append(time.perf_counter())


def _plain() -> tuple[float, float]:
    read: list[float] = []
    began = time.perf_counter()
    for _ in _chunks(read):
        pass
    return _figures(began, read)


def _with(processor: StreamProcessor) -> tuple[float, float]:
    read: list[float] = []
    began = time.perf_counter()
    done = processor.run(_chunks(read))
    if done.chunks != CHUNKS or not done.drained:
        raise SystemExit("the callbacks have not seen it all")
    return _figures(began, read)


def _figures(began: float, read: list[float]) -> tuple[float, float]:
    return (read[0] - began) / CHUNKS * 1e6, (time.perf_counter() - began) / CHUNKS * 1e6


def _nothing(_: object) -> None:
    """As cheap as a callback can be."""


def _slow(_: object) -> None:
    time.sleep(0.001)


if __name__ == "__main__":
    main()
