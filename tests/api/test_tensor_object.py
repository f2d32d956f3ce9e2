"""LiteTensor as a Python object: arguments, copies, pickles, memory, threads."""

import copy
import gc
import pickle
import threading
import weakref

import numpy as np
import pytest

from megengine_lite import LiteDeviceType, LiteLayout, LiteTensor
from megengine_lite.errors import DeviceError, LiteArgumentError, LiteError, LiteTypeError

NAMES = ["float32", "float16", "int32", "int16", "int8", "uint8", "uint16"]


def counting(shape, dtype="int32") -> LiteTensor:
    tensor = LiteTensor(LiteLayout(shape, dtype))
    tensor.set_data_by_copy(np.arange(int(np.prod(shape))).reshape(shape).astype(dtype))
    return tensor


# ---- what a tensor is as a Python object --------------------------------------------------------------------------


def test_tensor_is_equal_to_itself_only():
    a, b = counting([2]), counting([2])
    assert a == a and a != b and len({a, b}) == 2
    assert bool(LiteTensor([0]))


def test_tensor_is_no_sequence():
    for use in (len, iter, lambda t: t[0]):
        with pytest.raises(TypeError):
            use(counting([2]))


def test_tensor_can_be_watched():
    tensor = counting([2])
    watch = weakref.ref(tensor)
    del tensor
    gc.collect()
    assert watch() is None


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", NAMES)
def test_tensor_is_pickled_with_layout_device_and_elements(name, protocol):
    tensor = LiteTensor(LiteLayout([1, 2, 3], name), device_id=5, is_pinned_host=True)
    tensor.set_data_by_copy([1, 2, 3, 4, 5, 6])
    twin = pickle.loads(pickle.dumps(tensor, protocol))
    assert (twin.layout, twin.device_id, twin.is_pinned_host) == (tensor.layout, 5, True)
    assert twin.to_numpy().tolist() == [[[1, 2, 3], [4, 5, 6]]]


def test_tensor_without_elements_is_pickled_and_copied():
    for tensor in (LiteTensor(), LiteTensor([0, 3], dtype="int8")):
        for twin in (pickle.loads(pickle.dumps(tensor)), copy.copy(tensor), copy.deepcopy(tensor)):
            assert twin.layout == tensor.layout and twin.nbytes == 0


def test_copied_tensor_has_memory_of_its_own():
    tensor = counting([3])
    twin = copy.copy(tensor)
    twin.fill_zero()
    assert tensor.to_numpy().tolist() == [0, 1, 2]


def test_layouts_of_a_tensor_are_independent_objects():
    tensor = counting([2, 3])
    first, second = tensor.layout, tensor.layout
    assert first is not second
    first.shapes = [1]
    first.data_type = "int8"
    assert second == tensor.layout == LiteLayout([2, 3], "int32")
    tensor.layout.shapes = [4]
    assert tensor.layout == LiteLayout([2, 3], "int32")
    tensor.reshape([6])
    assert second.shapes == [2, 3] and tensor.layout.shapes == [6]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"layout": 3}, LiteTypeError),
        ({"layout": "ab"}, LiteTypeError),
        ({"layout": counting([1])}, LiteTypeError),
        ({"shapes": [1] * 8}, LiteArgumentError),
        ({"device_type": "LITE_CPU"}, LiteTypeError),
        ({"device_type": None}, LiteTypeError),
        ({"device_type": 0.0}, LiteTypeError),
        ({"device_type": True}, LiteTypeError),
        ({"device_type": np.array([0, 7])}, LiteTypeError),
        ({"device_id": "0"}, LiteTypeError),
        ({"device_id": None}, LiteTypeError),
        ({"device_id": 0.5}, LiteTypeError),
        ({"device_id": 2**31}, DeviceError),
        ({"is_pinned_host": "no"}, LiteTypeError),
        ({"is_pinned_host": None}, LiteTypeError),
        ({"dtype": "int64"}, LiteTypeError),
    ],
)
def test_tensor_with_arguments_that_cannot_be(arguments, error):
    with pytest.raises(error):
        LiteTensor(**arguments)


def test_numbers_of_numpy_as_device():
    tensor = LiteTensor([1], device_type=np.int64(0), device_id=np.int64(3), is_pinned_host=np.bool_(True))
    assert (tensor.device_type, tensor.device_id, tensor.is_pinned_host) == (LiteDeviceType.LITE_CPU, 3, True)
    assert [type(p) for p in (tensor.device_type, tensor.device_id, tensor.is_pinned_host)] == [
        LiteDeviceType,
        int,
        bool,
    ]
    with pytest.raises(DeviceError):
        LiteTensor(device_type=np.int64(1))


def test_tensor_has_no_other_attributes():
    with pytest.raises(AttributeError):
        counting([1]).shape = [1]
    with pytest.raises(TypeError):
        LiteTensor(physic_construct=False)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ndim", range(8))
def test_sizes_of_all_types_and_dimensions(name, ndim):
    tensor = LiteTensor([2] * ndim, dtype=name)
    expected = np.zeros([2] * ndim, name)
    assert tensor.nbytes == (expected.nbytes if ndim else 0)
    assert tensor.layout.ndim == ndim and tensor.is_continue
    assert tensor.to_numpy().shape == (expected.shape if ndim else (0,))
    assert tensor.get_data_by_share().dtype == name


def test_memory_that_the_machine_does_not_have():
    tensor = LiteTensor([2**58])
    for use in (tensor.to_numpy, tensor.get_ctypes_memory, lambda: memoryview(tensor), tensor.__dlpack__):
        with pytest.raises(LiteError, match="cannot allocate"):
            use()
    tensor.layout = [2]
    assert tensor.nbytes == 8


# ---- threads ------------------------------------------------------------------------------------------------------


def test_reading_from_several_threads():
    tensor = counting([64, 1024], "int32")
    window = tensor.slice([0, 0], [64, 1024], [3, 7])
    expected, part = tensor.to_numpy(), window.to_numpy()
    wrong: list[object] = []

    def read():
        for _ in range(50):
            target = LiteTensor()
            target.copy_from(tensor)
            seen = (tensor.to_numpy(), np.asarray(tensor), target.to_numpy(), np.from_dlpack(tensor))
            if not all((a == expected).all() for a in seen) or not (window.to_numpy() == part).all():
                wrong.append(seen)
            if tensor.layout != LiteLayout([64, 1024], "int32") or not tensor.is_continue:
                wrong.append(tensor.layout)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []


def test_memory_is_allocated_once_for_all_threads():
    for _ in range(20):
        tensor = LiteTensor([1 << 16])
        barrier = threading.Barrier(4)
        addresses = []

        def look(tensor=tensor, barrier=barrier, addresses=addresses):
            barrier.wait()
            addresses.append(tensor.get_ctypes_memory().value)

        threads = [threading.Thread(target=look) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert len(addresses) == 4 and len(set(addresses)) == 1


def test_tensor_gets_other_memory_while_a_thread_copies_into_it():
    source = np.ones(1 << 20, "int8")
    tensor, stop = LiteTensor([16], dtype="int8"), threading.Event()

    def move():
        while not stop.is_set():
            tensor.set_data_by_share(np.zeros(1 << 21, "int8"))

    mover = threading.Thread(target=move)
    mover.start()
    try:
        for _ in range(200):
            tensor.set_data_by_copy(source)
    finally:
        stop.set()
        mover.join()
    tensor.set_data_by_copy(source)
    assert tensor.to_numpy().min() == 1
