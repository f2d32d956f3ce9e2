"""Models of the second generation (``mgv2``): one size-prefixed flatbuffer that holds the values too."""

from __future__ import annotations

from megengine_lite._core.formats.loaded_model import Metadata
from megengine_lite._core.formats.mge.history import Release, release_of
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
from megengine_lite._core.operators.names import TypeTable
from megengine_lite.errors import ModelFormatError

MAGIC = b"mgv2"
MAGIC_AT = 8


def read_v2(cursor: Cursor) -> ModelRecord:
    """Reads the model that begins at the window's begin."""
    size = cursor.uint32(0, "size of the model")
    inner = Cursor(cursor.span(4, size, "model"), what=cursor.what)
    root = root_table(inner)
    record = ModelRecord("v2", root.uint32(0), end=4 + size)
    metadata = root.table(7, "metadata")
    if metadata is not None:
        record.metadata = Metadata(
            metadata.boolean(0), metadata.boolean(1), metadata.blob(3, "user information"), metadata.uint64(2)
        )
    release = release_of(record.version, metadata is not None)
    for number, table in enumerate(root.tables(3, "variable description")):
        name = table.text(0, "variable name")
        if name:
            record.variable_names[number] = name
    types = TypeTable()
    for table in root.tables(2, "operator", LEAST_OPERATOR):
        record.add(_read_operator(table, release, types, record.variable_names), cursor.what)
    record.outputs = _read_outputs(root)
    return record


def _read_outputs(root: TableReader) -> list[tuple[int, str]]:
    """The graph's outputs: the aliases, if there are any, else the plain list."""
    originals: dict[int, int] = {}
    plain = []
    for table in root.tables(4, "output"):
        plain.append((table.uint32(0), ""))
        originals.setdefault(table.uint32(1), table.uint32(0))
    aliases = []
    for table in root.tables(5, "output alias"):
        number, name = table.uint32(0), table.text(1, "output name")
        if number not in originals:
            raise ModelFormatError(f"{root.cursor.what}: output alias {name!r} names no output (id {number})")
        aliases.append((originals[number], name))
    return aliases or plain


def _read_operator(table: TableReader, release: Release, types: TypeTable, names: dict[int, str]) -> OperatorRecord:
    type_name = table.text(0, "operator type")
    type_id = table.uint64(1)
    opr_type = types.find(type_id, type_name)
    code, params = read_param(table, 3, release)
    outputs = table.uint32s(8, "outputs")
    return OperatorRecord(
        type=opr_type,
        label=opr_type or type_name or f"operator type 0x{type_id:016x}",
        name=table.text(2, "operator name"),
        params=params,
        param_code=code,
        inputs=table.uint32s(7, "inputs"),
        outputs=outputs,
        output_names=[names.get(v, "") for v in outputs],
        output_dtype=read_optional_dtype(table, 10),
        tensors=[_read_tensor(t) for t in table.tables(11, "tensor")],
        payload=tuple(blob.blob(0, "operator data") for blob in table.tables(14, "operator data")),
    )


def _read_tensor(table: TableReader) -> TensorRecord:
    name = table.text(0, "tensor name")
    dtype = table.table(3, "element type")
    return TensorRecord(
        name=name,
        shape=read_shape(table, 1, f"the shape of tensor {name!r}"),
        dtype=FLOAT32 if dtype is None else read_dtype(dtype),
        data=table.span(6, f"value of tensor {name!r}"),
    )
