"""Conversion between element types on every instruction set, against numpy."""

import numpy as np
import pytest
from support.guarded_memory import GuardedCall
from support.one_node import INSTRUCTION_SETS, WIDE, definition, run_blocked

from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.ir.dtype import from_numpy
from megengine_lite._core.ir.params import DTypeTable

TYPES = [np.float32, np.float16, np.int32, np.int16, np.uint16, np.int8, np.uint8, np.bool_]


def type_of(dtype):
    return WIDE.get(np.dtype(dtype)) or from_numpy(np.dtype(dtype))


def convert(x, dtype, isa):
    y = np.zeros(x.shape, dtype)
    kernel = kernel_set(isa).module("typecvt")
    kinds = [kernel.KINDS[type_of(d).code.name] for d in (x.dtype, dtype)]
    GuardedCall(
        kernel_set(isa), "convert_elements", x=x, y=y, n=x.size, source=kinds[0], target=kinds[1],
        source_size=x.itemsize, target_size=y.itemsize, work=-(-x.size // kernel.BLOCK),
    ).run()  # fmt: skip
    return y


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_every_half_becomes_its_float(isa):
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    np.testing.assert_array_equal(convert(halves, np.float32, isa), halves.astype(np.float32))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("large", [2.0**31, -(2.0**31), -(2.0**31) - 256, 2.0**40, -(2.0**62), 2147483520])
@pytest.mark.parametrize("size", [1, 5, 511, 513, 2000])
def test_large_floats_become_int64(size, large, isa):
    x = np.random.default_rng(0).uniform(-1e6, 1e6, size).astype(np.float32)
    x[-1] = large
    np.testing.assert_array_equal(convert(x, np.int64, isa), x.astype(np.int64))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_floats_are_rounded_to_the_nearest_half(isa):
    rng = np.random.default_rng(0)
    edges = [65504, 65519.996, 65520, 65536, 1e-8, 2**-24, 2**-25, 3 * 2**-25, 6.1e-5, 0, -0.0, np.inf, -np.inf, np.nan]
    any_bits = rng.integers(0, 2**32, 300_001, dtype=np.uint32).view(np.float32)
    usual = rng.standard_normal(50_000) * np.exp(rng.uniform(-20, 12, 50_000))
    x = np.concatenate([np.float32(edges), any_bits, usual.astype(np.float32)])
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16)
    np.testing.assert_array_equal(convert(x, np.float16, isa), expected)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("target", TYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("source", TYPES, ids=lambda d: d.__name__)
def test_any_type_to_any(source, target, isa):
    rng = np.random.default_rng(0)
    real = np.issubdtype(source, np.floating)
    x = (rng.standard_normal(1333) * 50).astype(source) if real else rng.integers(0, 120, 1333).astype(source)
    whole = real and not np.issubdtype(target, np.floating) and target is not np.bool_
    expected = x.astype(np.int32).astype(target) if whole else x.astype(target)
    np.testing.assert_array_equal(convert(x, target, isa), expected)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_floats_that_no_integer_holds(isa):
    x = np.float32([3e9, -3e9, np.nan, np.inf, -2.9, 2.9, 300, -300])
    np.testing.assert_array_equal(convert(x, np.int32, isa), np.int32([-(2**31)] * 4 + [-2, 2, 300, -300]))
    np.testing.assert_array_equal(convert(x, np.int8, isa), np.int8([0, 0, 0, 0, -2, 2, 44, -44]))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("target", TYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("source", TYPES, ids=lambda d: d.__name__)
def test_node_converts(source, target, isa):
    x = np.random.default_rng(1).integers(0, 120, (3, 67)).astype(source)
    params = DTypeTable(dtype=from_numpy(np.dtype(target)))
    actual, kernels = run_blocked("TypeCvt", params, [x], isa, plain={0})
    same = target == source or (np.dtype(source).itemsize == np.dtype(target).itemsize == 1 and target is not np.bool_)
    assert kernels == (["copy_bytes"] if same else ["convert_elements"])
    np.testing.assert_array_equal(actual, definition("TypeCvt", params, [x]))


# Targets of wide types; the others would round or wrap twice.
FROM_INT64 = [np.float32, np.float64, np.int32, np.int16, np.uint16, np.int8, np.uint8, np.bool_]
FROM_FLOAT64 = [np.float32, np.int32, np.int64, np.bool_]
PAIRS = [
    *((s, t) for s in TYPES for t in (np.int64, np.float64)),
    *((np.int64, t) for t in FROM_INT64),
    *((np.float64, t) for t in FROM_FLOAT64),
]


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize(("source", "target"), PAIRS, ids=lambda d: d.__name__)
def test_wide_types(source, target, isa):
    """Of the whole range that the target has, or that wraps."""
    rng = np.random.default_rng(2)
    bits = rng.integers(-(2**63), 2**63 - 1, (3, 523))
    if np.issubdtype(source, np.integer) or source is np.bool_:
        x = bits.astype(source)
    else:
        x = (rng.standard_normal(bits.shape) * np.exp(rng.uniform(-3, 9, bits.shape))).astype(source)
    x.reshape(-1)[:3] = 0, 1, 0
    params = DTypeTable(dtype=type_of(target))
    actual, kernels = run_blocked("TypeCvt", params, [x], isa, plain={0}, threads=2)
    assert kernels == ["convert_elements"]
    np.testing.assert_array_equal(actual, definition("TypeCvt", params, [x]))
    np.testing.assert_array_equal(convert(x, target, isa), x.astype(target))
