"""Small graphs made by hand, for tests of passes and sessions."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from megengine_lite._core.config import SessionConfig
from megengine_lite._core.cpu.program import array_at
from megengine_lite._core.ir.dtype import FLOAT32, DType, from_numpy
from megengine_lite._core.ir.graph import Constant, Graph, Node, TensorSpec, Var
from megengine_lite._core.runtime.session import Session


class GraphBuilder:
    """Adds variables and nodes; ``finish`` gives the graph."""

    def __init__(self):
        self.nodes = []
        self.inputs = []
        self.count = 0

    def _var(self, name, spec=None, const=None):
        self.count += 1
        return Var(self.count, name, spec, const)

    def input(self, name, shape, dtype: DType = FLOAT32):
        var = self._var(name, TensorSpec(tuple(shape), dtype))
        self.inputs.append(var)
        return var

    def constant(self, value):
        value = np.asarray(value)
        spec = TensorSpec(value.shape, from_numpy(value.dtype))
        var = self._var("", spec)
        var.const = Constant(value, ("test", var.id))
        return var

    def node(self, op, params, inputs, outputs=1, name=""):
        outs = [self._var(f"{name or op}{self.count}") for _ in range(outputs)]
        self.nodes.append(Node(op, params, inputs, outs, name))
        return outs[0] if outputs == 1 else outs

    def finish(self, *outputs):
        return Graph(self.nodes, self.inputs, list(outputs), [v.name for v in outputs])


def session_of(graph, **config):
    """A session that runs a graph."""
    model = SimpleNamespace(
        graph=graph, input_names=[v.name for v in graph.inputs], output_names=graph.output_names, default_inputs={}
    )
    return Session(model, SessionConfig(**config))


def run(session, **inputs):
    """Sets all inputs, runs, and gives copies of the outputs in order."""
    for name, value in inputs.items():
        array = np.ascontiguousarray(value)
        session.set_input(name, array.ctypes.data, array.shape, from_numpy(array.dtype), array)
    session.run()
    outputs = []
    for name in session.output_names:
        address, shape, dtype, _ = session.output(name)
        size = int(np.prod(shape)) * dtype.itemsize
        outputs.append(np.frombuffer(array_at(address, size) if size else b"", dtype.storage).reshape(shape).copy())
    return outputs
