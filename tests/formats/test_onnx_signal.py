"""Fourier transforms, windows and mel filters of ONNX, against sums of sines and cosines."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_models import expected, load, make, run

from megengine_lite.errors import LiteError

F, F16, I64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64
RNG = np.random.default_rng(5)


def spectrum(x, length, sign=-1):
    """By the definition, along the last axis, for real or complex x."""
    padded = np.zeros((*x.shape[:-1], length), complex)
    kept = min(length, x.shape[-1])
    padded[..., :kept] = x[..., :kept]
    turns = np.outer(np.arange(length), np.arange(length)) / length
    return padded @ np.exp(sign * 2j * np.pi * turns)


def parts(x):
    return np.stack([x.real, x.imag], -1)


def network(op, inputs, kind=F, opset=20, constants=(), **attributes):
    """A model of one node; inputs are names with their ranks, those of constants without."""
    names = [name for name, _ in inputs]
    given = [(n, I64 if n in ("step", "length", "axis") else kind, [None] * rank) for n, rank in inputs if rank]
    node = helper.make_node(op, names, ["y"], **attributes)
    return load(make([node], given, [("y", kind, None)], constants, opset))


def close(ours, theirs, tolerance=1e-5):
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * np.abs(theirs).max())


@pytest.mark.parametrize("length", [None, 4, 7, 12])
@pytest.mark.parametrize("n_parts", [1, 2])
@pytest.mark.parametrize("inverse", [0, 1])
def test_transforms_of_all_lengths(length, n_parts, inverse):
    x = RNG.standard_normal((3, 7, n_parts)).astype(np.float32)
    numbers = x[..., 0] if n_parts == 1 else x[..., 0] + 1j * x[..., 1]
    n = length or 7
    theirs = spectrum(numbers, n, 1) / n if inverse else spectrum(numbers, n)
    inputs = [("x", 3), ("length", 0)] if length else [("x", 3)]
    constants = {"length": np.int64(length)} if length else {}
    for opset in (17, 20):
        (ours,) = run(network("DFT", inputs, opset=opset, constants=constants, inverse=inverse), x=x)
        close(ours, parts(theirs))


@pytest.mark.parametrize("n", [6, 7])
def test_half_spectra_there_and_back(n):
    x = RNG.standard_normal((2, n, 3, 1)).astype(np.float32)
    forward = network("DFT", [("x", 4), ("", 0), ("axis", 0)], constants={"axis": np.int64(1)}, onesided=1)
    (half,) = run(forward, x=x)
    whole = np.moveaxis(spectrum(np.moveaxis(x[..., 0], 1, -1), n), -1, 1)
    close(half, parts(whole[:, : n // 2 + 1]))
    inputs, constants = [("x", 4), ("length", 0), ("axis", 0)], {"axis": np.int64(-3), "length": np.int64(n)}
    (again,) = run(network("DFT", inputs, constants=constants, onesided=1, inverse=1), x=half)
    close(again, x)


def test_the_axis_may_be_computed():
    x = RNG.standard_normal((2, 3, 4, 1)).astype(np.float32)
    made = network("DFT", [("x", 4), ("", 0), ("axis", 1)])
    for axis in (0, 1, 2, -2, -4):
        (ours,) = run(made, x=x, axis=np.int32([axis]))
        place = axis % 4
        close(ours, parts(np.moveaxis(spectrum(np.moveaxis(x[..., 0], place, -1), x.shape[place]), -1, place)))


@pytest.mark.parametrize(
    "shape, attributes, message",
    [
        ((2, 5, 3), {}, "neither 1 nor 2 parts"),
        ((2, 5, 2), {"onesided": 1}, "real signal"),
        ((2, 5, 1), {"onesided": 1, "inverse": 1}, "real signal"),
        ((2, 5, 1), {"axis": 2}, "nothing to transform"),
        ((2, 0, 1), {}, "not defined"),
    ],
)
def test_transforms_that_are_not_defined(shape, attributes, message):
    with pytest.raises(LiteError, match=message):
        run(network("DFT", [("x", 3)], opset=17, **attributes), x=np.zeros(shape, np.float32))


@pytest.mark.parametrize("kind, dtype, tolerance", [(F, np.float32, 1e-5), (F16, np.float16, 2e-3)])
@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("onesided", [0, 1])
def test_spectra_of_frames(kind, dtype, tolerance, rank, onesided):
    x, window = RNG.standard_normal((2, 23)).astype(dtype), RNG.random(6).astype(dtype)
    inputs = [("x", rank), ("step", 0), ("window", 0)]
    made = network("STFT", inputs, kind, 17, {"step": np.int64(4), "window": window}, onesided=onesided)
    for length in (23, 11, 6):
        signal = x[:, :length]
        (ours,) = run(made, x=signal if rank == 2 else signal[..., None])
        begins = range(0, length - 5, 4)
        frames = np.stack([signal[:, k : k + 6].astype(float) * window for k in begins], 1)
        theirs = spectrum(frames, 6)
        close(ours.astype(float), parts(theirs[..., :4] if onesided else theirs), tolerance)


def test_frames_of_complex_signals_without_a_window():
    x = RNG.standard_normal((1, 20, 2)).astype(np.float32)
    inputs = [("x", 3), ("step", 0), ("", 0), ("length", 0)]
    made = network("STFT", inputs, opset=17, constants={"step": np.int64(3), "length": np.int64(8)}, onesided=0)
    numbers = x[..., 0] + 1j * x[..., 1]
    theirs = spectrum(np.stack([numbers[:, k : k + 8] for k in range(0, 13, 3)], 1), 8)
    close(run(made, x=x)[0], parts(theirs))


def test_a_signal_that_is_shorter_than_a_frame_has_none():
    made = network(
        "STFT", [("x", 2), ("step", 0), ("w", 0)], opset=17, constants={"step": np.int64(2), "w": np.ones(8, "f4")}
    )
    assert run(made, x=np.ones((2, 7), np.float32))[0].shape == (2, 0, 5, 2)


@pytest.mark.parametrize(
    "shape, constants, message",
    [
        ((1, 9, 2), {"step": 2, "length": 4}, "this one is complex"),
        ((1, 9), {"step": 0, "length": 4}, "not defined"),
        ((1, 9), {"step": 1, "length": 4, "w": np.ones(3, "f4")}, "does not fit frames of 4"),
        ((1, 9, 1, 1), {"step": 1, "length": 4}, "signals are"),
    ],
)
def test_frames_that_are_not_defined(shape, constants, message):
    constants = {k: v if k == "w" else np.int64(v) for k, v in constants.items()}
    inputs = [("x", len(shape)), ("step", 0), ("w" if "w" in constants else "", 0), ("length", 0)]
    with pytest.raises(LiteError, match=message):
        run(network("STFT", inputs, opset=17, constants=constants), x=np.zeros(shape, np.float32))


@pytest.mark.parametrize("op", ["HannWindow", "HammingWindow", "BlackmanWindow"])
@pytest.mark.parametrize("periodic", [0, 1])
def test_windows_whose_length_is_computed(op, periodic):
    factors = {"HannWindow": (0.5, 0.5), "HammingWindow": (25 / 46, 21 / 46), "BlackmanWindow": (0.42, 0.5, 0.08)}[op]
    node = helper.make_node(op, ["n"], ["y"], periodic=periodic)
    made = load(make([node], [("n", I64, [])], [("y", F, None)], (), 17))
    for n in (2, 9, 16):
        angle = 2 * np.pi * np.arange(n) / (n - 1 + periodic)
        signs = (1, -1, 1)
        theirs = sum(f * s * np.cos(k * angle) for k, (f, s) in enumerate(zip(factors, signs, strict=False)))
        np.testing.assert_allclose(run(made, n=np.int32([n]))[0], theirs, atol=1e-7)


@pytest.mark.parametrize(
    "numbers", [(8, 16, 8192, 0.0, 4096.0), (5, 64, 16000, 20.0, 7600.0), (40, 32, 16000, 0.0, 8000.0)]
)
def test_mel_filters(numbers):
    names = ["count", "length", "rate", "low", "high"]
    kinds = [I64, I64, I64, F, F]
    node = helper.make_node("MelWeightMatrix", names, ["y"])
    model = make([node], [(n, k, []) for n, k in zip(names, kinds, strict=True)], [("y", F, None)], (), 17)
    given = {
        n: np.array(v, np.int64 if k == I64 else np.float32) for n, v, k in zip(names, numbers, kinds, strict=True)
    }
    at_the_api = {n: v.reshape(1).astype(np.int32 if v.dtype == np.int64 else v.dtype) for n, v in given.items()}
    np.testing.assert_allclose(run(load(model), **at_the_api)[0], expected(model, **given)[0], atol=1e-6)


def test_mel_filters_end_below_half_of_the_sample_rate():
    node = helper.make_node("MelWeightMatrix", list("abcde"), ["y"])
    constants = dict(zip("abcd", (np.int64(4), np.int64(16), np.int64(8000), np.float32(0)), strict=True))
    made = load(make([node], [("e", F, [])], [("y", F, None)], constants, 17))
    assert run(made, e=np.float32([3000]))[0].shape == (9, 4)
    with pytest.raises(LiteError, match="beyond the 9 bins"):
        run(made, e=np.float32([9000]))
