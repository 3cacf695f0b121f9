"""X4: an address or a key that would leak the key, or bend the request, is refused before anything is sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from journeys.asking import KEY, MODEL, client_of
from support.fault_server import FaultServer, json_reply
from support.openai_wire import completion
from tidegate import Client, ConfigError
from tidegate.options import SecretStr
from tidegate.providers.base import Account, checked_base_url
from tidegate.transport.session import is_loopback

SECRET = "hunter2-0123456789"  # noqa: S105 (nobody's)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        running.always(json_reply(completion()))
        yield running


# Addresses

IN_CLEAR = [
    "http://api.openai.com/v1",
    "HTTP://api.openai.com/v1",
    "http://10.0.0.1/v1",
    "http://192.168.1.1:8000/v1",
    "http://0.0.0.0:8000/v1",
    "http://[2001:db8::1]/v1",
    "http://169.254.169.254/v1",
    # names and numbers that only look like this machine
    "http://127.0.0.1.example.com/v1",
    "http://127.example.com/v1",
    "http://localhost.example.com/v1",
    "http://notlocalhost/v1",
    "http://127.0.0.1-example.com/v1",
    "http://2130706433/v1",
    "http://0x7f.0.0.1/v1",
    "http://128.0.0.1/v1",
    "http://[::2]/v1",
]
"""A key that is sent there can be read on the way."""

WITH_USER = [
    f"https://{SECRET}@api.openai.com/v1",
    f"https://me:{SECRET}@api.openai.com/v1",
    f"https://:{SECRET}@api.openai.com/v1",
    f"https://me:{SECRET}@127.0.0.1/v1",
    f"http://127.0.0.1:{SECRET}@example.com/v1",
    f"http://127.0.0.1\\@{SECRET}.example.com/v1",
    "https://@api.openai.com/v1",
]
"""A user, a password, or what looks like a host and is none."""

NO_ADDRESS = [
    "api.openai.com/v1",
    "//api.openai.com/v1",
    "/v1",
    "https:",
    "https://",
    "https:///v1",
    "https://:443/v1",
    "https:api.openai.com",
    "ftp://api.openai.com/v1",
    "file:///etc/passwd",
    "unix:///run/x.sock",
    "ws://127.0.0.1/v1",
    "javascript:alert(1)",
    "https://api.openai.com:0/v1",
    "https://api.openai.com:99999/v1",
    "https://api.openai.com:https/v1",
    "https://[::1/v1",
    "https://[nonsense]/v1",
    "http://example.com\\.localhost/v1",
    "http://example.com\\@.localhost/v1",
    "https://exa%6dple.com/v1",
    "https://a,b/v1",
    "https://{host}/v1",
    "https://api.openai.com/v1?",
    f"https://api.openai.com/v1?key={SECRET}",
    "https://api.openai.com/v1#",
    f"https://api.openai.com/v1#{SECRET}",
    f"https://api.openai.com?{SECRET}",
]
"""Nothing that can be asked, or something that two readers would read in two ways."""

ODD_CHARACTERS = [
    "",
    " ",
    "https://api.openai.com /v1",
    " https://api.openai.com/v1",
    "https://api.openai.com/v1 ",
    "https://api.openai.com/v1\n",
    "https://api.openai.com\r\nX-Evil: 1",
    "https://api.openai.com/v1\r\nX-Evil: 1",
    "https://api.openai.com\t/v1",
    "https://api.openai.com/\0",
    "https://api.openai.com/\x7f",
    "https://\u0430pi.openai.com/v1",  # a Cyrillic letter
    "https://api\u3002openai\u3002com/v1",  # full stops that some turn into dots
    "https://api.openai.com/v\uff11",  # a wide digit
]


@pytest.mark.parametrize("address", IN_CLEAR)
def test_X4_a_key_is_not_sent_in_clear_to_another_machine(address: str) -> None:
    with pytest.raises(ConfigError, match="would send the key in clear text: use https, or say `allow_http=True`"):
        Client(MODEL, api_key=KEY, base_url=address)


@pytest.mark.parametrize("address", [*WITH_USER, *NO_ADDRESS, *ODD_CHARACTERS[1:]])
def test_X4_a_wrong_address_is_refused(address: str) -> None:
    """`allow_http` does not help it, and what it says of itself is not repeated."""
    for allow_http in (False, True):
        with pytest.raises(ConfigError, match="`base_url`") as caught:
            Client(MODEL, api_key=KEY, base_url=address, allow_http=allow_http)
        assert SECRET not in f"{caught.value} {caught.value!r}"
        assert str(caught.value).isprintable()
        assert caught.value.__context__ is None


def test_X4_an_empty_address_is_no_address() -> None:
    with pytest.raises(ConfigError, match="`base_url`"):
        checked_base_url("")


def by_variable(_: Path, patch: pytest.MonkeyPatch, address: str) -> Client:
    patch.setenv("OPENAI_BASE_URL", address)
    return Client(MODEL, api_key=KEY)


def by_own_variable(_: Path, patch: pytest.MonkeyPatch, address: str) -> Client:
    patch.setenv("TIDEGATE_BASE_URL", address)
    return Client(MODEL, api_key=KEY)


def by_file(folder: Path, _: pytest.MonkeyPatch, address: str) -> Client:
    file = folder / "t.toml"
    file.write_text(f"base_url = {json.dumps(address)}\n", encoding="utf-8")
    return Client.from_config(file, model=MODEL, api_key=KEY)


def by_another_model(_: Path, patch: pytest.MonkeyPatch, address: str) -> Client:
    patch.setenv("GROQ_BASE_URL", address)
    with Client(MODEL, api_key=KEY) as client:
        client.complete("Hi", model="groq/x")
    return client


@pytest.mark.parametrize("source", [by_variable, by_own_variable, by_file, by_another_model])
@pytest.mark.parametrize("address", [IN_CLEAR[0], WITH_USER[1], NO_ADDRESS[0], ODD_CHARACTERS[7]])
def test_X4_a_wrong_address_is_refused_wherever_it_stands(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: Callable[[Path, pytest.MonkeyPatch, str], Client],
    address: str,
) -> None:
    with pytest.raises(ConfigError, match="`base_url`") as caught:
        source(tmp_path, monkeypatch, address)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "stands_for"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
        ("HTTPS://api.openai.com", "https://api.openai.com"),
        ("https://my_host.internal:8443/a/b", "https://my_host.internal:8443/a/b"),
        ("https://xn--bcher-kva.example/v1", "https://xn--bcher-kva.example/v1"),
        ("https://[2001:db8::1]:8443/v1", "https://[2001:db8::1]:8443/v1"),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
        ("http://127.8.8.8/v1", "http://127.8.8.8/v1"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://LOCALHOST:8000", "http://LOCALHOST:8000"),
        ("http://model.localhost/v1", "http://model.localhost/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
        ("http://[0:0:0:0:0:0:0:1]/v1", "http://[0:0:0:0:0:0:0:1]/v1"),
    ],
)
def test_X4_a_good_address_passes(address: str, stands_for: str) -> None:
    assert checked_base_url(address) == stands_for


def test_X4_plain_http_to_another_machine_can_be_asked_for() -> None:
    with Client(MODEL, api_key=KEY, base_url="http://10.0.0.1:8000/v1", allow_http=True) as client:
        assert client._corridor.endpoints.main.route.base_url == "http://10.0.0.1:8000/v1"


@pytest.mark.parametrize("typo", ["flase", "yes please", "", 7, "0.0"])
def test_X4_a_typo_does_not_ask_for_it(typo: object) -> None:
    with pytest.raises(ConfigError, match="allow_http"):
        Client(MODEL, api_key=KEY, base_url="http://10.0.0.1/v1", allow_http=typo)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True), ("127.255.255.254", True), ("::1", True), ("localhost", True), ("a.localhost", True),
        ("127.0.0.1.example.com", False), ("127.", False), ("127.example.com", False), ("127.0.0.1.", False),
        ("localhost.example.com", False), ("xlocalhost", False), ("", False), ("0.0.0.0", False), ("::", False),  # noqa: S104
        ("126.0.0.1", False), ("::ffff:10.0.0.1", False),
    ],
)  # fmt: skip
def test_X4_this_machine_is_known_by_its_whole_name_or_number(host: str, *, here: bool) -> None:
    assert is_loopback(host) is here


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9/v1", "http://[::1]/v1", "https://[::1]/v1", "http://[::1]:9/v1"]
)
def test_X4_this_machine_may_be_asked_without_a_key(address: str) -> None:
    with Client(MODEL, base_url=address) as client:
        assert client.model == MODEL


# Keys and headers

BREAKS = {
    "CR LF": "\r\n",
    "CR": "\r",
    "LF": "\n",
    "NUL": "\0",
    "a space": " ",
    "a tab": "\t",
    "DEL": "\x7f",
    "ESC": "\x1b",
    "a letter beyond ASCII": "é",
    "a wide letter": "\uff21",
    "a line separator": "\u2028",
    "half a pair": "\ud800",
}
PLACES = {"before": "{0}{1}", "after": "{1}{0}", "inside": "{1}{0}X-Evil: 1"}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("character", BREAKS.values(), ids=BREAKS)
def test_X4_a_key_that_would_break_its_header_is_refused_unshown(
    server: FaultServer, character: str, place: str
) -> None:
    with pytest.raises(ConfigError, match="the API key for `openai` holds") as caught:
        Client(MODEL, api_key=place.format(character, SECRET), base_url=server.base_url)
    assert SECRET not in f"{caught.value} {caught.value!r}"
    assert "X-Evil" not in str(caught.value)
    assert server.connections == 0


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "TIDEGATE_API_KEY"])
@pytest.mark.parametrize("character", ["\r\n", "\n", " ", "é"])
def test_X4_a_key_of_the_environment_is_refused_just_so(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch, variable: str, character: str
) -> None:
    monkeypatch.setenv(variable, f"{SECRET}{character}X-Evil: 1")
    with pytest.raises(ConfigError, match="the API key for `openai` holds") as caught:
        Client(MODEL, base_url=server.base_url)
    assert SECRET not in str(caught.value)
    assert server.connections == 0


def test_X4_an_empty_key_is_refused(server: FaultServer) -> None:
    with pytest.raises(ConfigError, match="API key"):
        Client(MODEL, api_key="", base_url=server.base_url)
    assert server.connections == 0


@pytest.mark.parametrize("character", ["\r\n", "\n", "\r", "\t", "é", "\x7f"])
@pytest.mark.parametrize("variable", ["OPENAI_ORG_ID", "OPENAI_PROJECT_ID"])
def test_X4_a_header_of_the_environment_with_a_break_is_refused_unshown(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch, variable: str, character: str
) -> None:
    monkeypatch.setenv(variable, f"{SECRET}{character}X-Evil: 1")
    with pytest.raises(ConfigError, match="the header `OpenAI-") as caught:
        Client(MODEL, api_key=KEY, base_url=server.base_url)
    assert SECRET not in str(caught.value)
    assert server.connections == 0


@pytest.mark.parametrize("value", ["a\0b", 7, None, b"a"])
def test_X4_a_header_that_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="the header `X-Any`"):
        Account("openai", "https://h", SecretStr(KEY), {"X-Any": value})  # type: ignore[dict-item]


def test_X4_whatever_a_question_holds_it_adds_no_header(server: FaultServer) -> None:
    """Everything that is asked stands in the body, as JSON."""
    evil = "x\r\nX-Evil: 1\r\n\r\nPOST /evil HTTP/1.1\r\n\r\n"
    with client_of(server) as client:
        client.complete(evil, system=evil, stop=[evil], options={"user": evil}, task=evil, tags={evil: evil})
        with pytest.raises(ConfigError, match="a model is named"):
            client.complete("Hi", model=f"openai/{evil}")
        client.complete("Hi")
    assert [request.path for request in server.requests] == ["/v1/chat/completions"] * 2
    assert not any("x-evil" in request.headers for request in server.requests)
    assert server.requests[0].json["user"] == evil
