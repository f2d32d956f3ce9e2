"""Tensors and other libraries: buffers, array interfaces, DLPack."""

import ctypes
import gc
import weakref

import numpy as np
import pytest

from megengine_lite import LiteLayout, LiteTensor
from megengine_lite._core.sources import from_dlpack
from megengine_lite.errors import (
    LiteArgumentError,
    LiteTypeError,
)

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
    with pytest.raises(LiteTypeError, match="contiguous"):
        from megengine_lite._core.memory import buffer_address

        buffer_address(window)


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
