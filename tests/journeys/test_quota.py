"""R1 over real sockets: a server that enforces its quota refuses nobody, and its quota is used."""

from __future__ import annotations

import threading
import time

import pytest

from support.quota_server import QuotaServer
from support.stalls import Stalls
from tidegate import Client, Limits

RPM, TPM = 3_000.0, 12_000.0
SECONDS = 9.0
RESERVED_SECONDS = 0.6
"""In which as much is refilled as the limiter keeps in reserve."""


@pytest.mark.slow
@pytest.mark.parametrize("limits", [Limits(rpm=RPM, tpm=TPM), None], ids=["configured", "learned"])
@pytest.mark.parametrize("threads", [1, 8, 64])
def test_R1_nobody_is_refused_and_the_quota_is_used(threads: int, limits: Limits | None) -> None:
    for _ in range(3):
        with Stalls() as stalls:
            refused, used = _run(threads, limits)
        # The reserve of 1 % makes up for 0.6 s. Where the machine itself stood still that long, the run shows nothing.
        if stalls.longest < RESERVED_SECONDS / 2:
            break
    assert len(refused) <= (0 if limits is not None else 2), (refused, stalls.longest)
    given = TPM * (1 + SECONDS / 60)
    assert used >= 0.97 * given  # of so short a time the reserve of 1 % is seen whole


def _run(threads: int, limits: Limits | None) -> tuple[list[float], int]:
    """When somebody was refused, in seconds of the run, and the tokens of those who were served."""
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
    assert (status.in_use, status.waiting) == (0, 0)
    refused = [round(served.at - end + SECONDS, 3) for served in log if served.status == 429]
    return refused, sum(served.tokens for served in log if served.status == 200)
