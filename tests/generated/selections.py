"""Steps that sort, select and sample, steps that only numpy can run, and steps whose shapes depend on values."""

from __future__ import annotations

import numpy as np

from generated.elemwise import M, activate, binary
from generated.maker import Maker, Rejected
from generated.moves import shuffle
from megengine_lite._core.ir.dtype import FLOAT32, INT32
from megengine_lite._core.ir.params import (
    Argsort,
    ArgsortOrder,
    Axis,
    CondTake,
    CondTakeMode,
    Convolution3D,
    ConvolutionFormat,
    FakeQuant,
    Images2Neibs,
    InterpolationMode,
    Resize,
    ROIAlign,
    ROIAlignMode,
    TopK,
    TopKMode,
)


def _rows(m: Maker):
    return m.pick(lambda v: v.dtype == FLOAT32 and len(v.shape) == 2)


def argmax_step(m: Maker) -> None:
    """Positions of the largest or smallest elements, and perhaps these elements themselves."""
    x = m.pick(lambda v: v.dtype == FLOAT32 and len(v.shape) > 1)
    axis = m.rng.randrange(1, len(x.shape))
    index = m.op(m.rng.choice(("Argmax", "Argmin")), Axis(axis=axis), x)
    m.keep(index)
    if m.chance(0.6):
        flat = m.drop_axis(index, axis)
        m.keep(m.op("IndexingOneHot", Axis(axis=axis), x, flat))


def top_step(m: Maker) -> None:
    x = _rows(m)
    k = m.rng.randrange(1, x.shape[1] + 1) * m.rng.choice((1, -1))
    mode = m.rng.choice(list(TopKMode))
    found = m.add("TopK", TopK(mode=mode), x, m.integers(k), outputs=1 if mode == TopKMode.KTH_ONLY else 2)
    m.keep(*found)


def sort_step(m: Maker) -> None:
    m.keep(*m.add("Argsort", Argsort(order=m.rng.choice(list(ArgsortOrder))), _rows(m), outputs=2))


def cond_take_step(m: Maker) -> None:
    """Elements chosen by whole numbers of an input; how many there are is seen in each run."""
    x = m.pick(lambda v: v.dtype == FLOAT32)
    mask = m.data(x.shape, INT32)
    m.pool.pop()
    params = CondTake(mode=m.rng.choice((CondTakeMode.GT, CondTakeMode.LEQ)), val=0.0)
    taken, places = m.add("CondTake", params, x, mask, outputs=2)
    if not taken.shape[0]:
        raise Rejected("nothing is taken")
    m.keep(activate(m, taken), places)


def resize_by_value_step(m: Maker) -> None:
    """A resize to a size that is an input."""
    x = m.pick_image()
    sizes = [np.array([m.rng.randrange(1, 9), m.rng.randrange(1, 9)], np.int32) for _ in range(3)]
    size = m.given(sizes)
    mode = m.rng.choice((InterpolationMode.NEAREST, InterpolationMode.LINEAR))
    m.keep(m.op("Resize", Resize(imode=mode, format=ConvolutionFormat.NCHW), x, size))


def fake_quant_step(m: Maker) -> None:
    """A node that numpy runs, between others that kernels run."""
    x = m.pick(lambda v: v.dtype == FLOAT32)
    params = FakeQuant(qmin=-128, qmax=127)
    scale, zero = m.number(0.0173 + 0.01 * m.rng.random(), x), m.number(0.0, x)
    m.keep(m.op("FakeQuant", params, x, scale, zero))


def volume_step(m: Maker) -> None:
    """Channels taken as depth, through a convolution of volumes, and back."""
    x = m.pick_image(half=False)
    n, c, h, w = x.shape
    depth = next((d for d in (2, 3, 4) if c % d == 0), 0)
    if not depth:
        raise Rejected("does not divide")
    out, k = m.rng.choice((1, 2, 8)), m.rng.choice((1, 3))
    weight = m.weight((out, c // depth, k, k, k), terms=c // depth * k**3)
    pad = k // 2
    params = Convolution3D(pad_d=pad, pad_h=pad, pad_w=pad)
    y = m.op("Convolution3D", params, m.reshape(x, n, c // depth, depth, h, w), weight)
    m.keep(activate(m, m.reshape(y, n, out * depth, h, w), 0.5))


def regions_step(m: Maker) -> None:
    x = m.pick_image(half=False)
    h, w = x.shape[2:]
    rois = np.empty((m.rng.randrange(1, 4), 5), np.float32)
    for roi in rois:
        y, z = m.rng.random() * h, m.rng.random() * w
        roi[:] = m.rng.randrange(1 if m.dynamic else x.shape[0]), z, y, z + m.rng.random() * w, y + m.rng.random() * h
    params = ROIAlign(mode=ROIAlignMode.AVERAGE, pooled_height=2, pooled_width=3, sample_height=2, sample_width=1)
    m.keep(m.add("ROIAlign", params, x, m.typed(rois, FLOAT32), outputs=2)[0])


def windows_step(m: Maker) -> None:
    """All windows of an image as tokens, multiplied by a matrix: a convolution written out."""
    x = m.pick_image(half=False)
    n, c = x.shape[:2]
    k = m.rng.choice((2, 3))
    y = m.op("Images2Neibs", Images2Neibs(window_h=k, window_w=k, stride_h=k, stride_w=k), x)
    h, w = y.shape[2:4]
    rows = m.reshape(shuffle(m, y, 0, 2, 3, 1, 4, 5), n, h * w, c * k * k)
    m.keep(binary(m, M.MUL, rows, m.weight((c * k * k,))))
