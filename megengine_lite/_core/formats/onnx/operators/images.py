"""Resizing of images and other data."""

from __future__ import annotations

import numpy as np

from megengine_lite._core.formats.onnx.graph_values import Value
from megengine_lite._core.formats.onnx.operators.table import Call, NotConverted, converts
from megengine_lite._core.ir import params
from megengine_lite._core.ir.onnx_image_params import BY_SCALE, OnnxResize
from megengine_lite._core.ir.params import ConvolutionFormat, InterpolationMode

_MODES = ("nearest", "linear", "cubic")
_COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "tf_half_pixel_for_nn",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
)
_NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
_POLICIES = ("stretch", "not_larger", "not_smaller")


def one_of(call: Call, name: str, default: str, known: tuple[str, ...]) -> str:
    found = call.text(name, default)
    if found not in known:
        raise NotConverted(f"{name} is {found!r}; there are {', '.join(known)}")
    return found


@converts("Resize", "Upsample")
def _resize(call: Call) -> Value:
    b, x = call.builder, call.input(0)
    if call.op == "Upsample" or call.version < 11:
        given = call.reals("scales") if call.version < 9 else None
        factors = call.input(1) if given is None else b.constant(np.array(given, np.float32))
        mode, axes = one_of(call, "mode", "nearest", _MODES), tuple(range(x.rank))
        if call.op == "Upsample" and factors.known is not None and bool((factors.known < 1).any()):
            raise NotConverted(f"its scales are {factors.known.tolist()}; Upsample has none below 1, Resize does")
        parameters = OnnxResize(axes, False, mode, BY_SCALE, "asymmetric", -0.75, False, 0.0, False, "stretch")
        return _resized(call, x, factors, parameters)
    scales, sizes = call.optional(2), call.optional(3)
    by_sizes = sizes is not None and (scales is None or scales.length == 0 or sizes.length != 0)
    numbers = sizes if by_sizes else scales
    if numbers is None:
        raise NotConverted("it has neither scales nor sizes")
    named = call.integers("axes") if call.version >= 18 else None
    places = list(range(x.rank)) if named is None else call.axes_in_order(named, x.rank)
    parameters = OnnxResize(
        tuple(places),
        by_sizes,
        one_of(call, "mode", "nearest", _MODES),
        one_of(call, "nearest_mode", "round_prefer_floor", _NEAREST),
        one_of(call, "coordinate_transformation_mode", "half_pixel", _COORDINATES),
        call.real("cubic_coeff_a", -0.75),
        bool(call.integer("exclude_outside", 0)),
        call.real("extrapolation_value", 0.0),
        bool(call.integer("antialias", 0)),
        one_of(call, "keep_aspect_ratio_policy", "stretch", _POLICIES),
    )
    return _resized(call, x, numbers, parameters)


def _resized(call: Call, x: Value, numbers: Value, p: OnnxResize) -> Value:
    b = call.builder
    fast = _by_kernel(call, x, numbers, p)
    if fast is not None:
        return fast
    inputs = [b.exact(x), numbers.var]
    region = call.optional(1) if call.op == "Resize" and call.version >= 11 else None
    if p.coordinates == "tf_crop_and_resize":
        if region is None:
            raise NotConverted("it needs the region of interest")
        inputs.append(region.var)
    return b.node("OnnxResize", p, inputs, x.kind, x.rank)


def _whole(numbers: np.ndarray) -> list[int] | None:
    """The numbers, if they are whole, positive, and no larger than a size may be."""
    values = numbers.reshape(-1).astype(np.float64)
    if not np.all((values >= 1) & (values < 1 << 31) & (values == np.floor(values))):
        return None
    return [int(n) for n in values]


def _by_kernel(call: Call, x: Value, numbers: Value, p: OnnxResize) -> Value | None:
    """Resizing of images by whole factors, or to sizes, by the kernels; None if they have no such rules."""
    b = call.builder
    linear = p.mode == "linear" and p.coordinates in ("half_pixel", "pytorch_half_pixel")
    nearest = p.mode == "nearest" and p.coordinates == "asymmetric" and p.nearest in ("floor", BY_SCALE)
    if not (linear or nearest) or p.antialias or p.policy != "stretch" or not x.is_float32 or x.rank != 4:
        return None
    if numbers.known is None or p.axes not in ((0, 1, 2, 3), (2, 3)):
        return None
    given = _whole(numbers.known)
    if given is None:
        return None  # so no factor is below 1
    if p.by_sizes:
        if len(given) != 2 or min(given) < 2:
            return None  # the kernels keep batch and channels, whose sizes are not known here
        target = b.integers(given)
    else:
        if len(given) not in (2, 4) or (len(given) == 4 and given[:2] != [1, 1]):
            return None
        factors = given[-2:]
        space = b.part(b.shape(x), 0, 2, None)
        target = b.elemwise(params.ElemwiseMode.MUL, space, b.constant(np.array(factors))).var
    kind = InterpolationMode.LINEAR if linear else InterpolationMode.NEAREST
    parameters = params.Resize(imode=kind, format=ConvolutionFormat.NCHW)
    return b.node("Resize", parameters, [x.var, b.size(target)], x.kind, x.rank)
