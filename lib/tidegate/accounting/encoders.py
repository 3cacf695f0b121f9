"""OpenAI's public tokenizers: `tiktoken`, imported here alone, over tables that this package carries.

tiktoken downloads a table when it is first needed, with no time limit, and fails where there is no network. Here the
two that its current models need are at hand: see `tables/README.md`.
"""

from __future__ import annotations

import hashlib
import logging
import pkgutil
import re
import zlib
from collections.abc import Callable, Iterator
from itertools import accumulate, pairwise
from typing import NamedTuple

from tidegate.forking import no_fork

PART = 50_000
"""Characters that are encoded at once. tiktoken's time grows faster than its text where there is nothing to split it at
(0.3 ms for 1,000 letters in one run, 0.4 s for a million), and a million spaces overflow its stack."""

WINDOW = 4_096
"""Characters before the end of a part in which a place is looked for where cutting changes no token."""

REMEMBERED = 2_048
"""Counts that an encoder remembers: of a conversation that grows, and of instructions that are always the same, each
text is encoded once. Texts themselves are not kept."""

_CUT_BEFORE = frozenset(' \n\t\r.,;:!?()[]{}<>"/\\|-+*=&%$#@~`^_，。、；：！？「」『』（）《》…—·')  # noqa: RUF001 (so they are written)
"""Behind a letter or a digit both tokenizers end a piece here, whatever follows. Not the apostrophe: `it's`."""

_log = logging.getLogger("tidegate")


class _Table(NamedTuple):
    digest: str
    """SHA-256 of the file here."""
    original: str
    """SHA-256 of the file that tiktoken downloads, which it checks as well."""
    pieces: str
    """The pattern that text is split by before it is encoded, as tiktoken has it."""


_CL100K_PIECES = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
_O200K_PIECES = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

TABLES = {
    "cl100k_base": _Table(
        "befe7e182f51b601fbf6bc6309681eed4ddb4b32311e5ce73db92091de585e51",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        _CL100K_PIECES,
    ),
    "o200k_base": _Table(
        "373edd9042ccd1ab3596a397e5bfe67829e86fe25780fa643cb94e7b3041782e",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        _O200K_PIECES,
    ),
}


class Counted(NamedTuple):
    """What a text came to."""

    tokens: int
    exact: bool
    """False where it had to be cut in the middle of a piece: then it may be a token too many for each 50,000
    characters."""


class Encoder:
    """One tokenizer. Shared by threads; there is nothing in it that a fork could leave half done."""

    def __init__(self, encode: Callable[[str], list[int]]) -> None:
        """`encode` makes tokens of a text."""
        self._encode = encode
        self._known: dict[tuple[int, int], Counted] = {}

    def known(self, text: str) -> Counted | None:
        """Its count, if it is remembered: by its hash and length, which no other text is going to share."""
        return self._known.get((hash(text), len(text)))

    def count(self, text: str) -> Counted:
        """Its tokens. What looks like a special token counts as the text that it is. Raises `ValueError`."""
        key = (hash(text), len(text))
        found = self._known.get(key)
        if found is None:
            found = self._counted(text)
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[key] = found
        return found

    def _counted(self, text: str) -> Counted:
        try:
            if len(text) <= PART:
                return Counted(len(self._encode(text)), exact=True)
            cuts = [0, *cuts_of(text), len(text)]
            tokens = sum(len(self._encode(text[start:end])) for start, end in pairwise(cuts))
            return Counted(tokens, all(_is_clean(text, cut) for cut in cuts[1:-1]))
        except BaseException as error:
            # Its panics are no `Exception`, so that nobody catches them by accident. This is on purpose.
            if type(error).__name__ != "PanicException":
                raise
        raise ValueError("the tokenizer gave up on the text")


def cuts_of(text: str) -> Iterator[int]:
    """Where a long text is cut: at most 50,000 characters apart, where no token changes if there is such a place."""
    cut = 0
    while len(text) - cut > PART:
        end = cut + PART
        lowest = max(cut, end - WINDOW)
        cut = next((place for place in range(end, lowest, -1) if _is_clean(text, place)), end)
        yield cut


def _is_clean(text: str, place: int) -> bool:
    return text[place] in _CUT_BEFORE and text[place - 1].isalnum()


_encoders: dict[str, Encoder | None] = {}


def encoder(name: str) -> Encoder | None:
    """The tokenizer `cl100k_base` or `o200k_base`; None when it cannot be had, which is logged once.

    Made when first asked for, in a quarter of a second, once for all threads; whoever asks meanwhile waits for it.
    """
    try:
        return _encoders[name]
    except KeyError:
        pass
    with no_fork():  # one thread at a time as well
        if name not in _encoders:
            _encoders[name] = _made(name)
        return _encoders[name]


def _made(name: str) -> Encoder | None:
    try:
        import tiktoken  # noqa: PLC0415 (only when something is counted)

        table = TABLES[name]
        encoding = tiktoken.Encoding(name, pat_str=table.pieces, mergeable_ranks=ranks(name), special_tokens={})
        return Encoder(encoding.encode_ordinary)
    except Exception as error:  # noqa: BLE001 (a broken install must not fail a call: it is counted by length then)
        _log.warning("tokens are estimated by length: the tokenizer %s cannot be loaded (%s)", name, error)
        return None


def ranks(name: str) -> dict[bytes, int]:
    """Each token's bytes and number. Raises `ValueError` or `OSError` when the file is not what it was."""
    packed = pkgutil.get_data(__package__, f"tables/{name}.zlib") or b""
    if hashlib.sha256(packed).hexdigest() != TABLES[name].digest:
        raise ValueError("its table is damaged")
    plain = zlib.decompress(packed)
    first = 4 + int.from_bytes(plain[:4], "little")
    edges = accumulate(plain[4:first], initial=first)
    return {plain[start:end]: rank for rank, (start, end) in enumerate(pairwise(edges))}


# Names of models

_OWN_NAMES = re.compile(r"(gpt-4o|chatgpt-4o|gpt-4\.[1-9]|gpt-5|o[134]|codex-mini|computer-use|gpt-oss)(?![a-z0-9])")
"""Newer than what tiktoken knows by name, all of them with o200k_base."""


def model_name(model: str) -> str:
    """The name itself: `gpt-4o` for `openai/gpt-4o:free` and for `ft:gpt-4o:my-org::id`."""
    name = model.rpartition("/")[2].lower()
    if name.startswith("ft:"):
        return name[3:].partition(":")[0]
    return name.partition(":")[0]


def encoding_name(name: str) -> str | None:
    """Which public tokenizer the model with that `model_name` has; None for none.

    The oldest completion models' (`p50k_base`, `r50k_base`) have none here: they are named, and not carried.
    """
    if _OWN_NAMES.match(name):
        return "o200k_base"
    try:
        with no_fork():
            import tiktoken  # noqa: PLC0415 (see above)
        found = tiktoken.encoding_name_for_model(name)
    except (KeyError, ImportError):
        return None
    # For text, o200k_harmony is the same as o200k_base: it has more special tokens.
    return "o200k_base" if found == "o200k_harmony" else found
