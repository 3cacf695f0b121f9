"""Agents at work: against llmock's tools and faults, and against a scripted model that writes what it does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from journeys.asking import KEY, PATIENCE
from support.fault_server import FaultServer, Gate, RecordedRequest, Step, error, json_reply, sse
from support.llmock import LLMock
from support.openai_wire import chunk, completion, stream_events
from tidegate import (
    Agent,
    AuthenticationFailed,
    CancelToken,
    Client,
    ConfigError,
    ParseError,
    Price,
    Retry,
    Toolbox,
    Usage,
    tool,
)
from tidegate.agent import (
    AgentResult,
    AnswerText,
    AnswerWithdrawn,
    Done,
    StepFinished,
    ThoughtText,
    ToolFinished,
    ToolStarted,
    calculator,
    clock,
)
from tidegate.agent.history import trimmed
from tidegate.chat.messages import Message
from tidegate.chat.tools import ToolCall

HOSTS = ["openai", "anthropic", "cohere", "gemini"]


@pytest.fixture(scope="module")
def running_mock() -> Iterator[LLMock]:
    with LLMock() as running:
        yield running


@pytest.fixture
def mock(running_mock: LLMock) -> LLMock:
    running_mock.reset()
    return running_mock


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


def client_of(mock: LLMock, host: str = "openai", **options: Any) -> Client:
    again = Retry(attempts=3, first=0.01, longest=0.05, budget=False)
    return Client(f"{host}/m", **{"base_url": mock.base_url(host), "api_key": KEY, "retry": again, **options})


def scripted(server: FaultServer, *answers: Any, **options: Any) -> Client:
    """A model that says this, one after the other, and the last again and again."""
    said = list(answers)

    def answer(request: RecordedRequest) -> Step:
        body = said.pop(0) if len(said) > 1 else said[0]
        body = completion(body) if isinstance(body, str) else body
        if not request.json.get("stream"):
            return json_reply(body)
        message = body["choices"][0]["message"]
        calls = [{**call, "index": index} for index, call in enumerate(message.get("tool_calls") or ())]
        return sse(
            [
                *(chunk(word) for word in (message["content"] or "").split(" ")),
                *(chunk(tool_call=call) for call in calls),
                *stream_events([], finish=body["choices"][0]["finish_reason"]),
            ]
        )

    server.on(answer)
    return Client(
        "openai/m", **{"base_url": server.base_url, "api_key": KEY, "retry": None, "breaker": None, **options}
    )


def calling(*calls: tuple[str, dict[str, Any]], text: str | None = None) -> Any:  # noqa: ANN401
    """An answer that calls tools."""
    made = [
        {"id": f"c-{index}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for index, (name, arguments) in enumerate(calls)
    ]
    return completion(text, finish_reason="tool_calls", tool_calls=made)


SUM = ("calculator", {"expression": "25 * 4 + 10"})


# Tasks that are finished


@pytest.mark.parametrize("host", HOSTS)
def test_a_task_is_finished_with_tools_by_any_provider(mock: LLMock, host: str) -> None:
    wishes = [{"name": "calculator", "arguments": SUM[1]}, {"name": "clock", "arguments": {"timezone": "UTC"}}]
    mock.queue({"type": "reply", "tool_calls": wishes}, {"type": "reply", "text": "It is 110."})
    with client_of(mock, host) as client:
        result = Agent(client, [calculator, clock], system="Be exact.").run("What is 25 * 4 + 10, and when?")
    assert (result.answer, result.stopped, result.unwrap()) == ("It is 110.", "answered", "It is 110.")
    first, second = result.steps
    assert [outcome.call.name for outcome in first.outcomes] == ["calculator", "clock"]
    assert first.outcomes[0].text == "110"
    assert second.outcomes == ()
    assert result.usage.output_tokens > 0
    mock.judge(calls=2, attempts=2)


@pytest.mark.parametrize("fault", ["malformed_arguments", "unknown_tool"])
@pytest.mark.parametrize("host", HOSTS)
def test_X9_a_broken_wish_is_told_to_the_model_and_survived(mock: LLMock, host: str, fault: str) -> None:
    mock.queue(
        {"type": "reply", "tool_calls": [{"name": "calculator", "arguments": SUM[1]}]},
        {"type": "tool_fault", "kind": fault},
        {"type": "reply", "tool_calls": [{"name": "calculator", "arguments": SUM[1]}]},
        {"type": "reply", "text": "110"},
    )
    with client_of(mock, host) as client:
        result = Agent(client, [calculator]).run("25 * 4 + 10?")
    assert result.answer == "110"
    assert result.steps[0].outcomes[0].problem == ("unknown" if fault == "unknown_tool" else "arguments")
    assert result.steps[1].outcomes[0].text == "110"
    mock.judge(calls=3, attempts=3)


def test_a_step_that_fails_is_retried_like_any_call(mock: LLMock) -> None:
    mock.queue(
        {"type": "fail", "status": 503, "retry_after": 0.01},
        {"type": "reply", "tool_calls": [{"name": "calculator", "arguments": SUM[1]}]},
        {"type": "reply", "text": "110"},
    )
    with client_of(mock) as client:
        assert Agent(client, [calculator]).run("25 * 4 + 10?").answer == "110"
    mock.judge(calls=2, attempts=3)


def test_without_tools_it_simply_answers(server: FaultServer) -> None:
    with scripted(server, "Twice a day.") as client:
        result = Agent(client).run("How often?")
    assert (result.answer, len(result.steps)) == ("Twice a day.", 1)
    assert "tools" not in server.requests[0].json


# Told while it happens


def test_a_run_is_told_while_it_happens(server: FaultServer) -> None:
    with scripted(server, calling(SUM, text="I calculate."), "It is 110.") as client:
        events = list(Agent(client, [calculator]).stream("25 * 4 + 10?"))
    kinds = [type(event) for event in events if not isinstance(event, AnswerText)]
    assert kinds == [AnswerWithdrawn, ToolStarted, ToolFinished, StepFinished, StepFinished, Done]
    withdrawn = next(event for event in events if isinstance(event, AnswerWithdrawn))
    assert withdrawn.text == "Icalculate."
    assert "".join(event.text for event in events if isinstance(event, AnswerText) and event.step == 2) == "Itis110."
    (started,) = [event for event in events if isinstance(event, ToolStarted)]
    assert dict(started.arguments) == SUM[1]


def test_leaving_the_loop_ends_the_run(server: FaultServer) -> None:
    gate = threading.Event()
    server.always(sse([chunk("Half "), Gate(gate)]))
    with Client("openai/m", base_url=server.base_url, api_key=KEY, retry=None) as client:
        agent = Agent(client)
        events = agent.stream("Tell me")
        assert isinstance(next(events), AnswerText)
        events.close()  # type: ignore[attr-defined]
        gate.set()
        server.always(sse(stream_events(["Whole."])))
        assert [event.text for event in agent.stream("Again") if isinstance(event, AnswerText)] == ["Whole."]


# Limits


def test_X9_steps_are_limited(server: FaultServer) -> None:
    answers = [calling(("calculator", {"expression": f"{number} + 1"}), text=f"Step {number}") for number in range(9)]
    with scripted(server, *answers) as client:
        result = Agent(client, [calculator], max_steps=3).run("Count")
    assert (result.stopped, len(result.steps), result.answer) == ("max_steps", 3, "Step 2")
    assert len(server.requests) == 3
    with pytest.raises(ParseError, match="max_steps"):
        result.unwrap()


def test_X9_the_same_call_again_and_again_is_noticed(server: FaultServer) -> None:
    with scripted(server, calling(SUM)) as client:
        result = Agent(client, [calculator], max_repeats=3).run("Count")
    assert (result.stopped, len(result.steps)) == ("repeated", 3)


def test_X9_the_cost_is_limited_before_it_is_spent(server: FaultServer, tmp_path: Path) -> None:
    prices = {"openai/m": Price(input=1_000, output=1_000)}  # 12 tokens a step as scripted: 1.2 cents
    ledger = f"sqlite:///{tmp_path}/usage.db"
    with scripted(server, calling(SUM), prices=prices, ledger=ledger) as client:
        agent = Agent(client, [calculator], budget="0.60", max_tokens=10, max_repeats=99, max_steps=99)
        result = agent.run("Count")
        usage, cost = agent.usage()
        rows = list(client.ledger.records(days=1))
    assert result.stopped == "budget"
    assert 1 <= len(result.steps) < 99
    assert result.cost is not None
    assert result.cost <= Decimal("0.60")
    assert (usage, cost) == (result.usage, result.cost)
    assert len(server.requests) == len(result.steps)
    assert {row.task for row in rows} == {result.task_id}
    assert sum(row.cost or 0 for row in rows) == result.cost


def test_a_budget_that_could_not_be_kept_is_refused(server: FaultServer) -> None:
    with scripted(server, "Hi", ledger=None) as client, pytest.raises(ConfigError, match="keeps no budgets"):
        Agent(client, budget="0.10").run("Hi")
    assert server.requests == []


def test_X9_the_time_is_limited(server: FaultServer) -> None:
    gate = threading.Event()

    @tool(timeout=None)
    def hangs() -> None:
        gate.wait(PATIENCE)

    with scripted(server, calling(("hangs", {}))) as client:
        result = Agent(client, [hangs], timeout=0.3).run("Wait")
    gate.set()
    assert result.stopped == "timeout"
    assert result.steps[0].outcomes[0].problem == "timeout"
    assert result.seconds < PATIENCE


def test_a_cancelled_run_ends_its_waiting(server: FaultServer) -> None:
    began, gate, cancel = threading.Event(), threading.Event(), CancelToken()

    @tool
    def hangs() -> None:
        began.set()
        gate.wait(PATIENCE)

    def stop() -> None:
        began.wait(PATIENCE)
        cancel.cancel()

    stopper = threading.Thread(target=stop)
    stopper.start()
    with scripted(server, calling(("hangs", {}))) as client:
        agent = Agent(client, [hangs])
        result = agent.run("Wait", cancel=cancel)
    stopper.join()
    gate.set()
    assert result.stopped == "cancelled"
    assert result.steps[0].outcomes[0].problem == "cancelled"
    assert [message.role for message in agent.history] == ["user", "assistant", "tool"]  # no call without a result


@pytest.mark.parametrize(
    ("answer", "stopped"), [("", "empty"), (completion("x", finish_reason="content_filter"), "filtered")]
)
def test_X9_answers_that_are_none_end_the_run(server: FaultServer, answer: Any, stopped: str) -> None:  # noqa: ANN401
    with scripted(server, answer) as client:
        result = Agent(client, [calculator]).run("Hi")
    assert result.stopped == stopped
    assert len(server.requests) == (3 if stopped == "empty" else 1)


def test_an_empty_answer_is_asked_for_once_more(server: FaultServer) -> None:
    with scripted(server, "", "Here it is.") as client:
        result = Agent(client).run("Hi")
    assert result.answer == "Here it is."
    assert result.steps[0].note is not None


def test_a_model_that_cannot_be_asked_is_in_the_result(server: FaultServer) -> None:
    with scripted(server, calling(SUM)) as client:
        agent = Agent(client, [calculator])
        server.script(json_reply(calling(SUM)), error(401))
        result = agent.run("Hi")
    assert (result.stopped, len(result.steps)) == ("failed", 1)
    with pytest.raises(AuthenticationFailed):
        result.unwrap()


def test_X9_tools_that_misbehave_harm_nobody(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    @tool
    def misbehaves(how: str) -> str:
        if how == "raise":
            raise SystemExit(how)
        print("noise")  # noqa: T201 (that is what it does wrong)
        return "x" * 100_000_000

    answers = [calling(("misbehaves", {"how": how})) for how in ("raise", "print")]
    with scripted(server, *answers, "Done.") as client:
        result = Agent(client, [misbehaves]).run("Try")
    assert result.answer == "Done."
    assert [step.outcomes[0].problem for step in result.steps[:2]] == ["raised", None]
    assert all(len(request.body) < 100_000 for request in server.requests)
    assert capsys.readouterr().out == "noise\n"


# One conversation, several threads


def test_it_remembers_and_forgets(server: FaultServer) -> None:
    with scripted(server, "I am Ada.", "Ada.", "Who?") as client:
        agent = Agent(client)
        agent.run("Who are you?")
        agent.run("Your name?")
        agent.forget()
        agent.run("And now?")
    said = [[message["content"] for message in request.json["messages"]] for request in server.requests]
    assert said == [["Who are you?"], ["Who are you?", "I am Ada.", "Your name?"], ["And now?"]]


def test_several_threads_may_ask_and_take_turns(server: FaultServer) -> None:
    with scripted(server, "Yes.") as client, Agent(client, remember=False) as agent:
        futures = [agent.ask(f"Question {number}") for number in range(10)]
        results: list[AgentResult] = [future.result(PATIENCE) for future in futures]
    assert [result.answer for result in results] == ["Yes."] * 10
    assert len({result.task_id for result in results}) == 10
    assert [request.json["messages"][-1]["content"] for request in server.requests] == [
        f"Question {number}" for number in range(10)
    ]
    with pytest.raises(ConfigError, match="closed"):
        agent.ask("One more")


def test_a_history_that_is_too_long_is_trimmed_and_no_result_is_orphaned() -> None:
    turns = [Message("system", "Be brief."), Message("user", "old " * 50), Message("assistant", "older " * 50)]
    turns.append(Message("user", "The task"))
    for number in range(10):
        call = ToolCall(f"c-{number}", "t")
        turns += [Message("assistant", "", (call,)), Message("tool", "word " * 100, tool_call_id=call.id)]
    kept = trimmed(turns, 500, lambda messages: sum(len(m.text) // 4 + 4 for m in messages), 3)
    assert [message.text for message in kept[:2]] == ["Be brief.", "The task"]
    rest = kept[2:]
    assert 0 < len(rest) < 20
    assert rest[-1] is turns[-1]
    for asked, answered in zip(rest[::2], rest[1::2], strict=True):
        assert asked.tool_calls[0].id == answered.tool_call_id


def test_a_conversation_that_the_provider_finds_too_long_is_made_smaller(server: FaultServer) -> None:
    answers = [calling(("calculator", {"expression": f"{number} + 1"})) for number in range(6)]
    too_long = json_reply({"error": {"code": "context_length_exceeded", "message": "Too long"}}, 400)
    with scripted(server, "Done.") as client:
        server.script(*(json_reply(answer) for answer in answers), too_long)
        result = Agent(client, [calculator]).run("Count " * 20)

    assert result.answer == "Done."
    sizes = [len(request.json["messages"]) for request in server.requests]
    assert sizes[-1] < sizes[-2]
    roles = [message["role"] for message in server.requests[-1].json["messages"]]
    assert roles[0] == "user"
    assert roles[1:3] == ["assistant", "tool"]


# Models without tools


ACTIONS = {
    "JSON": '{"thought": "I calculate.", "action": "calculator", "input": {"expression": "25 * 4 + 10"}}',
    "fenced": 'I calculate.\n```json\n{"action": "calculator", "action_input": {"expression": "25 * 4 + 10"}}\n```',
    "XML": '<thought>I calculate.</thought><action>calculator</action><input>{"expression": "25 * 4 + 10"}</input>',
    "Python": "{'thought': 'I calculate.', 'action': 'calculator', 'input': {'expression': '25 * 4 + 10'}}",
    "ReAct": 'Thought: I calculate.\nAction: calculator\nAction Input: {"expression": "25 * 4 + 10"}',
}
ANSWERS = {
    "JSON": '{"thought": "I know.", "action": "final_answer", "input": "It is 110."}',
    "fenced": '```json\n{"action": "Final Answer", "action_input": "It is 110."}\n```',
    "XML": "<thought>I know.</thought><final_answer>It is 110.</final_answer>",
    "Python": "{'thought': 'I know.', 'action': 'final_answer', 'input': 'It is 110.'}",
    "ReAct": "Thought: I know.\nFinal Answer: It is 110.",
}


@pytest.mark.parametrize("form", ACTIONS)
def test_a_model_that_only_writes_is_understood_in_five_formats(server: FaultServer, form: str) -> None:
    with scripted(server, ACTIONS[form], ANSWERS[form]) as client:
        result = Agent(client, [calculator], protocol="text").run("25 * 4 + 10?")
    assert (result.answer, result.stopped) == ("It is 110.", "answered")
    assert result.steps[0].outcomes[0].text == "110"
    first, second = server.requests
    assert "tools" not in first.json
    assert "calculator" in first.json["messages"][0]["content"]
    assert "110" in second.json["messages"][-1]["content"]


def test_what_cannot_be_read_is_asked_for_again_and_not_for_ever(server: FaultServer) -> None:
    with scripted(server, "Hm, let me see…", ACTIONS["JSON"], ANSWERS["ReAct"]) as client:
        result = Agent(client, [calculator], protocol="text").run("25 * 4 + 10?")
    assert (result.answer, len(result.steps)) == ("It is 110.", 3)
    with scripted(server, "I have no idea what you want of me") as client:
        result = Agent(client, [calculator], protocol="text").run("25 * 4 + 10?")
    assert (result.stopped, result.answer) == ("unreadable", "I have no idea what you want of me")


@pytest.mark.slow
def test_the_embedded_model_is_asked_in_words_and_ends_within_its_limits() -> None:
    with Client("local/smollm2-135m-instruct", timeout=PATIENCE) as client:
        agent = Agent(client, [calculator], max_steps=2, max_tokens=40, temperature=0)
        assert "smollm2" in repr(agent)
        events = list(agent.stream("What is 25 * 4 + 10?"))
    done = events[-1]
    assert isinstance(done, Done)
    assert 1 <= len(done.result.steps) <= 2
    assert done.result.stopped in ("answered", "max_steps", "unreadable")
    assert all(step.usage is not None for step in done.result.steps)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_steps": 0}, "max_steps"),
        ({"max_repeats": True}, "max_repeats"),
        ({"timeout": -1}, "timeout"),
        ({"protocol": "telepathy"}, "protocol"),
        ({"system": 3}, "system"),
        ({"budget": "much"}, "usd"),
        ({"tools": [7]}, "a tool is a function"),
    ],
)
def test_bad_input_is_named(server: FaultServer, options: dict[str, Any], words: str) -> None:
    with scripted(server, "Hi") as client, pytest.raises(ConfigError, match=words):
        Agent(client, **options)
    with pytest.raises(ConfigError, match="made with a `Client`"):
        Agent("openai/gpt-4o")  # type: ignore[arg-type]


@pytest.mark.parametrize("task", ["", "  ", None, 7, ["a"]])
def test_a_task_that_is_none_is_named(server: FaultServer, task: Any) -> None:  # noqa: ANN401
    with scripted(server, "Hi") as client:
        agent = Agent(client, Toolbox([calculator]))
        for ask in (agent.run, agent.ask, agent.stream):
            with pytest.raises(ConfigError, match="a task is a text"):
                ask(task)
    assert server.requests == []


def test_thoughts_and_usage_are_in_the_steps(server: FaultServer) -> None:
    with scripted(server, ACTIONS["JSON"], ANSWERS["JSON"]) as client:
        agent = Agent(client, [calculator], protocol="text")
        events = list(agent.stream("25 * 4 + 10?"))
    assert [event.text for event in events if isinstance(event, ThoughtText)] == ["I calculate.", "I know."]
    done = events[-1]
    assert isinstance(done, Done)
    assert [step.thought for step in done.result.steps] == ["I calculate.", "I know."]
    assert agent.usage()[0] == Usage(10, 14)
