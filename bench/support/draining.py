"""So many calls, asked as fast as a client lets its threads ask, against a server that enforces a quota.

Run as `python -m support.draining WAY URL --pace P --rpm N --tpm N --threads N --requests N --patience SECONDS`; prints
a line of JSON: how many calls were answered, how many failed, and with what. Every client is told the same quota,
where it can be told one, and has what its documentation recommends; all that retry may do so five times.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import itertools
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from support import answers
from support.capacity_loop import CapacityLoop

SIZES = (20, 200, 700)
"""Words of the prompts, in turn."""
MAX_TOKENS = 100
RETRIES = 5
"""The OpenAI SDK's own example of a setting; its default of 2 would give up sooner."""

_WORDS = ("water", "gate", "sea", "wall", "river", "land", "tide", "boat", "rain", "wind")
"""Each is one token with its space, in both of tiktoken's tables."""
_FRAME_TOKENS = 8
"""What the message around a prompt adds, by OpenAI's own description of its format."""
_CALL_SECONDS = 600
"""Deadline of a call, waiting included."""
_GRACE = 2.0
"""Seconds that calls under way have to end once patience is over."""

Ask = Callable[[str], str]


def prompt(number: int) -> str:
    """The prompt of a call."""
    return " ".join(itertools.islice(itertools.cycle(_WORDS), SIZES[number % len(SIZES)]))


def body(number: int) -> dict[str, Any]:
    """The request of a call, as the API has it."""
    return {
        "model": answers.MODEL,
        "messages": [{"role": "user", "content": prompt(number)}],
        "max_tokens": MAX_TOKENS,
    }


def tokens(number: int) -> int:
    """What tiktoken counts for a call, with the answer that it may take."""
    return SIZES[number % len(SIZES)] + _FRAME_TOKENS + MAX_TOKENS


def mean_charge() -> float:
    """What the servers count for a call, on average."""
    return sum(len(json.dumps(body(number))) // 4 + MAX_TOKENS for number in range(len(SIZES))) / len(SIZES)


@dataclass(frozen=True)
class Quota:
    """What a client is told of the server's."""

    rpm: int
    tpm: int
    pace: str
    """`bucket` or `window`."""


@dataclass
class Run:
    """What is asked, and what came of it. Shared by threads: what they touch is atomic."""

    url: str
    quota: Quota
    threads: int
    requests: int
    patience: float
    """Seconds after which nothing new is asked."""
    answered: list[float] = field(default_factory=list)
    """The moment of every answer."""
    errors: list[str] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._numbers = iter(range(self.requests))
        self._lock = threading.Lock()

    def numbers(self) -> Iterator[int]:
        """Calls to ask, until there are no more or patience is over. Each thread has an iterator of its own."""
        while time.monotonic() < self.begun + self.patience:
            with self._lock:
                number = next(self._numbers, None)
            if number is None:
                return
            yield number

    def ended(self, error: str | None) -> None:
        """Note one call's end."""
        if error is None:
            self.answered.append(time.monotonic())
        else:
            self.errors.append(error)

    def result(self) -> dict[str, Any]:
        """Counts, and the most frequent errors."""
        first = Counter(error[:160] for error in self.errors).most_common(3)
        seconds = max(self.answered, default=self.begun) - self.begun
        return {"answered": len(self.answered), "failed": len(self.errors), "errors": first, "seconds": seconds}


def tidegate(run: Run) -> Ask:
    """The quota as its limits; a server that counts a sliding minute is what `pace="window"` is for."""
    package: Any = importlib.import_module("tidegate")
    limits = package.Limits(rpm=run.quota.rpm, tpm=run.quota.tpm, pace=run.quota.pace)
    return _tidegate(package, run, limits=limits)


def tidegate_learned(run: Run) -> Ask:
    """Nothing is set: the server's headers say it all."""
    return _tidegate(importlib.import_module("tidegate"), run)


def _tidegate(package: Any, run: Run, **options: object) -> Ask:  # noqa: ANN401 (imported where it is measured)
    client = package.Client(
        f"openai/{answers.MODEL}", base_url=run.url, api_key=answers.API_KEY, timeout=_CALL_SECONDS, **options
    )
    return lambda text: cast("str", client.complete(text, max_tokens=MAX_TOKENS).text)


def openai(run: Run) -> Ask:
    """The SDK, which retries as the server asks and knows of no quota."""
    package: Any = importlib.import_module("openai")
    client = package.OpenAI(
        base_url=run.url, api_key=answers.API_KEY, timeout=_CALL_SECONDS, max_retries=RETRIES
    ).chat.completions

    def ask(text: str) -> str:
        messages = [{"role": "user", "content": text}]
        reply = client.create(model=answers.MODEL, messages=messages, max_tokens=MAX_TOKENS)
        return cast("str", reply.choices[0].message.content)

    return ask


def langchain(run: Run) -> Ask:
    """Its limiter knows requests only; with the bucket of ten of its documentation, as one of one loses half."""
    limiters: Any = importlib.import_module("langchain_core.rate_limiters")
    chat: Any = importlib.import_module("langchain_openai")
    limiter = limiters.InMemoryRateLimiter(
        requests_per_second=run.quota.rpm / 60,
        check_every_n_seconds=0.1,
        max_bucket_size=10,
    )
    client = chat.ChatOpenAI(
        model=answers.MODEL, base_url=run.url, api_key=answers.API_KEY, timeout=_CALL_SECONDS, max_tokens=MAX_TOKENS,
        max_retries=RETRIES, rate_limiter=limiter,
    )  # fmt: skip
    return lambda text: cast("str", client.invoke(text).content)


def litellm(run: Run) -> Ask:
    """Its Router with the limits of its one deployment, and the check that enforces them."""
    package: Any = importlib.import_module("litellm")
    deployment = {
        "model": f"openai/{answers.MODEL}", "api_base": run.url, "api_key": answers.API_KEY, "timeout": _CALL_SECONDS,
        "rpm": run.quota.rpm, "tpm": run.quota.tpm,
    }  # fmt: skip
    router = package.Router(
        model_list=[{"model_name": answers.MODEL, "litellm_params": deployment}],
        num_retries=RETRIES,
        optional_pre_call_checks=["enforce_model_rate_limits"],
    )

    def ask(text: str) -> str:
        messages = [{"role": "user", "content": text}]
        reply = router.completion(model=answers.MODEL, messages=messages, max_tokens=MAX_TOKENS)
        return cast("str", reply.choices[0].message.content)

    return ask


def in_threads(make: Callable[[Run], Ask]) -> Callable[[Run], None]:
    """One client, shared by the threads, each of which asks again as soon as it has its answer."""

    def drain(run: Run) -> None:
        ask = make(run)
        run.begun = time.monotonic()
        threads = [threading.Thread(target=_caller, args=(run, ask), daemon=True) for _ in range(run.threads)]
        for thread in threads:
            thread.start()
        give_up = run.begun + run.patience + _GRACE
        for thread in threads:
            thread.join(max(0.0, give_up - time.monotonic()))

    return drain


def _caller(run: Run, ask: Ask) -> None:
    for number in run.numbers():
        try:
            error = None if ask(prompt(number)) else "no text"
        except Exception as caught:  # noqa: BLE001 (whatever a client raises is counted, and the caller goes on)
            error = repr(caught)
        run.ended(error)


def in_loop(share: float) -> Callable[[Run], None]:
    """`support.capacity_loop` with this share of the quota; it has tasks of its own instead of threads."""

    def drain(run: Run) -> None:
        rpm, tpm = share * run.quota.rpm, share * run.quota.tpm
        url = f"{run.url}/chat/completions"
        run.begun = time.monotonic()
        loop = CapacityLoop(url, answers.API_KEY, rpm=rpm, tpm=tpm, done=run.ended)
        work = loop.run((body(number), tokens(number)) for number in run.numbers())
        try:
            asyncio.run(asyncio.wait_for(work, run.patience + _GRACE))
        except TimeoutError:
            return

    return drain


WAYS: dict[str, Callable[[Run], None]] = {
    "tidegate": in_threads(tidegate),
    "tidegate, learned": in_threads(tidegate_learned),
    "openai": in_threads(openai),
    "langchain": in_threads(langchain),
    "litellm": in_threads(litellm),
    "capacity loop": in_loop(1.0),
    "capacity loop, 75 %": in_loop(0.75),
}
"""By name, whose first word says in which environment it runs."""

PACKAGES = {
    "tidegate": ("tidegate", "pyrate-limiter"),
    "openai": ("openai",),
    "langchain": ("langchain-openai", "langchain-core", "openai"),
    "litellm": ("litellm", "openai"),
    "capacity": ("aiohttp",),
}
"""By the first word of a way, the distributions whose versions belong beside its figures."""


def main() -> None:
    """Drain in one way, and print what came of it."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("url")
    parser.add_argument("--pace", required=True)
    for name in ("--rpm", "--tpm", "--threads", "--requests"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--patience", type=float, required=True)
    options = parser.parse_args()
    quota = Quota(options.rpm, options.tpm, options.pace)
    run = Run(options.url, quota, options.threads, options.requests, options.patience)
    WAYS[options.way](run)
    replies.write(json.dumps(run.result()) + "\n")
    replies.flush()
    sys.stderr.flush()
    os._exit(0)  # a caller that still waits would keep the process


if __name__ == "__main__":
    main()
