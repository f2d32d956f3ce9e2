"""Correlation of two images on every instruction set, against the definition."""

import numpy as np
import pytest
from support.one_node import INSTRUCTION_SETS, definition, relative_error, run_blocked

from megengine_lite._core.cpu.lower import correlation
from megengine_lite._core.ir.params import Correlation

OP = "CorrelationForward"


def check(params, inputs, isa, plain=()):
    results = [run_blocked(OP, params, inputs, isa, (), threads, plain) for threads in (1, 3)]
    with np.errstate(invalid="ignore"):
        expected = definition(OP, params, inputs)
    for actual, kernels in results:
        assert {"pack_correlation_f32", "correlation_f32"} <= set(kernels)
        np.testing.assert_array_equal(actual, results[0][0])
        np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
        assert (
            relative_error(np.nan_to_num(actual, posinf=9, neginf=-9), np.nan_to_num(expected, posinf=9, neginf=-9))
            < 1e-5
        )
    return results[0][0]


def images(*shape):
    return list(np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("is_multiply", [True, False])
@pytest.mark.parametrize(
    "sizes",
    [
        {"kernel_size": 1, "max_displacement": 0, "stride1": 1, "stride2": 1, "pad_size": 0},
        {"kernel_size": 3, "max_displacement": 1, "stride1": 1, "stride2": 1, "pad_size": 2},
        {"kernel_size": 1, "max_displacement": 4, "stride1": 2, "stride2": 2, "pad_size": 3},
        {"kernel_size": 3, "max_displacement": 5, "stride1": 3, "stride2": 2, "pad_size": 6},
        {"kernel_size": 5, "max_displacement": 3, "stride1": 1, "stride2": 4, "pad_size": 4},
    ],
    ids=str,
)
def test_images_are_correlated(sizes, is_multiply, isa):
    """Strides that divide the padded width and such that do not, displacements that the step does not reach."""
    params = Correlation(is_multiply=is_multiply, **sizes)
    for shape in (2, 3, 9, 8), (1, 17, 8, 37):
        check(params, images(*shape), isa)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("reach", range(11))
def test_any_number_of_displacements(reach, isa):
    check(Correlation(max_displacement=reach, pad_size=reach), images(1, 2, 2, 18), isa)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("width", [1, 7, 8, 9, 15, 16, 17, 33])
def test_any_width(width, isa):
    for is_multiply in True, False:
        params = Correlation(max_displacement=1, pad_size=1, is_multiply=is_multiply)
        check(params, images(1, 5, 3, width), isa, plain={0, 1})


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_channels_are_added_up_in_parts(isa):
    """More of them than stay near a processor."""
    for is_multiply in True, False:
        params = Correlation(max_displacement=2, pad_size=2, kernel_size=3, is_multiply=is_multiply)
        check(params, images(1, 131, 3, 61), isa)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_some_images_at_a_time(isa, monkeypatch):
    monkeypatch.setattr(correlation, "PACKED_BYTES", 2 * 4 * 7 * 8 * 3)
    check(Correlation(max_displacement=1, pad_size=1), images(5, 3, 5, 6), isa)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_numbers_that_are_not_finite(isa):
    a, b = images(1, 2, 8, 19)
    a[0, 0, 1, 2], a[0, 1, 4, 5], b[0, 0, 6, 7], b[0, 1, 0, 0] = np.nan, np.inf, -np.inf, np.nan
    for is_multiply in True, False:
        params = Correlation(max_displacement=2, pad_size=2, is_multiply=is_multiply)
        actual = check(params, [a, b], isa, plain={0, 1})
        assert 0 < np.isnan(actual).mean() < 0.2


def test_no_images():
    actual, _ = run_blocked(OP, Correlation(), images(0, 3, 5, 5), INSTRUCTION_SETS[0], plain={0, 1})
    assert actual.shape == (0, 9, 3, 3)


def test_padding_that_takes_too_much_memory_is_left_to_numpy(monkeypatch):
    monkeypatch.setattr(correlation, "MOST_BYTES", 4 * 3 * 7 * 7 - 1)
    params, inputs = Correlation(max_displacement=1, pad_size=1), images(1, 3, 5, 5)
    actual, kernels = run_blocked(OP, params, inputs, INSTRUCTION_SETS[0], plain={0, 1})
    assert kernels == [None]
    np.testing.assert_array_equal(actual, definition(OP, params, inputs))
