"""A graph as a model file, with its inputs and right outputs beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from loader_samples import input_operator

from generated.check import Checker
from generated.maker import Case
from megengine_lite._core.graph import Graph
from megengine_lite._core.loader.records import ModelRecord
from megengine_lite._core.loader.writer_v2 import write_v2
from megengine_lite._core.transform import to_record


def model_bytes(graph: Graph) -> bytes:
    """The graph as a file of the second generation."""
    operators = [input_operator(v.id, v.name, v.shape, v.dtype) for v in graph.inputs]
    return b"".join(write_v2(to_record(graph, ModelRecord("v2", 101300, operators))))


def write_case(case: Case, stem: Path) -> None:
    """Writes ``stem.mge`` and ``stem.npz`` with ``in_NAME`` and ``out_K`` of the first run."""
    stem.with_suffix(".mge").write_bytes(model_bytes(case.graph))
    arrays = {f"in_{name}": value for name, value in case.runs[0].items()}
    for k, one in enumerate(Checker(case).expected[0]):
        arrays[f"out_{k}"] = one.value
    np.savez(stem.with_suffix(".npz"), **arrays)
