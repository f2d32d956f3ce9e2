"""Resizing with the rules of ONNX on every instruction set, against its definition."""

import numpy as np
import pytest
from support.one_node import INSTRUCTION_SETS, definition, run_blocked, run_node

from megengine_lite._core.ir.image_layouts import Format
from megengine_lite._core.ir.onnx_image_params import OnnxResize
from megengine_lite._core.ir.params import InterpolationMode, Resize

SHAPES = {  # shape, axes, factors
    "image": ((2, 3, 7, 40), (2, 3), (1.7, 2)),
    "smaller": ((1, 2, 23, 41), (2, 3), (0.35, 0.6)),
    "all axes": ((1, 2, 7, 9), (0, 1, 2, 3), (1, 1, 3, 0.5)),
    "channels last": ((2, 7, 9, 5), (1, 2), (2.5, 1.7)),
    "rows": ((2, 7, 35), (1,), (0.4,)),
    "columns": ((2, 7, 35), (2,), (2.2,)),
    "volume": ((1, 2, 5, 6, 19), (2, 3, 4), (2, 0.5, 1.3)),
    "apart": ((3, 4, 5), (0, 2), (2, 1.7)),
    "one axis": ((37,), (0,), (0.3,)),
    "unchanged": ((2, 3, 4, 5), (2, 3), (1, 1)),
}
COORDINATES = (
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize",
    "tf_half_pixel_for_nn",
)  # fmt: skip


def parameters(axes, mode="linear", coordinates="half_pixel", nearest="floor", antialias=False, exclude=False):
    return OnnxResize(axes, False, mode, nearest, coordinates, -0.75, exclude, 7.0, antialias, "stretch")


def numbers(shape, dtype):
    x = np.random.default_rng(0).standard_normal(shape) * 90
    return x.astype(dtype) if dtype != np.uint8 else np.clip(x + 100, 0, 255).astype(dtype)


def check(x, factors, p, isa, threads=2, tolerance=4e-6):
    inputs = [x, np.float32(factors)]
    if p.coordinates == "tf_crop_and_resize":
        inputs.append(np.float32([0.1] * len(p.axes) + [1.2] * len(p.axes)))
    known = set(range(1, len(inputs)))
    actual, kernels = run_node("OnnxResize", p, inputs, known, isa, threads)
    expected = definition("OnnxResize", p, inputs, known)
    assert actual.dtype == expected.dtype
    if x.dtype.kind == "f" and p.mode != "nearest":
        np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * np.abs(x).max())
    else:
        np.testing.assert_array_equal(actual, expected)
    return kernels


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.int8, np.int32, np.int64], ids=lambda t: t.__name__)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("name", SHAPES)
def test_modes_types_and_axes(name, mode, dtype, isa):
    shape, axes, factors = SHAPES[name]
    kernels = check(numbers(shape, dtype), factors, parameters(axes, mode), isa)
    several = name in ("volume", "apart") or dtype == np.int64
    is_numpy = mode != "nearest" and dtype != np.float32 and several and name != "unchanged"
    assert (None in kernels) == is_numpy


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_coordinates(mode, coordinates, isa):
    for factors in (1.7, 2), (0.3, 0.45), (1 / 7, 0.1):
        kernels = check(numbers((1, 3, 7, 20), np.float32), factors, parameters((2, 3), mode, coordinates), isa)
        assert (None in kernels) == (coordinates == "tf_crop_and_resize")


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_wide_kernels(mode, isa):
    for p in parameters((2, 3), mode, antialias=True), parameters((2, 3), mode, exclude=True):
        for dtype in np.float32, np.uint8:
            assert None not in check(numbers((1, 3, 70, 64), dtype), (0.03, 0.11), p, isa)
    p = parameters((1, 2), mode, antialias=True)
    assert check(numbers((1, 200, 30, 2), np.float32), (0.02, 0.5), p, isa) == [None]  # taps beyond MAX_TAPS


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("how", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
def test_nearest_elements(how, isa):
    for item in np.int8, np.int16, np.float32, np.int64:
        for factor in 2, 0.5, 1 / 3, 2.6:
            p = parameters((2, 3), "nearest", nearest=how)
            assert check(numbers((1, 2, 9, 41), item), (factor, factor), p, isa) == ["pick_pixels"]


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("factors", [(2, 2), (0.35, 1), (1.3, 0.2)], ids=str)
def test_blocked_images(factors, mode, isa):
    inputs = [numbers((2, 19, 7, 6), np.float32), np.float32(factors)]
    p = parameters((2, 3), mode)
    actual, kernels = run_blocked("OnnxResize", p, inputs, isa, {1}, 2)
    assert "resize_pixels_f32" in kernels
    np.testing.assert_allclose(actual, definition("OnnxResize", p, inputs, {1}), rtol=2e-6, atol=4e-4)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("fmt", [Format.NCHW, Format.NHWC], ids=lambda f: f.name)
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.float32], ids=lambda t: t.__name__)
def test_nearest_pixels_of_images(dtype, fmt, isa):
    inputs = [numbers((2, 3, 7, 5), dtype), np.int32([14, 9])]
    p = Resize(imode=InterpolationMode.NEAREST, format=fmt)
    actual, kernels = run_node("Resize", p, inputs, {1}, isa, 2)
    assert kernels == ["pick_pixels"]
    np.testing.assert_array_equal(actual, definition("Resize", p, inputs, {1}))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("size", [(14, 9), (3, 4), (7, 5), (5, 41), (1, 1)], ids=str)
@pytest.mark.parametrize("fmt", [Format.NCHW, Format.NHWC], ids=lambda f: f.name)
@pytest.mark.parametrize("dtype", [np.uint8, np.int8], ids=lambda t: t.__name__)
def test_images_of_bytes(dtype, fmt, size, isa):
    for mode in InterpolationMode:
        if fmt == Format.NCHW and mode not in (InterpolationMode.LINEAR, InterpolationMode.CUBIC):
            continue
        for channels in 1, 3, 20:
            shape = (2, channels, 7, 15) if fmt == Format.NCHW else (2, 7, 15, channels)
            inputs, p = [numbers(shape, dtype), np.int32(size)], Resize(imode=mode, format=fmt)
            actual, kernels = run_node("Resize", p, inputs, {1}, isa, 2)
            assert kernels == ["pick_pixels" if mode == InterpolationMode.NEAREST else "resize_bytes"]
            np.testing.assert_array_equal(actual, definition("Resize", p, inputs, {1}))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_flat_images_stay_flat(isa):
    for value in 1, 100, 255:
        for factors in (0.35, 1.7), (3.3, 0.77):
            for mode in "linear", "cubic":
                x = np.full((1, 1, 23, 29), value, np.uint8)
                out, _ = run_node("OnnxResize", parameters((2, 3), mode), [x, np.float32(factors)], {1}, isa)
                assert (out == value).all()


def test_sizes_and_nearest_elements_are_those_of_float32():
    x = np.arange(640, dtype=np.float32)
    out = definition("OnnxResize", parameters((0,)), [x, np.float32([0.35])], {1})
    assert out.shape == (224,)
    p = parameters((0,), "nearest", "asymmetric")
    out = definition("OnnxResize", p, [x[:30], np.float32([1 / 3])], {1})
    np.testing.assert_array_equal(out, np.arange(0, 30, 3))
