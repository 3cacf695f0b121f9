"""JSON in and out, as bytes: orjson, imported here alone, with its errors made ours."""

from __future__ import annotations

from typing import Any

import orjson


def encode(value: object) -> bytes:
    """Compact UTF-8 JSON. Raises `ValueError` for what JSON cannot say (lone surrogates, odd types, huge integers)."""
    try:
        return orjson.dumps(value)
    except TypeError as error:  # orjson's EncodeError is a TypeError
        problem = str(error)
    raise ValueError(problem)


def decode(text: str | bytes) -> Any:  # noqa: ANN401 (any JSON value)
    """The value of a JSON text. Raises `ValueError` saying where it is broken."""
    return orjson.loads(text)
