"""Small quantized graphs, run by the kernels of one instruction set and by their definition."""

from __future__ import annotations

import numpy as np

from megengine_lite._core.ir.dtype import DType, DTypeCode
from megengine_lite._core.ir.graph import Graph
from megengine_lite._core.operators.reference import run_reference
from megengine_lite.kernels.common.shared_constants import OutputKind
from support.graphs import QuantizedBuilder
from support.instruction_sets import INSTRUCTION_SETS
from support.one_node import NOTHING, run_graph

__all__ = ["INSTRUCTION_SETS", "NO_OUTPUT", "QuantizedBuilder", "agree", "q8", "q32", "run_kernels", "u8"]

# Arguments of kernels that store their sums as they are.
NO_OUTPUT = {
    "kind": OutputKind.SUM, "activation": 0, "staged": 0, "z_mask": -1, "z_zero": 0, "y_zero": 0, "scale": 1,
    "mid_divisor": 1, "mid_low": 0, "mid_high": 0, "mid_scale": 1, "z_scale": 0, "act_a": 0, "act_b": 0, "y_scale": 1,
    "low": 0, "high": 0, "ties_even": 0,
}  # fmt: skip


def q8(scale):
    return DType(DTypeCode.QUANTIZED_S8, float(np.float32(scale)))


def u8(scale, zero_point):
    return DType(DTypeCode.QUANTIZED8_ASYMM, float(np.float32(scale)), zero_point)


def q32(scale):
    return DType(DTypeCode.QUANTIZED_S32, float(np.float32(scale)))


def run_kernels(graph: Graph, values, isa, *, threads=1, fuse=True, forced=NOTHING):
    """The outputs, and the names of the steps (``"numpy"`` for Python steps)."""
    arrays, kernels = run_graph(
        graph, lambda var: np.ascontiguousarray(values[var.name]), isa, threads=threads, fuse=fuse, forced=forced
    )
    return arrays, [name or "numpy" for name in kernels]


def agree(builder: QuantizedBuilder, *outputs, isa, exact=0.995, fuse=True, native=True, forced=NOTHING):
    """Runs a graph both ways, with 1 and 3 threads; gives the names of the steps.

    Bytes may differ by one step, in a share of ``1 - exact`` of the places: definitions divide by the scale where the
    original and the kernels multiply with its reciprocal. Everything else must be equal.
    """
    graph = builder.finish(*outputs)
    expected = run_reference(graph, builder.values)
    steps = []
    for threads in (1, 3):
        actual, steps = run_kernels(graph, builder.values, isa, threads=threads, fuse=fuse, forced=forced)
        for got, want in zip(actual, expected, strict=True):
            assert got.shape == want.shape
            if got.dtype.itemsize == 1:
                difference = np.abs(got.astype(int) - want.astype(int))
                assert difference.max(initial=0) <= 1
                assert (difference == 0).mean() >= exact
            elif got.dtype.kind == "i":
                np.testing.assert_array_equal(got, want)
            else:
                np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6 * np.abs(want).max(initial=0))
    assert not native or "numpy" not in steps
    return steps
