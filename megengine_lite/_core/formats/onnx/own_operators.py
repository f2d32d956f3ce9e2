"""Our own operators in ONNX models: as the export writes them in the domain ``megengine``, and as they are read again.

The parameters are attributes with the names of their fields. What is no number is text in JSON; an element type is a
list of its number, scale, zero point and rounding. ``input_types`` and ``output_types`` are there if some are
quantized, since ONNX has plain integers in their place; a type that is not is null.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from megengine_lite._core.formats.onnx.graph_builder import GraphBuilder
from megengine_lite._core.formats.onnx.graph_values import Value
from megengine_lite._core.formats.onnx.messages import AttributeProto, AttributeType
from megengine_lite._core.formats.onnx.operators.table import Call, NeedsShapes, NotConverted
from megengine_lite._core.formats.onnx.tensors import DTYPES, KINDS
from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import DType, DTypeCode, from_numpy
from megengine_lite._core.ir.graph import AnyNode, AnyVar, TensorSpec
from megengine_lite._core.ir.onnx_params import OnnxBytes
from megengine_lite._core.ir.params import AxisDesc, IndexDescMaskItem, Param
from megengine_lite._core.operators.base import Operator
from megengine_lite._core.operators.registry import REGISTRY
from megengine_lite.errors import ModelFormatError

DOMAIN = "megengine"
_RECORDS: dict[str, Any] = {"AxisDesc[]": AxisDesc, "IndexDescMaskItem[]": IndexDescMaskItem}


# ---- written --------------------------------------------------------------------------------------------------------


def attributes_of(node: AnyNode, inputs: Sequence[DType], outputs: Sequence[DType]) -> dict[str, Any]:
    """What is written of a node, whose variables are of these types."""
    found: dict[str, Any] = {}
    if isinstance(node.params, Param):
        found = {name: _written(value) for name, value in node.params.values().items()}
    if node.payload:
        found["payload"] = [bytes(part) for part in node.payload]
    if node.output_dtype is not None:
        found["output_dtype"] = json.dumps(_listed(node.output_dtype))
    for name, types in (("input_types", inputs), ("output_types", outputs)):
        if any(t.is_quantized for t in types):
            found[name] = json.dumps([_listed(t) if t.is_quantized else None for t in types])
    return found


def _written(value: Any) -> Any:
    if isinstance(value, float):
        return value
    if isinstance(value, DType):
        return json.dumps(_listed(value))
    if isinstance(value, tuple):
        return json.dumps([v if isinstance(v, int) else [int(getattr(v, f)) for f in _fields(v)] for v in value])
    return int(value)


def _fields(value: Any) -> Sequence[str]:
    names: Sequence[str] = type(value).__slots__
    return names


def _listed(dtype: DType) -> list[Any]:
    return [int(dtype.code), dtype.scale, dtype.zero_point, dtype.ties_to_even]


# ---- read -----------------------------------------------------------------------------------------------------------


def convert_own_operator(call: Call) -> list[Value | None]:
    """The outputs of such an operator, whose inference says their types and numbers of dimensions."""
    b = call.builder
    operator = REGISTRY.get(call.op)
    if operator is None or operator.in_files is None:
        raise NotConverted("MegEngine has no such operator, and none is registered")
    call.know(*call.attributes)
    inputs = [call.input(k) for k in range(len(call.inputs))]
    outside = _types(call, "output_types", call.n_outputs)  # of the results, to which they are checked
    variables = _as_typed(b, inputs, _types(call, "input_types", len(inputs)))
    specs = []
    for k, (value, (_, dtype)) in enumerate(zip(inputs, variables, strict=True)):
        shape = b.inferred_shape(value)
        if shape is None:
            raise NeedsShapes(f"the shape of its input {k} is not known, and its outputs depend on that")
        specs.append(TensorSpec(shape, dtype, b.known_value(value)))
    parameters = _parameters(call, operator)
    payload = call.byte_texts("payload")
    count = call.n_outputs
    node = AnyNode(call.op, parameters, [v for v, _ in variables], [AnyVar(0)] * count, b.label, _output_type(call))
    node.payload = operator.load_payload(payload, len(inputs), count)
    for k in operator.needed_values(node):
        if specs[k].value is None:
            raise NeedsShapes(f"its input {k} is computed when the model runs, and the shape of a result depends on it")
    made = operator.infer(node, specs)
    outputs = b.nodes_of(call.op, parameters, node.inputs, count, node.output_dtype, node.payload)
    found: list[Value | None] = []
    for var, spec, wanted in zip(outputs, made, outside, strict=False):
        if not isinstance(spec, TensorSpec):
            raise NotConverted("the shape of its results depends on data")
        dtype = spec.dtype
        if wanted is not None and wanted != dtype:
            raise NotConverted(f"a result is of type {dtype}, and the model says {wanted}")
        if dtype.is_quantized:
            dtype = from_numpy(dtype.storage)
            (var,) = b.nodes_of("OnnxBytes", OnnxBytes(dtype), [var])
        found.append(b.carried(var, KINDS[dtype.storage], len(spec.shape), dtype))
    return found


def _as_typed(b: GraphBuilder, inputs: Sequence[Value], types: Sequence[DType | None]) -> list[tuple[AnyVar, DType]]:
    """The inputs as variables of the types that the operator takes."""
    found = []
    for value, dtype in zip(inputs, types, strict=True):
        var = b.exact(value)
        if dtype is not None:
            (var,) = b.nodes_of("OnnxBytes", OnnxBytes(dtype), [var])
        found.append((var, dtype or DTYPES[value.kind]))
    return found


def _types(call: Call, name: str, count: int) -> list[DType | None]:
    listed = _json(call, name)
    if listed is None:
        return [None] * count
    if not isinstance(listed, list) or len(listed) != count:
        raise ModelFormatError(f"the attribute {name!r} must have an element for each of {count}")
    return [None if one is None else _type(one, name) for one in listed]


def _output_type(call: Call) -> DType | None:
    found = _json(call, "output_dtype")
    return None if found is None else _type(found, "output_dtype")


def _type(listed: Any, name: str) -> DType:
    try:
        code, scale, zero, even = listed
        return DType(DTypeCode(code), float(scale), int(zero), bool(even))
    except (TypeError, ValueError, OverflowError):
        raise ModelFormatError(f"the attribute {name!r} names no element type") from None


def _json(call: Call, name: str) -> Any:
    text = call.text(name, "")
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        raise ModelFormatError(f"the attribute {name!r} is no JSON") from None


def _parameters(call: Call, operator: Operator) -> Param:
    """The parameters that the attributes name; those that are not there have their defaults."""
    table: type[Param] = operator.param or params.Empty
    values: dict[str, Any] = {}
    kinds = {field.name: field for field in table.layout}
    for name, default in table.defaults.items():
        attribute = call.attributes.get(name)
        if attribute is None:
            continue
        if isinstance(default, DType):
            values[name] = _type(_json(call, name), name)
        elif isinstance(default, tuple):
            values[name] = _vector(_json(call, name), name, kinds[name].kind if name in kinds else "")
        else:
            values[name] = _number(attribute, kinds[name])
    return table(**values)


def _vector(listed: Any, name: str, kind: str) -> tuple[Any, ...]:
    made = _RECORDS.get(kind)
    try:
        return tuple(int(v) if made is None else made(*v) for v in listed)
    except (TypeError, ValueError, OverflowError):
        raise ModelFormatError(f"the attribute {name!r} does not have the elements of such a parameter") from None


def _number(attribute: AttributeProto, field: params.Field) -> Any:
    found = attribute.f if field.kind.startswith("float") else attribute.i
    if found is None or attribute.type not in (None, AttributeType.FLOAT, AttributeType.INT):
        raise ModelFormatError(f"the attribute {attribute.name!r} must be a number")
    if field.kind == "bool":
        return bool(found)
    if isinstance(found, float):
        return found
    limits = np.iinfo(field.kind)
    if not limits.min <= found <= limits.max:
        raise ModelFormatError(f"the attribute {attribute.name!r} is {found}, and must be a number of {field.kind}")
    if field.enum is None:
        return found
    try:
        return field.enum(found)
    except ValueError:
        return found  # the operator decides whether it can use it
