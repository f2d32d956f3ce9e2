"""Activations, and softmax and its relatives."""

from __future__ import annotations

import math

import numpy as np

from megengine_lite._core.formats.onnx.graph_builder import GraphBuilder
from megengine_lite._core.formats.onnx.graph_values import FLOATS, Value, check_kind
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.formats.onnx.operators.table import Call, NotConverted, converts
from megengine_lite._core.ir import params
from megengine_lite._core.ir.onnx_params import OnnxReduce
from megengine_lite._core.ir.onnx_reduction import OnnxReduction
from megengine_lite._core.ir.params import ElemwiseMode, ElemwiseMultiTypeMode

_M = ElemwiseMode
_ONE_STEP = {"Relu": _M.RELU, "Sigmoid": _M.SIGMOID, "Tanh": _M.TANH, "Softplus": _M.SOFTPLUS}


@converts(*_ONE_STEP)
def _one_step(call: Call) -> Value:
    return call.builder.elemwise(_ONE_STEP[call.op], call.input(0))


@converts("HardSwish", since=14)
def _hard_swish(call: Call) -> Value:
    return call.builder.elemwise(_M.H_SWISH, call.input(0))


@converts("LeakyRelu")
def _leaky_relu(call: Call) -> Value:
    x = call.input(0)
    return call.builder.elemwise(_M.PRELU, x, call.builder.number(call.real("alpha", 0.01), x))


@converts("PRelu")
def _prelu(call: Call) -> Value:
    x, slope = call.input(0), call.input(1)
    if call.version < 7 and slope.rank == 1 and slope.length != 1:  # one for each channel
        slope = call.builder.with_axes(slope, range(1, x.rank - 1))
    return call.builder.elemwise(_M.PRELU, x, slope)


def choose(b: GraphBuilder, mask: Value, x: Value, y: Value) -> Value:
    """x where the mask is set, else y."""
    rank = max(mask.rank, x.rank, y.rank)
    return b.node("Where", params.Empty(), [mask.var, b.exact(x), b.exact(y)], x.kind, rank)


def _affine(b: GraphBuilder, x: Value, scale: float, shift: float = 0.0) -> Value:
    if scale != 1:
        x = b.elemwise(_M.MUL, x, b.number(scale, x))
    return b.elemwise(_M.ADD, x, b.number(shift, x)) if shift else x


def _exponential(call: Call, alpha: float, gamma: float, divisor: float = 1.0) -> Value:
    """``gamma x`` above zero, ``gamma alpha (exp(x / divisor) - 1)`` below."""
    b, x = call.builder, call.input(0)
    zero = b.number(0, x)
    low = b.elemwise(_M.MIN, x, zero)
    if divisor != 1:
        low = b.elemwise(_M.TRUE_DIV, low, b.number(divisor, x))
    low = _affine(b, b.elemwise(_M.EXPM1, low), alpha)
    return _affine(b, b.elemwise(_M.ADD, b.elemwise(_M.MAX, x, zero), low), gamma)


@converts("Elu")
def _elu(call: Call) -> Value:
    return _exponential(call, call.real("alpha", 1.0), 1.0)


@converts("Selu")
def _selu(call: Call) -> Value:
    alpha = call.real("alpha", 1.6732631921768188)
    return _exponential(call, alpha, call.real("gamma", 1.0507010221481323))


@converts("Celu", since=12)
def _celu(call: Call) -> Value:
    alpha = call.real("alpha", 1.0)
    return _exponential(call, alpha, 1.0, alpha)


@converts("ThresholdedRelu")
def _thresholded_relu(call: Call) -> Value:
    b, x = call.builder, call.input(0)
    alpha = b.number(call.real("alpha", 1.0), x)
    if x.is_float32:
        return b.elemwise(_M.COND_LT_MOV, alpha, x, x)
    return choose(b, b.compare(ElemwiseMultiTypeMode.LT, alpha, x), x, b.number(0, x))


@converts("Shrink", since=9)
def _shrink(call: Call) -> Value:
    b, given = call.builder, call.input(0)
    bias, limit = call.real("bias", 0.0), call.real("lambd", 0.5)
    x = given if given.kind in FLOATS else b.retyped(given, ElementType.DOUBLE)  # fractions are cut off at the end
    shift, zero = b.number(bias, x), b.number(0, x)
    below = b.compare(ElemwiseMultiTypeMode.LT, x, b.number(-limit, x))
    above = b.compare(ElemwiseMultiTypeMode.LT, b.number(limit, x), x)
    rest = choose(b, above, b.elemwise(_M.SUB, x, shift), zero)
    return b.retyped(choose(b, below, b.elemwise(_M.ADD, x, shift), rest), given.kind)


@converts("HardSigmoid")
def _hard_sigmoid(call: Call) -> Value:
    b, x = call.builder, call.input(0)
    alpha, beta = call.real("alpha", 0.2), call.real("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return b.elemwise(_M.HSIGMOID, x)
    return b.elemwise(_M.MIN, b.elemwise(_M.MAX, _affine(b, x, alpha, beta), b.number(0, x)), b.number(1, x))


@converts("Softsign")
def _softsign(call: Call) -> Value:
    b, x = call.builder, call.input(0)
    return b.elemwise(_M.TRUE_DIV, x, _affine(b, b.elemwise(_M.ABS, x), 1.0, 1.0))


@converts("Mish", since=18)
def _mish(call: Call) -> Value:
    b, x = call.builder, call.input(0)
    return b.elemwise(_M.MUL, x, b.elemwise(_M.TANH, b.elemwise(_M.SOFTPLUS, x)))


@converts("Swish", since=24)
def _swish(call: Call) -> Value:
    b, x, alpha = call.builder, call.input(0), call.real("alpha", 1.0)
    if alpha == 1:
        return b.elemwise(_M.SILU, x)
    return b.elemwise(_M.MUL, x, b.elemwise(_M.SIGMOID, _affine(b, x, alpha)))


@converts("SwiGLU", since=28)
def _gated_swish(call: Call) -> Value:
    return call.builder.elemwise(_M.MUL, _swish(call), call.input(1))


@converts("Gelu", since=20)
def _gelu(call: Call) -> Value:
    b, x, how = call.builder, call.input(0), call.text("approximate", "none")
    if how == "none":
        return b.elemwise(_M.GELU, x)
    if how != "tanh":
        raise NotConverted(f"the approximation {how!r} is not known")
    return gelu_by_tanh(b, x)


def gelu_by_tanh(b: GraphBuilder, x: Value) -> Value:
    """The approximation of Gelu by a hyperbolic tangent."""
    cube = b.elemwise(_M.MUL, b.elemwise(_M.SQUARE, x), x)
    inner = b.elemwise(_M.ADD, x, _affine(b, cube, 0.044715))
    gate = _affine(b, b.elemwise(_M.TANH, _affine(b, inner, math.sqrt(2 / math.pi))), 0.5, 0.5)
    return b.elemwise(_M.MUL, x, gate)


# ---- along an axis ---------------------------------------------------------------------------------------------------


@converts("Softmax", "LogSoftmax", "Hardmax")
def _softmax(call: Call) -> Value:
    b, x = call.builder, call.input(0)
    check_kind(x.kind, "f" if call.op != "Hardmax" else "iuf")
    if call.version >= 13:
        return _along(call, x, call.axis("axis", -1, x.rank))
    # Older versions take all axes from this one on as a single axis.
    axis = call.integer("axis", 1)
    axis = axis + x.rank if axis < 0 else axis
    if axis == x.rank - 1 or x.rank == 0:
        return _along(call, x, max(x.rank - 1, 0))
    result = _along(call, flattened(b, x, axis), 1)
    target = b.shape(x)
    return b.reshaped(result, target.var, x.rank)


def flattened(b: GraphBuilder, x: Value, axis: int) -> Value:
    """A matrix whose rows hold the axes from this one on."""
    if axis == 0:
        return b.reshaped(x, b.integers([1, 1]), 2, 1)
    size = b.dimension(x, 0) if axis == 1 else product(b, b.part(b.shape(x), 0, 0, axis))
    if axis == x.rank:
        return b.reshaped(x, b.joined([size, b.constant(np.array([1]))], 0).var, 2)
    rest = product(b, b.part(b.shape(x), 0, axis, None))
    return b.reshaped(x, b.joined([size, rest], 0).var, 2)


def product(b: GraphBuilder, vector: Value) -> Value:
    """The product of a vector's numbers, as a vector of one."""
    parameters = OnnxReduce(OnnxReduction.PRODUCT, (0,))
    return b.node("OnnxReduce", parameters, [b.exact(vector)], vector.kind, 1, length=1)


def _along(call: Call, x: Value, axis: int) -> Value:
    b = call.builder
    if call.op == "Hardmax":
        return _hardmax(b, x, axis)
    if call.op == "LogSoftmax":
        return log_softmax(b, x, axis)
    if x.kind != ElementType.DOUBLE:
        return b.node("Softmax", params.Softmax(axis=axis), [b.exact(x)], x.kind, x.rank)
    _, exponentials, total = _exponentials(b, x, axis)
    return b.elemwise(_M.TRUE_DIV, exponentials, total)


def log_softmax(b: GraphBuilder, x: Value, axis: int) -> Value:
    shifted, _, total = _exponentials(b, x, axis)
    return b.elemwise(_M.SUB, shifted, b.elemwise(_M.LOG, total))


def _exponentials(b: GraphBuilder, x: Value, axis: int) -> tuple[Value, Value, Value]:
    """Numbers less the largest along an axis, their exponentials, and the sum of these."""
    shifted = b.elemwise(_M.SUB, x, _reduced(b, x, axis, OnnxReduction.MAX))
    exponentials = b.elemwise(_M.EXP, shifted)
    return shifted, exponentials, _reduced(b, exponentials, axis, OnnxReduction.SUM)


def _reduced(b: GraphBuilder, x: Value, axis: int, mode: OnnxReduction) -> Value:
    parameters = OnnxReduce(mode, (axis,), is_finite=True)
    return b.node("OnnxReduce", parameters, [b.exact(x)], x.kind, x.rank)


def _hardmax(b: GraphBuilder, x: Value, axis: int) -> Value:
    """1 at the first of the largest elements, which is the only one that has none of them before it. NaN beats all."""
    best = b.node("OnnxReduce", OnnxReduce(OnnxReduction.MAX, (axis,)), [b.exact(x)], x.kind, x.rank)
    is_best = b.retyped(b.compare(ElemwiseMultiTypeMode.LEQ, best, x), ElementType.INT32)
    if x.kind in FLOATS:
        unknown = b.compare(ElemwiseMultiTypeMode.NEQ, x, x)
        is_best = b.elemwise(_M.MAX, is_best, b.retyped(unknown, ElementType.INT32))
    counted = params.Cumsum(axis=axis, exclusive=True, reverse=False)
    before = b.node("Cumsum", counted, [b.exact(is_best)], ElementType.INT32, x.rank)
    return b.retyped(b.compare(ElemwiseMultiTypeMode.LT, before, is_best), x.kind)
