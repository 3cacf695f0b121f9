"""`map` and `submit`: many prompts at once, in bounded memory, one failure never killing the rest."""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, as_completed, wait
from typing import Any

import pytest

from journeys.asking import PATIENCE, client_of
from support.fault_server import FaultServer, Gate, RecordedRequest, Step, error, json_reply, stall_before_headers
from support.openai_wire import completion
from tidegate import (
    AuthenticationFailed,
    Cancelled,
    CancelToken,
    Client,
    Completion,
    ConfigError,
    DeadlineExceeded,
    Message,
    Outcome,
    Overloaded,
    Retry,
    TidegateError,
)
from tidegate.chat.messages import Prompt
from tidegate.outcomes import WINDOW, outcomes

Handler = Callable[[RecordedRequest], Step]


def prompt_of(request: RecordedRequest) -> str:
    return str(request.json["messages"][-1]["content"])


def echo(request: RecordedRequest) -> Step:
    return json_reply(completion(prompt_of(request)))


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """Answers with the prompt."""
    with FaultServer() as running:
        running.on(echo)
        yield running


def map_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("tidegate-map")]


def texts(found: Iterator[Outcome]) -> list[str]:
    return [outcome.unwrap().text for outcome in found]


class Counted:
    """An input that counts how far it was read."""

    def __init__(self, prompts: Iterator[Any]) -> None:
        self.read = 0
        self.closed = False
        self._prompts = prompts

    def __iter__(self) -> Iterator[Any]:
        try:
            for prompt in self._prompts:
                self.read += 1
                yield prompt
        finally:
            self.closed = True


def endless() -> Iterator[str]:
    return (str(number) for number in itertools.count())


# Order


def test_outcomes_come_in_input_order_whatever_is_answered_first(server: FaultServer) -> None:
    last_is_there = threading.Event()

    def answer(request: RecordedRequest) -> Step:
        if prompt_of(request) == "0":
            return (Gate(last_is_there), *echo(request))
        if prompt_of(request) == "7":
            last_is_there.set()
        return echo(request)

    server.on(answer)
    with client_of(server) as client:
        found = list(client.map([str(number) for number in range(8)], workers=4, timeout=PATIENCE))
    assert [outcome.index for outcome in found] == list(range(8))
    assert [outcome.prompt for outcome in found] == [str(number) for number in range(8)]
    assert texts(iter(found)) == [str(number) for number in range(8)]


def test_outcomes_come_as_completed_when_order_does_not_matter(server: FaultServer) -> None:
    gate = threading.Event()
    server.on(lambda request: (Gate(gate), *echo(request)) if prompt_of(request) == "0" else echo(request))
    with client_of(server) as client:
        found: list[Any] = []
        for outcome in client.map(["0", "1", "2", "3"], workers=2, ordered=False, timeout=PATIENCE):
            found.append(outcome)
            if len(found) == 3:
                gate.set()  # before that the first is held back: it must not hold the others up
    assert sorted(outcome.index for outcome in found[:3]) == [1, 2, 3]
    assert found[3].index == 0
    assert all(outcome.unwrap().text == outcome.prompt for outcome in found)


def test_nothing_asked_is_nothing_answered(server: FaultServer) -> None:
    with client_of(server) as client:
        assert list(client.map([])) == []
        assert list(client.map(iter(()), ordered=False)) == []
    assert server.requests == []


def test_a_map_that_nobody_iterates_reads_and_asks_nothing(server: FaultServer) -> None:
    prompts = Counted(endless())
    with client_of(server) as client:
        before = map_threads()
        found = client.map(prompts)
        assert map_threads() == before
        del found
    assert prompts.read == 0
    assert server.requests == []


# Failures


def test_a_failure_is_an_outcome_and_the_rest_goes_on(server: FaultServer) -> None:
    refused, down = error(401, "authentication_error"), error(503)
    server.on(lambda request: {"1": refused, "3": down}.get(prompt_of(request)) or echo(request))
    with client_of(server) as client:
        found = list(client.map([str(number) for number in range(5)], workers=2, timeout=PATIENCE))
    assert [outcome.ok for outcome in found] == [True, False, True, False, True]
    assert [type(outcome.error) for outcome in found if outcome.error] == [AuthenticationFailed, Overloaded]
    assert found[1].completion is None
    with pytest.raises(AuthenticationFailed):
        found[1].unwrap()


def test_each_prompt_has_retries_of_its_own(server: FaultServer) -> None:
    server.script(*[error(503)] * 4)
    with client_of(server, retry=Retry(attempts=5, first=0.001)) as client:
        assert texts(client.map(["a", "b"], workers=2, timeout=PATIENCE)) == ["a", "b"]
    assert client.metrics().attempts == 6


def test_prompts_of_every_form_may_be_mixed(server: FaultServer) -> None:
    forms: list[Any] = [
        "text",
        Message("user", "message"),
        {"role": "user", "content": "mapping"},
        [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "list"}],
        (Message("system", "Be brief"), Message("user", "tuple")),
        [Message("user", "one"), {"role": "assistant", "content": "two"}, {"role": "user", "content": "three"}],
    ]
    with client_of(server) as client:
        found = list(client.map(forms, workers=3, timeout=PATIENCE))
    assert texts(iter(found)) == ["text", "message", "mapping", "list", "tuple", "three"]
    assert [outcome.prompt for outcome in found] == forms


@pytest.mark.parametrize(
    "wrong", [None, 7, "", [], {"role": "user"}, {"role": "nobody", "content": "x"}, 1.5], ids=repr
)
def test_a_prompt_that_is_none_is_an_outcome_like_any_other(server: FaultServer, wrong: Any) -> None:  # noqa: ANN401
    """One bad row of a file must not cost the others."""
    with client_of(server) as client:
        found = list(client.map(["a", wrong, "b"], workers=2, timeout=PATIENCE))
    assert isinstance(found[1].error, ConfigError)
    assert [outcome.ok for outcome in found] == [True, False, True]
    assert sorted(map(prompt_of, server.requests)) == ["a", "b"]


def test_the_time_that_one_takes_is_not_taken_from_the_others(server: FaultServer) -> None:
    """Each prompt's deadline begins when it is asked, and one that runs out of time delays nobody."""
    silence = stall_before_headers()
    server.on(lambda request: silence if prompt_of(request) == "0" else echo(request))
    with client_of(server) as client:
        found: list[Any] = []
        token = CancelToken()
        for outcome in client.map(
            [str(number) for number in range(10)], workers=2, ordered=False, timeout=PATIENCE, cancel=token
        ):
            found.append(outcome.index)
            if len(found) == 9:
                token.cancel()
    assert sorted(found[:9]) == list(range(1, 10))
    assert found[9] == 0


def test_a_prompt_that_runs_out_of_time_is_an_outcome(server: FaultServer) -> None:
    """Waiting for a worker does not count: only what is asked has begun."""
    silence = stall_before_headers()
    server.on(lambda request: silence if prompt_of(request) == "slow" else echo(request))
    with client_of(server) as client:
        found = list(client.map(["slow", "a", "slow", "b"], workers=1, timeout=0.2))
    assert [type(outcome.error) for outcome in found] == [DeadlineExceeded, type(None), DeadlineExceeded, type(None)]


def test_a_cancelled_token_ends_every_prompt_that_is_left(server: FaultServer) -> None:
    silence = stall_before_headers()
    server.on(lambda request: echo(request) if prompt_of(request) == "0" else silence)
    token = CancelToken()
    with client_of(server) as client:
        found: list[Any] = []
        for outcome in client.map([str(n) for n in range(20)], workers=2, timeout=None, cancel=token):
            found.append(outcome)
            token.cancel()
    assert len(found) == 20
    assert found[0].ok
    assert {type(outcome.error) for outcome in found[3:]} == {Cancelled}
    assert len(server.requests) <= 3


# The input


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "as completed"])
def test_an_endless_input_is_read_only_so_far_ahead(server: FaultServer, ordered: bool) -> None:  # noqa: FBT001
    prompts = Counted(endless())
    ahead = []
    with client_of(server) as client:
        found = client.map(prompts, workers=3, ordered=ordered, timeout=PATIENCE)
        for taken, _ in enumerate(itertools.islice(found, 200), 1):
            ahead.append(prompts.read - taken)
        found.close()  # type: ignore[attr-defined]
    assert max(ahead) <= 3 * WINDOW
    assert len(server.requests) <= 200 + 3 * WINDOW


def test_no_more_than_the_workers_are_in_flight(server: FaultServer) -> None:
    flying, most, lock = set[int](), list[int](), threading.Lock()

    def answer(request: RecordedRequest) -> Step:
        with lock:
            flying.add(request.connection_id)
            most.append(len(flying))

        def landed(_: object) -> None:
            with lock:
                flying.discard(request.connection_id)

        return (landed, *echo(request))

    server.on(answer)
    with client_of(server) as client:
        assert len(list(client.map([str(n) for n in range(60)], workers=3, timeout=PATIENCE))) == 60
    assert 1 <= max(most) <= 3
    assert server.connections <= 3


def test_a_slow_consumer_holds_the_asking_up(server: FaultServer) -> None:
    prompts = Counted(endless())
    with client_of(server) as client:
        found = client.map(prompts, workers=2, timeout=PATIENCE)
        next(found)
        threading.Event().wait(0.1)  # the time in which an eager map would go on and on
        assert prompts.read <= 1 + 2 * WINDOW
        found.close()  # type: ignore[attr-defined]


class BrokenInput(Exception):
    """The input's own error."""


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "as completed"])
def test_an_input_that_fails_is_raised_after_what_was_asked_is_delivered(server: FaultServer, ordered: bool) -> None:  # noqa: FBT001
    def prompts() -> Iterator[str]:
        yield from "abc"
        raise BrokenInput

    found: list[Outcome] = []
    with client_of(server) as client:
        rows = client.map(prompts(), workers=2, ordered=ordered, timeout=PATIENCE)
        with pytest.raises(BrokenInput):
            found.extend(iter(rows))
        assert list(rows) == []
    assert sorted(outcome.unwrap().text for outcome in found) == ["a", "b", "c"]
    assert map_threads() == []


def test_an_input_that_fails_at_once_is_raised(server: FaultServer) -> None:
    def prompts() -> Iterator[str]:
        raise BrokenInput
        yield

    with client_of(server) as client, pytest.raises(BrokenInput):
        list(client.map(prompts()))
    assert server.requests == []


def test_an_input_that_is_none_is_refused(server: FaultServer) -> None:
    with client_of(server) as client, pytest.raises(TypeError):
        list(client.map(7))  # type: ignore[arg-type]
    assert map_threads() == []


def test_the_input_is_read_in_the_callers_thread(server: FaultServer) -> None:
    """It may hold a file, a cursor or whatever else belongs to one thread."""
    readers = set[int]()

    def prompts() -> Iterator[str]:
        for number in range(20):
            readers.add(threading.get_ident())
            yield str(number)

    with client_of(server) as client:
        assert len(list(client.map(prompts(), workers=4, timeout=PATIENCE))) == 20
    assert readers == {threading.get_ident()}


def answered(prompt: Prompt) -> Completion:
    return Completion(str(prompt), "openai", "gpt-4o-mini")


def run(count: int, ordered: bool, ahead: list[int]) -> int:  # noqa: FBT001
    """Go through `count` prompts that are answered at once; says how many outcomes were right."""
    prompts = Counted(iter(map(str, range(count))))
    found = outcomes(
        answered, prompts, workers=4, ordered=ordered, cancel=CancelToken(), on_outcome=lambda _: None
    )  # fmt: skip
    right = 0
    for taken, outcome in enumerate(found, 1):
        right += outcome.unwrap().text == outcome.prompt and (not ordered or outcome.index == taken - 1)
        ahead.append(prompts.read - taken)
    return right


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "as completed"])
def test_a_long_input_is_gone_through_without_growing(ordered: bool) -> None:  # noqa: FBT001
    ahead: list[int] = []
    assert run(3_000, ordered, ahead) == 3_000
    assert max(ahead) <= 4 * WINDOW


@pytest.mark.slow
@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "as completed"])
def test_a_hundred_thousand_prompts_are_gone_through_without_growing(ordered: bool) -> None:  # noqa: FBT001
    ahead: list[int] = []
    assert run(100_000, ordered, ahead) == 100_000
    assert max(ahead) <= 4 * WINDOW


# Leaving early


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "as completed"])
def test_leaving_the_loop_ends_what_is_in_flight_and_leaves_no_thread(server: FaultServer, ordered: bool) -> None:  # noqa: FBT001
    """What was only in line never becomes a call."""
    others = threading.Event()

    def reply(request: RecordedRequest) -> Step:
        if len(server.requests) >= 3:
            others.set()
        return (Gate(others), *echo(request)) if prompt_of(request) == "0" else stall_before_headers()

    server.on(reply)
    with client_of(server) as client:
        for outcome in client.map(endless(), workers=3, ordered=ordered, timeout=None):
            assert outcome.unwrap().text == "0"
            break
        assert map_threads() == []
        server.wait_until(lambda: server.open_connections <= 1)  # that of the answered prompt may be kept
        assert 2 <= client.metrics().errors["Cancelled"] <= 3
        assert client.complete("0", timeout=PATIENCE).text == "0"


def test_an_error_in_the_loop_ends_the_rest_and_passes(server: FaultServer) -> None:
    silence = stall_before_headers()
    server.on(lambda request: echo(request) if prompt_of(request) == "0" else silence)
    with client_of(server) as client:
        rows = client.map(endless(), workers=2, timeout=None)
        with pytest.raises(ZeroDivisionError):  # noqa: PT012
            for _ in rows:
                _ = 1 / 0
        rows.close()  # type: ignore[attr-defined]
        assert map_threads() == []


def test_leaving_one_map_does_not_touch_another_of_the_same_token(server: FaultServer) -> None:
    gate = threading.Event()
    server.on(lambda request: echo(request) if prompt_of(request) == "0" else (Gate(gate), *echo(request)))
    token = CancelToken()
    with client_of(server) as client:
        other = client.submit("other", cancel=token, timeout=PATIENCE)
        server.wait_until(lambda: len(server.requests) == 1)
        for _ in client.map(["0", "1", "2"], workers=2, timeout=None, cancel=token):
            break
        assert not token.cancelled
        gate.set()
        assert other.result(PATIENCE).text == "other"


def test_ctrl_c_while_an_outcome_is_waited_for_ends_the_rest(server: FaultServer) -> None:
    server.on(lambda _: stall_before_headers())
    main = threading.main_thread().ident
    assert main == threading.get_ident()

    def press() -> None:
        server.wait_until(lambda: len(server.requests) == 2)
        signal.pthread_kill(main, signal.SIGINT)

    finger = threading.Thread(target=press)
    with client_of(server) as client:
        finger.start()
        with pytest.raises(KeyboardInterrupt):
            list(client.map(endless(), workers=2, timeout=None))
        finger.join()
        assert map_threads() == []
        assert client.metrics().errors == {"Cancelled": 2}


def test_closing_the_client_ends_a_map(server: FaultServer) -> None:
    """Its outcomes say why; nobody hangs."""
    silence = stall_before_headers()
    server.on(lambda request: echo(request) if prompt_of(request) == "0" else silence)
    with client_of(server) as client:
        found: list[Any] = []
        for outcome in client.map(["0", "1", "2", "3", "4"], workers=2, timeout=None):
            found.append(outcome)
            if len(found) == 1:
                server.wait_until(lambda: len(server.requests) == 3)
                client.close(cancel=True)
    assert [type(outcome.error) for outcome in found] == [type(None), Cancelled, Cancelled, ConfigError, ConfigError]


# Arguments


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, False, "4", float("inf"), [4]], ids=repr)
def test_workers_that_make_no_sense_are_refused_before_anything_is_read(server: FaultServer, workers: Any) -> None:  # noqa: ANN401
    prompts = Counted(endless())
    with client_of(server) as client, pytest.raises(ConfigError, match="workers"):
        client.map(prompts, workers=workers)
    assert prompts.read == 0


@pytest.mark.parametrize("workers", [0, -1, 1.5, "many"], ids=repr)
def test_a_client_refuses_workers_that_make_no_sense(server: FaultServer, workers: Any) -> None:  # noqa: ANN401
    with pytest.raises(ConfigError, match="workers"):
        Client("openai/gpt-4o-mini", base_url=server.base_url, api_key="sk-test", workers=workers)


def test_an_option_that_does_not_exist_is_refused_before_anything_is_read(server: FaultServer) -> None:
    prompts = Counted(endless())
    with client_of(server) as client, pytest.raises(TypeError, match="temprature"):
        client.map(prompts, temprature=1)  # type: ignore[call-arg]
    assert prompts.read == 0


def test_options_that_make_no_sense_fail_each_prompt(server: FaultServer) -> None:
    with client_of(server) as client:
        found = list(client.map(["a", "b"], temperature=9))
    assert {type(outcome.error) for outcome in found} == {ConfigError}
    assert server.requests == []


def test_the_options_hold_for_every_prompt(server: FaultServer) -> None:
    with client_of(server) as client:
        list(client.map(["a", "b"], model="openai/gpt-4o", temperature=0.5, max_tokens=9, system="Be brief"))
    for request in server.requests:
        assert request.json["model"] == "gpt-4o"
        assert request.json["temperature"] == 0.5
        assert request.json["messages"][0] == {"role": "system", "content": "Be brief"}


# One in another


def test_a_map_may_be_fed_by_another(server: FaultServer) -> None:
    with client_of(server, workers=1) as client:
        first = (f"{outcome.unwrap().text}!" for outcome in client.map(["a", "b", "c"], timeout=PATIENCE))
        assert texts(client.map(first, timeout=PATIENCE)) == ["a!", "b!", "c!"]
    assert map_threads() == []


def test_a_map_may_run_inside_the_loop_of_another(server: FaultServer) -> None:
    """Also with one worker: they do not wait for each other's threads."""
    found = []
    with client_of(server, workers=1) as client:
        for outer in client.map(["a", "b"], timeout=PATIENCE):
            inner = client.map([f"{outer.prompt}{number}" for number in range(3)], timeout=PATIENCE)
            found += texts(inner)
            found.append(client.submit(f"{outer.prompt}?", timeout=PATIENCE).result(PATIENCE).text)
    assert found == ["a0", "a1", "a2", "a?", "b0", "b1", "b2", "b?"]


def test_an_input_may_ask_the_client_itself(server: FaultServer) -> None:
    with client_of(server, workers=1) as client:
        prompts = (client.submit(f"{letter}?", timeout=PATIENCE).result(PATIENCE).text for letter in "abc")
        assert texts(client.map(prompts, timeout=PATIENCE)) == ["a?", "b?", "c?"]


def test_a_callback_of_a_future_may_submit_and_map(server: FaultServer) -> None:
    """It runs in the client's only worker, which nothing it asks for may need."""
    chained: Future[list[str]] = Future()
    with client_of(server, workers=1) as client:

        def go_on(done: Future[Completion]) -> None:
            try:
                more = texts(client.map([done.result().text + "1", "2"], timeout=PATIENCE))
                client.submit("last", timeout=PATIENCE).add_done_callback(
                    lambda last: chained.set_result([*more, last.result().text])
                )
            except BaseException as error:  # noqa: BLE001 (it would be lost in the worker)
                chained.set_exception(error)

        client.submit("first", timeout=PATIENCE).add_done_callback(go_on)
        assert chained.result(PATIENCE) == ["first1", "2", "last"]


def test_maps_in_several_threads_do_not_mix(server: FaultServer) -> None:
    found: dict[str, list[str]] = {}
    with client_of(server, workers=2) as client:

        def go(name: str) -> None:
            found[name] = texts(client.map([f"{name}{number}" for number in range(10)], timeout=PATIENCE))

        threads = [threading.Thread(target=go, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert found == {name: [f"{name}{number}" for number in range(10)] for name in "abcd"}


# submit


def test_a_future_has_the_completion(server: FaultServer) -> None:
    told: list[Future[Completion]] = []
    with client_of(server) as client:
        future = client.submit("Hi", timeout=PATIENCE)
        future.add_done_callback(told.append)
        assert future.result(PATIENCE).text == "Hi"
        assert future.exception() is None
        assert (future.done(), future.running(), future.cancelled()) == (True, False, False)
    assert told == [future]


def test_a_future_has_the_error(server: FaultServer) -> None:
    server.script(error(401, "authentication_error"))
    with client_of(server) as client:
        future = client.submit("Hi", timeout=PATIENCE)
        failure = future.exception(PATIENCE)
        assert isinstance(failure, AuthenticationFailed)
        assert len(failure.attempts) == 1
        with pytest.raises(AuthenticationFailed):
            future.result()


def test_futures_work_with_the_standard_library(server: FaultServer) -> None:
    with client_of(server, workers=2) as client:
        futures = [client.submit(str(number), timeout=PATIENCE) for number in range(6)]
        assert {future.result().text for future in as_completed(futures, PATIENCE)} == set("012345")
        assert wait(futures).not_done == set()


def test_a_future_that_runs_cannot_be_cancelled_but_its_token_can(server: FaultServer) -> None:
    server.on(lambda _: stall_before_headers())
    token = CancelToken()
    with client_of(server) as client:
        future = client.submit("Hi", timeout=None, cancel=token)
        server.wait_until(lambda: len(server.requests) == 1)
        assert not future.cancel()
        assert future.running()
        token.cancel()
        assert isinstance(future.exception(PATIENCE), Cancelled)
        assert not future.cancelled()


def test_a_future_in_line_can_be_cancelled_and_the_line_goes_on(server: FaultServer) -> None:
    gate = threading.Event()
    server.on(lambda request: (Gate(gate), *echo(request)))
    with client_of(server, workers=1) as client:
        first, second, third = (client.submit(name, timeout=PATIENCE) for name in ("first", "second", "third"))
        server.wait_until(lambda: len(server.requests) == 1)
        assert second.cancel()
        gate.set()
        assert third.result(PATIENCE).text == "third"
        assert first.result().text == "first"
        with pytest.raises(CancelledError):
            second.result()
    assert [prompt_of(request) for request in server.requests] == ["first", "third"]
    assert client.metrics().calls == 2


def test_submit_refuses_wrong_input_at_once(server: FaultServer) -> None:
    with client_of(server) as client:
        with pytest.raises(ConfigError):
            client.submit("Hi", temperature=9)
        with pytest.raises(TypeError):
            client.submit("Hi", temprature=1)  # type: ignore[call-arg]
        with pytest.raises(ConfigError):
            client.submit("Hi", timeout=0)
    assert server.requests == []


def test_no_more_than_the_clients_workers_carry_what_was_submitted(server: FaultServer) -> None:
    with client_of(server, workers=3) as client:
        wait([client.submit(str(number), timeout=PATIENCE) for number in range(30)])
        assert len([t for t in threading.enumerate() if t.name.startswith("tidegate_")]) <= 3
    assert server.connections <= 3


def test_a_callback_that_raises_costs_nothing(server: FaultServer) -> None:
    def broken(_: object) -> None:
        raise RuntimeError

    with client_of(server, workers=1) as client:
        future = client.submit("Hi", timeout=PATIENCE)
        future.add_done_callback(broken)
        assert future.result(PATIENCE).text == "Hi"
        assert client.submit("again", timeout=PATIENCE).result(PATIENCE).text == "again"


def test_an_outcome_is_a_value(server: FaultServer) -> None:
    with client_of(server) as client:
        (outcome,) = client.map(["Hi"], timeout=PATIENCE)
    with pytest.raises(AttributeError):
        outcome.index = 3  # type: ignore[misc]
    assert Outcome(0, "Hi", error=TidegateError("no")).ok is False
