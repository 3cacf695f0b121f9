"""Messages: every form that a prompt may have, and what becomes of it."""

from __future__ import annotations

import base64
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from journeys.asking import client_of
from support.fault_server import FaultServer, json_reply
from support.openai_wire import completion
from tidegate import ConfigError, Image, Message, Text, ToolCall
from tidegate.chat.messages import ROLES, to_messages

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
DATA_URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
CALL = {"id": "call_1", "type": "function", "function": {"name": "tide", "arguments": '{"port":"Emden"}'}}
SEA = "https://example.com/sea.png"


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        running.always(json_reply(completion()))
        yield running


def user(content: Any) -> dict[str, Any]:  # noqa: ANN401 (whatever stands on the wire)
    return {"role": "user", "content": content}


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def picture(url: str, **more: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


FORMS: dict[str, tuple[Any, list[dict[str, Any]]]] = {
    "a string": ("Hi", [user("Hi")]),
    "a string of many lines and scripts": ("a\nb\t\u202e🌊 \0", [user("a\nb\t\u202e🌊 \0")]),
    "a message": (Message("user", "Hi"), [user("Hi")]),
    "a dict": (user("Hi"), [user("Hi")]),
    "another mapping": (types.MappingProxyType(user("Hi")), [user("Hi")]),
    "a list of both": (
        [Message("system", "Be brief."), user("Hi")],
        [{"role": "system", "content": "Be brief."}, user("Hi")],
    ),
    "a tuple": ((user("Hi"),), [user("Hi")]),
    "an iterator": (iter([user("Hi")]), [user("Hi")]),
    "a conversation": (
        [user("1+1?"), Message("assistant", "2"), user("+1?")],
        [user("1+1?"), {"role": "assistant", "content": "2"}, user("+1?")],
    ),
    "a developer's word": (
        [{"role": "developer", "content": "Be brief."}, user("Hi")],
        [{"role": "developer", "content": "Be brief."}, user("Hi")],
    ),
    "a name": ({**user("Hi"), "name": "Ada"}, [{**user("Hi"), "name": "Ada"}]),
    "parts": (Message("user", (Text("Hi"), Text(" there"))), [user([text("Hi"), text(" there")])]),
    "parts in a list": (Message("user", [Text("Hi")]), [user([text("Hi")])]),  # type: ignore[arg-type]
    "parts as dicts": (user([text("Hi")]), [user([text("Hi")])]),
    "parts as dicts in a message": (Message("user", [text("Hi")]), [user([text("Hi")])]),  # type: ignore[arg-type]
    "parts as strings": (user(["Hi", Text("there")]), [user([text("Hi"), text("there")])]),
    "a picture": (Message("user", (Image(SEA),)), [user([picture(SEA)])]),
    "a picture in detail": (Message("user", (Image(SEA, "low"),)), [user([picture(SEA, detail="low")])]),
    "a picture as a dict": (user([picture(SEA, detail="high")]), [user([picture(SEA, detail="high")])]),
    "a picture's bare address": (user([{"type": "image_url", "image_url": SEA}]), [user([picture(SEA)])]),
    "a picture's bytes": (Message("user", (Image.from_bytes(PNG, "image/png"),)), [user([picture(DATA_URL)])]),
    "words and a picture": (
        Message("user", (Text("What is it?"), Image(SEA))),
        [user([text("What is it?"), picture(SEA)])],
    ),
    "a tool's answer": (
        [
            user("When is high tide?"),
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": "12:40"},
        ],
        [
            user("When is high tide?"),
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": "12:40"},
        ],
    ),
    "a tool's answer, typed": (
        [
            Message("assistant", "One moment.", tool_calls=(ToolCall("call_1", "tide", '{"port":"Emden"}'),)),
            Message("tool", "12:40", tool_call_id="call_1"),
        ],
        [
            {"role": "assistant", "content": "One moment.", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": "12:40"},
        ],
    ),
    "a tool that answers nothing": (
        {"role": "tool", "tool_call_id": "call_1", "content": ""},
        [{"role": "tool", "tool_call_id": "call_1", "content": ""}],
    ),
    "a tool that answers no parts": (
        {"role": "tool", "tool_call_id": "call_1", "content": []},
        [{"role": "tool", "tool_call_id": "call_1", "content": ""}],
    ),
    "a call in a message of dicts": (
        Message("assistant", tool_calls=[CALL]),  # type: ignore[arg-type]
        [{"role": "assistant", "content": None, "tool_calls": [CALL]}],
    ),
    "a call whose arguments are an object": (
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "tide", "arguments": {"port": 1}}}]},
        [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "tide", "arguments": '{"port": 1}'}}
                ],
            }
        ],
    ),
    "an answer as the SDK dumps it": (
        [
            user("Hi"),
            {
                "role": "assistant", "content": "Hello.", "refusal": None, "annotations": [], "audio": None,
                "function_call": None, "tool_calls": None,
            },
            user("Bye"),
        ],
        [user("Hi"), {"role": "assistant", "content": "Hello."}, user("Bye")],
    ),
    "a refusal": (
        [user("Hi"), {"role": "assistant", "content": None, "refusal": "I will not."}, user("Why?")],
        [user("Hi"), {"role": "assistant", "content": "I will not."}, user("Why?")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_prompt_reaches_the_server(server: FaultServer, form: str) -> None:
    prompt, wire = FORMS[form]
    with client_of(server) as client:
        client.complete(prompt)
    assert server.requests[0].json["messages"] == wire


def test_system_stands_in_front_of_whatever_form(server: FaultServer) -> None:
    with client_of(server) as client:
        client.complete("Hi", system="Be brief.")
        client.complete([{"role": "system", "content": "Be kind."}, user("Hi")], system="Be brief.")
    front = {"role": "system", "content": "Be brief."}
    assert server.requests[0].json["messages"] == [front, user("Hi")]
    assert server.requests[1].json["messages"] == [front, {"role": "system", "content": "Be kind."}, user("Hi")]


def test_an_answer_can_be_asked_on(server: FaultServer) -> None:
    """The tool calls of a completion go back into the conversation as they are."""
    calls = (ToolCall("call_1", "tide", '{"port":"Emden"}'), ToolCall("call_2", "tide", '{"port":"Leer"}'))
    with client_of(server) as client:
        client.complete([Message("assistant", tool_calls=calls)])
    (sent,) = server.requests[0].json["messages"]
    assert [(call["id"], call["function"]["arguments"]) for call in sent["tool_calls"]] == [
        ("call_1", '{"port":"Emden"}'), ("call_2", '{"port":"Leer"}'),
    ]  # fmt: skip


def test_a_message_is_a_value_whatever_it_was_made_of() -> None:
    made = Message("user", [text("Hi")], tool_calls=[])  # type: ignore[arg-type]
    assert made == Message("user", (Text("Hi"),))
    assert hash(made) == hash(Message("user", (Text("Hi"),)))
    with pytest.raises(AttributeError):
        made.role = "system"  # type: ignore[misc]


def test_the_text_of_a_message_leaves_its_pictures_out() -> None:
    assert Message("user", (Text("a"), Image(SEA), Text("b"))).text == "ab"
    assert Message("user", "a").text == "a"


# What is refused

WRONG: dict[str, tuple[Any, str]] = {
    "None": (None, "a prompt is a string, a message or a list of messages, not `NoneType`"),
    "a number": (5, "not `int`"),
    "bytes": (b"Hi", "not `bytes`"),
    "a byte array": (bytearray(b"Hi"), "a message is a `Message` or a dict"),
    "an empty string": ("", "the prompt is empty"),
    "spaces": (" \n\t", "the prompt is empty"),
    "an empty list": ([], "the prompt is empty"),
    "an empty message": (Message("user"), "the prompt is empty"),
    "no content": ({"role": "user"}, "the prompt is empty"),
    "content of null": ({"role": "user", "content": None}, "the prompt is empty"),
    "no parts": (user([]), "the prompt is empty"),
    "empty parts": (user(["", " "]), "the prompt is empty"),
    "a system message alone": ([{"role": "system", "content": "Be brief."}], "the prompt is empty"),
    "strings in a list": (["Hi", "there"], "a message is a `Message` or a dict with `role` and `content`, not `str`"),
    "None in a list": ([user("Hi"), None], "not `NoneType`"),
    "no role": ({"content": "Hi"}, "a message needs a `role`"),
    "an unknown role": ({"role": "usr", "content": "Hi"}, "unknown role `usr`; did you mean `user`"),
    "a role that is nothing like one": ({"role": "zzz", "content": "Hi"}, r"unknown role `zzz` \(roles: system, "),
    "a role of null": ({"role": None, "content": "Hi"}, "unknown role `None`"),
    "a role that is a list": ({"role": ["user"], "content": "Hi"}, "unknown role"),
    "a role in capitals": ({"role": "User", "content": "Hi"}, "did you mean `user`"),
    "an unknown field": ({**user("Hi"), "contnt": "x"}, "a message has no field `contnt`; did you mean `content`"),
    "a field that is no name": ({**user("Hi"), 7: "x"}, "a message has no field `7`"),
    "bytes as content": (user(b"Hi"), "`content` is a string or a list of parts, not `bytes`"),
    "a number as content": (user(5), "not `int`"),
    "a dict as content": (user(text("Hi")), "not `dict`"),
    "an unknown part": (user([{"type": "input_audio", "input_audio": {}}]), "a part of a message is"),
    "a part without text": (user([{"type": "text"}]), "a part of a message is"),
    "a part that is a number": (user([5]), "a part of a message is"),
    "a tool's answer without its call": ({"role": "tool", "content": "12:40"}, "needs the `tool_call_id`"),
    "a call's id that is a number": ({"role": "tool", "tool_call_id": 5, "content": "x"}, "`tool_call_id` is a string"),
    "a name that is a number": ({**user("Hi"), "name": 5}, "`name` is a string"),
    "calls that are no list": ({"role": "assistant", "tool_calls": 5}, "`tool_calls` are a list, not `int`"),
    "calls that are a word": ({"role": "assistant", "tool_calls": "tide"}, "`tool_calls` are a list, not `str`"),
    "a call without a function": ({"role": "assistant", "tool_calls": [{"id": "c"}]}, "a tool call has an `id`"),
    "a call that is a word": ({"role": "assistant", "tool_calls": ["tide"]}, "a tool call has an `id`"),
    "a call of the old form": (
        {"role": "assistant", "content": None, "function_call": {"name": "tide", "arguments": "{}"}},
        "`function_call` cannot be sent",
    ),
    "a voice": ({"role": "assistant", "content": "Hi", "audio": {"id": "a"}}, "`audio` cannot be sent"),
    "a picture that is no address": (user([picture("sea.png")]), "an image is an `https://"),
    "a picture that is a file's address": (user([picture("file:///etc/passwd")]), "an image is an `https://"),
    "a picture that is a program": (user([picture("javascript:alert(1)")]), "an image is an `https://"),
    "data that are no picture": (user([picture("data:text/html;base64,PGI+")]), "an image is an `https://"),
    "a picture without an address": (user([{"type": "image_url", "image_url": {}}]), "an image is an `https://"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_prompt_that_is_none_says_what_is_wrong_with_it(wrong: str) -> None:
    prompt, says = WRONG[wrong]
    with pytest.raises(ConfigError, match=says):
        to_messages(prompt)


@pytest.mark.parametrize(
    "content", [b"Hi", 5, {"type": "text"}, [5], [b"Hi"], object()], ids=lambda content: type(content).__name__
)
def test_a_typed_message_is_checked_like_a_dict(content: Any) -> None:  # noqa: ANN401
    with pytest.raises(ConfigError, match=r"content|a part of a message"):
        Message("user", content)


def test_a_system_that_is_no_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="`system` is a string, not `bytes`"):
        to_messages("Hi", b"Be brief.")  # type: ignore[arg-type]


@pytest.mark.parametrize("role", ROLES)
def test_every_role_is_known(role: Any) -> None:  # noqa: ANN401 (a `Role`)
    assert Message(role, "x", tool_call_id="call_1").role == role


# Pictures


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.png", "png"), ("a.JPG", "jpeg"), ("a.jpeg", "jpeg"), ("a.gif", "gif"), ("a.b.webp", "webp")],
)
def test_a_picture_file_becomes_a_data_url_of_its_kind(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_bytes(PNG)
    for path in (tmp_path / name, str(tmp_path / name)):
        head, _, data = Image.from_file(path).url.partition(",")
        assert head == f"data:image/{kind};base64"
        assert base64.b64decode(data) == PNG


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"`notes\.txt`: not one of \.png"):
        Image.from_file(tmp_path / "notes.txt")


def test_a_picture_file_that_is_not_there_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Image.from_file(tmp_path / "no.png")


@pytest.mark.parametrize("url", ["HTTPS://example.com/a", "http://127.0.0.1/a.png", "DATA:image/PNG;base64,AA=="])
def test_an_address_may_be_written_in_capitals(url: str) -> None:
    assert Image(url).url == url


@pytest.mark.parametrize("media_type", ["text/html", "image/", "png", "image/" + "x" * 99])
def test_bytes_of_an_odd_kind_are_refused(media_type: str) -> None:
    with pytest.raises(ConfigError, match="an image is"):
        Image.from_bytes(PNG, media_type)
