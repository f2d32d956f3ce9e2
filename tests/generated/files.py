"""A graph as a model file."""

from __future__ import annotations

from support.loader_samples import input_operator

from megengine_lite._core.formats.mge.records import ModelRecord
from megengine_lite._core.formats.mge.to_record import to_record
from megengine_lite._core.formats.mge.writer_v2 import write_v2
from megengine_lite._core.ir.graph import Graph


def model_bytes(graph: Graph, *, named_variables: bool = False) -> bytes:
    """The graph as a file of the second generation.

    Names of outputs stand in the list of outputs, or are names of their variables (as in files of older releases),
    where no variable has two.
    """
    operators = [input_operator(v.id, v.name, v.shape, v.dtype) for v in graph.inputs]
    record = to_record(graph, ModelRecord("v2", 101300, operators))
    if named_variables and len(set(graph.outputs)) == len(graph.outputs):
        record.variable_names.update(dict(record.outputs))
        record.outputs = [(number, "") for number, _ in record.outputs]
    return b"".join(write_v2(record))
