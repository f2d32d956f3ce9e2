"""Element types of convolutions: valid combinations, how products are summed, and how the sum is stored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir.dtype import FLOAT64, INT32, DType, DTypeCode
from megengine_lite._core.ir.graph import AnyNode, TensorSpec
from megengine_lite._core.ir.params import ConvBiasNonlineMode
from megengine_lite._core.ir.quantize import from_float32, keeps_sums, to_float32
from megengine_lite._core.operators.base import fail

_C = DTypeCode
_FLOATS = (_C.FLOAT32, _C.FLOAT16, _C.BFLOAT16, _C.FLOAT64)
_SMALL_QUANTIZED = (_C.QUANTIZED_S8, _C.QUANTIZED8_ASYMM, _C.QUANTIZED_S4, _C.QUANTIZED4_ASYMM)
# Largest distance of a stored number from its zero point.
_MAGNITUDE = {
    _C.INT8: 128,
    _C.QUANTIZED_S8: 128,
    _C.QUANTIZED8_ASYMM: 255,
    _C.QUANTIZED_S4: 8,
    _C.QUANTIZED4_ASYMM: 15,
}
# A bias may be quantized with a slightly different scale than the products. It is added as an integer all the same.
_SCALE_TOLERANCE = 0.02


def product_scale(x: DType, w: DType) -> float:
    """Scale of the sum of products of two quantized types, in float32 like everything that files hold."""
    return float(np.float32(x.scale) * np.float32(w.scale))


def sum_scale(x: DType, w: DType, bias: DType | None, out: DType) -> float:
    """Scale of the sums of a convolution of quantized types: that of an integer bias, as in the original.

    Sums that are the result itself keep theirs.
    """
    scale = product_scale(x, w)
    if bias is None or bias.code is not _C.QUANTIZED_S32 or keeps_sums(out, scale):
        return scale
    return bias.scale


def output_dtype(node: AnyNode, x: DType, w: DType) -> DType:
    """Type of a convolution's result; raises if the types do not go together."""
    wanted = node.output_dtype
    if x.code in _FLOATS:
        if w.code is not x.code:
            raise fail(node, f"data are {x}, the filter is {w}")
        if wanted is not None and not wanted.is_float:
            raise fail(node, f"a convolution of {x} cannot give {wanted}")
        return wanted or x
    if x.code is _C.INT8 and w.code is _C.INT8:
        if wanted is not None and wanted.code not in (_C.INT32, _C.INT16):
            raise fail(node, f"a convolution of int8 cannot give {wanted}")
        return wanted or INT32
    if x.code in _SMALL_QUANTIZED and w.code in _SMALL_QUANTIZED:
        if wanted is None:
            return DType(_C.QUANTIZED_S32, product_scale(x, w))
        if wanted.code not in (*_SMALL_QUANTIZED, _C.QUANTIZED_S32, _C.FLOAT32):
            raise fail(node, f"a convolution of {x} cannot give {wanted}")
        return wanted
    raise fail(node, f"there is no convolution of {x} data with a {w} filter")


def check_bias(node: AnyNode, x: DType, w: DType, bias: DType) -> None:
    """Raises if a bias has a type that cannot be added."""
    if x.is_float:
        fits = bias.code in (x.code, _C.FLOAT32)
    elif x.is_quantized:
        scale = product_scale(x, w)
        fits = bias.code is _C.FLOAT32 or (
            bias.code is _C.QUANTIZED_S32 and abs(bias.scale - scale) <= _SCALE_TOLERANCE * scale
        )
    else:
        fits = bias.code is _C.INT32
    if not fits:
        raise fail(node, f"a bias of {bias} cannot be added to products of {x} and {w}")


def check_addend(node: AnyNode, out: DType, z: DType) -> None:
    """Raises if the tensor ``z`` cannot be added to a result of type ``out``."""
    fits = (z.is_quantized or z.code is _C.FLOAT32) if out.is_quantized else z.code is out.code
    if not fits:
        raise fail(node, f"z of {z} cannot be added to a result of {out}")


def operands(x: np.ndarray, w: np.ndarray, specs: Sequence[TensorSpec], terms: int) -> tuple[np.ndarray, np.ndarray]:
    """Data and filter as float arrays in which a sum of ``terms`` products is exact for integers.

    Zero points are taken off, so that zero padding is right for all types.
    """
    types = [s.dtype for s in specs]
    if types[0] == FLOAT64:
        return x, w
    if types[0].is_float:
        return to_float32(x, types[0]), to_float32(w, types[1])
    bound = terms * _MAGNITUDE[types[0].code] * _MAGNITUDE[types[1].code]
    exact = np.float32 if bound < 2**24 else np.float64
    return _centred(x, types[0], exact), _centred(w, types[1], exact)


def _centred(array: np.ndarray, dtype: DType, target: type) -> np.ndarray:
    centred: np.ndarray = array.astype(target)
    return centred - dtype.zero_point if dtype.zero_point else centred


def nonlinearity(mode: int, real: np.ndarray) -> np.ndarray:
    """The activation of ConvBias on float32 values."""
    if mode == ConvBiasNonlineMode.RELU:
        result: np.ndarray = np.maximum(real, 0)
        return result
    if mode == ConvBiasNonlineMode.SIGMOID:
        result = 1 / (1 + np.exp(-real))
        return result
    if mode == ConvBiasNonlineMode.H_SWISH:
        result = real * np.clip(real + 3, 0, 6) / 6
        return result
    return real


def check_nonlinearity(node: AnyNode, out: DType) -> None:
    """Raises for activations that are unknown or have no meaning for the result's type."""
    mode = node.params.nonlineMode
    if mode not in list(ConvBiasNonlineMode):
        raise fail(node, f"unknown nonlinearity {mode}")
    plain_integer = not out.is_float and not out.is_quantized
    if plain_integer and mode not in (ConvBiasNonlineMode.IDENTITY, ConvBiasNonlineMode.RELU):
        raise fail(node, f"{mode.name} needs real numbers, the result is {out}")


def finish(
    sums: np.ndarray,
    specs: Sequence[TensorSpec],
    out: DType,
    bias: np.ndarray | None = None,
    z: np.ndarray | None = None,
    mode: int = ConvBiasNonlineMode.IDENTITY,
) -> np.ndarray:
    """From sums of products to the stored result: ``nonlinearity(sums + bias + z)`` in the output's type.

    Parameters
    ----------
    sums
        Sums of products from :func:`operands`.
    specs
        Specs of data, filter and, where given, bias and z.
    out
        Type of the result.
    bias, z
        Stored arrays that broadcast with ``sums``.
    """
    x, w = specs[0].dtype, specs[1].dtype
    if x == FLOAT64:  # models of ONNX add a bias by a node of its own
        return sums
    bias_type = None if bias is None else specs[2].dtype
    if x.is_float:
        real = sums
    else:
        integers = sums.astype(np.int64)
        if bias is not None and not specs[2].dtype.is_float:
            integers = integers + bias
            bias = None
        integers = integers.astype(np.int32)
        if not x.is_quantized:
            if z is not None:
                integers = integers + z
            if mode == ConvBiasNonlineMode.RELU:
                integers = np.maximum(integers, 0)
            return integers.astype(out.storage)
        scale = sum_scale(x, w, bias_type, out)
        if keeps_sums(out, scale) and bias is None and z is None and mode == ConvBiasNonlineMode.IDENTITY:
            return integers
        real = integers.astype(np.float32) * np.float32(scale)
    if bias is not None:
        real = real + to_float32(bias, specs[2].dtype)
    if z is not None:
        real = real + to_float32(z, specs[3].dtype)
    return from_float32(nonlinearity(mode, real), out)
