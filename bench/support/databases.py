"""Ledgers' databases for the benchmarks: a file, or a PostgreSQL of their own on loopback.

The server has its defaults, so that a commit survives a loss of power; only what a small machine and parallel runs ask
for is set.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

_USER = "bench"
_SUPERUSER = 0
_SETTINGS = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": "300"}


def file_url(file: Path) -> str:
    """The address of a ledger in a file."""
    return f"sqlite:///{file}"


def postgres_program(name: str) -> str | None:
    """Where one of PostgreSQL's programs is; Debian keeps the server's off PATH. None: nowhere."""
    folders = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), *folders)))


@contextlib.contextmanager
def postgres() -> Iterator[str | None]:
    """A server; yields the address of a role's databases, without the name of one. None where it is not installed."""
    if postgres_program("initdb") is None:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="tidegate-bench-postgres-"))
    try:
        if os.geteuid() == _SUPERUSER:  # as whom it refuses to run
            account = pwd.getpwnam("postgres")
            os.chown(folder, account.pw_uid, account.pw_gid)
        port = _start(folder)
        yield f"postgresql+psycopg://{_USER}@127.0.0.1:{port}/"
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            _run(folder, "pg_ctl", "stop", "--mode=immediate", "--wait", "--silent")
        shutil.rmtree(folder)


def _start(folder: Path) -> int:
    _run(folder, "initdb", "--auth=trust", f"--username={_USER}", "--locale=C", "--encoding=UTF8", "--no-sync")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = cast("int", listener.getsockname()[1])
    with (folder / "data" / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in {**_SETTINGS, "port": port}.items())
    _run(folder, "pg_ctl", "start", "--wait", "--silent", "--log", str(folder / "log"))
    return port


def new_database(server: str, name: str) -> str:
    """The address of an empty database of that name."""
    import psycopg  # noqa: PLC0415 (not where there is no server)

    with psycopg.connect(plain_url(f"{server}postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return f"{server}{name}"


def plain_url(url: str) -> str:
    """The address as PostgreSQL's own programs and psycopg take it."""
    return url.replace("+psycopg", "")


def _run(folder: Path, program: str, *arguments: str) -> None:
    account = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == _SUPERUSER else {}
    command = [cast("str", postgres_program(program)), "--pgdata", str(folder / "data"), *arguments]
    with (folder / "said").open("wb") as said:  # not a pipe: the server inherits it, and keeps it open
        done = subprocess.run(  # noqa: S603 (our own command)
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said, timeout=60, check=False, **account
        )
    if done.returncode:
        raise SystemExit((folder / "said").read_text(encoding="utf-8", errors="replace"))
