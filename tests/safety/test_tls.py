"""X5: a server must prove who it is, and no setting, right or wrong, makes that optional."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme

from journeys.asking import KEY, MODEL, client_of, outcome_of
from support.fault_server import TLS, FaultServer, json_reply, sse
from support.openai_wire import completion, stream_events
from tidegate import CallError, Client, ConfigError, ConnectFailed, TLSFailed

Ask = Callable[[Client], object]


def complete(client: Client) -> object:
    return client.complete("Hi")


def complete_watched(client: Client) -> object:
    return client.complete("Hi", stall_detection=True)


def stream(client: Client) -> object:
    with client.stream("Hi") as answer:
        return list(answer)


WAYS: list[Ask] = [complete, complete_watched, stream]


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """A server whose certificate is good for those who trust its authority."""
    with FaultServer(tls="trusted") as running:
        running.always(json_reply(completion()))
        yield running


@pytest.fixture(scope="module")
def stranger() -> Iterator[str]:
    """A file with another authority."""
    with trustme.CA().cert_pem.tempfile() as file:
        yield file


def refused(client: Client, ask: Ask = complete) -> TLSFailed:
    failure = outcome_of(lambda: ask(client))
    assert isinstance(failure, TLSFailed)
    return failure


# Certificates


@pytest.mark.parametrize("ask", WAYS)
@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("self-signed", "self-signed certificate"),
        ("wrong-host", "IP address mismatch, certificate is not valid for '127.0.0.1'"),
        ("expired", "certificate has expired"),
    ],
)
def test_X5_a_bad_certificate_is_refused(kind: TLS, says: str, ask: Ask) -> None:
    """Though its authority is trusted. The error says why, and what to do; it is not tried again, and no key leaves."""
    with FaultServer(tls=kind) as server:
        server.always(json_reply(completion()))
        with client_of(server, ca_bundle=server.ca_file, retry={"attempts": 3, "first": 0.001}) as client:
            failure = refused(client, ask)
        assert server.requests == []
    assert says in str(failure)
    assert "pass `ca_bundle=`; verification cannot be switched off" in str(failure)
    assert (failure.retryable, len(failure.attempts)) == (False, 1)


@pytest.mark.parametrize("kind", ["trusted", "self-signed", "wrong-host", "expired"])
def test_X5_a_private_authority_is_not_trusted_unasked(kind: TLS) -> None:
    with FaultServer(tls=kind) as server:
        server.always(json_reply(completion()))
        with client_of(server) as client:
            refused(client)
        assert server.requests == []


def test_X5_a_certificate_must_name_the_host_that_was_asked() -> None:
    """Not just any: this one is of a trusted authority, for another name."""
    with FaultServer(tls="wrong-host") as server:
        server.always(json_reply(completion()))
        with client_of(server, base_url=f"https://localhost:{server.port}/v1", ca_bundle=server.ca_file) as client:
            assert "Hostname mismatch, certificate is not valid for 'localhost'" in str(refused(client))
        assert server.requests == []


def test_X5_another_authority_does_not_help(server: FaultServer, stranger: str) -> None:
    with client_of(server, ca_bundle=stranger) as client:
        refused(client)
    assert server.requests == []


@pytest.mark.parametrize("ask", WAYS)
def test_X5_the_right_authority_is_trusted(server: FaultServer, ask: Ask) -> None:
    if ask is not complete:
        server.always(sse(stream_events(["Hi"])))
    with client_of(server, ca_bundle=server.ca_file) as client:
        ask(client)
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_X5_a_server_that_speaks_no_tls_is_an_error() -> None:
    """Nothing is said to it in clear instead."""
    with FaultServer() as server, client_of(server, base_url=f"https://127.0.0.1:{server.port}/v1") as client:
        assert isinstance(outcome_of(lambda: client.complete("Hi")), TLSFailed | ConnectFailed)
        assert server.requests == []


# Settings that are wrong

NOT_A_FILE = ["", " ", "false", "flase", "False", "0", "no", "none?", "/no/such/file.pem", "~/no-such.pem", "\0"]
"""What somebody might write who wants no verification, or mistypes a file's name."""


@pytest.mark.parametrize("value", NOT_A_FILE)
def test_X5_a_wrong_bundle_is_refused(server: FaultServer, value: str) -> None:
    with pytest.raises(ConfigError, match="`ca_bundle`: there is no file or folder"):
        Client(MODEL, api_key=KEY, base_url=server.base_url, ca_bundle=value)
    assert server.connections == 0


@pytest.mark.parametrize("value", [False, True, 0, 1, b"", [], {}, object()])
def test_X5_a_bundle_that_is_no_text_is_refused(server: FaultServer, value: object) -> None:
    with pytest.raises(ConfigError, match="ca_bundle"):
        Client(MODEL, api_key=KEY, base_url=server.base_url, ca_bundle=value)  # type: ignore[arg-type]
    assert server.connections == 0


@pytest.mark.parametrize("name", ["verify", "verfy", "verify_ssl", "ssl_verify", "insecure", "cert", "ssl", "tls"])
@pytest.mark.parametrize("value", [False, 0, "flase", None])
def test_X5_there_is_no_switch(tmp_path: Path, name: str, value: Any) -> None:  # noqa: ANN401 (whatever somebody passes)
    """An argument is a `TypeError`, as any unknown one, and a setting a `ConfigError`."""
    with pytest.raises(TypeError, match=name):
        Client(MODEL, api_key=KEY, **{name: value})
    empty = tmp_path / "t.toml"
    empty.touch()
    with pytest.raises(ConfigError, match=f"`Client` has no option `{name}`"):
        Client.from_config(empty, model=MODEL, api_key=KEY, **{name: value})


@pytest.mark.parametrize(
    "text", ["verify = false", "ca_bundle = false", 'ca_bundle = ""', "ca_bundle = 0", 'ca_bundle = "none?"', "[tls]"]
)
def test_X5_there_is_no_switch_in_a_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "t.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"`Client` has no option|ca_bundle"):
        Client.from_config(file, model=MODEL, api_key=KEY)


@pytest.mark.parametrize("name", ["TIDEGATE_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
@pytest.mark.parametrize("value", ["", "false", "0", "none", "off", " ", "/no/such/file.pem"])
def test_X5_no_value_of_the_environment_is_a_switch(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """It is refused, or as good as absent."""
    monkeypatch.setenv(name, value)
    try:
        client = Client(MODEL, api_key=KEY, base_url=server.base_url, retry=None)
    except ConfigError as error:
        assert "there is no file or folder of certificates" in str(error)  # noqa: PT017 (one of two good ends)
    else:
        with client:
            refused(client)
    assert server.requests == []


@pytest.mark.parametrize("name", ["PYTHONHTTPSVERIFY", "TIDEGATE_VERIFY", "CURL_INSECURE", "GIT_SSL_NO_VERIFY"])
def test_X5_no_other_variable_is_a_switch(server: FaultServer, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "0" if name.endswith("VERIFY") and name[0] != "G" else "1")
    with client_of(server) as client:
        refused(client)
    assert server.requests == []


@pytest.mark.parametrize(
    "content", [b"", b"no certificate\n", b"-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n"]
)
def test_X5_a_bundle_without_certificates_trusts_nobody(server: FaultServer, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(content)
    with client_of(server, ca_bundle=str(file)) as client:
        refused(client)
    assert server.requests == []


def test_X5_an_empty_folder_of_certificates_trusts_nobody(server: FaultServer, tmp_path: Path) -> None:
    with client_of(server, ca_bundle=str(tmp_path)) as client:
        refused(client)
    assert server.requests == []


def test_X5_a_bundle_that_is_gone_by_then_trusts_nobody(server: FaultServer) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(Path(server.ca_file).read_bytes())
        file.flush()
        client = Client(MODEL, api_key=KEY, base_url=server.base_url, ca_bundle=file.name, retry=None)
    with client:
        assert isinstance(outcome_of(lambda: client.complete("Hi")), CallError)
    assert server.requests == []


# Settings that are right


@pytest.mark.parametrize("name", ["TIDEGATE_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_X5_the_environment_may_name_an_authority(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, server.ca_file)
    with client_of(server) as client:
        assert client.complete("Hi").text == "Hello."


def test_X5_an_argument_beats_the_environment(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch, stranger: str
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", server.ca_file)
    with client_of(server, ca_bundle=stranger) as client:
        refused(client)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", stranger)
    with client_of(server, ca_bundle=server.ca_file) as client:
        client.complete("Hi")
    assert len(server.requests) == 1


def test_X5_other_programs_variables_are_theirs(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one of curl names no authority here: only the variables of the settings' page do."""
    monkeypatch.setenv("CURL_CA_BUNDLE", server.ca_file)
    assert requests.get(server.url, timeout=5).status_code == 200  # `requests` obeys it
    with client_of(server) as client:
        refused(client)


def test_X5_two_clients_do_not_share_their_trust(server: FaultServer) -> None:
    """One that trusts the server opens no door for one that does not, before or after."""
    with client_of(server) as wary, client_of(server, ca_bundle=server.ca_file) as trusting:
        refused(wary)
        trusting.complete("Hi")
        refused(wary)
    assert len(server.requests) == 1
