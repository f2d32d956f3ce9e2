"""Normalization: the original asks for four dimensions, or for float32."""

from __future__ import annotations

import math

from megengine_lite._core.compile.transform.counterparts.pieces import Pieces, dtype_of, shape_of
from megengine_lite._core.compile.transform.counterparts.table import written
from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import FLOAT32
from megengine_lite._core.ir.graph import AnyNode, AnyVar, Var


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
    """The original needs an axis in front of those that are normalized."""
    p, inputs = node.params, node.inputs
    if p.axis_start:
        return w.results(node.op, p, inputs, len(node.outputs), node.output_dtype)
    moved = params.GeneralNorm(affine=p.affine, eps=p.eps, axis_start=1, axis_end=p.axis_end + 1)
    wide = [w.with_first_axis(inputs[0]), *inputs[1:]]
    normal, *others = w.results(node.op, moved, wide, len(node.outputs), node.output_dtype)
    return [w.without_first_axis(normal), *others]


@written("LRN", any_size=True)
def _across_channels(w: Pieces, node: AnyNode) -> Var:
    x = node.inputs[0]
    return w.converted(w.make(node.op, node.params, [w.converted(x, FLOAT32)]), dtype_of(x))
