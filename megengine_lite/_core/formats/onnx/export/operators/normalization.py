"""Normalization and softmax."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.formats.onnx.export.graph_writer import GraphWriter, OnnxValue
from megengine_lite._core.formats.onnx.export.table import NodeCall, exports
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.ir.image_layouts import Format
from megengine_lite._core.ir.params import BNFwdMode
from megengine_lite._core.operators.norm import batch_axes

_E = ElementType


@exports("Softmax")
def _softmax(call: NodeCall) -> None:
    call.give_real(call.writer.op("Softmax", call.real(0), axis=call.params.axis % call.ndim(0)))


def _moments(w: GraphWriter, x: OnnxValue, axes: Sequence[int]) -> tuple[OnnxValue, OnnxValue, OnnxValue]:
    """Mean, the distances from it, and the biased variance; the axes stay."""
    mean = w.reduce("ReduceMean", x, axes)
    centred = x - mean
    return mean, centred, w.reduce("ReduceMean", centred * centred, axes)


@exports("BatchNorm")
def _batch_norm(call: NodeCall) -> None:
    w, p = call.writer, call.params
    last = len(call.node.outputs) - 1
    if p.fwd_mode == BNFwdMode.INFERENCE:
        for k in (0, 1):
            call.give_real(call.real(3 + k), k)
        statistics = call.known(1).shape
        if len(statistics) > 1 and statistics[1] == np.prod(statistics):
            vectors = [w.reshape(call.real(k), -1) for k in range(1, 5)]
            layout = call.form(0).layout
            x = call.real(0, layout if layout == Format.NHWC else None)
            call.give_real(w.op("BatchNormalization", x, *vectors, epsilon=float(p.epsilon)), last)
            return
        centred, variance = call.real(0) - call.real(3), call.real(4)
    else:
        mean, centred, variance = _moments(w, call.real(0), batch_axes(p))
        _give_statistics(call, mean, variance)
    deviation = w.op("Sqrt", variance + float(p.epsilon))
    call.give_real(centred / deviation * call.real(1) + call.real(2), last)


def _give_statistics(call: NodeCall, mean: OnnxValue, variance: OnnxValue) -> None:
    """Running mean and variance, if they are inputs, then the mean and the inverse deviation of this run."""
    w, p = call.writer, call.params
    here = [mean, 1.0 / w.op("Sqrt", variance + float(p.epsilon))]
    running: list[OnnxValue] = []
    if call.count == 5 and any(call.wanted[:2]):
        sizes = w.op("Gather", w.shape(call.real(0)), w.integers(*batch_axes(p)), axis=0)
        count = w.as_kind(w.reduce("ReduceProd", sizes, [0]), _E.FLOAT)
        unbiased = variance * count / (count - 1.0)
        for place, new in ((3, mean), (4, unbiased)):
            old = call.real(place)
            running.append(old + float(p.avg_factor) * (new - old))
    first = 2 if call.count == 5 else 0
    for k, value in enumerate(running):
        call.give_real(value, k)
    for k, value in enumerate(here):
        call.give_real(value, first + k)


@exports("LayerNorm", "GeneralNorm")
def _axes_norm(call: NodeCall) -> None:
    w, p, rank = call.writer, call.params, call.ndim(0)
    if call.node.op == "LayerNorm":
        begin, end = rank - p.normalized_dim, rank
    else:
        begin, end = p.axis_start, p.axis_end
    x, axes = call.real(0), list(range(begin, end))
    if end == rank and p.affine and w.opset >= 17 and not any(call.wanted[1:]):
        result = w.op("LayerNormalization", x, call.real(1), call.real(2), axis=begin, epsilon=float(p.eps))
        call.give_real(result)
        return
    mean, centred, variance = _moments(w, x, axes)
    inverse = 1.0 / w.op("Sqrt", variance + float(p.eps))
    result = centred * inverse
    if p.affine:
        behind = list(range(end - begin, rank - begin))
        weight, bias = (w.unsqueeze(call.real(k), behind) for k in (1, 2))
        result = result * weight + bias
    call.give_real(result)
    for k, value in ((1, mean), (2, inverse)):
        if call.wanted[k]:
            call.give(w.squeeze(value, axes if len(axes) < rank else axes[1:]), k)


@exports("GroupNorm", "InstanceNorm")
def _channel_norm(call: NodeCall) -> None:
    w, p, rank = call.writer, call.params, call.ndim(0)
    x = call.real(0)
    groups = p.group if call.node.op == "GroupNorm" else call.dim(0, 1, "the number of channels")
    if call.node.op == "InstanceNorm" and p.affine and not any(call.wanted[1:]):
        call.give_real(w.op("InstanceNormalization", x, call.real(1), call.real(2), epsilon=float(p.eps)))
        return
    rows = w.reshape(x, 0, groups, -1)
    if any(call.wanted[1:]):
        mean, centred, variance = _moments(w, rows, [2])
        normal = centred / w.op("Sqrt", variance + float(p.eps))
        for k, value in ((1, mean), (2, variance)):
            call.give(w.squeeze(value, [2]), k)
    else:
        one, zero = w.constant(np.ones(groups, np.float32)), w.constant(np.zeros(groups, np.float32))
        normal = w.op("InstanceNormalization", rows, one, zero, epsilon=float(p.eps))
    result = w.op("Reshape", normal, w.shape(x))
    if p.affine:
        weight, bias = (w.unsqueeze(call.real(k), range(1, rank - 1)) for k in (1, 2))
        result = result * weight + bias
    call.give_real(result)


@exports("LRN")
def _local_response(call: NodeCall) -> None:
    p = call.params
    # ONNX divides alpha by the number of channels that are added up.
    alpha = float(np.float32(p.alpha) * np.float32(p.n))
    call.give_real(call.writer.op("LRN", call.real(0), size=int(p.n), alpha=alpha, beta=float(p.beta), bias=float(p.k)))
