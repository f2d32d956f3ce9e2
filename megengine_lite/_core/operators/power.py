"""Powers with an exponent that is one constant number, as the original computes them.

MegEngine has a kernel of its own for these. Whole exponents up to 4 are products, 1/2 and 1/3 are roots; any other
exponent that is not whole takes the *absolute value* of the base: ``(-8) ** 0.25`` is a number, where ``pow`` has none.
Exponents within 2**-23 of one of these count as it.
"""

from __future__ import annotations

import numpy as np

from megengine_lite._core.ir.graph import AnyNode
from megengine_lite._core.ir.params import ElemwiseMode as M
from megengine_lite._core.operators.elemwise_functions import flushed

_NEAR = float(np.finfo(np.float32).eps)
_THIRD = float(np.float32(1 / 3))
_PRODUCTS = 4  # largest exponent that is computed by products

Steps = list[tuple[int, tuple[int, ...]]]


def constant_exponent(node: AnyNode) -> float | None:
    """The exponent of a PowC, or of an Elemwise POW whose exponent is a constant of shape (1,); None for others."""
    if node.op == "PowC":
        return float(np.float32(node.params.exp))
    if node.op != "Elemwise" or node.params.mode != M.POW:
        return None
    const = node.inputs[1].const if len(node.inputs) == 2 else None
    if const is None or const.array.shape != (1,) or const.array.dtype.kind != "f":
        return None
    return float(const.array[0])


def constant_power(x: np.ndarray, exponent: float) -> np.ndarray:
    """``x ** exponent`` of float32 numbers by these rules; the result may be float64."""
    x, one = flushed(x), x.dtype.type(1)
    whole = _whole(exponent)
    if whole is not None:
        if abs(whole) > _PRODUCTS:
            result: np.ndarray = np.power(x, x.dtype.type(whole))
            return result
        base = one / x if whole < 0 else x
        square = base * base
        result = [np.ones_like(x), base, square, square * base, square * square][abs(whole)]
        return result
    base = one / x if exponent < 0 else x
    if _is_near(abs(exponent), 0.5):
        result = np.sqrt(base)
        return result
    if _is_near(abs(exponent), _THIRD):
        result = np.cbrt(base)
        return result
    result = np.power(np.abs(x), x.dtype.type(exponent))
    return result


def power_steps(exponent: float) -> tuple[list[float], Steps]:
    """The same as a chain of elementwise functions.

    Returns
    -------
    constants, steps
        Registers: 0 is x, then come the constants, then the results of the steps.
    """
    whole = _whole(exponent)
    if whole is not None and (whole == 0 or abs(whole) > _PRODUCTS):
        return [float(whole)], [(M.POW, (0, 1))]
    steps: Steps
    if whole is not None:
        constants, steps, base = ([1.0], [(M.TRUE_DIV, (1, 0))], 2) if whole < 0 else ([], [], 0)
        square = len(constants) + len(steps) + 1
        if abs(whole) == 1:
            return ([1.0], [(M.MUL, (0, 1))]) if whole > 0 else (constants, steps)
        steps.append((M.SQUARE, (base,)))
        if abs(whole) == 3:
            steps.append((M.MUL, (square, base)))
        if abs(whole) == 4:
            steps.append((M.SQUARE, (square,)))
        return constants, steps
    if _is_near(exponent, 0.5):
        return [], [(M.SQRT, (0,))]
    if _is_near(exponent, -0.5):
        return [1.0], [(M.TRUE_DIV, (1, 0)), (M.SQRT, (2,))]
    if _is_near(exponent, _THIRD):  # by sign and absolute value
        return [_THIRD], [(M.ABS, (0,)), (M.POW, (2, 1)), (M.SIGN, (0,)), (M.MUL, (3, 4))]
    if _is_near(exponent, -_THIRD):
        root: Steps = [(M.TRUE_DIV, (1, 0)), (M.ABS, (3,)), (M.POW, (4, 2)), (M.SIGN, (3,)), (M.MUL, (5, 6))]
        return [1.0, _THIRD], root
    return [exponent], [(M.ABS, (0,)), (M.POW, (2, 1))]


def _whole(exponent: float) -> int | None:
    """The whole number that the exponent counts as."""
    if not np.isfinite(exponent):
        return None
    return round(exponent) if _is_near(exponent, float(round(exponent))) else None


def _is_near(a: float, b: float) -> bool:
    return abs(float(np.float32(a) - np.float32(b))) < _NEAR
