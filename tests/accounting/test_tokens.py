"""Counts of texts and requests: published figures, honest estimates, and never a failed call."""

from __future__ import annotations

import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.accounting import encoders, tokens
from tidegate.accounting.tokens import TokenCount, TokenCounter, count_tokens
from tidegate.chat.messages import Image, Message, Text
from tidegate.chat.request import ChatRequest
from tidegate.chat.tools import Tool, ToolCall
from tidegate.errors import ConfigError

MODEL = "gpt-4o-mini"

# The examples of OpenAI's cookbook, with the figures that its API gave for them.
JARGON = [
    {
        "role": "system",
        "content": "You are a helpful, pattern-following assistant that translates corporate jargon into "
        "plain English.",
    },
    {"role": "system", "name": "example_user", "content": "New synergies will help drive top-line growth."},
    {
        "role": "system",
        "name": "example_assistant",
        "content": "Things working well together will increase revenue.",
    },
    {
        "role": "system",
        "name": "example_user",
        "content": "Let's circle back when we have more bandwidth to touch base on opportunities for increased "
        "leverage.",
    },
    {
        "role": "system",
        "name": "example_assistant",
        "content": "Let's talk later when we're less busy about how to do better.",
    },
    {
        "role": "user",
        "content": "This late pivot means we don't have time to boil the ocean for the client deliverable.",
    },
]
WEATHER_QUESTION = [
    {"role": "system", "content": "You are a helpful assistant that can answer to questions about the weather."},
    {"role": "user", "content": "What's the weather like in San Francisco?"},
]
WEATHER: dict[str, Any] = {
    "name": "get_current_weather",
    "description": "Get the current weather in a given location",
    "parameters": {
        "type": "object",
        "properties": {
            "location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"},
            "unit": {
                "type": "string",
                "description": "The unit of temperature to return",
                "enum": ["celsius", "fahrenheit"],
            },
        },
        "required": ["location"],
    },
}


def _request(prompt: Any = "What is a tide gate?", **options: Any) -> ChatRequest:  # noqa: ANN401 (any prompt)
    return ChatRequest.build(prompt, **options)


@pytest.mark.parametrize(
    ("model", "expected"),
    [("gpt-3.5-turbo", 129), ("gpt-4", 129), ("openai/gpt-4o", 124), ("openrouter/openai/gpt-4o-mini", 124)],
)
def test_messages_count_as_openais_api_counted_them(model: str, expected: int) -> None:
    assert count_tokens(JARGON, model) == expected


@pytest.mark.parametrize(("model", "expected"), [("gpt-3.5-turbo", 105), ("gpt-4", 105), ("gpt-4o", 101)])
def test_tools_count_as_openais_api_counted_them(model: str, expected: int) -> None:
    assert count_tokens(WEATHER_QUESTION, model, tools=[WEATHER]) == expected
    count = TokenCounter().count(_request(WEATHER_QUESTION, tools=[WEATHER]), "openai", model)
    assert count.exact
    assert expected < count.highest < 1.5 * expected


def test_a_text_is_its_tokens_alone() -> None:
    assert count_tokens("hello world", MODEL) == 2
    assert count_tokens("", MODEL) == 0
    assert count_tokens({"role": "user", "content": "hello world"}, MODEL) == 2 + 4 + 3
    assert count_tokens(Message("user", "hello world"), MODEL) == 2 + 4 + 3


def test_parts_names_and_pictures_are_added() -> None:
    low = Image("https://example.org/a.png", "low")
    plain = TokenCounter().count(_request([Message("user", "hello world")]), "openai", MODEL)
    parts = TokenCounter().count(_request([Message("user", (Text("hello world"), low))]), "openai", MODEL)
    named = TokenCounter().count(_request([Message("user", "hello world", name="ann")]), "openai", MODEL)
    assert parts.tokens == plain.tokens + 2_833
    assert named.tokens == plain.tokens + 2
    assert plain.exact
    assert parts.exact
    assert named.exact


def test_one_tool_call_counts_as_was_reported() -> None:
    """Forty tokens on gpt-3.5-turbo, for a question, a call and its result; it is an estimate all the same."""
    conversation = [
        Message("user", "How much is 2 plus 2?"),
        Message("assistant", tool_calls=(ToolCall("a", "calculator", '{"a":2, "b":2}'),)),
        Message("tool", "4", tool_call_id="a"),
    ]
    count = TokenCounter().count(_request(conversation), "openai", "gpt-3.5-turbo")
    assert count.tokens == 40
    assert not count.exact


@pytest.mark.parametrize(
    "properties",
    [
        {"a": {"type": "object", "properties": {"b": {"type": "string"}}}},
        {"a": {"type": "array", "items": {"type": "string"}}},
        {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}},
        {"a": True},
        {"a": {"type": "string", "title": "A"}},
    ],
)
def test_what_the_rules_do_not_cover_is_an_estimate(properties: dict[str, Any]) -> None:
    """More than without it, and with room above."""
    tool = Tool("look_up", "Look it up", {"type": "object", "properties": properties})
    bare = TokenCounter().count(_request(tools=[Tool("look_up", "Look it up")]), "openai", MODEL)
    count = TokenCounter().count(_request(tools=[tool]), "openai", MODEL)
    assert bare.exact
    assert not count.exact
    assert bare.tokens < count.tokens < count.highest


def test_a_schema_for_the_answer_is_counted() -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    assert count_tokens("Who?", MODEL, schema=schema) > count_tokens([Message("user", "Who?")], MODEL) + 10


_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80).filter(str.strip)
_MODELS = st.sampled_from(["openai/gpt-4o", "openai/gpt-4", "openai/gpt-5", "anthropic/claude-x", "local/smollm2"])


@given(st.lists(_TEXTS, min_size=1, max_size=5), _MODELS)
def test_a_request_is_at_least_the_sum_of_its_parts(texts: list[str], model: str) -> None:
    """And a bound is never below what is likely."""
    conversation = [Message("user", text) for text in texts]
    assert count_tokens(conversation, model) >= sum(count_tokens(text, model) for text in texts) - len(texts)
    provider, _, name = model.partition("/")
    count = TokenCounter().count(_request(conversation), provider, name)
    assert count.tokens == count_tokens(conversation, model)
    assert count.highest > count.tokens


@pytest.mark.parametrize(
    ("provider", "model", "text", "request_"),
    [
        ("openai", "gpt-4o", True, True),
        ("compatible", "openai/gpt-4.1", True, True),
        ("azure", "gpt-35-turbo", True, True),
        ("openai", "o3", True, False),  # how its messages are added up is not published
        ("openai", "gpt-5", True, False),
        ("groq", "openai/gpt-oss-20b", True, False),
        ("anthropic", "claude-haiku-4-5", False, False),
        ("gemini", "gemini-2.5-flash", False, False),
        ("local", "smollm2-135m-instruct", False, False),
        ("openai", "text-davinci-003", False, False),
        ("azure", "my-deployment", False, False),
    ],
)
def test_an_estimate_says_that_it_is_one(provider: str, model: str, text: bool, request_: bool) -> None:  # noqa: FBT001
    counter = TokenCounter()
    assert counter.count_text("some text", provider, model).exact is text
    assert counter.count(_request(), provider, model).exact is request_


def test_an_empty_answer_has_no_tokens() -> None:
    for provider, model in (("openai", "gpt-4o"), ("anthropic", "claude-x")):
        count = TokenCounter().count_text("", provider, model)
        assert (count.tokens, count.highest) == (0, 0)


# Learning


def _teach(counter: TokenCounter, *, slope: float, intercept: float, provider: str = "anthropic") -> None:
    for size in (3, 10, 30, 100, 300, 1_000) * 6:
        counted = counter.count(_request("tide " * size), provider, "claude-x")
        counter.learn(provider, "claude-x", counted, round(slope * counted.unlearned + intercept))


def test_later_counts_use_what_was_learned() -> None:
    """Of that provider's model alone."""
    counter, request = TokenCounter(), _request("gate " * 400)
    before = counter.count(request, "anthropic", "claude-x")
    _teach(counter, slope=1.7, intercept=30)
    after = counter.count(request, "anthropic", "claude-x")
    assert after.unlearned == before.unlearned
    assert after.tokens == pytest.approx(1.7 * after.unlearned + 30, rel=0.03)
    assert after.highest < before.highest
    assert not after.exact
    assert counter.count(request, "other", "claude-x") == before
    text = counter.count_text("gate " * 400, "anthropic", "claude-x")
    assert text.tokens == pytest.approx(1.7 * text.unlearned, rel=0.03)


def test_a_figure_that_comes_late_teaches_the_same() -> None:
    """A thousand requests that were counted before anything was learned do not add up to a thousand corrections."""
    counter, request = TokenCounter(), _request("gate " * 400)
    early = counter.count(request, "anthropic", "claude-x")
    for _ in range(1_000):
        counter.learn("anthropic", "claude-x", early, 2 * early.unlearned)
    assert counter.count(request, "anthropic", "claude-x").tokens == pytest.approx(2 * early.unlearned, rel=0.03)


def test_a_plain_number_is_what_is_said_now() -> None:
    counter, request = TokenCounter(), _request("gate " * 400)
    for _ in range(100):
        said = counter.count(request, "anthropic", "claude-x")
        counter.learn("anthropic", "claude-x", said.tokens, 700)
    assert counter.count(request, "anthropic", "claude-x").tokens == pytest.approx(700, rel=0.03)


def test_an_exact_count_is_not_changed_by_figures() -> None:
    counter = TokenCounter()
    before = counter.count(_request(), "openai", "gpt-4o")
    for _ in range(50):
        counter.learn("openai", "gpt-4o", before, 5_000)
    assert counter.count(_request(), "openai", "gpt-4o") == before


def test_threads_count_and_learn_at_once() -> None:
    counter, request = TokenCounter(), _request("gate " * 100)
    plain = counter.count(request, "anthropic", "claude-x").unlearned

    def work(_: int) -> None:
        for _ in range(50):
            counter.learn("anthropic", "claude-x", counter.count(request, "anthropic", "claude-x"), 3 * plain)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert counter.count(request, "anthropic", "claude-x").tokens == pytest.approx(3 * plain, rel=0.05)


def test_models_are_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MODELS", 8)
    counter = TokenCounter()
    for number in range(50):
        counter.count(_request(), "other", f"model-{number}")
    assert len(counter._profiles) == 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_goes_on_with_what_was_learned() -> None:
    """Also when a thread of the parent was just learning."""
    counter, request = TokenCounter(), _request("gate " * 400)
    _teach(counter, slope=1.7, intercept=30)
    known = counter.count(request, "anthropic", "claude-x")
    with counter._lock:
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            same = counter.count(request, "anthropic", "claude-x") == known
            counter.learn("anthropic", "claude-x", known, 100)
            counter.count(request, "new", "model")
            os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# Nothing fails, nothing hangs


@pytest.mark.parametrize("unit", [" ", "a", "的", "😀", "\ud800", "x y "])
def test_a_huge_text_is_sampled(unit: str) -> None:
    """No more characters are encoded than stated, and the count says that it is an estimate."""
    text = unit * (1_000_000 // len(unit))
    whole = count_tokens(text, "gpt-4o")
    encoded = 0
    encoder = encoders.encoder("o200k_base")
    assert encoder is not None

    def encode(part: str) -> list[int]:
        nonlocal encoded
        encoded += len(part)
        return really(part)

    really, encoder._encode = encoder._encode, encode
    encoder._known.clear()
    try:
        count = TokenCounter().count(_request([Message("user", "x"), Message("user", text)]), "openai", "gpt-4o")
    finally:
        encoder._encode = really
        encoder._known.clear()
    assert encoded <= tokens.MOST + 50
    assert not count.exact
    assert count.tokens == pytest.approx(whole, rel=0.05)
    assert count.highest > whole


def test_many_long_messages_are_bounded_together() -> None:
    """The limit is the request's; what was counted before is free."""
    texts = ["The tide comes in. " * 5_000 + str(number) for number in range(12)]
    counter = TokenCounter()
    conversation = [Message("user", text) for text in texts]
    assert not counter.count(_request(conversation), "openai", "gpt-4o").exact
    whole = sum(count_tokens(text, "gpt-4o") for text in texts)
    again = counter.count(_request(conversation), "openai", "gpt-4o")
    assert again.exact
    assert again.tokens == whole + 12 * 4 + 3


def test_a_broken_tokenizer_never_fails_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The length says how much it is, about."""

    def broken(*_: object) -> NoReturn:
        raise RuntimeError("it broke")

    monkeypatch.setattr(encoders.Encoder, "count", broken)
    counter = TokenCounter()
    for count in (
        counter.count(_request("tide " * 400), "openai", "gpt-4o"),
        counter.count_text("tide " * 400, "x", "y"),
    ):
        assert 400 < count.tokens < 800
        assert count.highest > 2 * count.tokens
        assert not count.exact


def test_without_a_tokenizer_counts_are_by_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken install of tiktoken fails nothing, and what is learned then helps."""
    monkeypatch.setattr(encoders, "_encoders", {})
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    counter, request = TokenCounter(), _request("tide " * 400)
    count = counter.count(request, "openai", "gpt-4o")
    assert 400 < count.tokens < 800
    assert not count.exact
    for _ in range(30):
        counter.learn("openai", "gpt-4o", count, 408)
    assert counter.count(request, "openai", "gpt-4o").tokens == pytest.approx(408, rel=0.05)


class _Odd:
    def __str__(self) -> str:
        raise RuntimeError("not even a text")


@pytest.mark.parametrize(
    "parameters",
    [{"properties": {"a": {"description": _Odd()}}}, {"properties": 5}, {"properties": {"a": {"enum": 5}}}],
)
def test_odd_tools_never_fail_a_call(parameters: dict[str, Any]) -> None:
    request = _request(tools=[Tool("odd", "", parameters)])
    assert TokenCounter().count(request, "openai", "gpt-4o").tokens > 0


def test_a_deep_schema_never_fails_a_call() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(100_000):
        schema = {"type": "object", "properties": {"a": schema}}
    count = TokenCounter().count(_request(tools=[Tool("deep", "", schema)]), "openai", "gpt-4o")
    assert not count.exact
    while schema:  # taken apart from outside: to free it whole would overflow the interpreter's stack
        schema = schema.pop("properties", {}).pop("a", {})


@pytest.mark.parametrize(
    "prompt", [None, 5, b"text", [], [5], [{"role": "wizard", "content": "x"}], [{"content": "x"}], {}, "not a model"]
)
def test_bad_input_is_a_config_error(prompt: Any) -> None:  # noqa: ANN401 (anything)
    with pytest.raises(ConfigError):
        count_tokens(prompt, MODEL if prompt != "not a model" else "")


@pytest.mark.parametrize("model", [None, 5, "", "  ", b"gpt-4o"])
def test_a_model_is_a_name(model: Any) -> None:  # noqa: ANN401 (anything)
    with pytest.raises(ConfigError, match="model"):
        count_tokens("x", model)


def test_tools_that_cannot_be_counted_are_a_config_error() -> None:
    odd = cast("dict[str, Any]", {"name": "odd", "parameters": {"type": "object", "x": object()}})
    with pytest.raises(ConfigError, match="cannot be counted"):
        count_tokens("x", MODEL, tools=[odd])


def test_fifty_threads_get_the_same_count() -> None:
    counter, together = TokenCounter(), threading.Barrier(50)

    def ask(_: int) -> TokenCount:
        together.wait(10)
        return counter.count(_request(JARGON), "openai", "gpt-4o")

    with ThreadPoolExecutor(50) as pool:
        found = set(pool.map(ask, range(50)))
    assert [count.tokens for count in found] == [124]
