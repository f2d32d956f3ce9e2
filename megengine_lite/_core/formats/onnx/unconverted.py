"""The graph of an ONNX model as the file has it, to look at where the model cannot be converted.

Its nodes have the names of ONNX's operators, and values have the types and shapes that the model says of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import count
from typing import Any

from megengine_lite._core.formats.loaded_model import LoadedModel
from megengine_lite._core.formats.onnx.external_files import ExternalFiles
from megengine_lite._core.formats.onnx.messages import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    StoredTensorProto,
    TensorProto,
    ValueInfoProto,
)
from megengine_lite._core.formats.onnx.ordering import count_operators, in_order, label_of, operator_of, read_by
from megengine_lite._core.formats.onnx.tensors import DTYPES, initializers_of, name_of, tensor_constant
from megengine_lite._core.ir.foreign import ForeignNode
from megengine_lite._core.ir.graph import AnyNode, AnyVar, DynamicSpec, ModelGraph, Spec, TensorSpec
from megengine_lite.errors import ModelFormatError, UnsupportedOperatorError

_STANDARD = ("", "ai.onnx")
# Longer attributes are left out: they are data rather than parameters.
_MOST_NUMBERS = 16
_MOST_TEXT = 200


def unconverted_model(
    record: ModelProto,
    files: ExternalFiles,
    what: str,
    problem: str | None = None,
    not_converted: Collection[int] = (),
) -> LoadedModel:
    """The model without anything that could run.

    Parameters
    ----------
    problem
        Why it cannot be converted; None if it can as soon as shapes are known.
    not_converted
        The identities of the nodes of the record that are to blame, if it is nodes.
    """
    graph = record.graph
    assert graph is not None  # the reader has checked it
    values = _NamedVariables(graph, files, what)
    inputs: list[Any] = [values[name] for name in values.inputs]
    output_names = list(dict.fromkeys(info.name for info in graph.output))
    blame = _Blame(record, not_converted)
    try:
        ordered: Sequence[NodeProto] = in_order(graph, output_names, what)
    except ModelFormatError:  # no order works: that of the file, where a cycle lacks the way back
        ordered = graph.node
    nodes = [
        AnyNode(
            operator_of(node),
            ForeignNode(id(node) not in not_converted, dict(_parameters(node)), blame.inside(node)),
            [values[name] for name in read_by(node)],
            [values[name] for name in node.output if name],
            label_of(node),
        )
        for node in ordered
    ]
    return LoadedModel(
        graph=ModelGraph(nodes, inputs, [values[name] for name in output_names], output_names),
        input_names=[v.name for v in inputs],
        output_names=output_names,
        default_inputs={},
        container="onnx",
        version=record.ir_version or 0,
        metadata=None,
        has_operator_names=any(node.name for node in graph.node),
        file_operators=count_operators(graph),
        properties={entry.key: entry.value for entry in record.metadata_props},
        problem=None if problem is None else problem.removeprefix(f"{what}: "),
    )


class _Blame:
    """Finds the nodes inside of other nodes that cannot be converted."""

    def __init__(self, record: ModelProto, not_converted: Collection[int]):
        self._functions = {(f.domain, f.name, f.overload): f for f in record.functions}
        self._not_converted = not_converted

    def inside(self, node: NodeProto) -> list[tuple[str, str]]:
        """Operator and name of those in the branches and the function of a node, and in those of these, each once."""
        found: dict[tuple[str, str], None] = {}
        self._collect(node, found, set())
        return list(found)

    def _collect(self, node: NodeProto, found: dict[tuple[str, str], None], seen: set[int]) -> None:
        for inner in self._nodes(node):
            if id(inner) in self._not_converted and id(inner) not in seen:
                seen.add(id(inner))
                before = len(seen)
                self._collect(inner, found, seen)
                if len(seen) == before:  # the fault is its own
                    found[operator_of(inner), label_of(inner)] = None

    def _nodes(self, node: NodeProto) -> Iterator[NodeProto]:
        for attribute in node.attribute:
            for graph in (*([] if attribute.g is None else [attribute.g]), *attribute.graphs):
                yield from graph.node
        function = self._functions.get((node.domain, node.op_type, node.overload))
        if function is not None:
            yield from function.node


class _NamedVariables(dict[str, AnyVar]):
    """The variable of each name, made when it is first asked for."""

    def __init__(self, graph: GraphProto, files: ExternalFiles, what: str):
        super().__init__()
        self._files = files
        self._what = what
        self._numbers = count()
        self._stored: dict[str, StoredTensorProto] = {name_of(tensor): tensor for tensor in initializers_of(graph)}
        self.inputs = [name for name in dict.fromkeys(i.name for i in graph.input) if name not in self._stored]
        self._stored.update(_constants(graph))
        self._said = {info.name: _spec(info, 1) for info in graph.input}
        self._said.update((info.name, _spec(info)) for info in (*graph.value_info, *graph.output))

    def __missing__(self, name: str) -> AnyVar:
        number = next(self._numbers)
        found = AnyVar(number, name, self._said.get(name))
        if name in self._stored:
            try:
                constant = tensor_constant(self._stored[name], self._files, (id(self), number), self._what)
            except (ModelFormatError, UnsupportedOperatorError):  # its name is all that can be told
                pass
            else:
                stored = constant.stored()
                found = AnyVar(number, name, TensorSpec(stored.shape, stored.dtype), constant)
        self[name] = found
        return found


def _constants(graph: GraphProto) -> Iterator[tuple[str, TensorProto]]:
    """The tensors that nodes give which read nothing."""
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in _STANDARD and node.output:
            yield from ((node.output[0], a.t) for a in node.attribute if a.name == "value" and a.t is not None)


def _spec(info: ValueInfoProto, unknown: int | None = None) -> Spec | None:
    """What a model says of a value; sizes that it does not say are ``unknown``."""
    tensor = None if info.type is None else info.type.tensor
    dtype = None if tensor is None else {int(kind): dtype for kind, dtype in DTYPES.items()}.get(tensor.elem_type or 0)
    if tensor is None or dtype is None:
        return None
    dims = [None] if tensor.shape is None else [unknown if d.value in (None, -1) else d.value for d in tensor.shape.dim]
    sizes = [size for size in dims if size is not None]
    return TensorSpec(tuple(sizes), dtype) if len(sizes) == len(dims) else DynamicSpec(dtype)


def _parameters(node: NodeProto) -> Iterator[tuple[str, int | float | str]]:
    """The attributes that are numbers and short texts."""
    for attribute in node.attribute:
        found = _value(attribute)
        if found is not None:
            yield attribute.name, found


def _value(attribute: AttributeProto) -> int | float | str | None:
    if attribute.i is not None:
        return attribute.i
    if attribute.f is not None:
        return attribute.f
    if attribute.s is not None:
        return bytes(attribute.s[:_MOST_TEXT]).decode("utf-8", "replace")
    numbers = [*attribute.ints[:_MOST_NUMBERS], *attribute.floats[:_MOST_NUMBERS]]
    return ", ".join(f"{n:g}" for n in numbers) or None
