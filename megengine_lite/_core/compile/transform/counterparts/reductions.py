"""Reductions of several axes and of any type, softmax, and sums up to each element."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from megengine_lite._core.compile.transform.counterparts.arithmetic import truncated_quotient
from megengine_lite._core.compile.transform.counterparts.indexing import not_from_end
from megengine_lite._core.compile.transform.counterparts.pieces import Pieces, dtype_of, numbers_of, shape_of
from megengine_lite._core.compile.transform.counterparts.table import NotWritten, written
from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import FLOAT32, INT32
from megengine_lite._core.ir.graph import AnyNode, AnyVar, Var
from megengine_lite._core.ir.onnx_reduction import OnnxReduction
from megengine_lite._core.ir.params import ElemwiseMode, ElemwiseMultiTypeMode, ReduceMode
from megengine_lite._core.operators.base import normalize_axis

_R = OnnxReduction
_MODES = {
    _R.SUM: ReduceMode.SUM,
    _R.MEAN: ReduceMode.MEAN,
    _R.MAX: ReduceMode.MAX,
    _R.MIN: ReduceMode.MIN,
    _R.PRODUCT: ReduceMode.PRODUCT,
}
_MOST_STEPS = 256
_EMPTY = "the original reduces no empty tensors"


@written("OnnxReduce", any_size=True)
def _reduce(w: Pieces, node: AnyNode) -> Var:
    p, x = node.params, node.inputs[0]
    shape, dtype = shape_of(x), dtype_of(x)
    axes = p.axes
    if axes is None:
        given = numbers_of(node.inputs[1])
        if given is None:
            raise NotWritten("its axes are computed")
        axes = sorted({normalize_axis(node, int(a), len(shape)) for a in given.reshape(-1)})
        axes = axes or ([] if p.none_is_none else range(len(shape)))
    mode = _MODES[OnnxReduction(p.mode)]
    if 0 in shape and mode not in (ReduceMode.SUM, ReduceMode.PRODUCT):
        raise NotWritten(_EMPTY)
    carrier = FLOAT32 if dtype.is_float else INT32
    carried = w.converted(x, carrier)
    if mode == ReduceMode.MEAN and carrier == INT32:
        total = w.reduced(ReduceMode.SUM, carried, axes)
        count = math.prod(shape[a] for a in axes)
        w.takes_axes.update(axes)
        return w.converted(truncated_quotient(w, total, w.number(count, total)), dtype)
    found = w.reduced(mode, carried, axes)
    if mode in (ReduceMode.MAX, ReduceMode.MIN) and carrier == FLOAT32 and not p.is_finite:
        found = _with_infinity(w, carried, found, axes, -math.inf if mode == ReduceMode.MAX else math.inf)
    return w.converted(found, dtype)


def _with_infinity(w: Pieces, x: Var, found: Var, axes: Sequence[int], infinity: float) -> Var:
    """Extremes of which those of nothing but infinities are infinite: the original has the last finite number there."""
    is_other = w.compare(ElemwiseMultiTypeMode.NEQ, x, w.number(infinity, x))
    some = w.reduced(ReduceMode.MAX, w.converted(is_other, FLOAT32), axes)
    return w.choice(some, found, w.number(infinity, x))


@written("Argmax", "Argmin", any_size=True)
def _position(w: Pieces, node: AnyNode) -> Var:
    """The first place of an extreme. The original compares as float32, which does not have all numbers of int32."""
    p, x = node.params, node.inputs[0]
    if dtype_of(x) != INT32:
        return w.make(node.op, p, [w.converted(x, FLOAT32)])
    axis = normalize_axis(node, p.axis, len(shape_of(x)))
    best = w.reduced(ReduceMode.MAX if node.op == "Argmax" else ReduceMode.MIN, x, [axis])
    return w.make("Argmax", p, [w.converted(w.compare(ElemwiseMultiTypeMode.EQ, x, best), FLOAT32)])


@written("Softmax", any_size=True)
def _shares(w: Pieces, node: AnyNode) -> Var:
    """Softmax in pieces. The original's compares with 0, too, and has NaN where all numbers of a row are below -87."""
    x, dtype = node.inputs[0], dtype_of(node.inputs[0])
    axis = normalize_axis(node, node.params.axis, len(shape_of(x)))
    if 0 in shape_of(x):
        raise NotWritten(_EMPTY)
    carried = w.converted(x, FLOAT32)
    shifted = w.subtract(carried, w.reduced(ReduceMode.MAX, carried, [axis]))
    exponentials = w.elemwise(ElemwiseMode.EXP, shifted)
    return w.converted(w.divide(exponentials, w.reduced(ReduceMode.SUM, exponentials, [axis])), dtype)


@written("Cumulative", any_size=True)
def _cumulative(w: Pieces, node: AnyNode) -> Var:
    p, (x, place) = node.params, node.inputs
    number, dtype, shape = numbers_of(place), dtype_of(x), shape_of(x)
    if number is None:
        raise NotWritten("its axis is computed")
    axis = normalize_axis(node, int(number.item()), len(shape))
    carried = w.converted(x, FLOAT32 if dtype.is_float else INT32)
    if not p.product:
        parameters = params.Cumsum(axis=axis, exclusive=p.exclusive, reverse=p.reverse)
        return w.converted(w.make("Cumsum", parameters, [carried]), dtype)
    w.takes_axes.add(axis)
    w.takes_sizes |= p.exclusive
    if not 0 < shape[axis] <= _MOST_STEPS:
        raise NotWritten(f"products of {shape[axis]} elements are not written, only of 1 to {_MOST_STEPS}")
    return w.converted(_products(w, carried, axis, p.exclusive, p.reverse), dtype)


def _products(w: Pieces, x: Var, axis: int, exclusive: bool, reverse: bool) -> Var:
    """The products of the elements up to each one."""
    count = x.shape[axis]
    parts = [w.part(x, axis, k, k + 1) for k in range(count)]
    ordered = parts[::-1] if reverse else parts
    totals: list[Var] = [w.constant(np.ones(parts[0].shape), x.dtype)] if exclusive else [ordered[0]]
    for part in ordered[: count - 1] if exclusive else ordered[1:]:
        totals.append(w.multiply(totals[-1], part))
    return w.joined(totals[::-1] if reverse else totals, axis)


@written("LikelihoodLoss")
def _loss(w: Pieces, node: AnyNode) -> Var:
    """Of all classes the right one is chosen, by comparing their numbers."""
    p, (logs, right, *weights) = node.params, node.inputs
    dtype, shape = dtype_of(logs), shape_of(logs)
    x, given = w.converted(logs, FLOAT32), w.converted(right, INT32)
    classes = given
    if p.ignored is not None:
        differs = w.compare(ElemwiseMultiTypeMode.NEQ, given, w.number(p.ignored, given))
        classes = w.at_most(w.number(1, given), w.converted(differs, INT32), given)
    rest = (1,) * (len(shape) - 2)
    every = np.arange(shape[1], dtype=np.int32)
    numbers = w.constant(every.reshape(1, -1, *rest))
    known = w.taken(
        w.constant(every), 0, not_from_end(w, w.reshaped(classes, (math.prod(shape_of(right)),)), shape[1])
    )  # it checks them
    wanted = w.reshaped(known, (shape[0], 1, *shape[2:]))
    is_right = w.converted(w.compare(ElemwiseMultiTypeMode.EQ, numbers, wanted), FLOAT32)
    one = w.number(1, x)
    factor: AnyVar = w.expanded(one, shape_of(right))
    if weights:
        of_class = w.reshaped(w.converted(weights[0], FLOAT32), (1, shape[1], *rest))
        chosen = w.at_most(one, is_right, of_class)
        factor = w.reshaped(w.reduced(ReduceMode.SUM, chosen, [1]), shape_of(right))
    found = w.reshaped(w.reduced(ReduceMode.SUM, w.at_most(one, is_right, x), [1]), shape_of(right))
    losses = w.elemwise(ElemwiseMode.NEGATE, w.multiply(found, factor))
    if p.ignored is not None:
        counts = w.converted(differs, FLOAT32)
        losses, factor = w.at_most(one, counts, losses), w.at_most(one, counts, factor)
    if p.reduction == "none":
        return w.converted(losses, dtype)
    total, weight = (w.reshaped(w.reduced(ReduceMode.SUM, v, range(len(shape) - 1)), (1,)) for v in (losses, factor))
    return w.converted(total if p.reduction == "sum" else w.divide(total, weight), dtype)
