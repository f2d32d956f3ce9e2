"""Writes model records as a file of the second generation, for other runtimes and for later loads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from megengine_lite._core.formats.loaded_model import Metadata
from megengine_lite._core.formats.mge import schema_v2
from megengine_lite._core.formats.mge.records import ModelRecord, OperatorRecord
from megengine_lite._core.formats.mge.shared_tables import LINEAR_QUANTIZATION
from megengine_lite._core.formats.stored_values import TensorRecord
from megengine_lite._core.formats.wire.flatbuffer_builder import (
    NewTable,
    Scalar,
    Text,
    Vector,
    boolean,
    float32,
    float64,
    int8,
    int32,
    serialize,
    uint8,
    uint32,
    uint64,
)
from megengine_lite._core.ir.dtype import DType
from megengine_lite._core.ir.graph import NOT_NUMBERED
from megengine_lite._core.ir.params import DTypeTable, ExecutionPolicy, ExecutionPolicyStrategy, Param
from megengine_lite._core.operators.names import full_id, in_files, registered_name, short_id
from megengine_lite.errors import UnsupportedOperatorError

_RELEASE = 101300  # that whose form of the tables is written
_SCHEMA_VERSION = 2
_DEFAULT_FORMAT = 1
# Means any device: the program that loads the file chooses it.
_ANY_DEVICE = NewTable({0: "xpux:0"})


def dtype_table(dtype: DType) -> NewTable:
    """The table of an element type."""
    if not dtype.is_quantized:
        return NewTable({0: int8(dtype.code)})
    quantization = NewTable({0: float32(dtype.scale), 1: uint8(dtype.zero_point)})
    return NewTable({0: int8(dtype.code), 1: uint8(LINEAR_QUANTIZATION), 2: quantization})


_WRITERS: dict[str, Callable[[Any], Scalar | Vector]] = {
    "bool": boolean,
    "int8": int8,
    "int32": int32,
    "uint32": uint32,
    "uint64": uint64,
    "float32": float32,
    "float64": float64,
    "int32[]": lambda numbers: Vector("i", numbers),
    "AxisDesc[]": lambda descs: Vector("b3xi", [(d.method, d.axis) for d in descs]),
    "IndexDescMaskItem[]": lambda items: Vector("b????", [(i.axis, i.begin, i.end, i.step, i.idx) for i in items]),
}


def param_table(params: Param) -> NewTable:
    """The table of an operator's parameters; fields that have their default are left out."""
    if isinstance(params, DTypeTable):
        return dtype_table(params.dtype)
    fields = {f.id: (f, getattr(params, f.name)) for f in params.layout}
    return NewTable({number: _WRITERS[f.kind](v) for number, (f, v) in fields.items() if v != f.default})


def _tensor(tensor: TensorRecord) -> NewTable:
    return NewTable(
        {
            0: tensor.name or None,
            1: Vector("I", tensor.shape),
            2: _ANY_DEVICE,
            3: dtype_table(tensor.dtype),
            4: uint8(_DEFAULT_FORMAT),
            5: NewTable({}),
            6: tensor.data,
        }
    )


def _operator(operator: OperatorRecord) -> NewTable:
    if not operator.type or (operator.params is None and operator.param_code):
        raise UnsupportedOperatorError(f"{operator.describe()} cannot be written: its type or parameters are not known")
    stored = in_files(operator.type)
    second = stored.record_version == 2
    fields: dict[int, Any] = {
        0: operator.type if second else registered_name(operator.type),
        1: uint64(full_id(operator.type) if second else short_id(operator.type)),
        2: operator.name or None,
        7: Vector("I", operator.inputs),
        8: Vector("I", [v for v in operator.outputs if v != NOT_NUMBERED]),
        9: None if operator.tensors else [_ANY_DEVICE],
        10: None if operator.output_dtype is None else dtype_table(operator.output_dtype),
        11: [_tensor(t) for t in operator.tensors] or None,
        12: uint32(stored.record_version),
        14: [NewTable({0: blob}) for blob in operator.payload] or None,
    }
    if operator.params is not None:
        fields[3], fields[4] = uint8(operator.params.code), param_table(operator.params)
    if stored.has_policy:
        policy = ExecutionPolicy(strategy=ExecutionPolicyStrategy.HEURISTIC)
        fields[5], fields[6] = Vector("B", [policy.code]), [param_table(policy)]
    return NewTable(fields)


def _variables(record: ModelRecord) -> list[NewTable]:
    """Names of all variables, in the order of their numbers."""
    count = 1 + max((v for op in record.operators for v in op.outputs), default=-1)
    return [NewTable({0: record.variable_names.get(v, ""), 1: Vector("I", ())}) for v in range(count)]


def write_v2(record: ModelRecord) -> list[Any]:
    """A model file as chunks of bytes, to be written one after the other.

    Values are written from the memory that the record's views show, without a copy.

    Raises
    ------
    UnsupportedOperatorError
        An operator's type or parameters are not known.
    LiteValueError
        The file would be larger than the format allows (2 GiB).
    """
    aliases = [NewTable({0: uint32(v), 1: name}) for v, name in record.outputs if name]
    metadata = record.metadata or Metadata()
    root = NewTable(
        {
            0: uint32(_RELEASE),
            1: uint32(_SCHEMA_VERSION),
            2: [_operator(op) for op in record.operators],
            3: _variables(record) if record.variable_names else None,
            4: [NewTable({0: uint32(v), 1: uint32(v)}) for v, _ in record.outputs],
            5: aliases or None,
            7: NewTable(
                {
                    0: boolean(metadata.is_valid),
                    1: boolean(metadata.graph_modified),
                    2: uint64(metadata.optimize_options),
                    3: Text(metadata.user_info) if metadata.user_info else None,
                }
            ),
        }
    )
    return serialize(root, identifier=schema_v2.MAGIC, size_prefix=True)
