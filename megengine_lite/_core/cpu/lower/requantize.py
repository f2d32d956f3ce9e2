"""Kernel arguments that say how sums of int8 products become stored results (kernels/common/requantize.pxd)."""

from __future__ import annotations

from typing import Any

import numpy as np

from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import epilogue_arguments
from megengine_lite._core.ir.dtype import INT8_OPERANDS, SIGNED_INT8, UNSIGNED_INT8, DType, DTypeCode
from megengine_lite._core.ir.fused import NONLINEARITIES, Activation, ActivationCode
from megengine_lite._core.ir.params import ConvBiasNonlineMode, ElemwiseMultiTypeMode
from megengine_lite._core.ir.quantize import keeps_sums, steps
from megengine_lite.kernels.common.shared_constants import OutputKind, StorageKind

_C = DTypeCode
# Reciprocals of scales below this overflow.
_SMALLEST_SCALE = 1e-30

_KINDS = {
    **dict.fromkeys(SIGNED_INT8, StorageKind.S8),
    **dict.fromkeys((*UNSIGNED_INT8, _C.UINT8), StorageKind.U8),
    _C.QUANTIZED_S32: StorageKind.S32,
    _C.INT32: StorageKind.S32,
    _C.FLOAT32: StorageKind.F32,
}


def is_storable(dtype: DType) -> bool:
    """Whether :func:`source_arguments` and :func:`target_arguments` know the type."""
    return dtype.code in _KINDS and not (dtype.is_quantized and dtype.scale < _SMALLEST_SCALE)


def storage_kind(dtype: DType) -> StorageKind:
    """How kernels load and store elements of a type that is storable."""
    return _KINDS[dtype.code]


def source_arguments(dtype: DType, suffix: str = "") -> dict[str, Any]:
    """Arguments ``kind``, ``zero`` and ``scale`` of a kernel for one of its inputs."""
    return {
        f"kind{suffix}": storage_kind(dtype), f"zero{suffix}": dtype.zero_point,
        f"scale{suffix}": dtype.scale if dtype.is_quantized else 1.0,
    }  # fmt: skip


def target_arguments(dtype: DType) -> dict[str, Any]:
    """Arguments of a kernel for its output: ``y_kind``, ``y_zero``, ``y_scale``, ``low``, ``high``, ``ties_even``."""
    low, high = (0, 0) if dtype.is_float else relative_range(dtype) if dtype.is_quantized else (-128, 127)
    scale = dtype.scale if dtype.is_quantized else 1.0
    return {
        "y_kind": storage_kind(dtype), "y_zero": dtype.zero_point, "y_scale": scale, "low": low, "high": high,
        "ties_even": dtype.ties_to_even,
    }  # fmt: skip


def is_int8_operand(dtype: DType) -> bool:
    """Whether int8 kernels can read and write the type."""
    return dtype.code in INT8_OPERANDS and (dtype.code == _C.INT8 or dtype.scale > _SMALLEST_SCALE)


def relative_range(dtype: DType) -> tuple[int, int]:
    """Smallest and largest stored number of a quantized type, minus its zero point."""
    low, high = dtype.quantized_range
    return low - dtype.zero_point, high - dtype.zero_point


def _clipped_range(dtype: DType, bounds: tuple[float, float]) -> tuple[int, int]:
    """The same for numbers between real bounds: they are rounded like the numbers themselves."""
    first, last = relative_range(dtype)
    low, high = (min(max(n, first), last) for n in steps(np.array(bounds, np.float32), dtype))
    return int(low), int(high)


def _rounds_alike(first: DType, out: DType) -> bool:
    """Whether a kernel, which has one way to round, can make one of the types and then the other."""
    return out.is_float or first.ties_to_even == out.ties_to_even


def output_arguments(
    ctx: Lowering,
    scale: float,
    first: DType,
    out: DType,
    *,
    mode: int = ConvBiasNonlineMode.IDENTITY,
    z: DType | None = None,
    add: ElemwiseMultiTypeMode | None = None,
    real_bias: bool = False,
    one_factor: bool = False,
    activation: Activation | None = None,
) -> dict[str, Any] | None:
    """Kernel arguments that turn sums of products into stored results.

    Parameters
    ----------
    ctx
        Knows the activations of the kernels.
    scale
        Scale of the products; without meaning for plain integers.
    first
        Type of the result before ``add`` and before its conversion to ``out``.
    out
        Type that is stored.
    mode
        Activation of the first result.
    z
        Type of an added tensor: added before the activation, or after it if ``add`` is set.
    add
        Mode of the addition of z to the first result.
    real_bias
        A bias of real numbers is added to the products.
    activation
        What is applied in place of that of ``mode``.
    one_factor
        Sums become bytes by one multiplication with the ratio of the scales. Otherwise they become real values, and
        these are multiplied with the reciprocal of the output's scale. Results differ in ties only.

    Returns
    -------
    dict or None
        None if the kernels cannot do it.
    """
    arguments = _output_arguments(scale, first, out, mode, z, add, real_bias, one_factor, activation)
    if arguments is None:
        return None
    of_sums = arguments["kind"] == OutputKind.SUM
    return arguments if ctx.has_activation(arguments["activation"], of_sums=of_sums) else None


def _output_arguments(
    scale: float,
    first: DType,
    out: DType,
    mode: int,
    z: DType | None,
    add: ElemwiseMultiTypeMode | None,
    real_bias: bool,
    one_factor: bool,
    activation: Activation | None,
) -> dict[str, Any] | None:
    """The arguments, whatever the activation."""
    staged = (out != first or add is not None) and not (keeps_sums(first, scale) and add is None)
    activated = Activation(NONLINEARITIES[mode]) if activation is None else activation
    code, bounds = activated.code, activated.bounds
    arguments = {
        "kind": int(OutputKind.SUM), **epilogue_arguments(activated), "staged": int(staged),
        "ties_even": first.ties_to_even or out.ties_to_even, "z_mask": -1, "z_zero": 0,
        "y_zero": 0, "scale": scale, "mid_divisor": 1, "mid_low": 0, "mid_high": 0, "mid_scale": 1, "z_scale": 0,
        "y_scale": 1, "low": 0, "high": 0,
    }  # fmt: skip
    if z is not None:
        if not is_int8_operand(z):
            return None
        arguments |= {"z_mask": 255 if z.code in UNSIGNED_INT8 else -1, "z_zero": z.zero_point, "z_scale": z.scale}
    plain = z is None and not real_bias
    exact = code == ActivationCode.NONE or out.code == _C.INT32
    if out == first and keeps_sums(out, scale) and plain and exact:
        return arguments
    if staged:
        if not first.is_quantized or first.scale < _SMALLEST_SCALE:
            return None
        if bounds is None or (z is not None and add is None) or not _rounds_alike(first, out):
            return None
        arguments["mid_low"], arguments["mid_high"] = _clipped_range(first, bounds)
        arguments["mid_scale"] = first.scale
        arguments |= {"scale": _ratio(scale, first.scale)} if one_factor else {"mid_divisor": first.scale}
        code = ActivationCode.RELU if add == ElemwiseMultiTypeMode.QFUSE_ADD_RELU else ActivationCode.NONE
        bounds = Activation(code).bounds
    if out.code == _C.FLOAT32:
        return arguments | {"kind": int(OutputKind.REAL), "activation": int(code)}
    if not out.is_quantized or out.scale < _SMALLEST_SCALE:
        return None
    low, high = relative_range(out)
    if bounds is not None:
        (low, high), code = _clipped_range(out, bounds), ActivationCode.NONE
    arguments |= {"activation": int(code), "y_zero": out.zero_point, "y_scale": out.scale}
    arguments |= {"low": low, "high": high}
    if out.code == _C.QUANTIZED_S32:
        return arguments | {"kind": int(OutputKind.S32)}
    if out.code not in INT8_OPERANDS:
        return None
    arguments["kind"] = int(OutputKind.BYTES)
    if one_factor and plain and not staged and code == ActivationCode.NONE:
        arguments |= {"scale": _ratio(scale, out.scale), "y_scale": 1}
    return arguments


def _ratio(a: float, b: float) -> float:
    return float(np.float32(a) / np.float32(b))
