"""Integers that are quantized or plain, as ONNX says it, and bytes read as another type."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir import onnx_params
from megengine_lite._core.ir.dtype import FLOAT32, INT8, STORED_IN_8_BITS, UINT8, DType, DTypeCode
from megengine_lite._core.ir.graph import AnyNode, TensorSpec
from megengine_lite._core.operators.base import Operator, fail, register
from megengine_lite._core.operators.checks import (
    check_count,
)

_SIGN = np.uint8(0x80)


@register
class OnnxBytes(Operator):
    """The same bytes under another type; the sign bit changes if one of the types is signed and the other is not.

    ``QuantizeLinear`` gives plain integers, with which a model may do anything. Between it and ``DequantizeLinear``
    they are of a quantized type, and this operator leads from the one to the other.
    """

    name = "OnnxBytes"
    in_files = None
    element_types = "integers"
    has_shape_of = slice(1)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        p: onnx_params.OnnxBytes = node.params
        if not self._are_alike(ins[0].dtype, p.dtype):
            raise fail(node, f"{ins[0].dtype} does not have the bytes of {p.dtype}")
        return [TensorSpec(ins[0].shape, p.dtype)]

    @staticmethod
    def _are_alike(x: DType, y: DType) -> bool:
        codes = (x.code, y.code)
        if DTypeCode.QUANTIZED_S32 in codes:
            return DTypeCode.INT32 in codes
        return all(code in STORED_IN_8_BITS for code in codes)

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        storage = out_specs[0].dtype.storage
        if ins[0].dtype == storage:
            return [ins[0]]
        return [(ins[0].view(np.uint8) ^ _SIGN).view(storage)]


@register
class OnnxQuantize(Operator):
    """Real numbers as bytes, by a scale and a zero point that are computed.

    Inputs float32 data, the scale, and the zero point of the type of the result, each one number. Quotients are rounded
    to the nearest integer, halves to even ones; NaN becomes the lowest byte.
    """

    name = "OnnxQuantize"
    in_files = None
    element_types = "float32"
    has_shape_of = slice(1)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 3)
        if ins[0].dtype != FLOAT32 or ins[1].dtype != FLOAT32 or ins[2].dtype not in (INT8, UINT8):
            raise fail(node, f"{ins[0].dtype} data with a scale and a zero point of other types than float32 and bytes")
        if ins[1].size != 1 or ins[2].size != 1:
            raise fail(node, "the scale and the zero point must be single numbers")
        return [TensorSpec(ins[0].shape, ins[2].dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        storage = out_specs[0].dtype.storage
        limits = np.iinfo(storage)
        with np.errstate(all="ignore"):
            steps = np.rint(ins[0] / ins[1].reshape(())) + ins[2].reshape(()).astype(np.float32)
        return [np.fmin(np.fmax(steps, np.float32(limits.min)), np.float32(limits.max)).astype(storage)]


@register
class BitCast(Operator):
    """The bits of the elements as elements of another type of the same size."""

    name = "BitCast"
    in_files = None
    element_types = "floats, integers, bool"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        dtype: DType = node.params.dtype
        if dtype.itemsize != ins[0].dtype.itemsize:
            raise fail(node, f"elements of {ins[0].dtype} have another size than those of {dtype}")
        return [TensorSpec(ins[0].shape, dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        return [np.ascontiguousarray(ins[0]).view(out_specs[0].dtype.storage)]
