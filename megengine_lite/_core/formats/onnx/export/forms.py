"""The forms in which a variable of the model is there in the ONNX graph, each made when it is first asked for.

==========  ===========================================================================================================
stored      the elements as they are in memory: quantized types as the integers that stand for real numbers
real        the real numbers, as float32
index       int32 as int64, as the operators of ONNX take shapes and indexes
==========  ===========================================================================================================

Stored and real values of images exist in NCHW, too, whatever layout the variable has. Convolutions that follow one
another exchange these, so that no layout is made that nobody reads.
"""

from __future__ import annotations

import numpy as np

from megengine_lite._core.formats.onnx.export.graph_writer import GraphWriter, OnnxValue
from megengine_lite._core.formats.onnx.export.rounding import round_half_away
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.formats.onnx.tensors import DTYPES
from megengine_lite._core.ir.dtype import DType, DTypeCode
from megengine_lite._core.ir.graph import Constant
from megengine_lite._core.ir.image_layouts import Format, block_size, stored_axes, to_nchw
from megengine_lite._core.ir.known_shapes import KnownVar
from megengine_lite._core.ir.quantize import to_float32
from megengine_lite._records import field, record

_C = DTypeCode
_E = ElementType
STORED = {
    **{dtype.code: kind for kind, dtype in DTYPES.items() if kind != _E.BFLOAT16},
    _C.BYTE: _E.UINT8,
    _C.QUANTIZED8_ASYMM: _E.UINT8,
    _C.QUANTIZED_S32: _E.INT32,
    _C.QUANTIZED_S8: _E.INT8,
    _C.QUANTIZED4_ASYMM: _E.UINT8,
    _C.QUANTIZED_S4: _E.INT8,
    _C.QUANTIZED_S16: _E.INT16,
}
"""The element types of ONNX in which those here are stored. Types that are missing are not exported."""

# What QuantizeLinear writes and DequantizeLinear reads.
_QDQ = (_C.QUANTIZED8_ASYMM, _C.QUANTIZED_S8, _C.QUANTIZED4_ASYMM, _C.QUANTIZED_S4)

Layout = Format | None


@record(slots=True)
class Forms:
    """The forms of one variable."""

    writer: GraphWriter
    known: KnownVar
    stored: dict[Layout, OnnxValue] = field(default_factory=dict)
    reals: dict[Layout, OnnxValue] = field(default_factory=dict)
    index: OnnxValue | None = None

    @property
    def dtype(self) -> DType:
        return self.known.dtype

    @property
    def constant(self) -> Constant | None:
        return self.known.constant

    @property
    def layout(self) -> Layout:
        """The layout of images in which the variable is there, if it is there in no other form."""
        return next((f for f in self.stored if f is not None), None) if None not in self.stored else None

    @property
    def is_index(self) -> bool:
        """Whether it is there as int64, and not as int32."""
        return self.index is not None and not self.stored

    def get_stored(self, layout: Layout = None) -> OnnxValue:
        """The elements; with a layout, as NCHW, given that the variable has this layout."""
        layout = None if layout == Format.NCHW else layout
        found = self.stored.get(layout)
        if found is None:
            found = self.stored[layout] = self._make_stored(layout)
        return found

    def _make_stored(self, layout: Layout) -> OnnxValue:
        w = self.writer
        if self.constant is not None:
            array = self.constant.array
            if layout is not None:
                array = np.ascontiguousarray(to_nchw(layout, array))
            return w.constant(array, key=(id(self.constant), layout))
        if self.stored:
            other = next(iter(self.stored))
            plain = self.stored[other]
            if layout is None:
                assert other is not None
                return image_to_layout(w, plain, other)
            return image_to_nchw(w, plain if other is None else self.get_stored(), layout, self.known)
        assert self.index is not None
        return w.as_kind(self.index, _E.INT32)

    def get_real(self, layout: Layout = None) -> OnnxValue:
        """The real numbers as float32, of types that have such."""
        layout = None if layout == Format.NCHW else layout
        if self.dtype.code == _C.FLOAT32:
            return self.get_stored(layout)
        found = self.reals.get(layout)
        if found is None:
            found = self.reals[layout] = self._make_real(layout)
        return found

    def _make_real(self, layout: Layout) -> OnnxValue:
        w, dtype = self.writer, self.dtype
        if self.constant is not None and not dtype.is_quantized:
            array = to_float32(self.constant.array, dtype)
            if layout is not None:
                array = np.ascontiguousarray(to_nchw(layout, array))
            return w.constant(array, key=(id(self.constant), layout, "real"))
        return dequantized(w, self.get_stored(layout), dtype)

    def get_index(self) -> OnnxValue:
        """The integers as int64."""
        if self.index is None:
            w = self.writer
            if self.constant is not None or self.known.value is not None:
                array = self.constant.array if self.constant is not None else self.known.value
                assert array is not None
                self.index = w.constant(array.astype(np.int64))
            else:
                self.index = w.as_kind(self.get_stored(), _E.INT64)
        return self.index

    def put_real(self, value: OnnxValue, layout: Layout = None) -> None:
        """Defines the variable by real numbers."""
        layout = None if layout == Format.NCHW else layout
        self.stored[layout] = quantized(self.writer, value, self.dtype)


def dequantized(w: GraphWriter, stored: OnnxValue, dtype: DType) -> OnnxValue:
    """The real numbers of elements of a type, as float32."""
    if not dtype.is_quantized:
        return w.as_kind(stored, _E.FLOAT)
    if dtype.code == _C.QUANTIZED_S32 or dtype.code in _QDQ:
        zero = None if dtype.code == _C.QUANTIZED_S32 else _zero_point(w, dtype)
        return w.op("DequantizeLinear", stored, _scale(w, dtype), zero, kind=_E.FLOAT)
    return (w.as_kind(stored, _E.FLOAT) - float(dtype.zero_point)) * _scale(w, dtype)


def quantized(w: GraphWriter, real: OnnxValue, dtype: DType) -> OnnxValue:
    """The elements of a type for real numbers.

    QuantizeLinear rounds halves of a step to even numbers, where we round them away from zero: one step where a number
    lies in the middle. Other programs know this operator and compute in int8 between it and DequantizeLinear.
    """
    if not dtype.is_quantized:
        return w.as_kind(real, STORED[dtype.code])
    if dtype.code not in _QDQ:
        return quantized_exactly(w, real, dtype)
    found = w.op("QuantizeLinear", real, _scale(w, dtype), _zero_point(w, dtype), kind=STORED[dtype.code])
    if dtype.packed_bits:
        found = w.op("Clip", found, *(w.scalar(n, found.kind) for n in dtype.quantized_range))
    return found


def quantized_exactly(w: GraphWriter, real: OnnxValue, dtype: DType) -> OnnxValue:
    """The elements of a quantized type for real numbers, rounded as we do it."""
    steps = round_half_away(w, real / _scale(w, dtype))
    if dtype.zero_point:
        steps = steps + float(dtype.zero_point)
    limited = w.op("Clip", steps, *(w.scalar(n, _E.FLOAT) for n in dtype.quantized_range))
    return w.as_kind(limited, STORED[dtype.code])


def _scale(w: GraphWriter, dtype: DType) -> OnnxValue:
    return w.scalar(dtype.scale, _E.FLOAT)


def _zero_point(w: GraphWriter, dtype: DType) -> OnnxValue:
    return w.scalar(dtype.zero_point, STORED[dtype.code])


def image_to_nchw(w: GraphWriter, x: OnnxValue, layout: Format, known: KnownVar | None = None) -> OnnxValue:
    """An image of a layout as NCHW."""
    axes = stored_axes(layout)
    moved = w.transpose(x, axes)
    if block_size(layout) == 1:
        return moved
    blocks = -1
    if known is not None:
        dim = known.dims[axes[1]]
        if dim is not None:
            blocks = dim * block_size(layout)
    if blocks == -1:
        count = w.size(moved, 1) * w.integers(block_size(layout))
        return w.reshape(moved, 0, count, *_sizes(w, moved, (3, 4)))
    return w.reshape(moved, 0, blocks, *_sizes(w, moved, (3, 4)))


def _sizes(w: GraphWriter, x: OnnxValue, axes: tuple[int, ...]) -> list[OnnxValue]:
    return [w.slice(w.shape(x), 0, axes[0], axes[-1] + 1)]


def image_to_layout(w: GraphWriter, x: OnnxValue, layout: Format) -> OnnxValue:
    """An NCHW image, whose channels make up whole blocks, in a layout."""
    block = block_size(layout)
    if block > 1:
        x = w.reshape(x, 0, -1, block, *_sizes(w, x, (2, 3)))
    return w.transpose(x, [int(k) for k in np.argsort(stored_axes(layout))])
