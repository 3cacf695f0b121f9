"""`kill -9` at random moments: what was acknowledged is in the ledger once, and nothing else is wrong with it."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from support.postgres import PostgresServer
from support.victims import LONGEST_LIFE, check, executioner, kill


def survive(url: str, folder: Path, *, rounds: int, durability: str = "call") -> None:
    """Have so many victims killed; longer-lived ones where the machine is too busy for them to acknowledge some."""
    seed, done, acknowledged, life = secrets.randbelow(10**9), 0, folder / "acknowledged", LONGEST_LIFE
    print(f"seed {seed}")  # noqa: T201 (pytest shows it for a test that fails)
    with executioner() as process:
        while done < rounds or not acknowledged.exists() or acknowledged.stat().st_size < 100 * rounds:
            assert done < 20 * rounds, "nothing is ever acknowledged"
            kill(process, url, acknowledged, seed=seed + done, rounds=rounds, durability=durability, life=life)
            done += rounds
            life *= 1.5
    check(url, acknowledged, rounds=done)


def test_L1_what_was_acknowledged_before_a_kill_is_there_once(tmp_path: Path) -> None:
    survive(f"sqlite:///{tmp_path / 'usage.db'}", tmp_path, rounds=14)


def test_L1_with_durability_disk_as_well(tmp_path: Path) -> None:
    survive(f"sqlite:///{tmp_path / 'usage.db'}", tmp_path, rounds=5, durability="disk")


def test_L1_in_postgresql_as_well(postgres: PostgresServer, tmp_path: Path) -> None:
    survive(postgres.new_database(), tmp_path, rounds=6)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_L1_a_thousand_kills(tmp_path: Path) -> None:
    """The ledger is opened and checked after each fiftieth, and goes on."""
    url, acknowledged = f"sqlite:///{tmp_path / 'usage.db'}", tmp_path / "acknowledged"
    with executioner() as process:
        for seed in range(20):
            kill(process, url, acknowledged, seed=seed, rounds=50)
            found = check(url, acknowledged, rounds=50 * (seed + 1))
    assert found > 1_000


@pytest.mark.slow
def test_L1_a_hundred_kills_with_durability_disk(tmp_path: Path) -> None:
    survive(f"sqlite:///{tmp_path / 'usage.db'}", tmp_path, rounds=100, durability="disk")
