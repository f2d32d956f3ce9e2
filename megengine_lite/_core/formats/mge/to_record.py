"""A graph as the record of a model, numbered anew."""

from __future__ import annotations

import numpy as np

from megengine_lite._core.formats.mge.records import ModelRecord, OperatorRecord
from megengine_lite._core.formats.stored_values import FileConstant, TensorRecord, bytes_of
from megengine_lite._core.ir.dtype import INT32, DTypeCode
from megengine_lite._core.ir.graph import NOT_NUMBERED, AnyNode, AnyVar, Constant, ModelGraph, Var
from megengine_lite._core.ir.params import Host2DeviceCopy
from megengine_lite._core.operators.sources import CONSTANTS, INPUT
from megengine_lite._records import replace

# What holds new constants. Only the first kind can say where a tensor is cut or how it is shaped.
_IMMUTABLE, _WEIGHTS = "ImmutableTensor", "MultipleDeviceTensorHolder"
_DEPENDENT = "VirtualDep"
"""Gives its first input, and depends on all."""


def to_record(graph: ModelGraph, source: ModelRecord) -> ModelRecord:
    """The record of a graph.

    Parameters
    ----------
    graph
        Made from the graph of a model; constants that it took over refer to the file.
    source
        The model's own record: inputs, metadata, and how its constants were kept.
    """
    return _Recorder(graph, source).record()


def new_record(graph: ModelGraph) -> ModelRecord:
    """The record of a graph that no file of this format has been read for.

    The original knows outputs by the names of their variables; no other variable may have one of these. When it
    optimizes a graph it makes one variable of two that are computed alike, and of one that is the same as another. So
    each output is a variable of its own there: one that depends on a number that no other output depends on. Only one
    output alone that is computed needs none.
    """
    source = ModelRecord("v2", 0)
    for v in graph.inputs:
        tensor = TensorRecord(v.name, v.shape, v.dtype, None)
        params = Host2DeviceCopy()
        source.operators.append(
            OperatorRecord(INPUT, INPUT, "", params, params.code, (), (v.id,), [v.name], None, [tensor], ())
        )
    record = to_record(graph, source)
    computed = {v for operator in record.operators if operator.inputs for v in operator.outputs}
    if len(record.outputs) > 1 or not computed.issuperset(v for v, _ in record.outputs):
        record = _with_own_outputs(record)
    wanted = {v: name for v, name in record.outputs if name}
    others = {v: name for v, name in record.variable_names.items() if name not in wanted.values()}
    return replace(record, variable_names=others | wanted)


def _with_own_outputs(record: ModelRecord) -> ModelRecord:
    """The record with a variable of its own for each output."""
    operators, outputs = list(record.operators), []
    following = 1 + max((v for operator in operators for v in operator.outputs), default=-1)
    for k, (source, name) in enumerate(record.outputs):
        number, result = following + 2 * k, following + 2 * k + 1
        tensor = TensorRecord("", (1,), INT32, bytes_of(np.array([k], np.int32)))
        operators.append(OperatorRecord(_IMMUTABLE, _IMMUTABLE, "", None, 0, (), (number,), [""], None, [tensor], ()))
        inputs = (source, number)
        operators.append(OperatorRecord(_DEPENDENT, _DEPENDENT, name, None, 0, inputs, (result,), [name], None, [], ()))
        outputs.append((result, name))
    return replace(record, operators=operators, outputs=outputs)


class _Recorder:
    def __init__(self, graph: ModelGraph, source: ModelRecord):
        self.graph = graph
        self.source = source
        self.operators: list[OperatorRecord] = []
        self.names: dict[int, str] = {}
        self.numbers: dict[AnyVar, int] = {}
        self.constants: dict[int, int] = {}  # number of each constant that is written, by identity
        self.holders = {v: op for op in source.operators if op.type in CONSTANTS for v in op.outputs}
        self.next = 0

    def record(self) -> ModelRecord:
        inputs = {v.id: v for v in self.graph.inputs}
        for operator in self.source.operators:
            if operator.type == INPUT:
                number = self._number(inputs[operator.outputs[0]])
                self.operators.append(replace(operator, outputs=(number,)))
        for node in self.graph.nodes:
            self._add(node)
        outputs = [(self._read(v), name) for v, name in zip(self.graph.outputs, self.graph.output_names, strict=True)]
        return replace(
            self.source, container="v2", operators=self.operators, outputs=outputs, variable_names=self.names
        )

    def _add(self, node: AnyNode) -> None:
        inputs = tuple(self._read(v) for v in node.inputs)
        outputs = tuple(NOT_NUMBERED if v.id == NOT_NUMBERED else self._number(v) for v in node.outputs)
        self.operators.append(
            OperatorRecord(
                type=node.op,
                label=node.op,
                name=node.name,
                params=node.params,
                param_code=0 if node.params is None else node.params.code,
                inputs=inputs,
                outputs=outputs,
                output_names=[v.name for v in node.outputs],
                output_dtype=node.output_dtype,
                tensors=[],
                payload=node.payload,
            )
        )

    def _number(self, var: AnyVar) -> int:
        number = self.numbers[var] = self.next
        self.next += 1
        if var.name:
            self.names[number] = var.name
        return number

    def _read(self, var: AnyVar) -> int:
        """The number of a variable that is read; constants are written before their first reader."""
        if not isinstance(var, Var) or var.const is None:
            return self.numbers[var]
        found = self.constants.get(id(var.const))
        if found is None:
            found = self.constants[id(var.const)] = self._number(var)
            self._add_constant(var, var.const, found)
        return found

    def _add_constant(self, var: Var, constant: Constant, number: int) -> None:
        holder = self.holders.get(var.id)
        if holder is not None and isinstance(constant, FileConstant):
            tensor = constant.stored()
            made = replace(holder, outputs=(number,), output_names=[var.name], tensors=[tensor])
        else:
            kind = _IMMUTABLE if var.dtype.code == DTypeCode.INT32 else _WEIGHTS
            tensor = TensorRecord(var.name, constant.array.shape, var.dtype, bytes_of(constant.array))
            made = OperatorRecord(kind, kind, "", None, 0, (), (number,), [var.name], None, [tensor], ())
        self.operators.append(made)
