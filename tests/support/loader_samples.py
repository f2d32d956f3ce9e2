"""Model files for the tests of the loader: small ones of the repository, and ones made of records."""

from __future__ import annotations

import numpy as np

from megengine_lite._core.formats.containers.model_source import open_source
from megengine_lite._core.formats.mge.reader import read_model
from megengine_lite._core.formats.mge.records import ModelRecord, OperatorRecord
from megengine_lite._core.formats.mge.writer_v2 import write_v2
from megengine_lite._core.formats.stored_values import TensorRecord
from megengine_lite._core.formats.wire.cursor import Cursor
from megengine_lite._core.ir.dtype import FLOAT32, DType
from megengine_lite._core.ir.params import Elemwise, ElemwiseMode, Host2DeviceCopy, Param
from support.places import SHARED_MODELS, TESTS

MODELS = TESTS / "models" / "loader"
SHARED = SHARED_MODELS

SMALL = sorted(p.name for p in MODELS.glob("*.mge"))
PAIRS = sorted(p.name for p in MODELS.glob("*.mge") if not p.name.endswith(".v1.mge"))


def read_record(source) -> ModelRecord:
    """The record of a model file, or of bytes."""
    buffer, what = open_source(source)
    return read_model(Cursor(buffer, what=what))


def operator(type_: str, inputs=(), outputs=(), params: Param | None = None, tensors=(), **fields) -> OperatorRecord:
    return OperatorRecord(
        type=type_,
        label=type_,
        name=fields.get("name", ""),
        params=params,
        param_code=params.code if params is not None else 0,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        output_names=[],
        output_dtype=fields.get("output_dtype"),
        tensors=list(tensors),
        payload=tuple(fields.get("payload", ())),
    )


def tensor(shape, dtype: DType = FLOAT32, data=None, name: str = "") -> TensorRecord:
    if isinstance(data, np.ndarray):
        data = data.tobytes()
    return TensorRecord(name, tuple(shape), dtype, None if data is None else memoryview(data))


def input_operator(number: int, name: str, shape=(2, 3), dtype: DType = FLOAT32) -> OperatorRecord:
    return operator("Host2DeviceCopy", (), (number,), Host2DeviceCopy(), [tensor(shape, dtype, name=name)])


def constant_operator(number: int, shape, dtype: DType = FLOAT32, data=b"") -> OperatorRecord:
    return operator("ImmutableTensor", (), (number,), None, [tensor(shape, dtype, data)])


def constant_model(shape, dtype: DType, data) -> bytes:
    """A model whose only output is a constant."""
    record = ModelRecord("v2", 101300, [constant_operator(0, shape, dtype, data)], [(0, "")])
    return to_bytes(record)


def add_record(names=("a", "b")) -> ModelRecord:
    """The sum of two inputs."""
    operators = [input_operator(i, name) for i, name in enumerate(names)]
    operators.append(operator("Elemwise", (0, 1), (len(names),), Elemwise(mode=ElemwiseMode.ADD)))
    return ModelRecord("v2", 101300, operators, [(len(names), "")], {len(names): "sum"})


def to_bytes(record: ModelRecord) -> bytes:
    return b"".join(write_v2(record))


def doubled(shape, dtype) -> bytes:
    """The model ``y = x + x``."""
    record = ModelRecord("v2", 101300, [input_operator(0, "x", shape, dtype)], [(1, "")], {1: "y"})
    record.operators.append(operator("Elemwise", (0, 0), (1,), Elemwise(mode=ElemwiseMode.ADD)))
    return to_bytes(record)
