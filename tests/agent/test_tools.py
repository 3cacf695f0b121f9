"""Tools: what a model is told of a function, and what comes of its calls."""

from __future__ import annotations

import contextvars
import datetime as dt
import enum
import json
import threading
import time
from typing import Annotated, Any, Literal

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeys.asking import PATIENCE
from tidegate import Cancelled, CancelToken, ConfigError, Toolbox, tool
from tidegate.agent import FunctionTool, ToolOutcome, calculator, clock
from tidegate.agent.arithmetic import calculate, written
from tidegate.agent.times import moment
from tidegate.chat.tools import ToolCall
from tidegate.testing import ManualClock


class Unit(enum.Enum):
    METRE = "m"
    FOOT = "ft"


class Port(pydantic.BaseModel):
    name: str
    depth: float = 1.0


@tool
def tide(port: str, day: int = 1, unit: Unit = Unit.METRE) -> str:
    """When high tide comes to a port.

    Of any port of the North Sea.

    Args:
        port: The port's name,
            as on the chart.
        day (int): Days from today.
        unit: Of the depth.

    Returns:
        The time.
    """
    return f"{port} {day} {unit.value}"


def called(name: str, **arguments: Any) -> ToolCall:
    return ToolCall("c-1", name, json.dumps(arguments))


def run(function: Any, cancel: CancelToken | None = None, /, **arguments: Any) -> ToolOutcome:  # noqa: ANN401
    box = Toolbox([function])
    return box.run(called(box.names[0], **arguments), cancel=cancel)


# What a model is told


def test_a_function_is_told_by_its_name_docstring_and_types() -> None:
    assert tide.spec.name == "tide"
    assert tide.spec.description == "When high tide comes to a port.\n\nOf any port of the North Sea."
    parameters = tide.spec.parameters
    assert parameters["required"] == ["port"]
    assert parameters["additionalProperties"] is False
    assert parameters["properties"]["port"] == {"type": "string", "description": "The port's name, as on the chart."}
    assert parameters["properties"]["day"] == {"type": "integer", "default": 1, "description": "Days from today."}
    assert parameters["$defs"]["Unit"]["enum"] == ["m", "ft"]


def test_it_stays_the_function_that_it_is() -> None:
    assert tide("Emden", day=2) == "Emden 2 m"
    assert (tide.name, vars(tide)["__name__"]) == ("tide", "tide")
    assert tide.__doc__ is not None
    assert tool(tide) is tide


def test_other_ways_to_write_it_down() -> None:
    @tool(name="depth_of", description="How deep a port is.", strict=True)
    def depth(
        port: Annotated[Port, pydantic.Field(description="Which port.")],
        at: dt.date | None = None,
        kind: Literal["low", "high"] = "low",
        schema: int = 0,
        _private: int = 0,
    ) -> float:
        """Not this.

        :param kind: Which water.
        """
        return port.depth

    assert (depth.spec.name, depth.spec.description, depth.spec.strict) == ("depth_of", "How deep a port is.", True)
    properties = depth.spec.parameters["properties"]
    assert set(properties) == {"port", "at", "kind", "schema", "_private"}
    assert properties["port"]["description"] == "Which port."
    assert properties["kind"]["description"] == "Which water."
    outcome = run(depth, port={"name": "Emden", "depth": 9.5}, at="2026-11-24", _private=3)
    assert (outcome.text, outcome.value) == ("9.5", 9.5)


def test_a_parameter_for_cancelling_is_not_told() -> None:
    @tool
    def patient(seconds: float, cancel: CancelToken) -> str:
        return f"{seconds} {cancel.cancelled}"

    assert set(patient.spec.parameters["properties"]) == {"seconds"}
    assert run(patient, seconds=1).text == "1.0 False"


async def asynchronous(x: int) -> int:
    return x


def untyped(x):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    return x


def variadic(*x: int) -> int:
    return len(x)


def unreadable(x: "Nowhere") -> None:  # type: ignore[name-defined]  # noqa: F821, UP037
    """A type that is not there."""


def unspeakable(x: threading.Lock) -> None:
    """A type of which no schema can be made."""


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (asynchronous, "asynchronous"),
        (untyped, "has no type"),
        (variadic, "by their names"),
        (unreadable, "cannot be read"),
        (unspeakable, "cannot be told to a model"),
        (7, "a tool is a function"),
        (Port, "a tool is a function"),
    ],
)
def test_what_is_no_tool_is_refused(function: Any, words: str) -> None:  # noqa: ANN401
    with pytest.raises(ConfigError, match=words):
        tool(function)


@pytest.mark.parametrize("wrong", [{"timeout": 0}, {"timeout": True}, {"output_limit": 0}, {"approve": "yes"}], ids=str)
def test_options_that_are_none_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        tool(**wrong)(lambda: None)


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="two tools are called `tide`"):
        Toolbox([tide, tide])
    with pytest.raises(ConfigError, match="`workers`"):
        Toolbox([], workers=0)
    with pytest.raises(ConfigError, match="list of functions"):
        Toolbox("tide")  # type: ignore[arg-type]


# What comes of a call


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"port": "Emden", "day": "3"}', "Emden 3 m"),
        ("{'port': 'Emden', 'unit': 'ft',}", "Emden 1 ft"),
        ('```json\n{"port": "Emden"}\n```', "Emden 1 m"),
    ],
)
def test_arguments_are_read_as_models_write_them(arguments: str, text: str) -> None:
    outcome = Toolbox([tide]).run(ToolCall("c", "tide", arguments))
    assert (outcome.text, outcome.failed, outcome.problem) == (text, False, None)


@pytest.mark.parametrize(
    ("call", "problem", "words"),
    [
        (ToolCall("c", "tiide", "{}"), "unknown", "did you mean `tide`? there are: tide"),
        (ToolCall("c", "tide", "{}"), "arguments", "port: Field required"),
        (ToolCall("c", "tide", '{"port": "x", "daay": 1}'), "arguments", "daay: Extra inputs"),
        (ToolCall("c", "tide", '{"port": "x", "day": "soon"}'), "arguments", "day: Input should be a valid integer"),
        (ToolCall("c", "tide", '{"port": "x", "unit": "mile"}'), "arguments", "unit: Input should be 'm' or 'ft'"),
        (ToolCall("c", "tide", '["x"]'), "arguments", "not a JSON object"),
        (ToolCall("c", "tide", '{"port": '), "arguments", "not JSON that could be read"),
    ],
)
def test_a_call_that_cannot_be_made_tells_the_model_why(call: ToolCall, problem: str, words: str) -> None:
    outcome = Toolbox([tide]).run(call)
    assert (outcome.problem, outcome.failed) == (problem, True)
    assert words.replace("? ", "?").replace(" ", "") in outcome.text.replace("? ", "?").replace(" ", "").replace(
        ";", ""
    )
    assert outcome.message.failed
    assert outcome.message.tool_call_id == "c"


@pytest.mark.parametrize("error", [ZeroDivisionError("by zero"), SystemExit(3), KeyboardInterrupt(), MemoryError()])
def test_a_tool_that_raises_harms_nobody(error: BaseException) -> None:
    @tool
    def broken() -> None:
        raise error

    outcome = run(broken)
    assert (outcome.problem, outcome.error) == ("raised", error)
    assert type(error).__name__ in outcome.text
    assert "Traceback" not in outcome.text


def test_a_tool_that_hangs_is_given_up() -> None:
    gate = threading.Event()

    @tool(timeout=0.05)
    def hangs(cancel: CancelToken) -> None:
        gate.wait(PATIENCE)

    box = Toolbox([hangs, calculator])
    first, second = box.run_all([called("hangs"), called("calculator", expression="6*7")])
    assert (first.problem, second.text) == ("timeout", "42")
    assert "took longer than 0.05 s" in first.text
    gate.set()


def test_a_tool_is_told_that_nobody_waits_any_more() -> None:
    told = threading.Event()

    @tool(timeout=0.05)
    def listens(cancel: CancelToken) -> None:
        cancel.on_cancel(told.set)
        told.wait(PATIENCE)

    assert run(listens).problem == "timeout"
    assert told.wait(PATIENCE)


def test_too_many_that_hang_are_too_many() -> None:
    gate = threading.Event()

    @tool(timeout=0.001)
    def hangs() -> None:
        gate.wait(PATIENCE)

    box = Toolbox([hangs])
    problems = [outcome.problem for outcome in box.run_all([called("hangs")] * 20)]
    assert set(problems) <= {"timeout", "busy"}
    assert problems.count("timeout") >= 16
    assert box.run(called("hangs")).problem == "busy"
    gate.set()
    until = time.monotonic() + PATIENCE
    while any(thread.name == "tidegate-tool-hangs" for thread in threading.enumerate()) and time.monotonic() < until:
        time.sleep(0.001)
    assert box.run(called("hangs")).problem in (None, "timeout")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x" * 100_000_000, "x" * 50 + "\n[cut: 50 of 100,000,000 characters]"),
        (None, "(nothing)"),
        ("", "(nothing)"),
        ({"a": [1, 2.5, None]}, '{"a":[1,2.5,null]}'),
        (Port(name="Emden"), '{"name":"Emden","depth":1.0}'),
        ({1, 2} - {1}, "{2}"),
        (7, "7"),
    ],
    ids=["100 MB", "None", "nothing", "JSON", "a model", "no JSON", "a number"],
)
def test_a_result_is_told_as_text_and_never_at_any_length(value: object, text: str) -> None:
    @tool(output_limit=50)
    def gives() -> object:
        return value

    outcome = run(gives)
    assert outcome.text == text
    assert outcome.value is value


def test_calls_run_side_by_side_and_answer_in_their_order() -> None:
    meeting = threading.Barrier(3, timeout=PATIENCE)

    @tool
    def meets(number: int) -> int:
        meeting.wait()
        return number

    found = Toolbox([meets]).run_all([called("meets", number=number) for number in range(3)])
    assert [outcome.value for outcome in found] == [0, 1, 2]


def test_no_more_than_the_workers_run_at_a_time() -> None:
    lock, now, most = threading.Lock(), [0], [0]

    @tool
    def counts() -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.002)
        with lock:
            now[0] -= 1

    Toolbox([counts], workers=3).run_all([called("counts")] * 20)
    assert most[0] <= 3


def test_cancelling_ends_the_waiting() -> None:
    began, gate, cancel = threading.Event(), threading.Event(), CancelToken()

    @tool
    def hangs() -> None:
        began.set()
        gate.wait(PATIENCE)

    stopper = threading.Thread(target=lambda: (began.wait(PATIENCE), cancel.cancel()))  # type: ignore[func-returns-value]
    stopper.start()
    with pytest.raises(Cancelled):
        run(hangs, cancel)
    gate.set()
    stopper.join()


def test_a_tool_sees_the_context_of_its_caller() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")

    @tool
    def looks() -> str:
        return variable.get()

    variable.set("the caller's")
    assert run(looks).text == "the caller's"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (True, "done"),
        (False, "`asks` was not called, for it was not allowed"),
        ("not on Sundays", "`asks` was not called, for it was not allowed: not on Sundays"),
        (None, "`asks` was not called, for it was not allowed"),
        (ValueError("?"), "`asks` was not called: nobody could be asked whether it may be"),
    ],
)
def test_somebody_may_be_asked_before_each_call(answer: Any, text: str) -> None:  # noqa: ANN401
    asked: list[Any] = []

    def approve(call: ToolCall, arguments: Any) -> Any:  # noqa: ANN401
        asked.append((call.name, dict(arguments)))
        if isinstance(answer, Exception):
            raise answer
        return answer

    @tool(approve=approve)
    def asks(x: int) -> str:
        return "done"

    outcome = run(asks, x=3)
    assert outcome.text == text
    assert outcome.problem == (None if answer is True else "refused")
    assert asked == [("asks", {"x": 3})]


# Arithmetic


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("25 * 4 + 10", "110"),
        ("0.1 + 0.2", "0.3"),
        ("2 ** 10", "1024"),
        ("2^10", "1024"),
        ("-(3 - 1) ** 2 / 8", "-0.5"),
        ("7 // 2 + 7 % 4", "6"),
        ("3 × 4 ÷ 2 − 1", "5"),  # noqa: RUF001
        ("sqrt(16) + max(1, 2, 3)", "7"),
        ("round(2.567, 1)", "2.6"),
        ("sin(pi / 2)", "1"),
        ("10 / 4", "2.5"),
        ("2 ** 100", "1267650600228229401496703205376"),
        (" 1 ", "1"),
    ],
)
def test_arithmetic_is_done(expression: str, value: str) -> None:
    assert written(calculate(expression)) == value
    assert calculator(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        "9**9**9", "2**99999", "10**10**10", "(-8) ** 0.5", "1/0", "0 ** -1", "sqrt(-1)", "exp(9999)", "1e308 * 10",
        "__import__('os').system('true')", "().__class__", "open('x')", "'a' * 9", "True + 1", "[1][0]", "lambda: 1",
        "x", "abs", "sqrt(1, 2)", "sqrt(x=1)", "max(*[1, 2])", "1 if 1 else 2", "1 < 2", "1 << 9999", "1 and 2", "~1",
        "", "1 +", "1" * 2_000, "(" * 500 + "1" + ")" * 500, "-" * 900 + "1", "round(5, -999999999)", "1j", "1; 2",
        "round(1.5, 1.5)", "9" * 999 + "**9",
    ],
)  # fmt: skip
def test_X9_nothing_but_arithmetic_is_done(expression: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        calculate(expression)
    assert run(calculator, expression=expression).problem == "raised"


@given(st.text(max_size=40) | st.from_regex(r"[0-9()+*/%. -]{0,30}", fullmatch=True))
def test_X9_any_text_is_a_number_or_a_value_error(text: str) -> None:
    try:
        value = calculate(text)
    except ValueError:
        return
    assert isinstance(value, int | float)


# The time


def test_the_time_is_told_where_one_asks() -> None:
    now = ManualClock(time=1_700_000_000)
    assert moment("UTC", now) == "2023-11-14T22:13:20+00:00 (Tuesday)"
    assert moment("Europe/Berlin", now) == "2023-11-14T23:13:20+01:00 (Tuesday)"
    assert run(clock, timezone="Moon/Tranquility").text.endswith("write one such as `Europe/Berlin` or `UTC`")
    assert isinstance(clock, FunctionTool)
    assert run(clock).problem is None
