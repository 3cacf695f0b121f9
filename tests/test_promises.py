"""docs/reliability.md and the tests name the same promises."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
_ID = re.compile(r"[RTLCMSJX]\d{1,2}")


def _promised() -> set[str]:
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    return set(re.findall(rf"^\| ({_ID.pattern}) \|", page, re.MULTILINE))


def _tested() -> set[str]:
    names = [
        node.name
        for file in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    ]
    return {match[1] for name in names if (match := re.match(rf"test_({_ID.pattern})_", name))}


def test_every_promise_on_the_page_has_a_test_with_its_id() -> None:
    assert _promised() - _tested() == set()


def test_every_tested_promise_is_on_the_page() -> None:
    assert _tested() - _promised() == set()
