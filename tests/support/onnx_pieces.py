"""ONNX models in which an operator is written in pieces, and the steps that they become."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from megengine_lite._core.cpu.steps import HostStep
from megengine_lite._core.formats.load import load_model
from support.graphs import run, session_of
from support.onnx_models import expected, make

TYPES = {"float32": TensorProto.FLOAT, "bool": TensorProto.BOOL}
RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape, dtype=np.float32)


class Pieces:
    """A model under construction: ``p("Add", x, 1.0)`` is the name of a sum."""

    def __init__(self):
        self.nodes, self.numbers = [], {}

    def __call__(self, op, *inputs, **attributes):
        names = []
        for value in inputs:
            if not isinstance(value, str):
                self.numbers[f"c{len(self.numbers)}"] = np.asarray(value, np.float32 if np.ndim(value) == 0 else None)
                value = f"c{len(self.numbers) - 1}"
            names.append(value)
        out = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, names, [out], **attributes))
        return out


def check(pieces, x, tolerance=1e-5, **more):
    """Compares with the definition; gives the operators of the steps."""
    inputs = {"x": x, **more}
    out = pieces.nodes[-1].output[0]
    declared = [(name, TYPES[a.dtype.name], list(a.shape)) for name, a in inputs.items()]
    model = make(pieces.nodes, declared, [(out, TYPES["float32"], None)], pieces.numbers, 18)
    session = session_of(load_model(model.SerializeToString()).graph)
    (ours,), (theirs,) = run(session, **inputs), expected(model, **inputs)
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)
    (plan,) = session.plans()
    return [s.node.op if isinstance(s, HostStep) else s.origin.op for s in plan.steps if not _is_layout(s)]


def _is_layout(step):
    if isinstance(step, HostStep):
        return False
    return step.origin.op == "Relayout" or step.kernel.name == "fill_halo_blocked"
