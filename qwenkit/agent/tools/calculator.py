"""Arithmetic that a model need not do in its head. Reads a small grammar; runs no code.

An expression is parsed as Python's syntax and walked: numbers, operators, parentheses, and the
functions and constants named here. Its length and the size of its numbers are bounded.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from qwenkit.agent.tools.base import AgentTool, ToolOutput
from qwenkit.chat.messages import JsonValue
from qwenkit.errors import InvalidRequest

MAX_LENGTH = 500
MAX_BITS = 4096
PARAMETERS = {
    "type": "object",
    "properties": {
        "expression": {
            "type": "string",
            "description": "Such as (3 + 4) * 2 ** 10 / sqrt(2). Angles are in radians.",
        }
    },
    "required": ["expression"],
}

Number = int | float


def _power(base: Number, exponent: Number) -> Number:
    whole = isinstance(base, int) and isinstance(exponent, int)
    if whole and exponent >= 0 and abs(base) > 1 and base.bit_length() * exponent > MAX_BITS:  # type: ignore[union-attr]
        raise OverflowError
    result = base**exponent
    if isinstance(result, complex):
        raise InvalidRequest("the result is no real number")
    return result


def _factorial(number: Number) -> Number:
    if not isinstance(number, int) or not 0 <= number <= 500:
        raise InvalidRequest("factorial takes a whole number from 0 to 500")
    return math.factorial(number)


_BINARY: dict[type[ast.operator], Callable[[Any, Any], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Number]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
_FUNCTIONS: dict[str, Callable[..., Number]] = {
    "abs": abs,
    "acos": math.acos,
    "asin": math.asin,
    "atan": math.atan,
    "atan2": math.atan2,
    "ceil": math.ceil,
    "cos": math.cos,
    "degrees": math.degrees,
    "exp": math.exp,
    "factorial": _factorial,
    "floor": math.floor,
    "gcd": math.gcd,
    "hypot": math.hypot,
    "lcm": math.lcm,
    "log": math.log,
    "log10": math.log10,
    "log2": math.log2,
    "max": max,
    "min": min,
    "radians": math.radians,
    "round": round,
    "sin": math.sin,
    "sqrt": math.sqrt,
    "tan": math.tan,
}
_CONSTANTS = {"pi": math.pi, "e": math.e, "tau": math.tau}


def calculate(expression: str) -> Number:
    """The value of an expression.

    Raises:
        InvalidRequest: It can't be read or has no value, and the message says why.
    """
    if len(expression) > MAX_LENGTH:
        raise InvalidRequest(f"the expression is longer than {MAX_LENGTH} characters")
    try:
        return _value(ast.parse(expression.strip().replace("^", "**"), mode="eval").body)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as exc:
        raise InvalidRequest("the expression can't be read or has no value") from exc
    except ZeroDivisionError as exc:
        raise InvalidRequest("there is a division by zero") from exc
    except OverflowError as exc:
        raise InvalidRequest("a number becomes too large") from exc


def _value(node: ast.expr) -> Number:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return _bounded(value)
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _UNARY[type(op)](_value(operand))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _bounded(_BINARY[type(op)](_value(left), _value(right)))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _bounded(_FUNCTIONS[name](*map(_value, args)))
    raise InvalidRequest(f"`{ast.unparse(node)[:60]}` is no arithmetic")


def _bounded(value: Number) -> Number:
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise OverflowError
    if isinstance(value, float) and not math.isfinite(value):
        raise OverflowError
    return value


def calculator() -> AgentTool:
    """A tool that evaluates arithmetic expressions."""

    async def run(arguments: Mapping[str, JsonValue]) -> ToolOutput:
        try:
            value = calculate(str(arguments.get("expression", "")))
        except InvalidRequest as exc:
            return ToolOutput(exc.message, is_error=True)
        return ToolOutput(str(value))

    names = ", ".join((*_FUNCTIONS, *_CONSTANTS))
    return AgentTool(
        name="calculator",
        description=f"Evaluates an arithmetic expression. Knows {names}.",
        parameters=PARAMETERS,
        run=run,
        allowed=True,
    )
