"""Small graphs made by hand, and sessions that run them."""

from __future__ import annotations

import numpy as np

from megengine_lite._core.formats.loaded_model import LoadedModel
from megengine_lite._core.ir.dtype import FLOAT32, DType, from_numpy
from megengine_lite._core.ir.graph import AnyNode, AnyVar, Constant, ModelGraph, TensorSpec, Var
from megengine_lite._core.operators.reference import run_reference
from megengine_lite._core.runtime.session import Session
from megengine_lite._core.session_config import SessionConfig


class GraphBuilder:
    """Adds variables and nodes; ``finish`` gives the graph."""

    def __init__(self):
        self.nodes = []
        self.inputs = []
        self.count = 0

    def _var(self, name, spec=None, const=None):
        self.count += 1
        return (AnyVar if spec is None else Var)(self.count, name, spec, const)

    def input(self, name, shape, dtype: DType = FLOAT32):
        var = self._var(name, TensorSpec(tuple(shape), dtype))
        self.inputs.append(var)
        return var

    def constant(self, value, dtype=None):
        value = np.asarray(value)
        spec = TensorSpec(value.shape, dtype or from_numpy(value.dtype))
        var = self._var("", spec)
        var.const = Constant(value, ("test", var.id))
        return var

    def node(self, op, params, inputs, outputs=1, name=""):
        outs = [self._var(f"{name or op}{self.count}") for _ in range(outputs)]
        self.nodes.append(AnyNode(op, params, inputs, outs, name))
        return outs[0] if outputs == 1 else outs

    def finish(self, *outputs):
        return ModelGraph(self.nodes, self.inputs, list(outputs), [v.name for v in outputs])


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
        self.nodes.append(AnyNode(op, params, inputs, [out], "", dtype))
        return out


def session_of(graph, **config):
    """A session that runs a graph."""
    model = LoadedModel(
        graph=graph,
        input_names=[v.name for v in graph.inputs],
        output_names=graph.output_names,
        default_inputs={},
        container="v2",
        version=1,
        metadata=None,
    )
    return Session(model, SessionConfig(**config))


def run(session, **inputs):
    """Sets all inputs, runs, and gives copies of the outputs in order."""
    for name, value in inputs.items():
        array = np.ascontiguousarray(value)
        session.set_array(name, array)
    session.run()
    outputs = []
    for name in session.output_names:
        outputs.append(session.output(name).array().copy())
    return outputs


def overwrite(storage, byte):
    """Sets all bytes of host memory."""
    np.asarray(memoryview(storage))[...] = byte


def check_graph(graph, inputs, *, isa, threads=1, **config):
    """Runs a float32 graph twice, the second time in memory full of NaN, against its definition."""
    expected = run_reference(graph, inputs)
    session = session_of(graph, isa=isa, threads=threads, **config)
    run(session, **inputs)
    session.arena._memory[...] = 255
    for plan in session.plans():
        for buffer in plan.buffers:
            overwrite(buffer, 255)
    for got, want in zip(run(session, **inputs), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * np.abs(want).max())
