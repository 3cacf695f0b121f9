"""T10: `close()`, the interpreter's exit, signals and `fork()`, each in a process of its own where one is needed.

A program here runs in Python's development mode with warnings as errors, and must say nothing on stderr: no resource
left open, no exception in a thread or a destructor, no "Fatal Python error".
"""

from __future__ import annotations

import gc
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest

from journeys.asking import KEY, MODEL, PATIENCE, client_of, finish, outcome_of, program
from support.fault_server import FaultServer, Gate, RecordedRequest, Stall, Step, json_reply, sse, stall_before_headers
from support.openai_wire import completion, stream_events
from tidegate import Cancelled, Client, Completion, ConfigError, Retry

SOON = 10.0
"""Seconds that a program may take to end, of which nearly all are for a machine that is busy."""

PREAMBLE = f"""
import gc, os, signal, sys, threading, time
import tidegate, tidegate.workers
tidegate.workers.EXIT_GRACE = 0.05
def connect(**options):
    return tidegate.Client({MODEL!r}, base_url=sys.argv[1], api_key={KEY!r}, **{{"timeout": None, **options}})
"""


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """Answers with the prompt; a prompt that begins with `hang` gets nothing, or half an answer when it is streamed."""
    with FaultServer() as running:
        running.on(answer)
        yield running


def answer(request: RecordedRequest) -> Step:
    prompt, streamed = prompt_of(request), bool(request.json.get("stream"))
    if prompt.startswith("hang"):
        return sse([*stream_events(["half"], finish=None, usage=None), Stall()]) if streamed else stall_before_headers()
    return sse(stream_events([prompt, "!"])) if streamed else json_reply(completion(prompt))


def prompt_of(request: RecordedRequest) -> str:
    return str(request.json["messages"][-1]["content"])


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDEVMODE", "1")
    monkeypatch.setenv("PYTHONWARNINGS", "error,ignore:This process:DeprecationWarning")


def run(server: FaultServer, code: str, preamble: str = PREAMBLE) -> tuple[int, str, str]:
    with program(preamble + code, server.base_url) as running:
        try:
            out, err = running.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            running.kill()
            out, err = running.communicate()
            pytest.fail(f"the program did not end; it said {out!r} and {err!r}")
    return running.returncode, out, err


# Closing


def test_T10_close_may_be_called_again(server: FaultServer) -> None:
    with client_of(server) as client:
        client.complete("Hi")
        client.submit("Hi").result(PATIENCE)
        for cancel in (False, False, True, True):
            client.close(cancel=cancel)
    server.wait_until(lambda: server.open_connections == 0)


def test_T10_a_client_that_did_nothing_closes(server: FaultServer) -> None:
    Client(MODEL, base_url=server.base_url, api_key=KEY).close()
    assert server.connections == 0


CALLS: dict[str, Callable[[Client], object]] = {
    "complete": lambda client: client.complete("Hi"),
    "stream": lambda client: client.stream("Hi"),
    "submit": lambda client: client.submit("Hi"),
    "map": lambda client: client.map(["Hi"]),
}


@pytest.mark.parametrize("ask", CALLS.values(), ids=CALLS)
def test_T10_a_closed_client_refuses_with_a_typed_error(server: FaultServer, ask: Callable[[Client], object]) -> None:
    with client_of(server) as client:
        client.close()
        with pytest.raises(ConfigError, match="closed"):
            ask(client)
    assert server.requests == []


def test_T10_close_waits_for_what_was_submitted(server: FaultServer) -> None:
    gate = threading.Event()
    server.on(lambda request: (Gate(gate), *answer(request)))
    with client_of(server, workers=1) as client:
        futures = [client.submit(f"{number}", timeout=PATIENCE) for number in range(3)]
        closer = threading.Thread(target=client.close)
        closer.start()
        server.wait_until(lambda: len(server.requests) == 1)
        assert closer.is_alive()
        gate.set()
        closer.join(PATIENCE)
        assert [future.result(0).text for future in futures] == ["0", "1", "2"]
    server.wait_until(lambda: server.open_connections == 0)


def in_flight(client: Client) -> list[Callable[[], Any]]:
    """Three ways to wait for what never comes."""
    opened = client.stream("hang")
    return [
        lambda: client.complete("hang"),
        lambda: client.complete("hang", stall_detection=True),
        lambda: list(opened),
    ]


def test_T10_close_with_cancel_ends_whatever_is_in_flight(server: FaultServer) -> None:
    with client_of(server, retry=Retry(), timeout=None, workers=2) as client:
        found: list[object] = []
        threads = [
            threading.Thread(target=lambda work=work: found.append(outcome_of(work))) for work in in_flight(client)
        ]
        for thread in threads:
            thread.start()
        futures = [client.submit("hang") for _ in range(4)]
        server.wait_until(lambda: len(server.requests) == 5)
        client.close(cancel=True)
        for thread in threads:
            thread.join(PATIENCE)
        assert [type(each) for each in found] == [Cancelled] * 3
        for future in futures:
            with pytest.raises((Cancelled, CancelledError)):
                future.result(PATIENCE)
    server.wait_until(lambda: server.open_connections == 0)


def test_T10_close_lets_calls_of_the_programs_own_threads_end(server: FaultServer) -> None:
    """Without `cancel` a call in flight keeps its connection until it has its answer."""
    gate = threading.Event()
    server.on(lambda request: (Gate(gate), *answer(request)))
    with client_of(server) as client:
        found: list[object] = []
        thread = threading.Thread(target=lambda: found.append(client.complete("Hi", timeout=PATIENCE)))
        thread.start()
        server.wait_until(lambda: len(server.requests) == 1)
        client.close()
        gate.set()
        thread.join(PATIENCE)
        (done,) = found
        assert isinstance(done, Completion)
    server.wait_until(lambda: server.open_connections == 0)


def test_T10_close_lets_an_open_stream_end(server: FaultServer) -> None:
    gate = threading.Event()
    events = stream_events(["one", "two"])
    server.on(lambda _: sse([*events[:2], Gate(gate), *events[2:]]))
    with client_of(server) as client:
        stream = client.stream("Hi", timeout=PATIENCE)
        assert next(stream).text == "one"
        client.close()
        gate.set()
        assert "".join(piece.text for piece in stream) == "two"
    assert stream.completion.complete == "yes"
    server.wait_until(lambda: server.open_connections == 0)


def test_T10_close_from_several_threads_at_once_is_clean(server: FaultServer) -> None:
    with client_of(server, workers=2) as client:
        futures = [client.submit("Hi", timeout=PATIENCE) for _ in range(8)]
        problems: list[BaseException] = []

        def close() -> None:
            try:
                client.close()
            except BaseException as problem:  # noqa: BLE001 (it would be lost in the thread)
                problems.append(problem)

        closers = [threading.Thread(target=close) for _ in range(4)]
        for closer in closers:
            closer.start()
        for closer in closers:
            closer.join(PATIENCE)
        assert problems == []
        assert [future.result(PATIENCE).text for future in futures] == ["Hi"] * 8


def ours() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("tidegate")}


def test_T10_close_leaves_none_of_the_clients_threads(server: FaultServer) -> None:
    with client_of(server) as client:
        client.submit("Hi").result(PATIENCE)
        list(client.map(["a", "b"]))
        list(client.stream("Hi"))
        assert ours() != set()
    assert ours() <= {"tidegate-watchdog", "tidegate-abandoned"}  # daemons that the process's clients share


def test_T10_the_shared_watchdog_ends_when_there_is_nothing_to_guard(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.transport.watchdog.Watchdog.LINGER", 0.01)
    with client_of(server) as client:
        client.complete("Hi", timeout=0.2)
    give_up = time.monotonic() + PATIENCE
    while "tidegate-watchdog" in ours() and time.monotonic() < give_up:
        threading.Event().wait(0.01)
    assert "tidegate-watchdog" not in ours()
    with client_of(server) as client:  # and it comes back when it is needed
        assert type(outcome_of(lambda: client.complete("hang", timeout=0.05))).__name__ == "DeadlineExceeded"


def test_T10_a_client_that_is_dropped_takes_its_threads_along(server: FaultServer) -> None:
    """Nothing that is still waiting for a deadline to pass, or to be used again, keeps it."""
    client = Client(MODEL, base_url=server.base_url, api_key=KEY)
    client.complete("Hi")
    list(client.stream("Hi"))
    client.submit("Hi").result(PATIENCE)
    gone = weakref.ref(client)
    del client
    give_up = time.monotonic() + PATIENCE
    while (gone() is not None or "tidegate_0" in ours()) and time.monotonic() < give_up:
        gc.collect()
        threading.Event().wait(0.01)
    assert gone() is None
    assert "tidegate_0" not in ours()


def test_T10_an_error_in_the_with_block_ends_what_is_in_flight(server: FaultServer) -> None:
    client = Client(MODEL, base_url=server.base_url, api_key=KEY, timeout=None)
    with pytest.raises(ZeroDivisionError), client:  # noqa: PT012
        future = client.submit("hang")
        server.wait_until(lambda: len(server.requests) == 1)
        _ = 1 / 0
    assert isinstance(future.exception(PATIENCE), Cancelled)


# The interpreter's exit

LEFT: dict[str, str] = {
    "nothing": "client = connect(); client.complete('Hi')",
    "a client that was never used": "client = connect()",
    "a stream half read": "stream = connect().stream('hang'); next(stream)",
    "a stream whole but unread": "stream = connect().stream('Hi')",
    "a stream in a daemon thread": (
        "stream = connect().stream('hang'); next(stream)\n"
        "threading.Thread(target=lambda: next(stream), daemon=True).start(); time.sleep(0.05)"
    ),
    "a call in a daemon thread": (
        "threading.Thread(target=lambda: connect().complete('hang'), daemon=True).start(); time.sleep(0.05)"
    ),
    "a call with a deadline in a daemon thread": (
        "threading.Thread(target=lambda: connect().complete('hang', timeout=60), daemon=True).start(); time.sleep(0.05)"
    ),
    "a submit in flight": "future = connect().submit('hang'); time.sleep(0.05)",
    "a submit in flight, dropped": "connect().submit('hang'); time.sleep(0.05)",
    "submits in line": "client = connect(workers=2); futures = [client.submit('hang') for _ in range(50)]",
    "a submit that retries": (
        "client = connect(retry=tidegate.Retry(first=60, longest=60), timeouts=tidegate.Timeouts(idle=0.01))\n"
        "future = client.submit('hang', stall_detection=True); time.sleep(0.1)"
    ),
    "a map half read": "rows = connect().map(['Hi', 'hang', 'hang']); next(rows)",
    "a map half read, as completed": "rows = connect().map(['Hi', 'hang', 'hang'], ordered=False); next(rows)",
    "a map in a daemon thread": (
        "threading.Thread(target=lambda: list(connect().map(['hang'])), daemon=True).start(); time.sleep(0.05)"
    ),
    "everything in a circle": (
        "class Holder: pass\n"
        "me = Holder(); me.me = me; me.client = connect(); me.stream = me.client.stream('hang'); next(me.stream)\n"
        "me.rows = me.client.map(['Hi', 'hang']); next(me.rows)"
    ),
}


@pytest.mark.parametrize("code", LEFT.values(), ids=LEFT)
def test_T10_a_program_that_closes_nothing_ends_quietly(server: FaultServer, strict: None, code: str) -> None:
    began = time.monotonic()
    assert run(server, code) == (0, "", "")
    assert time.monotonic() - began < SOON


@pytest.mark.slow
@pytest.mark.parametrize("work", ["client.submit('hang')", "next(client.map(['Hi', 'hang']))"])
def test_T10_an_exit_with_calls_in_flight_takes_seconds(server: FaultServer, strict: None, work: str) -> None:
    """With the grace that they really have."""
    began = time.monotonic()
    real_grace = PREAMBLE.replace("tidegate.workers.EXIT_GRACE = 0.05", "")
    assert run(server, f"client = connect(); kept = {work}", real_grace) == (0, "", "")
    assert time.monotonic() - began < SOON


def test_T10_what_was_submitted_with_a_deadline_is_not_lost_at_exit(server: FaultServer, strict: None) -> None:
    """As with any executor of the standard library: the program need not wait by hand, however long it takes."""
    code = """
tidegate.workers.EXIT_GRACE = 0
client = connect(timeout=60)
for number in range(20):
    client.submit(str(number)).add_done_callback(lambda done: sys.stdout.write(done.result().text + "\\n"))
"""
    code_, out, err = run(server, code)
    assert (code_, err) == (0, "")
    assert sorted(out.split(), key=int) == [str(number) for number in range(20)]


def test_T10_threads_of_the_program_may_go_on_after_its_main_thread(server: FaultServer, strict: None) -> None:
    """The interpreter waits for them, so their calls are none of the exit's business."""
    code = """
client = connect()
def work():
    threading.main_thread().join()
    time.sleep(0.3)
    print(client.complete("later").text)
    print(*[piece.text for piece in client.stream("streamed")])
threading.Thread(target=work).start()
"""
    assert run(server, code) == (0, "later\nstreamed ! \n", "")


def test_T10_the_exit_code_is_the_programs_own(server: FaultServer, strict: None) -> None:
    assert run(server, "future = connect().submit('hang'); time.sleep(0.05); sys.exit(3)") == (3, "", "")


def test_T10_an_exit_inside_a_stream_ends_the_program(server: FaultServer, strict: None) -> None:
    code = "for piece in connect().stream('hang'): sys.exit(4)"
    assert run(server, code) == (4, "", "")
    server.wait_until(lambda: server.open_connections == 0)


def test_T10_a_program_that_closes_what_it_opened_leaves_no_resource(server: FaultServer, strict: None) -> None:
    """No socket, no thread: Python's development mode says nothing, and neither do its figures."""
    code = """
with connect() as client:
    client.complete("Hi")
    client.complete("Hi", stall_detection=True)
    list(client.stream("Hi"))
    with client.stream("hang") as stream:
        next(stream)
    dropped = client.stream("hang"); next(dropped); del dropped
    [outcome.unwrap() for outcome in client.map(["a", "b", "c"])]
    client.submit("Hi").result()
    for broken in ("hang",):
        try:
            client.complete(broken, timeout=0.05)
        except tidegate.DeadlineExceeded:
            pass
gc.collect()
print(*sorted(t.name for t in threading.enumerate() if not t.daemon))
"""
    assert run(server, code) == (0, "MainThread\n", "")


@pytest.mark.slow
def test_T10_an_exit_while_daemon_threads_are_busy_never_crashes(server: FaultServer, strict: None) -> None:
    """Many times, for the moment at which the interpreter stops them is chance."""
    code = """
client = connect()
def work(number):
    while True:
        client.complete(str(number))
        list(client.stream("Hi"))
        stream = client.stream("Hi"); next(stream); del stream
for number in range(6):
    threading.Thread(target=work, args=(number,), daemon=True).start()
time.sleep({pause})
"""
    for number in range(12):
        assert run(server, code.replace("{pause}", str(0.02 * number))) == (0, "", "")


# Signals


def test_T10_no_signal_handler_is_installed(server: FaultServer, strict: None) -> None:
    code = """
before = {each: signal.getsignal(each) for each in signal.valid_signals()}
for name in tidegate.__all__:
    getattr(tidegate, name)
with connect() as client:
    client.complete("Hi"); client.submit("Hi").result(); list(client.stream("Hi")); list(client.map(["a", "b"]))
    print({each for each in before if signal.getsignal(each) != before[each]}, signal.set_wakeup_fd(-1))
"""
    assert run(server, code.replace("import tidegate", "")) == (0, "set() -1\n", "")


TERMINATED: dict[str, str] = {
    "complete": "client.complete('hang')",
    "stream": "[None for _ in client.stream('hang')]",
    "submit": "client.submit('hang').result()",
    "map": "list(client.map(['hang']))",
}


@pytest.mark.parametrize("work", TERMINATED.values(), ids=TERMINATED)
def test_T10_sigterm_ends_the_process_whatever_it_waits_for(server: FaultServer, strict: None, work: str) -> None:
    with program(PREAMBLE + f"client = connect()\n{work}", server.base_url) as running:
        server.wait_until(lambda: len(server.requests) == 1, PATIENCE)
        running.send_signal(signal.SIGTERM)
        assert finish(running) == (-signal.SIGTERM, "", "")
    server.wait_until(lambda: server.open_connections == 0)


@pytest.mark.parametrize("work", TERMINATED.values(), ids=TERMINATED)
def test_T10_a_program_that_turns_sigterm_into_an_exit_ends(server: FaultServer, strict: None, work: str) -> None:
    """As servers do; its call counts as ended."""
    code = f"""
signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
client = connect()
try:
    {work}
finally:
    print(client.metrics().calls, flush=True)
"""
    with program(PREAMBLE + code, server.base_url) as running:
        server.wait_until(lambda: len(server.requests) == 1, PATIENCE)
        threading.Event().wait(0.05)
        running.send_signal(signal.SIGTERM)
        assert finish(running) == (5, f"{0 if 'submit' in work else 1}\n", "")
    server.wait_until(lambda: server.open_connections == 0)


# Forking

FORK = (
    PREAMBLE
    + """
def in_child(work):
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        sys.stdout.flush()
        code = 0
    except BaseException:
        import traceback
        traceback.print_exc()
    finally:
        os._exit(code)

def wait_for(child, seconds=20):
    for _ in range(int(seconds / 0.01)):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hung"

def ask_every_way(client, name):
    assert client.complete(name, timeout=20).text == name
    assert client.complete(name, timeout=20, stall_detection=True).text == name + "!"
    assert "".join(piece.text for piece in client.stream(name, timeout=20)) == name + "!"
    assert client.submit(name, timeout=20).result(20).text == name
    assert [outcome.unwrap().text for outcome in client.map([name] * 3, timeout=20)] == [name] * 3
    try:
        client.complete("hang", timeout=0.05)
    except tidegate.DeadlineExceeded:
        pass
"""
)


def test_T10_a_forked_child_works_and_so_does_its_parent(server: FaultServer, strict: None) -> None:
    code = """
client = connect()
ask_every_way(client, "before")
child = in_child(lambda: ask_every_way(client, "child"))
ask_every_way(client, "parent")
print(wait_for(child))
ask_every_way(client, "after")
client.close()
"""
    assert run(server, code, FORK) == (0, "0\n", "")


def test_T10_a_forked_child_has_connections_of_its_own(server: FaultServer, strict: None) -> None:
    code = """
client = connect()
client.complete("before")
print(wait_for(in_child(lambda: client.complete("child"))))
client.complete("after")
"""
    assert run(server, code, FORK) == (0, "0\n", "")
    by_prompt = {prompt_of(request): request.connection_id for request in server.requests}
    assert by_prompt["before"] == by_prompt["after"] != by_prompt["child"]


def test_T10_calls_of_parent_and_child_have_different_ids(server: FaultServer, strict: None) -> None:
    code = """
client = connect(listeners=[lambda event: print(event.call.id) if type(event).__name__ == "CallEnded" else None])
client.complete("before")
wait_for(in_child(lambda: client.complete("child")))
client.complete("after")
"""
    code_, out, err = run(server, code, FORK)
    assert (code_, err) == (0, "")
    assert len(set(out.split())) == 3


def test_T10_locks_that_another_thread_held_at_the_fork_do_not_stop_the_child(
    server: FaultServer, strict: None
) -> None:
    code = """
from tidegate.transport.connections import NAME_LOOKUPS
from tidegate.transport.watchdog import WATCHDOG
sys.argv[1] = sys.argv[1].replace("127.0.0.1", "localhost")  # a name, so that it is looked up
client = connect()
ask_every_way(client, "before")
held, release = threading.Event(), threading.Event()
def hold():
    with client._lock, client._stopping._lock, client._program_over._lock, WATCHDOG._lock, NAME_LOOKUPS._lock:
        held.set()
        release.wait()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
def work():
    ask_every_way(client, "child")
    client.close()
child = in_child(work)
code = wait_for(child)
release.set()
thread.join()
print(code)
ask_every_way(client, "after")
"""
    assert run(server, code, FORK) == (0, "0\n", "")


def test_T10_a_fork_while_another_thread_is_in_its_first_call_gives_a_child_that_works(
    server: FaultServer, strict: None
) -> None:
    """That call imports what is imported late; a module that is half imported at a fork stays so in the child."""
    code = """
client = connect()
thread = threading.Thread(target=client.complete, args=("first",))
thread.start()
while "genai_prices.data" not in sys.modules:
    time.sleep(0)
print(wait_for(in_child(lambda: ask_every_way(client, "child"))))
thread.join()
"""
    assert run(server, code, FORK) == (0, "0\n", "")


BUSY = """
client = connect()
stop = threading.Event()
def work():
    while not stop.is_set():
        client.complete("parent", timeout=20)
        list(client.stream("parent", timeout=20))
        client.submit("parent", timeout=20).result()
        stream = client.stream("parent", timeout=20); next(stream); del stream
threads = [threading.Thread(target=work) for _ in range(6)]
for thread in threads:
    thread.start()
time.sleep(0.1)
codes = []
for number in range({forks}):
    codes.append(wait_for(in_child(lambda: ask_every_way(client, f"child {number}"))))
stop.set()
for thread in threads:
    thread.join()
print(codes.count(0), {code for code in codes if code})
client.close()
"""


def test_T10_a_fork_beside_busy_threads_gives_a_child_that_works(server: FaultServer, strict: None) -> None:
    assert run(server, BUSY.replace("{forks}", "2"), FORK) == (0, "2 set()\n", "")


@pytest.mark.slow
def test_T10_many_forks_beside_busy_threads_give_children_that_work(server: FaultServer, strict: None) -> None:
    """Whatever each thread was doing at that moment."""
    assert run(server, BUSY.replace("{forks}", "40"), FORK) == (0, "40 set()\n", "")


CHILD_DEEDS: dict[str, str] = {
    "ends at once": "pass",
    "closes it": "stream.close()",
    "closes its client": "client.close(cancel=True)",
    "drops it": "globals().pop('stream'); gc.collect(); list(client.stream('Hi')); time.sleep(0.1)",
    "asks": "ask_every_way(client, 'child')",
}


@pytest.mark.parametrize("deed", CHILD_DEEDS.values(), ids=CHILD_DEEDS)
def test_T10_a_stream_that_was_open_at_the_fork_goes_on_in_the_parent(
    server: FaultServer, strict: None, deed: str
) -> None:
    """The child has a copy of its socket, and must not shut the connection down."""
    gate = threading.Event()
    first, *rest = stream_events(["first", "second"])[1:]

    def gated(request: RecordedRequest) -> Step:
        if prompt_of(request) == "gated":
            return sse([first, Gate(gate), *rest])
        if prompt_of(request) == "open the gate":
            gate.set()
        return answer(request)

    server.on(gated)
    code = f"""
client = connect()
stream = client.stream("gated", timeout=20)
assert next(stream).text == "first"
def work():
    {deed}
print(wait_for(in_child(work)))
client.complete("open the gate")
print("".join(piece.text for piece in stream), stream.completion.complete)
"""
    assert run(server, code, FORK) == (0, "0\nsecond yes\n", "")


def test_T10_a_child_may_close_a_stream_that_a_thread_of_its_parent_was_reading(
    server: FaultServer, strict: None
) -> None:
    """Nothing waits for that thread, which the child does not have."""
    gate = threading.Event()
    first, *rest = stream_events(["first", "second"])[1:]

    def gated(request: RecordedRequest) -> Step:
        if prompt_of(request) == "open the gate":
            gate.set()
        return sse([first, Gate(gate), *rest]) if prompt_of(request) == "gated" else answer(request)

    server.on(gated)
    code = """
client = connect()
stream = client.stream("gated", timeout=20)
next(stream)
read = []
thread = threading.Thread(target=lambda: read.extend(piece.text for piece in stream))
thread.start()
time.sleep(0.05)
def work():
    stream.close()
    ask_every_way(client, "child")
print(wait_for(in_child(work)))
client.complete("open the gate")
thread.join()
print("".join(read), stream.completion.complete)
"""
    assert run(server, code, FORK) == (0, "0\nsecond yes\n", "")


def test_T10_a_child_that_leaves_by_the_ordinary_exit_ends(server: FaultServer, strict: None) -> None:
    """With its parent's workers, streams and maps in its memory, and its threads not."""
    code = """
client = connect()
futures = [client.submit("hang") for _ in range(3)]
stream = client.stream("hang"); next(stream)
rows = client.map(["Hi", "hang"]); next(rows)
if (child := os.fork()) == 0:
    ask_every_way(client, "child")
    sys.exit(7)
print(wait_for(child))
client.close(cancel=True)
"""
    assert run(server, code, FORK) == (0, "7\n", "")


def test_T10_a_forked_child_of_multiprocessing_works(server: FaultServer, strict: None) -> None:
    code = """
import multiprocessing
client = connect()
ask_every_way(client, "before")
child = multiprocessing.get_context("fork").Process(target=ask_every_way, args=(client, "child"))
child.start()
child.join(20)
print(child.exitcode)
"""
    assert run(server, code, FORK) == (0, "0\n", "")


def test_T10_a_grandchild_works(server: FaultServer, strict: None) -> None:
    code = """
client = connect()
client.complete("before")
def work():
    ask_every_way(client, "child")
    assert wait_for(in_child(lambda: ask_every_way(client, "grandchild"))) == 0
print(wait_for(in_child(work)))
"""
    assert run(server, code, FORK) == (0, "0\n", "")


def test_T10_clients_that_are_gone_are_not_kept_for_the_next_fork(server: FaultServer) -> None:
    """What is to be made anew in a child is known by weak references only."""
    from tidegate.forking import _resets  # noqa: PLC0415 (only this test looks inside)

    for _ in range(300):
        Client(MODEL, base_url=server.base_url, api_key=KEY).close()
    assert len(_resets) < 300
