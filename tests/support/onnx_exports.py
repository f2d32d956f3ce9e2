"""Graphs and models written as ONNX, and runs of what was written."""

from __future__ import annotations

import numpy as np

from megengine_lite._api.onnx_export import record_of
from megengine_lite._core.formats.load import load_model
from megengine_lite._core.formats.onnx.export.exporter import ExportOptions
from megengine_lite._core.formats.onnx.writer import write_model
from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import FLOAT32, INT16, INT32, UINT8
from megengine_lite._core.operators.reference import run_reference
from support.graphs import GraphBuilder

EXACT, ARITHMETIC, FUNCTION = 0.0, 1e-6, 1e-5


def exported(graph, static=False, **options):
    """The file of a graph, and what is known of its shapes."""
    record, known = record_of(graph, static, ExportOptions(**options))
    return b"".join(map(bytes, write_model(record))), known


def run_onnx(content, inputs, optimized=False):
    """The outputs of a file in ONNX Runtime, after the checker of the package onnx has accepted it."""
    import onnx
    import onnxruntime

    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    options = onnxruntime.SessionOptions()
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return session.run(None, {given.name: inputs[given.name] for given in session.get_inputs()})


def tiled(inputs, sizes):
    """Inputs of other sizes: the same elements again and again."""

    def one(value, shape):
        repeats = [-(-wanted // present) for wanted, present in zip(shape, value.shape, strict=True)]
        return np.ascontiguousarray(np.tile(value, repeats)[tuple(slice(n) for n in shape)])

    return {name: one(value, sizes[name]) for name, value in inputs.items()}


def check_export(graph, inputs, tolerance=0.0, static=False, again=True, **options):
    """Compares a written graph with the definitions: as it is, for other sizes of the inputs, and imported again.

    ``tolerance`` is relative to the largest number of an output; integers must be equal. Returns the file's model.
    """
    import onnx

    content, known = exported(graph, static, **options)
    for sizes in known.sizes[:2]:
        given = tiled(inputs, sizes)
        expected = run_reference(graph, given)
        close(run_onnx(content, given), expected, tolerance)
        if again:
            narrow = [a.astype(np.int32) if a.dtype == np.int64 else a for a in _imported(content, given)]
            close(narrow, expected, tolerance)
    return onnx.load_from_string(content)


def _imported(content, inputs):
    graph = load_model(content).graph
    return run_reference(graph, {v.name: inputs[v.name] for v in graph.inputs})


def close(outputs, expected, tolerance):
    """Raises AssertionError unless all outputs have the expected shapes, types and numbers."""
    assert len(outputs) == len(expected)
    for got, want in zip(outputs, expected, strict=True):
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        if want.dtype.kind == "f" and tolerance:
            scale = np.abs(want[np.isfinite(want)]).max(initial=0)
            np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * scale)
        else:
            np.testing.assert_array_equal(got, want)


def rng(seed=0):
    return np.random.default_rng(seed)


def floats(*shape, seed=0):
    return rng(seed).standard_normal(shape).astype(np.float32)


def one_node(op, parameters, *values, constants=(), outputs=1, taken=None, tolerance=EXACT, **options):
    """Checks the export of one node.

    ``values`` are its inputs, ``constants`` the places of those that are fixed, ``taken`` says how many of its
    ``outputs`` are those of the graph.
    """
    builder = GraphBuilder()
    variables, given = [], {}
    for k, value in enumerate(values):
        if k in constants:
            variables.append(builder.constant(value))
        else:
            dtype = {np.dtype(np.float32): FLOAT32, np.dtype(np.int32): INT32, np.dtype(np.uint8): UINT8}
            kinds = dtype | {np.dtype(np.int16): INT16}
            variables.append(builder.input(f"x{k}", value.shape, kinds[value.dtype]))
            given[f"x{k}"] = value
    made = builder.node(op, parameters, variables, outputs)
    graph = builder.finish(*(made if outputs > 1 else [made])[:taken])
    return check_export(graph, given, tolerance, **options)


def operators_of(model):
    return [node.op_type for node in model.graph.node]


def elemwise(mode, *values, **options):
    return one_node("Elemwise", params.Elemwise(mode=mode), *values, **options)
