"""Replies: what an answer says of itself, and how a stream ends."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from journeys.asking import client_of
from support.fault_server import FaultServer, Gate, json_reply, sse
from support.openai_wire import chunk, completion, stream_events, tool_call, tool_call_delta
from tidegate import Cancelled, Chunk, Completion, StreamUnfinished, ToolCall, Usage
from tidegate.chat.reply import Ending, Stream
from tidegate.errors import CallError, StreamInterrupted


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


def answered(server: FaultServer, body: Any) -> Completion:  # noqa: ANN401 (any JSON value)
    server.script(json_reply(body))
    with client_of(server) as client:
        return client.complete("Hi")


def streamed(server: FaultServer, *events: Any) -> Completion:
    server.script(sse(events))
    with client_of(server) as client, client.stream("Hi") as answer:
        list(answer)
    return answer.completion


# What an answer holds


def test_an_answer_has_its_text_its_model_and_its_id(server: FaultServer) -> None:
    done = answered(server, completion("Hello.", model="gpt-4o-mini-2024-07-18", id="chatcmpl-7"))
    assert (done.text, done.provider, done.model, done.id) == (
        "Hello.", "openai", "gpt-4o-mini-2024-07-18", "chatcmpl-7",
    )  # fmt: skip
    assert (done.tool_calls, done.reasoning, done.refusal, done.interrupted) == ((), "", None, False)
    assert done.raw == completion("Hello.", model="gpt-4o-mini-2024-07-18", id="chatcmpl-7")


def test_a_streamed_answer_has_the_same(server: FaultServer) -> None:
    events = stream_events(["Hel", "lo."], model="gpt-4o-mini-2024-07-18", id="chatcmpl-7")
    done = streamed(server, *events)
    plain = answered(server, completion("Hello.", model="gpt-4o-mini-2024-07-18", id="chatcmpl-7"))
    assert done == plain
    assert [event["object"] for event in done.raw] == ["chat.completion.chunk"] * len(events)


def test_an_answer_that_names_no_model_is_of_the_one_that_was_asked(server: FaultServer) -> None:
    bare = {"choices": [{"message": {"content": "Hello."}, "finish_reason": "stop"}]}
    done = answered(server, bare)
    assert (done.text, done.model, done.id, done.complete) == ("Hello.", "gpt-4o-mini", None, "yes")
    assert done.usage is not None
    assert done.usage.estimated


def test_only_the_first_of_several_choices_is_the_answer(server: FaultServer) -> None:
    two = completion("first")
    two["choices"].append({"index": 1, "message": {"content": "second"}, "finish_reason": "length"})
    assert (answered(server, two).text, answered(server, two).complete) == ("first", "yes")
    other = chunk("second", finish_reason="length")
    other["choices"][0]["index"] = 1
    done = streamed(server, chunk("first"), other, chunk(finish_reason="stop"))
    assert (done.text, done.finish_reason) == ("first", "stop")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, ""),
        ("", ""),
        ([{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo."}], "Hello."),
        ([{"type": "thinking", "thinking": "…"}, {"type": "text", "text": "Hello."}], "Hello."),
    ],
)
def test_content_may_be_nothing_or_come_in_parts(server: FaultServer, content: Any, text: str) -> None:  # noqa: ANN401
    assert answered(server, completion(content)).text == text
    assert streamed(server, chunk(content), chunk(finish_reason="stop")).text == text


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_what_a_model_shows_of_its_thinking_is_kept_apart(server: FaultServer, field: str) -> None:
    whole = completion("4")
    whole["choices"][0]["message"][field] = "2 and 2"
    done = answered(server, whole)
    assert (done.reasoning, done.text) == ("2 and 2", "4")
    events = [chunk(), chunk(), chunk("4"), chunk(finish_reason="stop")]
    for event, piece in zip(events, ("2 and", " 2"), strict=False):
        event["choices"][0]["delta"] = {field: piece}
    server.script(sse(events))
    with client_of(server) as client, client.stream("Hi") as answer:
        pieces = [(piece.text, piece.reasoning) for piece in answer]
    assert pieces == [("", "2 and"), ("", " 2"), ("4", ""), ("", "")]
    assert (answer.completion.reasoning, answer.completion.text) == ("2 and 2", "4")


def test_a_refusal_is_kept_apart_from_the_text(server: FaultServer) -> None:
    whole = completion(None)
    whole["choices"][0]["message"]["refusal"] = "I will not."
    done = answered(server, whole)
    assert (done.text, done.refusal, done.complete) == ("", "I will not.", "yes")
    events = [chunk(), chunk(), chunk(finish_reason="stop")]
    for event, piece in zip(events, ("I will", " not."), strict=False):
        event["choices"][0]["delta"] = {"refusal": piece}
    done = streamed(server, *events)
    assert (done.text, done.refusal) == ("", "I will not.")


# Why it ended

REASONS = {
    "stop": ("stop", "yes"),
    "length": ("length", "no"),
    "tool_calls": ("tool_calls", "yes"),
    "function_call": ("tool_calls", "yes"),  # its old name
    "content_filter": ("content_filter", "no"),
    "eos": ("stop", "yes"),  # Together's
    "tide": ("tide", "unknown"),  # a word of later years
    None: (None, "unknown"),  # Ollama may not say
}


@pytest.mark.parametrize("reason", REASONS, ids=str)
def test_an_answer_says_why_it_ended_and_whether_it_is_whole(server: FaultServer, reason: str | None) -> None:
    meaning, whole = REASONS[reason]
    done = answered(server, completion("Hello.", finish_reason=reason))
    assert (done.finish_reason, done.complete) == (meaning, whole)
    done = streamed(server, *stream_events(["Hello."], finish=reason))
    assert (done.finish_reason, done.complete) == (meaning, whole)


def test_an_interrupted_answer_is_not_whole_whatever_its_reason() -> None:
    assert Completion("Hello.", "openai", "m", finish_reason="stop", interrupted=True).complete == "no"


# What it used

USAGES: dict[str, tuple[Any, Usage | None]] = {
    "tokens in and out": ({"prompt_tokens": 5, "completion_tokens": 7}, Usage(5, 7)),
    "nothing used": ({"prompt_tokens": 0, "completion_tokens": 0}, Usage(0, 0)),
    "cached and reasoning tokens": (
        {
            "prompt_tokens": 50,
            "completion_tokens": 70,
            "prompt_tokens_details": {"cached_tokens": 40, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 60},
        },
        Usage(50, 70, cached_input_tokens=40, reasoning_tokens=60),
    ),
    "details of null": (
        {
            "prompt_tokens": 5, "completion_tokens": 7, "prompt_tokens_details": None,
            "completion_tokens_details": {"reasoning_tokens": None},
        },
        Usage(5, 7),
    ),
    "more cached than there was": (
        {"prompt_tokens": 5, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 100}},
        Usage(5, 7, cached_input_tokens=5),
    ),
    "tokens in alone": ({"prompt_tokens": 5}, Usage(5, 0)),
    "fields of later years": ({"prompt_tokens": 5, "completion_tokens": 7, "mood": "good"}, Usage(5, 7)),
    "no usage": (None, None),
    "empty usage": ({}, None),
    "a total alone": ({"total_tokens": 12}, None),
    "counts of null": ({"prompt_tokens": None, "completion_tokens": None}, None),
    "counts below zero": ({"prompt_tokens": -1, "completion_tokens": -1}, None),
    "counts in words": ({"prompt_tokens": "5", "completion_tokens": "7"}, None),
    "counts that are truths": ({"prompt_tokens": True, "completion_tokens": False}, None),
    "a word": ("none", None),
    "a list": ([5, 7], None),
}  # fmt: skip


@pytest.mark.parametrize("case", USAGES)
def test_usage_is_what_the_provider_counted_or_an_estimate(server: FaultServer, case: str) -> None:
    """What the provider did not count is counted here, and marked; nothing is ever taken for 0."""
    sent, usage = USAGES[case]
    for done in (
        answered(server, completion(usage=None) | {"usage": sent}),
        streamed(server, *stream_events(["Hello."], usage=None), chunk() | {"choices": [], "usage": sent}),
    ):
        assert done.usage is not None
        assert done.usage.estimated == (usage is None)
        assert done.usage == usage or (usage is None and done.usage.input_tokens > 0 < done.usage.output_tokens)
        assert done.cost is not None
        assert done.cost > 0 or usage == Usage(0, 0)


def test_the_last_usage_of_a_stream_counts(server: FaultServer) -> None:
    """Some servers count with every chunk."""
    events = [chunk(piece) | {"usage": {"prompt_tokens": 5, "completion_tokens": n}} for n, piece in enumerate("abc")]
    done = streamed(server, *events, chunk(finish_reason="stop"), chunk(usage=(5, 3)))
    assert done.usage == Usage(5, 3)


def test_cached_tokens_are_cheaper(server: FaultServer) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 0}
    full = answered(server, completion(usage=usage)).cost
    cached = answered(server, completion(usage=usage | {"prompt_tokens_details": {"cached_tokens": 1000}})).cost
    assert full is not None
    assert cached is not None
    assert Decimal(0) < cached < full


def test_usage_adds_up() -> None:
    assert Usage(5, 7, cached_input_tokens=3, reasoning_tokens=2).total_tokens == 12


# Tool calls

TIDE, SUN = tool_call("tide", {"port": "Emden"}), tool_call("sun", {"day": 1}, id="call_2")
BOTH = (ToolCall("call_1", "tide", '{"port": "Emden"}'), ToolCall("call_2", "sun", '{"day": 1}'))


def test_calls_of_several_tools_are_read_in_order(server: FaultServer) -> None:
    done = answered(server, completion(None, finish_reason="tool_calls", tool_calls=[TIDE, SUN]))
    assert (done.text, done.tool_calls, done.complete) == ("", BOTH, "yes")
    assert [call.parsed() for call in done.tool_calls] == [{"port": "Emden"}, {"day": 1}]


def delta(*pieces: dict[str, Any]) -> dict[str, Any]:
    event = chunk()
    event["choices"][0]["delta"] = {"tool_calls": list(pieces)}
    return event


PIECES: dict[str, list[dict[str, Any]]] = {
    "one after the other": [
        delta(tool_call_delta(0, id="call_1", name="tide", arguments="")),
        delta(tool_call_delta(0, arguments='{"port": ')),
        delta(tool_call_delta(0, arguments='"Emden"}')),
        delta(tool_call_delta(1, id="call_2", name="sun", arguments="")),
        delta(tool_call_delta(1, arguments='{"day": 1}')),
    ],
    "in turns": [
        delta(tool_call_delta(0, id="call_1", name="tide")),
        delta(tool_call_delta(1, id="call_2", name="sun")),
        delta(tool_call_delta(0, arguments='{"port": ')),
        delta(tool_call_delta(1, arguments='{"day"')),
        delta(tool_call_delta(0, arguments='"Emden"}')),
        delta(tool_call_delta(1, arguments=": 1}")),
    ],
    "side by side": [
        delta(tool_call_delta(0, id="call_1", name="tide"), tool_call_delta(1, id="call_2", name="sun")),
        delta(tool_call_delta(0, arguments='{"port": "Emden"}'), tool_call_delta(1, arguments='{"day": 1}')),
    ],
    "the second first": [
        delta(tool_call_delta(1, id="call_2", name="sun", arguments='{"day": 1}')),
        delta(tool_call_delta(0, id="call_1", name="tide", arguments='{"port": "Emden"}')),
    ],
    "a letter at a time": [
        delta(tool_call_delta(0, id="call_1", name="tide")),
        *(delta(tool_call_delta(0, arguments=letter)) for letter in '{"port": "Emden"}'),
        delta(tool_call_delta(1, id="call_2", name="sun", arguments='{"day": 1}')),
    ],
    "whole, without numbers": [delta({**TIDE}), delta({**SUN})],
    "whole, with the id each time": [
        delta(tool_call_delta(0, id="call_1", name="tide", arguments='{"port": ')),
        delta(tool_call_delta(0, id="call_1", name="tide", arguments='"Emden"}')),
        delta(tool_call_delta(1, id="call_2", name="sun", arguments='{"day": 1}')),
    ],
}


@pytest.mark.parametrize("way", PIECES)
def test_calls_that_come_in_pieces_are_put_together(server: FaultServer, way: str) -> None:
    done = streamed(server, chunk("", role="assistant"), *PIECES[way], chunk(finish_reason="tool_calls"))
    assert (done.tool_calls, done.finish_reason) == (BOTH, "tool_calls")


def test_text_and_calls_come_together(server: FaultServer) -> None:
    done = streamed(server, chunk("One moment."), *PIECES["in turns"], chunk(finish_reason="tool_calls"))
    assert (done.text, done.tool_calls) == ("One moment.", BOTH)


def test_arguments_that_are_an_object_are_not_lost(server: FaultServer) -> None:
    """OpenAI sends their JSON as a text; some hosts send the object itself."""
    wish = {"id": "call_1", "type": "function", "function": {"name": "tide", "arguments": {"port": "Emden"}}}
    done = answered(server, completion(None, finish_reason="tool_calls", tool_calls=[wish]))
    assert done.tool_calls[0].parsed() == {"port": "Emden"}
    done = streamed(server, delta({"index": 0, **wish}), chunk(finish_reason="tool_calls"))
    assert done.tool_calls[0].parsed() == {"port": "Emden"}


def test_broken_arguments_are_the_models_own_and_kept(server: FaultServer) -> None:
    done = answered(server, completion(None, tool_calls=[tool_call("tide", '{"port": ')]))
    assert done.tool_calls[0].arguments == '{"port": '
    with pytest.raises(ValueError, match="Expecting"):
        done.tool_calls[0].parsed()


@pytest.mark.parametrize("calls", [None, [], "tide", [5], [{"id": "x"}], {"id": "x"}], ids=repr)
def test_calls_that_are_none_are_none(server: FaultServer, calls: Any) -> None:  # noqa: ANN401 (any JSON value)
    done = answered(server, completion("Hello.") | {"choices": [{"message": {"content": "a", "tool_calls": calls}}]})
    assert (done.text, done.tool_calls) == ("a", ())


# Values


def test_a_completion_can_be_pickled_with_its_figures(server: FaultServer) -> None:
    for done in (answered(server, completion()), streamed(server, *stream_events(["Hello."]))):
        twin = pickle.loads(pickle.dumps(done))  # noqa: S301 (ours)
        assert twin == done
        assert twin.timeline == done.timeline
        assert twin.attempts == done.attempts
        assert twin.raw == done.raw


def test_a_completion_shows_neither_the_providers_json_nor_its_trace(server: FaultServer) -> None:
    assert "chat.completion" not in repr(answered(server, completion()))


def test_a_completion_is_done_at_once() -> None:
    endings: list[Ending] = []
    done = Completion("Hello.", "openai", "m")
    done.when_done(endings.append)
    assert endings == [Ending(done, None)]
    assert done.timeline.total == 0


# Streams by themselves


class Pieces:
    """A source of chunks that ends well, or with an error."""

    def __init__(self, *texts: str, error: BaseException | None = None) -> None:
        self._chunks = iter([Chunk(text, index, 0.0) for index, text in enumerate(texts)])
        self._error = error
        self._seen: list[str] = []
        self.closed = 0

    def next_chunk(self) -> Chunk | None:
        found = next(self._chunks, None)
        if found is None and self._error is not None:
            raise self._error
        self._seen.append(found.text if found else "")
        return found

    def close(self) -> None:
        self.closed += 1

    def completion(self, *, interrupted: bool) -> Completion:
        return Completion("".join(self._seen), "openai", "m", interrupted=interrupted)


def test_a_stream_tells_each_listener_once_how_it_ended() -> None:
    stream, endings = Stream(Pieces("a", "b")), list[Ending]()
    stream.when_done(endings.append)
    assert [piece.text for piece in stream] == ["a", "b"]
    stream.close()
    stream.when_done(endings.append)
    assert len(endings) == 2
    assert all(ending.error is None and ending.completion == stream.completion for ending in endings)
    assert repr(stream) == "<Stream ended, 2 characters>"


def test_a_stream_that_is_closed_early_is_cancelled_and_keeps_what_there_was() -> None:
    source, endings = Pieces("a", "b"), list[Ending]()
    stream = Stream(source)
    stream.when_done(endings.append)
    next(stream)
    stream.close()
    assert isinstance(endings[0].error, Cancelled)
    assert (endings[0].error.partial, stream.completion.text, stream.completion.complete) == ("a", "a", "no")
    with pytest.raises(Cancelled):
        next(stream)
    assert source.closed == 1
    assert repr(stream) == "<Stream broken off, 1 characters>"


def test_a_stream_that_breaks_raises_the_same_each_time() -> None:
    failure = StreamInterrupted("gone")
    stream = Stream(Pieces("a", error=failure))
    next(stream)
    for _ in range(2):
        with pytest.raises(StreamInterrupted) as caught:
            next(stream)
        assert caught.value is failure
    assert failure.partial == "a"


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), RuntimeError("odd")], ids=repr)
def test_whatever_else_stops_a_stream_passes_and_frees_it(problem: BaseException) -> None:
    source = Pieces("a", error=problem)
    stream = Stream(source)
    next(stream)
    with pytest.raises(type(problem)):
        next(stream)
    assert source.closed == 1
    assert isinstance(stream.completion, Completion)


def test_an_answer_that_is_not_there_yet_is_not_made_up(server: FaultServer) -> None:
    gate = threading.Event()
    server.always(sse([*stream_events(["a"], finish=None, usage=None), Gate(gate), chunk(finish_reason="stop")]))
    with client_of(server) as client, client.stream("Hi") as answer:
        next(answer)
        with pytest.raises(StreamUnfinished, match="read it to its end"):
            _ = answer.completion
        gate.set()
        list(answer)
    assert answer.completion.text == "a"
    assert not isinstance(StreamUnfinished(), CallError)
