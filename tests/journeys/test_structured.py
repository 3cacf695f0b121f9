"""Values instead of texts, over a whole client: what is sent, what is asked again, and what is raised."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from journeys.asking import client_of
from support.fault_server import FaultServer, RecordedRequest, Step, error, json_reply, sse
from support.openai_wire import completion, stream_events
from tidegate import AuthenticationFailed, BadRequest, Client, ConfigError, DeadlineExceeded, ParseError, Retry
from tidegate.parsing.asking import LLMStrategy
from tidegate.parsing.reading import create_robust_parser


class Ticket(BaseModel):
    title: str
    priority: int = 3


GOOD = '{"title": "Valve leaks", "priority": 2}'


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


def answers(*texts: str, finish: str = "stop") -> Callable[[RecordedRequest], Step]:
    """One after another; the last one again and again."""
    left = list(texts)

    def answer(request: RecordedRequest) -> Step:
        text = left.pop(0) if len(left) > 1 else left[0]
        return json_reply(completion(text, finish_reason=finish))

    return answer


def test_a_value_is_asked_for_by_its_schema_and_comes_as_an_instance(server: FaultServer) -> None:
    """The provider is told the schema, so is the model, and what comes back is validated."""
    server.on(answers(GOOD))
    with client_of(server) as client:
        assert client.parse("A ticket, please", into=Ticket) == Ticket(title="Valve leaks", priority=2)
    (request,) = server.requests
    assert request.json["response_format"]["json_schema"]["schema"]["required"] == ["title"]
    assert [message["role"] for message in request.json["messages"]] == ["system", "user"]
    assert '"priority"' in request.json["messages"][0]["content"]


def test_the_answer_it_was_read_in_comes_along(server: FaultServer) -> None:
    """With its usage, the repairs, and all attempts."""
    server.on(answers("Sure: {title: 'Valve leaks',}"))
    with client_of(server) as client:
        parsed = client.parse_with_completion("A ticket", into=Ticket, system="You are terse.")
    assert parsed.data == Ticket(title="Valve leaks")
    assert parsed.completion.usage is not None
    assert parsed.attempts == (parsed.completion,)
    assert {repair.kind for repair in parsed.result.repairs} >= {"single quotes", "trailing comma"}
    assert server.requests[0].json["messages"][0]["content"].startswith("You are terse.\n")


def test_an_answer_that_is_none_is_shown_to_the_model_with_what_is_wrong(server: FaultServer) -> None:
    """The question is asked again with the last answer alone, so that the context does not grow."""
    server.on(answers('{"priority": 2}', "no idea", GOOD))
    with client_of(server) as client:
        parsed = client.parse_with_completion("A ticket", into=Ticket)
    assert [answer.text for answer in parsed.attempts] == ['{"priority": 2}', "no idea", GOOD]
    second, third = (request.json["messages"] for request in server.requests[1:])
    assert [message["role"] for message in third] == ["system", "user", "assistant", "user"]
    assert second[2]["content"] == '{"priority": 2}'
    assert "$.title" in second[3]["content"]
    assert third[2]["content"] == "no idea"


def test_when_no_answer_will_do_the_error_has_all_of_them(server: FaultServer) -> None:
    """And says how many there were and what was wrong with the last one."""
    server.on(answers("one", "two", "three"))
    with client_of(server) as client, pytest.raises(ParseError, match="3 answers") as caught:
        client.parse("A ticket", into=Ticket)
    assert caught.value.texts == ("one", "two", "three")
    assert "three" not in str(caught.value)


def test_no_retries_means_one_answer(server: FaultServer) -> None:
    """`retries=0`."""
    server.on(answers("one"))
    with client_of(server) as client, pytest.raises(ParseError):
        client.parse("A ticket", into=Ticket, retries=0)
    assert len(server.requests) == 1


def test_an_answer_that_was_cut_is_not_taken_for_the_whole(server: FaultServer) -> None:
    """Although it can be closed; the error says what helps."""
    server.on(answers('{"title": "Valve leaks", "priority": 2', finish="length"))
    with client_of(server) as client, pytest.raises(ParseError, match="max_tokens"):
        client.parse("A ticket", into=Ticket, repair="all", retries=1)
    assert len(server.requests) == 2
    assert "shorter" in server.requests[1].json["messages"][-1]["content"]


def test_a_provider_that_refuses_schemas_is_asked_without(server: FaultServer) -> None:
    """The system message says it all the same; another refusal is the caller's."""
    refusal = error(400, message="'response_format' of type 'json_schema' is not supported with this model")
    server.script(refusal)
    server.on(answers(GOOD))
    with client_of(server) as client:
        assert client.parse("A ticket", into=Ticket).priority == 2
        assert "response_format" in server.requests[0].json
        assert "response_format" not in server.requests[1].json
        assert client.parse("Another", into=Ticket).priority == 2
    assert len(server.requests) == 3  # it was not asked with the schema again
    server.script(error(400, message="this is not about that"))
    with client_of(server) as client, pytest.raises(BadRequest):
        client.parse("A ticket", into=Ticket)


def test_all_attempts_share_one_deadline(server: FaultServer) -> None:
    """The time of the second is what the first has left."""
    server.on(answers("one", "two"))
    with client_of(server, retry=Retry(attempts=1)) as client, pytest.raises((ParseError, DeadlineExceeded)):
        client.parse("A ticket", into=Ticket, timeout=0.000_1, retries=50)
    assert len(server.requests) < 5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"into": None}, "into"),
        ({"into": Ticket, "retries": -1}, "retries"),
        ({"into": Ticket, "retries": True}, "retries"),
        ({"into": Ticket, "schema": {}}, "schema"),
        ({"into": {"type": "no such type"}}, "JSON schema"),
        ({"into": 5}, "pydantic"),
        ({"into": Ticket, "repair": "some"}, "repair"),
    ],
    ids=str,
)
def test_what_cannot_be_asked_is_refused_before_anything_is_sent(
    server: FaultServer, wrong: dict[str, Any], message: str
) -> None:
    """With an error that names the argument."""
    server.on(answers(GOOD))
    with client_of(server) as client, pytest.raises((ConfigError, TypeError), match=message):
        client.parse("A ticket", **wrong)
    assert server.requests == []


def test_other_types_and_schemas_can_be_asked_for(server: FaultServer) -> None:
    """Whatever pydantic validates, and JSON schemas as dicts."""
    server.on(answers("[1, 2, 3]"))
    schema = {"type": "array", "items": {"type": "integer"}}
    with client_of(server) as client:
        assert client.parse("Three numbers", into=list[int]) == [1, 2, 3]
        assert client.parse("Three numbers", into=schema) == [1, 2, 3]


def test_a_refusal_is_not_asked_again(server: FaultServer) -> None:
    """Neither the model's nor a filter's: each would be paid for again."""
    refused = completion("")
    refused["choices"][0]["message"]["refusal"] = "I cannot help with that."
    server.script(json_reply(refused), json_reply(completion("{", finish_reason="content_filter")))
    with client_of(server) as client:
        with pytest.raises(ParseError, match="I cannot help"):
            client.parse("A ticket", into=Ticket)
        with pytest.raises(ParseError, match="filter"):
            client.parse("A ticket", into=Ticket)
    assert len(server.requests) == 2


def test_an_error_in_a_later_attempt_has_the_answers_before_it(server: FaultServer) -> None:
    """They were paid for."""
    server.script(json_reply(completion("no idea")), error(401, message="no"))
    with client_of(server) as client, pytest.raises(AuthenticationFailed) as caught:
        client.parse("A ticket", into=Ticket)
    cause = caught.value.__cause__
    assert isinstance(cause, ParseError)
    assert cause.texts == ("no idea",)


# Streams


def streamed(*pieces: str) -> Callable[[RecordedRequest], Step]:
    return lambda _request: sse(stream_events(list(pieces), usage=(10, 10)))


def test_a_stream_yields_growing_instances_and_then_the_whole(server: FaultServer) -> None:
    """Each is an instance; the last one is what `parse` makes of the whole text."""
    server.on(streamed('{"title": "Val', 've leaks", ', '"priority": 2', "}"))
    with client_of(server) as client, client.stream_parse("A ticket", into=Ticket) as snapshots:
        seen = list(snapshots)
    assert all(isinstance(each, Ticket) for each in seen)
    assert [each.title for each in seen][:2] == ["Val", "Valve leaks"]
    assert seen[-1] == snapshots.data == Ticket(title="Valve leaks", priority=2)
    assert snapshots.completion.usage is not None
    assert snapshots.result.strategy == "json"


def test_a_stream_that_is_no_such_value_raises_at_its_end(server: FaultServer) -> None:
    """With the whole text."""
    server.on(streamed('{"prio', 'rity": 2}'))
    with client_of(server) as client, pytest.raises(ParseError) as caught:
        list(client.stream_parse("A ticket", into=Ticket))
    assert caught.value.texts == ('{"priority": 2}',)


def test_a_stream_of_a_provider_that_refuses_schemas_is_asked_without(server: FaultServer) -> None:
    """As `parse` does."""
    server.script(error(400, message="response_format is not supported"))
    server.on(streamed('{"title": "Valve"}'))
    with client_of(server) as client, client.stream_parse("A ticket", into=Ticket) as snapshots:
        assert list(snapshots)[-1].title == "Valve"
    assert ["response_format" in each.json for each in server.requests] == [True, False]


def test_a_stream_can_be_left_early(server: FaultServer) -> None:
    """What there was of it is known then."""
    server.on(streamed('{"title": "Val', 've leaks"}'))
    with client_of(server) as client, client.stream_parse("A ticket", into=Ticket) as snapshots:
        assert next(snapshots).title == "Val"
    assert not snapshots.result.success
    assert snapshots.completion.interrupted


# A model that is asked to read


def test_a_model_reads_what_nobody_else_could(server: FaultServer) -> None:
    """It is told the schema and that the text is data; what it wrote is marked."""
    server.on(answers('{"title": "Valve leaks", "priority": 1}'))
    with client_of(server) as client:
        parser = create_robust_parser(LLMStrategy(client, max_tokens=77))
        result = parser.parse("The valve leaks, quite urgently.", into=Ticket)
    assert result.unwrap() == Ticket(title="Valve leaks", priority=1)
    assert result.strategy == "llm"
    assert result.repairs[0].kind == "written by a model"
    sent = server.requests[0].json
    assert sent["max_completion_tokens"] == 77
    assert "it is data" in sent["messages"][0]["content"]


def test_a_model_is_not_asked_where_it_is_not_needed_or_nothing_may_be_repaired(server: FaultServer) -> None:
    """A text that can be read costs nothing."""
    server.on(answers(GOOD))
    with client_of(server) as client:
        parser = create_robust_parser(LLMStrategy(client))
        assert parser.parse(GOOD, into=Ticket).success
        assert not parser.parse("The valve leaks", into=Ticket, repair="none").success
    assert server.requests == []


def test_the_prompt_to_the_model_is_bounded(server: FaultServer) -> None:
    """Of a long text it sees the beginning and the end."""
    server.on(answers(GOOD))
    with client_of(server) as client:
        parser = create_robust_parser(LLMStrategy(client, longest=1_000))
        assert parser.parse("word " * 100_000, into=Ticket).success
    assert len(json.dumps(server.requests[0].json)) < 4_000


def test_a_model_that_cannot_be_asked_is_a_refusal_that_says_why(server: FaultServer) -> None:
    """Parsing never raises for what a text, or a server, says."""
    server.on(lambda _request: error(401, message="no"))
    with client_of(server, retry=None) as client:
        result = create_robust_parser(LLMStrategy(client)).parse("The valve leaks", into=Ticket)
    assert not result.success
    assert "llm: the model could not be asked: AuthenticationFailed" in str(result.error)


def test_any_function_can_be_asked() -> None:
    """One that answers no text is a refusal."""
    assert create_robust_parser(LLMStrategy(lambda _prompt: GOOD)).parse("?", into=Ticket).success
    assert "not text" in str(create_robust_parser(LLMStrategy(lambda _prompt: 5)).parse("?", into=Ticket).error)
    with pytest.raises(ConfigError):
        LLMStrategy("gpt")
    with pytest.raises(ConfigError):
        LLMStrategy(lambda _prompt: GOOD, max_tokens=0)


@pytest.mark.slow
def test_the_embedded_model_fills_a_small_schema_ten_times() -> None:
    """A grammar keeps it to the schema, so each time there is a value; what it says is its own affair."""
    with Client("local/smollm2-135m-instruct", ledger=None) as client:
        tickets = [
            client.parse(f"Invent a short support ticket, number {number}.", into=Ticket, max_tokens=120)
            for number in range(10)
        ]
    assert all(isinstance(ticket, Ticket) for ticket in tickets)
