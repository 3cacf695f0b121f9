"""Messages and their parts, and how plain strings and dicts become them."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from tidegate.chat.details import Thought
from tidegate.chat.tools import ToolCall
from tidegate.errors import ConfigError, nearest

Role = Literal["system", "developer", "user", "assistant", "tool"]
ROLES: tuple[str, ...] = get_args(Role)

_MEDIA_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
}
_IMAGE_URL = re.compile(r"https?://|data:image/[a-z0-9.+-]{1,40};base64,", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Text:
    """A part of a message that is text."""

    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """A part of a message that is a picture: an `https://…` address or a `data:image/…;base64,…` URL."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.url, str) or not _IMAGE_URL.match(self.url):
            raise ConfigError(
                "an image is an `https://…` address or a `data:image/…;base64,…` URL; "
                "for a file or bytes use `Image.from_file(path)` or `Image.from_bytes(data, media_type)`"
            )

    @classmethod
    def from_bytes(cls, data: bytes, media_type: str) -> Image:
        """Wrap encoded picture `data`, such as the content of a PNG file, in a data URL."""
        return cls(f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}")

    @classmethod
    def from_file(cls, path: str | Path) -> Image:
        """Read a .png, .jpg, .gif or .webp file into a data URL."""
        file = Path(path)
        media_type = _MEDIA_TYPES.get(file.suffix.lower())
        if media_type is None:
            raise ConfigError(f"`{file.name}`: not one of {', '.join(_MEDIA_TYPES)}")
        return cls.from_bytes(file.read_bytes(), media_type)


Part = Text | Image


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. `content` is text, or parts of text and pictures."""

    role: Role
    content: str | tuple[Part, ...] = ""
    tool_calls: tuple[ToolCall, ...] = ()
    """What an assistant's turn asked to be called."""
    tool_call_id: str | None = None
    """Which call a `tool` turn answers."""
    name: str | None = None
    thoughts: tuple[Thought, ...] = ()
    """What the assistant thought before this turn: `completion.message` has it. Sent back to its own provider only."""
    failed: bool = False
    """Of a `tool` turn: the tool did not do what it was asked, and `content` says why."""

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            shown = str(self.role)[:40]
            raise ConfigError(f"unknown role `{shown}`{nearest(shown, ROLES)} (roles: {', '.join(ROLES)})")
        if not isinstance(self.failed, bool):
            raise ConfigError("a message's `failed` is True or False")
        for field in ("tool_call_id", "name"):
            if not isinstance(getattr(self, field), str | None):
                raise ConfigError(f"a message's `{field}` is a string")
        if self.role == "tool" and not self.tool_call_id:
            raise ConfigError("a `tool` message needs the `tool_call_id` of the call that it answers")
        # Whatever form they came in, from here on they are what the fields say.
        object.__setattr__(self, "content", _content(self.content))
        object.__setattr__(self, "tool_calls", _tool_calls(self.tool_calls))
        object.__setattr__(self, "thoughts", _thoughts(self.thoughts))

    @property
    def text(self) -> str:
        """The text of the message, without its pictures."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content if isinstance(part, Text))


Prompt = str | Message | Mapping[str, Any] | Sequence[Message | Mapping[str, Any]]
"""What a call accepts: a question, one message, or a conversation (messages or dicts in OpenAI's shape)."""


def to_messages(prompt: Prompt, system: str | None = None) -> tuple[Message, ...]:
    """The conversation that `prompt` means, `system` in front. Raises `ConfigError` when there is nothing to say."""
    if isinstance(prompt, str):
        turns: tuple[Message, ...] = (Message("user", prompt),)
    elif isinstance(prompt, Message | Mapping):
        turns = (_message(prompt),)
    elif isinstance(prompt, Iterable) and not isinstance(prompt, bytes):
        turns = tuple(_message(turn) for turn in prompt)
    else:
        raise ConfigError(f"a prompt is a string, a message or a list of messages, not `{type(prompt).__name__}`")
    if not any(_says_something(turn) for turn in turns if turn.role not in ("system", "developer")):
        raise ConfigError("the prompt is empty: nothing to send")
    if system is None:
        return turns
    if not isinstance(system, str):
        raise ConfigError(f"`system` is a string, not `{type(system).__name__}`")
    return (Message("system", system), *turns)


def _says_something(turn: Message) -> bool:
    if turn.tool_calls or turn.role == "tool":
        return True
    if isinstance(turn.content, str):
        return bool(turn.content.strip())
    return any(isinstance(part, Image) or part.text.strip() for part in turn.content)


def _message(turn: Message | Mapping[str, Any]) -> Message:
    if isinstance(turn, Message):
        return turn
    if not isinstance(turn, Mapping):
        raise ConfigError(f"a message is a `Message` or a dict with `role` and `content`, not `{type(turn).__name__}`")
    if "role" not in turn:
        raise ConfigError("a message needs a `role`")
    known = {
        "role",
        "content",
        "tool_calls",
        "tool_call_id",
        "name",
        "refusal",
        "audio",
        "annotations",
        "function_call",
        "reasoning_content",
        "thoughts",
        "failed",
    }
    unknown = [str(key) for key in turn if key not in known]
    if unknown:
        raise ConfigError(f"a message has no field `{unknown[0][:40]}`{nearest(unknown[0], known)}")
    lost = next((field for field in ("audio", "function_call") if turn.get(field)), None)
    if lost is not None:
        raise ConfigError(f"a message's `{lost}` cannot be sent: say it with `content` or `tool_calls`")
    return Message(
        role=cast("Role", turn["role"]),
        content=turn.get("content") or turn.get("refusal") or "",
        tool_calls=turn.get("tool_calls") or (),
        tool_call_id=turn.get("tool_call_id"),
        name=turn.get("name"),
        thoughts=turn.get("thoughts") or turn.get("reasoning_content") or (),
        failed=turn.get("failed", False),
    )


def _tool_calls(calls: object) -> tuple[ToolCall, ...]:
    if not isinstance(calls, Sequence) or isinstance(calls, str | bytes):
        raise ConfigError(f"a message's `tool_calls` are a list, not `{type(calls).__name__}`")
    return tuple(ToolCall.from_dict(call) for call in calls)


def _thoughts(thoughts: object) -> tuple[Thought, ...]:
    if isinstance(thoughts, str):
        return (Thought(thoughts),)
    if not isinstance(thoughts, Sequence) or not all(isinstance(each, Thought) for each in thoughts):
        raise ConfigError("a message's `thoughts` are a list of `Thought`, as `completion.message` has them")
    return tuple(thoughts)


def _content(content: object) -> str | tuple[Part, ...]:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence) and not isinstance(content, bytes):
        return tuple(_part(part) for part in content)
    raise ConfigError(f"a message's `content` is a string or a list of parts, not `{type(content).__name__}`")


def _part(part: object) -> Part:
    if isinstance(part, Text | Image):
        return part
    if isinstance(part, str):
        return Text(part)
    if isinstance(part, Mapping):
        if part.get("type") == "text" and isinstance(part.get("text"), str):
            return Text(part["text"])
        image = part.get("image_url")
        if part.get("type") == "image_url" and isinstance(image, Mapping):
            return Image(image.get("url", ""), image.get("detail"))
        if part.get("type") == "image_url" and isinstance(image, str):
            return Image(image)
    raise ConfigError(
        "a part of a message is a string, a `Text`, an `Image`, or a dict with type `text` or `image_url`"
    )
