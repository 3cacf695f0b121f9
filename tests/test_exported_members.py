"""The public names."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import tidegate

INIT = Path(__file__).parent.parent / "lib" / "tidegate" / "__init__.py"


def _seen_by_type_checkers() -> set[str]:
    tree = ast.parse(INIT.read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    return {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}


def test_all_is_sorted_and_what_type_checkers_see() -> None:
    assert tidegate.__all__ == sorted(_seen_by_type_checkers())


@pytest.mark.parametrize("name", tidegate.__all__)
def test_a_public_name_can_be_imported(name: str) -> None:
    assert getattr(tidegate, name) is not None
    assert name in dir(tidegate)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute `Clinet`"):
        _ = tidegate.Clinet
