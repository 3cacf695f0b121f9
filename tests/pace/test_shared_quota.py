"""One quota in a real Redis: taken in order, put right by responses, and halved when the store is gone."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.redis_server import RedisServer
from support.simulation import COUNTS, BucketServer, SimulatedClock, Simulation, WindowServer
from tidegate.clock import SYSTEM_CLOCK, Deadline
from tidegate.pace.bucket import Bucket
from tidegate.pace.gate import Gate
from tidegate.pace.headers import Reading, Unit
from tidegate.pace.levels import Quota
from tidegate.pace.pacing import Counted, Receipt
from tidegate.pace.shared import SharedQuota, StoreGone
from tidegate.storage.redis import RedisStore

REQUESTS = Bucket(600, 60, 600)
TOKENS = Bucket(60_000, 60, 60_000)


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def store(redis: RedisServer) -> Iterator[RedisStore]:
    connected = RedisStore(redis.url, field="Limits(store=…)")
    yield connected
    connected.close()


class Names:
    """A name that was not used yet."""

    count = 0

    @classmethod
    def next(cls) -> str:
        cls.count += 1
        return f"quota {cls.count}"


def members(
    store: RedisStore, count: int, *, pace: str = "bucket", tokens: Bucket = TOKENS
) -> tuple[SimulatedClock, list[SharedQuota]]:
    clock = SimulatedClock()
    name = Names.next()
    kind: Literal["bucket", "window"] = "window" if pace == "window" else "bucket"
    return clock, [
        SharedQuota(store, name, ("requests", "tokens"), [REQUESTS, tokens], pace=kind, clock=clock, store_clock=clock)
        for _ in range(count)
    ]


@pytest.mark.parametrize("pace", ["bucket", "window"])
def test_R2_what_one_takes_another_has_not(store: RedisStore, pace: str) -> None:
    clock, (one, other) = members(store, 2, pace=pace)
    assert one.admit(clock.now, [100, 30_000]) == 0.0
    assert other.admit(clock.now, [100, 30_000]) == 0.0
    assert one.admit(clock.now, [1, 100]) > 0
    assert other.admit(clock.now, [1, 100]) > 0
    assert one.levels(clock.now) == other.levels(clock.now) == (200.0, 60_000.0)


@pytest.mark.parametrize("pace", ["bucket", "window"])
def test_R3_in_a_store_units_are_taken_together_or_not_at_all(store: RedisStore, pace: str) -> None:
    clock, (one, _) = members(store, 2, pace=pace)
    assert one.admit(clock.now, [1, 60_000]) == 0.0
    assert one.admit(clock.now, [1, 1_000]) > 0
    assert one.levels(clock.now) == (1.0, 60_000.0)
    one.change(clock.now, [0, -20_000])
    assert one.levels(clock.now) == (1.0, 40_000.0)
    assert one.admit(clock.now, [1, 20_000]) == 0.0


Steps = st.lists(
    st.tuples(
        st.sampled_from(["admit", "change"]),
        st.floats(0, 20),
        st.integers(0, 400),
        st.integers(-20_000, 40_000),
    ),
    max_size=25,
)


@given(steps=Steps)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_store_computes_what_memory_computes(store: RedisStore, steps: list[tuple[str, float, int, int]]) -> None:
    """The script and `Quota` agree on every level and every wait."""
    clock, (shared,) = members(store, 1)
    local = Quota([REQUESTS, TOKENS])
    for operation, passed, requests, tokens in steps:
        clock.now += passed
        if operation == "admit":
            units = [requests, max(0, tokens)]
            waits = [each.admit(clock.now, units) for each in (local, shared)]
            assert waits[1] == pytest.approx(waits[0], abs=1e-6)
        else:
            local.change(clock.now, [0, tokens])
            shared.change(clock.now, [0, tokens])
        assert shared.levels(clock.now) == pytest.approx(local.levels(clock.now), abs=1e-6)


def test_R4_turns_are_booked_in_the_order_of_asking(store: RedisStore) -> None:
    """A heavy one is not overtaken by light ones of another process that come later."""
    clock, (heavy, light) = members(store, 2)
    heavy.change(clock.now, [0, 60_000])
    assert heavy.admit(clock.now, [1, 50_000], book=True) == pytest.approx(50.0)
    assert light.admit(clock.now, [1, 1_000], book=True) == pytest.approx(51.0)
    clock.now += 50.0
    assert heavy.admit(clock.now, [1, 50_000], book=True) == 0.0
    assert light.admit(clock.now, [1, 1_000], book=True) == pytest.approx(1.0)
    clock.now += 1.001
    assert light.admit(clock.now, [1, 1_000], book=True) == 0.0
    assert not heavy.booked
    assert not light.booked


def test_a_booked_turn_is_given_back_when_nobody_waits_any_more(store: RedisStore) -> None:
    clock, (one, other) = members(store, 2)
    one.change(clock.now, [0, 60_000])
    one.admit(clock.now, [1, 50_000], book=True)
    assert one.booked
    one.idle(clock.now)
    assert not one.booked
    assert other.admit(clock.now, [1, 1_000]) == pytest.approx(1.0)


def test_a_booked_turn_serves_whoever_is_first_when_it_comes(store: RedisStore) -> None:
    """Also when that is another call with other needs: the difference is booked or given back."""
    clock, (one, other) = members(store, 2)
    one.change(clock.now, [0, 60_000])
    assert one.admit(clock.now, [1, 30_000], book=True) == pytest.approx(30.0)
    assert one.admit(clock.now, [1, 10_000], book=True) == pytest.approx(10.0)
    assert one.levels(clock.now) == (1.0, 70_000.0)
    clock.now += 10.0
    assert one.admit(clock.now, [1, 10_000], book=True) == 0.0
    assert other.levels(clock.now) == (0.0, 60_000.0)


def test_a_pause_is_everybodys(store: RedisStore) -> None:
    clock, (one, other) = members(store, 2)
    one.pause(7.0)
    assert other.admit(clock.now, [1, 1], book=True) == pytest.approx(7.0)
    assert not other.booked
    clock.now += 7.0
    assert other.admit(clock.now, [1, 1]) == 0.0


def counted(quota: SharedQuota, receipt: Receipt, tokens: float, remaining: float, limit: float = 60_000) -> None:
    reading: dict[Unit, Reading] = {"tokens": Reading(limit, remaining, None, 60.0)}
    quota.counted(Counted([1, tokens], [1, tokens], [1, 1], receipt, reading, charged=True))


def test_what_a_response_says_is_left_is_believed_and_what_was_sent_after_its_call_added(store: RedisStore) -> None:
    clock, (one, other) = members(store, 2)
    one.admit(clock.now, [1, 1_000])
    first = one.receipt
    clock.now += 10  # so that what may have overtaken it is next to nothing
    other.admit(clock.now, [1, 5_000])
    clock.now += 10
    counted(one, first, 1_000, remaining=20_000)
    # 40,000 were used when it arrived, 19.5 s ago at the least, and 1 % is never used.
    assert other.levels(clock.now)[1] == pytest.approx(40_000 + 600, abs=50)  # as of now
    clock.now += 10
    counted(other, other.receipt, 5_000, remaining=30_000)  # 20 s later than the first, of a call 10 s later
    assert other.levels(clock.now)[1] == pytest.approx(30_600, abs=1)


def test_of_two_calls_under_way_together_the_higher_count_is_the_later_one(store: RedisStore) -> None:
    clock, (one, other) = members(store, 2)
    one.admit(clock.now, [1, 1_000])
    first = one.receipt
    clock.now += 1
    other.admit(clock.now, [1, 1_000])
    second = other.receipt
    counted(other, second, 1_000, remaining=30_000)
    assert other.levels(clock.now)[1] == pytest.approx(30_600 + 1_200)  # the first may not be counted
    counted(one, first, 1_000, remaining=58_000)
    assert other.levels(clock.now)[1] == pytest.approx(30_600)


def test_a_refused_call_has_used_nothing(store: RedisStore) -> None:
    clock, (one, _) = members(store, 2)
    one.admit(clock.now, [1, 5_000])
    one.counted(Counted([1, 5_000], [1, 5_000], [1, 1], one.receipt, {}, charged=False))
    assert one.levels(clock.now) == (0.0, 0.0)


def test_lower_limits_of_the_provider_bind_all_who_hear_of_them(store: RedisStore) -> None:
    clock, (one, _) = members(store, 2)
    one.admit(clock.now, [1, 100])
    counted(one, one.receipt, 100, remaining=29_900, limit=30_000)
    assert one.admit(clock.now, [1, 29_000]) == 0.0
    assert one.admit(clock.now, [1, 29_000]) > 50


@pytest.mark.slow
@pytest.mark.parametrize("count", [COUNTS["more"], COUNTS["less"]], ids=["more", "less"])
def test_R2_four_processes_are_never_refused_and_use_the_quota(store: RedisStore, count: object) -> None:
    """Against a bucket that counts in its own way, for 40 s of its time."""
    clock, quotas = members(store, 4)
    server = BucketServer(count, rpm=600, tpm=60_000)  # type: ignore[arg-type]
    gates = [Gate(("requests", "tokens"), quota, clock=clock) for quota in quotas]
    Simulation(gates, clock, server.ask, latency=0.2, step=0.02).run(64, 40)
    assert server.refused == 0
    assert server.share_used(40) >= 0.98


@pytest.mark.slow
def test_R2_no_sliding_minute_of_four_processes_is_over(store: RedisStore) -> None:
    clock, quotas = members(store, 4, pace="window", tokens=Bucket(1e9, 60, 1e9))
    server = WindowServer(600)
    gates = [Gate(("requests", "tokens"), quota, adaptive=False, clock=clock) for quota in quotas]
    Simulation(gates, clock, server.ask, latency=0.2, step=0.02).run(64, 130)
    assert server.most <= 600
    assert len(server.log) >= 0.98 * 600 * 130 / 60


# A store that is gone


def real_quota(redis: RedisServer, name: str) -> tuple[RedisStore, SharedQuota]:
    store = RedisStore(redis.url, field="Limits(store=…)")
    return store, SharedQuota(store, name, ("requests", "tokens"), [REQUESTS, TOKENS])


def test_R2_without_its_store_each_process_keeps_to_its_share() -> None:
    clock = SYSTEM_CLOCK
    with RedisServer() as redis:
        pairs = [real_quota(redis, "gone") for _ in range(4)]
        for _, quota in pairs:
            assert quota.admit(clock.monotonic(), [1, 10]) == 0.0
        for _, quota in pairs:
            quota._said_at = -1e9  # a second has passed
            quota.admit(clock.monotonic(), [1, 10])
        redis.stop()
        with pytest.warns(StoreGone, match=f"redis://127.0.0.1:{redis.port}/0 does not answer .connection refused"):
            wait = pairs[0][1].admit(clock.monotonic(), [1, 150])
        assert pairs[0][1].shared == "not shared now: 1/4 of it"
        # A quarter of 1,000 tokens a second, and nothing to begin with.
        assert wait == pytest.approx(150 / 250, abs=0.2)
        for store, _ in pairs:
            store.close()


def test_a_store_that_is_back_is_used_again_and_told_what_was_used_without_it() -> None:
    with RedisServer() as redis:
        store, quota = real_quota(redis, "back")
        now = SYSTEM_CLOCK.monotonic()
        quota.admit(now, [1, 10])
        redis.stop()
        with pytest.warns(StoreGone):
            quota.admit(now, [1, 10])
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # one warning is enough
            quota.admit(now + 10, [1, 100])
        redis.start()
        assert quota.admit(now + 30, [1, 29_000]) == 0.0
        assert quota.shared == "shared"
        assert quota.levels(now + 30)[1] == pytest.approx(30_000 + 100 + 29_000, rel=0.02)
        store.close()


def test_a_store_that_stands_still_holds_a_call_up_for_a_second_at_most() -> None:
    with RedisServer() as redis:
        store, quota = real_quota(redis, "still")
        gate = Gate(("requests", "tokens"), quota)
        gate.enter({"requests": 1, "tokens": 10}, deadline=Deadline.after(10, SYSTEM_CLOCK)).close()
        redis.freeze()
        with pytest.warns(StoreGone, match="no answer within 1 s"):
            ticket = gate.enter({"requests": 1, "tokens": 10}, deadline=Deadline.after(10, SYSTEM_CLOCK))
        ticket.close(succeeded=True)
        assert gate.status().in_use == 0
        redis.thaw()
        store.close()


def test_R3_nothing_that_was_taken_of_a_shared_quota_is_lost(store: RedisStore) -> None:
    """A storm of threads behind two gates, some of them cancelled or too late: at the end all of it has drained."""
    name = Names.next()
    quotas = [SharedQuota(store, name, ("requests",), [Bucket(60_000, 60, 20)], pace="bucket") for _ in range(2)]
    gates = [Gate(("requests",), quota) for quota in quotas]
    granted = []

    def work(index: int) -> None:
        for turn in range(20):
            try:
                ticket = gates[index % 2].enter(
                    {"requests": 1 + (index + turn) % 5},
                    deadline=Deadline.after(0.002 if turn % 7 == 0 else 20, SYSTEM_CLOCK),
                )
            except TimeoutError:
                continue
            granted.append(ticket)
            ticket.close(succeeded=True)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) > 200
    for gate, quota in zip(gates, quotas, strict=True):
        status = gate.status()
        assert (status.in_use, status.waiting) == (0, 0)
        assert not quota.booked
    assert quotas[0].admit(SYSTEM_CLOCK.monotonic(), [1], book=False) < 0.03
