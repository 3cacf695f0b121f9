"""Text as it stands in the fields of records: plain, and with everything in it that makes trouble."""

from __future__ import annotations

from random import Random

_PEOPLE = ("Ana", "Kwame", "O'Neill", "Jean-Luc", "Siobhán", "Nguyễn", "李雷", "D'Angelo", "Mary Ann", "Søren")
_PLACES = (
    "Lisbon",
    "New York",
    "São Paulo",
    "Zürich",
    "Kraków",
    "St. John's",
    "東京",
    "Reno, NV",
    "Bath",
    "Port-au-Prince",
)
_THINGS = ("a kettle", "two bolts", "the blue valve", "an old map", "some flour", "a USB-C cable", 'the 3/4" pipe')
_VERBS = ("needs", "replaced", "asked about", "did not find", "returned", "wants", "measured")
_WORDS = (
    "open",
    "closed",
    "high",
    "low",
    "urgent",
    "blue",
    "north",
    "draft",
    "metric",
    "celsius",
    "weekly",
    "none left",
)
_TOPICS = ("tides", "valves", "invoices", "sleep", "compost", "rate limits", "sourdough", "backups", "bridges")


def word(chance: Random) -> str:
    """A word or two, as for a state or a unit."""
    return chance.choice(_WORDS)


def person(chance: Random) -> str:
    """Somebody's name."""
    return chance.choice(_PEOPLE)


def place(chance: Random) -> str:
    """A town, at times with a comma or an apostrophe in its name."""
    return chance.choice(_PLACES)


def topic(chance: Random) -> str:
    """What something is about."""
    return chance.choice(_TOPICS)


def sentence(chance: Random) -> str:
    """One sentence without anything special in it, except what names bring along."""
    return f"{person(chance)} {chance.choice(_VERBS)} {chance.choice(_THINGS)} in {place(chance)}."


def _quoting(chance: Random) -> str:
    said = chance.choice(("not again", "wait, what?", "yes", "no, thanks", "it's fine", "level: high", "ready"))
    return f'{person(chance)} said "{said}" and {chance.choice(("left", "went on", "called back"))}.'


def _lines(chance: Random) -> str:
    return "\n".join(sentence(chance) for _ in range(chance.randint(2, 4)))


def _steps(chance: Random) -> str:
    return "\n".join(f"{number}. {sentence(chance)}" for number in range(1, chance.randint(3, 5)))


def _windows_path(chance: Random) -> str:
    names = ("Users", "docs", "new", "temp", "reports", "backup", "unsorted", "x86", "App Data")
    return "C:\\" + "\\".join(chance.choice(names) for _ in range(chance.randint(2, 4))) + "\\q3.xlsx"


def _pattern(chance: Random) -> str:
    return chance.choice((r"^\d{3}-\w+$", r"\bcat\b", r"[^\s,]+\.py", r"(\w+)@(\w+)\.com", r"\$\d+\.\d{2}"))


def _formula(chance: Random) -> str:
    return chance.choice(
        (r"\frac{a}{b}", r"x^2 + \sqrt{y}", r"\alpha \leq \beta", r"$\sum_{i=1}^n x_i$", r"\text{max}")
    )


def _code(chance: Random) -> str:
    return chance.choice(
        (
            'def greet(name):\n    print(f"Hello, {name}!")\n',
            "SELECT id, name FROM users WHERE name = 'O''Brien' AND age > 30;",
            'const a = {"b": [1, 2], c: null}; // keep',
            "if (x < 3 && y['k'] == \"v\") { return [x, y]; }",
            'echo "done" > /tmp/out.txt && exit 0',
            'print("a\\tb")\nreturn {"ok": True}',
        )
    )


def _markup(chance: Random) -> str:
    return chance.choice(
        ('<a href="https://example.com/?a=1&b=2">here</a>', "<b>bold</b> & <i>italic</i>",
         "**note:** see `config.yaml`",
         "| a | b |\n|---|---|\n| 1 | 2 |")
    )  # fmt: skip


def _address(chance: Random) -> str:
    return f"https://example.com/{topic(chance).replace(' ', '-')}?page={chance.randint(1, 9)}#top"


def _structural(chance: Random) -> str:
    return chance.choice(
        ("see [1], [2] and {x}", "a: b, c: d", "total = 3, rest = {none}", "ratio 3:1, i.e. 75%",
         "key: value; other: thing", "use // for comments", "#5 of 10", "end of list]", "(a), (b), and so on...")
    )  # fmt: skip


def _other_script(chance: Random) -> str:
    return chance.choice(
        ("价格：三百元，含税", "«Привет», сказала она", "🚀 launch at 5️⃣ o'clock", "naïve café — “quoted”", "שלום עולם")
    )


_SPECIAL = (_quoting, _quoting, _quoting, _lines, _lines, _steps, _windows_path, _pattern, _formula, _code, _code,
            _markup,
            _address, _structural, _structural, _other_script)  # fmt: skip


def text(chance: Random) -> str:
    """A field of free text: half of them a plain sentence, the others something with teeth."""
    return sentence(chance) if chance.random() < 0.5 else chance.choice(_SPECIAL)(chance)
