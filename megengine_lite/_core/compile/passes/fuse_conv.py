"""Merges a convolution with the scale, bias, residual addition and activation that follow it.

A float32 convolution in NCHW becomes a ``FusedConv``. If a single node reads its result, that node is absorbed. The new
node takes its place, so the walk meets it again and can absorb the next one. Multiplications by constants go into the
weights.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np

from megengine_lite._core.compile.rewriter import Rewriter
from megengine_lite._core.ir.dtype import DTypeCode
from megengine_lite._core.ir.fused import (
    ELEMWISE_OF,
    NO_ACTIVATION,
    NONLINEARITIES,
    Activation,
    ActivationCode,
    FusedConv,
)
from megengine_lite._core.ir.graph import ConstantPool, Graph, Node, TensorSpec, Var
from megengine_lite._core.ir.params import ConvolutionFormat, ConvolutionMode, ConvolutionSparse, ElemwiseMode
from megengine_lite._records import replace

M = ElemwiseMode
# Elementwise functions that kernels can apply to a result before they store it.
ACTIVATIONS = {mode: Activation(code) for code, mode in ELEMWISE_OF.items()}
ACTIVATIONS[M.NAN_RELU] = Activation(ActivationCode.CLIP_NAN, 0.0, np.inf)
# Additions, with the activation that they apply to the sum.
ADD_THEN = {
    M.ADD: ActivationCode.NONE,
    M.FUSE_ADD_RELU: ActivationCode.RELU,
    M.FUSE_ADD_SIGMOID: ActivationCode.SIGMOID,
    M.FUSE_ADD_TANH: ActivationCode.TANH,
    M.FUSE_ADD_H_SWISH: ActivationCode.H_SWISH,
}


def _any(fused: Node) -> bool:
    return True


def run(graph: Graph, pool: ConstantPool, accept: Callable[[Node], bool] = _any) -> None:
    """Fuses all convolutions of a graph. A fused node that ``accept`` refuses is not made."""
    graph.convert(as_fused_conv)
    rewriter = Rewriter(graph)
    for node in rewriter:
        if node.op != "FusedConv":
            continue
        reader = rewriter.only_reader(node.outputs[0])
        fused = None if reader is None else _absorb(node, reader, pool)
        if reader is not None and fused is not None and accept(fused):
            rewriter.replace([node, reader], [fused])
    rewriter.finish()


def as_fused_conv(node: Node) -> Node | None:
    """A float32 NCHW convolution as a ``FusedConv`` node, or None if the node is something else."""
    if node.op not in ("Convolution", "ConvBiasForward") or node.params.format != ConvolutionFormat.NCHW:
        return None
    x, w = node.inputs[:2]
    if any(v.dtype.code != DTypeCode.FLOAT32 for v in (*node.inputs, *node.outputs)) or w.const is None:
        return None
    p = node.params
    dense = p.sparse == ConvolutionSparse.DENSE
    if len(w.shape) != (4 if dense else 5):
        return None
    inputs = [x, w]
    activation = NO_ACTIVATION
    has_bias = has_z = False
    if node.op == "ConvBiasForward":
        channels = node.outputs[0].shape[1]
        for v in node.inputs[2:]:
            if not has_bias and v.const is not None and v.spec.size == channels and v.shape[1:2] == (channels,):
                has_bias = True
            elif not has_z and v.shape == node.outputs[0].shape:
                has_z = True
            else:
                return None
            inputs.append(v)
        if p.nonlineMode not in NONLINEARITIES:
            return None
        activation = Activation(NONLINEARITIES[p.nonlineMode])
    params = FusedConv(
        pad_h=p.pad_h,
        pad_w=p.pad_w,
        stride_h=p.stride_h,
        stride_w=p.stride_w,
        dilate_h=p.dilate_h,
        dilate_w=p.dilate_w,
        groups=1 if dense else w.shape[0],
        mirrored=p.mode == ConvolutionMode.CONVOLUTION,
        has_bias=has_bias,
        has_z=has_z,
        activation=activation,
    )
    return Node("FusedConv", params, inputs, node.outputs, node.name)


def _absorb(conv: Node, reader: Node, pool: ConstantPool) -> Node | None:
    """The convolution merged with its only reader; None if that is not possible."""
    if reader.op != "Elemwise" or reader.outputs[0].shape != conv.outputs[0].shape:
        return None
    mode = reader.params.mode
    y = conv.outputs[0]
    others = [v for v in reader.inputs if v is not y]
    if len(others) != len(reader.inputs) - 1:
        return None
    found = with_function(conv.params.activation, reader, y)
    if found is not None:
        return _with(conv, reader, activation=found)
    if conv.params.activation.code != ActivationCode.NONE:
        return None
    if mode in ADD_THEN:
        activation = Activation(ADD_THEN[mode])
        other = others[0]
        if _per_channel(other, y):
            return _with(_add_bias(conv, other, pool), reader, activation=activation)
        if other.const is None and other.shape == y.shape and not conv.params.has_z:
            fused = _with(conv, reader, has_z=True, activation=activation)
            fused.inputs = [*conv.inputs, other]
            return fused
        return None
    if mode == M.SUB and reader.inputs[0] is y and _per_channel(others[0], y):
        return _with(_add_bias(conv, _derived(pool, "negate", others, others[0].shape, np.negative), pool), reader)
    if conv.params.has_z:
        return None
    if mode == M.MUL and _per_channel(others[0], y):
        return _with(_scale(conv, others[0], pool), reader)
    if mode == M.FUSE_MUL_ADD3 and y is not reader.inputs[2] and all(_per_channel(v, y) for v in others):
        return _with(_add_bias(_scale(conv, others[0], pool), others[1], pool), reader)
    return None


def _with(conv: Node, reader: Node, **changes: object) -> Node:
    return Node("FusedConv", replace(conv.params, **changes), conv.inputs, reader.outputs, conv.name)


def with_function(current: Activation, reader: Node, y: Var) -> Activation | None:
    """The activation that does what ``current`` and then an elementwise function of ``y`` do; None if there is none."""
    mode = reader.params.mode
    if current.code <= ActivationCode.CLIP_NAN and (clipped := _clip(current, mode, reader, y)) is not None:
        return clipped
    if current.code != ActivationCode.NONE:
        return None
    if mode in ACTIVATIONS:
        return ACTIVATIONS[mode]
    if mode == M.PRELU and reader.inputs[0] is y and (slope := _scalar(reader.inputs[1])) is not None:
        return Activation(ActivationCode.LEAKY_RELU, slope)
    return None


def _clip(current: Activation, mode: int, reader: Node, y: Var) -> Activation | None:
    """The activation ``current`` followed by a MAX, MIN, CLIP or RELU6, as one activation.

    The first of these functions decides what NaN gives: one of the bounds, by the order in which it compares; or NaN,
    and then the second one decides.
    """
    bounds = _bounds(mode, reader, y)
    if bounds is None:
        return None
    low, high, of_nan = bounds
    if current.code == ActivationCode.RELU:
        current = Activation(ActivationCode.CLIP, 0.0, np.inf)
    if current.code != ActivationCode.NONE:
        if current.code != ActivationCode.CLIP_NAN:
            of_nan = current.a if current.code == ActivationCode.CLIP else current.b
            of_nan = min(max(of_nan, low), high)
        low, high = max(low, current.a), min(high, current.b)
    if low > high:
        return None
    if np.isnan(of_nan):
        return Activation(ActivationCode.CLIP_NAN, low, high)
    if of_nan not in (low, high):
        return None
    if (low, high, of_nan) == (0.0, np.inf, 0.0):
        return Activation(ActivationCode.RELU)
    return Activation(ActivationCode.CLIP if of_nan == low else ActivationCode.CLIP_HIGH, low, high)


def _bounds(mode: int, reader: Node, y: Var) -> tuple[float, float, float] | None:
    """The bounds of a clipping function, and what it gives for NaN; None if it is another function."""
    if mode == M.RELU6:
        return 0.0, 6.0, 6.0
    if mode == M.RELU:
        return 0.0, np.inf, 0.0
    if mode == M.NAN_RELU:
        return 0.0, np.inf, np.nan
    if mode in (M.NAN_MAX, M.NAN_MIN):
        value = _scalar(reader.inputs[1 if reader.inputs[0] is y else 0])
        if value is None or np.isnan(value):
            return None
        return (value, np.inf, np.nan) if mode == M.NAN_MAX else (-np.inf, value, np.nan)
    if mode in (M.MAX, M.MIN):
        first = reader.inputs[0] is y
        value = _scalar(reader.inputs[1 if first else 0])
        # NaN in the first operand gives the second operand. If they differ in size, the smaller one is the second.
        if value is None or np.isnan(value) or not (first or y.spec.size > 1):
            return None
        return (value, np.inf, value) if mode == M.MAX else (-np.inf, value, value)
    if mode == M.CLIP and reader.inputs[0] is y:
        low, high = _scalar(reader.inputs[1]), _scalar(reader.inputs[2])
        if low is not None and high is not None and low <= high:
            return low, high, high
    return None


def _scalar(var: Var) -> float | None:
    return float(var.const.array.reshape(-1)[0]) if var.const is not None and var.spec.size == 1 else None


def _per_channel(var: Var, y: Var) -> bool:
    """Whether the variable is a constant that is one number, or one number for each channel of y."""
    if var.const is None or var.dtype.code != DTypeCode.FLOAT32:
        return False
    if var.spec.size == 1:
        return True
    shape = (1,) * (4 - len(var.shape)) + var.shape
    return shape == (1, y.shape[1], 1, 1)


def _derived(
    pool: ConstantPool, recipe: Hashable, parents: list[Var], shape: tuple[int, ...], make: Callable[..., np.ndarray]
) -> Var:
    constant = pool.derive(recipe, [v.constant for v in parents], make)
    return Var(parents[0].id, "", TensorSpec(shape, parents[0].dtype), constant)


def _add_bias(conv: Node, addend: Var, pool: ConstantPool) -> Node:
    channels = conv.outputs[0].shape[1]
    parents = [conv.inputs[2], addend] if conv.params.has_bias else [addend]

    def total(*terms: np.ndarray) -> np.ndarray:
        out = np.zeros(channels, np.float32)
        for t in terms:
            out = out + t.reshape(-1)
        return out.reshape(1, -1, 1, 1)

    bias = _derived(pool, ("bias", channels), parents, (1, channels, 1, 1), total)
    return Node(
        "FusedConv",
        replace(conv.params, has_bias=True),
        [*conv.inputs[:2], bias, *([conv.inputs[-1]] if conv.params.has_z else [])],
        conv.outputs,
        conv.name,
    )


def _scaled_bias(bias: np.ndarray, factor: np.ndarray) -> np.ndarray:
    result: np.ndarray = bias.reshape(1, -1, 1, 1) * factor.reshape(1, -1, 1, 1)
    return result


def _scale(conv: Node, factor: Var, pool: ConstantPool) -> Node:
    """Multiplies weights and bias by a factor."""
    x, w = conv.inputs[:2]
    groups = conv.params.groups

    def scaled(weights: np.ndarray, f: np.ndarray) -> np.ndarray:
        channels = weights.shape[0] if weights.ndim == 4 else groups * weights.shape[1]
        f = np.broadcast_to(f.reshape(-1), (channels,))
        f = f.reshape(-1, 1, 1, 1) if weights.ndim == 4 else f.reshape(groups, -1, 1, 1, 1)
        result: np.ndarray = (weights.astype(np.float64) * f).astype(np.float32)
        return result

    inputs = [x, _derived(pool, ("scale", groups), [w, factor], w.shape, scaled)]
    if conv.params.has_bias:
        bias = conv.inputs[2]
        shape = (1, conv.outputs[0].shape[1], 1, 1)
        inputs.append(_derived(pool, "scale_bias", [bias, factor], shape, _scaled_bias))
    return Node("FusedConv", conv.params, inputs, conv.outputs, conv.name)
