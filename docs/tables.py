"""Writes the tables of providers.md from the code: `python docs/tables.py`. A test fails where they are out of date."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from tidegate import ConfigError, Image, Message, Thought, Tool, ToolCall
from tidegate.catalog import AS_OF, facts, known_models
from tidegate.chat.embedding import EmbedRequest
from tidegate.chat.messages import Prompt
from tidegate.chat.request import ChatRequest
from tidegate.options import SecretStr
from tidegate.providers.base import Account, Provider
from tidegate.providers.exchange import Embedder, Tokenizer
from tidegate.providers.registry import HOSTS

PAGE = Path(__file__).parent / "providers.md"
MODEL = "a-model"
TOOL = Tool("tide", "When high tide comes.", {"type": "object", "properties": {"port": {"type": "string"}}})
SCHEMA = {"type": "object", "properties": {"port": {"type": "string"}}, "required": ["port"]}


def providers() -> Iterator[tuple[str, Provider]]:
    """Every provider of the table, at an address of no importance."""
    for name, host in HOSTS.items():
        account = Account(name, host.base_url or "https://example.com", SecretStr("sk-0123456789abcdef"))
        yield name, host.speak(account, {})


def said(provider: Provider, prompt: Prompt = "Hi", **options: object) -> str | None:
    """What is sent; None where it cannot be said."""
    try:
        request = ChatRequest.build(prompt, **options)  # type: ignore[arg-type]
        return provider.encode(request, MODEL, streamed=False).body.decode()
    except ConfigError:
        return None


def _yes(does: object) -> str:
    return "yes" if does else "-"


def _pictures(provider: Provider) -> str:
    ways = {
        "whole": Image.from_bytes(b"picture", "image/png"),
        "by address": Image("https://example.com/a.png"),
    }
    return ", ".join(way for way, image in ways.items() if said(provider, Message("user", (image,)))) or "-"


def _reasoning(provider: Provider) -> str:
    names = [name for name in ("none", "minimal", "low", "medium", "high") if said(provider, reasoning=name)]
    short = "by name" if len(names) == 5 else ", ".join(f"`{name}`" for name in names)
    return ", ".join(filter(None, (short, "tokens" if said(provider, reasoning=2_000) else ""))) or "-"


def _thoughts(provider: Provider) -> str:
    """Whether what was thought goes back with the turn that it led to."""
    thought = Thought("I-have-thought", "signed", id="rs_1", provider=provider.name)
    hidden = Thought("I-have-thought", None, "hidden", id="rs_1", provider=provider.name)
    calls = (ToolCall("c", "tide"),)
    turns = [
        [Message("user", "Hi"), Message("assistant", "So.", calls, thoughts=(each,)), Message("user", "Go on.")]
        for each in (thought, hidden)
    ]
    return _yes(any(re.search("I-have-thought|signed|hidden", said(provider, turn) or "") for turn in turns))


def _logprobs(provider: Provider) -> str:
    return "yes" if said(provider, logprobs=2) else "chosen tokens" if said(provider, logprobs=0) else "-"


def _schema(provider: Provider) -> str:
    """A model of which nothing is known is asked in the provider's own way."""
    body = json.loads(said(provider, schema=SCHEMA) or "{}")
    own = {name: value for name, value in body.items() if name not in ("messages", "input", "contents", "system")}
    return "yes" if '"port"' in json.dumps(own) else "in words" if body else "-"


def _embeds(provider: Provider) -> str:
    if not isinstance(provider, Embedder):
        return "-"
    try:
        provider.encode_embed(EmbedRequest.of(("Hi",)), MODEL)
    except ConfigError:
        return "-"
    return f"{provider.embed_batch} at once"


COLUMNS: dict[str, Callable[[Provider], str]] = {
    "tools": lambda provider: _yes(said(provider, tools=[TOOL], tool_choice="tide")),
    "pictures": _pictures,
    "JSON schema": _schema,
    "`reasoning`": _reasoning,
    "thoughts go back": _thoughts,
    "`seed`": lambda provider: _yes(said(provider, seed=1)),
    "`stop`": lambda provider: _yes(said(provider, stop="x")),
    "`logprobs`": _logprobs,
    "`embed`": _embeds,
    "`count_tokens` remote": lambda provider: _yes(isinstance(provider, Tokenizer)),
}


def table(heads: list[str], rows: list[list[str]]) -> str:
    """In Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def addresses() -> str:
    """Where each is, and what its variables are called."""
    rows = [
        [
            f"`{name}`",
            host.about,
            host.base_url or "`base_url=` is needed",
            ", ".join(f"`{key}`" for key in host.keys) + ("" if host.key_required else " (if it wants one)"),
            ", ".join(f"`{variable}`" for variable in host.base_urls),
        ]
        for name, host in HOSTS.items()
    ]
    return table(["name", "who", "address", "key", "another address"], rows)


def abilities() -> str:
    """What can be said to each."""
    rows = [[f"`{name}`", *(column(provider) for column in COLUMNS.values())] for name, provider in providers()]
    return table(["", *COLUMNS], rows)


def models() -> str:
    """What is known of models, and since when."""
    rows = []
    for name in known_models():
        known = facts(*name.split("/", 1))
        rows.append(
            [
                f"`{name}`",
                f"{known.context_window:,}" if known.context_window else "?",
                f"{known.max_output:,}" if known.max_output else "?",
                *("?" if each is None else _yes(each) for each in (known.tools, known.images, known.json_schema)),
                {None: "?", "none": "-", "tokens": "tokens", "effort": "by name"}[known.thinking],
            ]
        )
    heads = ["model", "window", "longest answer", "tools", "pictures", "JSON schema", "thinks"]
    return f"As of {AS_OF}:\n\n{table(heads, rows)}"


TABLES = {"addresses": addresses, "abilities": abilities, "models": models}


def written(page: str) -> str:
    """The page with its tables as they are now."""
    for name, make in TABLES.items():
        marked = re.compile(rf"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)", re.DOTALL)
        page, found = marked.subn(lambda match: f"{match[1]}{make()}\n{match[2]}", page)  # noqa: B023 (called at once)
        if found != 1:
            raise SystemExit(f"providers.md has {found} places for the table `{name}`")
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
