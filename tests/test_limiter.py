"""A rate limiter without a client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.redis_server import RedisServer
from tidegate import ConfigError, DeadlineExceeded, RateLimiter, RequestTooLarge
from tidegate.testing import ManualClock


def test_it_waits_for_requests_and_tokens() -> None:
    clock = ManualClock()
    limiter = RateLimiter(rpm=60, tpm=6_000, clock=clock)
    for _ in range(60):
        limiter.acquire(tokens=10)
    assert clock.waits == ()
    limiter.acquire(tokens=10)
    assert list(clock.waits) == pytest.approx([1.0])
    limiter.acquire(tokens=5_900)
    assert list(clock.waits)[1:] == pytest.approx([4.1])  # 610 are in use, of which 100 drain a second


def test_trying_does_not_wait() -> None:
    limiter = RateLimiter(tpm=1_000, clock=ManualClock())
    assert limiter.try_acquire(tokens=900)
    assert not limiter.try_acquire(tokens=200)
    assert limiter.try_acquire(tokens=100)


def test_a_turn_that_comes_too_late_is_told_at_once() -> None:
    clock = ManualClock()
    limiter = RateLimiter(rpm=1, clock=clock)
    limiter.acquire()
    with pytest.raises(DeadlineExceeded, match="its turn would come in 60 s") as caught:
        limiter.acquire(timeout=5)
    assert caught.value.retry_after == pytest.approx(60)
    assert clock.waits == ()


def test_R5_what_never_fits_is_refused_at_once() -> None:
    limiter = RateLimiter(tpm=1_000, clock=ManualClock())
    with pytest.raises(RequestTooLarge, match="needs about 1,001 tokens, and its limit is 1,000"):
        limiter.acquire(tokens=1_001)
    with pytest.raises(RequestTooLarge):
        limiter.try_acquire(tokens=1_001)


def test_what_was_not_used_is_given_back() -> None:
    limiter = RateLimiter(tpm=1_000, clock=ManualClock())
    with limiter.hold(tokens=1_000) as grant:
        assert not limiter.try_acquire(tokens=100)
        grant.settle(tokens=300)
    assert limiter.try_acquire(tokens=700)
    assert not limiter.try_acquire(tokens=1)


@pytest.mark.parametrize("pace", ["bucket", "window"])
def test_what_was_acquired_comes_back(pace: str) -> None:
    clock = ManualClock()
    limiter = RateLimiter(rpm=10, pace=pace, clock=clock)
    for _ in range(25):
        limiter.acquire()
    assert sum(clock.waits) == pytest.approx(120 if pace == "window" else 90, abs=1)


def test_so_many_calls_at_a_time() -> None:
    limiter = RateLimiter(concurrent=2)
    lock, inside, most = threading.Lock(), [0], [0]
    barrier = threading.Barrier(2)

    @limiter
    def call() -> None:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        barrier.wait(10)  # passes only when two are inside
        with lock:
            inside[0] -= 1

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(call) for _ in range(8)]:
            future.result()
    assert most == [2]
    assert limiter.status().in_use == 0


def test_a_failing_call_gives_its_place_back() -> None:
    limiter = RateLimiter(concurrent=1)
    with pytest.raises(KeyError), limiter:
        raise KeyError
    with limiter.hold(), pytest.raises(DeadlineExceeded), limiter.hold(timeout=0.01):
        pytest.fail("there is one place")
    assert limiter.status().in_use == 0


def test_nested_use_of_with_is_undone_in_order() -> None:
    limiter = RateLimiter(rpm=100, concurrent=3)
    with limiter as outer, limiter as inner:
        assert outer is not inner
        assert limiter.status().in_use == 2
    assert limiter.status().in_use == 0


def test_a_decorated_function_is_still_itself() -> None:
    @RateLimiter(rpm=100)
    def ask(question: str, *, loud: bool = False) -> str:
        """Ask it."""
        return question.upper() if loud else question

    assert ask("why", loud=True) == "WHY"
    assert (ask.__name__, ask.__doc__) == ("ask", "Ask it.")


async def _later() -> None:
    await asyncio.sleep(0)


WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "nothing is limited": (RateLimiter, "nothing is limited"),
    "no limit": (lambda: RateLimiter(rpm=0), r"`RateLimiter\(rpm=…\)`"),
    "not a number": (lambda: RateLimiter(tpm=float("nan")), r"`RateLimiter\(tpm=…\)`"),
    "unknown option": (lambda: RateLimiter(rpm=1, burst=3), "no option `burst`"),
    "a store without a name": (lambda: RateLimiter(rpm=1, store="redis://127.0.0.1:1/0"), r"`RateLimiter\(name=…\)`"),
    "negative tokens": (lambda: RateLimiter(rpm=1).acquire(tokens=-1), "`tokens` is a number"),
    "no time": (lambda: RateLimiter(rpm=1).acquire(timeout=0), "`timeout` is in seconds"),
    "places without an end": (lambda: RateLimiter(concurrent=1).acquire(), "with limiter.hold"),
    "a coroutine": (lambda: RateLimiter(rpm=1)(_later), "is asynchronous"),
}


@pytest.mark.parametrize(("build", "problem"), WRONG.values(), ids=WRONG)
def test_bad_input_is_a_config_error(build: Callable[[], object], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        build()


def test_limiters_of_one_name_share_a_store() -> None:
    with RedisServer() as redis:
        one, other, stranger = (RateLimiter(rpm=3, name=name, store=redis.url) for name in ("a", "a", "b"))
        assert [each.try_acquire() for each in (one, other, one, other, stranger)] == [True, True, True, False, True]
        for each in (one, other, stranger):
            each.close()
