"""Resizing on every instruction set, plain, blocked and NHWC, against its definition."""

import numpy as np
import pytest
from support.guarded_memory import GuardedCall
from support.one_node import INSTRUCTION_SETS, definition, run_blocked

from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.ir.image_layouts import Format
from megengine_lite._core.ir.params import BorderMode, InterpolationMode, Resize, WarpPerspective

Mode = InterpolationMode


def random(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("size", [(14, 12), (3, 5), (1, 1), (7, 6), (10, 40)], ids=str)
@pytest.mark.parametrize("mode", [Mode.NEAREST, Mode.LINEAR, Mode.CUBIC], ids=lambda m: m.name)
def test_images(mode, size, isa):
    inputs = [random(2, 35, 7, 6), np.int32(size)]
    params = Resize(imode=mode, format=Format.NCHW)
    expected = definition("Resize", params, inputs, {1})
    plain_kernel = "pick_pixels" if mode == Mode.NEAREST else "resize_plain_f32"
    for plain, kernel in ((), "resize_pixels_f32"), ({0}, plain_kernel):
        actual, kernels = run_blocked("Resize", params, inputs, isa, {1}, 2, plain)
        assert kernel in kernels
        np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize(("width", "out"), [(200, 33), (67, 35), (40, 90)])
@pytest.mark.parametrize("mode", [Mode.NEAREST, Mode.LINEAR, Mode.CUBIC], ids=lambda m: m.name)
def test_wide_plain_images(mode, width, out, isa):
    inputs = [random(1, 2, 5, width), np.int32([4, out])]
    params = Resize(imode=mode, format=Format.NCHW)
    actual, _ = run_blocked("Resize", params, inputs, isa, {1}, 1, {0})
    np.testing.assert_allclose(actual, definition("Resize", params, inputs, {1}), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("channels", [1, 3, 20])
@pytest.mark.parametrize("mode", list(Mode), ids=lambda m: m.name)
def test_channels_last(mode, channels, isa):
    inputs = [random(2, 9, 8, channels), np.int32([5, 13])]
    params = Resize(imode=mode, format=Format.NHWC)
    actual, kernels = run_blocked("Resize", params, inputs, isa, {1}, 2, {0})
    assert kernels == ["pick_pixels" if mode == Mode.NEAREST else "resize_pixels_f32"]
    np.testing.assert_allclose(actual, definition("Resize", params, inputs, {1}), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize(
    "border", [BorderMode.REPLICATE, BorderMode.REFLECT_101, BorderMode.WRAP], ids=lambda m: m.name
)
def test_warp_by_a_constant_scale_is_a_resize(border, isa):
    matrix = np.float32([[[0.4, 0, -0.3], [0, 1.7, 0.2], [0, 0, 0.9]]] * 2)
    inputs = [random(2, 20, 7, 6), matrix, np.int32([9, 14])]
    params = WarpPerspective(format=Format.NCHW, bmode=border)
    actual, kernels = run_blocked("WarpPerspective", params, inputs, isa, {1, 2})
    assert "resize_pixels_f32" in kernels
    np.testing.assert_allclose(actual, definition("WarpPerspective", params, inputs, {1, 2}), rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_tables_pick_rows_and_columns(isa):
    x, weights, y = random(1, 4, 4), np.ones(3, np.float32), np.full((1, 3, 3), np.nan, np.float32)
    picked = np.int32([0, 1, 3])
    GuardedCall(
        kernel_set(isa), "resize_plain_f32", x=x, y=y, rows=picked, row_weights=weights, columns=picked,
        column_weights=weights, starts=None, h=4, w=4, oh=3, ow=3, taps_y=1, taps_x=1, work=3,
        scratch=kernel_set(isa).module("resize").scratch_bytes(4),
    ).run()  # fmt: skip
    np.testing.assert_array_equal(y, x[:, [0, 1, 3]][:, :, [0, 1, 3]])
