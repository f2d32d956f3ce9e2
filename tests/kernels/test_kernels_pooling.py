"""Pooling on every instruction set, plain and blocked, against its definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.channel_blocks import block_channels, unblock_channels
from support.guarded_memory import GuardedCall
from support.one_node import INSTRUCTION_SETS, definition, run_blocked, run_node

from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.ir.params import Pooling, PoolingMode


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_window(data):
    isa = data.draw(st.sampled_from(INSTRUCTION_SETS))
    mode = data.draw(st.sampled_from(list(PoolingMode)))
    n, c = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 40))
    axes = []
    for longest in (30, 70):
        size, window, stride = (data.draw(st.integers(1, m)) for m in (longest, 5, 4))
        pad = data.draw(st.integers(0, window - 1))
        axes.append((max(size, window - 2 * pad), window, stride, pad))
    (h, kh, sh, ph), (w, kw, sw, pw) = axes
    x = np.random.default_rng(0).standard_normal((n, c, h, w)).astype(np.float32)
    params = Pooling(mode=mode, window_h=kh, window_w=kw, stride_h=sh, stride_w=sw, pad_h=ph, pad_w=pw)
    expected = definition("Pooling", params, [x])
    kernels, (oh, ow) = kernel_set(isa), expected.shape[2:]
    width, blocks = kernels.width, -(-c // kernels.width)
    pool = {"mode": mode, "h": h, "w": w, "oh": oh, "ow": ow, "kh": kh, "kw": kw}
    pool |= {"stride_h": sh, "stride_w": sw, "pad_h": ph, "pad_w": pw}
    actual, line = np.full_like(expected, np.nan), kernels.module("pooling").scratch_bytes(w, pw, ow)
    GuardedCall(kernels, "pool_plain_f32", x=x, y=actual, work=n * c * oh, scratch=line, **pool).run()
    np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=1e-6)
    blocked, actual = block_channels(x, width), np.full((n, blocks, oh, ow, width), np.nan, np.float32)
    strides = {"x_row": w * width, "x_plane": h * w * width, "x_image": blocks * h * w * width}
    strides |= {"y_row": ow * width, "y_plane": oh * ow * width, "y_image": blocks * oh * ow * width}
    work = n * blocks * oh
    GuardedCall(kernels, "pool_blocked_f32", x=blocked, y=actual, blocks=blocks, work=work, **strides, **pool).run()
    np.testing.assert_allclose(unblock_channels(actual, c), expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("mode", list(PoolingMode), ids=lambda m: m.name)
def test_node_on_plain_and_blocked_images(mode, threads, isa):
    x = np.random.default_rng(0).standard_normal((2, 35, 15, 14)).astype(np.float32)
    params = Pooling(mode=mode, window_h=3, window_w=3, stride_h=2, stride_w=2, pad_h=1, pad_w=1)
    expected = definition("Pooling", params, [x])
    plain, kernels = run_node("Pooling", params, [x], set(), isa, threads)
    assert kernels == ["pool_plain_f32"]
    np.testing.assert_allclose(plain, expected, rtol=2e-6, atol=1e-6)
    blocked, kernels = run_blocked("Pooling", params, [x], isa, threads=threads)
    assert "pool_blocked_f32" in kernels
    np.testing.assert_allclose(blocked, expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("size", [3, 8], ids=["window", "whole image"])
def test_mode_that_the_kernels_do_not_name_runs_in_numpy(monkeypatch, size, isa):
    module = kernel_set(isa).module("pooling")
    assert set(module.MODES) == set(PoolingMode) == set(kernel_set(isa).module("pooling_int8").MODES)
    monkeypatch.setattr(module, "MODES", (PoolingMode.MAX,))
    x = np.random.default_rng(0).standard_normal((2, 5, 8, 8)).astype(np.float32)
    for mode in PoolingMode:
        params = Pooling(mode=mode, window_h=size, window_w=size, stride_h=size, stride_w=size)
        actual, kernels = run_node("Pooling", params, [x], set(), isa)
        assert (kernels == [None]) == (mode != PoolingMode.MAX)
        np.testing.assert_allclose(actual, definition("Pooling", params, [x]), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("mode", list(PoolingMode), ids=lambda m: m.name)
def test_window_as_large_as_the_image_is_a_reduction(mode, isa):
    x = np.random.default_rng(0).standard_normal((2, 35, 7, 6)).astype(np.float32)
    params = Pooling(mode=mode, window_h=7, window_w=6, stride_h=7, stride_w=6)
    actual, kernels = run_node("Pooling", params, [x], set(), isa)
    assert kernels == ["reduce_inner_f32"]
    np.testing.assert_allclose(actual, definition("Pooling", params, [x]), rtol=2e-6, atol=1e-6)


# ---- the pooling of arrays -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("mode", list(PoolingMode), ids=lambda m: m.name)
@pytest.mark.parametrize(
    ("window", "stride", "pad"), [((3, 2), (1, 1), (1, 0)), ((2, 3), (2, 3), (0, 2)), ((9, 8), (4, 1), (4, 7))]
)
def test_pooling_of_arrays(window, stride, pad, mode, isa):
    x = np.random.default_rng(1).standard_normal((2, 3, 9, 21)).astype(np.float32)
    fields = {"window": window, "stride": stride, "pad": pad}
    params = Pooling(mode=mode, **{f"{k}_{axis}": v[i] for k, v in fields.items() for i, axis in enumerate("hw")})
    actual = kernel_set(isa).module("pooling").pool_images(x, int(mode), window, stride, pad)
    np.testing.assert_allclose(actual, definition("Pooling", params, [x]), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": 3}, r"shape \(1, 2, 6, 8\) by mode 3"),
        ({"x": np.zeros((1, 0, 6, 8), np.float32)}, "cannot pool images of shape"),
        ({"window": (7, 2)}, "windows of 7 with stride 1 and padding 0 do not fit 6 pixels"),
        ({"window": (0, 2)}, "windows of 0"),
        ({"stride": (1, 0)}, "stride 0"),
        ({"pad": (2, 0)}, "padding 2"),
        ({"pad": (0, -1)}, "padding -1"),
        ({"window": (2, 1 << 40), "pad": (0, 1 << 39)}, "do not fit 8 pixels"),
        ({"window": (2,)}, "shorter"),
        ({"x": np.zeros((1, 2, 6, 16), np.float32)[..., ::2]}, "contiguous"),
        ({"x": np.zeros((1, 2, 6, 8))}, "dtype"),
        ({"x": np.zeros((2, 6, 8), np.float32)}, "dimensions"),
    ],
)
def test_arrays_that_cannot_be_pooled_are_refused(changes, message):
    x = np.zeros((1, 2, 6, 8), np.float32)
    arguments = {"x": x, "mode": 0, "window": (2, 2), "stride": (1, 1), "pad": (0, 0), **changes}
    pool = kernel_set(INSTRUCTION_SETS[0]).module("pooling").pool_images
    with pytest.raises(ValueError, match=message):
        pool(*arguments.values())
    with pytest.raises(TypeError):
        pool(x, 0, (2.0, 2), (1, 1), (0, 0))
