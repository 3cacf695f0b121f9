"""An agent: one conversation with a model that may use tools, its own mailbox, and limits that hold."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from decimal import Decimal
from types import TracebackType
from typing import Any, Literal, Self

import pykka

from tidegate.agent.events import AgentEvent, AgentResult, Done, total_cost, total_usage
from tidegate.agent.run import Limits, Run
from tidegate.agent.toolbox import Toolbox
from tidegate.chat.messages import Message
from tidegate.chat.usage import Usage
from tidegate.client import Client
from tidegate.clock import SYSTEM_CLOCK, CancelToken, Clock
from tidegate.errors import ConfigError
from tidegate.policies.budget_options import Budget

Protocol = Literal["auto", "native", "text"]


class Agent:
    """Finishes tasks with tools. Shared by threads, which take turns: it is one conversation.

    ::

        agent = Agent(client, tools=[calculator, clock], max_steps=10, budget="0.10")
        result = agent.run("How many hours have 25 weeks and 4 days?")
        print(result.answer, result.cost, len(result.steps))

    `tools` are functions with `@tool`, plain typed functions, or a `Toolbox`. `system` stands before the conversation.
    A run ends with an answer, or with one of its limits: `max_steps` answers of the model (10), `budget` US dollars
    that it may cost at most (reserved in the client's ledger before each step; None for no limit but the client's),
    `timeout` seconds (None: 60 for each step, as any call), or `max_repeats` times the same calls in a row (3).
    `AgentResult.stopped` says which, and what was found until then is there.

    `model` is another one than the client's. `protocol`: `native` asks for tools in the provider's own way, `text` has
    the model write what it does, `auto` takes the first where it can. `max_tokens` and `temperature` are for each step.
    `remember=False` begins every task anew. Raises `ConfigError`.
    """

    def __init__(
        self,
        client: Client,
        tools: Toolbox | Iterable[Callable[..., Any]] = (),
        *,
        system: str | None = None,
        max_steps: int = 10,
        budget: str | float | Decimal | None = None,
        timeout: float | None = None,
        max_repeats: int = 3,
        model: str | None = None,
        protocol: Protocol = "auto",
        max_tokens: int | None = None,
        temperature: float | None = None,
        remember: bool = True,
        name: str = "agent",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if not isinstance(client, Client):
            raise ConfigError(f"an agent is made with a `Client`, not `{type(client).__name__}`")
        for field, value in (("max_steps", max_steps), ("max_repeats", max_repeats)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"`{field}` is a whole number of at least 1, not {value!r}")
        if timeout is not None and (
            isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0
        ):
            raise ConfigError(f"`timeout` is a number of seconds above 0, or None, not {timeout!r}")
        if protocol not in ("auto", "native", "text"):
            raise ConfigError(f'`protocol` is "auto", "native" or "text", not {protocol!r}')
        if system is not None and not isinstance(system, str):
            raise ConfigError(f"`system` is a text, not `{type(system).__name__}`")
        self._client = client
        self.tools = tools if isinstance(tools, Toolbox) else Toolbox(tools)
        self.name = name
        self._system = system
        self._limits = Limits(max_steps, max_repeats, timeout, _budget(budget))
        self._asked: dict[str, Any] = {
            field: value
            for field, value in (("model", model), ("max_tokens", max_tokens), ("temperature", temperature))
            if value is not None
        }
        self._protocol = protocol
        self._remember = remember
        self._clock = clock
        self._turn = threading.Lock()
        """Whose turn it is: one task at a time."""
        self._history: list[Message] = []
        self._usages: list[Usage | None] = []
        self._costs: list[Decimal | None] = []
        self._mailbox_lock = threading.Lock()
        self._mailbox: pykka.ActorRef[_Mailbox] | None = None
        self._closed = False

    def run(self, task: str, *, cancel: CancelToken | None = None) -> AgentResult:
        """Work on the task until it is finished or a limit is reached.

        Raises `ConfigError` for a task that is none; what else goes wrong is in the result.
        """
        result: AgentResult | None = None
        for event in self._events(task, cancel, streamed=False):
            if isinstance(event, Done):
                result = event.result
        assert result is not None  # noqa: S101 (`Done` is the last event of every run)
        return result

    def stream(self, task: str, *, cancel: CancelToken | None = None) -> Iterator[AgentEvent]:
        """The same, told while it happens: thoughts, tools, the answer's text as it comes, and `Done` at last.

        Leaving the loop cancels the run.
        """
        _check_task(task)
        return self._events(task, cancel, streamed=True)

    def ask(self, task: str, *, cancel: CancelToken | None = None) -> Future[AgentResult]:
        """`run` in the agent's own thread: tasks of several threads are worked on one after the other.

        A future that is cancelled before its turn is never begun; later, `cancel` ends the run.
        """
        _check_task(task)
        future: Future[AgentResult] = Future()
        with self._mailbox_lock:
            if self._closed:
                raise ConfigError("this agent is closed")
            if self._mailbox is None:
                self._mailbox = _Mailbox.start(self)
            self._mailbox.tell((future, task, cancel))
        return future

    def usage(self) -> tuple[Usage, Decimal | None]:
        """Tokens and US dollars of all its runs; the cost is None when one step's price is unknown."""
        return total_usage(list(self._usages)), total_cost(list(self._costs))

    @property
    def history(self) -> tuple[Message, ...]:
        """The conversation so far, with the calls and their results."""
        return tuple(self._history)

    def forget(self) -> None:
        """Begin the conversation anew."""
        with self._turn:
            self._history.clear()

    def close(self) -> None:
        """Take no more tasks by `ask`; those that wait are still worked on."""
        with self._mailbox_lock:
            self._closed = True
            mailbox = self._mailbox
        if mailbox is not None:
            with contextlib.suppress(pykka.ActorDeadError):
                mailbox.stop(block=True)

    def _events(self, task: str, cancel: CancelToken | None, *, streamed: bool) -> Iterator[AgentEvent]:
        _check_task(task)
        with self._turn:
            run = Run(
                self._client, self.tools, self._limits, self._protocol, dict(self._asked), streamed=streamed,
                task_id=f"{self.name}-{secrets.token_hex(6)}", clock=self._clock,
            )  # fmt: skip
            system = [Message("system", self._system)] if self._system else []
            for event in run.events([*system, *self._history], task, cancel):
                if isinstance(event, Done):
                    self._took(run, event.result)
                yield event

    def _took(self, run: Run, result: AgentResult) -> None:
        self._usages += [step.usage for step in result.steps]
        self._costs += [step.cost for step in result.steps]
        if self._remember:
            self._history = [message for message in run.conversation if message.role != "system"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Agent({self._asked.get('model') or self._client.model}, tools=[{', '.join(self.tools.names)}])"


class _Mailbox(pykka.ThreadingActor):
    """Works on what was asked, one task after the other."""

    use_daemon_thread = True  # a run that nobody waits for must not keep the program from ending

    def __init__(self, agent: Agent) -> None:
        super().__init__()
        self._agent = agent

    def on_receive(self, message: Any) -> None:  # noqa: ANN401 (as the base class has it)
        """A task and the future of its result."""
        future, task, cancel = message
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = self._agent.run(task, cancel=cancel)
        except BaseException as error:  # noqa: BLE001 (whatever it is, it is the future's)
            future.set_exception(error)
        else:
            future.set_result(result)


def _check_task(task: object) -> None:
    if not isinstance(task, str) or not task.strip():
        raise ConfigError("a task is a text that says something")


def _budget(usd: str | float | Decimal | None) -> Budget | None:
    return None if usd is None else Budget(usd=usd, per="task", name="the agent's budget")
