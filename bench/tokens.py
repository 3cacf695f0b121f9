"""What counting tokens costs, and how far off it is where the tokenizer is not public.

Run `python bench/tokens.py` (two minutes), with `--quick` for less than 20 s. See `bench/README.md`.

**Speed**: counts a second of English prose, with tidegate (a whole request, as a client counts it), tiktoken and
quicktok (the text alone). Every text is new, but for "again", which counts the same 64 texts in turn.

**Error**: of tidegate's estimate, beside one token for four bytes. What it is compared with are real figures: the
embedded model's server says how many tokens each question had; and other models' own tokenizers, of which the estimate
knows nothing (GPT-4's cl100k_base by tiktoken, Llama 3's and Qwen 3's by quicktok). Half of the questions teach, the
other half is what the error is of: before, after questions of all five kinds, and after questions of the one kind;
over: how many of these were above the highest that was said.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support import counting, prose, tables
from support.processes import output_of, package_versions
from tidegate.accounting.encoders import encoder
from tidegate.accounting.tokens import TokenCount, TokenCounter
from tidegate.chat.request import ChatRequest
from tidegate.providers import embedded

_VERSIONS = {"tidegate": ("tiktoken",), "quicktok": ("quicktok-v1",)}
_ENVELOPE = 7
"""Tokens of a request beside its text, for models whose requests are not really made here."""

_FOREIGN = {"gpt-4 (cl100k_base)": "", "llama-3": "llama3", "qwen-3": "qwen3"}

Pairs = list[tuple[str, ChatRequest, int]]
"""Kind, question, and its tokens in truth."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, and write the report when a file is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less of everything: less than 20 s")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    options = parser.parse_args(arguments)
    seconds, questions, texts, longest = (0.15, 20, 20, 240) if options.quick else (2.0, 100, 100, 1_200)
    found = tables.circumstances()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        versions = package_versions(_VERSIONS, _VERSIONS, home)
        speeds = _speeds(home, seconds)
        foreign = {name: _foreign(name, texts, home) for name in _FOREIGN}
    real = _real(questions, longest)
    tables.print_circumstances(found, versions)
    _print_speeds(speeds)
    errors = {"smollm2, real usage": _errors("local", embedded.MODEL_NAME, real)}
    for name, pairs in foreign.items():
        errors[name] = _errors("other", name.replace("gpt-4", "unnamed"), pairs)
    for name, rows in errors.items():
        _print_errors(name, rows)
    tables.write_json(
        options.json, {"bench": "tokens", **found, "versions": versions, "speeds": speeds, "errors": errors}
    )
    embedded.stop()


# Speed


def _speeds(home: Path, seconds: float) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for way in counting.WAYS:
        client = "quicktok" if way == "quicktok" else "tidegate"
        measured: Any = output_of(client, home, ["-m", "support.counting", "speed", way, str(seconds)])
        found += measured
    return found


def _print_speeds(speeds: Sequence[dict[str, Any]]) -> None:
    for size in counting.SIZES:
        rows = []
        for way in counting.WAYS:
            one, eight = (each for each in speeds if (each["way"], each["size"]) == (way, size))
            rows.append((way, one["per_s"], one["cpu_us"], eight["per_s"], eight["cpu_us"]))
        heads = ("way", "counts/s, 1 thread", "us CPU", f"counts/s, {counting.THREADS[1]} threads", "us CPU")
        tables.print_table(f"Counting: {size}", heads, rows)


# Error


def _questions(number: int, longest: int, seed: int) -> list[tuple[str, str]]:
    """As many of each kind, from a line to the longest; the kinds take turns."""
    chance = random.Random(seed)  # noqa: S311 (the same questions each time)
    sizes = [round(longest ** chance.uniform(0.4, 1.0)) for _ in range(number)]
    kinds = [prose.KINDS[index % len(prose.KINDS)] for index in range(number)]
    return [(kind, prose.text(kind, size, chance)) for kind, size in zip(kinds, sizes, strict=True)]


def _real(number: int, longest: int) -> Pairs:
    """What the embedded model's server says of each question; every third has a system prompt."""
    pairs: Pairs = []
    host = embedded.base_url().removeprefix("http://").removesuffix("/v1")
    for index, (kind, text) in enumerate(_questions(number, longest, 1)):
        request = ChatRequest.build(text, system="Answer in one word." if index % 3 == 0 else None)
        pairs.append((kind, request, _asked(host, request)))
    return pairs


def _asked(host: str, request: ChatRequest) -> int:
    body = {"messages": [{"role": one.role, "content": one.content} for one in request.messages], "max_tokens": 1}
    connection = http.client.HTTPConnection(host, timeout=60)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return int(answer["usage"]["prompt_tokens"])


def _foreign(name: str, number: int, home: Path) -> Pairs:
    questions = _questions(number, 8_000, 2)
    texts = [text for _, text in questions]
    if _FOREIGN[name]:
        file = home / "texts.json"
        file.write_text(json.dumps(texts), encoding="utf-8")
        command = ["-m", "support.counting", "truth", _FOREIGN[name], str(file)]
        truths: Any = output_of("quicktok", home, command)
    else:
        own = encoder("cl100k_base")
        assert own is not None  # noqa: S101 (for the type checker)
        truths = [own.count(text).tokens for text in texts]
    return [
        (kind, ChatRequest.build(text), truth + _ENVELOPE)
        for (kind, text), truth in zip(questions, truths, strict=True)
    ]


def _errors(provider: str, model: str, pairs: Pairs) -> list[dict[str, Any]]:
    """Of each kind and of all: half of the pairs teach, the others are what the error is of."""
    teaching, asked = _halves(pairs)
    fresh, mixed = TokenCounter(), _taught(provider, model, teaching)
    rows, alone = [], dict[str, list[tuple[TokenCount, int]]]()
    for kind in (*prose.KINDS, "all"):
        chosen = [(request, truth) for one, request, truth in asked if kind in (one, "all")]
        row: dict[str, Any] = {"kind": kind, "questions": len(chosen)}
        row |= _error("length", [(_by_length(request), truth) for request, truth in chosen])
        for way, counter in (("before", fresh), ("mixed", mixed)):
            row |= _error(way, [(counter.count(request, provider, model), truth) for request, truth in chosen])
        own = _taught(provider, model, [pair for pair in teaching if pair[0] == kind])
        alone[kind] = [(own.count(request, provider, model), truth) for request, truth in chosen]
        every = [count for one in prose.KINDS for count in alone[one]] if kind == "all" else alone[kind]
        rows.append(row | _error("own", every))
    return rows


def _taught(provider: str, model: str, pairs: Pairs) -> TokenCounter:
    counter = TokenCounter()
    for _, request, truth in pairs:
        counter.learn(provider, model, counter.count(request, provider, model), truth)
    return counter


def _halves(pairs: Pairs) -> tuple[Pairs, Pairs]:
    """Every other one of each kind."""
    turn = len(prose.KINDS)
    halves: tuple[Pairs, Pairs] = ([], [])
    for index, pair in enumerate(pairs):
        halves[index // turn % 2].append(pair)
    return halves


def _error(way: str, counts: Sequence[tuple[TokenCount, int]]) -> dict[str, float]:
    off = sorted(100 * abs(count.tokens - truth) / truth for count, truth in counts)
    over = sum(truth > count.highest for count, truth in counts)
    worst = off[min(len(off) - 1, int(0.95 * len(off)))]
    return {f"{way} median": statistics.median(off), f"{way} p95": worst, f"{way} over": over}


def _by_length(request: ChatRequest) -> TokenCount:
    """OpenAI's rule of thumb, with four tokens for each message and three for the answer."""
    size = sum(len(message.text.encode()) for message in request.messages)
    tokens = 3 + 4 * len(request.messages) + round(size / 4)
    return TokenCount(tokens, 2 * tokens, exact=False, unlearned=tokens)


def _print_errors(name: str, rows: Sequence[dict[str, Any]]) -> None:
    ways = {"length": "by length", "before": "before", "mixed": "all kinds", "own": "own kind"}
    heads = ["questions", "number", *(f"{title}, {part}" for title in ways.values() for part in ("%", "p95"))]
    heads += [f"over, {title}" for way, title in ways.items() if way != "length"]
    cells = [
        (
            row["kind"],
            row["questions"],
            *(row[f"{way} {part}"] for way in ways for part in ("median", "p95")),
            *(row[f"{way} over"] for way in ways if way != "length"),
        )
        for row in rows
    ]
    tables.print_table(f"Error of an estimate: {name}", heads, cells)


if __name__ == "__main__":
    main()
