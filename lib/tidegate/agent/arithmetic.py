"""Arithmetic, and nothing but arithmetic: an expression is parsed and walked, never evaluated by Python."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

from tidegate.agent.functions import tool

LONGEST = 1_000
"""Characters of an expression."""

MOST_BITS = 4_096
"""Of a whole number: about 1,200 digits."""

_DEEPEST = 100

Number = int | float

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_CONSTANTS = {"pi": math.pi, "e": math.e, "tau": math.tau}


def _rounded(number: Number, digits: Number = 0) -> Number:
    if not isinstance(digits, int) or abs(digits) > 300:
        raise ValueError("the number of digits is a whole number up to 300")
    return round(number, digits) if digits else round(number)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs, "acos": math.acos, "asin": math.asin, "atan": math.atan, "atan2": math.atan2, "cbrt": math.cbrt,
    "ceil": math.ceil, "cos": math.cos, "cosh": math.cosh, "degrees": math.degrees, "exp": math.exp,
    "floor": math.floor, "gcd": math.gcd, "hypot": math.hypot, "ln": math.log, "log": math.log, "log10": math.log10,
    "log2": math.log2, "max": max, "min": min, "radians": math.radians, "round": _rounded, "sin": math.sin,
    "sinh": math.sinh, "sqrt": math.sqrt, "tan": math.tan, "tanh": math.tanh,
}  # fmt: skip
_AS_WRITTEN = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "^": "**", "π": "pi", "\n": " "})  # noqa: RUF001 (as people write)


@tool(timeout=5.0)
def calculator(expression: str) -> str:
    """Calculate an arithmetic expression, exactly for whole numbers.

    Args:
        expression: Such as `25 * 4 + 10`, `(3 - 1) ** 8 / 7`, `sqrt(2) * round(9.6)`. Operators: + - * / // % **.
            Functions: sqrt, abs, round, min, max, floor, ceil, log, log2, log10, exp, sin, cos, tan and their kin.
    """
    return written(calculate(expression))


def calculate(expression: str) -> Number:
    """The value of an expression. Raises `ValueError` for what is no arithmetic, or has too large a result."""
    if len(expression) > LONGEST:
        raise ValueError(f"an expression has {LONGEST:,} characters at most")
    try:
        tree = ast.parse(expression.strip().translate(_AS_WRITTEN), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        problem = "this is no arithmetic expression"
    else:
        return _checked(_value(tree.body, 0))
    raise ValueError(problem)


def _value(node: ast.expr, depth: int) -> Number:
    if depth > _DEEPEST:
        raise ValueError("the expression is nested too deeply")
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return number
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=sign, operand=inner) if type(sign) in _UNARY:
            return _checked(_UNARY[type(sign)](_value(inner, depth + 1)))
        case ast.BinOp(left=left, op=sign, right=right):
            return _combined(sign, _value(left, depth + 1), _value(right, depth + 1))
        case ast.Call(func=ast.Name(id=name), args=given, keywords=[]) if name in _FUNCTIONS:
            return _called(name, [_value(each, depth + 1) for each in given])
    raise ValueError(
        f"`{ast.unparse(node)[:60]}` is no arithmetic: numbers, + - * / // % **, and functions such as sqrt"
    )


def _combined(sign: ast.operator, left: Number, right: Number) -> Number:
    if isinstance(sign, ast.Pow):
        return _power(left, right)
    if type(sign) not in _BINARY:
        raise ValueError("operators are + - * / // % and **")
    try:
        return _checked(_BINARY[type(sign)](left, right))
    except ZeroDivisionError:
        problem = "this divides by zero"
    except OverflowError:
        problem = "the result is too large"
    raise ValueError(problem)


def _power(base: Number, exponent: Number) -> Number:
    """`base ** exponent`, when it is known beforehand that the result is not too large to be worked out."""
    if abs(base) > 1 and abs(exponent) * math.log2(abs(base)) > MOST_BITS:
        raise ValueError(f"{written(base)} ** {written(exponent)} is too large")
    try:
        value = base**exponent
    except ZeroDivisionError:
        problem = "this divides by zero"
    except OverflowError:
        problem = "the result is too large"
    else:
        return _checked(value)
    raise ValueError(problem)


def _called(name: str, given: list[Number]) -> Number:
    try:
        return _checked(_FUNCTIONS[name](*given))
    except (ValueError, TypeError, OverflowError, ZeroDivisionError) as error:
        problem = f"`{name}` of {', '.join(map(written, given)) or 'nothing'}: {error}"
    raise ValueError(problem)


def _checked(value: Any) -> Number:  # noqa: ANN401 (what an operator made)
    if isinstance(value, complex) or not isinstance(value, int | float):
        raise ValueError("the result is no real number")  # noqa: TRY004 (a model's mistake, told to it)
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise ValueError("the result is too large")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("the result is too large" if math.isinf(value) else "the result is no number")
    return value


def written(value: Number) -> str:
    """A number as people write it: `110`, `0.3`."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value) if isinstance(value, int) else f"{value:.15g}"
