"""A client whose calls are written down, in a process of its own that measures itself when it is told to.

Run as `python -m support.paying WAY FOLDER [URL]`, where URL is a PostgreSQL database's; orders and answers are those
of `support.worker`. Or as `python -m support.paying WAY FOLDER --until-killed BASE_URL`: twenty threads ask, and print
the number of each call as soon as they have its answer.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from support import answers
from support.databases import file_url
from support.worker import measure

THREADS = 20
_WARM_UP = 0.3

Ask = Callable[[str], str]
"""Asks; the label says which call it is."""
Make = Callable[[Path, str, str], Ask]
"""From a folder for files, a database's URL and the provider's base URL."""


def _tidegate(base_url: str, ledger: str | None, *, budgets: int = 0, durability: str = "call") -> Ask:
    package: Any = importlib.import_module("tidegate")
    all_of_them = [{"per": "day"}, {"per": "task"}, {"per": "tag:tenant"}]
    options = {"budgets": [package.Budget(usd="100000", **each) for each in all_of_them[:budgets]]} if budgets else {}
    client = package.Client(
        f"openai/{answers.MODEL}", base_url=base_url, api_key=answers.API_KEY, workers=THREADS, ledger=ledger,
        durability=durability, **options,
    )  # fmt: skip
    labels = {"tags": {"tenant": "acme"}, "max_tokens": answers.MAX_TOKENS}
    return lambda label: cast("str", client.complete(answers.PROMPT, task=label, **labels).text)


def no_ledger(folder: Path, url: str, base_url: str) -> Ask:  # noqa: ARG001 (each way is made alike)
    """Nothing is written."""
    return _tidegate(base_url, None)


def in_file(folder: Path, url: str, base_url: str) -> Ask:  # noqa: ARG001 (each way is made alike)
    """Survives the process."""
    return _tidegate(base_url, file_url(folder / "usage.db"))


def in_file_disk(folder: Path, url: str, base_url: str) -> Ask:  # noqa: ARG001 (each way is made alike)
    """Survives a loss of power."""
    return _tidegate(base_url, file_url(folder / "usage.db"), durability="disk")


def in_postgres(folder: Path, url: str, base_url: str) -> Ask:  # noqa: ARG001 (each way is made alike)
    """Survives the process."""
    return _tidegate(base_url, url)


def one_budget(folder: Path, url: str, base_url: str) -> Ask:
    """A budget for each day."""
    return _tidegate(base_url, url or file_url(folder / "usage.db"), budgets=1)


def three_budgets(folder: Path, url: str, base_url: str) -> Ask:
    """One a day, one a task and one a tenant."""
    return _tidegate(base_url, url or file_url(folder / "usage.db"), budgets=3)


def _litellm(base_url: str, handler: Callable[[Any], object] | None) -> Ask:
    package: Any = importlib.import_module("litellm")
    if handler is not None:
        package.callbacks = [handler(importlib.import_module("litellm.integrations.custom_logger").CustomLogger)]
    shared = {"model": f"openai/{answers.MODEL}", "api_base": base_url, "api_key": answers.API_KEY, "timeout": 60}
    messages = [{"role": "user", "content": answers.PROMPT}]

    def ask(label: str) -> str:
        reply = package.completion(
            **shared, messages=messages, max_tokens=answers.MAX_TOKENS, metadata={"task": label, "tenant": "acme"}
        )
        return cast("str", reply.choices[0].message.content)

    return ask


def litellm_alone(folder: Path, url: str, base_url: str) -> Ask:  # noqa: ARG001 (each way is made alike)
    """Nothing is written."""
    return _litellm(base_url, None)


def litellm_lines(folder: Path, url: str, base_url: str) -> Ask:  # noqa: ARG001 (each way is made alike)
    """A `CustomLogger` that appends a line of JSON."""
    stream, lock = (folder / "usage.jsonl").open("a", encoding="utf-8"), threading.Lock()

    def keep(facts: dict[str, Any]) -> None:
        line = json.dumps(facts) + "\n"
        with lock:
            stream.write(line)
            stream.flush()

    return _litellm(base_url, lambda base: _handler(base, keep))


def litellm_rows(folder: Path, url: str, base_url: str) -> Ask:  # noqa: ARG001 (each way is made alike)
    """A `CustomLogger` that commits a row."""
    connection = sqlite3.connect(folder / "rows.db", isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE usage (at REAL, model TEXT, task TEXT, tenant TEXT, input, output, cost REAL)")
    connection.execute("CREATE INDEX usage_at ON usage (at)")
    lock = threading.Lock()

    def keep(facts: dict[str, Any]) -> None:
        with lock:
            connection.execute("INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?)", tuple(facts.values()))

    return _litellm(base_url, lambda base: _handler(base, keep))


def _handler(base: Any, keep: Callable[[dict[str, Any]], None]) -> Any:  # noqa: ANN401 (of an untyped import)
    """A logger as litellm's documentation has it: the figures are in its arguments."""

    class Logger(base):  # type: ignore[misc]
        def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:  # noqa: ANN401, ARG002 (as its caller has it)
            labels = kwargs["litellm_params"]["metadata"]
            keep(
                {
                    "at": start_time.timestamp(),
                    "model": kwargs["model"],
                    "task": labels["task"],
                    "tenant": labels["tenant"],
                    "input": response_obj.usage.prompt_tokens,
                    "output": response_obj.usage.completion_tokens,
                    "cost": kwargs["response_cost"],
                }
            )

    return Logger()


WAYS: dict[str, Make] = {
    "tidegate": no_ledger,
    "tidegate, control": no_ledger,
    "tidegate, SQLite": in_file,
    "tidegate, SQLite, disk": in_file_disk,
    "tidegate, PostgreSQL": in_postgres,
    "tidegate, SQLite, 1 budget": one_budget,
    "tidegate, SQLite, 3 budgets": three_budgets,
    "tidegate, PostgreSQL, 1 budget": one_budget,
    "litellm": litellm_alone,
    "litellm, a JSON line": litellm_lines,
    "litellm, a commit a row": litellm_rows,
}
"""By name, which begins with the client's."""


def kept(way: str, folder: Path) -> set[str]:
    """The labels of the calls that can be read now; asked in tidegate's environment."""
    if way.startswith("tidegate"):
        package: Any = importlib.import_module("tidegate")
        with package.Ledger(file_url(folder / "usage.db")) as ledger:
            return {row.task for row in ledger.records()}
    if way.endswith("line"):
        lines = (folder / "usage.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        return {json.loads(line)["task"] for line in lines if line.endswith("\n")}
    with sqlite3.connect(folder / "rows.db") as connection:
        return {task for (task,) in connection.execute("SELECT task FROM usage")}


def _until_killed(ask: Ask) -> None:
    numbers, lock = itertools.count(), threading.Lock()

    def go_on() -> None:
        for number in numbers:
            ask(str(number))
            with lock:
                os.write(1, f"{number}\n".encode())

    threads = [threading.Thread(target=go_on) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:  # litellm takes nothing on once the main thread has ended
        thread.join()


def _obey(make: Callable[[str], Ask]) -> None:
    orders, replies = sys.stdin, os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    work: Callable[[], int] | None = None
    for line in orders:
        order = json.loads(line)
        if work is None:
            work = _work(make(order["url"]))
            measure(work, THREADS, _WARM_UP)
        replies.write(json.dumps(measure(work, order["threads"], order["seconds"])) + "\n")
        replies.flush()
    os._exit(0)


def _work(ask: Ask) -> Callable[[], int]:
    def work() -> int:
        if ask("summaries") != answers.TEXT:
            raise AssertionError("not the answer that was sent")
        return 1

    return work


def main(arguments: list[str]) -> None:
    """Obey until standard input ends, or go on until killed."""
    way, folder, *rest = arguments
    place = Path(folder)
    place.mkdir(exist_ok=True)
    if rest[:1] == ["--until-killed"]:
        _until_killed(WAYS[way](place, "", rest[1]))
    else:
        _obey(lambda base_url: WAYS[way](place, rest[0] if rest else "", base_url))


if __name__ == "__main__":
    main(sys.argv[1:])
