"""Runs a graph node by node by the numpy definitions of its operators: slow, and the reference for all tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from megengine_lite._core.ir.graph import Graph, Node, TensorSpec, Var
from megengine_lite._core.operators import REGISTRY
from megengine_lite._core.operators.base import check_results
from megengine_lite.errors import LiteError, ShapeError


def run_reference(graph: Graph, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of a graph for the inputs given by name, in the storage types of their variables.

    Raises
    ------
    LiteError
        An input is missing, or a node does not fit its inputs.
    """
    values = _given(graph, inputs)
    for node, results in _run(graph, values):
        for var, spec in zip(node.outputs, results, strict=True):
            values[var] = spec
    return [_value_of(values, var) for var in graph.outputs]


def run_nodes(graph: Graph, inputs: Mapping[str, np.ndarray]) -> Iterator[tuple[Node, list[np.ndarray]]]:
    """Each node with its outputs, in order; for finding the first node where two ways of running differ."""
    values = _given(graph, inputs)
    for node, results in _run(graph, values):
        for var, spec in zip(node.outputs, results, strict=True):
            values[var] = spec
        yield node, [_value_of(values, var) for var in node.outputs]


def _given(graph: Graph, inputs: Mapping[str, np.ndarray]) -> dict[Var, TensorSpec]:
    values: dict[Var, TensorSpec] = {}
    for var in graph.inputs:
        if var.name not in inputs:
            raise LiteError(f"input {var.name!r} is missing")
        array = np.ascontiguousarray(inputs[var.name], var.dtype.storage)
        values[var] = TensorSpec(array.shape, var.dtype, array)
    for var in (*(v for node in graph.nodes for v in node.inputs), *graph.outputs):
        if var.const is not None:
            values[var] = TensorSpec(var.const.array.shape, var.dtype, var.const.array)
    return values


def _run(graph: Graph, values: dict[Var, TensorSpec]) -> Iterator[tuple[Node, list[TensorSpec]]]:
    for node in graph.nodes:
        yield node, run_node(node, [values[v] for v in node.inputs])


def run_node(node: Node, ins: list[TensorSpec]) -> list[TensorSpec]:
    """The outputs of one node, as specs with values, for inputs that are specs with values.

    Raises
    ------
    ShapeError
        The inputs do not fit, or the definition gives something else than its inference says.
    """
    operator = REGISTRY[node.op]
    out_specs = operator.infer(node, ins)
    arrays = operator.compute(node, [s.value for s in ins], ins, out_specs)  # type: ignore[misc]
    if len(arrays) != len(node.outputs):
        raise ShapeError(f"{node}: {len(arrays)} outputs computed")
    check_results(node, arrays, out_specs)
    results = [TensorSpec(a.shape, s.dtype, a) for a, s in zip(arrays, out_specs, strict=True)]
    return results


def _value_of(values: dict[Var, TensorSpec], var: Var) -> np.ndarray:
    value = values[var].value
    assert value is not None  # all specs here have one
    return value
