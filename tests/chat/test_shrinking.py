"""Conversations that do not fit: what goes, what stays, and when there is nothing left to drop."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate import BadRequest, ConfigError, ContextLengthExceeded, Image, Message, Text, ToolCall
from tidegate.chat.messages import to_messages
from tidegate.chat.shrinking import READ_LIMIT, Figures, figures, shrink

Json = dict[str, Any]

SYSTEM: Json = {"role": "system", "content": "Be brief."}


def said(role: str, content: Any = "word " * 40, **more: Any) -> Json:  # noqa: ANN401 (whatever stands on the wire)
    return {"role": role, "content": content, **more}


def calling(*ids: str) -> Json:
    calls = [{"id": each, "type": "function", "function": {"name": "tide", "arguments": "{}"}} for each in ids]
    return said("assistant", None, tool_calls=calls)


def result(call: str, text: str = "high") -> Json:
    return said("tool", text, tool_call_id=call)


def too_long(message: str = "too long", body: str | None = None) -> ContextLengthExceeded:
    return ContextLengthExceeded(message, body=body)


def openai_says(window: int, prompt: int, answer: int) -> ContextLengthExceeded:
    return too_long(
        f"This model's maximum context length is {window} tokens. However, you requested {prompt + answer} tokens "
        f"({prompt} in the messages, {answer} in the completion). Please reduce the length"
    )


# What goes


def test_the_oldest_turns_go_whole_and_the_instructions_stay_where_they_are() -> None:
    oldest = [said("user"), calling("a"), result("a"), said("assistant")]
    kept = [said("user"), said("assistant"), said("user")]
    developer = said("developer", "No jokes.")
    shrunk = shrink([SYSTEM, *oldest, developer, *kept])
    assert shrunk.messages == [SYSTEM, developer, *kept]
    assert shrunk.max_tokens is None


def test_messages_of_every_kind_are_understood_and_kept_as_they_are() -> None:
    """`Message` objects, dicts and an SDK's own objects may even stand side by side."""
    call = SimpleNamespace(id="a", function=SimpleNamespace(name="tide", arguments="{}"))
    messages = [
        SYSTEM,
        Message("user", (Text("Old?"), Image("https://example.com/sea.png"))),
        SimpleNamespace(role="assistant", content=None, tool_calls=[call]),
        Message("tool", "high", tool_call_id="a"),
        Message("user", (Text("Newer?"),)),
        said("assistant", "Yes."),
        said("user", [{"type": "text", "text": "And now?"}]),
    ]
    assert [id(each) for each in shrink(messages).messages] == [
        id(each) for each in [messages[0], messages[4], messages[5], messages[6]]
    ]


def test_nothing_that_is_passed_is_changed() -> None:
    messages = [SYSTEM, said("user"), said("assistant"), said("user")]
    before = copy.deepcopy(messages)
    shrink(messages, 100)
    assert messages == before


def test_what_stands_before_the_first_user_goes_first() -> None:
    greeting, question = said("assistant", "Welcome!"), said("user")
    assert shrink([SYSTEM, greeting, question]).messages == [SYSTEM, question]


def test_a_user_who_speaks_between_a_call_and_its_result_does_not_part_them() -> None:
    interrupted = [said("user"), calling("a", "b"), said("user", "Hurry!"), result("a"), result("b")]
    assert shrink([*interrupted, said("user", "Well?")]).messages == [said("user", "Well?")]


def test_an_id_that_is_used_again_belongs_to_the_latest_call() -> None:
    """Some models call every call `call_1`: that does not weld their turns together."""
    turns = [message for _ in range(4) for message in (said("user"), calling("call_1"), result("call_1"))]
    assert shrink([*turns, said("user", "Well?")]).messages == [*turns[6:], said("user", "Well?")]


def test_a_result_in_anthropics_shape_stays_with_its_call() -> None:
    call = said("assistant", [{"type": "tool_use", "id": "toolu_1", "name": "tide", "input": {}}])
    answer = said("user", [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "high"}])
    last = said("user", "Well?")
    assert shrink([said("user"), call, answer, said("assistant"), last]).messages == [last]
    with pytest.raises(ConfigError, match="nothing more"):
        shrink([said("user"), call, answer])


def test_without_figures_half_of_what_may_go_goes() -> None:
    turns = [said("user", "word " * 100) for _ in range(9)]
    assert len(shrink(turns).messages) == 5


def test_figures_say_how_many_turns_go() -> None:
    """100 of 1,100 tokens too many, and room for an answer, in eleven turns that are equally long: two go."""
    turns = [said("user", "word " * 100) for _ in range(11)]
    assert len(shrink(turns, error=openai_says(1000, 1100, 0)).messages) == 9


def test_a_picture_does_not_weigh_what_its_url_does() -> None:
    picture = said("user", [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}])
    turns = [picture, said("user", "word " * 2000), said("user", "word " * 2000), said("user", "Well?")]
    assert shrink(turns, error=openai_says(3000, 6000, 0)).messages == turns[2:]


# The answer


def test_an_answer_that_does_not_fit_is_halved_until_it_does() -> None:
    messages = [said("user"), said("assistant"), said("user")]
    shrunk = shrink(messages, 4000, error=openai_says(4096, 3000, 4000))
    assert shrunk == (messages, 1000)


def test_the_figures_of_the_refusal_count_more_than_the_window_that_was_known() -> None:
    assert shrink([said("user")], 4000, error=openai_says(4096, 3000, 4000), window=1_000_000).max_tokens == 1000


def test_a_known_window_says_that_it_is_the_answer() -> None:
    messages = [said("user", "word " * 80), said("user", "word " * 80)]  # about 200 tokens
    assert shrink(messages, 800, window=900) == (messages, 400)


def test_a_conversation_that_fills_the_window_by_itself_loses_turns_whatever_the_answer() -> None:
    messages = [said("user", "word " * 800), said("user", "word " * 800)]
    assert shrink(messages, 4000, window=1500) == (messages[1:], 4000)


def test_no_more_than_half_of_the_window_is_cleared_for_the_answer() -> None:
    messages = [said("user", "word " * 100) for _ in range(11)]  # each a hundred of the provider's tokens
    assert shrink(messages, 900, error=openai_says(1000, 1100, 900)) == (messages[6:], 900)


def test_an_answer_that_does_not_fit_is_halved_though_the_conversation_is_longer() -> None:
    messages = [said("user"), said("user")]
    assert shrink(messages, 400, error=openai_says(1000, 700, 400)) == (messages, 200)


def test_the_answer_that_a_provider_reserves_unasked_needs_its_room_too() -> None:
    messages = [said("user", "word " * 100) for _ in range(9)]  # each a hundred of the provider's tokens
    assert shrink(messages, error=openai_says(1000, 900, 400)) == (messages[3:], None)


def test_turns_go_before_an_answer_is_cut_down_to_nothing() -> None:
    messages = [said("user"), said("user")]
    assert shrink(messages, 1000, error=openai_says(1000, 990, 1000)) == (messages[1:], 1000)
    assert shrink(messages[1:], 1000, error=openai_says(1000, 990, 1000)) == (messages[1:], 7)


def test_without_a_window_the_larger_of_both_gets_smaller() -> None:
    messages = [said("user", "word " * 80), said("user", "word " * 80)]  # about 200 tokens
    assert shrink(messages, 1000) == (messages, 500)
    assert shrink(messages, 150) == (messages[1:], 150)


def test_a_single_question_leaves_only_the_answer_to_halve() -> None:
    assert shrink([SYSTEM, said("user")], 8) == ([SYSTEM, said("user")], 4)


# The end


@pytest.mark.parametrize(
    ("messages", "max_tokens", "error"),
    [
        ([SYSTEM, said("user")], None, None),
        ([SYSTEM, said("user"), calling("a"), result("a")], 1, None),
        ([said("assistant")], None, None),
        ([], None, None),
        ([said("user")], 1000, openai_says(100, 500, 1000)),
    ],
    ids=["the last turn", "with its tools", "no user at all", "nothing", "halving is of no use"],
)
def test_it_is_said_when_nothing_more_can_be_dropped(
    messages: list[Json], max_tokens: int | None, error: ContextLengthExceeded | None
) -> None:
    with pytest.raises(ConfigError, match="nothing more can be dropped"):
        shrink(messages, max_tokens, error=error)


@pytest.mark.parametrize("messages", ["Hello?", ["Hello?"], [{"content": "x"}], {"role": "user"}, [None], 3])
def test_what_is_no_conversation_is_refused(messages: Any) -> None:  # noqa: ANN401 (anything)
    with pytest.raises(ConfigError, match="each with a `role`"):
        shrink(messages)


@pytest.mark.parametrize("max_tokens", [0, -1, True, 1.5, "9"])
def test_a_bound_that_is_none_is_refused(max_tokens: Any) -> None:  # noqa: ANN401 (anything)
    with pytest.raises(ConfigError, match="`max_tokens` is a whole number"):
        shrink([said("user")], max_tokens)


# What a refusal says

WORDINGS = {
    "OpenAI": (
        (
            "This model's maximum context length is 8192 tokens. However, you requested 8213 tokens (6683 in the "
            "messages, 730 in the functions, and 800 in the completion). Please reduce."
        ),
        Figures(8192, 7413, 800),
    ),
    "OpenAI, the messages alone": (
        "This model's maximum context length is 4097 tokens. However, your messages resulted in 4294 tokens. Please",
        Figures(4097, 4294, None),
    ),
    "OpenAI, long ago": (
        (
            "This model's maximum context length is 4097 tokens, however you requested 4322 tokens (4066 in your "
            "prompt; 256 for the completion). Please reduce your prompt; or completion length."
        ),
        Figures(4097, 4066, 256),
    ),
    "OpenRouter": (
        (
            "This endpoint's maximum context length is 32768 tokens. However, you requested about 40001 tokens (30001 "
            "of text input, 10000 in the output). Please reduce the length of either one."
        ),
        Figures(32768, 30001, 10000),
    ),
    "vLLM": (
        (
            "'max_tokens' or 'max_completion_tokens' is too large: 10000. This model's maximum context length is 4096 "
            "tokens and your request has 20 input tokens (10000 > 4096 - 20)."
        ),
        Figures(4096, 20, 10000),
    ),
    "vLLM, newer": (
        (
            "You passed 202753 input tokens and requested 7 output tokens. However, the model's context length is only "
            "202752 tokens, resulting in a maximum input length of 202752 tokens."
        ),
        Figures(202752, 202753, 7),
    ),
    "Anthropic": (
        (
            "input length and `max_tokens` exceed context limit: 178959 + 64000 > 200000, decrease input length or "
            "`max_tokens` and try again"
        ),
        Figures(200000, 178959, 64000),
    ),
    "Anthropic, the prompt alone": (
        "prompt is too long: 210001 tokens > 200000 maximum",
        Figures(200000, 210001, None),
    ),
    "Gemini": (
        "The input token count (2845475) exceeds the maximum number of tokens allowed (1048576).",
        Figures(1048576, 2845475, None),
    ),
    "Mistral": (
        "Prompt contains 40000 tokens, too large for model with 32768 maximum context length",
        Figures(32768, 40000, None),
    ),
    "llama.cpp": (
        "request (4031 tokens) exceeds the available context size (2048 tokens), try increasing it",
        Figures(2048, 4031, None),
    ),
    "commas": ("This model's maximum context length is 128,000 tokens.", Figures(128_000, None, None)),
    "nothing": ("too long", Figures()),
    "zeros": ("This model's maximum context length is 0 tokens.", Figures()),
}


@pytest.mark.parametrize(("message", "expected"), WORDINGS.values(), ids=WORDINGS)
def test_the_figures_in_a_refusals_message_are_read(message: str, expected: Figures) -> None:
    assert figures(too_long(message)) == expected
    assert figures(RuntimeError(f"Error code: 400 - {message}")) == expected


def test_the_figures_in_a_refusals_body_are_read() -> None:
    body = '{"error":{"code":400,"type":"exceed_context_size_error","n_prompt_tokens":4031,"n_ctx":2048}}'
    assert figures(too_long("no", body)) == Figures(2048, 4031, None)


@given(st.text(max_size=200) | st.from_regex(r"(maximum context length is|\(|requested|>) ?[0-9,]{0,30} ?[a-z ]{0,30}"))
def test_no_refusal_is_too_odd_to_be_read(text: str) -> None:
    for figure in (found.window for found in (figures(too_long(text)), figures(BadRequest("x", body=text)))):
        assert figure is None or figure > 0


def test_a_long_refusal_is_read_no_further_than_its_limit() -> None:
    said = "maximum context length is 9 tokens"
    assert figures(RuntimeError(" " * (READ_LIMIT - len(said)) + said)).window == 9
    assert figures(RuntimeError("1" * READ_LIMIT + said)).window is None


# What always holds


@st.composite
def conversations(draw: st.DrawFn) -> list[Json]:
    """Well-formed ones: every call has its result, sometimes only after the user has spoken again."""
    messages: list[Json] = []
    for number in range(draw(st.integers(1, 8))):
        messages += draw(st.sampled_from([[], [], [SYSTEM], [said("developer", "No jokes.")]]))
        messages.append(said("user", "word " * draw(st.integers(1, 60))))
        ids = [f"call_{draw(st.integers(0, 2))}_{each}" for each in range(draw(st.integers(0, 2)))]
        if ids:
            messages.append(calling(*ids))
            messages += draw(st.sampled_from([[], [], [], [said("user", "Hurry!")]]))
            messages += map(result, ids)
        messages += draw(st.sampled_from([[], [said("assistant", f"answer {number}")]]))
    return messages


REFUSALS = st.none() | st.builds(openai_says, st.integers(1, 2000), st.integers(1, 2000), st.integers(0, 2000))


def open_calls(messages: Sequence[Json]) -> Iterator[str]:
    """Calls without a result and results without a call."""
    waiting: list[str] = []
    for message in messages:
        waiting += [call["id"] for call in message.get("tool_calls") or ()]
        answered = message.get("tool_call_id")
        if answered in waiting:
            waiting.remove(answered)
        elif answered is not None:
            yield answered
    yield from waiting


def is_part_in_order(part: Sequence[Json], whole: Sequence[Json]) -> bool:
    left = iter(id(each) for each in whole)
    return all(id(each) in left for each in part)


@given(conversations(), st.none() | st.integers(1, 3000), st.lists(REFUSALS, min_size=1, max_size=4))
def test_whatever_is_shrunk_stays_whole_gets_smaller_and_comes_to_an_end(
    messages: list[Json],
    max_tokens: int | None,
    refusals: list[ContextLengthExceeded | None],
) -> None:
    """Instructions and the last turn stay, no call loses its result nor a result its call, one thing gets smaller."""
    kept_always = [each for each in messages if each["role"] in ("system", "developer")]
    last_user = next((each for each in reversed(messages) if each["role"] == "user"), None)
    for step in range(10_000):
        try:
            shrunk = shrink(messages, max_tokens, error=refusals[step % len(refusals)])
        except ConfigError:
            break
        assert is_part_in_order(shrunk.messages, messages)
        assert [each for each in shrunk.messages if each["role"] in ("system", "developer")] == kept_always
        assert last_user is None or any(each is last_user for each in shrunk.messages)
        assert list(open_calls(shrunk.messages)) == []
        fewer = len(shrunk.messages) < len(messages)
        lower = (shrunk.max_tokens or 0) < (max_tokens or 0)
        assert fewer is not lower
        assert fewer or len(shrunk.messages) == len(messages)
        assert shrunk.max_tokens is None if max_tokens is None else 1 <= (shrunk.max_tokens or 0) <= max_tokens
        assert to_messages(shrunk.messages)  # it can still be sent
        messages, max_tokens = shrunk
    else:
        pytest.fail("it does not end")


@given(conversations(), st.none() | st.integers(1, 3000))
def test_messages_shrink_as_their_dicts_do(messages: list[Json], max_tokens: int | None) -> None:
    typed = [
        Message(
            each["role"],
            each["content"] or "",
            tuple(ToolCall.from_dict(call) for call in each.get("tool_calls") or ()),
            each.get("tool_call_id"),
        )
        for each in messages
    ]
    try:
        shrunk = shrink(messages, max_tokens)
    except ConfigError:
        with pytest.raises(ConfigError):
            shrink(typed, max_tokens)
    else:
        gone = len(messages) - len(shrunk.messages)
        assert len(shrink(typed, max_tokens).messages) == len(typed) - gone
        assert shrink(typed, max_tokens).max_tokens == shrunk.max_tokens
