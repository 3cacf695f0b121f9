"""What every test gets without asking: no network but loopback, nobody's keys, and nothing left behind."""

from __future__ import annotations

import contextlib
import ipaddress
import multiprocessing
import os
import re
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import hypothesis
import pytest

# Hypothesis limits the time of each example by default, which on a busy machine says nothing about the code.
hypothesis.settings.register_profile("tidegate", deadline=None)
hypothesis.settings.load_profile("tidegate")

# A shell starts what runs in the background with SIGINT ignored, and programs inherit that: Ctrl-C would mean nothing
# to those that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The network


class NetworkForbidden(AssertionError):
    """A test reached for something that is not this machine. No `OSError`, which the code under test may handle."""


class _Network:
    """Refuses every address but loopback's, and remembers it: the code under test may swallow what is raised."""

    def __init__(self) -> None:
        self.may_resolve = False
        self._refused: list[str] = []

    def take_refused(self) -> list[str]:
        """What was refused since the last time."""
        refused, self._refused = self._refused, []
        return refused

    def guard_address(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """`real`, a method of sockets whose last argument is an address, for loopback alone."""

        def guarded(sock: socket.socket, *args: Any) -> object:
            address = args[-1]
            # A Unix socket's address is no tuple, and its kin are no network either.
            inet = sock.family in (socket.AF_INET, socket.AF_INET6) and isinstance(address, tuple)
            if inet and not _is_loopback(address[0]):
                self._refuse(f"{real.__name__} to {address[0]!r} port {address[1]}")
            return real(sock, *args)

        return guarded

    def guard_name(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """`real`, a function that looks up its first argument, for names of this machine and for numbers alone."""

        def guarded(host: str | bytes | None, *args: Any, **kwargs: Any) -> object:
            # A number is not looked up, and no host at all is this machine.
            if host and not _is_number(host) and not _is_loopback(host):
                if self.may_resolve:
                    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
                self._refuse(f"{real.__name__} of {host!r}")
            return real(host, *args, **kwargs)

        return guarded

    def _refuse(self, deed: str) -> NoReturn:
        self._refused.append(deed)
        raise NetworkForbidden(f"tests may use loopback only: {deed}")


def _text(host: str | bytes) -> str:
    return host.decode("ascii", "replace") if isinstance(host, bytes) else host


def _is_number(host: str | bytes) -> bool:
    try:
        ipaddress.ip_address(_text(host))
    except ValueError:
        return False
    return True


def _is_loopback(host: str | bytes) -> bool:
    if _is_number(host):
        return ipaddress.ip_address(_text(host)).is_loopback
    name = _text(host).lower().rstrip(".")
    return name == "localhost" or name.endswith(".localhost")


@pytest.fixture(scope="session", autouse=True)
def _network() -> Iterator[_Network]:
    network = _Network()
    with pytest.MonkeyPatch.context() as patch:
        for method in ("connect", "connect_ex", "sendto"):
            patch.setattr(socket.socket, method, network.guard_address(getattr(socket.socket, method)))
        for function in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
            patch.setattr(socket, function, network.guard_name(getattr(socket, function)))
        yield network


@pytest.fixture(autouse=True)
def only_loopback(request: pytest.FixtureRequest, _network: _Network, leak_check: None) -> Iterator[None]:
    """Fails the test that reached for another machine, whatever became of the error that it got for it."""
    _network.may_resolve = request.node.get_closest_marker("allow_dns") is not None
    yield
    if refused := _network.take_refused():
        pytest.fail(f"tests may use loopback only: {', '.join(refused)}")


# The environment

_NOT_FOR_TESTS = re.compile(
    r"""(?ix)   # `http_proxy` counts as well
    (OPENAI | ANTHROPIC | CO | COHERE | GEMINI | GOOGLE | AZURE_OPENAI | GROQ | MISTRAL | TOGETHER | OPENROUTER
        | DEEPSEEK | XAI | VLLM | OLLAMA | LLAMACPP | TIDEGATE)_.*
    | (HTTP | HTTPS | ALL | NO)_PROXY
    | REQUESTS_CA_BUNDLE | CURL_CA_BUNDLE | SSL_CERT_(FILE | DIR) | NETRC
    """
)
_FOLDERS = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME")


@pytest.fixture(autouse=True)
def clean_environment(leak_check: None) -> Iterator[None]:
    """No provider's key or address, no proxy, no certificates of the machine's, no ledger, and a home that is empty."""
    # A client that nobody closed may still write its ledger there.
    kept = tempfile.TemporaryDirectory(prefix="tidegate-home-", ignore_cleanup_errors=True)
    with kept as home, pytest.MonkeyPatch.context() as patch:
        for name in filter(_NOT_FOR_TESTS.fullmatch, list(os.environ)):
            patch.delenv(name)
        for name in _FOLDERS:
            folder = Path(home, "" if name == "HOME" else name.lower())
            folder.mkdir(mode=0o700, exist_ok=True)
            patch.setenv(name, str(folder))
        patch.setenv("TIDEGATE_LEDGER", "none")  # a test that is about the ledger says so
        yield


# Threads and processes

_LEAVE_SECONDS = 2.0
"""How long what a test started may take to end after the test."""

_SHARED_PROCESSES = (b"multiprocessing.resource_tracker", b"multiprocessing.forkserver", b"tidegate.providers.embedded")
"""Children that belong to the process, not to the test that needed them first, and that end with it by themselves."""

T = TypeVar("T")


@pytest.fixture(autouse=True)
def leak_check() -> Iterator[None]:
    """Fails the test that leaves a thread which would keep the program alive, or a child process (which is killed)."""
    threads, children = set(threading.enumerate()), _children()
    yield
    left = _after_a_while(lambda: [t for t in threading.enumerate() if t not in threads and not t.daemon])
    orphans = _after_a_while(lambda: [pid for pid in _children() - children if not _is_shared(pid)])
    said = [repr(thread) for thread in left] + [f"process {pid} ({_command(pid)!r})" for pid in orphans]
    for pid in orphans:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if said:
        pytest.fail(f"left behind by the test: {', '.join(said)}")


def _after_a_while(find: Callable[[], list[T]]) -> list[T]:
    """What `find` still finds when it has had the time to find nothing."""
    give_up = time.monotonic() + _LEAVE_SECONDS
    while (found := find()) and time.monotonic() < give_up:
        time.sleep(0.01)
    return found


def _children() -> set[int]:
    """This process's children, also those that have ended and were not waited for."""
    tasks = Path("/proc/self/task")
    if not tasks.exists():
        return {child.pid for child in multiprocessing.active_children() if child.pid is not None}
    found: set[int] = set()
    for task in tasks.iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found.update(map(int, (task / "children").read_text().split()))
    return found


def _is_shared(pid: int) -> bool:
    return any(mark in _command(pid) for mark in _SHARED_PROCESSES)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").strip()
    except OSError:
        return b""
