"""What parsing may cost: no text takes long, none makes it fail, and no pattern is slow on any."""

from __future__ import annotations

import importlib
import json
import pkgutil
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tidegate import parsing
from tidegate.parsing import parse

SIGNS = [
    *"{}[]\"':,;\\\n\t ()<>=+-|#&`*_.0a/",
    *("key", "1.5e3", "true", "None", "```", "```json\n", "<tool_call>", "</tool_call>", "<a>", "</a>", "Action: "),
    *(
        "Action Input: ",
        "...",
        "// ",
        "/*",
        "*/",
        "<think>",
        "</think>",
        "\n- ",
        "“",
        "”",
        "&quot;",
        '\\"',
        "\\n",
        "f(a=1)",
    ),
    *("<|im_end|>", "NaN", "\u200b", "\ufeff", "\x00", "\ud800", "key: value\n", "\n  "),
]
MESSES = st.lists(st.sampled_from(SIGNS), max_size=120).map("".join)


@example("{””", "safe")
@given(st.text(max_size=300) | MESSES, st.sampled_from(["none", "safe", "all"]))
@settings(max_examples=400)
def test_J1_any_text_is_parsed_or_refused(text: str, repair: Any) -> None:
    """Nothing but a result comes out."""
    result = parse(text, repair=repair)
    assert result.success == (result.error is None)


@pytest.mark.parametrize(
    "opener", ["[", '{"a":', "{'a': [", "<a>", "(", "- ", "f(", "{a: ", '[{"a": [', "&quot;[", '\\"[']
)
def test_J1_depth_is_refused_and_never_a_recursion_error(opener: str) -> None:
    """However deep it is, and whether or not it is closed."""
    for depth in (400, 2_000, 100_000):
        result = parse(opener * depth)
        assert result.success == (result.error is None)


@pytest.mark.parametrize("depth", [100, 490])
def test_J1_what_is_less_deep_than_the_cap_is_read(depth: int) -> None:
    """Also where it has to be repaired."""
    value = parse("[" * depth + "1," + "]" * depth).unwrap()
    for _ in range(depth):
        (value,) = value
    assert value == 1


def record(number: int) -> dict[str, object]:
    return {"id": number, "name": "Some name, here", "ok": True, "ratio": 1.5, "tags": ["a", "b"], "none": None}


RECORDS = json.dumps([record(number) for number in range(9_500)])
CHANCE = random.Random(5)  # noqa: S311 (the same text each time)
MILLION = 1_000_000

WORST: dict[str, Callable[[], str]] = {
    **{
        f"{piece!r} again and again": lambda piece=piece: piece * (MILLION // len(piece))  # type: ignore[misc]
        for piece in [
            "[", "{", '{"a":', "{ \n", '"', "'", "“", "\\", "```", "```\n", "<a>", "<a", "</think>", "<|im_end|>", "a: b\n", "a: ",
            "- ", "{'a': 1, ", "see {name} for ", "[1] ", "<tool_call>", '{"a": "b" ', '{"a"}', '"a":', "[{", '["a" "', "(", "f(a=1), ",
            "[f(", "1+", "-", "&quot;{", '{\\"a\\": 1, ', "Action: x\n", "Action: x\nAction Input: {", "| a | b |\n", "key = 'v'\n", "<think>",
            "#", "//\n", "\u200b", "{a: b}, ", "x=1\n", "  - a:\n", "**a:** ",
        ]
    },
    "records": lambda: RECORDS,
    "records in prose": lambda: f"Here: {RECORDS} that is all",
    "records in a fence": lambda: f"```json\n{RECORDS}\n```",
    "records as a Python literal": lambda: repr(json.loads(RECORDS)),
    "records with a comma too many": lambda: RECORDS[:-1] + ",]",
    "records that break off": lambda: RECORDS[:-30],
    "records without quotes at keys": lambda: re.sub(r'"(\w+)":', r"\1:", RECORDS),
    "records with quotes inside": lambda: RECORDS.replace("name, here", 'na"me, he"re'),
    "a text with quotes inside": lambda: '{"a": "' + 'he said "x" and ' * (MILLION // 16) + '"}',
    "a text that does not end": lambda: '{"a": "' + "b" * MILLION,
    "fences inside of a text": lambda: '```json\n{"a": "' + "\n```\n" * (MILLION // 5),
    "joined strings": lambda: '["a"' + ' + "b"' * (MILLION // 6),
    "comments": lambda: '{"a": 1 ' + "// x\n" * (MILLION // 5),
    "one number": lambda: "1" * MILLION,
    "noise": lambda: "".join(CHANCE.choices(SIGNS, k=MILLION // 2))[:MILLION],
    "letters": lambda: "".join(CHANCE.choices([chr(code) for code in range(32, 127)], k=MILLION)),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", WORST)
def test_J1_a_megabyte_of_anything_takes_less_than_a_second(name: str) -> None:
    """Of CPU time, the best of three; a machine under load is given twice that."""
    text = WORST[name]()
    taken = []
    for _ in range(3):
        began = time.process_time()
        parse(text)
        taken.append(time.process_time() - began)
        if taken[-1] < 1:
            break
    assert min(taken) < 2


def patterns() -> Iterator[tuple[str, re.Pattern[str]]]:
    for module in pkgutil.iter_modules(parsing.__path__):
        for name, value in vars(importlib.import_module(f"tidegate.parsing.{module.name}")).items():
            found = value.values() if isinstance(value, dict) else [value]
            for each in found:
                if isinstance(each, re.Pattern):
                    yield f"{module.name}.{name}", each


PUMPS = [" ", "\n", "a", "a ", "a: ", "a:", "1", "1,", "1_", '"', "'", '"a', '"a"', '"a" ', "\\", "\\n", "\\\\", "{", "[", "[ ", "{\n", "<a",
         "<a ", "<a>", "</", "`", "```", "```\n", "- ", "* ", "**", "**a", "|", "|a", "| a ", "=", "=a", "#", "//", "/*", "*", "...", ".",
         "-", "--", "_", "&", "“", "\u200b", "\t", "a\n", " a\n", "a.", "a-", "x=", ","]  # fmt: skip


SOURCES = "".join(file.read_text(encoding="utf-8") for file in Path(parsing.__path__[0]).glob("*.py"))
SEARCHED = set(re.findall(r"(\w+)\.(?:search|finditer|findall|subn?|split)\(", SOURCES))
"""The names of patterns that are looked for; all others are only tried at a place."""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "pattern"), dict(patterns()).items(), ids=dict(patterns()))
def test_J4_no_pattern_is_super_linear(name: str, pattern: re.Pattern[str]) -> None:
    """In 16 times as much text it takes at most 64 times as long; what is quadratic takes 256 times."""
    variable = name.rpartition(".")[2]
    use = pattern.search if variable in SEARCHED or variable == "_STOPS" else pattern.match
    for pump in PUMPS:
        for head in ("", '"', "{", "<a ", "```", "a"):
            times = [_taken(use, head + pump * (size // len(pump)) + "\x01") for size in (2_000, 32_000)]
            assert times[1] < 0.05 or times[1] < 64 * max(times[0], 1e-5), (name, pump, head, times)


def _taken(use: Callable[[str], object], text: str) -> float:
    taken = []
    for _ in range(3):
        began = time.process_time()
        use(text)
        taken.append(time.process_time() - began)
    return min(taken)


@pytest.mark.slow
def test_J1_fuzzed_for_half_a_minute(tmp_path: Path) -> None:
    """By atheris, which looks for inputs that reach new branches."""
    pytest.importorskip("atheris")
    program = Path(__file__).with_name("fuzzing.py")
    done = subprocess.run(
        [
            sys.executable,
            str(program),
            "-max_total_time=30",
            "-max_len=3000",
            "-timeout=10",
            f"-artifact_prefix={tmp_path}/",
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
