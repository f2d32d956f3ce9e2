"""A graph as the record of a model, numbered anew."""

from __future__ import annotations

from megengine_lite._core.formats.mge.records import ModelRecord, OperatorRecord
from megengine_lite._core.formats.stored_values import FileConstant, TensorRecord, bytes_of
from megengine_lite._core.ir.dtype import DTypeCode
from megengine_lite._core.ir.graph import NOT_NUMBERED, AnyNode, AnyVar, Constant, ModelGraph, Var
from megengine_lite._core.ir.params import Host2DeviceCopy
from megengine_lite._core.operators.sources import CONSTANTS, INPUT
from megengine_lite._records import replace

# What holds new constants. Only the first kind can say where a tensor is cut or how it is shaped.
_IMMUTABLE, _WEIGHTS = "ImmutableTensor", "MultipleDeviceTensorHolder"


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

    The original knows outputs by the names of their variables; no other variable may have one of these.
    """
    source = ModelRecord("v2", 0)
    for v in graph.inputs:
        tensor = TensorRecord(v.name, v.shape, v.dtype, None)
        params = Host2DeviceCopy()
        source.operators.append(
            OperatorRecord(INPUT, INPUT, "", params, params.code, (), (v.id,), [v.name], None, [tensor], ())
        )
    record = to_record(graph, source)
    wanted = {v: name for v, name in reversed(record.outputs) if name}  # the first name of a variable
    others = {v: name for v, name in record.variable_names.items() if name not in wanted.values()}
    return replace(record, variable_names=others | wanted)


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
