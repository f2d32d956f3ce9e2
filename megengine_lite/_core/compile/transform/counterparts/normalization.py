"""Normalization: the original asks for four dimensions, or for float32, or is not exact."""

from __future__ import annotations

import math
from collections.abc import Sequence

from megengine_lite._core.compile.transform.counterparts.pieces import Pieces, dtype_of, shape_of
from megengine_lite._core.compile.transform.counterparts.table import written
from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import FLOAT32
from megengine_lite._core.ir.graph import AnyNode, AnyVar, Var
from megengine_lite._core.ir.params import AxisDesc, AxisMethod, ElemwiseMode, ReduceMode


@written("GroupNorm", "BatchNorm", "InstanceNorm", any_size=True)
def _as_images(w: Pieces, node: AnyNode) -> list[Var]:
    """A normalization of channels or of groups of them."""
    shape = shape_of(node.inputs[0])
    if len(shape) == 4:
        return w.results(node.op, node.params, node.inputs, len(node.outputs), node.output_dtype)
    if len(shape) == 3:
        wide = [w.with_last_axis(v) if len(shape_of(v)) == 3 else v for v in node.inputs]
        found = w.results(node.op, node.params, wide, len(node.outputs), node.output_dtype)
        return [
            w.without_last_axis(v) if len(v.shape) > len(shape_of(old)) else v
            for v, old in zip(found, node.outputs, strict=True)
        ]
    w.takes_sizes = True
    images = (*shape[:2], math.prod(shape[2:]), 1)
    inputs: list[AnyVar] = [w.reshaped(node.inputs[0], images)]
    for var in node.inputs[1:]:
        per_channel = len(shape_of(var)) == len(shape)
        inputs.append(w.reshaped(var, (1, shape[1], 1, 1)) if per_channel else var)
    found = w.results(node.op, node.params, inputs, len(node.outputs), node.output_dtype)
    return [w.reshaped(v, shape_of(old)) for v, old in zip(found, node.outputs, strict=True)]


@written("GeneralNorm", any_size=True)
def _of_some_axes(w: Pieces, node: AnyNode) -> list[Var]:
    """In pieces: the original takes the square of the mean from the mean square, in float32. Of rows whose mean is a
    hundred times their deviation, three digits are left. It also needs an axis in front of those that are normalized.
    """
    p, (x, *weights) = node.params, node.inputs
    axes, ndim = range(p.axis_start, p.axis_end), len(shape_of(x))
    carried = w.converted(x, FLOAT32)
    mean = w.reduced(ReduceMode.MEAN, carried, axes)
    centred = w.subtract(carried, mean)
    variance = w.reduced(ReduceMode.MEAN, w.multiply(centred, centred), axes)
    deviation = w.elemwise(ElemwiseMode.SQRT, w.add(variance, w.number(p.eps, variance)))
    y = w.divide(centred, deviation)
    for how, given in zip((w.multiply, w.add), weights, strict=False):
        weight: AnyVar = w.converted(given, FLOAT32)
        for _ in range(p.axis_end, ndim):
            weight = w.with_last_axis(weight)
        y = how(y, weight)
    inverse = w.divide(w.number(1, deviation), deviation)
    return [w.converted(y, dtype_of(x)), *(_without(w, v, axes) for v in (mean, inverse))]


def _without(w: Pieces, x: Var, axes: Sequence[int]) -> Var:
    """Without axes of length 1; one of them stays if there are no others."""
    removed = axes[1:] if len(axes) == len(x.shape) else axes
    if not removed:
        return x
    items = tuple(AxisDesc(AxisMethod.REMOVE, axis) for axis in reversed(removed))
    return w.make("AxisAddRemove", params.AxisAddRemove(desc=items), [x])


@written("LRN", any_size=True)
def _across_channels(w: Pieces, node: AnyNode) -> Var:
    x = node.inputs[0]
    return w.converted(w.make(node.op, node.params, [w.converted(x, FLOAT32)]), dtype_of(x))
