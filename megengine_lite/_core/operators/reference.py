"""Runs a graph node by node by the numpy definitions of its operators: slow, and the reference for all tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from megengine_lite._core.ir.graph import AnyNode, AnyVar, Graph, ModelGraph, Spec, TensorSpec
from megengine_lite._core.operators import REGISTRY
from megengine_lite._core.operators.base import check_results, compute_node
from megengine_lite.errors import LiteError, ShapeError

AnyGraph: TypeAlias = ModelGraph | Graph


def run_reference(graph: AnyGraph, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
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
    return [_array(values[var]) for var in graph.outputs]


def run_nodes(graph: AnyGraph, inputs: Mapping[str, np.ndarray]) -> Iterator[tuple[AnyNode, list[np.ndarray]]]:
    """Each node with its outputs, in order; for finding the first node where two ways of running differ."""
    values = _given(graph, inputs)
    for node, results in _run(graph, values):
        for var, spec in zip(node.outputs, results, strict=True):
            values[var] = spec
        yield node, [_array(values[var]) for var in node.outputs]


def _given(graph: AnyGraph, inputs: Mapping[str, np.ndarray]) -> dict[AnyVar, TensorSpec]:
    values: dict[AnyVar, TensorSpec] = {}
    for given in graph.inputs:
        if given.name not in inputs:
            raise LiteError(f"input {given.name!r} is missing")
        array = np.ascontiguousarray(inputs[given.name], given.dtype.storage)
        values[given] = TensorSpec(array.shape, given.dtype, array)
    for var in (*(v for node in graph.nodes for v in node.inputs), *graph.outputs):
        if var.const is not None and var.spec is not None:
            values[var] = TensorSpec(var.const.array.shape, var.spec.dtype, var.const.array)
    return values


def _run(graph: AnyGraph, values: dict[AnyVar, TensorSpec]) -> Iterator[tuple[AnyNode, list[TensorSpec]]]:
    for node in graph.nodes:
        yield node, run_node(node, [values[v] for v in node.inputs])


def run_node(node: AnyNode, ins: Sequence[TensorSpec], outs: Sequence[Spec] | None = None) -> list[TensorSpec]:
    """The outputs of one node, as specs with values, for inputs that are specs with values.

    ``outs`` is what ``infer`` gives for these inputs, if the caller has it.

    Raises
    ------
    ShapeError
        The inputs do not fit, or the definition gives something else than its inference says.
    """
    out_specs = REGISTRY[node.op].infer(node, ins) if outs is None else outs
    arrays = compute_node(node, [_array(s) for s in ins], ins, out_specs)
    if len(arrays) != len(node.outputs):
        raise ShapeError(f"{node}: {len(arrays)} outputs computed")
    check_results(node, arrays, out_specs)
    return [TensorSpec(a.shape, s.dtype, a) for a, s in zip(arrays, out_specs, strict=True)]


def _array(spec: TensorSpec) -> np.ndarray:
    if spec.value is None:
        raise LiteError("a tensor has no value")
    return spec.value
