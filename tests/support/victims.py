"""Processes that write a ledger until they are killed, and what must be true of the ledger afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, cast

from sqlalchemy import RowMapping, select

from tidegate.accounting import journal
from tidegate.accounting.database import Database
from tidegate.accounting.entries import Entry
from tidegate.accounting.ledger import Durability, Ledger
from tidegate.accounting.schema import ATTEMPTS, LABELLED, TOTALS
from tidegate.accounting.sums import FIGURES, QUARTER

THREADS = 3
LONGEST_LIFE = 0.12
"""Seconds: on an idle machine opening the ledger takes a fifth of it, so that is interrupted as well."""


@contextlib.contextmanager
def executioner() -> Iterator[subprocess.Popen[str]]:
    """A process that forks victims and kills them; see `kill`. Imports are made once, in it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-c", "from support.victims import main; main()"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def kill(
    process: subprocess.Popen[str],
    url: str,
    acknowledged: Path,
    *,
    seed: int,
    rounds: int,
    durability: str = "call",
    life: float = LONGEST_LIFE,
) -> None:
    """Have so many victims write the ledger, one after the other, each of them killed at some moment."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{url} {acknowledged} {seed} {rounds} {durability} {life}\n")
    process.stdin.flush()
    assert process.stdout.readline() == "done\n"


def main() -> None:
    """The executioner: an order a line."""
    journal.SEGMENT = 20_000  # so that files are full now and then
    for line in sys.stdin:
        url, acknowledged, seed, rounds, durability, life = line.split()
        for number in range(int(rounds)):
            chance = random.Random(f"{seed}-{number}")  # noqa: S311 (any moment does)
            victim = os.fork()
            if not victim:
                _write(url, acknowledged, f"{seed}-{number}", cast(Literal["call", "disk"], durability))
            time.sleep(chance.random() * float(life))
            os.kill(victim, signal.SIGKILL)
            assert os.waitpid(victim, 0)[1] == signal.SIGKILL, "it ended by itself"
        print("done", flush=True)  # noqa: T201 (its output is what the test reads)


def _write(url: str, acknowledged: str, name: str, durability: Durability) -> None:
    """A victim: record and acknowledge for ever."""
    try:
        acks = os.open(acknowledged, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        ledger = Ledger(url, tz="UTC", durability=durability)
        threads = [threading.Thread(target=_post, args=(ledger, acks, f"{name}-{each}")) for each in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        os._exit(1)


def _post(ledger: Ledger, acks: int, name: str) -> None:
    chance = random.Random(name)  # noqa: S311 (any amounts do)
    for number in range(10**9):
        ledger.post(an_entry(f"{name}-{number}", chance))
        os.write(acks, f"{name}-{number}\n".encode())
        time.sleep(chance.random() * 0.001)


def an_entry(name: str, chance: random.Random) -> Entry:
    """Some entry of one of a few labels, some of them without a known price."""
    return Entry(
        call_id=name,
        at=1_700_000_000_000_000 + chance.randrange(3 * QUARTER),
        provider=chance.choice(["p", "q"]),
        model=chance.choice(["m", "n"]),
        task=chance.choice([None, "t"]),
        tags=chance.choice([{}, {"k": "v"}]),
        input_tokens=chance.randrange(1000),
        output_tokens=chance.randrange(1000),
        cost_nano=chance.choice([None, chance.randrange(10**9)]),
        outcome=chance.choice(["ok", "StreamInterrupted"]),
        estimated=chance.random() < 0.1,
    )


def check(url: str, acknowledged: Path, *, rounds: int) -> int:
    """Every acknowledged entry is there once, nothing else is, and the sums are those of the rows. Answers how many."""
    with Ledger(url, tz="UTC") as ledger:
        ledger.flush()
        found = Counter(calls(url))
    acks = acknowledged.read_text(encoding="ascii").split() if acknowledged.exists() else []
    assert len(acks) == len(set(acks))
    assert set(acks) - found.keys() == set(), "acknowledged and lost"
    assert [name for name, times in found.items() if times > 1] == [], "twice"
    assert len(found.keys() - set(acks)) <= rounds * THREADS, "only those that were on their way at the end"
    check_sums(url)
    if url.startswith("sqlite"):
        file = Path(url.removeprefix("sqlite:///"))
        with contextlib.closing(sqlite3.connect(file)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert list(file.with_name(f"{file.name}.pending").iterdir()) == [], "every journal was taken in"
    return len(acks)


def calls(url: str) -> list[str]:
    """The calls of all rows."""
    with contextlib.closing(Database(url)) as database, database.reading() as connection:
        return list(connection.scalars(select(ATTEMPTS.c.call_id)))


def check_sums(url: str) -> None:
    """The sums are what the rows add up to, whoever wrote them."""
    with contextlib.closing(Database(url)) as database, database.reading() as connection:
        rows = connection.execute(select(ATTEMPTS)).mappings().all()
        totals = connection.execute(select(TOTALS)).mappings().all()
        labelled = connection.execute(select(LABELLED)).mappings().all()
    _check(totals, ("provider", "model"), rows, lambda row: [(row["provider"], row["model"])])
    _check(labelled, ("label", "value"), rows, _labels)


def _labels(row: RowMapping) -> list[tuple[str, str]]:
    tags = json.loads(row["tags"] or "{}")
    return [("task", row["task"])] * (row["task"] is not None) + [(f"tag:{name}", tags[name]) for name in tags]


def _check(
    sums: Sequence[RowMapping],
    columns: tuple[str, str],
    rows: Sequence[RowMapping],
    labels: Callable[[RowMapping], list[tuple[str, str]]],
) -> None:
    expected: dict[tuple[object, ...], Counter[str]] = {}
    for row in rows:
        counts = {"count": 1, "failed": row["outcome"] != "ok", "unpriced": row["cost_nano"] is None}
        figures = {name: int(counts[name] if name in counts else row[name] or 0) for name in FIGURES}
        for label in labels(row):
            expected.setdefault((row["at"] // QUARTER * QUARTER, *label), Counter()).update(figures)
    kept = {(row["quarter"], row[columns[0]], row[columns[1]]): {name: row[name] for name in FIGURES} for row in sums}
    assert len(kept) == len(sums)
    assert kept == {label: {name: figures[name] for name in FIGURES} for label, figures in expected.items()}
