"""Models of the first generation (``MGBC``, ``MGBS``): a region of raw values, then a flatbuffer ``mgb1``."""

from __future__ import annotations

from megengine_lite._core.formats.loaded_model import Metadata
from megengine_lite._core.formats.mge.history import Release, lacks_reserve_output, release_of
from megengine_lite._core.formats.mge.records import ModelRecord, OperatorRecord
from megengine_lite._core.formats.mge.shared_tables import (
    LEAST_OPERATOR,
    read_dtype,
    read_optional_dtype,
    read_param,
    read_shape,
)
from megengine_lite._core.formats.stored_values import TensorRecord
from megengine_lite._core.formats.wire.cursor import Cursor
from megengine_lite._core.formats.wire.flatbuffer import TableReader, root_table
from megengine_lite._core.ir.dtype import FLOAT32
from megengine_lite._core.ir.graph import NOT_NUMBERED
from megengine_lite._core.operators.names import TypeTable, count_outputs
from megengine_lite.errors import ModelFormatError

LONG_MAGIC = b"MGBC\0\0\0\0"
SHORT_MAGIC = b"MGBS\0\0\0\0"
_OUTPUT_PAIR = 8


class _Values:
    """The region of raw values: each tensor takes the next bytes, in the order in which the file lists tensors."""

    def __init__(self, cursor: Cursor, begin: int, end: int):
        self._cursor = cursor
        self._next = begin
        self._end = end

    def take(self, nbytes: int, skip: int, name: str) -> memoryview:
        if nbytes > self._end - self._next or skip > nbytes:
            raise ModelFormatError(
                f"{self._cursor.what}: the value of tensor {name!r} takes {nbytes} bytes, "
                f"{self._end - self._next} are left"
            )
        view = self._cursor.span(self._next + skip, nbytes - skip, "tensor value")
        self._next += nbytes
        return view


def read_v1(cursor: Cursor) -> ModelRecord:
    """Reads the model that begins at the window's begin."""
    begin, distance_at = (24, 16) if cursor.startswith(LONG_MAGIC) else (16, 8)
    distance = cursor.uint64(distance_at, "header")
    flatbuffer = begin + len(cursor.span(begin, distance, "tensor values"))
    size = cursor.uint32(flatbuffer, "size of the graph")
    inner = Cursor(cursor.span(flatbuffer + 4, size, "graph"), what=cursor.what)
    if not inner.startswith(b"mgb1", 4):
        raise ModelFormatError(f"{cursor.what}: the graph has no identifier 'mgb1'; the file is damaged")
    root = root_table(inner)
    if root.uint64(1) == 0:
        raise ModelFormatError(f"{cursor.what}: the graph has no hash; the file is damaged")
    metadata = root.table(5, "metadata")
    record = ModelRecord("v1", root.uint32(0), end=flatbuffer + 4 + size)
    if metadata is not None:
        record.metadata = Metadata(
            metadata.boolean(0), metadata.boolean(1), metadata.blob(2, "user information"), metadata.uint64(3)
        )
    release = release_of(record.version, metadata is not None)
    values = _Values(cursor, begin, flatbuffer)
    types = TypeTable()
    n_variables = 0
    for table in root.tables(3, "operator", LEAST_OPERATOR):
        operator = _read_operator(table, values, release, types, n_variables)
        n_variables += sum(v != NOT_NUMBERED for v in operator.outputs)
        record.add(operator, cursor.what)
        for number, name in zip(operator.outputs, operator.output_names, strict=False):
            record.variable_names[number] = name
    pairs = root.structs(4, _OUTPUT_PAIR, "list of outputs")
    for at in range(0, len(pairs), _OUTPUT_PAIR):
        record.outputs.append((int.from_bytes(pairs[at : at + 4], "little"), ""))
    return record


def _read_operator(
    table: TableReader, values: _Values, release: Release, types: TypeTable, first_output: int
) -> OperatorRecord:
    type_id = table.uint64(0)
    opr_type = types.find(type_id)
    code, params = read_param(table, 1, release)
    inputs = table.uint32s(3, "inputs")
    names = table.texts(5, "output names")
    tensors = [_read_tensor(t, values) for t in table.tables(7, "tensor")]
    payload = tuple(blob.blob(0, "operator data") for blob in table.tables(9, "operator data"))
    old_batch_norm = lacks_reserve_output(opr_type, release)
    # Names of outputs are stored for all of an operator's outputs or for none.
    n_outputs = len(names) or count_outputs(opr_type, params, len(inputs), len(tensors), payload) - old_batch_norm
    outputs = [*range(first_output, first_output + n_outputs)]
    if old_batch_norm:
        outputs.insert(-1, NOT_NUMBERED)
        names = [*names[:-1], "", *names[-1:]]
    return OperatorRecord(
        type=opr_type,
        label=opr_type or f"operator type 0x{type_id:016x}",
        name=table.text(12, "operator name"),
        params=params,
        param_code=code,
        inputs=inputs,
        outputs=tuple(outputs),
        output_names=names,
        output_dtype=read_optional_dtype(table, 6),
        tensors=tensors,
        payload=payload,
    )


def _read_tensor(table: TableReader, values: _Values) -> TensorRecord:
    name = table.text(0, "tensor name")
    dtype = table.table(3, "element type")
    nbytes = table.uint32(4)
    return TensorRecord(
        name=name,
        shape=read_shape(table, 1, f"the shape of tensor {name!r}"),
        dtype=FLOAT32 if dtype is None else read_dtype(dtype),
        data=values.take(nbytes, table.uint32(5), name) if nbytes else None,
    )
