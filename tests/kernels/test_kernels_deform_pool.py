"""Pooling of regions whose bins are moved, on every instruction set, against the definition."""

import numpy as np
import pytest
from support.one_node import INSTRUCTION_SETS, definition, relative_error, run_blocked

from megengine_lite._core.ir.params import DeformablePSROIPooling
from megengine_lite.errors import LiteIndexError

OP = "DeformablePSROIPoolingForward"


def regions(rng, count, images, extent):
    """Corners in and around the images, a few of them in the wrong order."""
    corners = rng.uniform(-0.3 * extent, 1.3 * extent, (count, 4))
    corners[2:] = np.sort(corners[2:].reshape(-1, 2, 2), axis=1).reshape(-1, 4)
    return np.concatenate([rng.integers(0, images, (count, 1)), corners], axis=1).astype(np.float32)


def check(params, inputs, isa, tolerance=1e-5):
    """Both outputs, with one thread and with several; which one is asked for does not matter to the other."""
    for output, plain in (0, {1, 2}), (1, {0, 1, 2}):
        results = [run_blocked(OP, params, inputs, isa, (), threads, plain, output) for threads in (1, 3)]
        for actual, kernels in results:
            assert "deform_pool_f32" in kernels
            assert None not in kernels
            np.testing.assert_array_equal(actual, results[0][0])
        with np.errstate(invalid="ignore"):
            expected = definition(OP, params, inputs, output=output)
        np.testing.assert_array_equal(np.isnan(results[0][0]), np.isnan(expected))
        if output:
            np.testing.assert_array_equal(results[0][0], expected)
        else:
            assert relative_error(np.nan_to_num(results[0][0]), np.nan_to_num(expected)) < tolerance
    return expected


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("channels", [1, 3, 16, 35])
@pytest.mark.parametrize("size", [(1, 1, 1, 1), (2, 3, 2, 1), (3, 2, 5, 4), (4, 7, 3, 5)], ids=str)
def test_bins_are_pooled_where_they_are_moved_to(size, channels, isa):
    rng = np.random.default_rng(0)
    pooled_h, pooled_w, part_size, samples = size
    rois = regions(rng, 7, 2, 48)
    trans = rng.standard_normal((7 * part_size**2, 2, pooled_h, pooled_w)).astype(np.float32)
    inputs = [rng.standard_normal((2, channels, 12, 15)).astype(np.float32), rois, trans]
    for no_trans in False, True:
        params = DeformablePSROIPooling(
            no_trans=no_trans, spatial_scale=0.25, trans_std=0.2, pooled_h=pooled_h, pooled_w=pooled_w,
            part_size=part_size, sample_per_part=samples,
        )  # fmt: skip
        check(params, inputs, isa)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_numbers_that_are_not_finite(isa):
    """Of moves, corners and pixels. Bins without any sample are 0."""
    rng = np.random.default_rng(1)
    params = DeformablePSROIPooling(
        no_trans=False, spatial_scale=0.5, trans_std=0.1, pooled_h=3, pooled_w=3, part_size=3, sample_per_part=2
    )
    special = np.float32([np.nan, np.inf, -np.inf, 3e38, -3e38])
    trans = rng.standard_normal((9, 2, 3, 3)).astype(np.float32)
    trans.ravel()[rng.permutation(trans.size)[:30]] = np.resize(special, 30)
    rois = regions(rng, 9, 1, 20)
    x = rng.standard_normal((1, 5, 10, 10)).astype(np.float32)
    assert (check(params, [x, rois, trans], isa) == 0).any()
    rois[np.arange(5), rng.integers(1, 5, 5)] = special
    check(params, [x, rois, trans], isa)
    x[0, 0, 3, 4], x[0, 1, 5], x[0, 2, :, 7] = np.nan, np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        expected = definition(OP, params, [x, rois, trans])
    actual, _ = run_blocked(OP, params, [x, rois, trans], isa, plain={0, 1, 2})
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_samples_on_the_very_border_count(isa):
    """The place of a sample is the same float as in the definition, where half a pixel outside is still inside."""
    x = np.random.default_rng(2).standard_normal((1, 3, 7, 7)).astype(np.float32)
    step = np.arange(40, dtype=np.float32)[:, None]
    rois = np.concatenate([0 * step, step - 20, step - 20, step / 3, step / 3], axis=1).astype(np.float32)
    for scale in 0.1, 1 / 3, 1.0:
        params = DeformablePSROIPooling(spatial_scale=scale, pooled_h=5, pooled_w=3, part_size=1, sample_per_part=4)
        check(params, [x, rois, np.zeros((1,), np.float32)], isa)


def test_no_regions():
    inputs = [np.ones((2, 3, 4, 4), np.float32), np.zeros((0, 5), np.float32), np.zeros((0, 2, 1, 1), np.float32)]
    for no_trans in False, True:
        params = DeformablePSROIPooling(no_trans=no_trans)
        actual, _ = run_blocked(OP, params, inputs, INSTRUCTION_SETS[0], plain={0, 1, 2})
        assert actual.shape == (0, 3, 1, 1)


@pytest.mark.parametrize("image", [2, -1, np.nan])
def test_region_of_no_image_is_an_error(image):
    inputs = [np.zeros((2, 3, 4, 4), np.float32), np.float32([[image, 0, 0, 3, 3]]), np.zeros(1, np.float32)]
    with pytest.raises(LiteIndexError, match="does not exist, there are 2"):
        run_blocked(OP, DeformablePSROIPooling(), inputs, INSTRUCTION_SETS[0], plain={1, 2})
