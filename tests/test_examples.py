"""Every Python example of README and docs/ runs as it stands, against a real server on loopback."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from llmock.testing import LLMockServer

from support.redis_server import RedisServer

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
REDIS = "redis://127.0.0.1:6379/0"
"""The address that examples give a Redis; the tests have one of their own."""
_BLOCK = re.compile(r"^```(python|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _examples() -> Iterator[tuple[str, str, str]]:
    """Each example's name, its code, and the TOML file that the page shows before it."""
    for page in PAGES:
        text, toml = page.read_text(encoding="utf-8"), ""
        for match in _BLOCK.finditer(text):
            if match[1] == "toml":
                toml = match[2]
            else:
                line = text.count("\n", 0, match.start()) + 1
                yield f"{page.name}:{line}", match[2], toml


EXAMPLES = list(_examples())


@pytest.fixture(scope="module")
def llmock() -> Iterator[LLMockServer]:
    with LLMockServer() as server:
        yield server


def test_every_page_has_examples() -> None:
    """A page whose examples were not found would pass for the wrong reason."""
    pages = {name.split(":")[0] for name, _, _ in EXAMPLES}
    assert {
        "README.md",
        "quickstart.md",
        "streaming.md",
        "settings.md",
        "errors.md",
        "error-handling.md",
        "limits.md",
        "recovery.md",
        "money.md",
        "providers.md",
        "agents.md",
    } <= pages


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.mark.parametrize("example", [row[1:] for row in EXAMPLES], ids=[row[0] for row in EXAMPLES])
def test_example_runs(
    example: tuple[str, str], llmock: LLMockServer, redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example runs to its end without an error."""
    code, toml = example
    for name in ("openai", "anthropic", "gemini"):
        monkeypatch.setenv(f"{name.upper()}_BASE_URL", llmock.base_url(name))
        monkeypatch.setenv(f"{name.upper()}_API_KEY", "sk-example")
    monkeypatch.delenv("TIDEGATE_LEDGER", raising=False)
    monkeypatch.chdir(tmp_path)
    if toml:
        (tmp_path / "tidegate.toml").write_text(toml, encoding="utf-8")
    code = code.replace(REDIS, redis.url)
    exec(compile(code, "example", "exec", dont_inherit=True), {"__name__": "__main__"})  # noqa: S102 (our own pages)
