"""The primary goes down and comes back, while twenty threads go on asking: nobody notices, and nobody is over quota."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Self

import pytest

from journeys.asking import KEY, MODEL, PATIENCE
from support.fault_server import FaultServer
from support.metered_provider import RESET, MeteredProvider, answer_to
from tidegate import Breaker, Client, Completion, Limits

THREADS, CALLS = 20, 500
FALLBACK = "groq/second"
MAX_TOKENS = 16

RPM, TPM = 200.0, 6_552.0
"""The quota of each provider. Tokens are what binds: 156 calls at once and then 2.6 a second, so that some sixty are
still to be asked when the primary is used again."""

BEFORE, OUTAGE, RECOVERY = 5.0, 30.0, 12.0
"""Seconds. The route is tried again 12 and 24 seconds into the outage, and 6 seconds after its end."""
SLACK = 2.0
"""Seconds that may pass between the end of the recovery time and the first call to try, on a busy machine."""


@dataclass
class Crowd:
    """Threads that share a client and ask all the questions between them. Every third answer is streamed."""

    client: Client
    answers: dict[int, Completion] = field(default_factory=dict)
    failures: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._numbers = itertools.count()
        self._threads = [threading.Thread(target=self._ask_all) for _ in range(THREADS)]

    def _ask_all(self) -> None:
        while (number := next(self._numbers)) < CALLS:
            try:
                self.answers[number] = self._ask(number)
            except BaseException as error:  # noqa: BLE001 (whatever it is, it is one too many)
                self.failures.append(error)

    def _ask(self, number: int) -> Completion:
        if number % 3:
            return self.client.complete(question(number), max_tokens=MAX_TOKENS)
        with self.client.stream(question(number), max_tokens=MAX_TOKENS, recover="restart") as stream:
            for _ in stream:
                pass
            return stream.completion

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join()


@dataclass
class World:
    """Two providers, of which the first can be made to go down."""

    primary: MeteredProvider
    second: MeteredProvider
    went_down: float = math.inf
    came_back: float = math.inf

    def go_down(self) -> None:
        self.went_down = time.monotonic()
        self.primary.down.set()

    def come_back(self) -> None:
        self.came_back = time.monotonic()
        self.primary.down.clear()

    def client(self, limits: Limits, breaker: Breaker) -> Client:
        return Client(
            MODEL, base_url=self.primary.base_url, api_key=KEY, fallbacks=[FALLBACK], limits=limits, breaker=breaker
        )

    def asked_in_vain(self) -> int:
        """Requests to the primary while it was down."""
        return sum(self.went_down < served.at < self.came_back for served in self.primary.log)


def question(number: int) -> str:
    return f"question {number:03}"


def all_is_answered(crowd: Crowd, world: World) -> None:
    """Each question with its own answer, whole, and by the one who is named; nobody was refused for pace."""
    assert crowd.failures == []
    said = {number: (answer.text, answer.complete) for number, answer in crowd.answers.items()}
    assert said == {number: (answer_to(question(number)), "yes") for number in range(CALLS)}
    for name, provider in (("openai", world.primary), ("groq", world.second)):
        named = {question(number) for number, answer in crowd.answers.items() if answer.provider == name}
        assert named
        assert named <= {served.text for served in provider.answered()}
    assert {served.status for served in world.primary.log} == {200, 503, RESET}
    assert {served.status for served in world.second.log} == {200}


def most_in_vain(breaker: Breaker, seconds: float) -> int:
    """What is under way when the circuit opens, and the calls that try each time that it has stayed open for long."""
    return breaker.failures + THREADS + breaker.probes * math.ceil(seconds / breaker.recovery)


def wait_until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.002)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[World]:
    rpm, tpm = request.param
    with FaultServer() as first, FaultServer() as second:
        world = World(MeteredProvider(first, rpm=rpm, tpm=tpm), MeteredProvider(second, rpm=rpm, tpm=tpm))
        monkeypatch.setenv("GROQ_API_KEY", KEY)
        monkeypatch.setenv("GROQ_BASE_URL", world.second.base_url)
        yield world


@pytest.mark.parametrize("world", [(9e5, 9e7)], indirect=True)
def test_an_outage_in_the_middle_is_not_noticed_by_those_who_ask(world: World) -> None:
    """In haste: 100 answers, an outage while the second gives another 100, and then the primary again."""
    breaker = Breaker(recovery=0.1)
    with world.client(Limits(rpm=9e5, tpm=9e7), breaker) as client, Crowd(client) as crowd:
        wait_until(lambda: len(world.primary.answered()) >= 100)
        world.go_down()
        wait_until(lambda: len(world.second.answered()) >= 100)
        world.come_back()
    all_is_answered(crowd, world)
    assert world.asked_in_vain() <= most_in_vain(breaker, world.came_back - world.went_down)
    assert world.primary.answered(since=world.came_back)


@pytest.mark.slow
@pytest.mark.timeout(150)
@pytest.mark.parametrize("world", [(RPM, TPM)], indirect=True)
def test_T1_thirty_seconds_of_outage_cost_no_answer_and_break_no_quota(world: World) -> None:
    """And the primary, which was asked a few times only meanwhile, is used again within one recovery time."""
    breaker = Breaker(recovery=RECOVERY)
    with world.client(Limits(rpm=RPM, tpm=TPM), breaker) as client, Crowd(client) as crowd:
        began = time.monotonic()
        time.sleep(BEFORE)
        world.go_down()
        time.sleep(OUTAGE)
        world.come_back()
    all_is_answered(crowd, world)
    used = sum(served.tokens for served in world.primary.answered(until=began + BEFORE))
    assert used >= 0.9 * TPM * (1 + BEFORE / 60)  # who kept far from the quota would prove nothing
    assert world.asked_in_vain() <= most_in_vain(breaker, OUTAGE)
    back = world.primary.answered(since=world.came_back)
    assert back
    assert back[0].at <= world.came_back + RECOVERY + SLACK
    assert len(back) > THREADS  # it has stayed in use, not only been tried
