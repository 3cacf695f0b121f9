"""Redis, as the rooms that keep something there need it: scripts and small values, and one kind of error.

The only importer of the `redis` package. Whatever goes wrong with a store that had answered once is a `ConnectionError`
(the built-in one): who asks goes on without it. The address may hold a password, so no message repeats it.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tidegate.errors import ConfigError
from tidegate.forking import reset_in_child

if TYPE_CHECKING:
    import redis

SECONDS = 1.0
"""How long an answer or a connection may take: a store that hangs must not hold calls up for longer."""

SCHEMES = ("redis", "rediss", "unix")


class RedisStore:
    """One Redis. Shared by threads; a forked child connects anew."""

    def __init__(self, url: str, *, field: str) -> None:
        """Connect, and see that it answers. Raises `ConfigError` naming `field`, such as `Limits(store=…)`."""
        self._field = field
        self.name = self._checked(url)
        """The address without what is secret in it."""
        self._client = self._connected(url)
        self._renew()
        reset_in_child(self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._scripts: dict[str, Any] = {}

    def _checked(self, url: str) -> str:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in SCHEMES or not (parts.hostname or parts.path.strip("/")):
            raise ConfigError(
                f"`{self._field}`: a store's address looks like `redis://host:6379/0`, `rediss://…` for TLS, or "
                "`unix:///path/of/the.sock`"
            )
        if parts.scheme == "unix":
            return f"unix://{parts.path}"
        return f"{parts.scheme}://{parts.hostname}:{port or 6379}{parts.path.rstrip('/')}"

    def _connected(self, url: str) -> redis.Redis:
        try:
            import redis  # noqa: PLC0415 (only when used)
            from redis.backoff import NoBackoff  # noqa: PLC0415
            from redis.retry import Retry  # noqa: PLC0415
        except ImportError:
            problem = "it needs the package `redis`: install `tidegate[redis]`"
        else:
            client = None
            try:
                client = redis.Redis.from_url(
                    url,
                    socket_timeout=SECONDS,
                    socket_connect_timeout=SECONDS,
                    socket_keepalive=True,
                    retry=Retry(NoBackoff(), 0),
                    decode_responses=True,
                )
                client.ping()
            except redis.AuthenticationError:
                problem = f"{self.name} does not accept the user or password"
            except (redis.RedisError, OSError, ValueError) as error:
                problem = f"{self.name} does not answer ({_reason(error)})"
            else:
                return client
            if client is not None:
                client.close()
        raise ConfigError(f"`{self._field}`: {problem}")  # outside the handler: its error may hold the address

    def run(self, script: str, keys: Sequence[str], args: Sequence[str | float]) -> list[Any]:
        """What the Lua `script` answers. Raises `ConnectionError` when the store does not."""
        known = self._scripts.get(script)
        if known is None:
            with self._lock:
                known = self._scripts.setdefault(script, self._client.register_script(script))
        answer: list[Any] = self._asked(lambda: known(keys=list(keys), args=list(args)))
        return answer

    def get(self, key: str) -> bytes | None:
        """The value of `key`. Raises `ConnectionError`."""
        value: str | None = self._asked(lambda: self._client.get(key))
        return None if value is None else value.encode()

    def set(self, key: str, value: str) -> None:
        """Keep `value`. Raises `ConnectionError`."""
        self._asked(lambda: self._client.set(key, value))

    def setnx(self, key: str, value: str | float) -> None:
        """Keep `value` unless there is one. Raises `ConnectionError`."""
        self._asked(lambda: self._client.setnx(key, value))

    def _asked(self, ask: Any) -> Any:  # noqa: ANN401 (whatever the command answers)
        import redis  # noqa: PLC0415

        try:
            return ask()
        except (redis.RedisError, OSError) as error:
            reason = _reason(error)
        raise ConnectionError(f"{self.name} does not answer ({reason})")  # outside the handler, as above

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def __repr__(self) -> str:
        return f"<RedisStore {self.name}>"


def _reason(error: BaseException) -> str:
    """What went wrong, in a few words without addresses."""
    behind = error.__cause__ or error.__context__
    if isinstance(error, TimeoutError) or type(error).__name__ == "TimeoutError":
        return f"no answer within {SECONDS:g} s"
    if isinstance(behind, socket.gaierror) or isinstance(error, socket.gaierror):
        return "its name is not known"
    if isinstance(behind, OSError) and behind.strerror:
        return behind.strerror.lower()
    return re.sub(r"\S*://\S*|\S+:\d+\.?", "…", str(error)).strip(" .")[:120] or type(error).__name__
