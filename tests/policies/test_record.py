"""What each attempt used and cost, in the ledger, whatever became of its answer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from support.priced import ANSWERED, PRICE, Priced, answer, priced
from tidegate.accounting.reports import LedgerRow
from tidegate.chat.reply import Completion
from tidegate.chat.usage import Usage
from tidegate.errors import (
    BadRequest,
    CallError,
    Cancelled,
    CircuitOpen,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    MalformedResponse,
    ProviderUnavailable,
    RateLimited,
    StreamInterrupted,
    TLSFailed,
    TruncatedStream,
)
from tidegate.pipeline.call import Call
from tidegate.policies.record import RecordPolicy

Opened = Callable[..., Priced]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    with contextlib.ExitStack() as stack:
        url = f"sqlite:///{tmp_path / 'usage.db'}"
        yield lambda *budgets, **options: stack.enter_context(priced(url, *budgets, **options))


def one_row(desk: Priced) -> LedgerRow:
    (row,) = desk.rows()
    return row


def failing(desk: Priced, error: BaseException, *, sent: bool = True) -> None:
    """The provider fails so, after the request has left or before."""

    def provider(call: Call) -> Completion:
        call.trace.sent = sent
        raise error

    desk.provider = provider


def test_an_answer_is_one_row_with_all_that_is_known_of_it(opened: Opened) -> None:
    desk = opened(run="run-1")
    desk.provider = lambda _call: answer(Usage(100, 40, 60, 10, 30))
    desk.ask(task="report", tags={"tenant": "acme"})
    row = one_row(desk)
    assert (row.provider, row.model, row.answered) == ("openai", "gpt-4o-mini", "gpt-4o-mini-2024")
    assert (row.task, row.tags, row.attempt, row.outcome) == ("report", {"tenant": "acme"}, 1, "ok")
    assert (row.input_tokens, row.cached_tokens, row.written_tokens) == (100, 60, 10)
    assert (row.output_tokens, row.reasoning_tokens, row.estimated) == (40, 30, False)
    assert (row.cost, row.price_source) == (Decimal("0.0005"), "override")
    assert row.duration >= 0


def test_the_model_that_answered_is_priced_before_the_one_that_was_asked(opened: Opened) -> None:
    asked: list[tuple[str, ...]] = []
    posted: list[object] = []

    class Book:
        def post(self, entry: object) -> None:
            posted.append(entry)

    def quote(_provider: str, models: tuple[str, ...]) -> None:
        asked.append(models)

    record = RecordPolicy(Book(), quote=quote, count_input=lambda _call: 1)
    record(opened().call(), lambda _call: answer())
    assert asked == [("gpt-4o-mini-2024", "gpt-4o-mini")]
    assert len(posted) == 1


def test_L6_an_unknown_price_is_unknown_and_not_zero(opened: Opened) -> None:
    desk = opened(price=None)
    desk.ask()
    row = one_row(desk)
    assert row.cost is None
    assert row.price_source is None
    assert desk.ledger.cost() is None


@pytest.mark.parametrize(
    "error",
    [
        BadRequest("no", status=400),
        RateLimited("slow down", status=429),
        ProviderUnavailable("broken", status=500),
        ConnectFailed("refused"),
        TLSFailed("who are you"),
        CircuitOpen("resting"),
        CallError("it could not go at once"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_the_provider_refused_or_never_got_is_not_recorded(opened: Opened, error: CallError) -> None:
    desk = opened()
    failing(desk, error)
    with pytest.raises(type(error)):
        desk.ask()
    assert desk.rows() == []


@pytest.mark.parametrize(
    "error",
    [
        ConnectionLost("broken"),
        DeadlineExceeded("late"),
        Cancelled("cancelled"),
        MalformedResponse("no JSON"),
        TruncatedStream("half"),
        KeyboardInterrupt(),
        SystemExit(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_broke_off_after_it_was_sent_is_recorded_as_estimated(opened: Opened, error: BaseException) -> None:
    desk = opened()
    failing(desk, error)
    with pytest.raises(type(error)):
        desk.ask()
    row = one_row(desk)
    assert (row.outcome, row.estimated, row.answered) == (type(error).__name__, True, None)
    assert (row.input_tokens, row.output_tokens, row.cost) == (100, 0, Decimal("0.0001"))


@pytest.mark.parametrize("error", [ConnectionLost("broken"), DeadlineExceeded("late"), KeyboardInterrupt()])
def test_what_broke_off_before_it_was_sent_is_not_recorded(opened: Opened, error: BaseException) -> None:
    desk = opened()
    failing(desk, error, sent=False)
    with pytest.raises(type(error)):
        desk.ask()
    assert desk.rows() == []


def test_an_attempt_does_not_count_as_sent_because_the_one_before_it_was(opened: Opened) -> None:
    desk = opened()
    call = desk.call()
    desk.ask(call)

    def provider(_call: Call) -> Completion:
        call.trace.sent = False
        raise ConnectionLost("broken before it stood")

    desk.provider = provider
    with pytest.raises(ConnectionLost):
        desk.ask(call)
    assert len(desk.rows()) == 1


# Streams


def test_a_stream_is_recorded_when_it_ends(opened: Opened) -> None:
    desk = opened()
    stream = desk.stream("a", "b")
    assert desk.rows() == []
    list(stream)
    assert (one_row(desk).output_tokens, one_row(desk).estimated) == (40, False)


def test_L7_a_stream_without_its_usage_is_recorded_as_estimated_and_marked(opened: Opened) -> None:
    desk = opened()
    list(desk.stream("a", "b", usage=Usage(100, 2, estimated=True)))
    row = one_row(desk)
    assert (row.estimated, row.output_tokens, row.outcome) == (True, 2, "ok")


def test_L7_where_nothing_counts_it_is_marked_all_the_same(opened: Opened) -> None:
    desk = opened()
    list(desk.stream("a", usage=None))
    assert one_row(desk).estimated


def test_L7_a_stream_that_breaks_is_billed_and_its_cause_named(opened: Opened) -> None:
    desk = opened()
    broken = StreamInterrupted.because(ConnectionLost("broken"))
    broken.__cause__ = ConnectionLost("broken")
    stream = desk.stream("a", broken, usage=Usage(100, 1, estimated=True))
    with pytest.raises(StreamInterrupted):
        list(stream)
    row = one_row(desk)
    assert (row.outcome, row.estimated, row.output_tokens) == ("ConnectionLost", True, 1)


def test_L7_a_stream_that_is_closed_is_billed_from_the_usage_when_it_came(opened: Opened) -> None:
    desk = opened()
    with desk.stream("a", "b", usage=ANSWERED) as stream:
        next(stream)
    row = one_row(desk)
    assert (row.outcome, row.estimated, row.output_tokens) == ("Cancelled", False, 40)


# What must not happen


@pytest.mark.parametrize("usage", [Usage(2**63, 1), Usage(2**62, 2**62), Usage(-1, 5)])
def test_L5_figures_that_cannot_be_are_not_taken_and_cost_nobody_the_answer(opened: Opened, usage: Usage) -> None:
    desk = opened()
    desk.provider = lambda _call: answer(usage)
    reply = desk.ask()
    assert isinstance(reply, Completion)
    assert reply.text == "Hello."
    row = one_row(desk)
    assert (row.input_tokens, row.output_tokens, row.estimated) == (100, 0, True)


def test_figures_from_the_provider_are_learned_from_and_estimates_are_not(opened: Opened) -> None:
    learned: list[int] = []
    desk = opened()
    record = RecordPolicy(
        desk.ledger,
        quote=lambda _provider, _models: PRICE.quote(),
        count_input=lambda _call: 1,
        learn=lambda _call, usage: learned.append(usage.input_tokens),
    )
    record(desk.call(), lambda _call: answer(Usage(7, 1)))
    record(desk.call(), lambda _call: answer(Usage(8, 1, estimated=True)))
    assert learned == [7]


def test_labels_of_any_text_are_kept_as_far_as_a_database_can(opened: Opened) -> None:
    desk = opened()
    task = "a\0b" + "x" * 1_000 + "\ud800"
    desk.ask(task=task, tags={"\ud800": "ü", "q": 'say "a", b\n'})
    row = one_row(desk)
    assert row.task == "a\ufffdb" + "x" * 497
    assert row.tags == {"?": "ü", "q": 'say "a", b\n'}
    assert desk.ledger.cost(task=task) == Decimal("0.0005")


def test_an_entry_refuses_counts_that_are_none(opened: Opened) -> None:
    desk = opened()
    with pytest.raises(ConfigError, match="`input_tokens` is a whole number"):
        desk.shop.entry("a", 1, input_tokens=-1)
