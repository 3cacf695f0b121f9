"""Callers that ask until a budget ends, or past it: each client keeps to the budget as its documentation shows.

Run as `python -m support.budgeting WAY URL --usd USD --callers N --calls N [--ledger URL] [--at MOMENT]`; prints a line
of JSON. The callers begin together, at that moment of the monotonic clock when one is given; each asks again as soon as
it has its answer or was refused, until so many calls were made by all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from support import answers

ANSWER_TOKENS = 54
"""What the server says that each answer has."""
CALL_USD = Decimal("0.00003435")
"""What a call costs: 13 tokens at 0.15 and 54 at 0.60 US dollars a million, as the server says and all clients know."""

_MESSAGES = [{"role": "user", "content": answers.PROMPT}]


@dataclass
class Run:
    """What is asked, and what came of it. Shared by threads: what they touch is atomic."""

    url: str
    usd: Decimal
    callers: int
    calls: int
    ledger: str
    at: float
    answered: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    begun: float = 0.0

    def __post_init__(self) -> None:
        self._numbers = iter(range(self.calls))
        self._lock = threading.Lock()

    def numbers(self) -> Iterator[int]:
        """Calls to make. Each caller has an iterator of its own."""
        while True:
            with self._lock:
                number = next(self._numbers, None)
            if number is None:
                return
            yield number

    def begin(self) -> None:
        """Wait until it is time."""
        time.sleep(max(0.0, self.at - time.monotonic()))
        self.begun = time.monotonic()

    def ended(self, error: BaseException | None, refusals: tuple[str, ...]) -> None:
        """Note one call's end."""
        if error is None:
            self.answered.append(time.monotonic())
        elif any(word in f"{type(error).__name__}: {error}" for word in refusals):
            self.refused.append(time.monotonic())
        else:
            self.errors.append(repr(error)[:200])

    def result(self) -> dict[str, Any]:
        """Counts, and the seconds until the last call had ended."""
        ends = [*self.answered, *self.refused]
        return {
            "answered": len(self.answered),
            "refused": len(self.refused),
            "failed": len(self.errors),
            "errors": Counter(self.errors).most_common(2),
            "seconds": max(ends, default=self.begun) - self.begun,
        }


def in_threads(run: Run, ask: Callable[[], object], refusals: tuple[str, ...]) -> None:
    """One thread a caller."""
    together = threading.Barrier(run.callers + 1)

    def caller() -> None:
        together.wait()
        for _ in run.numbers():
            run.ended(_error(ask), refusals)

    threads = [threading.Thread(target=caller) for _ in range(run.callers)]
    for thread in threads:
        thread.start()
    run.begin()
    together.wait()
    for thread in threads:
        thread.join()


def _error(ask: Callable[[], object]) -> BaseException | None:
    try:
        ask()
    except Exception as error:  # noqa: BLE001 (whatever a client raises is counted, and the caller goes on)
        return error
    return None


async def in_tasks(run: Run, ask: Callable[[], Awaitable[object]], refusals: tuple[str, ...]) -> None:
    """One task a caller, for what has to be asked in an event loop."""

    async def caller() -> None:
        for _ in run.numbers():
            try:
                await ask()
            except Exception as error:  # noqa: BLE001 (as in `_error`)
                run.ended(error, refusals)
            else:
                run.ended(None, refusals)

    run.begin()
    await asyncio.gather(*(caller() for _ in range(run.callers)))


def _tidegate(run: Run, max_tokens: int) -> None:
    package: Any = importlib.import_module("tidegate")
    client = package.Client(
        f"openai/{answers.MODEL}", base_url=run.url, api_key=answers.API_KEY, workers=run.callers, timeout=120,
        ledger=run.ledger, budgets=[package.Budget(usd=run.usd, per="day", alert_at=())],
    )  # fmt: skip
    in_threads(run, lambda: client.complete(answers.PROMPT, max_tokens=max_tokens), ("BudgetExceeded",))
    client.close()


def tidegate(run: Run) -> None:
    """A bound that is what answers have."""
    _tidegate(run, ANSWER_TOKENS)


def tidegate_loose(run: Run) -> None:
    """A bound of nearly five times what answers have."""
    _tidegate(run, answers.MAX_TOKENS)


def litellm_router(run: Run) -> None:
    """A provider's budget, which the Router looks at in its asynchronous calls only."""
    package: Any = importlib.import_module("litellm")

    async def go() -> None:
        parameters = {"model": f"openai/{answers.MODEL}", "api_key": answers.API_KEY, "api_base": run.url}
        router = package.Router(
            model_list=[{"model_name": answers.MODEL, "litellm_params": parameters}],
            provider_budget_config={"openai": {"budget_limit": float(run.usd), "time_period": "1d"}},
        )
        options = {"model": answers.MODEL, "messages": _MESSAGES, "max_tokens": ANSWER_TOKENS}
        await in_tasks(run, lambda: router.acompletion(**options), ("budget",))

    asyncio.run(go())


def _litellm(run: Run) -> tuple[Any, Callable[[], Any]]:
    package: Any = importlib.import_module("litellm")
    where = {"model": f"openai/{answers.MODEL}", "api_base": run.url, "api_key": answers.API_KEY}
    return package, lambda: package.completion(**where, messages=_MESSAGES, max_tokens=ANSWER_TOKENS)


class _NoBudgetLeftError(Exception):
    """What the documentation's example prints."""


def litellm_manager(run: Run) -> None:
    """Asked before the call, told after it, as in its documentation's example."""
    package, complete = _litellm(run)
    manager = package.BudgetManager(project_name="bench")
    manager.create_budget(total_budget=float(run.usd), user="user")

    def ask() -> None:
        if manager.get_current_cost(user="user") > manager.get_total_budget("user"):
            raise _NoBudgetLeftError
        manager.update_cost(completion_obj=complete(), user="user")

    in_threads(run, ask, ("_NoBudgetLeftError",))


def litellm_global(run: Run) -> None:
    """Its global limit for all calls."""
    package, complete = _litellm(run)
    package.max_budget = float(run.usd)
    in_threads(run, complete, ("BudgetExceededError",))


def _agent(run: Run, **options: object) -> Any:  # noqa: ANN401 (imported where it is measured)
    package: Any = importlib.import_module("pydantic_ai")
    models: Any = importlib.import_module("pydantic_ai.models.openai")
    providers: Any = importlib.import_module("pydantic_ai.providers.openai")
    provider = providers.OpenAIProvider(base_url=run.url, api_key=answers.API_KEY)
    model = models.OpenAIChatModel(answers.MODEL, provider=provider)
    return package.Agent(model, model_settings={"max_tokens": ANSWER_TOKENS}, **options)


def pydantic_limits(run: Run) -> None:
    """The limits of a run; one usage is handed to all the runs, as for agents that work together."""
    package: Any = importlib.import_module("pydantic_ai")
    agent, usage = _agent(run), package.RunUsage()
    limits = package.UsageLimits(cost_limit=run.usd, request_limit=None)
    asyncio.run(
        in_tasks(run, lambda: agent.run(answers.PROMPT, usage=usage, usage_limits=limits), ("UsageLimitExceeded",))
    )


def pydantic_spend(run: Run) -> None:
    """Its harness's budget over many runs."""
    harness: Any = importlib.import_module("pydantic_ai_harness.spend")
    limits = harness.SpendLimits(budgets=[harness.Budget(usd=run.usd, window="day")])
    agent = _agent(run, capabilities=[limits])
    asyncio.run(in_tasks(run, lambda: agent.run(answers.PROMPT), ("SpendLimitExceeded",)))


WAYS: dict[str, Callable[[Run], None]] = {
    "tidegate": tidegate,
    "tidegate, loose bound": tidegate_loose,
    "litellm, Router": litellm_router,
    "litellm, BudgetManager": litellm_manager,
    "litellm, max_budget": litellm_global,
    "pydantic-ai, UsageLimits": pydantic_limits,
    "pydantic-ai, SpendLimits": pydantic_spend,
}
"""By name, which begins with the client's."""

PACKAGES = {
    "tidegate": ("sqlalchemy", "psycopg", "genai-prices"),
    "litellm": ("litellm", "openai"),
    "pydantic-ai": ("pydantic-ai-slim", "pydantic-ai-harness", "genai-prices", "openai"),
}
"""The distributions whose versions belong beside the figures."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Ask, and say what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("url")
    parser.add_argument("--usd", type=Decimal, required=True)
    parser.add_argument("--callers", type=int, required=True)
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--ledger", default="")
    parser.add_argument("--at", type=float, default=0.0)
    options = vars(parser.parse_args(arguments))
    way = options.pop("way")
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.chdir(os.environ["HOME"])  # litellm's manager keeps its file where it is
    run = Run(**options)
    WAYS[way](run)
    out.write(json.dumps(run.result()) + "\n")
    out.flush()
    os._exit(0)  # what a client still does in the background is not waited for


if __name__ == "__main__":
    main()
