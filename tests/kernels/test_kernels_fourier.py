"""Fourier transforms on every instruction set, against the definition."""

import numpy as np
import pytest
from support.one_node import INSTRUCTION_SETS, definition, run_node

from megengine_lite._core.ir.onnx_params import Fourier, ShortTime

LENGTHS = [1, 2, 3, 4, 5, 6, 7, 8, 12, 15, 16, 21, 32, 49, 100, 105, 128, 320, 400, 512, 630, 2048]


def signal(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def same(op, params, inputs, constants, isa, kernels=("fourier_rows_f32",)):
    expected = definition(op, params, inputs, constants)
    for threads in 1, 3:
        actual, ran = run_node(op, params, inputs, constants, isa, threads)
        assert ran == list(kernels)
        largest = max(np.abs(expected).max(), 1)
        np.testing.assert_allclose(actual / largest, expected / largest, rtol=0, atol=1e-6)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("n", LENGTHS)
def test_transforms_and_their_inverses(n, parts, isa):
    for rows in 1, 19:
        same("FourierTransform", Fourier(False, False, 1, False), [signal(rows, n, parts)], (), isa)
        same("FourierTransform", Fourier(True, False, 1, False), [signal(rows, n, parts)], (), isa)
        if parts == 1:
            same("FourierTransform", Fourier(False, True, 1, False), [signal(rows, n, 1)], (), isa)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("length", [10, 25, 40])
def test_signals_are_filled_up_with_zeros_or_cut(length, isa):
    inputs = [signal(2, 3, length, 2), np.array([25])]
    same("FourierTransform", Fourier(False, False, 2, True), inputs, {1}, isa)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("windowed", [False, True])
@pytest.mark.parametrize(
    ("shape", "frame", "step"), [((1, 64), 64, 1), ((2, 333), 64, 10), ((3, 90, 2), 30, 7)], ids=str
)
def test_frames_of_signals(shape, frame, step, windowed, isa):
    params = ShortTime(len(shape) == 2, windowed, True)
    inputs = [signal(*shape), np.array(step).reshape(1), *([signal(frame)] if windowed else []), np.array([frame])]
    same("ShortTimeFourier", params, inputs, {1, len(inputs) - 1}, isa)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_what_no_kernel_transforms_runs_in_numpy(isa):
    for params, shape in (
        (Fourier(False, False, 1, False), (2, 11, 1)),  # a length that is prime
        (Fourier(False, False, 0, False), (8, 3, 1)),  # another axis than the last one
        (Fourier(True, True, 1, False), (2, 9, 2)),  # a real signal from half a spectrum
    ):
        same("FourierTransform", params, [signal(*shape)], (), isa, (None,))
