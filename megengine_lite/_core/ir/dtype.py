"""Element types of tensors, as model files number them."""

from __future__ import annotations

import numpy as np

from megengine_lite._codes import CodeEnum
from megengine_lite._records import record


class DTypeCode(CodeEnum):
    """The number of each type in files; both generations of the format use the same.

    Numbers from 256 on are in no such file: types of other formats.
    """

    FLOAT32 = 0
    UINT8 = 1
    INT8 = 2
    INT16 = 3
    INT32 = 4
    INTB1 = 5
    INTB2 = 6
    INTB4 = 7
    BYTE = 8
    FLOAT16 = 9
    UINTB4 = 10
    QUANTIZED8_ASYMM = 11
    QUANTIZED_S32 = 12
    QUANTIZED_S8 = 13
    QUANTIZED4_ASYMM = 14
    QUANTIZED_S4 = 15
    QUANTIZED_S16 = 16
    BFLOAT16 = 17
    BOOL = 18
    UINT16 = 19
    QUANTIZED_S1 = 20
    COMPLEX64 = 21
    INT64 = 256
    UINT32 = 257
    UINT64 = 258
    FLOAT64 = 259


_C = DTypeCode
# In memory an element takes at least one byte: 4-bit types are unpacked when a file is read.
_STORAGE = {
    _C.FLOAT32: np.float32,
    _C.UINT8: np.uint8,
    _C.INT8: np.int8,
    _C.INT16: np.int16,
    _C.INT32: np.int32,
    _C.BYTE: np.uint8,
    _C.FLOAT16: np.float16,
    _C.UINTB4: np.uint8,
    _C.INTB4: np.int8,
    _C.QUANTIZED8_ASYMM: np.uint8,
    _C.QUANTIZED_S32: np.int32,
    _C.QUANTIZED_S8: np.int8,
    _C.QUANTIZED4_ASYMM: np.uint8,
    _C.QUANTIZED_S4: np.int8,
    _C.QUANTIZED_S16: np.int16,
    _C.BFLOAT16: np.uint16,
    _C.BOOL: np.bool_,
    _C.UINT16: np.uint16,
    _C.QUANTIZED_S1: np.int8,
    _C.COMPLEX64: np.complex64,
    _C.INT64: np.int64,
    _C.UINT32: np.uint32,
    _C.UINT64: np.uint64,
    _C.FLOAT64: np.float64,
}
_NUMPY_TYPES = {code: np.dtype(scalar) for code, scalar in _STORAGE.items()}
_PACKED_BITS = {
    _C.INTB1: 1,
    _C.INTB2: 2,
    _C.INTB4: 4,
    _C.UINTB4: 4,
    _C.QUANTIZED4_ASYMM: 4,
    _C.QUANTIZED_S4: 4,
    _C.QUANTIZED_S1: 1,
}
_QUANTIZED_RANGE = {
    _C.QUANTIZED8_ASYMM: (0, 255),
    _C.QUANTIZED_S32: (-(2**31), 2**31 - 128),
    _C.QUANTIZED_S8: (-128, 127),
    _C.QUANTIZED4_ASYMM: (0, 15),
    _C.QUANTIZED_S4: (-8, 7),
    _C.QUANTIZED_S16: (-32768, 32767),
    _C.QUANTIZED_S1: (0, 1),
}

_ORIGINAL_NAMES = {
    _C.FLOAT32: "Float32",
    _C.UINT8: "Uint8",
    _C.INT8: "Int8",
    _C.INT16: "Int16",
    _C.INT32: "Int32",
    _C.BYTE: "Byte",
    _C.FLOAT16: "Float16",
    _C.BFLOAT16: "BFloat16",
    _C.BOOL: "Bool",
    _C.UINT16: "Uint16",
    _C.QUANTIZED8_ASYMM: "Quantized8Asymm",
    _C.QUANTIZED_S32: "QuantizedS32",
    _C.QUANTIZED_S8: "QuantizedS8",
    _C.QUANTIZED_S16: "QuantizedS16",
    _C.QUANTIZED4_ASYMM: "Quantized4Asymm",
    _C.QUANTIZED_S4: "QuantizedS4",
    _C.QUANTIZED_S1: "QuantizedS1",
    _C.COMPLEX64: "Complex64",
}
STORED_IN_8_BITS = frozenset(code for code, storage in _NUMPY_TYPES.items() if storage.itemsize == 1)
"""Types whose elements take one byte in memory."""
WIDE = frozenset((_C.INT64, _C.UINT32, _C.UINT64, _C.FLOAT64))
"""Types of ONNX, which no tensor of the API has: int64 has a few kernels, the others are computed in numpy."""
SIGNED_INT8 = (_C.QUANTIZED_S8, _C.QUANTIZED_S4, _C.INT8)
UNSIGNED_INT8 = (_C.QUANTIZED8_ASYMM, _C.QUANTIZED4_ASYMM)
INT8_OPERANDS = SIGNED_INT8 + UNSIGNED_INT8
"""Types of the operands of quantized convolutions and matrix products."""


@record(frozen=True, slots=True)
class DType:
    """An element type; quantized types carry their scale and zero point.

    The real value of a quantized element ``q`` is ``(q - zero_point) * scale``. If a real number lies in the middle
    between two of them, it becomes the one away from zero, or with ``ties_to_even``, as in ONNX, the even one before
    the zero point is added.
    """

    code: DTypeCode
    scale: float = 0.0
    zero_point: int = 0
    ties_to_even: bool = False

    @property
    def storage(self) -> np.dtype:
        """The numpy type of one element in memory."""
        return _NUMPY_TYPES[self.code]

    @property
    def itemsize(self) -> int:
        return self.storage.itemsize

    @property
    def packed_bits(self) -> int:
        """Bits per element in a file for types below one byte, else 0."""
        return _PACKED_BITS.get(self.code, 0)

    @property
    def is_quantized(self) -> bool:
        return self.code in _QUANTIZED_RANGE

    @property
    def is_wide(self) -> bool:
        return self.code in WIDE

    @property
    def is_float(self) -> bool:
        """Whether it is computed as float32, or as exactly as float32 is; a float64 is not."""
        return self.code in (_C.FLOAT32, _C.FLOAT16, _C.BFLOAT16)

    @property
    def quantized_range(self) -> tuple[int, int]:
        """Smallest and largest stored number of a quantized type."""
        return _QUANTIZED_RANGE[self.code]

    @property
    def name(self) -> str:
        return self.code.name.lower()

    @property
    def original_name(self) -> str:
        """The original's name of the type; scales are not part of it."""
        return _ORIGINAL_NAMES.get(self.code, self.name)

    def __str__(self) -> str:
        if not self.is_quantized:
            return self.name
        zero = f", zero_point={self.zero_point}" if "ASYMM" in self.code.name else ""
        return f"{self.name}(scale={self.scale:g}{zero})"


FLOAT32 = DType(_C.FLOAT32)
FLOAT16 = DType(_C.FLOAT16)
INT32 = DType(_C.INT32)
INT16 = DType(_C.INT16)
INT8 = DType(_C.INT8)
UINT8 = DType(_C.UINT8)
UINT16 = DType(_C.UINT16)
BOOL = DType(_C.BOOL)
BYTE = DType(_C.BYTE)
INT64 = DType(_C.INT64)
UINT32 = DType(_C.UINT32)
UINT64 = DType(_C.UINT64)
FLOAT64 = DType(_C.FLOAT64)

_FROM_NUMPY = {d.storage: d for d in (FLOAT32, FLOAT16, INT32, INT16, INT8, UINT8, UINT16, BOOL)}


def from_numpy(dtype: np.dtype | type) -> DType:
    """The plain type of a numpy dtype, neither quantized nor wide; ``KeyError`` if there is none."""
    return _FROM_NUMPY[np.dtype(dtype)]
