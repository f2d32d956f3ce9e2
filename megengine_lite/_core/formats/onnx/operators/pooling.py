"""Pooling."""

from __future__ import annotations

from megengine_lite._core.formats.onnx.graph_builder import GraphBuilder
from megengine_lite._core.formats.onnx.graph_values import Value, check_kind
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.formats.onnx.operators.convolution import (
    WindowAttributes,
    as_images,
    window_of,
)
from megengine_lite._core.formats.onnx.operators.reductions import reduced
from megengine_lite._core.formats.onnx.operators.table import Call, NotConverted, converts
from megengine_lite._core.formats.onnx.tensors import DTYPES
from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import INT64
from megengine_lite._core.ir.onnx_image_params import OnnxPooling
from megengine_lite._core.ir.onnx_params import OnnxMode
from megengine_lite._core.ir.params import ElemwiseMode, PoolingMode, ReduceMode

_MODES = {"MaxPool": "max", "AveragePool": "average", "LpPool": "norm"}


@converts(*_MODES)
def _pool(call: Call) -> list[Value | None]:
    b, x = call.builder, call.input(0)
    axes = x.rank - 2
    check_kind(x.kind, "iuf")
    if axes < 1:
        raise NotConverted(f"data of {x.rank} dimensions have no positions")
    window = window_of(call, call.integers("kernel_shape") or [], axes)
    ceil, counts_pads = bool(call.integer("ceil_mode", 0)), bool(call.integer("count_include_pad", 0))
    positions = call.n_outputs > 1 and call.wanted[1]
    mode = _MODES[call.op]
    call.know("storage_order", "p")
    if x.is_float32 and axes <= 2 and not positions and mode != "norm" and max(window.dilations) == 1:
        fast = _by_kernel(b, x, window, mode, ceil, counts_pads)
        if fast is not None:
            return [fast]
    parameters = OnnxPooling(
        mode,
        window.size,
        window.strides,
        window.dilations,
        window.begin,
        window.end,
        ceil,
        window.same,
        counts_pads,
        call.positive("p", 2),
        bool(call.integer("storage_order", 0)),
        positions,
    )
    found = b.nodes_of("OnnxPooling", parameters, [b.exact(x)], 2 if positions else 1)
    result: list[Value | None] = [Value(found[0], x.kind, x.rank, DTYPES[x.kind])]
    if positions:
        result.append(Value(found[1], ElementType.INT64, x.rank, INT64))
    return result


def _by_kernel(
    b: GraphBuilder, x: Value, window: WindowAttributes, mode: str, ceil: bool, counts_pads: bool
) -> Value | None:
    """Pooling of images by the kernels; None if they have no such rules."""
    if len(window.size) == 1:
        (image,) = as_images(b, x)
        found = _by_kernel(b, image, window.of_images(), mode, ceil, counts_pads)
        return None if found is None else b.without_axes(found, [2])
    if ceil and max(window.strides) > 1:
        # One stride less one more behind the image makes room for the window that does not fit completely. It begins
        # inside of the image as long as the padding and the stride do not reach over the window.
        sums = zip(window.end, window.strides, window.size, strict=True)
        if mode != "max" or window.same or any(e + s > k for e, s, k in sums):
            return None
        end = tuple(e + s - 1 for e, s in zip(window.end, window.strides, strict=True))
        window = window._replace(end=end)
    if not window.is_symmetric or any(p >= k for p, k in zip(window.begin, window.size, strict=True)):
        return None
    kind = PoolingMode.MAX
    if mode == "average":
        kind = PoolingMode.AVERAGE if counts_pads else PoolingMode.AVERAGE_COUNT_EXCLUDE_PADDING
    parameters = params.Pooling(
        mode=kind,
        pad_h=window.begin[0],
        pad_w=window.begin[1],
        stride_h=window.strides[0],
        stride_w=window.strides[1],
        window_h=window.size[0],
        window_w=window.size[1],
    )
    return b.node("Pooling", parameters, [x.var], x.kind, x.rank)


@converts("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def _global_pool(call: Call) -> Value:
    b, x = call.builder, call.input(0)
    axes = list(range(2, x.rank))
    if call.op == "GlobalLpPool":
        order = call.positive("p", 2)
        if order == 1:
            return reduced(b, b.elemwise(ElemwiseMode.ABS, x), axes, ReduceMode.SUM)
        if order != 2:
            check_kind(x.kind, "f")
            kind = ElementType.DOUBLE if x.kind == ElementType.DOUBLE else ElementType.FLOAT
            size = b.elemwise(ElemwiseMode.ABS, b.retyped(x, kind))
            total = reduced(b, b.onnx_elemwise(OnnxMode.POWER, size, b.number(order, size)), axes, ReduceMode.SUM)
            return b.retyped(b.onnx_elemwise(OnnxMode.POWER, total, b.number(1 / order, total)), x.kind)
        return b.elemwise(ElemwiseMode.SQRT, reduced(b, b.elemwise(ElemwiseMode.SQUARE, x), axes, ReduceMode.SUM))
    if call.op == "GlobalMaxPool" and x.is_float32:  # as the maximum over a window, which passes over infinity
        for axis in axes:
            x = b.node("Reduce", params.Reduce(mode=ReduceMode.MAX, axis=axis), [x.var], x.kind, x.rank)
        return x
    return reduced(b, x, axes, ReduceMode.MEAN if call.op == "GlobalAveragePool" else ReduceMode.MAX)
