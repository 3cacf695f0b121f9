"""Azure OpenAI: OpenAI's chat completions at a deployment, with a version of the API and a key or a token.

Format: https://learn.microsoft.com/azure/ai-services/openai/reference
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

from tidegate.errors import CallError, ConfigError
from tidegate.providers.base import VISIBLE_ASCII, Account
from tidegate.providers.openai import Dialect, OpenAIProvider
from tidegate.providers.refusals import RETRY_AFTER_LIMIT

API_VERSION = "2024-10-21"
"""The newest stable one: https://learn.microsoft.com/azure/ai-services/openai/api-version-lifecycle"""

_TOKEN = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*")
"""An Entra ID token: a JSON web token, unlike a key. It goes into another header."""

_WAIT = re.compile(r"retry after (\d{1,6}) seconds?", re.IGNORECASE)


class AzureProvider(OpenAIProvider):
    """Deployments at one resource: a model's name is a deployment's."""

    def __init__(self, account: Account, dialect: Dialect, *, api_version: str = API_VERSION) -> None:
        """Raises `ConfigError` for a version that is none."""
        if not VISIBLE_ASCII.fullmatch(api_version):
            raise ConfigError("OPENAI_API_VERSION is no version of the API, such as `2024-10-21`")
        key = account.api_key.get_secret_value() if account.api_key is not None else None
        if key is None:
            headers = {}
        elif _TOKEN.fullmatch(key):
            headers = {"Authorization": f"Bearer {key}"}
        else:
            headers = {"api-key": key}
        super().__init__(account, dialect, headers=headers)
        # The newer address, …/openai/v1, takes deployments as models and needs no version.
        self._versioned = not account.base_url.endswith("/v1")
        self._query = f"?api-version={quote(api_version)}" if self._versioned else ""
        self._root = "" if account.base_url.endswith(("/openai", "/v1")) else "/openai"

    def path(self, model: str, method: str) -> str:
        """Of a method, below the deployment that `model` names."""
        deployment = f"/deployments/{quote(model, safe='')}" if self._versioned else ""
        return f"{self._root}{deployment}{method}{self._query}"

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes, now: float) -> CallError:
        """The error that a response without a 2xx status means; some say in words alone how long to wait."""
        error = super().refusal(status, headers, body, now)
        said = _WAIT.search(error.message)
        if error.retry_after is None and said is not None:
            error.retry_after = min(float(said[1]), RETRY_AFTER_LIMIT)
        return error
