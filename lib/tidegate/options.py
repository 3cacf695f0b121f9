"""The base of every options class: frozen, strict about names, and clear about what is wrong.

pydantic is imported here and nowhere else below the parsers, so that its errors become `ConfigError` in one place.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from tidegate.errors import ConfigError, nearest

__all__ = ["Amount", "Count", "Dollars", "Fraction", "HiddenText", "Options", "Seconds", "SecretStr", "WholeNumber"]

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A duration in seconds, above zero and finite."""
Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A number above zero and finite."""
Count = Annotated[int, Field(gt=0)]
"""A whole number of at least one."""
WholeNumber = Annotated[int, Field(ge=0)]
"""A whole number of at least zero."""
HiddenText = Annotated[str | None, Field(repr=False)]
"""A text that may hold a password, such as a proxy's URL: not part of any `repr`."""
Dollars = Annotated[Decimal, Field(gt=0, allow_inf_nan=False, decimal_places=9, lt=9_000_000_000)]
"""US dollars, above zero, to the nano-dollar; best given as a text, such as "0.10"."""
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
"""A share from 0 to 1."""


class Options(BaseModel):
    """Keyword-only, immutable options. An unknown or wrong field raises `ConfigError` naming it."""

    spoken_name: ClassVar[str | None] = None
    """How an error calls these options, where that is not the name of the class."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, arbitrary_types_allowed=True)

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            problem = _explain(type(self), error)
        else:
            return
        raise ConfigError(problem)  # outside the handler: pydantic's error would carry the input along


def _explain(owner: type[Options], error: ValidationError) -> str:
    """One line that names the first wrong field, without repeating its value (it may be a secret)."""
    name = owner.spoken_name or owner.__name__
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "value"
    if first["type"] == "extra_forbidden":
        return f"`{name}` has no option `{field}`{nearest(field, owner.model_fields)}"
    message = first["msg"].removeprefix("Value error, ")
    return f"`{name}({field}=…)`: {message[:1].lower()}{message[1:]}"
