"""What language models do to JSON. Each kind changes a document's tokens in place, and says whether it could."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Sequence
from random import Random

from corpus.tokens import Token, text_of

Document = list[Token]
Damage = Callable[[Document, Random], bool]

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")

KINDS: dict[str, Damage] = {}
"""By name."""

LOSSES = frozenset({"cut off", "items left out"})
"""Kinds after which nobody can know what was there. The right answer is to refuse, or to say that part is missing."""


CUT = "\ue000"
"""Where the answer ends: nothing of what is put around the document comes after it."""


def _kind(name: str) -> Callable[[Damage], Damage]:
    def enter(damage: Damage) -> Damage:
        KINDS[name] = damage
        return damage

    return enter


def _where(document: Document, *kinds: str) -> list[int]:
    return [place for place, token in enumerate(document) if token.kind in kinds]


def _some(places: Sequence[int], chance: Random) -> list[int]:
    """One of them as a rule, at times a few, at times all."""
    how = chance.random()
    if not places or how > 0.8:
        return list(places)
    return sorted(chance.sample(places, 1 if how < 0.5 else chance.randint(1, min(4, len(places)))))


def _reword(document: Document, places: Sequence[int], write: Callable[[Token], str]) -> bool:
    """Write these tokens anew; whether that changed anything."""
    changed = False
    for place in places:
        new = write(document[place])
        changed |= new != document[place].text
        document[place].text = new
    return changed


@_kind("trailing comma")
def _trailing_comma(document: Document, chance: Random) -> bool:
    closers = [place for place in _where(document, "}", "]") if document[place - 1].kind not in ("{", "[", ",")]
    for place in reversed(_some(closers, chance)):
        after = place - 1 if document[place - 1].kind == "space" else place
        document.insert(after, Token(",", ","))
    return bool(closers)


@_kind("missing comma")
def _missing_comma(document: Document, chance: Random) -> bool:
    commas = _where(document, ",")
    for place in reversed(_some(commas, chance)):
        if document[place + 1].kind == "space":
            del document[place]
        else:
            document[place] = Token("space", " ")
    return bool(commas)


@_kind("doubled comma")
def _doubled_comma(document: Document, chance: Random) -> bool:
    commas = _where(document, ",")
    return _reword(document, _some(commas, chance), lambda token: ",,")


@_kind("semicolons")
def _semicolons(document: Document, chance: Random) -> bool:
    return _reword(document, _some(_where(document, ","), chance), lambda token: ";")


def _in_single_quotes(token: Token, apostrophe: str) -> str:
    body = json.dumps(token.value, ensure_ascii=False)[1:-1].replace('\\"', '"')
    return "'" + body.replace("'", apostrophe) + "'"


@_kind("single quotes")
def _single_quotes(document: Document, chance: Random) -> bool:
    return _reword(document, _where(document, "key", "string"), lambda token: _in_single_quotes(token, "\\'"))


@_kind("single quotes, bare apostrophes")
def _bare_apostrophes(document: Document, chance: Random) -> bool:
    places = _where(document, "key", "string")
    _reword(document, places, lambda token: _in_single_quotes(token, "'"))
    return any("'" in document[place].value for place in places)


@_kind("some single quotes")
def _some_single_quotes(document: Document, chance: Random) -> bool:
    places = [place for place in _where(document, "key", "string") if "'" not in document[place].value]
    return _reword(document, _some(places, chance), lambda token: _in_single_quotes(token, "'"))


@_kind("smart quotes")
def _smart_quotes(document: Document, chance: Random) -> bool:
    kinds = chance.choice((("key", "string"), ("string",)))
    return _reword(document, _where(document, *kinds), lambda token: f"“{token.text[1:-1]}”")


@_kind("unquoted keys")
def _unquoted_keys(document: Document, chance: Random) -> bool:
    keys = [place for place in _where(document, "key") if re.fullmatch(r"[A-Za-z_]\w*", document[place].value)]
    return _reword(document, _some(keys, chance), lambda token: token.value)


@_kind("unquoted strings")
def _unquoted_strings(document: Document, chance: Random) -> bool:
    simple = [
        place
        for place in _where(document, "string")
        if re.fullmatch(r"[A-Za-z][\w.@-]*(?: [\w.@-]+){0,6}", document[place].value)
        and document[place].value.casefold() not in ("true", "false", "null", "none", "nan")
    ]
    return _reword(document, _some(simple, chance), lambda token: token.value)


@_kind("Python's words")
def _python_words(document: Document, chance: Random) -> bool:
    words = {"true": "True", "false": "False", "null": "None"}
    return _reword(document, _where(document, "word"), lambda token: words.get(token.text, token.text))


@_kind("comments")
def _comments(document: Document, chance: Random) -> bool:
    said = ("the usual one", "as asked", "TODO: check", 'e.g. "low"', "don't change", "optional, see [1]", "0, 1 or 2")
    lines = [place for place in _where(document, "space") if "\n" in document[place].text]
    if not lines:
        places = _where(document, ",")
        for place in _some(places, chance):
            document[place].text += f" /* {chance.choice(said)} */"
        return bool(places)
    mark = chance.choice(("//", "//", "#"))
    for place in _some(lines, chance):
        if document[place].text.startswith("\n"):
            document[place].text = f" {mark} {chance.choice(said)}{document[place].text}"
    return True


@_kind("bare double quotes inside")
def _inner_quotes(document: Document, chance: Random) -> bool:
    return _reword(document, _where(document, "string"), lambda token: token.text.replace('\\"', '"'))


@_kind("raw line breaks")
def _raw_line_breaks(document: Document, chance: Random) -> bool:
    plain = re.compile(r"(\\\\)|\\n")
    write: Callable[[Token], str] = lambda token: plain.sub(lambda found: found[1] or "\n", token.text)
    return _reword(document, _where(document, "string"), write)


@_kind("backslashes not doubled")
def _bare_backslashes(document: Document, chance: Random) -> bool:
    return _reword(document, _where(document, "string"), lambda token: token.text.replace("\\\\", "\\"))


@_kind("needless escapes")
def _needless_escapes(document: Document, chance: Random) -> bool:
    marks = chance.choice(("'", "_", "'_", "$&", "*_"))
    write: Callable[[Token], str] = lambda token: re.sub(f"(?<!\\\\)([{re.escape(marks)}])", r"\\\1", token.text)
    return _reword(document, _where(document, "string", "key"), write)


@_kind("last closers missing")
def _missing_closers(document: Document, chance: Random) -> bool:
    ends = 0
    while ends < len(document) and document[-1 - ends].kind in ("}", "]", "space"):
        ends += 1
    closers = [place for place in range(len(document) - ends, len(document)) if document[place].kind != "space"]
    if not closers:
        return False
    del document[closers[-chance.randint(1, len(closers))] :]
    return True


@_kind("a closer missing inside")
def _missing_inner_closer(document: Document, chance: Random) -> bool:
    inner = [place for place in _where(document, "}", "]") if any(token.kind == "," for token in document[place:])]
    if not inner:
        return False
    del document[chance.choice(inner)]
    return True


@_kind("a wrong closer")
def _wrong_closer(document: Document, chance: Random) -> bool:
    closers = _where(document, "}", "]")
    if not closers:
        return False
    place = chance.choice(closers)
    document[place].text = "]" if document[place].text == "}" else "}"
    return True


@_kind("a closer too many")
def _extra_closer(document: Document, chance: Random) -> bool:
    closers = _where(document, "}", "]")
    if not closers:
        return False
    place = closers[-1] if chance.random() < 0.7 else chance.choice(closers)
    document.insert(place, Token(document[place].kind, document[place].text))
    return True


@_kind("cut off")
def _cut_off(document: Document, chance: Random) -> bool:
    text = text_of(document).rstrip()
    if len(text) < 8:
        return False
    document[:] = [Token("cut", text[: chance.randint(len(text) // 4 + 1, len(text) - 2)] + CUT)]
    return True


@_kind("items left out")
def _left_out(document: Document, chance: Random) -> bool:
    """Of a list of several, all but the first are an ellipsis."""
    lists = []
    for place in _where(document, "["):
        commas, end = _commas_of(document, place)
        if commas:
            lists.append((commas[0], end))
    if not lists:
        return False
    first, end = chance.choice(lists)
    document[first + 1 : end] = [
        Token("space", " "),
        Token("dots", chance.choice(("...", "…", "// ... more\n", "... (2 more)"))),
    ]
    return True


def _commas_of(document: Document, opener: int) -> tuple[list[int], int]:
    """The commas between the items of a container, and where it ends."""
    depth, commas = 0, []
    for place in range(opener, len(document)):
        kind = document[place].kind
        depth += (kind in ("{", "[")) - (kind in ("}", "]"))
        if depth == 0:
            return commas, place
        if kind == "," and depth == 1:
            commas.append(place)
    return [], len(document)


@_kind("wrong colons")
def _wrong_colons(document: Document, chance: Random) -> bool:
    sign = chance.choice(("=", " =>", "", "::"))
    places = [place for place in _where(document, ":") if sign or document[place + 1].kind == "space"]
    return _reword(document, _some(places, chance), lambda token: sign)


@_kind("an opening quote missing")
def _missing_opening(document: Document, chance: Random) -> bool:
    places = [place for place in _where(document, "key", "string") if re.match(r'"[A-Za-z]', document[place].text)]
    return _reword(document, chance.sample(places, min(1, len(places))), lambda token: token.text[1:])


@_kind("a closing quote missing")
def _missing_closing(document: Document, chance: Random) -> bool:
    places = [place for place in _where(document, "key", "string") if document[place].value]
    return _reword(document, chance.sample(places, min(1, len(places))), lambda token: token.text[:-1])


@_kind("triple quotes")
def _triple_quotes(document: Document, chance: Random) -> bool:
    places = [
        place for place in _where(document, "string") if "\n" in document[place].value or '"' in document[place].value
    ]
    plain = [place for place in places if "\\" not in document[place].value and not document[place].value.endswith('"')]
    return _reword(document, plain, lambda token: f'"""{token.value}"""')


@_kind("strings joined by a plus")
def _joined(document: Document, chance: Random) -> bool:
    long = [place for place in _where(document, "string") if " " in document[place].value[2:-2]]
    plus = chance.choice((" + ", "\n    + ", " +\n    "))

    def write(token: Token) -> str:
        gaps = [found.start() for found in re.finditer(" ", token.value) if 1 < found.start() < len(token.value) - 1]
        at = chance.choice(gaps)
        parts = (token.value[:at], token.value[at:])
        return plus.join(json.dumps(part, ensure_ascii=False) for part in parts)

    return _reword(document, _some(long, chance), write)


@_kind("full-width punctuation")
def _full_width(document: Document, chance: Random) -> bool:
    wide = {",": "，", ":": "："}
    return _reword(document, _some(_where(document, ",", ":"), chance), lambda token: wide[token.kind])


@_kind("HTML entities")
def _entities(document: Document, chance: Random) -> bool:
    return _reword(
        document, range(len(document)), lambda token: html.escape(token.text, quote=True).replace("&#x27;", "'")
    )


@_kind("all of it escaped")
def _escaped(document: Document, chance: Random) -> bool:
    inner = json.dumps(text_of(document), ensure_ascii=False)[1:-1]
    document[:] = [Token("escaped", f'"{inner}"' if chance.random() < 0.5 else inner)]
    return True


@_kind("no outer braces")
def _no_outer_braces(document: Document, chance: Random) -> bool:
    if document[0].kind != "{" or len(document) < 4:
        return False
    del document[-1], document[0]
    return True


@_kind("dressed numbers")
def _dressed_numbers(document: Document, chance: Random) -> bool:
    def write(token: Token) -> str:
        number = json.loads(token.text)
        if isinstance(number, int) and number >= 1000:
            return f"{number:_}"
        if 0 < abs(number) < 1:
            return token.text.replace("0.", ".", 1)
        return f"+{token.text}" if number > 0 else token.text

    return _reword(document, _numbers(document), write)


def _numbers(document: Document) -> list[int]:
    """Those that are still written as JSON writes them."""
    return [place for place in _where(document, "number") if _NUMBER.fullmatch(document[place].text)]


@_kind("thousands")
def _thousands(document: Document, chance: Random) -> bool:
    """1,234 for the value of a key."""
    numbers = _numbers(document)
    after_colon = [place for place in numbers if ":" in [token.kind for token in document[max(place - 2, 0) : place]]]
    return _reword(document, after_colon, lambda token: f"{json.loads(token.text):,}")


@_kind("invisible characters")
def _invisible(document: Document, chance: Random) -> bool:
    places = [place for place in _where(document, "{", "[", ",", ":") if document[place].text == document[place].kind]
    mark = chance.choice(("\u200b", "\u00a0", "\ufeff", "\u2028"))
    return _reword(document, _some(places, chance), lambda token: token.text + mark)


@_kind("backticks for quotes")
def _backticks(document: Document, chance: Random) -> bool:
    plain = [place for place in _where(document, "string") if not set("`\\\n") & set(document[place].value)]
    return _reword(document, _some(plain, chance), lambda token: f"`{token.value}`")
