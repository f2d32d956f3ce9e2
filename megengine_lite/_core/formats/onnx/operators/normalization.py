"""Normalization."""

from __future__ import annotations

import numpy as np

from megengine_lite._core.formats.onnx.graph_builder import GraphBuilder
from megengine_lite._core.formats.onnx.graph_values import Value, check_kind, check_same_kind
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.formats.onnx.operators.constants import target_kind
from megengine_lite._core.formats.onnx.operators.reductions import reduced
from megengine_lite._core.formats.onnx.operators.table import Call, NotConverted, converts
from megengine_lite._core.formats.onnx.tensors import DTYPES
from megengine_lite._core.ir import params
from megengine_lite._core.ir.onnx_params import TargetShape
from megengine_lite._core.ir.params import BNFwdMode, BNParamDim, ElemwiseMode, ReduceMode

_M = ElemwiseMode


def per_channel(b: GraphBuilder, x: Value, like: Value) -> Value:
    """A vector with a number for each channel, with as many axes as the data."""
    return b.with_axes(x, [k for k in range(like.rank) if k != 1]) if like.rank > 1 else x


@converts("BatchNormalization")
def _batch_norm(call: Call) -> Value:
    b, x = call.builder, call.input(0)
    check_kind(x.kind, "f")
    trains = not call.integer("is_test", 0) if call.version < 7 else bool(call.integer("training_mode", 0))
    if trains or any(call.wanted[1:]):
        raise NotConverted("it computes statistics, for training; export the model for inference")
    # Before version 9 there may be numbers for each place, which broadcast along the batch.
    for_places = call.version < 9 and not call.integer("spatial", 1)
    rest, axes = [call.input(k) for k in range(1, 5)], x.rank - 1 if for_places else 1
    if any(v.rank != axes for v in rest):
        raise NotConverted(f"its statistics, scale and bias must have {axes} dimensions, as data have {x.rank}")
    if not for_places:
        rest = [per_channel(b, v, x) for v in rest]
    kinds = {x.kind, *(v.kind for v in rest)}
    if kinds == {ElementType.DOUBLE} or (for_places and len(kinds) == 1):
        scale, bias, mean, variance = rest
        centred, inverse = b.elemwise(_M.SUB, x, mean), _inverse_root(b, variance, call.real("epsilon", 1e-5))
        return b.elemwise(_M.ADD, b.elemwise(_M.MUL, b.elemwise(_M.MUL, centred, inverse), scale), bias)
    if kinds == {x.kind} and x.rank > 1:
        parameters = params.BN(
            param_dim=BNParamDim.DIM_1C11, fwd_mode=BNFwdMode.INFERENCE, epsilon=call.real("epsilon", 1e-5)
        )
        *_, result = b.nodes_of("BatchNorm", parameters, [b.exact(x), *(b.exact(v) for v in rest)], 4)
        return Value(result, x.kind, x.rank, DTYPES[x.kind])
    raise NotConverted("its inputs are of several types")


# The standard has it since version 17. ONNX Runtime's optimizer writes it into models of older ones, too.
@converts("LayerNormalization")
def _layer_norm(call: Call) -> list[Value | None]:
    b, x, scale, bias = call.builder, call.input(0), call.input(1), call.optional(2)
    axis, eps = call.axis("axis", -1, x.rank), call.real("epsilon", 1e-5)
    axes = list(range(axis, x.rank))
    if bias is not None and bias.rank != len(axes):
        bias = b.with_axes(bias, range(len(axes) - bias.rank)) if bias.rank < len(axes) else bias
    if any(call.wanted[1:]) or x.kind != ElementType.FLOAT or scale.rank != len(axes):
        mean = reduced(b, x, axes, ReduceMode.MEAN)
        centred = b.elemwise(_M.SUB, x, mean)
        variance = reduced(b, b.elemwise(_M.SQUARE, centred), axes, ReduceMode.MEAN)
        inverse = _inverse_root(b, variance, eps)
        result = b.elemwise(_M.MUL, b.elemwise(_M.MUL, centred, inverse), scale)
        kind = target_kind(call, "stash_type", ElementType.FLOAT)
        statistics = [b.retyped(v, kind) for v in (mean, inverse)]
        return [result if bias is None else b.elemwise(_M.ADD, result, bias), *statistics]
    if bias is None:
        zero = b.number(0, scale)
        bias = b.broadcast(zero, b.shape(scale).var, scale.rank)
    scale, bias = (_of_normalized(b, v, x, axis) for v in (scale, bias))
    parameters = params.GeneralNorm(affine=True, eps=eps, axis_start=axis, axis_end=x.rank)
    normal, *_ = b.nodes_of("GeneralNorm", parameters, [x.var, scale.var, bias.var], 3)
    return [Value(normal, x.kind, x.rank, x.dtype), None, None]


def _of_normalized(b: GraphBuilder, v: Value, x: Value, axis: int) -> Value:
    """A scale or bias with the shape of the axes from this one on, if it may have to be repeated."""
    shape = b.known_shape(v)
    if shape is not None and 1 not in shape:
        return v
    return b.broadcast(v, b.part(b.shape(x), 0, axis, None).var, x.rank - axis)


def _inverse_root(b: GraphBuilder, variance: Value, eps: float) -> Value:
    root = b.elemwise(_M.SQRT, b.elemwise(_M.ADD, variance, b.number(eps, variance)))
    return b.elemwise(_M.TRUE_DIV, b.number(1, root), root)


@converts("RMSNormalization", since=23)
def _rms_norm(call: Call) -> Value:
    b, x, scale = call.builder, call.input(0), call.input(1)
    axis = call.axis("axis", -1, x.rank)
    mean = reduced(b, b.elemwise(_M.SQUARE, x), list(range(axis, x.rank)), ReduceMode.MEAN)
    normal = b.elemwise(_M.MUL, x, _inverse_root(b, mean, call.real("epsilon", 1e-5)))
    return b.elemwise(_M.MUL, normal, scale)


@converts("InstanceNormalization")
def _instance_norm(call: Call) -> Value:
    return _channel_norm(call, "InstanceNorm", 1, call.input(1), call.input(2))


@converts("GroupNormalization", since=18)
def _group_norm(call: Call) -> Value:
    groups, weights = call.positive("num_groups"), [call.input(k) for k in (1, 2)]
    if call.version < 21:  # one number for each group
        b, x = call.builder, call.input(0)
        count = b.constant(np.array([groups]))
        shape = b.joined([count, b.elemwise(_M.FLOOR_DIV, b.dimension(x, 1), count)], 0)
        wide = [b.broadcast(b.with_axes(v, [1]), shape.var, 2) for v in weights]
        weights = [b.reshaped(v, b.integers([1]), 1, 0) for v in wide]
    return _channel_norm(call, "GroupNorm", groups, *weights)


def _channel_norm(call: Call, op: str, groups: int, scale: Value, bias: Value) -> Value:
    b, x = call.builder, call.input(0)
    check_same_kind([x, scale, bias])
    check_kind(x.kind, "f")
    if x.rank < 2:
        raise NotConverted(f"data of {x.rank} dimensions have no channels")
    eps = call.real("epsilon", 1e-5)
    if x.kind == ElementType.DOUBLE or x.rank == 2:
        return _norm_in_pieces(b, x, scale, bias, groups if op == "GroupNorm" else None, eps)
    parameters = params.GroupNorm(affine=True, eps=eps, group=groups)
    result, *_ = b.nodes_of(op, parameters, [b.exact(v) for v in (x, scale, bias)], 3)
    return Value(result, x.kind, x.rank, DTYPES[x.kind])


def _norm_in_pieces(b: GraphBuilder, x: Value, scale: Value, bias: Value, groups: int | None, eps: float) -> Value:
    """The same by means over the positions of so many groups of channels, or of each channel."""
    count = b.dimension(x, 1) if groups is None else b.constant(np.array([groups]))
    shape = b.joined([b.dimension(x, 0), count, b.constant(np.array([-1]))], 0)
    (target,) = b.nodes_of("TargetShape", TargetShape(), [x.var, shape.var])
    flat = b.reshaped(x, target, 3)
    centred = b.elemwise(_M.SUB, flat, reduced(b, flat, [2], ReduceMode.MEAN))
    variance = reduced(b, b.elemwise(_M.SQUARE, centred), [2], ReduceMode.MEAN)
    result = b.elemwise(_M.MUL, centred, _inverse_root(b, variance, eps))
    result = b.reshaped(result, b.shape(x).var, x.rank)
    return b.elemwise(_M.ADD, b.elemwise(_M.MUL, result, per_channel(b, scale, x)), per_channel(b, bias, x))


@converts("LRN")
def _lrn(call: Call) -> Value:
    b, x, size = call.builder, call.input(0), call.positive("size")
    if x.kind == ElementType.DOUBLE:
        raise NotConverted("it is not computed in DOUBLE; narrow_double computes it in FLOAT")
    if x.rank != 4 or size % 2 == 0:
        raise NotConverted("it needs images and an odd number of channels")
    alpha = call.real("alpha", 1e-4) / size
    parameters = params.LRN(n=size, k=call.real("bias", 1.0), alpha=alpha, beta=call.real("beta", 0.75))
    return b.node("LRN", parameters, [b.exact(x)], x.kind, x.rank)


@converts("LpNormalization")
def _lp_norm(call: Call) -> Value:
    b, x, order = call.builder, call.input(0), call.integer("p", 2)
    axes = [call.axis("axis", -1, x.rank)]
    if order == 1:
        norm = reduced(b, b.elemwise(_M.ABS, x), axes, ReduceMode.SUM)
    elif order == 2:
        norm = b.elemwise(_M.SQRT, reduced(b, b.elemwise(_M.SQUARE, x), axes, ReduceMode.SUM))
    else:
        raise NotConverted(f"there is no norm of order {order}")
    zero = b.number(0, x)
    is_zero = b.compare(params.ElemwiseMultiTypeMode.EQ, norm, zero)
    safe = b.node("Where", params.Empty(), [is_zero.var, b.exact(b.number(1, x)), b.exact(norm)], x.kind, x.rank)
    return b.elemwise(_M.TRUE_DIV, x, safe)


@converts("MeanVarianceNormalization", since=9)
def _mean_variance(call: Call) -> Value:
    b, x = call.builder, call.input(0)
    axes = call.axes(call.integers("axes") or [0, 2, 3], x.rank)
    centred = b.elemwise(_M.SUB, x, reduced(b, x, axes, ReduceMode.MEAN))
    variance = reduced(b, b.elemwise(_M.SQUARE, centred), axes, ReduceMode.MEAN)
    deviation = b.elemwise(_M.ADD, b.elemwise(_M.SQRT, variance), b.number(1e-9, x))
    return b.elemwise(_M.TRUE_DIV, centred, deviation)
