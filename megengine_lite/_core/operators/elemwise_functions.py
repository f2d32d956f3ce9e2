"""The elementwise functions of Elemwise, ElemwiseMultiType and fused chains, on numpy arrays.

Functions get arrays of one type that broadcast together. Those for floats get float32 and may give float64; their
caller stores the result in the right type. Those for integers give the type that they got, and wrap.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from megengine_lite._core.ir.params import ElemwiseMode
from megengine_lite._core.ir.quantize import round_half_away

Array = np.ndarray

_M = ElemwiseMode


class Function(NamedTuple):
    """One mode: number of operands, the kinds of types it is defined for ("i", "f", "b"), and the formula."""

    arity: int
    kinds: str
    call: Callable[..., Array]


def _map(function: Callable[[float], float], x: Array) -> Array:
    """A function of the standard library on each element, in double precision."""
    return np.fromiter(map(function, x.ravel().tolist()), np.float64, x.size).reshape(x.shape)


def erf(x: Array) -> Array:
    return _map(math.erf, x)


def erfc(x: Array) -> Array:
    return _map(math.erfc, x)


def _inverse(y: Array, tail: Array, use_tail: Array) -> Array:
    """The x >= 0 with erf(x) = y, erfc(x) = tail = 1 - y; ``use_tail`` tells where the tail is the exact one."""
    # Winitzki's approximation (relative error 2e-3), then two steps of Halley's method, each cubes the error.
    log = np.log(tail * (1 + y))
    a = 2 / (np.pi * 0.147) + log / 2
    x = np.sqrt(np.sqrt(a * a - log / 0.147) - a)
    for _ in range(2):
        excess = np.where(use_tail, tail - erfc(x), erf(x) - y)
        step = excess * (math.sqrt(math.pi) / 2) * np.exp(x * x)
        x = x - step / (1 + x * step)
    x = np.where(tail > 0, x, np.inf)
    return np.where((y >= 0) & (tail >= 0), x, np.nan)


def erfinv(y: Array) -> Array:
    y = y.astype(np.float64)
    size = np.abs(y)
    x = _inverse(size, 1 - size, size > 0.5)
    return np.where(y == 0, y, np.copysign(x, y))


def erfcinv(y: Array) -> Array:
    y = y.astype(np.float64)
    tail = np.minimum(y, 2 - y)
    x = _inverse(1 - tail, tail, tail < 0.5)
    return np.where(y > 1, -x, x)


def _sigmoid(x: Array) -> Array:
    result: np.ndarray = 1 / (1 + np.exp(-x))
    return result


def _relu(x: Array) -> Array:
    return np.where(x > 0, x, x.dtype.type(0))  # gives 0 for NaN


# MAX and MIN give their second operand where one is NaN. The smaller of two operands that differ in size counts as the
# second one.
ORDERED = frozenset((_M.MAX, _M.MIN))


def _max(x: Array, y: Array) -> Array:
    x, y = (y, x) if x.size < y.size else (x, y)
    return np.where(x > y, x, y)


def _min(x: Array, y: Array) -> Array:
    x, y = (y, x) if x.size < y.size else (x, y)
    return np.where(x < y, x, y)


def _sign_of_nan(x: Array) -> Array:
    return np.where(np.isnan(x), x, _sign(x))


def _floor_div(x: Array, y: Array) -> Array:
    result: np.ndarray = np.floor(x / y) if x.dtype.kind == "f" else x // y
    return result


def _mod(x: Array, y: Array) -> Array:
    result: np.ndarray = np.fmod(x, y) if x.dtype.kind == "f" else np.mod(x, y)
    return result


def _log_sum_exp(x: Array, y: Array) -> Array:
    less, more = np.where(x < y, x, y), np.where(x < y, y, x)
    result: np.ndarray = more + np.log1p(np.exp(less - more))
    return result


def rmulh(x: Array, y: Array) -> Array:
    """Upper half of a product of fixed-point numbers, rounded, saturated."""
    info = np.iinfo(x.dtype)
    digits = info.bits - (x.dtype.kind == "i")
    product = x.astype(np.int64) * y.astype(np.int64)
    result: np.ndarray = np.clip((product + (1 << (digits - 1))) >> digits, info.min, info.max).astype(x.dtype)
    return result


def _fast_tanh(x: Array) -> Array:
    result: np.ndarray = x * (27 + x * x) / (27 + 9 * x * x)
    return result


def _fast_tanh_grad(x: Array, y: Array) -> Array:
    square = x * x
    result: np.ndarray = ((-48 * square) / (3 + square) + 27 + square) / (9 * (3 + square)) * y
    return result


def _h_swish(x: Array) -> Array:
    result: np.ndarray = x * np.clip(x + 3, 0, 6) / 6
    return result


def _h_swish_grad(x: Array, y: Array) -> Array:
    return np.where(x < -3, np.float32(0), np.where(x > 3, y, (2 * x + 3) / 6 * y))


def _silu_grad(x: Array, y: Array) -> Array:
    s = _sigmoid(x)
    result: np.ndarray = y * s * (1 + x * (1 - s))
    return result


def _normal_cdf(x: Array) -> Array:
    return (1 + erf(x * math.sqrt(0.5))) / 2


def _gelu_tanh(x: Array) -> Array:
    # x (1 + tanh(t)) / 2, but nothing cancels
    result: np.ndarray = x * _sigmoid(math.sqrt(8 / math.pi) * (x + 0.044715 * x**3))
    return result


def _gelu_grad(x: Array, y: Array) -> Array:
    pdf = np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    result: np.ndarray = y * (_normal_cdf(x) + x * pdf)
    return result


def _sign(x: Array) -> Array:
    result: np.ndarray = np.greater(x, 0).astype(x.dtype) - np.less(x, 0).astype(x.dtype)
    return result


def _softplus_grad(x: Array, y: Array) -> Array:
    size = np.exp(-np.abs(x))
    tail = y * size / (1 + size)
    result: np.ndarray = np.where(x > 0, y - tail, tail)
    return result


def flushed(x: Array) -> Array:
    """Denormal numbers as zeros. Arithmetic takes them so by itself, but functions of the C library look at their bits.

    Which functions numpy takes from there depends on the processor.
    """
    result: np.ndarray = x * x.dtype.type(1)
    return result


def _relu6(x: Array) -> Array:
    six = x.dtype.type(6)
    return np.where(x <= 0, x.dtype.type(0), np.where(x <= 6, x, six))  # gives 6 for NaN


def _choose(condition: Array, value: Array) -> Array:
    return np.where(condition, value, value.dtype.type(0))


FUNCTIONS: dict[int, Function] = {
    _M.RELU: Function(1, "if", _relu),
    _M.ABS: Function(1, "if", np.abs),
    _M.ACOS: Function(1, "f", np.arccos),
    _M.ASIN: Function(1, "f", np.arcsin),
    _M.CEIL: Function(1, "f", np.ceil),
    _M.COS: Function(1, "f", np.cos),
    _M.EXP: Function(1, "f", np.exp),
    _M.EXPM1: Function(1, "f", np.expm1),
    _M.FLOOR: Function(1, "f", np.floor),
    _M.LOG: Function(1, "f", lambda x: np.log(flushed(x))),
    _M.LOG1P: Function(1, "f", np.log1p),
    _M.NEGATE: Function(1, "if", np.negative),
    _M.SIGMOID: Function(1, "f", _sigmoid),
    _M.SIN: Function(1, "f", np.sin),
    _M.TANH: Function(1, "f", np.tanh),
    _M.ABS_GRAD: Function(2, "if", lambda x, y: np.where(x > 0, y, -y)),
    _M.ADD: Function(2, "if", np.add),
    _M.FLOOR_DIV: Function(2, "if", _floor_div),
    _M.MAX: Function(2, "if", _max),
    _M.MIN: Function(2, "if", _min),
    _M.MOD: Function(2, "if", _mod),
    _M.MUL: Function(2, "if", np.multiply),
    _M.POW: Function(2, "f", lambda x, y: np.power(flushed(x), flushed(y))),
    _M.SIGMOID_GRAD: Function(2, "f", lambda x, y: x * (1 - x) * y),
    _M.SUB: Function(2, "if", np.subtract),
    _M.SWITCH_GT0: Function(2, "if", lambda x, y: _choose(x > 0, y)),
    _M.TANH_GRAD: Function(2, "f", lambda x, y: (1 - x * x) * y),
    _M.TRUE_DIV: Function(2, "f", np.divide),
    _M.LOG_SUM_EXP: Function(2, "f", _log_sum_exp),
    _M.LT: Function(2, "ifb", lambda x, y: (x < y).astype(x.dtype)),
    _M.LEQ: Function(2, "ifb", lambda x, y: (x <= y).astype(x.dtype)),
    _M.EQ: Function(2, "ifb", lambda x, y: (x == y).astype(x.dtype)),
    _M.SHL: Function(2, "i", np.left_shift),
    _M.SHR: Function(2, "i", np.right_shift),
    _M.COND_LEQ_MOV: Function(3, "if", lambda x, y, z: _choose(x <= y, z)),
    _M.FUSE_MUL_ADD3: Function(3, "if", lambda x, y, z: x * y + z),
    _M.FUSE_MUL_ADD4: Function(4, "if", lambda x, y, z, w: x * y + z * w),
    _M.FUSE_ADD_RELU: Function(2, "if", lambda x, y: _relu(x + y)),
    _M.FUSE_ADD_SIGMOID: Function(2, "f", lambda x, y: _sigmoid(x + y)),
    _M.FUSE_ADD_TANH: Function(2, "f", lambda x, y: np.tanh(x + y)),
    _M.FAST_TANH: Function(1, "f", _fast_tanh),
    _M.FAST_TANH_GRAD: Function(2, "f", _fast_tanh_grad),
    _M.ROUND: Function(1, "f", round_half_away),
    _M.RMULH: Function(2, "i", rmulh),
    _M.ATAN2: Function(2, "f", lambda x, y: np.arctan2(flushed(x), flushed(y))),
    _M.ERF: Function(1, "f", erf),
    _M.ERFINV: Function(1, "f", erfinv),
    _M.ERFC: Function(1, "f", erfc),
    _M.ERFCINV: Function(1, "f", erfcinv),
    _M.H_SWISH: Function(1, "f", _h_swish),
    _M.H_SWISH_GRAD: Function(2, "f", _h_swish_grad),
    _M.FUSE_ADD_H_SWISH: Function(2, "f", lambda x, y: _h_swish(x + y)),
    _M.NOT: Function(1, "b", np.logical_not),
    _M.AND: Function(2, "b", np.logical_and),
    _M.OR: Function(2, "b", np.logical_or),
    _M.XOR: Function(2, "b", np.logical_xor),
    _M.SILU: Function(1, "f", lambda x: x * _sigmoid(x)),
    _M.SILU_GRAD: Function(2, "f", _silu_grad),
    _M.GELU: Function(1, "f", lambda x: x * _normal_cdf(x)),
    _M.GELU_GRAD: Function(2, "f", _gelu_grad),
    _M.COND_LT_MOV: Function(3, "if", lambda x, y, z: _choose(x < y, z)),
    _M.NEQ: Function(2, "ifb", lambda x, y: (x != y).astype(x.dtype)),
    _M.ISNAN: Function(1, "f", lambda x: np.isnan(x).astype(x.dtype)),
    _M.ISINF: Function(1, "f", lambda x: np.isinf(x).astype(x.dtype)),
    _M.SINH: Function(1, "f", np.sinh),
    _M.COSH: Function(1, "f", np.cosh),
    _M.ASINH: Function(1, "f", np.arcsinh),
    _M.ACOSH: Function(1, "f", np.arccosh),
    _M.ATANH: Function(1, "f", np.arctanh),
    _M.TAN: Function(1, "f", np.tan),
    _M.ASINH_GRAD: Function(2, "f", lambda x, y: y / np.sqrt(x * x + 1)),
    _M.ACOSH_GRAD: Function(2, "f", lambda x, y: y / np.sqrt(x * x - 1)),
    _M.ATANH_GRAD: Function(2, "f", lambda x, y: y / (1 - x * x)),
    _M.PRELU: Function(2, "if", lambda x, y: np.where(x > 0, x, x * y)),
    _M.CLIP: Function(3, "if", lambda x, y, z: np.where(x <= y, y, np.where(x <= z, x, z))),
    _M.PRELU_GRAD: Function(3, "f", lambda x, y, z: np.where(x >= 0, y, y * z)),
    _M.SOFTPLUS: Function(1, "f", lambda x: np.log1p(np.exp(-np.abs(x))) + _relu(x)),
    _M.SOFTPLUS_GRAD: Function(2, "f", _softplus_grad),
    _M.RELU6: Function(1, "if", _relu6),
    _M.RELU6_GRAD: Function(2, "f", lambda x, y: _choose(~((x <= 0) | (x >= 6)), y)),
    _M.HSIGMOID: Function(1, "f", lambda x: np.clip((x + 3) / 6, 0, 1)),
    _M.HSIGMOID_GRAD: Function(2, "f", lambda x, y: _choose(~(np.abs(x) >= 3), y / 6)),
    _M.LOGSIGMOID: Function(1, "f", lambda x: np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))),
    _M.SQRT: Function(1, "f", np.sqrt),
    _M.SQUARE: Function(1, "if", np.square),
    _M.SIGN: Function(1, "if", _sign),
    _M.NAN_RELU: Function(1, "f", lambda x: np.maximum(x, x.dtype.type(0))),
    _M.NAN_MAX: Function(2, "f", np.maximum),
    _M.NAN_MIN: Function(2, "f", np.minimum),
    _M.NAN_SIGN: Function(1, "f", _sign_of_nan),
    _M.GELU_TANH: Function(1, "f", _gelu_tanh),
    _M.ROUND_EVEN: Function(1, "f", np.rint),
}
"""Mode -> function."""
