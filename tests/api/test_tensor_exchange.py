"""Tensors and other libraries: buffers, array interfaces, DLPack."""

import ctypes
import gc
import io
import struct
import weakref

import numpy as np
import pytest

from megengine_lite import LiteLayout, LiteTensor
from megengine_lite._api.data_sources import from_dlpack
from megengine_lite.errors import LiteArgumentError, LiteTypeError, LiteValueError

NAMES = ["float32", "float16", "int32", "int16", "int8", "uint8", "uint16"]


def tensor_of(shape, dtype="int32") -> LiteTensor:
    return LiteTensor(LiteLayout(shape, dtype))


def garbage() -> list[np.ndarray]:
    """Overwrites memory that was just freed."""
    gc.collect()
    return [np.full(1000, 77, "int32") for _ in range(200)]


# ---- other libraries ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_buffer_protocol(name):
    tensor = tensor_of([2, 4], name)
    tensor.set_data_by_copy(np.arange(8).reshape(2, 4).astype(name))
    view = memoryview(tensor)
    assert (view.shape, view.itemsize, view.c_contiguous, view.readonly) == (
        (2, 4),
        np.dtype(name).itemsize,
        True,
        False,
    )
    shared = np.asarray(tensor)
    assert shared.dtype == name
    shared[1, 3] = 100
    assert tensor.to_numpy()[1, 3] == 100
    window = tensor.slice([0, 1], [2, 4], [1, 2])
    assert np.asarray(window).tolist() == [[1, 3], [5, 100]]
    assert memoryview(window).strides == (4 * view.itemsize, 2 * view.itemsize)
    assert bytes(window) == window.to_numpy().tobytes()


def test_exported_buffer_keeps_its_memory():
    tensor = tensor_of([1000])
    tensor.set_data_by_copy(np.arange(1000, dtype="int32"))
    shared = np.asarray(tensor)
    view = memoryview(tensor)
    tensor.set_data_by_copy(np.zeros(5000, "int32"))
    del tensor
    keep = garbage()
    assert (shared == np.arange(1000)).all() and view[999] == 999
    del keep


def test_buffer_of_read_only_and_of_empty_tensors():
    tensor = tensor_of([4], "uint8")
    tensor.set_data_by_share(b"abcd")
    assert memoryview(tensor).readonly and bytes(tensor) == b"abcd"
    with pytest.raises(TypeError, match="not writable"):
        (ctypes.c_char * 4).from_buffer(tensor)
    assert np.asarray(LiteTensor()).shape == (0,)
    assert np.asarray(LiteTensor(shapes=[0, 3])).shape == (0, 3)


def test_strided_buffer_refuses_what_needs_contiguous_memory():
    window = tensor_of([4, 4]).slice([0, 0], [4, 2])
    for need in (lambda: struct.unpack_from("8i", window), lambda: io.BytesIO().write(window)):
        with pytest.raises(BufferError, match="not contiguous"):
            need()
    assert bytes(window) == bytes(32)


def test_array_protocol():
    tensor = tensor_of([2], "int16")
    tensor.set_data_by_copy([1, 2])
    assert tensor.__array__("float32").dtype == np.float32
    assert tensor.__array__(copy=True).flags.owndata
    shared = tensor.__array__()
    tensor.fill_zero()
    assert shared.tolist() == [0, 0]
    with pytest.raises(ValueError):
        tensor.__array__("float32", copy=False)
    assert (np.asarray(tensor, "float64") + 1).tolist() == [1, 1]


def test_array_interface():
    class Only:
        def __init__(self, tensor):
            self.__array_interface__ = tensor.__array_interface__

    tensor = tensor_of([3, 4])
    tensor.set_data_by_copy(list(range(12)))
    for t in (tensor, tensor.slice([1, 3], [3, 0], [1, -1]), tensor.slice([0], [0])):
        seen = np.asarray(Only(t))
        assert seen.tolist() == t.to_numpy().tolist() and seen.dtype == np.int32


@pytest.mark.parametrize("name", NAMES)
def test_dlpack_there_and_back(name):
    tensor = tensor_of([2, 3], name)
    tensor.set_data_by_copy(np.arange(6).reshape(2, 3).astype(name))
    assert tensor.__dlpack_device__() == (1, 0)
    array = np.from_dlpack(tensor)
    assert array.dtype == name and array.tolist() == [[0, 1, 2], [3, 4, 5]]
    back = LiteTensor.from_dlpack(tensor)
    tensor.fill_zero()
    assert back.layout == LiteLayout([2, 3], name) and back.to_numpy().max() == 0
    assert np.from_dlpack(tensor.slice([0, 1], [2, 3])).shape == (2, 2)
    del tensor, back
    gc.collect()
    assert array.max() == 0


def test_dlpack_versions_flags_and_devices():
    tensor = tensor_of([3])
    assert '"dltensor"' in repr(tensor.__dlpack__())
    assert '"dltensor_versioned"' in repr(tensor.__dlpack__(max_version=(1, 0)))
    assert '"dltensor"' in repr(tensor.__dlpack__(max_version=(0, 8)))
    with pytest.raises(BufferError):
        tensor.__dlpack__(dl_device=(2, 0))
    copied = LiteTensor.from_dlpack(_Capsule(tensor.__dlpack__(copy=True))).to_numpy()
    tensor.set_data_by_copy([1, 2, 3])
    assert copied.tolist() == [0, 0, 0]
    tensor.set_data_by_share(bytes(12))
    with pytest.raises(BufferError, match=r"1\.0"):
        tensor.__dlpack__()
    assert '"dltensor_versioned"' in repr(tensor.__dlpack__(max_version=(1, 1)))


class _Capsule:
    def __init__(self, capsule):
        self.capsule = capsule

    def __dlpack__(self, **_):
        return self.capsule

    def __dlpack_device__(self):
        return (1, 0)


def test_unused_capsules_release_their_memory():
    source = np.zeros(4, "int32")
    alive = weakref.ref(source)
    tensor = LiteTensor()
    tensor.set_data_by_share(source)
    capsules = [tensor.__dlpack__(), tensor.__dlpack__(max_version=(1, 0))]
    del source, tensor
    gc.collect()
    assert alive() is not None
    del capsules
    gc.collect()
    assert alive() is None


def test_share_of_dlpack_objects():
    source = np.arange(4, dtype="float32")
    tensor = LiteTensor()
    tensor.set_data_by_share(_Only(source))
    source[0] = 9
    assert tensor.to_numpy().tolist() == [9, 1, 2, 3]
    for window in (source[1::2], source[::-1], source.reshape(2, 2).T):
        copied = LiteTensor()
        copied.set_data_by_copy(np.ascontiguousarray(from_dlpack(_Only(window))))
        assert copied.to_numpy().tolist() == window.tolist()
        with pytest.raises(LiteArgumentError):
            tensor.set_data_by_share(_Only(window))
    assert LiteTensor.from_dlpack(_Only(np.zeros((0, 2), "int8"))).layout == LiteLayout([0, 2], "int8")
    assert LiteTensor.from_dlpack(tensor).get_data_by_share().flags.writeable
    for wrong in ([1], _Only(np.zeros(2, "int64")), _Capsule(None), _Elsewhere()):
        with pytest.raises(LiteTypeError):
            LiteTensor.from_dlpack(wrong)


def test_capsules_are_taken_once_and_given_back():
    source = np.zeros(4, "int32")
    alive = weakref.ref(source)
    capsule = source.__dlpack__()
    tensor = LiteTensor.from_dlpack(_Capsule(capsule))
    with pytest.raises(LiteTypeError, match="taken before"):
        LiteTensor.from_dlpack(_Capsule(capsule))
    del source, capsule
    gc.collect()
    assert alive() is not None
    del tensor
    gc.collect()
    assert alive() is None


class _Elsewhere:
    def __dlpack__(self, **_):
        raise AssertionError

    def __dlpack_device__(self):
        return (2, 0)


class _Only:
    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


# ---- keywords of the array protocols ------------------------------------------------------------------------------


def test_array_with_every_copy_keyword():
    tensor = tensor_of([2], "int16")
    tensor.set_data_by_copy([1, 2])
    address = tensor.get_ctypes_memory().value
    for dtype in (None, "int16", np.int16):
        for copy in (None, False):
            assert tensor.__array__(dtype, copy=copy).ctypes.data == address
        copied = tensor.__array__(dtype, copy=True)
        assert copied.ctypes.data != address and copied.flags.owndata and copied.tolist() == [1, 2]
    for copy in (None, True):
        assert tensor.__array__("float64", copy=copy).tolist() == [1.0, 2.0]
    with pytest.raises(LiteValueError, match="copy"):
        tensor.__array__("float64", copy=False)


def test_numpy_sees_a_tensor_as_an_array():
    tensor = tensor_of([2, 2])
    tensor.set_data_by_copy([1, 2, 3, 4])
    assert np.array(tensor).flags.owndata and np.asarray(tensor).ctypes.data == tensor.get_ctypes_memory().value
    assert np.add(tensor, 1).tolist() == [[2, 3], [4, 5]]
    assert (tensor.__array__() @ np.asarray(tensor)).tolist() == [[7, 10], [15, 22]]
    assert np.concatenate([tensor, tensor.slice([1], [2])]).tolist() == [[1, 2], [3, 4], [3, 4]]
    assert (np.shape(tensor), np.ndim(tensor), int(np.sum(tensor))) == ((2, 2), 2, 10)


@pytest.mark.parametrize(
    ("start", "end", "step"), [([0, 1], [4, 4], [2, 2]), ([3, 0], [-5, 4], [-1, 1]), ([2], [2], [1])]
)
def test_strided_windows_are_seen_with_their_strides(start, end, step):
    tensor = tensor_of([4, 4])
    tensor.set_data_by_copy(range(16))
    window = tensor.slice(start, end, step)
    expected = window.to_numpy().tolist()
    assert memoryview(window).tolist() == expected
    assert np.asarray(memoryview(window)).tolist() == expected
    assert np.from_dlpack(window).tolist() == expected
    assert memoryview(window).c_contiguous == window.is_continue
    if expected:
        np.asarray(window)[...] = -1
        assert np.count_nonzero(tensor.to_numpy() == -1) == window.nbytes // 4


def test_memory_is_written_through_buffers():
    tensor = tensor_of([3])
    struct.pack_into("i", tensor, 4, 77)
    memoryview(tensor)[0] = 5
    (ctypes.c_int * 3).from_buffer(tensor)[2] = 6
    assert tensor.to_numpy().tolist() == [5, 77, 6]
    assert memoryview(tensor).cast("B").nbytes == 12
    assert [memoryview(tensor_of([1], n)).format for n in NAMES] == ["f", "e", "i", "h", "b", "B", "H"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ndim", range(8))
def test_all_types_and_dimensions_are_exchanged(name, ndim):
    shape = [2] * ndim
    tensor = LiteTensor(LiteLayout(shape, name))
    if ndim:
        tensor.set_data_by_copy(np.arange(2**ndim).reshape(shape).astype(name))
    expected = tensor.to_numpy()
    for seen in (np.asarray(tensor), np.from_dlpack(tensor), np.asarray(memoryview(tensor))):
        assert seen.dtype == name and seen.shape == expected.shape and (seen == expected).all()
    if ndim:
        back = LiteTensor.from_dlpack(expected)
        assert back.layout == tensor.layout and (back.to_numpy() == expected).all()


@pytest.mark.parametrize("shape", [[], [0], [0, 3], [2, 0, 4]])
def test_nothing_is_exchanged(shape):
    tensor = LiteTensor(shape, dtype="float16")
    expected = tuple(shape) or (0,)
    for seen in (np.asarray(tensor), np.from_dlpack(tensor), np.from_dlpack(_Only(tensor)), memoryview(tensor)):
        assert seen.shape == expected and seen.nbytes == 0
    assert LiteTensor.from_dlpack(_Capsule(tensor.__dlpack__(copy=True))).layout == LiteLayout(expected, "float16")


def test_dlpack_takes_only_what_host_memory_has():
    tensor = tensor_of([2])
    with pytest.raises(LiteValueError, match="stream"):
        tensor.__dlpack__(stream=1)
    for device in ((2, 0), (1, 1)):
        with pytest.raises(BufferError, match="host memory"):
            tensor.__dlpack__(dl_device=device)
    assert np.from_dlpack(_Capsule(tensor.__dlpack__(stream=None, dl_device=(1, 0), copy=False))).tolist() == [0, 0]


def flags_of(capsule) -> int:
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    # version (two uint32), context, deleter, flags
    return ctypes.c_uint64.from_address(get(capsule, b"dltensor_versioned") + 24).value


def test_dlpack_flags_say_what_was_copied_and_what_is_read_only():
    tensor, read_only = tensor_of([2]), tensor_of([2])
    read_only.set_data_by_share(bytes(8))
    new = (1, 0)
    assert flags_of(tensor.__dlpack__(max_version=new)) == 0
    assert flags_of(tensor.__dlpack__(max_version=new, copy=True)) == 2
    assert flags_of(read_only.__dlpack__(max_version=new)) == 1
    assert flags_of(read_only.__dlpack__(max_version=new, copy=True)) == 2
    assert not LiteTensor.from_dlpack(read_only).get_data_by_share().flags.writeable


def test_capsules_themselves_are_taken():
    source = np.arange(4, dtype="float32")
    tensor, shared, copied = LiteTensor.from_dlpack(source.__dlpack__()), LiteTensor(), LiteTensor()
    shared.set_data_by_share(source.__dlpack__())
    copied.set_data_by_copy(source.__dlpack__())
    source[0] = 9
    assert [int(t.to_numpy()[0]) for t in (tensor, shared, copied)] == [9, 9, 0]
    capsule = source.__dlpack__()
    shared.set_data_by_share(capsule)
    for call in (shared.set_data_by_share, shared.set_data_by_copy, LiteTensor.from_dlpack):
        with pytest.raises(LiteTypeError, match="taken before"):
            call(capsule)


def test_capsule_of_another_device_is_left_alone():
    source = np.zeros(4, "float32")
    alive = weakref.ref(source)
    capsule = source.__dlpack__()
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    device = ctypes.c_int32.from_address(get(capsule, b"dltensor") + 8)  # behind the data pointer
    assert device.value == 1
    device.value = 2  # CUDA
    with pytest.raises(LiteTypeError, match="device"):
        LiteTensor.from_dlpack(capsule)
    device.value = 1
    assert LiteTensor.from_dlpack(capsule).layout.shapes == [4]
    del capsule, source, device
    gc.collect()
    assert alive() is None


def test_objects_with_an_array_interface_are_shared():
    class Interface:
        def __init__(self, array):
            self.kept = array
            self.__array_interface__ = array.__array_interface__

    source = np.arange(3, dtype="int16")
    shared, copied = LiteTensor(), LiteTensor()
    shared.set_data_by_share(Interface(source))
    copied.set_data_by_copy(Interface(source))
    source[2] = 9
    assert shared.to_numpy().tolist() == [0, 1, 9] and copied.to_numpy().tolist() == [0, 1, 2]


def test_objects_that_fail_to_be_arrays():
    class NoArray:
        def __array__(self, dtype=None, copy=None):
            return 3

    class Failing:
        def __array__(self, dtype=None, copy=None):
            raise ZeroDivisionError

    with pytest.raises(LiteTypeError, match="NoArray cannot be read"):
        LiteTensor().set_data_by_copy(NoArray())
    with pytest.raises(LiteTypeError, match="Failing cannot be read") as caught:
        LiteTensor().set_data_by_copy(Failing())
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    for wrong in (LiteTensor, np.ndarray, ctypes.CFUNCTYPE(None)(lambda: None)):
        with pytest.raises(LiteTypeError):
            LiteTensor().set_data_by_copy(wrong)
    with pytest.raises(LiteTypeError, match="no memory to share"):
        LiteTensor().set_data_by_share(NoArray())
