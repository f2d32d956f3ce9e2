"""Convolution with moved taps on every instruction set, against the definition."""

import numpy as np
import pytest
from support.one_node import INSTRUCTION_SETS, definition, relative_error, run_blocked

from megengine_lite._core.cpu.lower import deformable
from megengine_lite._core.ir.params import Convolution, ConvolutionMode, ConvolutionSparse

OP = "DeformableConvForward"
NOT_FINITE = np.float32([np.nan, np.inf, -np.inf, 3e38, -3e38])


def output_size(params, size, window):
    pads, strides = (params.pad_h, params.pad_w), (params.stride_h, params.stride_w)
    dilations = params.dilate_h, params.dilate_w
    return tuple(
        (length + 2 * pad - dilate * (taps - 1) - 1) // stride + 1
        for length, taps, pad, stride, dilate in zip(size, window, pads, strides, dilations, strict=True)
    )


def given(rng, params, x_shape, filter_shape, groups, spread=2.0):
    """Data, filter, offsets of some pixels, masks."""
    window = filter_shape[-2:]
    taps = window[0] * window[1]
    out = output_size(params, x_shape[2:], window)
    shapes = x_shape, filter_shape, (x_shape[0], 2 * groups * taps, *out), (x_shape[0], groups * taps, *out)
    x, w, offset, mask = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    return [x, w, spread * offset, mask]


def check(params, inputs, isa, constants=(1,), blocked=True):
    plain = {0, 1, 2, 3} - ({0} if blocked else set()) - set(constants)
    results = [run_blocked(OP, params, inputs, isa, constants, threads, plain) for threads in (1, 3)]
    with np.errstate(invalid="ignore", over="ignore"):
        expected = definition(OP, params, inputs, constants)
    for actual, kernels in results:
        assert "deform_columns_f32" in kernels
        assert None not in kernels
        np.testing.assert_array_equal(actual, results[0][0])
        np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
        assert relative_error(np.nan_to_num(actual), np.nan_to_num(expected)) < 1e-5
    return results[0][0]


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("channels,groups", [(1, 1), (6, 3), (16, 1), (35, 1), (35, 5), (40, 2)], ids=str)
def test_taps_are_moved(channels, groups, isa):
    """By groups of channels that fill blocks, and that begin within one."""
    rng = np.random.default_rng(0)
    for window, params in (
        ((3, 3), Convolution(pad_h=1, pad_w=1)),
        ((1, 1), Convolution()),
        ((2, 3), Convolution(pad_h=2, pad_w=1, stride_h=2, stride_w=3, dilate_h=3, dilate_w=2)),
    ):
        inputs = given(rng, params, (2, channels, 9, 11), (7, channels, *window), groups)
        check(params, inputs, isa)
        check(params, inputs, isa, constants=(), blocked=False)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_groups_of_filters_turned_around(isa):
    rng = np.random.default_rng(1)
    for mode in ConvolutionMode:
        params = Convolution(pad_h=1, pad_w=1, sparse=ConvolutionSparse.GROUP, mode=mode)
        check(params, given(rng, params, (3, 12, 5, 7), (3, 5, 4, 3, 2), 2), isa)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("size", [(1, 1), (1, 63), (13, 5), (40, 41)], ids=str)
def test_columns_are_made_in_parts(size, isa, monkeypatch):
    """Parts of an image, or some of the images, that do not divide what there is."""
    monkeypatch.setattr(deformable, "COLUMN_BYTES", 1)
    params = Convolution(pad_h=1, pad_w=1)
    check(params, given(np.random.default_rng(2), params, (7, 3, *size), (5, 3, 3, 3), 1), isa)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_places_on_and_behind_the_border(isa):
    """A place is inside up to just below a pixel from the border."""
    edge = np.float32([-1, -1 + 2**-20, -0.5, 0, 3, 3.5, 4 - 2**-20, 4, 5, -2])
    moves = np.stack(np.meshgrid(edge, edge, indexing="ij")).reshape(1, 2, 10, 10)
    base = np.mgrid[:10, :10].astype(np.float32)[None]
    params = Convolution(pad_h=3, pad_w=3)
    rng = np.random.default_rng(3)
    x, w, mask = (rng.standard_normal(s).astype(np.float32) for s in ((1, 5, 4, 4), (2, 5, 1, 1), (1, 1, 10, 10)))
    check(params, [x, w, moves - (base - 3), mask], isa)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_numbers_that_are_not_finite(isa):
    """An offset that is not finite moves a tap out of the image. What is outside does not depend on any pixel."""
    rng = np.random.default_rng(4)
    params = Convolution(pad_h=1, pad_w=1)
    x, w, offset, mask = given(rng, params, (2, 6, 8, 9), (4, 6, 1, 1), 2)
    offset.ravel()[rng.permutation(offset.size)[:100]] = np.resize(NOT_FINITE, 100)
    assert np.isfinite(check(params, [x, w, offset, mask], isa)).all()
    x[:, :, 0, 0] = np.nan
    x[0, 1, 3, 4], x[1, 2, 5, 5] = np.inf, -np.inf
    mask.ravel()[:3] = np.nan, np.inf, -np.inf
    actual = check(params, [x, w, offset, mask], isa, blocked=False)  # a convolution before would spread NaN
    assert 0 < np.isnan(actual).mean() < 0.2


def test_no_images():
    params = Convolution()
    inputs = given(np.random.default_rng(5), params, (0, 3, 5, 5), (2, 3, 3, 3), 1)
    actual, _ = run_blocked(OP, params, inputs, INSTRUCTION_SETS[0], {1}, plain={0, 2, 3})
    assert actual.shape == (0, 2, 3, 3)


def test_computed_filter_that_is_turned_around_runs_in_numpy():
    params = Convolution(mode=ConvolutionMode.CONVOLUTION)
    inputs = given(np.random.default_rng(6), params, (1, 3, 5, 5), (2, 3, 3, 3), 1)
    actual, kernels = run_blocked(OP, params, inputs, INSTRUCTION_SETS[0], plain={0, 1, 2, 3})
    assert kernels == [None]
    np.testing.assert_array_equal(actual, definition(OP, params, inputs))
