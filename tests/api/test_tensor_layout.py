"""LiteLayout: shapes and element types in every spelling."""

import copy
import ctypes
import gc
import pickle
import warnings
import weakref

import numpy as np
import pytest

from megengine_lite import (
    MAX_DIM,
    LiteDataType,
    LiteLayout,
    LiteTensor,
    ctype_to_lite_dtypes,
    lite_dtype_2_numpy,
)
from megengine_lite.errors import LiteArgumentError, LiteError, LiteTypeError, LiteValueError

NAMES = ["float32", "float16", "int32", "int16", "int8", "uint8", "uint16"]


@pytest.mark.parametrize("shape", [None, [], ()])
def test_layout_without_dimensions(shape):
    layout = LiteLayout(shape)
    assert (layout.shapes, layout.ndim, layout.dtype) == ([], 0, np.float32)


@pytest.mark.parametrize(
    "shape", [[2, 3], (2, 3), range(2, 4), iter([2, 3]), {2: 0, 3: 0}.keys(), np.array([2, 3]), np.int64([2, 3])]
)
def test_layout_shape_from_any_iterable_of_integers(shape):
    assert LiteLayout(shape).shapes == [2, 3]


@pytest.mark.parametrize("shape", [[1.5], ["1"], [[1]], [None], 3, "ab"])
def test_layout_shape_of_other_things(shape):
    with pytest.raises(LiteTypeError):
        LiteLayout(shape)


@pytest.mark.parametrize("shape", [[-1], [2**64], [2, -3]])
def test_layout_dimension_out_of_range(shape):
    with pytest.raises(LiteValueError):
        LiteLayout(shape)


def test_layout_has_at_most_seven_dimensions():
    assert LiteLayout([1] * 7).ndim == 7
    with pytest.raises(AssertionError):
        LiteLayout([1] * 8)
    layout = LiteLayout([2])
    with pytest.raises(LiteArgumentError):
        layout.shapes = [1] * 8
    assert layout.shapes == [2]


@pytest.mark.parametrize(("code", "name"), list(enumerate(NAMES)))
def test_layout_dtype_in_every_spelling(code, name):
    scalar = getattr(np, name)
    for spelling in (name, LiteDataType(code), code, np.int32(code), np.dtype(name), scalar, np.dtype(name).str):
        layout = LiteLayout([1], spelling)
        assert layout.data_type == code
        assert layout.dtype is scalar


@pytest.mark.parametrize("dtype", [None, "", 0])
def test_layout_dtype_default(dtype):
    assert LiteLayout([1], dtype).data_type == LiteDataType.LITE_FLOAT


def test_layout_uint32_instance_is_int32():
    assert LiteLayout([1], np.dtype("uint32")).data_type == LiteDataType.LITE_INT


@pytest.mark.parametrize(
    "dtype",
    [
        "uint32",
        "int64",
        "float64",
        "bool",
        ">f4",
        "nonsense",
        np.uint32,
        np.float64,
        np.dtype("int64"),
        float,
        bool,
        7,
        -1,
        b"float32",
        1.0,
        True,
        [1],
    ],
)
def test_layout_dtype_not_supported(dtype):
    with pytest.raises(LiteTypeError, match="float32, float16, int32, int16, int8, uint8, uint16") as caught:
        LiteLayout([1], dtype)
    assert isinstance(caught.value, TypeError | KeyError)


def test_layout_attributes():
    layout = LiteLayout([2, 3, 4], "int8")
    layout.shapes.append(9)
    assert layout.shapes == [2, 3, 4]
    layout.shapes = (5, 6)
    assert (layout.shapes, layout.ndim, layout.dtype) == ([5, 6], 2, np.int8)
    layout.ndim = 1
    assert layout.shapes == [5]
    layout.ndim = 2
    assert layout.shapes == [5, 0]
    layout.data_type = LiteDataType.LITE_HALF
    assert layout.dtype is np.float16
    for ndim in (-1, 8):
        with pytest.raises(LiteValueError):
            layout.ndim = ndim
    with pytest.raises(LiteTypeError):
        layout.data_type = 20
    with pytest.raises(AttributeError):
        layout.shape = [1]


def test_layout_is_a_value():
    layout = LiteLayout([2, 3], "int8")
    assert layout == LiteLayout((2, 3), np.int8)
    assert layout != LiteLayout([2, 3], "uint8") and layout != LiteLayout([3, 2], "int8") and layout != [2, 3]
    with pytest.raises(TypeError):
        hash(layout)
    for twin in (copy.copy(layout), copy.deepcopy(layout), pickle.loads(pickle.dumps(layout))):
        assert twin == layout
        twin.shapes = [1]
    assert layout.shapes == [2, 3]


def test_layout_repr():
    assert repr(LiteLayout([2, 3], "int8")) == "{'shapes': [2, 3], 'ndim': 2, 'data_type': <class 'numpy.int8'>}"


def test_lite_dtype_2_numpy():
    assert [lite_dtype_2_numpy(d) for d in LiteDataType] == [getattr(np, n) for n in NAMES]
    with pytest.raises(AssertionError):
        lite_dtype_2_numpy("float32")


# ---- spellings and limits -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["f4", "<f4", "f", "single", np.dtype("f4", metadata={"unit": "m"})])
def test_layout_dtype_in_words_that_numpy_understands(spelling):
    assert LiteLayout([1], spelling).data_type is LiteDataType.LITE_FLOAT


def test_layout_dtype_half_and_int_in_short():
    assert LiteLayout([1], "half").data_type is LiteDataType.LITE_HALF
    assert LiteLayout([1], "i").data_type is LiteDataType.LITE_INT
    assert LiteLayout([1], np.intc).data_type is LiteDataType.LITE_INT


@pytest.mark.parametrize("dtype", [np.generic, np.number, np.floating, np.integer, np.signedinteger, np.str_, np.void])
def test_layout_dtype_from_classes_that_are_no_type_of_an_element(dtype):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(LiteTypeError, match="not supported"):
            LiteLayout([1], dtype)


@pytest.mark.parametrize("dtype", ["3f4", "f4,i4", np.dtype([("a", "f4")]), ctypes.c_float, np.float32(2), np.bool_(1)])
def test_layout_dtype_from_structures_and_values(dtype):
    with pytest.raises(LiteTypeError):
        LiteLayout([1], dtype)


@pytest.mark.parametrize("shape", [np.array([2.0]), np.array([[2, 3]]), np.array(2)])
def test_layout_shape_from_other_arrays(shape):
    with pytest.raises(LiteTypeError):
        LiteLayout(shape)


def test_layout_shape_with_zeros_and_bools():
    assert LiteLayout([0, 3]).shapes == [0, 3]
    assert LiteLayout([True, False]).shapes == [1, 0]
    assert LiteLayout(i for i in (4, 5)).shapes == [4, 5]


@pytest.mark.parametrize("ndim", [1.0, "1", None, [1]])
def test_layout_ndim_of_other_types(ndim):
    layout = LiteLayout([2])
    with pytest.raises(LiteTypeError):
        layout.ndim = ndim
    assert layout.shapes == [2]


@pytest.mark.parametrize("value", [None, 3, ["2"], [-1]])
def test_layout_shapes_are_checked_on_assignment(value):
    layout = LiteLayout([2], "int8")
    with pytest.raises(LiteError):
        layout.shapes = value
    assert layout == LiteLayout([2], "int8")


def test_layout_element_type_is_checked_on_assignment():
    layout = LiteLayout([2], "int8")
    for wrong in (None, 7, -1, "int64", 1.0):
        with pytest.raises(LiteTypeError):
            layout.data_type = wrong
    assert layout.dtype is np.int8
    layout.data_type = "uint16"
    assert layout.dtype is np.uint16
    with pytest.raises(AttributeError):
        layout.dtype = np.int8


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_layout_is_pickled_in_every_protocol(protocol):
    layout = LiteLayout([2, 3], "uint16")
    assert pickle.loads(pickle.dumps(layout, protocol)) == layout


def test_layout_can_be_watched():
    layout = LiteLayout([2])
    watch = weakref.ref(layout)
    assert watch() is layout
    del layout
    gc.collect()
    assert watch() is None


@pytest.mark.parametrize("shape", [[0, 2**61, 2**61], [2**61, 2**61, 0], [2**61, 2**61]])
def test_layout_beyond_the_address_space_makes_no_tensor(shape):
    with pytest.raises(LiteValueError, match="address space"):
        LiteTensor(LiteLayout(shape))


def test_layout_with_the_most_dimensions_makes_a_tensor():
    assert MAX_DIM == 7
    assert LiteTensor(LiteLayout([1, 2] * 3 + [1], "uint16")).to_numpy().shape == (1, 2, 1, 2, 1, 2, 1)


def test_ctypes_numbers_have_element_types():
    assert ctype_to_lite_dtypes == {
        ctypes.c_int: LiteDataType.LITE_INT,
        ctypes.c_uint: LiteDataType.LITE_INT,
        ctypes.c_float: LiteDataType.LITE_FLOAT,
        ctypes.c_ubyte: LiteDataType.LITE_UINT8,
        ctypes.c_byte: LiteDataType.LITE_INT8,
        ctypes.c_short: LiteDataType.LITE_INT16,
        ctypes.c_ushort: LiteDataType.LITE_UINT16,
    }


@pytest.mark.parametrize("dtype", [0, "float32", np.float32, None])
def test_lite_dtype_2_numpy_of_other_things(dtype):
    with pytest.raises(LiteArgumentError):
        lite_dtype_2_numpy(dtype)
