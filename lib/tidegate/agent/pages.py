"""Reads pages of the public web for a model, and nothing that is reachable from here alone."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Collection
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin, urlsplit

import urllib3

from tidegate.agent.functions import FunctionTool, tool
from tidegate.version import USER_AGENT

LARGEST = 2 * 2**20
"""Bytes of a page that are read."""

SECONDS = 10.0
"""For connecting, and for each read."""

REDIRECTS = 5

_TEXT = re.compile(r"text/|application/(?:[\w.+-]*json|[\w.+-]*xml|javascript)", re.IGNORECASE)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def fetch_tool(*, hosts: Collection[str] | None = None, name: str = "fetch_url") -> FunctionTool[[str], str]:
    """A tool that reads a page by its address; nobody has it who does not ask for it.

    Addresses of this machine, of private networks and of links are refused, whatever name they hide behind, at every
    redirect anew; the connection goes to the address that was checked. With `hosts` only these hosts are read, and
    they may be private: who names one means it. Pages of HTML are given as their text, 2 MB of a page are read.
    """
    allowed = None if hosts is None else frozenset(host.lower() for host in hosts)

    @tool(name=name, timeout=30.0)
    def fetch_url(url: str) -> str:
        """Read a page of the web, as text.

        Args:
            url: The page's address, beginning with https:// or http://.
        """
        return fetched(url, allowed)

    return fetch_url


fetch_url = fetch_tool()
"""The tool for the public web."""


def fetched(url: str, hosts: Collection[str] | None = None) -> str:
    """The text of a page. Raises `ValueError` for what may not or cannot be read."""
    for _ in range(REDIRECTS + 1):
        response, following = _asked(url, hosts)
        if following is None:
            return response
        url = following
    raise ValueError(f"it was redirected more than {REDIRECTS} times")


def _asked(url: str, hosts: Collection[str] | None) -> tuple[str, str | None]:
    """The page, or where it is to be looked for instead."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        raise ValueError("an address begins with https:// or http:// and holds no user name")
    if hosts is not None and host not in hosts:
        raise ValueError(f"`{host}` is not among the hosts that may be read")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    address = _resolved(host, port, private=hosts is not None)
    try:
        with _pool(parts.scheme, host, address, port) as pool:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            response: Any = pool.request(
                "GET", path, redirect=False, preload_content=False, retries=False,
                headers={"Host": parts.netloc, "User-Agent": USER_AGENT, "Accept": "text/html, text/*, */*;q=0.5"},
            )  # fmt: skip
            try:
                return _read(response, url)
            finally:
                response.close()
    except (urllib3.exceptions.HTTPError, OSError) as error:
        problem = f"`{host}` could not be read: {' '.join(str(error).split())[:200]}"
    raise ValueError(problem)


def _pool(scheme: str, host: str, address: str, port: int) -> urllib3.HTTPConnectionPool:
    """To the address that was checked, whatever the name means by now."""
    timeout = urllib3.Timeout(connect=SECONDS, read=SECONDS)
    if scheme == "http":
        return urllib3.HTTPConnectionPool(address, port, timeout=timeout)
    return urllib3.HTTPSConnectionPool(address, port, timeout=timeout, server_hostname=host, assert_hostname=host)


def _resolved(host: str, port: int, *, private: bool) -> str:
    """An address of the host. Raises `ValueError` if any of its addresses is not of the public internet."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        found = []
    addresses = [str(entry[4][0]) for entry in found]
    if not addresses:
        raise ValueError(f"there is no host `{host}`")
    if not private and not all(map(is_public, addresses)):
        raise ValueError(f"`{host}` is no host of the public internet, so it is not read")
    return addresses[0]


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet, also where it is an IPv4 address inside an IPv6 one."""
    number = ipaddress.ip_address(address.partition("%")[0])
    inner: Any = None
    if isinstance(number, ipaddress.IPv6Address):
        inner = number.ipv4_mapped or number.sixtofour or (number.teredo[1] if number.teredo else None)
        if number in _NAT64:
            inner = ipaddress.IPv4Address(int(number) & 0xFFFFFFFF)
    if inner is not None:
        return is_public(str(inner))
    return number.is_global and not number.is_multicast and not number.is_reserved


def _read(response: Any, url: str) -> tuple[str, str | None]:  # noqa: ANN401 (urllib3's, of either generation)
    location = response.headers.get("location")
    if 300 <= response.status < 400 and location:
        return "", urljoin(url, location)
    kind = response.headers.get("content-type", "text/plain")
    if response.status >= 400:
        raise ValueError(f"the page answered HTTP {response.status}")
    if not _TEXT.match(kind):
        raise ValueError(f"the page is no text (`{kind[:60]}`)")
    body = response.read(LARGEST, decode_content=True)
    charset = re.search(r"charset=[\"']?([\w-]+)", kind)
    try:
        text = body.decode(charset[1] if charset else "utf-8", "replace")
    except LookupError:
        text = body.decode("utf-8", "replace")
    return (_Page.text_of(text) if "html" in kind.lower() else text), None


class _Page(HTMLParser):
    """The text of a page of HTML."""

    _SILENT = frozenset({"script", "style", "noscript", "template", "svg", "head"})
    _BLOCKS = frozenset({"p", "br", "div", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "section", "article", "pre"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._pieces: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 (the parser's own)
        """A tag opens."""
        if tag in self._SILENT:
            self._silent += 1
        elif tag in self._BLOCKS:
            self._pieces.append("\n")

    def handle_endtag(self, tag: str) -> None:
        """A tag closes."""
        if tag in self._SILENT and self._silent:
            self._silent -= 1
        elif tag in self._BLOCKS:
            self._pieces.append("\n")

    def handle_data(self, data: str) -> None:
        """Text between tags."""
        if not self._silent:
            self._pieces.append(data)

    @classmethod
    def text_of(cls, page: str) -> str:
        """A line for each block that has text."""
        parser = cls()
        parser.feed(page)
        parser.close()
        lines = (" ".join(line.split()) for line in "".join(parser._pieces).splitlines())
        return "\n".join(line for line in lines if line)
