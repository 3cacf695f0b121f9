"""Records that are durable when the call returns, as many as go: in tidegate's ledger, and in what people write.

Run as `python -m support.recording rate WAY FOLDER THREADS SECONDS [URL]`, where URL is a PostgreSQL database's, or as
`python -m support.recording growth WAY FOLDER LENGTH…`; prints a line of JSON. Every way keeps the same facts of a
call: when, which model, task and tag, tokens, cost. `rate` begins with nothing; `growth` tells what one more record
takes once there are so many.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import sqlite3
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from support.databases import file_url, plain_url

MODEL, TASK, TAGS = "gpt-4o-mini", "summaries", {"tenant": "acme"}
TOKENS = (1_200, 300)
COST = "0.00036"
_GROWTH_SAMPLES = 15

_TABLE = (
    "CREATE TABLE usage (id {key} PRIMARY KEY, at {whole} NOT NULL, provider TEXT, model TEXT, task TEXT, tags TEXT,"
    " input_tokens {whole}, output_tokens {whole}, cost_nano {whole})"
)
_INDEX = "CREATE INDEX usage_at ON usage (at)"
_COLUMNS = "(at, provider, model, task, tags, input_tokens, output_tokens, cost_nano)"


class Recorder(NamedTuple):
    """Something that records."""

    record: Callable[[], object]
    """Returns when the record is durable, in the sense of the way."""
    finish: Callable[[], object]
    """Returns when all is where it is read from."""


def _row() -> tuple[object, ...]:
    return time.time_ns() // 1_000, "openai", MODEL, TASK, json.dumps(TAGS), *TOKENS, 360_000


def _tidegate(folder: Path, url: str, durability: str) -> Recorder:
    package: Any = importlib.import_module("tidegate")
    ledger = package.Ledger(url or file_url(folder / "usage.db"), durability=durability)
    name = f"openai/{MODEL}"
    return Recorder(lambda: ledger.record(name, *TOKENS, COST, TASK, TAGS), ledger.close)


def tidegate_call(folder: Path, url: str) -> Recorder:
    """Survives the process."""
    return _tidegate(folder, url, "call")


def tidegate_disk(folder: Path, url: str) -> Recorder:
    """Survives a loss of power."""
    return _tidegate(folder, url, "disk")


def _sqlite(folder: Path, synchronous: str) -> Recorder:
    """One connection that threads take turns with: faster than one each, which wait for each other by trial."""
    connection = sqlite3.connect(folder / "rows.db", isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute(_TABLE.format(key="INTEGER", whole="INTEGER"))
    connection.execute(_INDEX)
    statement = f"INSERT INTO usage {_COLUMNS} VALUES (?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 (our own names)
    lock = threading.Lock()

    def record() -> None:
        with lock:
            connection.execute(statement, _row())

    return Recorder(record, connection.close)


def sqlite_normal(folder: Path, url: str) -> Recorder:  # noqa: ARG001 (each way is made alike)
    """A row a transaction; survives the process."""
    return _sqlite(folder, "NORMAL")


def sqlite_full(folder: Path, url: str) -> Recorder:  # noqa: ARG001 (each way is made alike)
    """A row a transaction; survives a loss of power."""
    return _sqlite(folder, "FULL")


def _psycopg(url: str, synchronous: str) -> Recorder:
    """A connection for each thread: the server commits what comes together as one."""
    package: Any = importlib.import_module("psycopg")
    own = threading.local()
    statement = f"INSERT INTO usage {_COLUMNS} VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"  # noqa: S608 (our own names)
    with package.connect(plain_url(url), autocommit=True) as connection:
        connection.execute(_TABLE.format(key="BIGINT GENERATED ALWAYS AS IDENTITY", whole="BIGINT"))
        connection.execute(_INDEX)

    def record() -> None:
        if not hasattr(own, "connection"):
            own.connection = package.connect(plain_url(url), autocommit=True)
            own.connection.execute(f"SET synchronous_commit = {synchronous}")
        own.connection.execute(statement, _row())

    return Recorder(record, lambda: None)


def psycopg_on(folder: Path, url: str) -> Recorder:  # noqa: ARG001 (each way is made alike)
    """A row a transaction; survives a loss of power."""
    return _psycopg(url, "on")


def psycopg_off(folder: Path, url: str) -> Recorder:  # noqa: ARG001 (each way is made alike)
    """A row a transaction; survives the process."""
    return _psycopg(url, "off")


def json_file(folder: Path, url: str, length: int = 0) -> Recorder:  # noqa: ARG001 (each way is made alike)
    """A list that is written anew with each record and put in the old one's place; survives the process."""
    file, lock = folder / "usage.json", threading.Lock()
    kept: list[dict[str, object]] = [_facts() for _ in range(length)]

    def record() -> None:
        with lock:
            kept.append(_facts())
            fresh = file.with_suffix(".new")
            with fresh.open("w", encoding="utf-8") as stream:
                json.dump(kept, stream)
            fresh.replace(file)

    return Recorder(record, lambda: None)


def json_lines(folder: Path, url: str) -> Recorder:  # noqa: ARG001 (each way is made alike)
    """A line appended with each record, and flushed; survives the process. Sums have to read all of it."""
    stream, lock = (folder / "usage.jsonl").open("a", encoding="utf-8"), threading.Lock()

    def record() -> None:
        line = json.dumps(_facts()) + "\n"
        with lock:
            stream.write(line)
            stream.flush()

    return Recorder(record, stream.close)


def _facts() -> dict[str, object]:
    now = time.time()
    return {"at": now, "provider": "openai", "model": MODEL, "task": TASK, "tags": TAGS,
            "input_tokens": TOKENS[0], "output_tokens": TOKENS[1], "cost": float(COST)}  # fmt: skip


Make = Callable[[Path, str], Recorder]

WAYS: dict[str, tuple[Make, str, bool]] = {
    "tidegate, SQLite": (tidegate_call, "process", False),
    "tidegate, PostgreSQL": (tidegate_call, "process", True),
    "sqlite3, a commit a row, NORMAL": (sqlite_normal, "process", False),
    "psycopg, a commit a row, not synchronous": (psycopg_off, "process", True),
    "a JSON line, appended": (json_lines, "process", False),
    "a JSON file, rewritten": (json_file, "process", False),
    "tidegate, SQLite, disk": (tidegate_disk, "power", False),
    "tidegate, PostgreSQL, disk": (tidegate_disk, "power", True),
    "sqlite3, a commit a row, FULL": (sqlite_full, "power", False),
    "psycopg, a commit a row": (psycopg_on, "power", True),
}
"""By name: how it is made, the end of what its records survive, and whether it needs PostgreSQL."""


def rate(way: str, folder: Path, threads: int, seconds: float, url: str) -> dict[str, float]:
    """Records a second at return, the same until all were where they are read from, and the CPU of one, in µs."""
    recorder = WAYS[way][0](folder, url)
    recorder.record()
    counts: list[int] = []
    cpu, began = time.process_time(), time.monotonic()
    workers = [
        threading.Thread(target=lambda: counts.append(_until(began + seconds, recorder.record))) for _ in range(threads)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    returned = time.monotonic() - began
    recorder.finish()
    whole, cpu = time.monotonic() - began, time.process_time() - cpu
    if len(counts) != threads:
        raise RuntimeError("a thread failed")
    records = sum(counts)
    return {"per_s": records / returned, "kept_per_s": records / whole, "cpu_us": 1e6 * cpu / records}


def _until(stop: float, work: Callable[[], object]) -> int:
    for done in itertools.count(1):
        work()
        if time.monotonic() >= stop:
            return done
    raise AssertionError("it counts for ever")


def growth(way: str, folder: Path, lengths: list[int]) -> list[dict[str, float]]:
    """What one more record takes when there are so many, in microseconds, and the bytes that are on the disk then."""
    found = []
    for length in lengths:
        place = folder / str(length)
        place.mkdir()
        recorder = json_file(place, "", length) if way.startswith("a JSON file") else _filled(way, place, length)
        recorder.record()
        taken = [_timed(recorder.record) for _ in range(_GROWTH_SAMPLES)]
        recorder.finish()
        size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
        found.append({"length": length, "us": 1e6 * statistics.median(taken), "bytes": size})
    return found


def _filled(way: str, place: Path, length: int) -> Recorder:
    recorder = WAYS[way][0](place, "")
    for _ in range(length):
        recorder.record()
    if way.startswith("tidegate"):
        recorder.finish()
        recorder = _again(way, place)
    return recorder


def _again(way: str, place: Path) -> Recorder:
    """The same ledger, opened anew."""
    return WAYS[way][0](place, "")


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main(arguments: list[str]) -> None:
    """Measure one way."""
    what, way, folder, *rest = arguments
    Path(folder).mkdir(exist_ok=True)
    if what == "growth":
        found: object = growth(way, Path(folder), [int(each) for each in rest])
    else:
        url = rest[2] if len(rest) > 2 else ""
        found = rate(way, Path(folder), int(rest[0]), float(rest[1]), url)
    print(json.dumps(found), flush=True)
    os._exit(0)  # connections of threads that are gone


if __name__ == "__main__":
    main(sys.argv[1:])
