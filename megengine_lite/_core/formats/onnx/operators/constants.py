"""Constants, conversions, and tensors made from numbers."""

from __future__ import annotations

import numpy as np

from megengine_lite._core.formats.onnx.graph_values import Length, Nothing, Value
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.formats.onnx.operators.table import Call, NeedsShapes, NotConverted, converts
from megengine_lite._core.formats.onnx.tensors import DTYPES, element_type
from megengine_lite._core.ir import params
from megengine_lite.errors import ModelFormatError, UnsupportedOperatorError


@converts("Constant")
def _constant(call: Call) -> Value:
    b = call.builder
    if "value" in call.attributes:
        value = call.tensor("value")
        if value is not None:
            return value
    if "sparse_value" in call.attributes:
        value = call.sparse_tensor("sparse_value")
        if value is not None:
            return value
    if "value_float" in call.attributes:
        return b.constant(np.float32(call.real("value_float")))
    if "value_int" in call.attributes:
        return b.constant(np.int64(call.integer("value_int")))
    if "value_floats" in call.attributes:
        return b.constant(np.array(call.reals("value_floats"), np.float32))
    if "value_ints" in call.attributes:
        return b.constant(np.array(call.integers("value_ints"), np.int64))
    raise NotConverted(f"a constant by {', '.join(call.attributes) or 'no attribute'} is not computed here")


@converts("ConstantOfShape", since=9)
def _constant_of_shape(call: Call) -> Value:
    b, shape = call.builder, call.input(0)
    value = call.tensor("value")
    if value is None:
        value = b.constant(np.float32(0))
    rank = b.length_of(shape)
    if rank is None:
        raise NeedsShapes("the number of dimensions of its result is not known")
    if rank == 0:
        return value.with_rank(0)
    result = b.broadcast(value, shape.var, rank)
    if rank == 1 and shape.known is not None:
        result.extent = Length(int(shape.known.reshape(-1)[0]))
    return result


def target_kind(call: Call, name: str, default: ElementType) -> ElementType:
    """The element type that an attribute asks for; 0 is none."""
    try:
        kind = element_type(call.integer(name, 0) or int(default), "the result", call.op)
    except UnsupportedOperatorError as error:
        raise NotConverted(str(error)) from None
    return ElementType.FLOAT if call.narrows and kind == ElementType.DOUBLE else kind


@converts("Cast")
def _cast(call: Call) -> Value:
    return call.builder.retyped(call.input(0), target_kind(call, "to", ElementType.UNDEFINED))


@converts("CastLike", since=15)
def _cast_like(call: Call) -> Value:
    return call.builder.retyped(call.input(0), call.input(1).kind)


@converts("Range", since=11)
def _range(call: Call) -> Value:
    b, values = call.builder, [call.input(k) for k in range(3)]
    kind = values[0].kind
    counted = ElementType.FLOAT if kind in (ElementType.BFLOAT16, ElementType.FLOAT16) else kind
    inputs = [b.exact(b.retyped(v, counted)) for v in values]
    return b.retyped(b.node("Range", None, inputs, counted, 1), kind)


@converts("EyeLike", since=9)
def _eye_like(call: Call) -> Value:
    b, x = call.builder, call.input(0)
    kind = target_kind(call, "dtype", x.kind)
    parameters = params.Eye(k=call.integer("k", 0), dtype=DTYPES[ElementType.FLOAT].code)
    eye = b.node("Eye", parameters, [b.shape(x).var], ElementType.FLOAT, 2)
    return b.retyped(eye, kind)


@converts("Identity")
def _identity(call: Call) -> Value:
    value = call.anything(0)
    return call.input(0) if value is None else value


@converts("Optional", since=15)
def _optional(call: Call) -> Value:
    """The value itself: whether there is one is known while the model is loaded."""
    call.know("type")
    return call.anything(0) or Nothing()


@converts("OptionalHasElement", since=15)
def _has_element(call: Call) -> Value:
    value = call.anything(0)
    return call.builder.constant(np.array(value is not None and not isinstance(value, Nothing)))


@converts("OptionalGetElement", since=15)
def _get_element(call: Call) -> Value:
    value = call.anything(0)
    if value is None or isinstance(value, Nothing):
        raise ModelFormatError("there is no element to get")
    return value


@converts("Dropout")
def _dropout(call: Call) -> list[Value | None]:
    b, x = call.builder, call.input(0)
    if call.version < 7 and not call.integer("is_test", 0):
        raise NotConverted("it drops elements, in training; export the model for inference")
    if call.version >= 12 and call.optional(2) is not None:
        training = call.known(2, "whether it trains")
        ratio = call.known(1, "its ratio")
        if training is not None and training.any() and (ratio is None or float(ratio.reshape(-1)[0]) != 0):
            raise NotConverted("it drops elements in training only; export the model for inference")
    mask = None
    if call.n_outputs > 1 and call.wanted[1]:
        kept = b.constant(np.array(True))
        mask = b.broadcast(kept, b.shape(x).var, x.rank) if x.rank else kept
    return [x, mask]
