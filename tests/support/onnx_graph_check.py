"""Random graphs of ONNX, run here at two sizes, as files of MegEngine's and as ONNX Runtime's optimizer saves them, and
compared with ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import megengine_lite
import support.onnx_graph_layers
import support.onnx_graph_steps  # noqa: F401
from megengine_lite._api.conversion import converted
from megengine_lite._api.options import LiteConfig
from megengine_lite.errors import LiteError, UnsupportedOperatorError
from support.onnx_graphs import Graph, session_of

Arrays = list[np.ndarray]


class Expected:
    """What ONNX Runtime gives for the inputs of one size, and how exactly that can be asked of others.

    Where a small change of the inputs changes a result much, rounding decides, and more is allowed.
    """

    def __init__(self, graph: Graph, session: Any, which: int):
        feeds = graph.feeds(which)
        self.arrays: Arrays = [np.asarray(a) for a in session.run(None, feeds)]
        others: Arrays = [np.asarray(a) for a in session.run(None, {n: _near(a) for n, a in feeds.items()})]
        self.margins = [_margin(a, b) if a.shape == b.shape else None for a, b in zip(self.arrays, others, strict=True)]

    def difference(self, found: Arrays) -> str:
        for k, (got, want, margin) in enumerate(zip(found, self.arrays, self.margins, strict=True)):
            if margin is None:
                continue
            if got.size != want.size:
                return f"output {k} has the shape {got.shape}, not {want.shape}"
            a, b = got.astype(np.float64).reshape(want.shape), want.astype(np.float64)
            wrong = ~((np.abs(a - b) <= margin) | (a == b) | (np.isnan(a) & np.isnan(b)))
            if wrong.sum() > wrong.size // 50:  # ties may fall to either side
                largest = np.nanmax(np.abs(a - b))
                return f"output {k} differs at {wrong.sum()} of {wrong.size} places, by up to {largest}"
        return ""


def _near(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "f":
        return array
    signs = np.where(np.arange(array.size) % 2, 1, -1).reshape(array.shape)
    return (array * (1 + 1e-6 * signs)).astype(array.dtype)


def _margin(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.astype(np.float64), b.astype(np.float64)
    largest = np.abs(a[np.isfinite(a)]).max(initial=1)
    return 2e-4 * largest + 20 * np.abs(a - b)


def faults(seed: int, nodes: int = 8) -> Iterator[str]:
    """What is wrong with the graph of a seed; nothing if ONNX Runtime cannot run it as a whole."""
    import onnxruntime

    graph = Graph(seed, nodes)
    if not graph.outputs:
        return
    content = graph.model().SerializeToString()
    try:
        session = session_of(content, onnxruntime)
        expected = [Expected(graph, session, which) for which in (0, 1)]
    except Exception:
        return
    if any(a.dtype == np.int64 and not np.array_equal(a, a.astype(np.int32)) for e in expected for a in e.arrays):
        return  # the API has int32 in the place of int64
    names = [v.name for v in graph.outputs]
    with megengine_lite.load(content, threads=1 + seed % 2) as model:
        for which in (0, 1, 0):
            outputs = model(graph.feeds(which))
            if difference := expected[which].difference([outputs[name] for name in names]):
                yield f"run at size {which}: {difference}"
    yield from _faults_of_a_file(graph, content, expected, names)
    yield from _faults_of_what_is_saved(graph, content, expected, names)


def _faults_of_a_file(graph: Graph, content: bytes, expected: list[Expected], names: list[str]) -> Iterator[str]:
    shapes = {v.name: v.arrays[0].shape for v, _ in graph.inputs if v.rank}
    try:
        made = converted(content, LiteConfig(), shapes=shapes, verify=False)
    except UnsupportedOperatorError:
        return
    with megengine_lite.load(b"".join(map(bytes, made.chunks)), threads=1) as model:
        for which in (0, 1):
            feeds = {n: a.reshape(a.shape or (1,)) for n, a in graph.feeds(which).items()}
            try:
                outputs = model({i.name: feeds[i.name] for i in model.inputs})
            except LiteError as error:
                if which == 0:
                    yield f"the file does not run: {error}"
                continue  # its sizes are fixed
            if difference := expected[which].difference([outputs[name] for name in names]):
                yield f"the file at size {which}: {difference}"


def _faults_of_what_is_saved(graph: Graph, content: bytes, expected: list[Expected], names: list[str]) -> Iterator[str]:
    """What is wrong with the model as ONNX Runtime's optimizer saves it: results are those of one or the other."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    with TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "saved.onnx")
        try:
            session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception:
            return  # its optimizer can make an invalid model of a valid one
        saved = Path(options.optimized_model_filepath).read_bytes()
    with megengine_lite.load(saved, threads=1) as model:
        for which in (0, 1):
            outputs = model(graph.feeds(which))
            found = [outputs[name] for name in names]
            difference = expected[which].difference(found)
            if difference and Expected(graph, session, which).difference(found):
                yield f"what is saved at size {which}: {difference}"
