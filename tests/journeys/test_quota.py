"""R1 over real sockets: a server that enforces its quota refuses nobody, and its quota is used."""

from __future__ import annotations

import threading
import time

import pytest

from support.quota_server import QuotaServer
from tidegate import Client, Limits

RPM, TPM = 3_000.0, 12_000.0
SECONDS = 9.0


@pytest.mark.slow
@pytest.mark.parametrize("limits", [Limits(rpm=RPM, tpm=TPM), None], ids=["configured", "learned"])
@pytest.mark.parametrize("threads", [1, 8, 64])
def test_R1_nobody_is_refused_and_the_quota_is_used(threads: int, limits: Limits | None) -> None:
    with (
        QuotaServer(rpm=RPM, tpm=TPM, latency=0.01) as server,
        Client("openai/x", api_key="sk-1", base_url=server.base_url, limits=limits) as client,
    ):
        end = time.monotonic() + SECONDS

        def ask(number: int) -> None:
            while (left := end - time.monotonic()) > 0:
                try:
                    client.complete("word " * (5 + number % 40), max_tokens=16, timeout=left)
                except TimeoutError:
                    return

        workers = [threading.Thread(target=ask, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        log = list(server.log)
        (status,) = client.limits().values()
    assert server.count_of(429) <= (0 if limits is not None else 2)
    assert (status.in_use, status.waiting) == (0, 0)
    given = TPM * (1 + SECONDS / 60)
    assert (
        sum(served.tokens for served in log if served.status == 200) >= 0.97 * given
    )  # of so short a time the reserve of 1 % is seen whole
