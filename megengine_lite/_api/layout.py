"""Layouts: shape and element type of a tensor. Public under :mod:`megengine_lite.tensor`, as in the original."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

import numpy as np

from megengine_lite._api.arguments import MAX_DIM, to_dtype_code, to_shape
from megengine_lite._core.system.integers import to_integer
from megengine_lite._core.system.strided import NUMPY_TYPES, TensorLayout
from megengine_lite.errors import LiteArgumentError, LiteTypeError, LiteValueError, brief
from megengine_lite.struct import LiteDataType

__all__ = ["MAX_DIM", "LiteLayout", "ctype_to_lite_dtypes", "lite_dtype_2_numpy"]

ctype_to_lite_dtypes = {
    ctypes.c_int: LiteDataType.LITE_INT,
    ctypes.c_uint: LiteDataType.LITE_INT,
    ctypes.c_float: LiteDataType.LITE_FLOAT,
    ctypes.c_ubyte: LiteDataType.LITE_UINT8,
    ctypes.c_byte: LiteDataType.LITE_INT8,
    ctypes.c_short: LiteDataType.LITE_INT16,
    ctypes.c_ushort: LiteDataType.LITE_UINT16,
}
"""Element type of each ctypes number."""

_DATA_TYPES = tuple(LiteDataType)
_SCALAR_TYPES = tuple(t.type for t in NUMPY_TYPES)


def lite_dtype_2_numpy(dtype: LiteDataType) -> type[np.generic]:
    """The numpy scalar class of a :class:`LiteDataType`.

    Examples
    --------
    >>> lite_dtype_2_numpy(LiteDataType.LITE_HALF)
    <class 'numpy.float16'>
    """
    if not isinstance(dtype, LiteDataType):
        raise LiteArgumentError(f"a LiteDataType is needed, not {brief(dtype)}")
    return _SCALAR_TYPES[dtype]


class LiteLayout(TensorLayout):
    """Shape and element type of a tensor.

    Parameters
    ----------
    shape
        Any iterable of up to 7 non-negative integers, the outermost dimension first. None and ``[]`` mean "no
        dimensions", the layout of an empty tensor.
    dtype
        A :class:`LiteDataType` or its number, a name (``"float32"``, ``"int8"``, …), a ``numpy.dtype``, or a numpy
        scalar class. float32 by default.

    Raises
    ------
    LiteTypeError, LiteValueError, LiteArgumentError
        Not a shape, or not a type that tensors can have.

    Notes
    -----
    Layouts are values: they are equal if shape and type are equal, and they are copied when they are passed on.

    Examples
    --------
    >>> layout = LiteLayout([1, 3, 224, 224], "uint8")
    >>> layout.shapes, layout.ndim, layout.dtype
    ([1, 3, 224, 224], 4, <class 'numpy.uint8'>)
    >>> layout == LiteLayout((1, 3, 224, 224), LiteDataType.LITE_UINT8)
    True
    """

    __slots__ = ()

    def __init__(self, shape: Iterable[int] | None = None, dtype: object = None):
        self._shape = () if shape is None else to_shape(shape)
        self._code = to_dtype_code(dtype)
        self._explicit_dtype = dtype is not None

    @classmethod
    def _make(cls, shape: tuple[int, ...], code: int) -> LiteLayout:
        self = cls.__new__(cls)
        self._shape = shape
        self._code = code
        self._explicit_dtype = True
        return self

    @property
    def shapes(self) -> list[int]:
        """The dimensions, as a new list; assign any iterable of integers to change them."""
        return [*self._shape]

    @shapes.setter
    def shapes(self, shape: Iterable[int]) -> None:
        self._shape = to_shape(shape)

    @property
    def ndim(self) -> int:
        """Number of dimensions. Assigning a smaller number drops inner dimensions, a larger one appends zeros."""
        return len(self._shape)

    @ndim.setter
    def ndim(self, ndim: int) -> None:
        ndim = to_integer(ndim, "a number of dimensions")
        if not 0 <= ndim <= MAX_DIM:
            raise LiteValueError(f"a tensor has 0 to {MAX_DIM} dimensions, not {ndim}")
        self._shape = (self._shape + (0,) * MAX_DIM)[:ndim]

    @property
    def data_type(self) -> LiteDataType:
        """The element type; assign any spelling of it."""
        return _DATA_TYPES[self._code]

    @data_type.setter
    def data_type(self, dtype: object) -> None:
        if dtype is None:
            raise LiteTypeError("None is no element type")
        self._code = to_dtype_code(dtype)
        self._explicit_dtype = True

    @property
    def dtype(self) -> type[np.generic]:
        """The numpy scalar class of the elements."""
        return _SCALAR_TYPES[self._code]

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (self._shape, self._code, self._explicit_dtype)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LiteLayout):
            return NotImplemented
        return self._shape == other._shape and self._code == other._code

    __hash__ = None  # type: ignore[assignment]  # it can be changed

    def __repr__(self) -> str:
        return str({"shapes": self.shapes, "ndim": self.ndim, "data_type": self.dtype})


def _restore(shape: tuple[int, ...], code: int, explicit_dtype: bool) -> LiteLayout:
    """A copied or pickled layout."""
    layout = LiteLayout(shape, code)
    layout._explicit_dtype = explicit_dtype
    return layout
