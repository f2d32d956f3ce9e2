"""Values of constants: views, unpacking, compression, sizes."""

import json
import struct

import numpy as np
import pytest
from support.loader_samples import constant_model, constant_operator, tensor, to_bytes

from megengine_lite._core.formats.containers import packed
from megengine_lite._core.formats.load import load_model
from megengine_lite._core.formats.mge.records import ModelRecord
from megengine_lite._core.formats.stored_values import file_constant, stored_bytes
from megengine_lite._core.ir.dtype import BOOL, FLOAT32, INT8, INT16, INT32, WIDE, DType, DTypeCode
from megengine_lite.errors import ModelFormatError, UnsupportedOperatorError

QUANTIZED_S4 = DType(DTypeCode.QUANTIZED_S4, 0.5)
QUANTIZED4_ASYMM = DType(DTypeCode.QUANTIZED4_ASYMM, 0.5, 8)
QUANTIZED_S1 = DType(DTypeCode.QUANTIZED_S1, 1.0)


def value(shape, dtype, data):
    """What a constant becomes after writing and loading it."""
    return load_model(constant_model(shape, dtype, data)).graph.outputs[0].const.array


@pytest.mark.parametrize(
    "code", [c for c in DTypeCode if c not in (DTypeCode.INTB1, DTypeCode.INTB2, *WIDE) and not DType(c).packed_bits]
)
def test_element_types_keep_their_bytes(code):
    dtype = DType(code, 0.25, 3) if DType(code).is_quantized else DType(code)
    if "ASYMM" not in code.name:
        dtype = DType(code, dtype.scale)
    stored = (np.arange(24) % 2).astype(dtype.storage).reshape(2, 3, 4)
    model = load_model(constant_model((2, 3, 4), dtype, stored))
    assert model.graph.outputs[0].spec.dtype == dtype
    loaded = model.graph.outputs[0].const.array
    assert loaded.dtype == dtype.storage
    np.testing.assert_array_equal(loaded, stored)


@pytest.mark.parametrize("code", [DTypeCode.INTB1, DTypeCode.INTB2])
def test_element_types_without_a_meaning_are_refused(code):
    with pytest.raises(UnsupportedOperatorError, match=code.name):
        load_model(constant_model((8,), DType(code), b"\0" * 8))


def test_signed_four_bit_rows_are_unpacked_low_nibble_first():
    # Two rows of three elements: each row ends with an unused high nibble.
    data = bytes([0x21, 0xF3, 0x8F, 0x07])
    loaded = value((2, 3), QUANTIZED_S4, data)
    assert loaded.dtype == np.int8
    np.testing.assert_array_equal(loaded, [[1, 2, 3], [-1, -8, 7]])


def test_unsigned_four_bit_rows_are_unpacked():
    loaded = value((2, 2), QUANTIZED4_ASYMM, bytes([0x21, 0x8F]))
    assert loaded.dtype == np.uint8
    np.testing.assert_array_equal(loaded, [[1, 2], [15, 8]])


def test_one_bit_rows_are_unpacked():
    loaded = value((2, 10), QUANTIZED_S1, bytes([0b10000101, 0b10, 0b1, 0b0]))
    np.testing.assert_array_equal(loaded[0], [1, 0, 1, 0, 0, 0, 0, 1, 0, 1])
    np.testing.assert_array_equal(loaded[1], [1, 0, 0, 0, 0, 0, 0, 0, 0, 0])


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((2, 3), FLOAT32, 24),
        ((2, 3), QUANTIZED_S4, 4),
        ((5,), QUANTIZED_S1, 1),
        ((3, 0), FLOAT32, 0),
        ((3, 0), QUANTIZED_S4, 0),
    ],
)
def test_stored_bytes_counts_padded_rows(shape, dtype, expected):
    assert stored_bytes(shape, dtype) == expected


def test_bool_takes_any_byte_but_zero_for_true():
    np.testing.assert_array_equal(value((4,), BOOL, bytes([0, 1, 2, 255])), [False, True, True, True])


def test_unaligned_value_is_copied_to_an_aligned_place():
    stored = np.arange(5, dtype=np.float32)
    data = memoryview(b"x" + stored.tobytes())[1:]
    constant = file_constant(tensor((5,), data=data), False, 0, "model")
    assert constant.array.flags.aligned
    np.testing.assert_array_equal(constant.array, stored)


def test_empty_value_needs_no_bytes():
    assert value((3, 0), INT32, None).shape == (3, 0)


@pytest.mark.parametrize(
    ("shape", "dtype", "data"),
    [
        ((2, 3), FLOAT32, b"\0" * 23),
        ((2, 3), QUANTIZED_S4, b"\0" * 3),
        ((2**20, 2**20), FLOAT32, b"\0" * 64),
        ((2**20, 2**27), QUANTIZED_S4, b"\0" * 64),
        ((1,), FLOAT32, None),
    ],
)
def test_value_too_short_for_its_shape_is_refused(shape, dtype, data):
    with pytest.raises(ModelFormatError, match="takes"):
        load_model(constant_model(shape, dtype, data))


@pytest.mark.parametrize("shape", [(2**31, 2**31), (2**32 - 1,) * 7, (2**32 - 1, 2**32 - 1, 0), (2**30, 0, 2**30)])
def test_shape_too_large_for_an_array_is_refused(shape):
    with pytest.raises(ModelFormatError, match="too large"):
        load_model(constant_model(shape, FLOAT32, b""))


def test_bytes_behind_a_value_are_ignored():
    np.testing.assert_array_equal(value((2,), INT16, b"\1\0\2\0\3\0"), [1, 2])


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_quantized_type_with_impossible_scale_is_refused(scale):
    with pytest.raises(ModelFormatError, match="scale"):
        load_model(constant_model((1,), DType(DTypeCode.QUANTIZED_S8, scale), b"\0"))


def compressed_model(*values):
    """A package whose model has compressed values, with one constant for each (shape, dtype, bytes)."""
    operators = [constant_operator(i, shape, dtype, data) for i, (shape, dtype, data) in enumerate(values)]
    record = ModelRecord("v2", 101300, operators, [(i, "") for i in range(len(values))])
    information = json.dumps({"valid": True, "name": "m", "version": "1.13.0", "has_compression": True}).encode()
    package = packed.Package("m", to_bytes(record), information=information)
    return b"".join(packed.write_package(package))


def test_compressed_values_are_expanded():
    scaling = struct.pack("<ff", 0.5, -1.0)
    content = compressed_model(
        ((2,), FLOAT32, b"\0" + np.float32([1.25, -2]).tobytes()),
        ((3,), FLOAT32, b"\1" + scaling + bytes([0, 1, 255])),
        ((2,), FLOAT32, b"\2" + scaling + np.uint16([0, 65535]).tobytes()),
        ((3,), INT8, b"\0" + bytes([1, 2, 3])),
    )
    plain, narrow, wide, numbers = (v.const.array for v in load_model(content).graph.outputs)
    np.testing.assert_array_equal(plain, np.float32([1.25, -2]))
    np.testing.assert_array_equal(narrow, np.float32([-1, -0.5, 126.5]))
    np.testing.assert_array_equal(wide, np.float32([-1, 32766.5]))
    np.testing.assert_array_equal(numbers, [1, 2, 3])
    assert narrow.dtype == wide.dtype == np.float32


@pytest.mark.parametrize(
    ("dtype", "data", "message"),
    [
        (FLOAT32, b"\3" + b"\0" * 64, "unknown way"),
        (FLOAT32, b"\1" + b"\0" * 9, "takes 10"),
        (FLOAT32, b"\2" + b"\0" * 9, "takes 12"),
        (FLOAT32, b"\0" + b"\0" * 7, "takes 8"),
        (FLOAT32, b"", "unknown way"),
        (INT32, b"\1" + b"\0" * 64, "unknown way"),
    ],
)
def test_compressed_values_that_do_not_fit_are_refused(dtype, data, message):
    with pytest.raises(ModelFormatError, match=message):
        load_model(compressed_model(((2,), dtype, data)))
