"""What an ONNX file says, as records: one class for each message of the format that is used here.

The number and the form of each field stand beside it, once, for the reader and for the writer. A field that is not
stored is None, or empty where it holds text or many values. Fields that are not named here are skipped by the reader:
documentation, training, and what newer versions of the format add.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

from megengine_lite._codes import CodeEnum
from megengine_lite._core.system.file_bytes import FilePiece
from megengine_lite._records import field, fields, record

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:  # what type checkers read; Python has it from 3.11 on

    def dataclass_transform(**_: bool) -> Callable[[type], type]:
        return lambda cls: cls


class Form(Enum):
    """What a field holds."""

    INTEGER = "q"
    FLOAT = "f"
    DOUBLE = "d"
    INT32 = "i"
    UNSIGNED = "Q"
    TEXT = "text"
    BYTES = "bytes"
    MESSAGE = "message"

    @property
    def is_number(self) -> bool:
        return len(self.value) == 1


class MessageField(NamedTuple):
    """One field: its attribute, its form, whether it may be stored many times, and how numbers are written then."""

    number: int
    name: str
    form: Form
    many: bool
    packed: bool
    message: str


class Message:
    """Base of all records."""

    __slots__ = ()
    fields: ClassVar[dict[int, MessageField]]


MESSAGES: dict[str, type[Message]] = {}
"""Name of a record -> its class."""

M = TypeVar("M", bound=type[Message])


@dataclass_transform()
def _message(cls: M) -> M:
    """Class decorator: a record whose fields are those of a message."""
    made: Any = record(slots=True)(cls)
    made.fields = {f.metadata["number"]: MessageField(name=f.name, **f.metadata) for f in fields(made)}
    MESSAGES[cls.__name__] = made
    result: M = made
    return result


def _one(number: int, form: Form, message: str = "") -> Any:
    metadata = {"number": number, "form": form, "many": False, "packed": False, "message": message}
    return field(default="" if form == Form.TEXT else None, metadata=metadata)


def _many(number: int, form: Form, message: str = "", packed: bool = False) -> Any:
    metadata = {"number": number, "form": form, "many": True, "packed": packed, "message": message}
    return field(default=(), metadata=metadata)


Numbers = Sequence[int]
Floats = Sequence[float]


class ElementType(CodeEnum):
    """Element types of tensors, as the format numbers them."""

    UNDEFINED = 0
    FLOAT = 1
    UINT8 = 2
    INT8 = 3
    UINT16 = 4
    INT16 = 5
    INT32 = 6
    INT64 = 7
    STRING = 8
    BOOL = 9
    FLOAT16 = 10
    DOUBLE = 11
    UINT32 = 12
    UINT64 = 13
    COMPLEX64 = 14
    COMPLEX128 = 15
    BFLOAT16 = 16
    FLOAT8E4M3FN = 17
    FLOAT8E4M3FNUZ = 18
    FLOAT8E5M2 = 19
    FLOAT8E5M2FNUZ = 20
    UINT4 = 21
    INT4 = 22
    FLOAT4E2M1 = 23
    FLOAT8E8M0 = 24
    UINT2 = 25
    INT2 = 26


def type_name(number: int | None) -> str:
    """The name of an element type, also of one that is not known here."""
    known = {int(t): t.name for t in ElementType}
    return f"number {number}" if number is None else known.get(number, f"number {number}")


class AttributeType(CodeEnum):
    """Kinds of attributes, as the format numbers them."""

    UNDEFINED = 0
    FLOAT = 1
    INT = 2
    STRING = 3
    TENSOR = 4
    GRAPH = 5
    FLOATS = 6
    INTS = 7
    STRINGS = 8
    TENSORS = 9
    GRAPHS = 10
    SPARSE_TENSOR = 11
    SPARSE_TENSORS = 12
    TYPE_PROTO = 13
    TYPE_PROTOS = 14


ATTRIBUTE_FIELDS = {
    AttributeType.FLOAT: "f",
    AttributeType.INT: "i",
    AttributeType.STRING: "s",
    AttributeType.TENSOR: "t",
    AttributeType.GRAPH: "g",
    AttributeType.FLOATS: "floats",
    AttributeType.INTS: "ints",
    AttributeType.STRINGS: "strings",
    AttributeType.TENSORS: "tensors",
    AttributeType.GRAPHS: "graphs",
    AttributeType.SPARSE_TENSOR: "sparse_tensor",
    AttributeType.SPARSE_TENSORS: "sparse_tensors",
    AttributeType.TYPE_PROTO: "tp",
    AttributeType.TYPE_PROTOS: "type_protos",
}
"""Which field of an attribute holds the value of each kind."""
PRODUCER = "megengine_lite"
"""The program that our export names. What follows from sizes is constant in its files, unless these have names."""
EXTERNAL = 1
"""``data_location`` of a tensor whose value is in another file."""


@_message
class StringStringEntryProto(Message):
    """A key with a value."""

    key: str = _one(1, Form.TEXT)
    value: str = _one(2, Form.TEXT)


@_message
class OperatorSetIdProto(Message):
    """The version of a domain's operators; the domain of the standard has no name."""

    domain: str = _one(1, Form.TEXT)
    version: int | None = _one(2, Form.INTEGER)


@_message
class TensorProto(Message):
    """A tensor with its value, in one of several forms."""

    dims: Numbers = _many(1, Form.INTEGER)
    data_type: int | None = _one(2, Form.INTEGER)
    segment: memoryview | None = _one(3, Form.BYTES)
    float_data: Floats = _many(4, Form.FLOAT, packed=True)
    int32_data: Numbers = _many(5, Form.INT32, packed=True)
    string_data: Sequence[memoryview] = _many(6, Form.BYTES)
    int64_data: Numbers = _many(7, Form.INTEGER, packed=True)
    name: str = _one(8, Form.TEXT)
    raw_data: memoryview | FilePiece | None = _one(9, Form.BYTES)
    double_data: Floats = _many(10, Form.DOUBLE, packed=True)
    uint64_data: Numbers = _many(11, Form.UNSIGNED, packed=True)
    external_data: Sequence[StringStringEntryProto] = _many(13, Form.MESSAGE, "StringStringEntryProto")
    data_location: int | None = _one(14, Form.INTEGER)


@_message
class SparseTensorProto(Message):
    """The elements of a tensor that are not zero, and where they are."""

    values: TensorProto | None = _one(1, Form.MESSAGE, "TensorProto")
    indices: TensorProto | None = _one(2, Form.MESSAGE, "TensorProto")
    dims: Numbers = _many(3, Form.INTEGER)


StoredTensorProto = TensorProto | SparseTensorProto


@_message
class Dimension(Message):
    """One dimension: a number, a name, or neither."""

    value: int | None = _one(1, Form.INTEGER)
    parameter: str = _one(2, Form.TEXT)


@_message
class TensorShapeProto(Message):
    """A shape; without dimensions it is that of a scalar."""

    dim: Sequence[Dimension] = _many(1, Form.MESSAGE, "Dimension")


@_message
class TensorType(Message):
    """The type of a tensor; without ``shape`` not even its rank is known."""

    elem_type: int | None = _one(1, Form.INTEGER)
    shape: TensorShapeProto | None = _one(2, Form.MESSAGE, "TensorShapeProto")


@_message
class ElementOf(Message):
    """The type of a sequence or of an optional value, by that of its element."""

    elem_type: TypeProto | None = _one(1, Form.MESSAGE, "TypeProto")


@_message
class MapType(Message):
    """The type of a map."""

    key_type: int | None = _one(1, Form.INTEGER)
    value_type: TypeProto | None = _one(2, Form.MESSAGE, "TypeProto")


@_message
class TypeProto(Message):
    """The type of a value."""

    tensor: TensorType | None = _one(1, Form.MESSAGE, "TensorType")
    sequence: ElementOf | None = _one(4, Form.MESSAGE, "ElementOf")
    map: MapType | None = _one(5, Form.MESSAGE, "MapType")
    sparse_tensor: TensorType | None = _one(8, Form.MESSAGE, "TensorType")
    optional: ElementOf | None = _one(9, Form.MESSAGE, "ElementOf")


@_message
class ValueInfoProto(Message):
    """The name and the type of a value."""

    name: str = _one(1, Form.TEXT)
    type: TypeProto | None = _one(2, Form.MESSAGE, "TypeProto")


@_message
class AttributeProto(Message):
    """An attribute of a node. ``reference`` names the attribute of a function's caller that it stands for."""

    name: str = _one(1, Form.TEXT)
    type: int | None = _one(20, Form.INTEGER)
    f: float | None = _one(2, Form.FLOAT)
    i: int | None = _one(3, Form.INTEGER)
    s: memoryview | None = _one(4, Form.BYTES)
    t: TensorProto | None = _one(5, Form.MESSAGE, "TensorProto")
    g: GraphProto | None = _one(6, Form.MESSAGE, "GraphProto")
    floats: Floats = _many(7, Form.FLOAT)
    ints: Numbers = _many(8, Form.INTEGER)
    strings: Sequence[memoryview] = _many(9, Form.BYTES)
    tensors: Sequence[TensorProto] = _many(10, Form.MESSAGE, "TensorProto")
    graphs: Sequence[GraphProto] = _many(11, Form.MESSAGE, "GraphProto")
    tp: TypeProto | None = _one(14, Form.MESSAGE, "TypeProto")
    type_protos: Sequence[TypeProto] = _many(15, Form.MESSAGE, "TypeProto")
    reference: str = _one(21, Form.TEXT)
    sparse_tensor: SparseTensorProto | None = _one(22, Form.MESSAGE, "SparseTensorProto")
    sparse_tensors: Sequence[SparseTensorProto] = _many(23, Form.MESSAGE, "SparseTensorProto")


@_message
class NodeProto(Message):
    """A call of an operator, or of a function of the model."""

    input: Sequence[str] = _many(1, Form.TEXT)
    output: Sequence[str] = _many(2, Form.TEXT)
    name: str = _one(3, Form.TEXT)
    op_type: str = _one(4, Form.TEXT)
    attribute: Sequence[AttributeProto] = _many(5, Form.MESSAGE, "AttributeProto")
    domain: str = _one(7, Form.TEXT)
    overload: str = _one(8, Form.TEXT)


@_message
class GraphProto(Message):
    """Nodes with the values that they read and make."""

    node: Sequence[NodeProto] = _many(1, Form.MESSAGE, "NodeProto")
    name: str = _one(2, Form.TEXT)
    initializer: Sequence[TensorProto] = _many(5, Form.MESSAGE, "TensorProto")
    input: Sequence[ValueInfoProto] = _many(11, Form.MESSAGE, "ValueInfoProto")
    output: Sequence[ValueInfoProto] = _many(12, Form.MESSAGE, "ValueInfoProto")
    value_info: Sequence[ValueInfoProto] = _many(13, Form.MESSAGE, "ValueInfoProto")
    sparse_initializer: Sequence[SparseTensorProto] = _many(15, Form.MESSAGE, "SparseTensorProto")


@_message
class FunctionProto(Message):
    """An operator that the model itself defines."""

    name: str = _one(1, Form.TEXT)
    input: Sequence[str] = _many(4, Form.TEXT)
    output: Sequence[str] = _many(5, Form.TEXT)
    attribute: Sequence[str] = _many(6, Form.TEXT)
    node: Sequence[NodeProto] = _many(7, Form.MESSAGE, "NodeProto")
    opset_import: Sequence[OperatorSetIdProto] = _many(9, Form.MESSAGE, "OperatorSetIdProto")
    domain: str = _one(10, Form.TEXT)
    attribute_proto: Sequence[AttributeProto] = _many(11, Form.MESSAGE, "AttributeProto")
    overload: str = _one(13, Form.TEXT)


@_message
class ModelProto(Message):
    """A model."""

    ir_version: int | None = _one(1, Form.INTEGER)
    producer_name: str = _one(2, Form.TEXT)
    producer_version: str = _one(3, Form.TEXT)
    domain: str = _one(4, Form.TEXT)
    model_version: int | None = _one(5, Form.INTEGER)
    graph: GraphProto | None = _one(7, Form.MESSAGE, "GraphProto")
    opset_import: Sequence[OperatorSetIdProto] = _many(8, Form.MESSAGE, "OperatorSetIdProto")
    metadata_props: Sequence[StringStringEntryProto] = _many(14, Form.MESSAGE, "StringStringEntryProto")
    functions: Sequence[FunctionProto] = _many(25, Form.MESSAGE, "FunctionProto")
