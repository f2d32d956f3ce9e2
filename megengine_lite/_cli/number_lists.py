"""Lists of numbers on the command line, and those in JSON files."""

from __future__ import annotations

import ast
import json
import math
from typing import Any

import numpy as np

from megengine_lite._api.model_inputs import in_type
from megengine_lite._cli.json_files import once_in
from megengine_lite.errors import LiteValueError, brief

_NAMES = {
    "true": True,
    "false": False,
    "nan": math.nan,
    "inf": math.inf,
    "infinity": math.inf,
}
_NOT_PARSED = (ValueError, SyntaxError, TypeError, OverflowError, RecursionError, MemoryError)


def read_numbers(text: str, dtype: np.dtype[Any], what: str) -> np.ndarray:
    """The array that ``[[1, 2], [3.5, nan]]`` stands for, in the widest type of the kind of ``dtype``.

    Numbers are those of Python, ``true``, ``false``, ``nan`` and ``inf``. ``what`` stands in messages for the array.

    Raises
    ------
    LiteValueError
        It is no such list, or types of this kind cannot hold a number.
    """
    try:
        values = _value(ast.parse(text.strip(), mode="eval").body, text.strip())
        return _widest(values, dtype, what)
    except LiteValueError:
        raise
    except _NOT_PARSED as error:
        raise LiteValueError(f"{text[:80]!r} is not a list of numbers: {error}") from None


def read_json(content: bytes, name: str, path: str) -> np.ndarray:
    """The array of an input in ``{"NAME": {"shape": [...], "type": "float32", "raw": [...]}}``."""
    entry = json.loads(content, parse_float=_real, object_pairs_hook=once_in(path))[name]
    dtype = np.dtype(entry["type"])
    if dtype.kind not in "biuf":
        raise ValueError(f"{dtype} is no type of numbers")
    what = f"input {name!r}"
    return in_type(_widest(entry["raw"], dtype, what), dtype, what).reshape(entry["shape"])


def _widest(values: list[Any], dtype: np.dtype[Any], what: str) -> np.ndarray:
    """Nested lists of Python's numbers as an array of real numbers, or of integers of 64 bits."""
    numbers = np.array(values, object)
    for number in numbers.flat:
        if not isinstance(number, int | float):
            raise ValueError(
                "lists in it have different lengths" if isinstance(number, list) else f"{brief(number)} is no number"
            )
    try:
        if dtype.kind == "f":
            return numbers.astype(np.float64)
        for number in numbers.flat:
            if not math.isfinite(number) or number != int(number):
                raise LiteValueError(f"{what} has elements of {dtype}, which cannot hold {number}")
        whole = np.array([int(number) for number in numbers.flat], object)
        signed = not whole.size or whole.min() < 0 or whole.max() < 2**63
        return whole.astype(np.int64 if signed else np.uint64).reshape(numbers.shape)
    except OverflowError:
        largest = max(numbers.flat, key=abs)
        raise LiteValueError(f"{what} has elements of {dtype}, which cannot hold {brief(largest)}") from None


def _value(node: ast.expr, text: str) -> Any:
    """The lists and numbers of an expression."""
    match node:
        case ast.List(elts) | ast.Tuple(elts):
            return [_value(e, text) for e in elts]
        case ast.Constant(bool() | int() as value):
            return value
        case ast.Constant(float()):
            return _real(ast.get_source_segment(text, node) or "")
        case ast.UnaryOp(ast.UAdd() | ast.USub() as sign, operand) if not isinstance(operand, ast.List | ast.Tuple):
            value = _value(operand, text)
            return -value if isinstance(sign, ast.USub) else value
        case ast.Name(name) if name.lower() in _NAMES:
            return _NAMES[name.lower()]
    raise ValueError(f"{(ast.get_source_segment(text, node) or '')[:40]} is no number")


def _real(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise LiteValueError(f"{text[:40]} is beyond the range of real numbers")
    return value
