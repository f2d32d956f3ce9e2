"""Normalizations on every instruction set, plain and blocked, against their definitions in double precision."""

import numpy as np
import pytest
from support.guarded_memory import GuardedCall
from support.one_node import INSTRUCTION_SETS, definition, run_blocked, run_node

from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.ir.fused import RmsNorm
from megengine_lite._core.ir.params import LRN, GeneralNorm, GroupNorm


def random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("offset", [0, 100])
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(5, 768), (3, 96), (4, 3), (2, 1), (1, 10_001)], ids=str)
def test_rows(shape, affine, centred, offset, isa):
    x = random(*shape) * 3 + np.float32(offset)
    weight, bias = (random(shape[1], seed=k) for k in (1, 2)) if affine else (None, None)
    (rows, n), y = shape, np.full_like(x, np.nan)
    mean, inverse = (np.full(rows, np.nan, np.float32) for _ in range(2))
    GuardedCall(
        kernel_set(isa), "norm_rows_f32", x=x, weight=weight, bias=bias, y=y, mean=mean, deviation=inverse, segments=n,
        inner=1, weight_rows=1, give_variance=0, stream=0, centred=centred, eps=1e-5, work=rows,
    ).run()  # fmt: skip
    exact = x.astype(np.float64)
    center = exact.mean(1, keepdims=True) if centred else np.zeros((rows, 1))
    scale = 1 / np.sqrt(np.square(exact - center).mean(1, keepdims=True) + 1e-5)
    expected = (exact - center) * scale
    if affine:
        expected = expected * weight + bias
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=5e-6)
    np.testing.assert_allclose(mean, center[:, 0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(inverse, scale[:, 0], rtol=1e-5)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("axes", [(1, 2), (1, 3), (2, 4), (3, 4), (0, 1)], ids=str)
def test_neighbouring_axes(axes, threads, isa):
    shape = (3, 20, 5, 7)
    part = shape[axes[0] : axes[1]]
    inputs = [random(*shape), random(*part, seed=1), random(*part, seed=2)]
    params = GeneralNorm(affine=True, eps=1e-5, axis_start=axes[0], axis_end=axes[1])
    actual, kernels = run_first("GeneralNorm", params, inputs, isa, threads)
    assert kernels == ["norm_rows_f32" if axes[1] == 4 else "norm_columns_f32"]
    np.testing.assert_allclose(actual, definition("GeneralNorm", params, inputs), rtol=1e-5, atol=3e-6)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("first", [1, 2])
@pytest.mark.parametrize("has_weight", [True, False])
def test_division_by_the_mean_square(has_weight, first, isa):
    x = random(3, 5, 20) + 2
    inputs = [x, random(*x.shape[first:], seed=1)] if has_weight else [x]
    params = RmsNorm(1e-5, first, has_weight)
    actual, kernels = run_node("RmsNorm", params, inputs, (), isa, 3)
    assert kernels == ["norm_rows_f32"]
    np.testing.assert_allclose(actual, definition("RmsNorm", params, inputs), rtol=1e-5, atol=1e-6)


def run_first(op, params, inputs, isa, threads):
    return run_blocked(op, params, inputs, isa, (), threads, set(range(len(inputs))))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(
    ("op", "channels", "groups"),
    [("GroupNorm", 32, 2), ("GroupNorm", 64, 16), ("GroupNorm", 36, 3), ("GroupNorm", 40, 1), ("InstanceNorm", 35, 1)],
)
def test_groups_of_channels(op, channels, groups, affine, isa):
    inputs = [random(2, channels, 7, 9) + 3]
    if affine:
        inputs += [random(channels, seed=1), random(channels, seed=2)]
    params = GroupNorm(affine=affine, eps=1e-5, group=groups)
    expected = definition(op, params, inputs)
    blocked, kernels = run_blocked(op, params, inputs, isa, {1, 2}, 2)
    assert "norm_channels_blocked_f32" in kernels
    np.testing.assert_allclose(blocked, expected, rtol=1e-5, atol=3e-6)
    plain, kernels = run_first(op, params, inputs, isa, 2)
    assert kernels == ["norm_rows_f32"]
    np.testing.assert_allclose(plain, expected, rtol=1e-5, atol=3e-6)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("groups", [1, 16, 32])
@pytest.mark.parametrize(("h", "w"), [(61, 37), (3, 700), (371, 370)])
def test_images_of_which_the_cache_holds_a_part(h, w, groups, isa):
    """Moments of parts with different means are merged; the largest image is stored past the caches."""
    x = random(1, 32, h, w) + np.linspace(20, 40, h, dtype=np.float32)[:, None]
    params = GroupNorm(affine=False, eps=1e-5, group=groups)
    actual, kernels = run_blocked("GroupNorm", params, [x], isa, (), 2)
    assert "norm_channels_blocked_f32" in kernels
    members = x.astype(np.float64).reshape(groups, -1)
    expected = (members - members.mean(1, keepdims=True)) / np.sqrt(members.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(actual, expected.reshape(x.shape), rtol=1e-5, atol=3e-6)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_moments_of_large_numbers(isa):
    x = np.full((1, 32, 61, 37), 2.0**100, np.float32)
    x[:, :, 1::2] = -(2.0**100)
    x[:, 16:] = 2.0**80
    params = GroupNorm(affine=False, eps=1e-5, group=2)
    actual, _ = run_blocked("GroupNorm", params, [x], isa, (), 1)
    assert not np.isnan(actual).any()
    np.testing.assert_array_equal(actual[:, 16:], 0)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("beta", [0.75, 0.6])
@pytest.mark.parametrize("n", [1, 5, 7])
@pytest.mark.parametrize("channels", [3, 35, 32])
def test_local_response(channels, n, beta, isa):
    x, params = random(2, channels, 5, 7), LRN(n=n, k=2.0, alpha=0.3, beta=beta)
    expected = definition("LRN", params, [x])
    plain, kernels = run_node("LRN", params, [x], set(), isa, 2)
    assert kernels == ["lrn_plain_f32"]
    np.testing.assert_allclose(plain, expected, rtol=2e-6)
    blocked, kernels = run_blocked("LRN", params, [x], isa, threads=2)
    assert channels == 3 or "lrn_blocked_f32" in kernels
    np.testing.assert_allclose(blocked, expected, rtol=2e-6)
