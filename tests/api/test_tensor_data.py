"""How data gets into tensors and out of them: copies and shared memory."""

import array
import ctypes
import gc
import weakref

import numpy as np
import pytest

from megengine_lite import LiteDeviceType, LiteLayout, LiteTensor, TensorBatchCollector
from megengine_lite.errors import (
    LiteArgumentError,
    LiteError,
    LiteTypeError,
    LiteValueError,
    ShapeError,
)

NAMES = ["float32", "float16", "int32", "int16", "int8", "uint8", "uint16"]


def tensor_of(shape, dtype="int32") -> LiteTensor:
    return LiteTensor(LiteLayout(shape, dtype))


def garbage() -> list[np.ndarray]:
    """Overwrites memory that was just freed."""
    gc.collect()
    return [np.full(1000, 77, "int32") for _ in range(200)]


# ---- copies of sequences ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [list, tuple])
def test_copy_of_numbers(name, kind):
    tensor = tensor_of([2, 3], name)
    tensor.set_data_by_copy(kind([1, 2, 3, 4, 5, 6]))
    assert tensor.layout == LiteLayout([2, 3], name)
    assert tensor.to_numpy().tolist() == [[1, 2, 3], [4, 5, 6]]


def test_copy_of_a_range_and_of_a_nested_list():
    tensor = tensor_of([2, 3])
    tensor.set_data_by_copy(range(6))
    assert tensor.to_numpy().tolist() == [[0, 1, 2], [3, 4, 5]]
    tensor.set_data_by_copy([[6, 7, 8], [9, 10, 11]])
    assert tensor.to_numpy().tolist() == [[6, 7, 8], [9, 10, 11]]
    with pytest.raises(LiteArgumentError):
        tensor.set_data_by_copy([[1, 2], [3, 4]])


def test_copy_of_a_short_list_leaves_the_rest():
    tensor = tensor_of([4])
    tensor.set_data_by_copy([1, 2, 3, 4])
    tensor.set_data_by_copy([9])
    assert tensor.to_numpy().tolist() == [9, 2, 3, 4]
    tensor.set_data_by_copy([])
    assert tensor.to_numpy().tolist() == [9, 2, 3, 4]


def test_copy_of_a_long_list():
    tensor = tensor_of([2])
    with pytest.raises(AssertionError):
        tensor.set_data_by_copy([1, 2, 3])
    assert tensor.to_numpy().tolist() == [0, 0]


def test_copy_of_a_list_with_a_layout():
    tensor = tensor_of([2])
    tensor.set_data_by_copy([1, 2, 3, 4], layout=LiteLayout([2, 2], "int8"))
    assert tensor.to_numpy().tolist() == [[1, 2], [3, 4]]
    assert tensor.layout.dtype is np.int8


def test_copy_of_a_list_into_a_tensor_without_layout():
    with pytest.raises(LiteError):
        LiteTensor().set_data_by_copy([1.0])


@pytest.mark.parametrize(
    ("name", "numbers"), [("int8", [300]), ("uint8", [-1]), ("int16", [2**15]), ("int32", [2**40]), ("int32", [2**80])]
)
def test_numbers_that_do_not_fit(name, numbers):
    tensor = tensor_of([1], name)
    with pytest.raises(LiteValueError, match=r"fit|range"):
        tensor.set_data_by_copy(numbers)
    assert tensor.to_numpy().tolist() == [0]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("int32", [1.5]),
        ("int32", [None]),
        ("int32", ["1"]),
        ("float32", ["1"]),
        ("float32", [[1], [2, 3]]),
        ("int8", [1j]),
    ],
)
def test_elements_that_are_no_numbers_of_the_type(name, data):
    with pytest.raises(LiteTypeError):
        tensor_of([3], name).set_data_by_copy(data)


def test_large_integers_become_real_numbers():
    tensor = tensor_of([2], "float32")
    tensor.set_data_by_copy([2**70, True])
    assert tensor.to_numpy().tolist() == [2.0**70, 1.0]


# ---- copies of arrays ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_copy_of_an_array_brings_its_layout(name):
    tensor = tensor_of([7], "int16")
    source = np.arange(6).reshape(2, 3).astype(name)
    tensor.set_data_by_copy(source)
    assert tensor.layout == LiteLayout([2, 3], name)
    source[:] = 0
    assert tensor.to_numpy().tolist() == [[0, 1, 2], [3, 4, 5]]


def test_copy_of_an_array_with_as_many_bytes_changes_the_layout_too():
    tensor = tensor_of([4], "int32")
    tensor.set_data_by_copy(np.ones((2, 8), "int8"))
    assert tensor.layout == LiteLayout([2, 8], "int8")
    tensor.set_data_by_copy(np.ones((2, 8), "int8"), layout=LiteLayout([16], "uint8"))
    assert tensor.layout == LiteLayout([16], "uint8")
    with pytest.raises(LiteArgumentError):
        tensor.set_data_by_copy(np.ones((2, 8), "int8"), layout=[15])
    assert tensor.layout == LiteLayout([16], "uint8")


def test_copy_ignores_a_length_for_arrays():
    tensor = LiteTensor()
    tensor.set_data_by_copy(np.ones(3, "int8"), 100)
    assert tensor.nbytes == 3


def test_copy_of_an_array_that_is_not_contiguous():
    for source in (np.zeros((4, 4), "float32")[:, ::2], np.zeros((4, 4), "float32").T):
        source = source if not source.flags.c_contiguous else source[:, 1:]
        with pytest.raises(AssertionError, match="ascontiguousarray"):
            LiteTensor().set_data_by_copy(source)


@pytest.mark.parametrize("dtype", ["float64", "int64", "bool", ">f4", "uint64", "complex64", "S3", "O"])
def test_copy_and_share_of_arrays_of_other_types(dtype):
    for call in ("set_data_by_copy", "set_data_by_share"):
        with pytest.raises(LiteTypeError, match="float32, float16, int32"):
            getattr(LiteTensor(), call)(np.zeros(3, dtype))


def test_copy_of_uint32_is_int32():
    tensor = LiteTensor()
    tensor.set_data_by_copy(np.array([2**32 - 1], "uint32"))
    assert tensor.to_numpy().tolist() == [-1]


def test_copy_of_an_array_without_dimensions():
    tensor = tensor_of([3])
    tensor.set_data_by_copy(np.array(5, "int32"))
    assert tensor.layout == LiteLayout([1], "int32") and tensor.to_numpy().tolist() == [5]


def test_copy_of_nothing_leaves_the_tensor_usable():
    tensor = LiteTensor()
    tensor.set_data_by_copy(np.zeros((0, 3), "float32"))
    assert (tensor.layout.shapes, tensor.is_continue, tensor.to_numpy().shape) == ([0, 3], True, (0, 3))
    assert tensor.get_data_by_share().shape == (0, 3)
    tensor.set_data_by_copy(np.ones(2, "float32"))
    assert tensor.to_numpy().tolist() == [1, 1]


def test_copy_of_read_only_and_subclassed_arrays():
    source = np.ones((2, 2), "int8").view(np.matrix)
    source.flags.writeable = False
    tensor = LiteTensor()
    tensor.set_data_by_copy(source)
    assert tensor.to_numpy().tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize("mask", [False, [True, False]])
def test_masked_arrays_are_refused_with_the_next_step(mask):
    array = np.ma.array(np.ones(2, "float32"), mask=mask)
    tensor, batch = tensor_of([2], "float32"), TensorBatchCollector([3, 2], "float32", LiteDeviceType.LITE_CPU)
    for take in (tensor.set_data_by_copy, tensor.set_data_by_share, LiteTensor.from_dlpack, batch.collect):
        with pytest.raises(LiteArgumentError, match=r"no mask: pass array\.filled\(value\)"):
            take(array)
    for nested in ([array], ([array.data], [array]), [[0, np.ma.masked]]):
        with pytest.raises(LiteArgumentError, match=r"no mask: pass array\.filled\(value\)"):
            tensor.set_data_by_copy(nested)
    tensor.set_data_by_copy(array.filled(5))
    assert tensor.to_numpy().tolist() == ([5, 1] if mask else [1, 1])
    tensor.set_data_by_share(array.data)
    assert batch.collect(array.filled(0)) == 0


def test_copy_of_an_array_over_the_own_memory():
    tensor = tensor_of([6])
    tensor.set_data_by_copy(list(range(6)))
    tensor.set_data_by_copy(tensor.get_data_by_share()[2:5])
    assert tensor.to_numpy().tolist() == [2, 3, 4]


@pytest.mark.parametrize("data", [None, object(), {1: 2}, {1, 2}, True, "text"])
def test_copy_of_other_things(data):
    with pytest.raises(AssertionError):
        tensor_of([2]).set_data_by_copy(data)


class _Arrayish:
    def __array__(self, dtype=None, copy=None):
        return np.array([[1, 2]], "int16")


def test_copy_of_objects_that_can_be_arrays():
    tensor = LiteTensor()
    tensor.set_data_by_copy(_Arrayish())
    assert tensor.layout == LiteLayout([1, 2], "int16")
    other = LiteTensor()
    other.set_data_by_copy(tensor)
    assert other.to_numpy().tolist() == [[1, 2]]
    other.set_data_by_copy(array.array("f", [1.5]))
    assert other.layout == LiteLayout([1], "float32") and other.to_numpy().tolist() == [1.5]


# ---- copies of raw memory -----------------------------------------------------------------------------------------


def raw_forms(source: np.ndarray) -> dict:
    return {
        "address": source.ctypes.data,
        "numpy integer": np.int64(source.ctypes.data),
        "void pointer": ctypes.c_void_p(source.ctypes.data),
        "pointer": source.ctypes.data_as(ctypes.POINTER(ctypes.c_int)),
        "ctypes array": (ctypes.c_int * 4)(*source.tolist()),
        "bytes": source.tobytes(),
        "bytearray": bytearray(source.tobytes()),
        "memoryview": memoryview(source.tobytes()),
    }


@pytest.mark.parametrize("form", raw_forms(np.zeros(4, "int32")))
def test_copy_of_raw_memory(form):
    source = np.array([1, 2, 3, 4], "int32")
    data = raw_forms(source)[form]
    tensor = tensor_of([2, 2])
    tensor.set_data_by_copy(data, 16)
    assert tensor.to_numpy().tolist() == [[1, 2], [3, 4]]
    tensor.set_data_by_copy(data, length=16)
    tensor.set_data_by_copy(data, layout=LiteLayout([8], "int16"))
    assert tensor.to_numpy().tolist() == [1, 0, 2, 0, 3, 0, 4, 0]
    for wrong in (12, 20):
        with pytest.raises(AssertionError):
            tensor.set_data_by_copy(data, wrong)


@pytest.mark.parametrize("form", ["address", "void pointer", "pointer"])
def test_copy_of_an_address_needs_a_length(form):
    source = np.array([1, 2, 3, 4], "int32")
    with pytest.raises(AssertionError, match="data_length=16"):
        tensor_of([4]).set_data_by_copy(raw_forms(source)[form])


@pytest.mark.parametrize("form", ["ctypes array", "bytes", "bytearray", "memoryview"])
def test_copy_of_a_buffer_checks_its_size(form):
    data = raw_forms(np.array([1, 2, 3, 4], "int32"))[form]
    tensor = tensor_of([4])
    tensor.set_data_by_copy(data)
    assert tensor.to_numpy().tolist() == [1, 2, 3, 4]
    large = tensor_of([8])
    with pytest.raises(AssertionError):
        large.set_data_by_copy(data, 32)
    with pytest.raises(AssertionError):
        large.set_data_by_copy(data, layout=LiteLayout([8], "int32"))


@pytest.mark.parametrize("null", [0, ctypes.c_void_p(), ctypes.POINTER(ctypes.c_int)()])
def test_null_pointers(null):
    for call in ("set_data_by_copy", "set_data_by_share"):
        with pytest.raises(LiteValueError):
            getattr(tensor_of([2]), call)(null, 8)


# ---- shared memory ------------------------------------------------------------------------------------------------


def test_share_is_the_same_memory_both_ways():
    source = np.zeros((2, 3), "float32")
    tensor = tensor_of([2, 3], "float32")
    tensor.set_data_by_share(source)
    source[1, 2] = 5
    assert tensor.to_numpy()[1, 2] == 5
    tensor.fill_zero()
    assert source[1, 2] == 0
    assert tensor.get_ctypes_memory().value == source.ctypes.data


def test_share_of_as_many_bytes_keeps_the_shape():
    tensor = tensor_of([6])
    tensor.set_data_by_share(np.arange(6, dtype="int32").reshape(2, 3))
    assert tensor.layout.shapes == [6]


def test_share_of_another_size_takes_shape_and_type():
    tensor = tensor_of([12])
    tensor.set_data_by_share(np.arange(12, dtype="int8").reshape(3, 4))
    assert tensor.layout == LiteLayout([3, 4], "int8")
    assert tensor.nbytes == 12


def test_share_never_reinterprets():
    tensor = tensor_of([4], "float32")
    with pytest.raises(LiteTypeError, match="int32"):
        tensor.set_data_by_share(np.ones(4, "int32"))
    assert tensor.layout == LiteLayout([4], "float32")
    tensor.set_data_by_share(np.ones(4, "int32"), layout=LiteLayout([16], "uint8"))
    assert tensor.to_numpy().tolist() == [1, 0, 0, 0] * 4


def test_share_checks_lengths_and_layouts():
    source = np.arange(6, dtype="int32")
    tensor = tensor_of([6])
    tensor.set_data_by_share(source, 24)
    tensor.set_data_by_share(source, data_length=24)
    for wrong in ({"length": 20}, {"data_length": 28}, {"layout": [7]}):
        with pytest.raises(AssertionError):
            tensor.set_data_by_share(source, **wrong)
    tensor.set_data_by_share(source, layout=[2, 2])
    assert tensor.to_numpy().tolist() == [[0, 1], [2, 3]]


def test_share_of_what_cannot_be():
    tensor = tensor_of([4], "float32")
    cases = [
        (np.zeros((4, 2), "float32")[:, 0], AssertionError),
        (np.array(1.0, "float32"), LiteValueError),
        ([1, 2, 3, 4], LiteTypeError),
        ("text", LiteTypeError),
        (None, LiteValueError),
    ]
    for data, error in cases:
        with pytest.raises(error):
            tensor.set_data_by_share(data)
    assert tensor.layout == LiteLayout([4], "float32")
    assert tensor.to_numpy().tolist() == [0, 0, 0, 0]


def test_share_of_nothing():
    tensor = LiteTensor()
    tensor.set_data_by_share(np.zeros((0, 2), "int8"))
    assert tensor.layout == LiteLayout([0, 2], "int8")
    tensor.set_data_by_share(np.ones(2, "int8"))
    assert tensor.to_numpy().tolist() == [1, 1]


def test_read_only_memory_can_be_read_and_not_written():
    frozen = np.arange(4, dtype="int32")
    frozen.flags.writeable = False
    for data, expected in ((frozen, [0, 1, 2, 3]), (np.arange(4, dtype="int32").tobytes(), [0, 1, 2, 3])):
        tensor = tensor_of([4])
        tensor.set_data_by_share(data)
        assert tensor.to_numpy().tolist() == expected
        assert not tensor.get_data_by_share().flags.writeable
        source = tensor_of([4])
        writes = [
            tensor.fill_zero,
            lambda t=tensor: t.set_data_by_copy([5]),
            lambda t=tensor: t.set_data_by_copy(np.zeros(4, "int32")),
            lambda t=tensor: t.set_data_by_copy(bytes(16)),
            lambda t=tensor, s=source: t.copy_from(s),
            lambda t=tensor: t.slice([0], [4], [2]).fill_zero(),
        ]
        for write in writes:
            with pytest.raises(LiteArgumentError, match="read-only"):
                write()
        assert tensor.to_numpy().tolist() == expected


def test_a_copy_that_fits_goes_into_the_shared_array_and_a_larger_one_detaches():
    source = np.zeros(4, "int32")
    tensor = LiteTensor()
    tensor.set_data_by_share(source)
    tensor.set_data_by_copy([1, 2])
    assert source.tolist() == [1, 2, 0, 0]
    tensor.set_data_by_copy(np.ones(8, "int32"))
    assert source.tolist() == [1, 2, 0, 0]


@pytest.mark.parametrize("form", ["address", "void pointer", "pointer"])
@pytest.mark.parametrize("length", [0, 16])
def test_share_of_an_address(form, length):
    source = np.array([1, 2, 3, 4], "int32")
    tensor = tensor_of([2, 2])
    tensor.set_data_by_share(raw_forms(source)[form], length)
    source[3] = 9
    assert tensor.to_numpy().tolist() == [[1, 2], [3, 9]]
    with pytest.raises(AssertionError):
        tensor.set_data_by_share(raw_forms(source)[form], 12)


def test_share_of_buffers_keeps_them():
    data = bytearray(np.array([1, 2, 3, 4], "int32").tobytes())
    tensor = tensor_of([4])
    tensor.set_data_by_share(data)
    with pytest.raises(BufferError):
        data.extend(b"1")
    tensor.fill_zero()
    assert data == bytes(16)
    numbers = (ctypes.c_int * 4)(1, 2, 3, 4)
    tensor.set_data_by_share(numbers)
    data.extend(b"1")
    tensor.set_data_by_copy([8])
    assert numbers[0] == 8
    with pytest.raises(AssertionError):
        tensor_of([5]).set_data_by_share(numbers)


def test_shared_array_lives_as_long_as_its_memory_is_used():
    class Watched(np.ndarray):
        pass

    source = np.zeros(8, "int32").view(Watched)
    alive = weakref.ref(source)
    tensor, twin = LiteTensor(), LiteTensor()
    tensor.set_data_by_share(source)
    twin.share_memory_with(tensor)
    view = twin.slice([2], [4]).get_data_by_share()
    del source, tensor, twin
    gc.collect()
    assert alive() is not None and view.tolist() == [0, 0]
    del view
    gc.collect()
    assert alive() is None


# ---- reading ------------------------------------------------------------------------------------------------------


def test_to_numpy_is_a_copy_of_its_own():
    tensor = tensor_of([4, 4])
    for t in (tensor, tensor.slice([0, 0], [4, 4], [2, 2])):
        result = t.to_numpy()
        assert result.flags.owndata and result.flags.writeable and result.flags.c_contiguous
        result[:] = 1
    assert tensor.to_numpy().max() == 0


def test_view_outlives_the_tensor():
    tensor = tensor_of([1000])
    tensor.set_data_by_copy(np.arange(1000, dtype="int32"))
    view = tensor.get_data_by_share()
    del tensor
    keep = garbage()
    assert (view == np.arange(1000)).all()
    del keep


def test_view_keeps_the_old_memory_when_the_tensor_moves():
    tensor = tensor_of([1000])
    tensor.set_data_by_copy(np.arange(1000, dtype="int32"))
    view = tensor.get_data_by_share()
    tensor.set_data_by_copy(np.zeros(5000, "int32"))
    keep = garbage()
    assert (view == np.arange(1000)).all()
    del keep


def test_strided_slice_refuses_raw_memory():
    window = tensor_of([4, 4]).slice([0, 0], [4, 2])
    with pytest.raises(AssertionError):
        window.set_data_by_copy(bytes(32))
    with pytest.raises(ShapeError):
        window.set_data_by_copy(np.zeros((4, 2), "int16"))


def test_copy_of_numbers_that_do_not_fit_leaves_the_layout():
    tensor = LiteTensor(LiteLayout([2, 2], "int8"))
    tensor.set_data_by_copy([1, 2, 3, 4])
    with pytest.raises(LiteError):
        tensor.set_data_by_copy([1, 2, 1000], layout=LiteLayout([3], "int8"))
    assert tensor.layout.shapes == [2, 2]
    np.testing.assert_array_equal(tensor.to_numpy(), [[1, 2], [3, 4]])
