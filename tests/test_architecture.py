"""The rooms: who may import whom, and which file alone imports which library."""

from __future__ import annotations

import ast
import copy
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

LIB = Path(__file__).parent.parent / "lib"

# Lower first. A room may import from the layers below its own and, inside its own folder, from itself.
LAYERS: tuple[frozenset[str], ...] = tuple(
    frozenset(names.split())
    for names in (
        "version forking abandoned attempts errors jsontext",
        "clock options arguments backoff",
        "chat catalog storage",
        "transport accounting pipeline pace circuit parsing",
        "policies providers reporting",
        "limiter dispatch foreign structured",
        "settings terminal handling",
        "assembly outcomes progress workers streaming",
        "embedding",
        "client testing",
        "agent",
        "cli",
        "__init__ __main__",
    )
)

# What two files of one room need, and why.
SHARED_LIBRARIES = {
    "urllib3": "the transport's files, and the tool that reads pages from addresses that it has checked",
    "wcwidth": "how wide text is on a terminal, and where its characters end",
    "requests": "the session, and the limits that translate its errors",
    "sqlalchemy": "the ledger's files: its tables, how they are opened, and the questions asked of them",
    "pydantic": "what users give is validated with it: the settings, the schemas of the parser, and arguments of tools",
    "pykka": "the actors: the bookkeeper, the bell of the budgets, callbacks of streams, agents' mailboxes",
    "openai": "the file that converts, and the name of its type in `chat.reply`, for type checkers alone",
}


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for file in sorted((LIB / "tidegate").rglob("*.py")):
        parts = file.relative_to(LIB).with_suffix("").parts
        yield ".".join(parts), ast.parse(file.read_text(encoding="utf-8"))


def _imports(tree: ast.Module) -> Iterator[str]:
    """Every module that is imported anywhere in the file, inside functions and for type checkers too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


class _WithoutTypeOnly(ast.NodeTransformer):
    def visit_If(self, node: ast.If) -> ast.If | None:
        return None if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" else node


def _run(tree: ast.Module) -> ast.Module:
    """The module as it runs, without what stands under `if TYPE_CHECKING`."""
    return cast(ast.Module, _WithoutTypeOnly().visit(copy.deepcopy(tree)))


MODULES = dict(_modules())


def _room(module: str) -> str:
    return module.split(".")[1]


def _layer(room: str) -> int:
    return next((number for number, rooms in enumerate(LAYERS) if room in rooms), -1)


@pytest.mark.parametrize("module", MODULES)
def test_a_room_imports_only_from_below(module: str) -> None:
    """No file imports from a layer above its own, nor from another room of its own layer, not even lazily."""
    room = _room(module)
    assert _layer(room) >= 0, f"{room} has no layer yet"
    if room == "__init__":
        return
    for name in _imports(MODULES[module]):
        if not name.startswith("tidegate.") or (name not in MODULES and f"{name}.__init__" not in MODULES):
            continue
        other = _room(name)
        if other != room:
            assert _layer(other) < _layer(room) or _same_floor(room, other), f"{module} imports {name}"


def _same_floor(room: str, other: str) -> bool:
    """Single files of the two lowest layers may know each other; there are no folders there."""
    return _layer(room) == _layer(other) <= 1


def test_each_library_is_imported_in_one_file() -> None:
    """A third-party library has one importer, which translates its errors; the exceptions are listed with a reason."""
    importers: dict[str, set[str]] = defaultdict(set)
    for module, tree in MODULES.items():
        for name in _imports(tree):
            library = name.split(".", maxsplit=1)[0]
            if library not in sys.stdlib_module_names and library != "tidegate":
                importers[library].add(module)
    several = {library: sorted(files) for library, files in importers.items() if len(files) > 1}
    assert several.keys() <= SHARED_LIBRARIES.keys(), several
    for library in several.keys() & {"urllib3", "requests"}:
        assert {_room(file) for file in several[library]} - {"agent"} == {"transport"}
    assert {_room(file) for file in several["sqlalchemy"]} == {"accounting"}


def test_there_is_no_import_cycle() -> None:
    """No module reaches itself by imports, lazy ones included; what only type checkers read is never run."""
    graph = {
        module: {name for name in _imports(_run(tree)) if name in MODULES and name != module}
        for module, tree in MODULES.items()
        if not module.endswith("__init__")
    }
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " > ".join((*path, module))
        if module not in done:
            for other in graph.get(module, ()):
                visit(other, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_importing_the_package_loads_nothing_heavy() -> None:
    """`import tidegate` is a promise of names; what they need is loaded when they are used."""
    code = "import sys, tidegate; print(*sorted(name for name in sys.modules if '.' not in name))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"openai", "requests", "urllib3", "pydantic", "rich", "prompt_toolkit", "tiktoken", "sqlalchemy", "orjson"}
    assert heavy & set(loaded) == set()


def test_a_client_loads_no_sdk_and_nothing_for_terminals() -> None:
    """Building a client takes what a call needs, and not the official SDK, price tables or terminal libraries."""
    code = (
        "import sys, tidegate; tidegate.Client('openai/x', api_key='sk-test-key');"
        "print(*sorted(name for name in sys.modules if '.' not in name))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"openai", "genai_prices", "rich", "prompt_toolkit", "tiktoken", "sqlalchemy"} & set(loaded) == set()
