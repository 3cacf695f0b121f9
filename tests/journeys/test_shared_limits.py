"""R2: four processes, one quota in Redis, over real sockets."""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
import time
from collections.abc import Iterator

import pytest

from journeys.asking import program
from support.quota_server import QuotaServer
from support.redis_server import RedisServer
from tidegate import Breaker, Client, ConfigError, Limits

pytestmark = pytest.mark.slow

MEMBER = """
import sys, threading, time
name, base_url, store, rpm, tpm, skew = sys.argv[1:]
wall = time.time
time.time = lambda: wall() + float(skew)
import tidegate
limits = tidegate.Limits(rpm=float(rpm), tpm=float(tpm), store=store)
client = tidegate.Client("openai/gpt-4o-mini", api_key="sk-1", base_url=base_url, limits=limits, timeout=60)
def ask():
    while True:
        client.complete(name + " " + "word " * (hash(threading.get_ident()) % 40), max_tokens=16)
print("ready", flush=True)
for _ in range(8):
    threading.Thread(target=ask, daemon=True).start()
threading.Event().wait()
"""


@contextlib.contextmanager
def four_members(server: QuotaServer, redis: RedisServer) -> Iterator[list[object]]:
    """The first of them has a wall clock that is 30 s ahead."""
    arguments = (server.base_url, redis.url, str(server.rpm), str(server.tpm))
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(program(MEMBER, f"p{index}", *arguments, "30" if index == 0 else "0"))
            for index in range(4)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield list(processes)


@pytest.mark.parametrize("scarce", ["requests", "tokens"])
def test_R2_four_processes_keep_one_quota_also_when_one_is_killed(scarce: str) -> None:
    """No refusal in the server's log, at 98 % of what it allowed, and nobody waits a second for the dead one."""
    rpm, tpm = (900.0, 10e6) if scarce == "requests" else (10_000.0, 60_000.0)
    with RedisServer() as redis, QuotaServer(rpm=rpm, tpm=tpm) as server, four_members(server, redis) as processes:
        time.sleep(10 + 3 * random.random())  # noqa: S311 (any moment)
        processes[1].kill()  # type: ignore[attr-defined]
        killed = time.monotonic()
        time.sleep(12)
        log = list(server.log)
        end = log[-1].at
    assert {served.status for served in log} == {200}
    for name in ("p0", "p2", "p3"):
        moments = [served.at for served in log if served.text.startswith(name)]
        after = [moment for moment in moments if moment > killed + 0.5]
        assert after, f"{name} went on"
    gaps = [later.at - earlier.at for earlier, later in itertools.pairwise(log) if earlier.at > killed - 1]
    assert max(gaps) < 1.0
    used = sum(served.tokens if scarce == "tokens" else 1 for served in log)
    given = (tpm if scarce == "tokens" else rpm) * (1 + (end - log[0].at) / 60)
    assert used >= 0.98 * given


def test_R2_without_their_store_processes_stay_within_the_quota_together() -> None:
    """Redis is killed, comes back empty, and is used again; the server refuses nobody meanwhile."""
    with RedisServer() as redis, QuotaServer(rpm=900, tpm=10e6) as server, four_members(server, redis):
        time.sleep(9)
        redis.stop()
        gone = time.monotonic()
        time.sleep(6)
        redis.start()
        time.sleep(8)
        log = list(server.log)
    assert {served.status for served in log} == {200}
    without = [served for served in log if gone + 1 < served.at < gone + 6]
    assert len(without) >= 0.8 * 5 * 900 / 60


def test_a_circuit_that_one_process_opens_is_open_in_the_others() -> None:
    down = threading.Event()
    with RedisServer() as redis, QuotaServer(rpm=9e5, tpm=9e9, latency=0, down=down.is_set) as server:
        clients = [
            Client(
                "openai/gpt-4o-mini",
                api_key="sk-1",
                base_url=server.base_url,
                retry=None,
                breaker=Breaker(failures=3, recovery=1, probes=1, store=redis.url),
            )
            for _ in range(2)
        ]
        one, other = clients
        other.complete("Hi")
        down.set()
        for _ in range(3):
            with contextlib.suppress(Exception):
                one.complete("Hi")
        time.sleep(0.3)
        seen = len(server.log)
        with pytest.raises(Exception, match="circuit"):
            other.complete("Hi")
        assert len(server.log) == seen
        down.clear()
        time.sleep(1.1)
        one.complete("Hi")
        time.sleep(0.3)
        other.complete("Hi")
        assert set(other.circuits().values()) == {"closed"}
        for client in clients:
            client.close()


def test_bad_stores_are_told_when_the_client_is_built() -> None:
    with RedisServer(password="s3cret-word") as redis:  # noqa: S106
        wrong = redis.url.replace("s3cret-word", "0ther-word")
        nobody = f"redis://:s3cret-word@127.0.0.1:{redis.port + 1 if redis.port < 65535 else 1}/0"
        problems = {
            "does not accept the user or password": wrong,
            "does not answer .connection refused": nobody,
            "looks like": "http://127.0.0.1:1",
        }
        for problem, url in problems.items():
            with pytest.raises(ConfigError, match=rf"`Limits\(store=…\)`: .*{problem}") as caught:
                Client("openai/x", api_key="sk-1", limits=Limits(rpm=5, store=url))
            assert "-word" not in str(caught.value)
        with pytest.raises(ConfigError, match=r"`Limits\(store=…\)`: there is nothing to share"):
            Client("openai/x", api_key="sk-1", limits=Limits(store=redis.url))
        with Client("openai/x", api_key="sk-1", limits=Limits(rpm=5, store=redis.url)) as client:
            assert "s3cret" not in repr(client)
            assert f"store=redis://127.0.0.1:{redis.port}/0" in repr(client)
