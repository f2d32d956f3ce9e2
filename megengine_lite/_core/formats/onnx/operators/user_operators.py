"""Operators that users define in Python, in ONNX models: under the name of the domain, a dot, and that of the type."""

from __future__ import annotations

from typing import Any

from megengine_lite._core.formats.onnx.graph_values import Value, numbers_of
from megengine_lite._core.formats.onnx.messages import AttributeProto, AttributeType, ElementType
from megengine_lite._core.formats.onnx.operators.table import Call, NeedsShapes, NotConverted
from megengine_lite._core.formats.onnx.tensors import DTYPES, KINDS
from megengine_lite._core.ir.graph import AnyNode, AnyVar, TensorSpec
from megengine_lite._core.ir.onnx_params import OnnxAttributes
from megengine_lite._core.operators.custom import UserOperator
from megengine_lite._core.operators.names import canonical_name


def convert_user_operator(call: Call, operator: UserOperator) -> list[Value | None]:
    """The outputs of such an operator. Its function for shapes says their types and numbers of dimensions."""
    b = call.builder
    places = [call.optional(k) for k in range(len(call.inputs))]
    inputs = [value for value in places if value is not None]
    specs = []
    for k, value in enumerate(places):
        if value is None:
            continue
        shape = b.inferred_shape(value)
        if shape is None:
            raise NeedsShapes(f"the shape of its input {k} is not known, and its outputs depend on that")
        specs.append(TensorSpec(shape, DTYPES[value.kind]))
    call.know(*call.attributes)
    fields = {name: _plain(call, attribute) for name, attribute in call.attributes.items()}
    given, scalars = tuple(value is not None for value in places), tuple(value.rank == 0 for value in inputs)
    params = OnnxAttributes(fields, given, scalars)
    variables = [b.exact(value) for value in inputs]
    count = operator.count_outputs(params, len(places), ())
    op = canonical_name(operator.type_name)
    node = AnyNode(op, params, variables, [AnyVar(0)] * count, b.label)
    promised = operator.promised(node, specs)
    params = OnnxAttributes(fields, given, scalars, tuple(is_scalar for _, is_scalar in promised))
    values: list[Value | None] = []
    for var, (spec, is_scalar) in zip(b.nodes_of(op, params, variables, count), promised, strict=True):
        is_bfloat16 = spec.dtype == DTYPES[ElementType.BFLOAT16]  # of which the elements are stored as uint16
        kind = ElementType.BFLOAT16 if is_bfloat16 else KINDS.get(spec.dtype.storage)
        if not isinstance(spec, TensorSpec) or kind is None:
            raise NotConverted("infer must give the shapes of outputs, and types that ONNX has")
        values.append(b.carried(var, kind, 0 if is_scalar else len(spec.shape), spec.dtype))
    return values


def _plain(call: Call, attribute: AttributeProto) -> Any:
    """The value of an attribute: a number, a text, an array, or a list of these."""
    kind = attribute.type
    if kind == AttributeType.TENSOR and attribute.t is not None:
        tensor = call.constant(attribute.t)
        return numbers_of(tensor.var.constant.array, tensor.dtype)
    if kind == AttributeType.STRING and attribute.s is not None:
        return _text(attribute.s)
    if kind == AttributeType.STRINGS:
        return [_text(s) for s in attribute.strings]
    if kind in (AttributeType.INTS, AttributeType.FLOATS):
        return list(attribute.ints if kind == AttributeType.INTS else attribute.floats)
    found = attribute.i if kind == AttributeType.INT else attribute.f if kind == AttributeType.FLOAT else None
    if found is None:
        raise NotConverted(f"its attribute {attribute.name!r} is no number, text or tensor")
    return found


def _text(value: memoryview) -> str:
    return bytes(value).decode("utf-8", "backslashreplace")
