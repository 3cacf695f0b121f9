"""A real PostgreSQL on loopback, started by hand and gone with the tests."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
import pytest

from support.redis_server import free_port

USER = "tidegate"
_SUPERUSER = 0

# Nothing has to survive the machine, and nobody but loopback may reach it.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "16MB",
    "max_wal_size": "256MB",
}


def _program(name: str) -> str | None:
    """Debian keeps the server's programs off PATH."""
    folders = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *folders]))


class PostgresServer:
    """A server without users' passwords, from `with` to its end. The test is skipped where there is no `initdb`."""

    def __init__(self) -> None:
        self.port = free_port()
        self._numbers = itertools.count(1)
        self._folder: Path | None = None

    def start(self) -> None:
        """Make its data, start it, and wait until it answers."""
        initdb = _program("initdb")
        if initdb is None:
            pytest.skip("there is no PostgreSQL here")
        self._folder = Path(tempfile.mkdtemp(prefix="tidegate-postgres-"))
        if os.geteuid() == _SUPERUSER:  # as whom it refuses to run
            account = pwd.getpwnam("postgres")
            os.chown(self._folder, account.pw_uid, account.pw_gid)
        self._run(initdb, "--no-sync", "--auth=trust", f"--username={USER}", "--locale=C", "--encoding=UTF8")
        with (self._folder / "data" / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in {**_SETTINGS, "port": self.port}.items())
        self.go_on()

    def go_on(self) -> None:
        """Start it on the data that it has."""
        self._control("start", "--log", str(self._at("log")))

    def stop(self) -> None:
        """Break all connections off, as a crash would; its data stays."""
        self._control("stop", "--mode=immediate")

    def close(self) -> None:
        """Stop it, and remove everything."""
        if self._folder is not None:
            if (self._folder / "data" / "postmaster.pid").exists():
                self.stop()
            shutil.rmtree(self._folder)
            self._folder = None

    def new_database(self) -> str:
        """The URL of a database that is empty."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self._conninfo("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"postgresql+psycopg://{USER}@127.0.0.1:{self.port}/{name}"

    def connect(self, url: str) -> psycopg.Connection[Any]:
        """A connection without the library under test."""
        return psycopg.connect(self._conninfo(url.rpartition("/")[2]), autocommit=True)

    def _conninfo(self, database: str) -> str:
        return f"host=127.0.0.1 port={self.port} user={USER} dbname={database}"

    def _at(self, name: str) -> Path:
        assert self._folder is not None
        return self._folder / name

    def _control(self, *arguments: str) -> None:
        program = _program("pg_ctl")
        assert program is not None, "`initdb` without `pg_ctl`"
        self._run(program, *arguments, "--wait", "--silent")

    def _run(self, program: str, *arguments: str) -> None:
        account: dict[str, Any] = (
            {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == _SUPERUSER else {}
        )
        said = self._at("said")
        with said.open("w+b") as output:  # not a pipe: the server inherits it, and keeps it open
            done = subprocess.run(
                [program, "--pgdata", str(self._at("data")), *arguments],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=60,
                check=False,
                **account,
            )
        assert done.returncode == 0, said.read_text(encoding="utf-8", errors="replace")

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
