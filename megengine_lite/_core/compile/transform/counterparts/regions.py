"""Regions of images."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np

from megengine_lite._core.compile.transform.counterparts.indexing import not_from_end
from megengine_lite._core.compile.transform.counterparts.pieces import Pieces, dtype_of, shape_of
from megengine_lite._core.compile.transform.counterparts.table import NotWritten, written
from megengine_lite._core.ir.dtype import FLOAT32, INT32
from megengine_lite._core.ir.graph import AnyNode, Var
from megengine_lite._core.ir.onnx_image_params import Regions
from megengine_lite._core.ir.params import ElemwiseMode, ReduceMode

_M = ElemwiseMode
_MOST_READ = 1 << 26
"""Elements of images that are read for all samples."""


@written("OnnxRoiAlign")
def _regions(w: Pieces, node: AnyNode) -> Var:
    """Each sample is made of four elements, which are looked up in images of which the channels come last."""
    p, (x, regions, numbers) = node.params, node.inputs
    dtype, (n, channels, height, width) = dtype_of(x), shape_of(x)
    count, ratio = shape_of(regions)[0], p.sampling_ratio
    if not ratio:
        raise NotWritten("how many samples it takes depends on the sizes of its regions")
    sides = [size * ratio for size in p.size]
    if not 0 < 4 * count * channels * math.prod(sides) <= _MOST_READ:
        raise NotWritten(f"the samples of {count} regions are too many, or none")
    images = w.reshaped(w.transposed(w.converted(x, FLOAT32), (0, 2, 3, 1)), (n, height * width, channels))
    edges = w.multiply(w.converted(regions, FLOAT32), w.constant(np.float32(p.scale)))
    if p.half_pixel:
        edges = w.subtract(edges, w.number(0.5, edges))
    taps = count * math.prod(sides)
    image = w.reshaped(not_from_end(w, numbers, n), (count, 1, 1))
    image = w.reshaped(w.expanded(image, (count, *sides)), (taps,))
    rows, columns = (_taps(w, p, edges, axis, length) for axis, length in enumerate((height, width)))
    parts = []
    for (y, of_row), (at, of_column) in itertools.product(rows, columns):
        row = w.multiply(w.reshaped(y, (count, sides[0], 1)), w.constant(np.int32(width)))
        places = w.add(row, w.reshaped(at, (count, 1, sides[1])))
        weights = w.multiply(w.reshaped(of_row, (count, sides[0], 1)), w.reshaped(of_column, (count, 1, sides[1])))
        found = w.taken(images, 0, image, w.reshaped(places, (taps,)))
        parts.append(w.multiply(found, w.reshaped(weights, (taps, 1))))
    mode = _M.MAX if p.takes_max else _M.ADD
    samples = functools.reduce(lambda a, b: w.elemwise(mode, a, b), parts)
    bins = w.reshaped(samples, (count, p.size[0], ratio, p.size[1], ratio, channels))
    made = w.reduced(ReduceMode.MAX if p.takes_max else ReduceMode.MEAN, bins, [2, 4])
    whole = w.transposed(w.reshaped(made, (count, *p.size, channels)), (0, 3, 1, 2))
    return w.converted(whole, dtype)


def _taps(w: Pieces, p: Regions, edges: Var, axis: int, length: int) -> list[tuple[Var, Var]]:
    """Both neighbours of the samples along one axis, with their weights, 0 outside of the image."""
    begin, end = (w.part(edges, 1, k, k + 1) for k in (1 - axis, 3 - axis))
    extent = w.subtract(end, begin)
    if not p.half_pixel:
        extent = w.elemwise(_M.MAX, extent, w.number(1, extent))
    count, ratio = p.size[axis], p.sampling_ratio
    steps = ((np.arange(count)[:, None] + (np.arange(ratio) + 0.5) / ratio) / count).reshape(1, -1)
    at = w.add(w.multiply(extent, w.constant(steps.astype(np.float32))), begin)
    one, zero = w.number(1, at), w.number(0, at)
    inside = w.at_most(w.number(-1, at), at, w.at_most(at, w.number(length, at), one))
    last = w.number(length - 1, at)
    at = w.elemwise(_M.MIN, w.elemwise(_M.MAX, at, zero), last)
    low = w.elemwise(_M.FLOOR, at)
    high = w.elemwise(_M.MIN, w.add(low, one), last)
    rest = w.subtract(at, low)
    return [
        (w.converted(low, INT32), w.multiply(w.subtract(one, rest), inside)),
        (w.converted(high, INT32), w.multiply(rest, inside)),
    ]
