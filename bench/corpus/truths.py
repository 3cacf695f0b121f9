"""Values that a model was asked for: calls of functions and records, from a seed."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from corpus import strings

CALLS_VERSION = "2026.3.23"
"""Of `bfcl-eval`, whose real calls are taken."""

_CALL_FILES = (
    "simple_python",
    "multiple",
    "parallel",
    "parallel_multiple",
    "live_simple",
    "live_multiple",
    "live_parallel",
)


def _ticket(chance: Random) -> dict[str, Any]:
    return {
        "id": chance.randint(1, 99_999),
        "title": strings.sentence(chance),
        "body": strings.text(chance),
        "priority": strings.word(chance),
        "open": chance.random() < 0.5,
        "assignee": chance.choice([None, strings.person(chance)]),
        "labels": [strings.word(chance) for _ in range(chance.randint(0, 4))],
    }


def _recipe(chance: Random) -> dict[str, Any]:
    return {
        "name": f"{strings.place(chance)} {strings.topic(chance)}",
        "servings": chance.randint(1, 12),
        "ingredients": [
            {"item": strings.topic(chance), "grams": chance.choice([chance.randint(1, 900), chance.randint(1, 90) / 4])}
            for _ in range(chance.randint(1, 4))
        ],
        "steps": [strings.text(chance) for _ in range(chance.randint(1, 4))],
        "vegan": chance.random() < 0.5,
    }


def _invoice(chance: Random) -> dict[str, Any]:
    return {
        "number": f"INV-{chance.randint(1000, 9999)}",
        "customer": {"name": strings.person(chance), "city": strings.place(chance), "vip": chance.random() < 0.3},
        "lines": [
            {
                "text": strings.text(chance),
                "quantity": chance.randint(1, 40),
                "price": chance.randint(100, 500_000) / 100,
            }
            for _ in range(chance.randint(1, 3))
        ],
        "total": chance.randint(1000, 9_000_000) / 100,
        "paid": chance.choice([True, False, None]),
    }


def _review(chance: Random) -> dict[str, Any]:
    return {
        "summary": strings.text(chance),
        "score": chance.randint(0, 100) / 10,
        "issues": [
            {"file": f"src/{strings.topic(chance).replace(' ', '_')}.py", "line": chance.randint(1, 4000),
             "comment": strings.text(chance), "blocking": chance.random() < 0.5}
            for _ in range(chance.randint(0, 3))
        ],
        "approved": chance.random() < 0.5,
    }  # fmt: skip


def _weather(chance: Random) -> dict[str, Any]:
    return {
        "city": strings.place(chance),
        "temperature": chance.randint(-300, 400) / 10,
        "wind": {"speed": chance.randint(0, 120), "from": chance.choice(["N", "SW", "E"])},
        "forecast": [[chance.randint(-20, 35), chance.randint(-20, 35)] for _ in range(chance.randint(1, 5))],
        "warning": chance.choice([None, strings.sentence(chance)]),
    }


def _answer(chance: Random) -> dict[str, Any]:
    return {"answer": strings.text(chance), "confidence": chance.randint(0, 100) / 100, "sources": [
        strings.text(chance) for _ in range(chance.randint(0, 3))]}  # fmt: skip


_RECORDS: Sequence[Callable[[Random], dict[str, Any]]] = (_ticket, _recipe, _invoice, _review, _weather, _answer)


def record(chance: Random) -> Any:
    """What a schema asks for: an object as a rule, a list of them now and then."""
    make = chance.choice(_RECORDS)
    return [make(chance) for _ in range(chance.randint(1, 3))] if chance.random() < 0.12 else make(chance)


def flat_record(chance: Random) -> dict[str, Any]:
    """A record for formats that know neither types nor nesting: a few lines of text, numbers, yes and no."""
    fields: dict[str, Any] = {
        "title": strings.sentence(chance),
        "city": strings.place(chance),
        "count": chance.randint(0, 5000),
        "score": chance.randint(1, 99) / 10,
        "urgent": chance.random() < 0.5,
        "notes": chance.choice((strings.sentence(chance), "see https://example.com/a?b=1", "ratio 3:1, i.e. 75%")),
        "owner": strings.person(chance),
    }
    kept = chance.sample(sorted(fields), chance.randint(2, 6))
    return {name: fields[name] for name in kept}


def own_call(chance: Random) -> dict[str, Any]:
    """A call of a function that needs text: what real collections of calls have little of."""
    name = chance.choice(("search", "send_email", "create_ticket", "run_sql", "write_file", "files.move", "set_alarm"))
    arguments: dict[str, Any] = {
        "query": strings.text(chance),
        "body": strings.text(chance),
        "path": f"/var/data/{strings.topic(chance)}.txt",
        "limit": chance.randint(1, 500),
        "recursive": chance.random() < 0.5,
        "to": [f"{strings.topic(chance).replace(' ', '.')}@example.com" for _ in range(chance.randint(1, 3))],
        "options": {"dry_run": chance.random() < 0.5, "level": strings.word(chance)},
    }
    kept = chance.sample(sorted(arguments), chance.randint(1, 4))
    return {"name": name, "arguments": {each: arguments[each] for each in kept}}


def real_calls(wheel: Path) -> list[list[dict[str, Any]]]:
    """The calls that the questions of `bfcl-eval` are answered by: a list of calls for each question."""
    with zipfile.ZipFile(wheel) as archive:
        lines = [
            line
            for name in _CALL_FILES
            for line in archive.read(f"bfcl_eval/data/possible_answer/BFCL_v4_{name}.json").splitlines()
        ]
    answers = [json.loads(line)["ground_truth"] for line in lines if line.strip()]
    return [[_call(each) for each in calls] for calls in answers if calls]


def _call(stated: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    ((name, arguments),) = stated.items()
    return {"name": name, "arguments": {each: _first(values) for each, values in arguments.items() if _given(values)}}


def _given(values: Sequence[Any]) -> bool:
    """An empty text first among the values means that the argument may be left out."""
    return bool(values) and values[0] != ""


def _first(values: Any) -> Any:
    """Of several values that would be right, the first; also within an argument that is an object."""
    value = values[0]
    if not isinstance(value, dict):
        return value
    return {name: _first(each) if isinstance(each, list) and each else each for name, each in value.items()}
