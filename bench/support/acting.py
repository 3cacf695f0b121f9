"""What a step of an agent costs: CPU of its process, with one of three libraries, on the script of `scripted_model`.

Run as `python -m support.acting LIBRARY URL RUNS`; prints a line of JSON. Each library's agent is made once, as its
documentation shows, and asked the same task again and again, with nothing remembered.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from support.scripted_model import ANSWER, STEPS

TASK = "What is 25 * 4 + 10?"
KEY = "sk-bench-0123456789abcdef"

Run = Callable[[], str]


def tidegate(url: str) -> Run:
    """With everything on that is on by default: limits, retries, breaker, ledger, prices."""
    module: Any = importlib.import_module("tidegate")

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    client = module.Client("openai/gpt-4o-mini", api_key=KEY, base_url=url)
    agent = module.Agent(client, tools=[add], remember=False, max_repeats=99)
    return lambda: str(agent.run(TASK).answer)


def langchain(url: str) -> Run:
    """`create_agent`, in threads of its own making."""
    agents: Any = importlib.import_module("langchain.agents")
    models: Any = importlib.import_module("langchain_openai")

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    model = models.ChatOpenAI(model="gpt-4o-mini", api_key=KEY, base_url=url)
    agent = agents.create_agent(model, tools=[add])
    return lambda: str(agent.invoke({"messages": [{"role": "user", "content": TASK}]})["messages"][-1].content)


def pydantic_ai(url: str) -> Run:
    """`Agent.run_sync`."""
    module: Any = importlib.import_module("pydantic_ai")
    models: Any = importlib.import_module("pydantic_ai.models.openai")
    providers: Any = importlib.import_module("pydantic_ai.providers.openai")

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    model = models.OpenAIChatModel("gpt-4o-mini", provider=providers.OpenAIProvider(base_url=url, api_key=KEY))
    agent = module.Agent(model, tools=[add])
    return lambda: str(agent.run_sync(TASK).output)


LIBRARIES: dict[str, Callable[[str], Run]] = {"tidegate": tidegate, "langchain": langchain, "pydantic-ai": pydantic_ai}


def main() -> None:
    """Measure, and print the figure."""
    run = LIBRARIES[sys.argv[1]](sys.argv[2])
    runs = int(sys.argv[3])
    for _ in range(5):
        if run() != ANSWER:
            raise SystemExit(f"{sys.argv[1]} came to another answer")
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(runs):
        run()
    steps = runs * STEPS
    print(
        json.dumps(
            {"cpu_us": (time.process_time() - cpu) / steps * 1e6, "wall_us": (time.perf_counter() - wall) / steps * 1e6}
        )
    )


if __name__ == "__main__":
    main()
