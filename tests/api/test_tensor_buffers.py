"""Tensors over memory of other Python objects: buffers, ctypes, addresses; who keeps what alive."""

import array
import ctypes
import gc
import mmap
import weakref

import numpy as np
import pytest

from megengine_lite import LiteLayout, LiteTensor
from megengine_lite.errors import LiteArgumentError, LiteError, LiteTypeError, LiteValueError

CALLS = ["set_data_by_copy", "set_data_by_share"]


class Pair(ctypes.Structure):
    _fields_ = [("first", ctypes.c_int), ("second", ctypes.c_int)]


def tensor_of(shape, dtype="int32") -> LiteTensor:
    return LiteTensor(LiteLayout(shape, dtype))


def mapped(content: bytes) -> mmap.mmap:
    memory = mmap.mmap(-1, len(content))
    memory[:] = content
    return memory


NUMBERS = np.array([1, 2], "int32")
# Objects of eight bytes, and whether a tensor that shares them can write them.
BUFFERS = {
    "bytes": (NUMBERS.tobytes, False),
    "bytearray": (lambda: bytearray(NUMBERS.tobytes()), True),
    "memoryview": (lambda: memoryview(bytearray(NUMBERS.tobytes())), True),
    "memoryview of two dimensions": (lambda: memoryview(NUMBERS.copy().reshape(2, 1)), True),
    "memoryview for reading": (lambda: memoryview(NUMBERS.tobytes()), False),
    "mmap": (lambda: mapped(NUMBERS.tobytes()), True),
    "ctypes array": (lambda: (ctypes.c_int * 2)(1, 2), True),
    "ctypes structure": (lambda: Pair(1, 2), True),
    "array.array": (lambda: array.array("i", [1, 2]), True),
    "numpy array": (NUMBERS.copy, True),
}


@pytest.mark.parametrize("kind", BUFFERS)
def test_copy_of_every_buffer_is_independent(kind):
    data = BUFFERS[kind][0]()
    tensor = tensor_of([2])
    tensor.set_data_by_copy(data)
    assert tensor.layout == LiteLayout([2], "int32") and tensor.to_numpy().tolist() == [1, 2]
    tensor.fill_zero()
    assert bytes(memoryview(data).cast("B") if kind != "memoryview of two dimensions" else data) == NUMBERS.tobytes()


@pytest.mark.parametrize("kind", BUFFERS)
def test_share_of_every_buffer_is_its_memory(kind):
    make, writable = BUFFERS[kind]
    data = make()
    tensor = tensor_of([2])
    tensor.set_data_by_share(data)
    assert tensor.to_numpy().tolist() == [1, 2]
    seen = np.frombuffer(data, "int32")
    assert tensor.get_ctypes_memory().value == seen.ctypes.data
    assert tensor.get_data_by_share().flags.writeable == writable
    assert memoryview(tensor).readonly != writable
    if writable:
        tensor.set_data_by_copy([5])
        assert seen.tolist() == [5, 2]
    else:
        with pytest.raises(LiteArgumentError, match="read-only"):
            tensor.set_data_by_copy([5])
        assert seen.tolist() == [1, 2]


@pytest.mark.parametrize("kind", [k for k in BUFFERS if k != "array.array" and k != "numpy array"])
@pytest.mark.parametrize("call", CALLS)
def test_raw_bytes_take_any_layout_that_they_fill(kind, call):
    tensor = tensor_of([100])
    getattr(tensor, call)(BUFFERS[kind][0](), layout=LiteLayout([2, 2], "int16"))
    assert tensor.to_numpy().tolist() == [[1, 0], [2, 0]]
    getattr(tensor, call)(BUFFERS[kind][0](), 4, LiteLayout([1], "int32"))
    assert tensor.to_numpy().tolist() == [1]
    with pytest.raises(LiteArgumentError, match="8 bytes for 12"):
        getattr(tensor, call)(BUFFERS[kind][0](), layout=LiteLayout([3], "int32"))
    assert tensor.to_numpy().tolist() == [1]


def test_array_of_the_standard_library_brings_its_layout():
    numbers = array.array("f", [1.5, 2.5, 3.5])
    for call in CALLS:
        tensor = tensor_of([7], "int8")
        getattr(tensor, call)(numbers)
        assert tensor.layout == LiteLayout([3], "float32")
        assert tensor.to_numpy().tolist() == [1.5, 2.5, 3.5]
        with pytest.raises(LiteTypeError):
            getattr(tensor, call)(array.array("d", [1.0]))


def test_shared_array_of_the_standard_library_cannot_be_resized():
    numbers = array.array("i", [1, 2])
    tensor = LiteTensor()
    tensor.set_data_by_share(numbers)
    with pytest.raises(BufferError):
        numbers.append(3)
    del tensor
    gc.collect()
    numbers.append(3)


def pointers(numbers) -> dict:
    """All that ctypes passes as an address of a ctypes array."""
    return {
        "c_void_p": ctypes.cast(numbers, ctypes.c_void_p),
        "POINTER": ctypes.cast(numbers, ctypes.POINTER(ctypes.c_int)),
        "pointer": ctypes.pointer(numbers),
        "byref": ctypes.byref(numbers),
        "c_char_p": ctypes.cast(numbers, ctypes.c_char_p),
        "int": ctypes.addressof(numbers),
        "numpy.intp": np.intp(ctypes.addressof(numbers)),
    }


@pytest.mark.parametrize("form", pointers((ctypes.c_int * 2)()))
def test_pointers_are_copied_and_shared(form):
    numbers = (ctypes.c_int * 2)(1, 2)
    copied, shared = tensor_of([2]), tensor_of([2])
    copied.set_data_by_copy(pointers(numbers)[form], 8)
    shared.set_data_by_share(pointers(numbers)[form], length=8)
    numbers[1] = 7
    assert copied.to_numpy().tolist() == [1, 2] and shared.to_numpy().tolist() == [1, 7]
    with pytest.raises(LiteArgumentError, match="data_length=8"):
        copied.set_data_by_copy(pointers(numbers)[form])
    for call in CALLS:
        with pytest.raises(LiteArgumentError):
            getattr(copied, call)(pointers(numbers)[form], 4)


def test_byref_with_an_offset():
    numbers = (ctypes.c_int * 3)(1, 2, 3)
    tensor = tensor_of([2])
    tensor.set_data_by_share(ctypes.byref(numbers, 4))
    assert tensor.to_numpy().tolist() == [2, 3]


@pytest.mark.parametrize("address", [0, -1, 2**64, 2**70, ctypes.c_void_p(), ctypes.c_char_p(), ctypes.c_void_p(0)])
@pytest.mark.parametrize("call", CALLS)
def test_what_is_no_address(address, call):
    with pytest.raises(LiteValueError):
        getattr(tensor_of([1]), call)(address, 4)


def test_small_numbers_of_numpy_are_no_addresses():
    tensor = tensor_of([1])
    tensor.set_data_by_copy(np.int32(7))
    assert tensor.to_numpy().tolist() == [7]
    tensor.set_data_by_copy(np.float32(2.5))
    assert tensor.layout == LiteLayout([1], "float32") and tensor.to_numpy().tolist() == [2.5]
    with pytest.raises(LiteError):
        tensor.set_data_by_share(np.int16(1))


@pytest.mark.parametrize("call", CALLS)
def test_memory_that_is_not_contiguous_or_not_there(call):
    strided, released = memoryview(np.arange(4, dtype="int32"))[::2], memoryview(bytes(8))
    released.release()
    with pytest.raises(LiteArgumentError, match="contiguous"):
        getattr(tensor_of([2]), call)(strided)
    with pytest.raises(LiteTypeError, match="released"):
        getattr(tensor_of([2]), call)(released)
    window = tensor_of([4, 4]).slice([0, 0], [4, 2])
    with pytest.raises(LiteArgumentError):
        getattr(tensor_of([8]), call)(window)


@pytest.mark.parametrize("call", CALLS)
def test_raw_memory_needs_a_layout(call):
    tensor = LiteTensor()
    for data in (bytes(4), bytearray(4), NUMBERS.ctypes.data):
        with pytest.raises(LiteArgumentError, match="layout"):
            getattr(tensor, call)(data)
        with pytest.raises(LiteValueError, match="without dimensions"):
            getattr(tensor, call)(data, layout=LiteLayout())
    with pytest.raises(LiteValueError, match="without dimensions"):
        getattr(tensor, call)(np.ones(1, "int32"), layout=[])
    assert tensor.layout.ndim == 0


@pytest.mark.parametrize("call", CALLS)
def test_lengths_that_contradict_or_are_none(call):
    tensor = tensor_of([2])
    for lengths, error in (
        ({"length": 8, "data_length": 4}, LiteArgumentError),
        ({"length": "8"}, LiteTypeError),
        ({"data_length": 8.0}, LiteTypeError),
        ({"length": -8}, LiteArgumentError),
    ):
        with pytest.raises(error):
            getattr(tensor, call)(bytes(8), **lengths)
    getattr(tensor, call)(bytes(8), length=8, data_length=8)


@pytest.mark.parametrize("call", CALLS)
def test_arrays_of_eight_dimensions(call):
    with pytest.raises(AssertionError, match="at most 7"):
        getattr(LiteTensor(), call)(np.ones([1] * 8, "int8"))


@pytest.mark.parametrize("call", CALLS)
def test_arrays_of_seven_dimensions(call):
    tensor = LiteTensor()
    getattr(tensor, call)(np.arange(8, dtype="uint16").reshape(1, 2, 1, 2, 1, 2, 1))
    assert tensor.to_numpy().shape == (1, 2, 1, 2, 1, 2, 1) and tensor.to_numpy().ravel().tolist() == list(range(8))


# ---- read-only memory ---------------------------------------------------------------------------------------------


def frozen(tensor: LiteTensor) -> bytes:
    data = NUMBERS.tobytes()
    tensor.set_data_by_share(data)
    return data


@pytest.mark.parametrize(
    "grow",
    [
        lambda t: t.set_data_by_copy(np.arange(3, dtype="int32")),
        lambda t: t.set_data_by_copy(np.arange(3, dtype="int32").tobytes(), layout=[3]),
        lambda t: t.set_data_by_copy([0, 1, 2], layout=[3]),
        lambda t: t.copy_from(LiteTensor.from_dlpack(np.arange(3, dtype="int32"))),
    ],
)
def test_larger_copy_leaves_read_only_memory(grow):
    tensor = tensor_of([2])
    data = frozen(tensor)
    grow(tensor)
    assert tensor.to_numpy().tolist() == [0, 1, 2]
    tensor.fill_zero()
    assert data == NUMBERS.tobytes()


def test_refused_write_leaves_the_layout():
    tensor = tensor_of([2])
    frozen(tensor)
    for write in (
        lambda: tensor.set_data_by_copy([1], layout=[1]),
        lambda: tensor.set_data_by_copy(bytes(4), layout=[1]),
        lambda: tensor.set_data_by_copy(np.zeros(1, "int32")),
        lambda: tensor.copy_from(tensor_of([1])),
    ):
        with pytest.raises(LiteArgumentError, match="read-only"):
            write()
        assert tensor.layout == LiteLayout([2], "int32") and tensor.to_numpy().tolist() == [1, 2]


def test_writing_nothing_to_read_only_memory():
    tensor = LiteTensor()
    tensor.set_data_by_share(b"", layout=LiteLayout([0], "int8"))
    tensor.fill_zero()
    tensor.set_data_by_copy([])
    tensor.set_data_by_copy(np.zeros((0, 2), "int8"))
    assert tensor.layout.shapes == [0, 2]


# ---- numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "numbers"),
    [("float32", [1e300]), ("float32", [10**400]), ("float16", [1.0, 1e6]), ("float16", [70000]), ("float32", [-4e38])],
)
def test_real_numbers_that_do_not_fit(name, numbers):
    tensor = tensor_of([2], name)
    with pytest.raises(LiteValueError, match=r"fit|range"):
        tensor.set_data_by_copy(numbers)
    assert tensor.to_numpy().tolist() == [0, 0]


def test_infinity_and_nan_fit_into_real_numbers():
    for name in ("float32", "float16"):
        tensor = tensor_of([3], name)
        tensor.set_data_by_copy([float("inf"), float("-inf"), float("nan")])
        assert str(tensor.to_numpy().tolist()) == "[inf, -inf, nan]"


def test_range_longer_than_any_memory():
    for numbers in (range(3), range(10**12), range(10**30)):
        with pytest.raises(LiteArgumentError):
            tensor_of([2]).set_data_by_copy(numbers)


# ---- owners -------------------------------------------------------------------------------------------------------


class Watched(np.ndarray):
    """An array that can be watched."""


def users(tensor: LiteTensor) -> dict:
    """All that can look at the memory of a tensor."""
    twin = LiteTensor()
    twin.share_memory_with(tensor)
    copied = LiteTensor()
    copied.set_data_by_share(tensor)
    return {
        "tensor": tensor,
        "slice": tensor.slice([0], [1]),
        "slice of a slice": tensor.slice([0], [2]).slice([1], [2]),
        "share_memory_with": twin,
        "set_data_by_share": copied,
        "get_data_by_share": tensor.get_data_by_share(),
        "numpy.asarray": np.asarray(tensor),
        "__array_interface__": tensor.__array_interface__,
        "memoryview": memoryview(tensor),
        "numpy.from_dlpack": np.from_dlpack(tensor),
        "capsule": tensor.__dlpack__(),
        "versioned capsule": tensor.__dlpack__(max_version=(1, 0)),
        "from_dlpack": LiteTensor.from_dlpack(tensor),
    }


@pytest.mark.parametrize("name", users(tensor_of([2])))
@pytest.mark.parametrize("through", ["array", "memoryview", "dlpack"])
def test_every_user_of_a_shared_array_keeps_it(name, through):
    source = np.arange(4, dtype="int32").view(Watched)
    alive = weakref.ref(source)
    tensor = LiteTensor()
    if through == "array":
        tensor.set_data_by_share(source)
    elif through == "memoryview":
        tensor.set_data_by_share(memoryview(source), layout=LiteLayout([4], "int32"))
    else:
        tensor.set_data_by_share(source.__dlpack__())
    user = users(tensor)[name]
    del source, tensor
    gc.collect()
    assert alive() is not None
    del user
    gc.collect()
    assert alive() is None


def test_tensor_lets_go_of_an_array_when_it_takes_another():
    source = np.arange(4, dtype="int32").view(Watched)
    alive = weakref.ref(source)
    for leave in (
        lambda t: t.set_data_by_share(np.zeros(4, "int32")),
        lambda t: t.set_data_by_copy(np.zeros(5, "int32")),
        lambda t: t.share_memory_with(tensor_of([1])),
    ):
        tensor = LiteTensor()
        tensor.set_data_by_share(source)
        del source
        gc.collect()
        assert alive() is not None
        leave(tensor)
        gc.collect()
        assert alive() is None
        source = np.arange(4, dtype="int32").view(Watched)
        alive = weakref.ref(source)


def test_pointer_object_is_kept_with_what_it_points_to():
    class Numbers(ctypes.Array):
        _type_ = ctypes.c_int
        _length_ = 2

    numbers = Numbers(1, 2)
    alive = weakref.ref(numbers)
    tensor = tensor_of([2])
    tensor.set_data_by_share(ctypes.pointer(numbers))
    del numbers
    gc.collect()
    assert alive() is not None and tensor.to_numpy().tolist() == [1, 2]
    del tensor
    gc.collect()
    assert alive() is None
