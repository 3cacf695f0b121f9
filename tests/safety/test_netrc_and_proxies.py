"""X3: neither a `.netrc` nor a proxy of the environment changes who is asked, or with which key, unless told so.

Proxies are not for this machine: the tests ask for `elsewhere.test`, which does not exist but in the server's
certificate, and the proxy connects whoever names it to the test's server.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from journeys.asking import KEY, MODEL, client_of, outcome_of
from support.fault_server import FaultServer, json_reply, refused, sse
from support.openai_wire import completion, stream_events
from support.proxy import Proxy
from tidegate import Client, ConfigError, ConnectFailed, TLSFailed

ELSEWHERE = "https://elsewhere.test/v1"
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
PASSWORD = "pass-of-the-proxy-5521"  # noqa: S105 (nobody's)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """This machine, in plain HTTP."""
    with FaultServer() as running:
        running.always(json_reply(completion()))
        yield running


@pytest.fixture
def far() -> Iterator[FaultServer]:
    """`https://elsewhere.test`, for those who come through the proxy."""
    with FaultServer(tls="wrong-host") as running:
        running.always(json_reply(completion("From afar.")))
        yield running


@pytest.fixture
def proxy(far: FaultServer) -> Iterator[Proxy]:
    with Proxy(far.port) as running:
        yield running


def far_client(far: FaultServer, **options: object) -> Client:
    """A client of `https://elsewhere.test`."""
    return Client(MODEL, **{"base_url": ELSEWHERE, "api_key": KEY, "ca_bundle": far.ca_file, "retry": None, **options})  # type: ignore[arg-type]


# .netrc


@pytest.fixture(params=["HOME", "NETRC"])
def netrc(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that has credentials for this machine, and for any other."""
    file = tmp_path / ".netrc"
    machines = ("machine 127.0.0.1", "machine localhost", "machine elsewhere.test", "default")
    file.write_text("\n".join(f"{each} login netrc-user password netrc-password" for each in machines) + "\n")
    file.chmod(0o600)
    monkeypatch.setenv(request.param, str(tmp_path if request.param == "HOME" else file))
    return file


def test_X3_the_netrc_of_these_tests_is_one_that_requests_obeys(server: FaultServer, netrc: Path) -> None:
    """It replaces even a key that was passed: that is what the others are about."""
    requests.get(server.url, headers={"Authorization": f"Bearer {KEY}"}, timeout=5)
    assert server.requests[0].headers["authorization"].startswith("Basic ")


def test_X3_a_netrc_does_not_replace_the_key(server: FaultServer, netrc: Path) -> None:
    server.script(json_reply(completion()), sse(stream_events(["Hi"])))
    with client_of(server) as client:
        client.complete("Hi")
        with client.stream("Hi") as answer:
            list(answer)
    assert [request.headers.get_all("authorization") for request in server.requests] == [[f"Bearer {KEY}"]] * 2


def test_X3_a_netrc_does_not_add_credentials(server: FaultServer, netrc: Path) -> None:
    """To a server of this machine that is asked without a key."""
    with Client("llamacpp/x", base_url=server.base_url, retry=None) as client:
        client.complete("Hi")
    assert "authorization" not in server.requests[0].headers


def test_X3_a_netrc_does_not_replace_the_key_behind_a_proxy(far: FaultServer, proxy: Proxy, netrc: Path) -> None:
    with far_client(far, proxy=proxy.url) as client:
        client.complete("Hi")
    assert far.requests[0].headers.get_all("authorization") == [f"Bearer {KEY}"]
    assert "proxy-authorization" not in proxy.requests[0].headers


# Proxies of the environment


def test_X3_the_proxy_of_these_tests_is_one_that_requests_obeys(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for this machine: that is what the others are about."""
    with Proxy(server.port) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        requests.get(server.url, headers={"Authorization": f"Bearer {KEY}"}, timeout=5)
        assert KEY.encode() in proxy.received


@pytest.mark.parametrize("setting", ["env", None])
def test_X3_no_proxy_of_the_environment_sees_what_goes_to_this_machine(
    server: FaultServer, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, setting: str | None
) -> None:
    for variable in VARIABLES:
        monkeypatch.setenv(variable, proxy.url)
    with client_of(server, proxy=setting) as client:
        assert client.complete("Hi").text == "Hello."
    assert proxy.received == b""


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost"])
def test_X3_no_proxy_at_all_is_told_what_goes_to_this_machine(server: FaultServer, proxy: Proxy, address: str) -> None:
    """Not even one that was passed: it would be asked for itself."""
    with client_of(server, base_url=f"http://{address}:{server.port}/v1", proxy=proxy.url) as client:
        assert client.complete("Hi").text == "Hello."
    assert proxy.received == b""


@pytest.mark.allow_dns
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_X3_plain_http_is_never_shown_to_a_proxy_of_the_environment(
    far: FaultServer, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """It would read the key. Without it the name is looked up, and is unknown."""
    monkeypatch.setenv(variable, proxy.url)
    with far_client(far, base_url="http://elsewhere.test/v1", allow_http=True) as client:
        assert isinstance(outcome_of(lambda: client.complete("Hi")), ConnectFailed)
    assert proxy.received == b""


@pytest.mark.allow_dns
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY", "all_proxy"])
def test_X3_https_uses_no_other_variable_than_https_proxy(
    far: FaultServer, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, proxy.url)
    with far_client(far) as client:
        assert isinstance(outcome_of(lambda: client.complete("Hi")), ConnectFailed)
    assert proxy.received == b""


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy"])
def test_X3_https_goes_through_the_environments_proxy_which_cannot_read_it(
    far: FaultServer, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, proxy.url)
    with far_client(far) as client:
        assert client.complete("Hi").text == "From afar."
    assert [request.line.split(" ")[:2] for request in proxy.requests] == [["CONNECT", "elsewhere.test:443"]]
    assert far.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert KEY.encode() not in proxy.received
    assert b"authorization" not in proxy.received.lower()


@pytest.mark.allow_dns
@pytest.mark.parametrize(
    ("options", "variables"),
    [
        ({"proxy": None}, {}),
        ({}, {"NO_PROXY": "elsewhere.test"}),
        ({}, {"no_proxy": ".test"}),
        ({}, {"TIDEGATE_PROXY": "off"}),
    ],
)
def test_X3_the_environments_proxy_can_be_switched_off(
    far: FaultServer,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, str | None],
    variables: dict[str, str],
) -> None:
    for name, value in {"HTTPS_PROXY": proxy.url, **variables}.items():
        monkeypatch.setenv(name, value)
    with far_client(far, **options) as client:
        assert isinstance(outcome_of(lambda: client.complete("Hi")), ConnectFailed)
    assert proxy.received == b""


@pytest.mark.parametrize("value", ["socks5://127.0.0.1:1", "http://", "nonsense://x", "http://[", "http://127.0.0.1:x"])
def test_X3_a_wrong_proxy_of_the_environment_is_an_error_not_a_way_round_it(
    far: FaultServer, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """Nothing is sent directly instead: whoever set it may not want that."""
    monkeypatch.setenv("HTTPS_PROXY", value)
    with far_client(far) as client:
        assert isinstance(outcome_of(lambda: client.complete("Hi")), ConnectFailed | ConfigError)
    assert far.connections == 0


# A proxy that is asked for


@pytest.mark.parametrize("source", ["argument", "environment", "file"])
def test_X3_a_proxy_that_is_named_carries_https_and_cannot_read_it(
    far: FaultServer, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str
) -> None:
    file = tmp_path / "t.toml"
    file.write_text(f'proxy = "{proxy.url}"\n' if source == "file" else "", encoding="utf-8")
    if source == "environment":
        monkeypatch.setenv("TIDEGATE_PROXY", proxy.url)
    arguments: dict[str, Any] = {"proxy": proxy.url} if source == "argument" else {}
    far.script(json_reply(completion("One.")), sse(stream_events(["Two."])))
    with Client.from_config(
        file, model=MODEL, base_url=ELSEWHERE, api_key=KEY, ca_bundle=far.ca_file, retry=None, **arguments
    ) as client:
        assert client.complete("Hi").text == "One."
        with client.stream("Hi") as answer:
            assert "".join(chunk.text for chunk in answer) == "Two."
    assert [request.line.split(" ")[:2] for request in proxy.requests] == [["CONNECT", "elsewhere.test:443"]]
    assert [request.headers["authorization"] for request in far.requests] == [f"Bearer {KEY}"] * 2
    assert KEY.encode() not in proxy.received


def test_X3_a_proxy_that_is_named_beats_the_environments(
    far: FaultServer, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    with refused() as (host, port):
        monkeypatch.setenv("HTTPS_PROXY", f"http://{host}:{port}")
        monkeypatch.setenv("NO_PROXY", "*")
        with far_client(far, proxy=proxy.url) as client:
            assert client.complete("Hi").text == "From afar."
    assert len(proxy.requests) == 1


def test_X3_a_proxys_password_goes_to_the_proxy_alone(far: FaultServer, proxy: Proxy) -> None:
    with far_client(far, proxy=proxy.url_for("me", PASSWORD)) as client:
        client.complete("Hi")
    expected = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
    assert proxy.requests[0].headers["proxy-authorization"] == f"Basic {expected}"
    assert "proxy-authorization" not in far.requests[0].headers
    assert far.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_X3_plain_http_through_a_named_proxy_takes_two_permissions() -> None:
    """That proxy can read the key: `allow_http` says that this is wanted."""
    with FaultServer() as plain, Proxy(plain.port) as proxy:
        plain.always(json_reply(completion("From afar.")))
        address = "http://elsewhere.test/v1"
        with pytest.raises(ConfigError, match="allow_http"):
            Client(MODEL, base_url=address, api_key=KEY, proxy=proxy.url)
        assert proxy.received == b""
        with Client(MODEL, base_url=address, api_key=KEY, proxy=proxy.url, allow_http=True, retry=None) as client:
            assert client.complete("Hi").text == "From afar."
        assert proxy.requests[0].line == "POST http://elsewhere.test/v1/chat/completions HTTP/1.1"
        assert plain.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_X3_a_proxy_cannot_stand_in_for_the_server(far: FaultServer) -> None:
    """Its own certificate, though a good one, is not the server's."""
    with FaultServer(tls="trusted") as impostor, Proxy(impostor.port) as proxy:
        with far_client(far, proxy=proxy.url) as client:
            assert isinstance(outcome_of(lambda: client.complete("Hi")), TLSFailed)
        assert impostor.requests == []
        assert KEY.encode() not in proxy.received


@pytest.mark.parametrize("status", ["407 Proxy Authentication Required", "403 Forbidden", "502 Bad Gateway"])
def test_X3_a_proxy_that_refuses_is_an_error_without_its_password(far: FaultServer, status: str) -> None:
    """And nothing is sent round it."""
    with Proxy(far.port, answer=status) as proxy:
        with far_client(far, proxy=proxy.url_for("me", PASSWORD)) as client:
            failure = outcome_of(lambda: client.complete("Hi"))
        assert isinstance(failure, ConnectFailed)
        assert "the proxy refused the connection" in str(failure)
        assert status.partition(" ")[0] in str(failure)
        assert PASSWORD not in f"{failure} {failure!r} {vars(failure)}"
    assert far.connections == 0


def test_X3_a_proxy_that_is_not_there_is_an_error(far: FaultServer) -> None:
    with refused() as (host, port), far_client(far, proxy=f"http://me:{PASSWORD}@{host}:{port}") as client:
        failure = outcome_of(lambda: client.complete("Hi"))
    assert isinstance(failure, ConnectFailed)
    assert PASSWORD not in f"{failure} {failure!r} {vars(failure)}"
    assert far.connections == 0


@pytest.mark.parametrize(
    "address",
    [
        "", "127.0.0.1:3128", "socks5://127.0.0.1:1080", "ftp://127.0.0.1", "http://", "http://:80", "http://[::1",
        f"http://me:{PASSWORD}@127.0.0.1:99999", f"http://me:{PASSWORD}@127.0.0.1:x", f"http://{PASSWORD} @127.0.0.1",
        f"http://127.0.0.1\r\n{PASSWORD}: x", f"http://127.0.0.1/\0{PASSWORD}", "true", "ENV ",
    ],
)  # fmt: skip
def test_X3_a_proxy_that_is_no_address_is_refused_unshown(address: str) -> None:
    with pytest.raises(ConfigError, match="`proxy` is an") as caught:
        Client(MODEL, api_key=KEY, proxy=address)
    assert PASSWORD not in str(caught.value)
