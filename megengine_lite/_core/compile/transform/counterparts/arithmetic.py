"""Functions of elements: rules that only ONNX has, in steps."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable

import numpy as np

from megengine_lite._core.compile.transform.counterparts.pieces import Pieces, dtype_of, numbers_of
from megengine_lite._core.compile.transform.counterparts.table import NotWritten, written
from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import FLOAT16, FLOAT32, INT32, DTypeCode
from megengine_lite._core.ir.graph import AnyNode, AnyVar, Var
from megengine_lite._core.ir.onnx_params import OnnxMode
from megengine_lite._core.ir.params import ElemwiseMode, ElemwiseMultiTypeMode

_M = ElemwiseMode
_O = OnnxMode

_IN_FILES = {_M.NAN_RELU: _M.RELU, _M.NAN_MAX: _M.MAX, _M.NAN_MIN: _M.MIN, _M.NAN_SIGN: _M.SIGN}
"""Modes that differ for NaN only, and those that files have in their place."""
_MOST_FACTORS = 64
"""The largest power of integers that is written as products."""


@written("Elemwise", any_size=True)
def _elemwise(w: Pieces, node: AnyNode) -> Var:
    mode, inputs = ElemwiseMode(node.params.mode), node.inputs
    if mode == _M.ROUND_EVEN:
        return rounded(w, inputs[0])
    if mode == _M.GELU_TANH:
        return _gelu(w, inputs[0])
    if dtype_of(inputs[0]) == INT32:
        if mode == _M.MOD:
            return _modulo(w, *inputs)
        if mode == _M.MUL and not _fits_float32(w, operator.mul):
            return w.integer_product(*inputs)
        if mode in (_M.ADD, _M.SUB) and not _fits_float32(w, operator.add if mode == _M.ADD else operator.sub):
            # Of sums of sums and products the original makes products, which it computes as float32.
            if inputs[0] is inputs[1] and mode == _M.ADD:
                return w.shifted(inputs[0], 1)
            inputs = [v if v.const is not None else w.shifted(v, 0) for v in inputs]
    return w.make("Elemwise", params.Elemwise(mode=_IN_FILES.get(mode, mode)), inputs, node.output_dtype)


def _fits_float32(w: Pieces, function: Callable[[int, int], int]) -> bool:
    """Whether a function of integers is exact in float32, for all numbers that the inputs may have."""
    return w.holds(lambda ranges: max(abs(function(a, b)) for a in ranges[0] for b in ranges[1]) <= 2**24)


def rounded(w: Pieces, x: AnyVar) -> Var:
    """The nearest whole numbers, halves to even ones: the original rounds halves away from zero.

    Of half a number that rounds to the nearest, the double is even. It is taken where the number itself lies in the
    middle. What is no number stays as it is.
    """
    dtype = dtype_of(x)
    if dtype == FLOAT16:
        return w.converted(rounded(w, w.converted(x, FLOAT32)), FLOAT16)
    away = w.elemwise(_M.ROUND, x)
    even = w.multiply(w.elemwise(_M.ROUND, w.multiply(x, w.number(0.5, x))), w.number(2, x))
    distance = w.elemwise(_M.ABS, w.subtract(x, away))
    return w.subtract(away, w.at_most(w.number(0.5, x), distance, w.subtract(away, even)))


def _gelu(w: Pieces, x: AnyVar) -> Var:
    """x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))"""
    cube = w.multiply(w.multiply(x, x), w.multiply(x, w.number(0.044715, x)))
    inner = w.multiply(w.add(x, cube), w.number(math.sqrt(2 / math.pi), x))
    return w.multiply(w.multiply(x, w.number(0.5, x)), w.add(w.elemwise(_M.TANH, inner), w.number(1, x)))


@written("ElemwiseMultiType", any_size=True)
def _multi_type(w: Pieces, node: AnyNode) -> Var:
    (out,) = node.outputs
    return w.make("ElemwiseMultiType", node.params, node.inputs, node.output_dtype or dtype_of(out))


@written("Where", any_size=True)
def _where(w: Pieces, node: AnyNode) -> Var:
    mask, x, y = node.inputs
    dtype = dtype_of(x)
    if dtype == FLOAT32 or dtype.code == DTypeCode.INT32:
        return w.choice(w.converted(mask, dtype), x, y)
    if dtype.is_quantized:
        raise NotWritten(f"releases of the original choose no elements of {dtype}")
    carrier = FLOAT32 if dtype.is_float else INT32
    return w.converted(w.choice(*(w.converted(v, carrier) for v in (mask, x, y))), dtype)


@written("OnnxElemwise", any_size=True)
def _onnx_elemwise(w: Pieces, node: AnyNode) -> Var:
    mode, inputs = OnnxMode(node.params.mode), node.inputs
    x, dtype = inputs[0], dtype_of(inputs[0])
    if mode == _O.NARROW:
        assert isinstance(x, Var)  # its numbers fit already
        return w.converted(x, INT32)
    if mode in (_O.IS_POSITIVE_INFINITY, _O.IS_NEGATIVE_INFINITY):
        number = math.inf if mode == _O.IS_POSITIVE_INFINITY else -math.inf
        return w.compare(ElemwiseMultiTypeMode.EQ, x, w.number(number, x))
    if mode in (_O.MAX, _O.MIN):
        return w.elemwise(_M.MAX if mode == _O.MAX else _M.MIN, *inputs)
    if mode == _O.POWER:
        return _power(w, *inputs)
    if dtype.is_float:
        return _of_reals(w, mode, *inputs)
    if dtype == INT32:
        return _of_integers(w, mode, 32, *inputs)
    bits = 8 * dtype.itemsize
    found = _of_integers(w, mode, bits, *(w.converted(v, INT32) for v in inputs), unsigned=dtype.storage.kind == "u")
    return w.converted(found, dtype)


def _of_reals(w: Pieces, mode: OnnxMode, x: AnyVar, y: AnyVar) -> Var:
    if mode == _O.DIVIDE:
        return w.divide(x, y)
    rest = w.elemwise(_M.MOD, x, y)
    return rest if mode == _O.REMAINDER else _with_sign_of_divisor(w, rest, y)


def _with_sign_of_divisor(w: Pieces, rest: AnyVar, y: AnyVar) -> Var:
    """One more of the divisor where the signs differ and there is a rest."""
    signs = w.multiply(w.elemwise(_M.SIGN, rest), w.elemwise(_M.SIGN, y))
    return w.add(rest, w.less(signs, w.number(0, y), y))


def _of_integers(w: Pieces, mode: OnnxMode, bits: int, x: AnyVar, *others: AnyVar, unsigned: bool = False) -> Var:
    """A function of int32 that stand for integers of so many bits."""
    if mode == _O.BIT_NOT:
        return w.subtract(w.number(2**bits - 1 if unsigned else -1, x), x)
    (y,) = others
    if mode == _O.BIT_OR:
        return w.subtract(w.add(x, y), _bits(w, w.multiply, x, y, bits))
    if mode == _O.BIT_AND:
        return _bits(w, w.multiply, x, y, bits)
    if mode == _O.BIT_XOR:
        return _bits(w, lambda a, b: w.converted(w.compare(ElemwiseMultiTypeMode.NEQ, a, b), INT32), x, y, bits)
    if mode in (_O.SHIFT_LEFT, _O.SHIFT_RIGHT):
        return _shifted(w, mode, bits, x, y, unsigned)
    if mode == _O.MODULO:
        return _modulo(w, x, y)
    return truncated_quotient(w, x, y) if mode == _O.DIVIDE else _rest(w, x, y)


def _modulo(w: Pieces, x: AnyVar, y: AnyVar) -> Var:
    """The rest with the sign of the divisor. The original adds the divisor to a rest, which may leave the type."""
    is_small = w.holds(lambda ranges: max(map(abs, ranges[1])) <= 2**30)
    return w.elemwise(_M.MOD, x, y) if is_small else _with_sign_of_divisor(w, _rest(w, x, y), y)


def _rest(w: Pieces, x: AnyVar, y: AnyVar) -> Var:
    """The rest of integers with the sign of the dividend."""
    return w.subtract(x, w.integer_product(truncated_quotient(w, x, y), y))


def truncated_quotient(w: Pieces, x: AnyVar, y: AnyVar) -> Var:
    """The quotient of integers towards zero: one more than that rounded down, where it is negative and has a rest."""
    down = w.elemwise(_M.FLOOR_DIV, x, y)
    one, zero = w.number(1, x), w.number(0, x)
    rest = w.elemwise(_M.MIN, w.elemwise(_M.ABS, w.subtract(x, w.integer_product(down, y))), one)
    return w.add(down, w.less(down, zero, rest))


def _bits(w: Pieces, function: Callable[[Var, Var], Var], x: AnyVar, y: AnyVar, bits: int) -> Var:
    """A function of single bits, which are 0 or 1: the sum of its results, each at its place."""
    total: Var | None = None
    for k in range(bits):
        term = w.shifted(function(_bit(w, x, k), _bit(w, y, k)), k)
        total = term if total is None else w.add(total, term)
    assert total is not None
    return total


def _bit(w: Pieces, x: AnyVar, k: int) -> Var:
    if k == 31:
        return w.less(x, w.number(0, x), w.number(1, x))
    here = w.shifted(x, -k) if k else x
    return w.subtract(here, w.shifted(w.shifted(x, -k - 1), 1))


def _shifted(w: Pieces, mode: OnnxMode, bits: int, x: AnyVar, y: AnyVar, unsigned: bool) -> Var:
    """Shifted bits; by fewer than none, or by all of them, what stands there then: zeros, or those of the sign."""
    zero, most = w.number(0, y), w.number(bits - 1, y)
    limited = w.elemwise(_M.MIN, w.elemwise(_M.MAX, y, zero), most)
    if mode == _O.SHIFT_RIGHT and not unsigned:
        return w.elemwise(_M.SHR, x, w.add(limited, w.less(y, zero, most)))
    found = w.elemwise(_M.SHL if mode == _O.SHIFT_LEFT else _M.SHR, x, limited)
    return w.at_most(zero, y, w.at_most(y, most, found))


def _power(w: Pieces, x: AnyVar, y: AnyVar) -> Var:
    dtype = dtype_of(x)
    if dtype.is_float:
        exponent = w.converted(y, FLOAT32)
        return w.converted(w.elemwise(_M.POW, w.converted(x, FLOAT32), exponent), dtype)
    numbers = numbers_of(y)
    whole = numbers is not None and numbers.size == 1 and numbers.dtype.kind in "iu"
    if numbers is None or not whole or not 0 <= numbers.item() <= _MOST_FACTORS:
        raise NotWritten("powers of integers are written for constant exponents only, of 0 to 64")
    base, count = w.converted(x, INT32), int(numbers.item())
    if not count:
        return w.converted(w.add(w.multiply(base, w.number(0, base)), w.number(1, base)), dtype)
    result = base
    for _ in range(count - 1):
        result = w.integer_product(result, base)
    return w.converted(result, dtype)


@written("BitCast", any_size=True)
def _bit_cast(w: Pieces, node: AnyNode) -> Var:
    """Between integers of the same size the bits stay when they are converted."""
    x, target = node.inputs[0], node.params.dtype
    kinds = {dtype_of(x).storage.kind, target.storage.kind}
    if not kinds <= {"i", "u"} or target.itemsize > np.dtype(np.int32).itemsize:
        raise NotWritten("bits are read as another type")
    return w.converted(x, target)
