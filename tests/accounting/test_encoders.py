"""Tokenizers: exact, at hand without a network, made once, and bounded in time."""

from __future__ import annotations

import base64
import hashlib
import importlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

from tidegate.accounting import encoders
from tidegate.accounting.encoders import TABLES, Encoder, cuts_of, encoder, encoding_name, model_name, ranks

_ENCODINGS = {
    name: tiktoken.Encoding(name, pat_str=TABLES[name].pieces, mergeable_ranks=ranks(name), special_tokens={})
    for name in TABLES
}


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has counted nothing yet."""
    monkeypatch.setattr(encoders, "_encoders", {})


def _encoder(name: str) -> Encoder:
    found = encoder(name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_the_one_that_tiktoken_expects(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that tiktoken would download, made from ours, has the SHA-256 that tiktoken checks, and its pattern."""
    published: Any = importlib.import_module("tiktoken_ext.openai_public")
    expected: list[str] = []

    def say(_url: str, expected_hash: str) -> dict[bytes, int]:
        expected.append(expected_hash)
        return {}

    monkeypatch.setattr(published, "load_tiktoken_bpe", say)
    definition: dict[str, Any] = published.ENCODING_CONSTRUCTORS[name]()
    original = b"".join(b"%s %d\n" % (base64.b64encode(token), rank) for token, rank in ranks(name).items())
    assert [hashlib.sha256(original).hexdigest(), TABLES[name].original] == expected * 2
    assert TABLES[name].pieces == definition["pat_str"]


@pytest.mark.parametrize(
    ("text", "cl100k", "o200k"),
    [
        ("", 0, 0),
        ("tiktoken is great!", 6, 6),
        ("antidisestablishmentarianism", 6, 6),
        ("2 + 2 = 4", 7, 7),
        ("お誕生日おめでとう", 9, 8),
        ("hello world", 2, 2),
    ],
)
def test_published_counts_are_met(text: str, cl100k: int, o200k: int) -> None:
    """The examples of OpenAI's cookbook."""
    assert (_encoder("cl100k_base").count(text).tokens, _encoder("o200k_base").count(text).tokens) == (cl100k, o200k)


def test_what_looks_like_a_special_token_is_text() -> None:
    assert _encoder("o200k_base").count("<|endoftext|>").tokens > 1


@given(st.text(max_size=300))
def test_tokens_make_the_text_again(text: str) -> None:
    """As many as are counted make up the text, byte for byte."""
    for name, encoding in _ENCODINGS.items():
        tokens = encoding.encode_ordinary(text)
        assert b"".join(encoding.decode_tokens_bytes(tokens)) == text.encode()
        assert _encoder(name).count(text) == (len(tokens), True)


@pytest.fixture(scope="module")
def small_parts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoders, "PART", 24)
        patch.setattr(encoders, "WINDOW", 16)
        yield


_WORDS = st.one_of(
    st.sampled_from(
        ["word", "It's", "Straße", "12345", "A", "Ab", "ll", "é", "e\u0301", "你好", "नमस्ते", "x²", "①", "😀"]
    ),
    st.sampled_from([" ", "  ", ", ", "\n", " \n", "\r\n", "\t", "\u00a0", "\uff0c", "。"]),
    st.sampled_from([".", ",_", "'", "_x", "#!", "/", "=>", "a'"]),
)


@pytest.mark.usefixtures("small_parts")
@given(st.lists(_WORDS, min_size=8, max_size=60).map("".join))
def test_a_text_that_is_cut_counts_as_if_it_were_whole(text: str) -> None:
    """Unless it says that it could not be cut without harm."""
    for name, encoding in _ENCODINGS.items():
        counted = Encoder(encoding.encode_ordinary).count(text)
        if counted.exact:
            assert counted.tokens == len(encoding.encode_ordinary(text)), name


@pytest.mark.usefixtures("small_parts")
def test_usual_text_is_cut_without_harm() -> None:
    text = "The committee met on Tuesday, and it's said that nothing came of it. " * 20
    assert len(list(cuts_of(text))) > 20
    assert Encoder(_ENCODINGS["o200k_base"].encode_ordinary).count(text).exact


@pytest.mark.parametrize("unit", [" ", "a", "A", "\n", "^", "的", "😀", "\u00a0", "\u0301", "Aa", "\ud800"])
def test_a_run_without_end_is_cut_into_parts(unit: str) -> None:
    """A million spaces overflow tiktoken's stack; no part is longer than stated, and the count says what it is."""
    longest = 0

    def encode(text: str) -> list[int]:
        nonlocal longest
        longest = max(longest, len(text))
        return _ENCODINGS["o200k_base"].encode_ordinary(text)

    counted = Encoder(encode).count(unit * 200_000)
    assert longest <= encoders.PART
    assert counted.tokens > 0
    assert not counted.exact


def test_a_tokenizer_that_panics_is_a_value_error() -> None:
    """What tiktoken raises then is no `Exception`; a Ctrl-C meanwhile stays what it is."""

    class PanicException(BaseException):
        pass

    def panic(_text: str) -> NoReturn:
        raise PanicException

    def interrupted(_text: str) -> NoReturn:
        raise KeyboardInterrupt

    with pytest.raises(ValueError, match="gave up"):
        Encoder(panic).count("x")
    with pytest.raises(KeyboardInterrupt):
        Encoder(interrupted).count("x")


def test_a_text_is_encoded_once_and_counts_are_forgotten_in_time() -> None:
    encoded: list[str] = []

    def encode(text: str) -> list[int]:
        encoded.append(text)
        return [1]

    counter = Encoder(encode)
    for _ in range(3):
        counter.count("the same")
    assert encoded == ["the same"]
    for number in range(3 * encoders.REMEMBERED):
        counter.count(str(number))
    assert len(counter._known) <= encoders.REMEMBERED


@pytest.mark.usefixtures("fresh")
def test_fifty_threads_make_one_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    really = encoders._made

    def watched(name: str) -> Encoder | None:
        made.append(name)
        return really(name)

    monkeypatch.setattr(encoders, "_made", watched)
    together = threading.Barrier(50)

    def ask(_: int) -> Encoder | None:
        together.wait(10)
        return encoder("o200k_base")

    with ThreadPoolExecutor(50) as pool:
        found = set(pool.map(ask, range(50)))
    assert made == ["o200k_base"]
    assert len(found) == 1
    assert None not in found


@pytest.mark.usefixtures("fresh")
def test_the_first_count_needs_no_network_and_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way that tiktoken itself has to its tables is not taken."""

    def forbidden(*_: object, **__: object) -> NoReturn:
        raise AssertionError("it reached for tiktoken's files")

    monkeypatch.setattr("tiktoken.load.read_file", forbidden)
    monkeypatch.setattr("tiktoken.load.read_file_cached", forbidden)
    monkeypatch.setattr("socket.socket", forbidden)
    assert _encoder("o200k_base").count("hello world").tokens == 2
    assert _encoder("cl100k_base").count("hello world").tokens == 2


@pytest.mark.usefixtures("fresh")
def test_a_damaged_table_is_said_once_and_gives_no_tokenizer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pkgutil.get_data", lambda *_: b"something else")
    assert encoder("o200k_base") is None
    assert encoder("o200k_base") is None
    assert len([record for record in caplog.records if "damaged" in record.getMessage()]) == 1


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gpt-4o", "o200k_base"),
        ("gpt-4o-mini-2024-07-18", "o200k_base"),
        ("openai/gpt-4o:free", "o200k_base"),
        ("chatgpt-4o-latest", "o200k_base"),
        ("gpt-4.1-nano", "o200k_base"),
        ("gpt-4.5-preview", "o200k_base"),
        ("gpt-5", "o200k_base"),
        ("gpt-5.2-codex", "o200k_base"),
        ("o1", "o200k_base"),
        ("o3-mini", "o200k_base"),
        ("o4-mini-deep-research", "o200k_base"),
        ("gpt-oss:20b", "o200k_base"),
        ("ft:gpt-4o-mini-2024-07-18:org:name:id", "o200k_base"),
        ("ft:gpt-4.1-2025-04-14:org::id", "o200k_base"),
        ("gpt-4", "cl100k_base"),
        ("gpt-4-turbo", "cl100k_base"),
        ("gpt-35-turbo", "cl100k_base"),
        ("ft:gpt-3.5-turbo-0125:org::id", "cl100k_base"),
        ("text-embedding-3-small", "cl100k_base"),
        ("text-davinci-003", "p50k_base"),
        ("claude-haiku-4-5", None),
        ("o1x", None),
        ("my-deployment", None),
    ],
)
def test_a_model_has_its_encoding(model: str, expected: str | None) -> None:
    assert encoding_name(model_name(model)) == expected


def test_no_name_has_another_encoding_than_tiktoken_says() -> None:
    for model in tiktoken.model.MODEL_TO_ENCODING:
        theirs = tiktoken.encoding_name_for_model(model)
        assert encoding_name(model_name(model)) == theirs.replace("o200k_harmony", "o200k_base"), model
