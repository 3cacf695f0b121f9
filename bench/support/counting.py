"""How many texts a second are counted, in tidegate, tiktoken and quicktok; and what quicktok counts for given texts.

Run as `python -m support.counting speed WAY SECONDS` or `… truth ENCODING FILE`, the file a JSON list of texts; prints
a line of JSON.
"""

from __future__ import annotations

import importlib
import itertools
import json
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support import prose

Count = Callable[[str], int]

SIZES = {"short": 44, "2 KB": 2_000, "200 KB": 200_000}
"""Characters."""
THREADS = (1, 8)


def tidegate(provider: str = "openai", model: str = "gpt-4o") -> Count:
    """A whole request's tokens, as a client counts it on its way out; the request is made as well."""
    count, request, message = _tidegate()
    return lambda text: int(count(request((message("user", text),)), provider, model).tokens)


def estimate() -> Count:
    """The same for a model whose tokenizer is not public."""
    return tidegate("anthropic", "claude-haiku-4-5")


def request() -> Count:
    """Nothing but the request, which the two above make."""
    _, request, message = _tidegate()
    return lambda text: len(request((message("user", text),)).messages)


def _tidegate() -> tuple[Any, Any, Any]:
    tokens: Any = importlib.import_module("tidegate.accounting.tokens")
    request = importlib.import_module("tidegate.chat.request").ChatRequest
    return tokens.TokenCounter().count, request, importlib.import_module("tidegate.chat.messages").Message


def tiktoken() -> Count:
    """The text's tokens alone, over the tables that tidegate carries: its own need a network."""
    encoders: Any = importlib.import_module("tidegate.accounting.encoders")
    table = encoders.TABLES["o200k_base"]
    encoding = importlib.import_module("tiktoken").Encoding(
        "o200k_base", pat_str=table.pieces, mergeable_ranks=encoders.ranks("o200k_base"), special_tokens={}
    )
    return lambda text: len(encoding.encode_ordinary(text))


def quicktok(name: str = "o200k_base") -> Count:
    """The text's tokens alone, by another implementation."""
    encoding: Any = importlib.import_module("quicktok").get_encoding(name)
    return lambda text: len(encoding.encode(text))


WAYS: dict[str, Callable[[], Count]] = {
    "tidegate": tidegate,
    "tidegate, again": tidegate,
    "tidegate, estimate": estimate,
    "its request alone": request,
    "tiktoken": tiktoken,
    "quicktok": quicktok,
}


def speeds(way: str, seconds: float) -> list[dict[str, Any]]:
    """Of every size, with one thread and with more."""
    count = WAYS[way]()
    return [
        {"way": way, "size": name, "threads": threads, **_speed(way, count, size, threads, seconds)}
        for name, size in SIZES.items()
        for threads in THREADS
    ]


def _speed(way: str, count: Count, size: int, threads: int, seconds: float) -> dict[str, float]:
    """Counts a second of all threads together. Every text is new, but for the way that counts the same ones again."""
    chance = random.Random(size * threads)  # noqa: S311 (the same texts each time)
    texts = [prose.text("English", size, chance) for _ in range(max(4, min(64, 1_000_000 // size)))]
    same = way == "tidegate, again"
    for text in texts if same else texts[:1]:
        count(text)
    done = [0] * threads
    open_until = time.perf_counter() + seconds

    def work(number: int) -> None:
        fresh = (f"{number} {turn} {text}"[:size] for turn in itertools.count() for text in texts)
        source = itertools.cycle(texts) if same else fresh
        while time.perf_counter() < open_until:
            count(next(source))
            done[number] += 1

    began, cpu = time.perf_counter(), time.process_time()
    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {"per_s": sum(done) / wall, "cpu_us": 1e6 * cpu / max(1, sum(done))}


def truth(encoding: str, file: str) -> list[int]:
    """What each text of the file comes to."""
    count = quicktok(encoding)
    return [count(text) for text in json.loads(Path(file).read_text(encoding="utf-8"))]


if __name__ == "__main__":
    if sys.argv[1] == "truth":
        print(json.dumps(truth(*sys.argv[2:4])), flush=True)
    else:
        print(json.dumps(speeds(sys.argv[2], float(sys.argv[3]))), flush=True)
