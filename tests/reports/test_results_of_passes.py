"""What a run with fusion tells of its results is what they are in the model, whatever passes make on the way."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from support import onnx_models

from megengine_lite._core.formats.load import load_model
from megengine_lite._core.reports.model_report.layers import compare_layers, layer_results, stored_results
from megengine_lite._core.runtime.session import Session
from megengine_lite._core.session_config import SessionConfig

TOLERANCE = 2e-4

TEXTS = {
    # Additions move in front of the second reshape, so that the product has other numbers than in the file.
    "linear": """(float[2, 5, 8] x, float[8, 8] w) => (float[2, 5, 8] y)
        <float[8, 8] k, float[8] b = {1, 2, 3, 4, 5, 6, 7, 8}, int64[2] flat = {10, 8}, int64[3] back = {2, 5, 8}> {
            f = Reshape(x, flat)
            p = MatMul(f, w)
            r = Reshape(p, back)
            y = Add(r, b)
        }""",
    # The sum is read as a matrix, too: the file has it in three dimensions only.
    "residual": """(float[1, 5, 8] x, float[8, 8] w) => (float[1, 5, 8] y)
        <float[8] b = {1, 2, 3, 4, 5, 6, 7, 8}, float[1, 5, 8] z = {1}> {
            s = Sigmoid(x)
            n = LayerNormalization(s, b)
            p = MatMul(n, w)
            q = Add(p, b)
            y = Add(s, q)
        }""",
    # Branches write into the memory of the whole, which others have touched before.
    "joined": """(float[1, 16, 6, 6] x, float[16, 16, 1, 1] w, float[16, 48, 1, 1] w2) => (float[1, 16, 6, 6] y)
        <int64[4] sizes = {1, 16, 6, 6}> {
            a = Conv(x, w)
            c = Relu(a)
            m = GlobalAveragePool(x)
            d = Conv(m, w)
            e = Expand(d, sizes)
            f = Conv(x, w)
            j = Concat <axis = 1> (c, f, e)
            y = Conv(j, w2)
        }""",
    "attention": """
        (float[1, 2, 6, 4] q, float[1, 2, 6, 4] k, float[1, 2, 6, 4] v, bool[1, 1, 6, 6] on) => (float[1, 2, 6, 4] y)
        <float half = {0.5}, float low = {-10000}> {
            t = Transpose <perm = [0, 1, 3, 2]> (k)
            p = MatMul(q, t)
            s = Mul(p, half)
            m = Where(on, s, low)
            n = Softmax <axis = 3> (m)
            y = MatMul(n, v)
        }""",
    "half": """(float[1, 8, 6, 6] x, float[8, 8, 3, 3] w) => (float[1, 8, 4, 4] y) {
            a = Cast <to = 10> (x)
            b = Cast <to = 10> (w)
            c = Conv(a, b)
            d = Relu(c)
            y = Cast <to = 1> (d)
        }""",
}  # fmt: skip


def model_of(text, rng):
    """The model; its inputs ``w`` and ``w2`` are weights with random numbers."""
    model = onnx.load_from_string(onnx_models.bytes_of_text(text))
    for given in [i for i in model.graph.input if i.name in ("w", "w2")]:
        shape = [d.dim_value for d in given.type.tensor_type.shape.dim]
        model.graph.initializer.append(
            onnx.numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), given.name)
        )
        model.graph.input.remove(given)
    return load_model(model.SerializeToString())


def results(model, values, fuse):
    session = Session(model, SessionConfig(explain=True, fuse=fuse))
    for name, value in values.items():
        session.set_array(name, value)
    return layer_results(session, model)


def values_of(model, rng):
    return {
        v.name: rng.standard_normal(v.shape).astype(v.dtype.storage) > 0
        if v.dtype.storage == np.bool_
        else rng.standard_normal(v.shape).astype(v.dtype.storage)
        for v in model.graph.inputs
    }


@pytest.mark.parametrize("kind", sorted(TEXTS))
def test_results_of_both_runs_are_the_same(kind):
    rng = np.random.default_rng(0)
    model = model_of(TEXTS[kind], rng)
    values = values_of(model, rng)
    fused, plain = (results(model, values, fuse) for fuse in (True, False))
    found = compare_layers(
        fused, plain, same_file=True, tolerance=TOLERANCE * (10 if kind == "half" else 1), names="ab"
    )
    assert found["first"] is None, found["layers"][found["first"]]
    assert len(found["layers"]) > 1 and found["layers"][-1]["name"] == ("d" if kind == "half" else "y")


@pytest.mark.parametrize("seed", range(12))
def test_results_are_those_of_the_other_runtime(seed):
    """Random graphs: each value that both have."""
    pytest.importorskip("onnxruntime")
    from support.onnx_graph_check import Graph

    graph = Graph(seed, 12)
    model = load_model(graph.model().SerializeToString())
    stored = {v.name: v.arrays[0] for v in graph.values}
    values = {v.name: np.atleast_1d(stored[v.name]).astype(v.dtype.storage) for v in model.graph.inputs}
    theirs = stored_results({name: array for name, array in stored.items() if name not in values})
    found = compare_layers(results(model, values, True), theirs, same_file=False, tolerance=2e-3, names="ab")
    assert found["first"] is None, found["layers"][found["first"]]
    assert found["layers"]
