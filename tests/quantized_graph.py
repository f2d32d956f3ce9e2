"""Small quantized graphs, run by the kernels of one instruction set and by their definition."""

from __future__ import annotations

import numpy as np
from fuzz.guarded_memory import INSTRUCTION_SETS, run_guarded
from graph_builder import GraphBuilder

from megengine_lite._core.compile.infer import infer_stage
from megengine_lite._core.config import SessionConfig
from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.cpu.lowering import HostStep
from megengine_lite._core.cpu.planner import build_plan
from megengine_lite._core.ir.dtype import FLOAT32, DType, DTypeCode
from megengine_lite._core.ir.graph import Constant, ConstantPool, Graph, Node, TensorSpec
from megengine_lite._core.operators.reference import run_reference

__all__ = ["INSTRUCTION_SETS", "QuantizedBuilder", "agree", "q8", "q32", "run_kernels", "u8"]


def q8(scale):
    return DType(DTypeCode.QUANTIZED_S8, float(np.float32(scale)))


def u8(scale, zero_point):
    return DType(DTypeCode.QUANTIZED8_ASYMM, float(np.float32(scale)), zero_point)


def q32(scale):
    return DType(DTypeCode.QUANTIZED_S32, float(np.float32(scale)))


class QuantizedBuilder(GraphBuilder):
    """A builder of graphs whose constants and results have types with scales."""

    def __init__(self, seed=0):
        super().__init__()
        self.rng = np.random.default_rng(seed)
        self.values = {}

    def random(self, shape, dtype, low=None, high=None):
        """Numbers of the whole range of the type, or between low and high, the extremes among them."""
        if dtype.is_float:
            return self.rng.standard_normal(shape).astype(np.float32)
        whole = dtype.quantized_range if dtype.is_quantized else (-128, 127)
        low, high = whole[0] if low is None else low, whole[1] if high is None else high
        value = self.rng.integers(low, high + 1, shape)
        value.reshape(-1)[:2] = [low, high][: value.size]
        return value.astype(dtype.storage)

    def data(self, shape, dtype=FLOAT32, **limits):
        """An input with random values."""
        var = self.input(f"x{self.count}", shape, dtype)
        self.values[var.name] = self.random(shape, dtype, **limits)
        return var

    def weight(self, shape, dtype, **limits):
        """A constant with random values."""
        return self.typed(self.random(shape, dtype, **limits), dtype)

    def typed(self, value, dtype):
        var = self._var("", TensorSpec(value.shape, dtype))
        var.const = Constant(value, ("test", var.id))
        return var

    def typed_node(self, op, params, inputs, dtype=None):
        """A node whose file names the type of its output."""
        out = self._var(f"{op}{self.count}")
        self.nodes.append(Node(op, params, inputs, [out], "", dtype))
        return out


def run_kernels(graph: Graph, values, isa, *, threads=1, fuse=True):
    """The outputs, and the names of the steps; memory is guarded, and filled with garbage before."""
    config = SessionConfig(threads=threads, isa=isa, fuse=fuse)

    def make_plan():
        stage = infer_stage(graph, 0, {v: v.spec for v in graph.inputs}, ConstantPool())
        return build_plan(stage, kernel_set(isa), ConstantPool(), config)

    arrays, plan = run_guarded(make_plan, lambda var: np.ascontiguousarray(values[var.name]))
    outputs = {slot.var: array for slot, array in zip(plan.outputs, arrays, strict=True)}
    steps = ["numpy" if isinstance(s, HostStep) else s.kernel.name for s in plan.steps]
    return [outputs[v] for v in graph.outputs], steps


def agree(builder: QuantizedBuilder, *outputs, isa, exact=0.995, fuse=True, native=True):
    """Runs a graph both ways, with 1 and 3 threads; gives the names of the steps.

    Bytes may differ by one step, in a share of ``1 - exact`` of the places: definitions divide by the scale where the
    original and the kernels multiply with its reciprocal. Everything else must be equal.
    """
    graph = builder.finish(*outputs)
    expected = run_reference(graph, builder.values)
    steps = []
    for threads in (1, 3):
        actual, steps = run_kernels(graph, builder.values, isa, threads=threads, fuse=fuse)
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
