"""Pages of the web: the public one, and nothing that can be reached from here alone."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from support.fault_server import FaultServer, redirect, reply
from tidegate import Toolbox
from tidegate.agent import fetch_tool, fetch_url
from tidegate.agent.pages import LARGEST, fetched, is_public
from tidegate.chat.tools import ToolCall

HTML = {"content-type": "text/html; charset=utf-8"}
PAGE = """<!doctype html><html><head><title>T</title><style>p {}</style></head>
<body><h1>Tides</h1><p>Twice a&nbsp;day.<br>Always.</p><script>alert(1)</script><p>Häfen</p></body></html>"""


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        running.always(reply(200, PAGE.encode(), HTML))
        yield running


HERE = {"127.0.0.1", "localhost"}


def test_a_page_is_read_as_its_text(server: FaultServer) -> None:
    assert fetched(f"{server.url}/tides?x=1", HERE) == "Tides\nTwice a day.\nAlways.\nHäfen"
    [request] = server.requests
    assert (request.method, request.path) == ("GET", "/tides?x=1")
    assert "tidegate" in request.headers["user-agent"]


def test_X9_nothing_of_this_machine_is_read_unasked(server: FaultServer) -> None:
    port = server.url.rsplit(":", 1)[1]
    for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"):
        outcome = Toolbox([fetch_url]).run(ToolCall("c", "fetch_url", f'{{"url": "http://{host}:{port}/"}}'))
        assert outcome.problem == "raised", host
        assert "no host" in outcome.text
    assert server.requests == []


def test_X9_a_name_that_leads_here_is_found_out(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolved(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        family = socket.AF_INET
        return [(family, 1, 6, "", (address, port)) for address in ("93.184.215.14", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    with pytest.raises(ValueError, match="no host of the public internet"):
        fetched("https://harmless.example/")
    assert server.requests == []


def test_X9_a_redirect_is_looked_at_like_any_address(server: FaultServer) -> None:
    server.script(redirect("http://10.0.0.1/secret"))
    with pytest.raises(ValueError, match=r"`10\.0\.0\.1` is not among the hosts"):
        fetched(server.url, HERE)
    server.script(redirect("/here"))
    assert fetched(server.url, HERE).startswith("Tides")
    server.always(redirect("/again"))
    with pytest.raises(ValueError, match="more than 5 times"):
        fetched(server.url, HERE)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://example.com/", "begins with https"),
        ("file:///etc/passwd", "begins with https"),
        ("https://user:secret@example.com/", "no user name"),
        ("https://", "begins with https"),
        ("no address", "begins with https"),
        ("http://127.0.0.1:1/", "not among the hosts"),
    ],
)
def test_what_is_no_address_is_refused(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fetched(url, {"elsewhere.example"})


def test_what_is_no_text_is_refused_and_what_is_long_is_cut(server: FaultServer) -> None:
    server.script(reply(200, b"\x89PNG", {"content-type": "image/png"}))
    with pytest.raises(ValueError, match="no text"):
        fetched(server.url, HERE)
    server.script(reply(404, b"gone", {"content-type": "text/plain"}))
    with pytest.raises(ValueError, match="HTTP 404"):
        fetched(server.url, HERE)
    server.script(reply(200, b"x" * (LARGEST + 10), {"content-type": "text/plain"}))
    assert len(fetched(server.url, HERE)) == LARGEST
    box = Toolbox([fetch_tool(hosts=HERE)])
    server.script(reply(200, b"x" * LARGEST, {"content-type": "text/plain"}))
    assert len(box.run(ToolCall("c", "fetch_url", f'{{"url": "{server.url}"}}')).text) < 21_000


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True), ("2606:4700::1111", True), ("8.8.8.8", True),
        ("127.0.0.1", False), ("10.1.2.3", False), ("172.16.0.1", False), ("192.168.1.1", False), ("100.64.0.1", False),
        ("169.254.169.254", False), ("0.0.0.1", False), ("224.0.0.1", False), ("255.255.255.255", False),
        ("240.0.0.1", False),
        ("::1", False), ("::", False), ("fe80::1%eth0", False), ("fc00::1", False), ("ff02::1", False),
        ("::ffff:10.0.0.1", False), ("::ffff:8.8.8.8", True), ("2002:7f00:1::", False), ("64:ff9b::7f00:1", False),
        ("64:ff9b::808:808", True),
    ],
)  # fmt: skip
def test_X9_addresses_are_known_for_what_they_are(address: str, *, public: bool) -> None:
    assert is_public(address) is public
