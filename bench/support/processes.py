"""Processes that the benchmarks start, and end: nginx, the loopback servers, the workers."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import string
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from support import answers
from support.venvs import environment, python_of

_UP_WITHIN = 10.0
_ENDS_WITHIN = 5.0

_NGINX = string.Template("""\
daemon off;
master_process off;
pid $folder/nginx.pid;
error_log stderr crit;
events { worker_connections 4096; }
http {
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_body_temp_path $folder/body;
    proxy_temp_path $folder/proxy;
    fastcgi_temp_path $folder/fastcgi;
    uwsgi_temp_path $folder/uwsgi;
    scgi_temp_path $folder/scgi;
    server {
        listen 127.0.0.1:$port backlog=4096;
        location = /v1/chat/completions { default_type application/json; return 200 '$answer'; }
        # A file answers no POST: 405 leads to it by GET. The filter, which replaces nothing, makes nginx forget the
        # length, so that the stream comes chunked, as a provider's does.
        location = /stream/v1/chat/completions { error_page 405 =200 /events.sse; return 405; }
        location = /events.sse {
            internal;
            root $folder;
            types { text/event-stream sse; }
            sub_filter_types text/event-stream;
            sub_filter '<none of this>' '';
        }
    }
}
""")


@contextlib.contextmanager
def nginx(folder: Path) -> Iterator[str]:
    """An nginx of one worker: plain answers under `<url>/v1`, whole streams under `<url>/stream/v1`. Yields the URL."""
    port = _free_port()
    _write_configuration(folder, port)
    command = [nginx_program(), "-p", str(folder), "-c", str(folder / "nginx.conf")]
    process = subprocess.Popen(command)  # noqa: S603 (our own command)
    with _ended(process):
        _await_answer(process, port)
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def answering(home: Path, *arguments: str) -> Iterator[tuple[str, int]]:
    """`support.answering` with `arguments`; yields its URL and its process id."""
    command = [python_of("uvloop"), "-m", "support.answering", *arguments]
    with _piped(command, environment("uvloop", home)) as process:
        yield f"http://127.0.0.1:{int(_line(process))}", process.pid


class Worker:
    """The other end of `support.worker`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def versions(self) -> dict[str, str]:
        """Of its interpreter and its client."""
        return cast("dict[str, str]", self._obey(do="versions"))

    def measure(self, form: str, url: str, *, threads: int, pool: int, seconds: float) -> dict[str, float]:
        """CPU and wall seconds, and units done, of `seconds` of work."""
        order = {"form": form, "url": url, "threads": threads, "pool": pool, "seconds": seconds}
        return cast("dict[str, float]", self._obey(do="measure", **order))

    def _obey(self, **order: object) -> Any:  # noqa: ANN401 (JSON)
        assert self._process.stdin is not None  # noqa: S101 (for the type checker)
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(_line(self._process))


@contextlib.contextmanager
def worker(name: str, home: Path) -> Iterator[Worker]:
    """A client's process."""
    with _piped([python_of(name), "-m", "support.worker", name], environment(name, home)) as process:
        yield Worker(process)


@contextlib.contextmanager
def payer(client: str, home: Path, *arguments: str) -> Iterator[Worker]:
    """`support.paying` with `arguments`, in a client's environment."""
    command = [python_of(client), "-m", "support.paying", *arguments]
    with _piped(command, environment(client, home)) as process:
        yield Worker(process)


def versions_of(clients: Iterable[str], home: Path) -> dict[str, dict[str, str]]:
    """The versions of each client, as its own interpreter says them; a client that comes twice is asked once."""
    found = {}
    for name in dict.fromkeys(clients):
        with worker(name, home) as one:
            found[name] = one.versions()
    return found


_SAY_VERSIONS = (
    "import importlib.metadata, json, sys; print(json.dumps({name: importlib.metadata.version(name)"
    " for name in sys.argv[1:]}))"
)


def package_versions(
    clients: Iterable[str], packages: Mapping[str, Sequence[str]], home: Path
) -> dict[str, dict[str, str]]:
    """The versions of each client's packages, without importing any of them."""
    return {name: output_of(name, home, ["-c", _SAY_VERSIONS, *packages[name]]) for name in sorted(clients)}


def closed_loop(client: str, home: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """What `support.closed_loop` measured, and the CPU that it and all other programs used meanwhile, in cores."""
    command = [python_of(client), "-m", "support.closed_loop", *arguments]
    with _piped(command, environment(client, home)) as process:
        times = json.loads(_line(process))
        before = _cpu_at(times["opens"], process.pid)
        after = _cpu_at(times["closes"], process.pid)
        wall, own, machine = (end - start for start, end in zip(before, after, strict=True))
        used = {"cpu_cores": own / wall, "others_cpu_cores": (machine - own) / wall}
        return {
            **cast("dict[str, Any]", json.loads(_line(process))),
            **used,
            "seconds": times["closes"] - times["opens"],
        }


def _cpu_at(moment: float, process_id: int) -> tuple[float, float, float]:
    """At that moment of the monotonic clock, which all processes share: the time, a process's CPU, the machine's."""
    time.sleep(max(0.0, moment - time.monotonic()))
    return time.monotonic(), cpu_seconds(process_id), machine_cpu_seconds()


@contextlib.contextmanager
def quota_server(home: Path, *arguments: str) -> Iterator[str]:
    """`support.quota_server` with `arguments`; yields its URL. It runs in tidegate's environment, where llmock is."""
    command = [python_of("tidegate"), "-m", "support.quota_server", *arguments]
    with _piped(command, environment("tidegate", home)) as process:
        yield f"http://127.0.0.1:{int(_line(process))}"


@contextlib.contextmanager
def scripted_model(home: Path) -> Iterator[str]:
    """`support.scripted_model`; yields its URL. It runs where uvloop is, though it does without."""
    command = [python_of("uvloop"), "-m", "support.scripted_model"]
    with _piped(command, environment("uvloop", home)) as process:
        yield f"http://127.0.0.1:{int(_line(process))}"


def drained(client: str, home: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """What came of `support.draining` with `arguments`. What the client writes on standard error is not shown."""
    return _quietly(client, home, ["-m", "support.draining", *arguments])


@contextlib.contextmanager
def outage_server(home: Path, *arguments: str) -> Iterator[str]:
    """`support.outage_server` with `arguments`; yields its URL."""
    command = [python_of("tidegate"), "-m", "support.outage_server", *arguments]
    with _piped(command, environment("tidegate", home)) as process:
        yield f"http://127.0.0.1:{int(_line(process))}"


def through_an_outage(client: str, home: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """What came of `support.outage_callers` with `arguments`. What the client writes on standard error is not shown."""
    return _quietly(client, home, ["-m", "support.outage_callers", *arguments])


def raced(client: str, home: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """What came of `support.budgeting` with `arguments`. What the client writes on standard error is not shown."""
    return _quietly(client, home, ["-m", "support.budgeting", *arguments])


def _quietly(client: str, home: Path, arguments: Sequence[str]) -> dict[str, Any]:
    command = [python_of(client), *arguments]
    variables = environment(client, home)
    done = subprocess.run(command, capture_output=True, text=True, env=variables)  # noqa: S603, PLW1510 (ours; looked at below)
    if done.returncode or not done.stdout:
        raise SystemExit(f"{command!r} ended without an answer:\n{done.stderr[-2000:]}")
    return cast("dict[str, Any]", json.loads(done.stdout.splitlines()[-1]))


def output_of(client: str, home: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """The JSON that a client's interpreter prints last when it is run with `arguments`."""
    command = [python_of(client), *arguments]
    done = subprocess.run(  # noqa: S603 (our own command)
        command, check=True, stdout=subprocess.PIPE, text=True, cwd=home, env=environment(client, home)
    )
    return cast("dict[str, Any]", json.loads(done.stdout.splitlines()[-1]))


def cpu_seconds(process_id: int) -> float:
    """User and system time of a running process so far."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def machine_cpu_seconds() -> float:
    """CPU that all programs of the machine have used so far, all cores together."""
    user, nice, system, _idle, _wait, *interrupts = Path("/proc/stat").read_text().splitlines()[0].split()[1:8]
    return sum(map(int, (user, nice, system, *interrupts))) / os.sysconf("SC_CLK_TCK")


def nginx_program() -> str:
    """Where nginx is; Debian keeps it where only root looks."""
    found = shutil.which("nginx", path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin")))
    if found is None:
        raise SystemExit("nginx is needed: `apt-get install nginx-light`")
    return found


@contextlib.contextmanager
def _piped(command: list[str], variables: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process that ends when its standard input does; it is made to when it does not."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=variables)  # noqa: S603 (our own)
    with process, _ended(process):
        yield process
        assert process.stdin is not None  # noqa: S101 (for the type checker)
        process.stdin.close()
        process.wait(_ENDS_WITHIN)


@contextlib.contextmanager
def _ended(process: subprocess.Popen[Any]) -> Iterator[None]:
    """Ends the process at the end of the block, however that comes."""
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None  # noqa: S101 (for the type checker)
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"{process.args!r} ended without an answer")
    return line


def _write_configuration(folder: Path, port: int) -> None:
    answer = answers.completion().decode()
    if "'" in answer or "$" in answer:
        raise AssertionError("the answer would need quoting in nginx's configuration")
    (folder / "nginx.conf").write_text(_NGINX.substitute(folder=folder, port=port, answer=answer.replace("\\", "\\\\")))
    (folder / "events.sse").write_bytes(b"".join(answers.events(answers.BATCHED_EVENTS)))


def _await_answer(process: subprocess.Popen[bytes], port: int) -> None:
    """Until nginx answers a plain call."""
    give_up = time.monotonic() + _UP_WITHIN
    while process.poll() is None and time.monotonic() < give_up:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.request("POST", "/v1/chat/completions", b"{}")
            if connection.getresponse().status == http.client.OK:
                return
        except OSError:
            time.sleep(0.02)
        finally:
            connection.close()
    raise SystemExit("nginx did not come up")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return cast("int", listener.getsockname()[1])
