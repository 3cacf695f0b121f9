"""`tidegate parse`: the JSON in what a model wrote, or why nobody can be sure of it."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from tidegate.cli.answers import print_json
from tidegate.cli.options import add_output_options
from tidegate.cli.remarks import remark
from tidegate.errors import ConfigError
from tidegate.parsing.reading import STRATEGIES, parse
from tidegate.parsing.result import ParseResult
from tidegate.parsing.schema import plain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `parse` can be told."""
    parser.add_argument("file", nargs="?", default="-", metavar="FILE", help="a text; standard input if not given")
    parser.add_argument(
        "--schema",
        metavar="SCHEMA",
        help="what it has to be: a file with a JSON schema, or module:Model, a type of your own that is imported",
    )
    parser.add_argument(
        "--repair",
        choices=("none", "safe", "all"),
        default="safe",
        help="none; what can have been meant in one way only (safe); the likeliest reading (all)",
    )
    parser.add_argument(
        "--strategies",
        metavar="NAMES",
        help=f"these alone, in this order, with commas between: {', '.join(STRATEGIES)}",
    )
    add_output_options(parser)


def run(options: argparse.Namespace) -> int:
    """Parse and print; answers the exit code."""
    into = None if options.schema is None else _schema(options.schema)
    names = None if options.strategies is None else [name.strip() for name in options.strategies.split(",")]
    result: ParseResult[Any] = parse(_text(options.file), into, names, options.repair)
    if options.json:
        print_json(_whole(result))
        return 0 if result.success else 1
    if not result.success:
        remark(f"refused: {result.error}")
        return 1
    sys.stdout.write(_as_json(result.data) + "\n")
    _tell(result)
    return 0


def _text(name: str) -> str:
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        problem = f"{name} cannot be read: {error.strerror}"
    else:
        return data.decode(errors="replace")
    raise ConfigError(problem)


def _schema(named: str) -> Any:  # noqa: ANN401 (a JSON schema, or whatever the user's module has)
    if named.endswith(".json") or Path(named).is_file():
        return _schema_in(Path(named))
    module, colon, attribute = named.partition(":")
    if not colon or not module or not attribute:
        raise ConfigError(f"--schema takes a file with a JSON schema, or module:Model, not {named!r}")
    sys.path.insert(0, "")  # as `python -m` does: the module may lie in the present folder
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        problem = str(error)
    raise ConfigError(f"--schema {named}: {problem}")


def _schema_in(file: Path) -> Any:  # noqa: ANN401
    try:
        schema = json.loads(file.read_bytes())
    except OSError as error:
        problem = f"{file} cannot be read: {error.strerror}"
    except ValueError as error:
        problem = f"{file} is no JSON: {error}"
    else:
        if isinstance(schema, dict):
            return schema
        problem = f"{file} holds no JSON schema: one is an object"
    raise ConfigError(problem)


def _as_json(data: Any) -> str:  # noqa: ANN401
    return json.dumps(plain(data), ensure_ascii=False, indent=2)


def _whole(result: ParseResult[Any]) -> dict[str, Any]:
    """Everything that is known of it, for programs."""
    return {
        "success": result.success,
        "data": plain(result.data),
        "strategy": result.strategy,
        "repairs": [repair._asdict() for repair in result.repairs],
        "dropped": list(result.dropped),
        "truncated": result.truncated,
        "error": result.error,
    }


def _tell(result: ParseResult[Any]) -> None:
    """What was done, on standard error."""
    for repair in result.repairs:
        remark(f"repaired: {repair}")
    for path in result.dropped:
        remark(f"dropped: {path}")
    if result.truncated is not None:
        remark(f"the text breaks off in {result.truncated}")
