"""Transposed convolutions in float32, in both ways of computing them, against sums in double precision."""

import math

import numpy as np
import pytest
from support.one_node import INSTRUCTION_SETS, relative_error, run_node

from megengine_lite._core.cpu.lower import deconv
from megengine_lite._core.cpu.lower.deconv import phases
from megengine_lite._core.ir.params import Convolution, ConvolutionMode, ConvolutionSparse

DECONVOLUTIONS = {  # images, channels, rows, columns, channels of the output, filter, stride, padding, dilation, groups
    "2x2 stride 2": (1, 20, 7, 9, 24, 2, 2, 0, 1, 1),
    "3x3 stride 2": (2, 16, 7, 9, 16, 3, 2, 1, 1, 1),
    "4x4 stride 2 depthwise": (1, 20, 7, 5, 20, 4, 2, 1, 1, 20),
    "5x5 stride 3 groups": (1, 12, 7, 5, 8, 5, 3, 1, 1, 4),
    "1x1 stride 3": (1, 16, 7, 5, 16, 1, 3, 0, 1, 1),
    "dilation and stride share a factor": (1, 16, 7, 5, 16, 3, 2, 1, 2, 1),
    "dilated": (1, 5, 8, 5, 3, 3, 2, 2, 3, 1),
    "to one channel": (2, 20, 6, 50, 1, 4, 2, 1, 1, 1),
    "to three channels": (1, 8, 40, 70, 3, 3, 1, 1, 1, 1),
    "stride 5 groups": (3, 8, 3, 4, 6, 7, 5, 2, 1, 2),
    "one pixel": (3, 20, 1, 1, 24, 4, 1, 0, 1, 1),
    "one pixel of an image": (1, 20, 1, 1, 24, 4, 1, 0, 1, 1),
    "one pixel of groups": (2, 8, 1, 1, 6, 3, 2, 0, 1, 2),
    "one pixel, padded": (2, 8, 1, 1, 6, 3, 2, 1, 1, 1),
    "one pixel, dilated": (1, 8, 1, 1, 6, 3, 1, 0, 2, 1),
}
WAYS = {"phases": {"conv_direct_f32", "conv_depthwise_f32"}, "columns": {"gemm_f32", "gemm_row_f32"}}


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("mode", list(ConvolutionMode))
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sizes", DECONVOLUTIONS.values(), ids=DECONVOLUTIONS)
def test_transposed_convolution_scatters(sizes, way, mode, isa, monkeypatch):
    """In both ways, whichever is cheaper."""
    monkeypatch.setattr(deconv, "cost_of_phases", lambda ctx, node: math.inf if way == "columns" else 0.0)
    n, ic, h, w, oc, k, s, p, d, g = sizes
    rng = np.random.default_rng(1)
    x = rng.standard_normal((n, ic, h, w)).astype(np.float32)
    weight = rng.standard_normal((g, ic // g, oc // g, k, k)).astype(np.float32)
    turned = weight[..., ::-1, ::-1] if mode == ConvolutionMode.CONVOLUTION else weight
    extent = (k - 1) * d + 1
    full = np.zeros((n, g, oc // g, (h - 1) * s + extent, (w - 1) * s + extent))
    for i, j in np.ndindex(k, k):
        part = full[..., i * d : i * d + (h - 1) * s + 1 : s, j * d : j * d + (w - 1) * s + 1 : s]
        part += np.einsum("ngihw,gio->ngohw", x.reshape(n, g, ic // g, h, w).astype(np.float64), turned[..., i, j])
    full = full.reshape(n, oc, *full.shape[3:])
    expected = full[:, :, p : full.shape[2] - p, p : full.shape[3] - p]
    params = Convolution(
        mode=mode, pad_h=p, pad_w=p, stride_h=s, stride_w=s, dilate_h=d, dilate_w=d, sparse=ConvolutionSparse(g > 1)
    )
    stored = weight if g > 1 else weight[0]
    results = []
    for threads in 1, 2:
        actual, kernels = run_node("ConvolutionBackwardData", params, [stored, x], {0}, isa, threads)
        assert WAYS[way] & set(kernels)
        assert relative_error(actual, expected) < 1e-5
        results.append(actual)
    np.testing.assert_array_equal(*results)
    if way == "columns" and mode == ConvolutionMode.CROSS_CORRELATION:  # the filter need not be constant
        actual, kernels = run_node("ConvolutionBackwardData", params, [stored, x], (), isa)
        assert set(kernels) <= {"gemm_f32", "gemm_row_f32", "sum_windows_f32"}
        assert relative_error(actual, expected) < 1e-5


def test_phases_cover_every_output_once():
    for size, kernel, stride, dilate, pad in [(13, 4, 2, 1, 1), (2, 3, 3, 1, 0), (20, 3, 4, 6, 2)]:
        outputs = [f.first + t * stride for f in phases(size, kernel, stride, dilate, pad) for t in range(f.count)]
        assert sorted(outputs) == list(range(size))
