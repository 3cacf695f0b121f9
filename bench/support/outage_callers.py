"""Callers that go on asking through an outage, each at its own pace, and what came of every call.

Run as `python -m support.outage_callers WAY URL OTHER --callers N --before S --outage S --patience S`; prints a line of
JSON. Each caller asks once a second, or as soon as it has its answer where that takes longer. The provider at URL is
down for `outage` seconds after the first `before`; then everyone goes on until each has had an answer from it, or until
`patience` is over. The one at OTHER is always well, for those that can use it.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import os
import statistics
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from support import answers

EVERY = 1.0
"""Seconds from the beginning of a caller's call to that of its next, at least."""
RETRIES = 2
"""Of litellm's Router, which has none unless it is told; the OpenAI SDK's own default is the same."""
_OTHER = "groq/other"

Ask = Callable[[str], str]


def _tidegate(url: str, **options: object) -> Ask:
    package: Any = importlib.import_module("tidegate")
    client = package.Client(f"openai/{answers.MODEL}", base_url=url, api_key=answers.API_KEY, **options)
    return lambda text: cast("str", client.complete(text, max_tokens=answers.MAX_TOKENS).text)


def tidegate(url: str, other: str) -> Ask:  # noqa: ARG001 (each way is made alike)
    """With its defaults: a retry budget, and a circuit that is tried again after 30 s."""
    return _tidegate(url)


def tidegate_soon(url: str, other: str) -> Ask:  # noqa: ARG001 (each way is made alike)
    """A circuit that is tried again after 5 s."""
    package: Any = importlib.import_module("tidegate")
    return _tidegate(url, breaker=package.Breaker(recovery=5))


def tidegate_no_breaker(url: str, other: str) -> Ask:  # noqa: ARG001 (each way is made alike)
    """The retry budget alone."""
    return _tidegate(url, breaker=None)


def tidegate_fallback(url: str, other: str) -> Ask:
    """With another provider."""
    os.environ.update(GROQ_API_KEY=answers.API_KEY, GROQ_BASE_URL=other)
    return _tidegate(url, fallbacks=[_OTHER])


def openai(url: str, other: str) -> Ask:  # noqa: ARG001 (each way is made alike)
    """With its defaults, of which two retries are one."""
    package: Any = importlib.import_module("openai")
    client = package.OpenAI(base_url=url, api_key=answers.API_KEY).chat.completions

    def ask(text: str) -> str:
        messages = [{"role": "user", "content": text}]
        reply = client.create(model=answers.MODEL, messages=messages, max_tokens=answers.MAX_TOKENS)
        return cast("str", reply.choices[0].message.content)

    return ask


def litellm(url: str, other: str) -> Ask:  # noqa: ARG001 (each way is made alike)
    """Its Router with one deployment and retries."""
    return _router({answers.MODEL: url})


def litellm_fallback(url: str, other: str) -> Ask:
    """Its Router with another deployment as a fallback."""
    return _router({answers.MODEL: url, "other": other}, fallbacks=[{answers.MODEL: ["other"]}])


def _router(places: dict[str, str], **options: object) -> Ask:
    package: Any = importlib.import_module("litellm")
    shared = {"model": f"openai/{answers.MODEL}", "api_key": answers.API_KEY}
    models = [{"model_name": name, "litellm_params": {**shared, "api_base": place}} for name, place in places.items()]
    router = package.Router(model_list=models, num_retries=RETRIES, **options)

    def ask(text: str) -> str:
        messages = [{"role": "user", "content": text}]
        reply = router.completion(model=answers.MODEL, messages=messages, max_tokens=answers.MAX_TOKENS)
        return cast("str", reply.choices[0].message.content)

    return ask


WAYS: dict[str, Callable[[str, str], Ask]] = {
    "tidegate": tidegate,
    "tidegate, recovery 5 s": tidegate_soon,
    "tidegate, no breaker": tidegate_no_breaker,
    "tidegate, fallback": tidegate_fallback,
    "openai": openai,
    "litellm, Router": litellm,
    "litellm, Router, fallback": litellm_fallback,
}
"""By name, which begins with the client's."""

PACKAGES = {"tidegate": ("requests", "urllib3", "pybreaker"), "openai": ("openai",), "litellm": ("litellm", "openai")}
"""The distributions whose versions belong beside the figures."""


@dataclass(frozen=True)
class Ended:
    """One call."""

    name: str
    began: float
    ended: float
    error: str | None


@dataclass
class Run:
    """The callers, and what came of their calls. Shared by threads: what they touch is atomic."""

    ask: Ask
    callers: int
    calls: list[Ended] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Evenly over the first second."""
        for caller in range(self.callers):
            threading.Thread(target=self._caller, args=(caller,), daemon=True).start()

    def _caller(self, caller: int) -> None:
        self.over.wait(EVERY * caller / self.callers)
        for number in itertools.count():
            if self.over.is_set():
                return
            began = time.monotonic()
            name = f"{caller}.{number}"
            error = self._error(name)
            self.calls.append(Ended(name, began, time.monotonic(), error))
            self.over.wait(began + EVERY - time.monotonic())

    def _error(self, name: str) -> str | None:
        try:
            text = self.ask(f"{name} {answers.PROMPT}")
        except Exception as error:  # noqa: BLE001 (whatever a client raises is counted, and the caller goes on)
            return repr(error)
        return None if text == answers.TEXT else "not the answer that was sent"


@dataclass(frozen=True)
class Log:
    """What the provider saw, and when it was down."""

    rows: Sequence[tuple[float, str, int]]
    begin: float
    end: float

    def attempts(self) -> Counter[str]:
        """Requests, by the call that they were for."""
        return Counter(name for _, name, _ in self.rows)

    def served_again(self) -> dict[str, float]:
        """Of each caller that had an answer after the outage, the seconds until the first."""
        found: dict[str, float] = {}
        for moment, name, status in self.rows:
            if moment >= self.end and status == 200:
                found.setdefault(name.split(".")[0], moment - self.end)
        return found


def result(run: Run, log: Log) -> dict[str, Any]:
    """The figures: of calls that began and ended in the outage, and of what came after it."""
    inside = [call for call in run.calls if call.began >= log.begin and call.ended < log.end]
    attempts = log.attempts()
    seconds = [call.ended - call.began for call in inside]
    again = log.served_again()
    errors = Counter((call.error or "")[:160] for call in run.calls if call.error)
    return {
        "calls": len(inside),
        "failed": sum(call.error is not None for call in inside),
        "attempts": statistics.fmean(attempts[call.name] for call in inside),
        "requests": sum(log.begin <= moment < log.end for moment, _, _ in log.rows),
        "seconds": statistics.median(seconds),
        "longest": max(seconds),
        "first_again": min(again.values(), default=None),
        "all_again": max(again.values()) if len(again) == run.callers else None,
        "failed_before": sum(call.error is not None for call in run.calls if call.ended < log.begin),
        "failed_after": sum(call.error is not None for call in run.calls if call.began >= log.end),
        "errors": errors.most_common(3),
    }


def _get(url: str) -> Any:  # noqa: ANN401 (JSON)
    with urllib.request.urlopen(url) as response:  # noqa: S310 (our own server)
        return json.load(response)


def _through_an_outage(run: Run, server: str, before: float, outage: float, patience: float) -> Log:
    begin = time.monotonic() + before
    end = begin + outage
    _get(f"{server}/outage/{begin}/{end}")
    run.start()
    time.sleep(before + outage)
    while True:
        time.sleep(EVERY / 10)
        log = Log([(moment, name, status) for moment, name, status in _get(f"{server}/log")], begin, end)
        if len(log.served_again()) == run.callers or time.monotonic() > end + patience:
            break
    run.over.set()
    return log


def main(arguments: Sequence[str] | None = None) -> None:
    """Go through one outage and say what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("server")
    parser.add_argument("other")
    parser.add_argument("--callers", type=int, required=True)
    for name in ("before", "outage", "patience"):
        parser.add_argument(f"--{name}", type=float, required=True)
    options = parser.parse_args(arguments)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    run = Run(WAYS[options.way](f"{options.server}/v1", f"{options.other}/v1"), options.callers)
    log = _through_an_outage(run, options.server, options.before, options.outage, options.patience)
    out.write(json.dumps(result(run, log)) + "\n")
    out.flush()
    os._exit(0)  # calls may still be under way, and are not waited for


if __name__ == "__main__":
    main()
