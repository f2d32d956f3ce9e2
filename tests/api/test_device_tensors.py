"""Tensors on a device with memory of its own; which devices there are."""

import copy
import ctypes
import functools
import itertools
import pickle
from pathlib import Path

import numpy as np
import pytest
from support.api_samples import DIGITS, loaded
from support.devices import OURS, on_device
from support.numpy_device import NumpyDevice, NumpyMemory

import megengine_lite
from megengine_lite import (
    LiteConfig,
    LiteDeviceType,
    LiteGlobal,
    LiteLayout,
    LiteNetwork,
    LiteTensor,
    LiteTensorConcat,
    TensorBatchCollector,
)
from megengine_lite._core.device.interface import Device
from megengine_lite._core.device.plan import Arena, Plan
from megengine_lite._core.runtime import devices
from megengine_lite.errors import (
    DeviceError,
    InternalError,
    LiteArgumentError,
    LiteMemoryError,
    LiteTypeError,
    ShapeError,
)

NUMBERS = np.arange(24, dtype=np.int32).reshape(4, 6)

pytestmark = pytest.mark.usefixtures("device")


# ---- which devices there are -----------------------------------------------------------------------------------------


def test_devices_that_do_not_exist_are_refused(monkeypatch):
    for kind in (LiteDeviceType.LITE_CUDA, LiteDeviceType.LITE_CAMBRICON):
        with pytest.raises(DeviceError, match=rf"{kind.name} is not available.*LITE_CPU or LiteDeviceType.LITE_ATLAS"):
            LiteTensor(device_type=kind)
        with pytest.raises(DeviceError, match=kind.name):
            LiteNetwork(LiteConfig(kind)).load(DIGITS)
        assert LiteGlobal.get_device_count(kind) == 0
    for number in (2, 6, 9, -1):
        with pytest.raises(DeviceError, match=f"no device type {number}"):
            LiteTensor(device_type=number)
        with pytest.raises(DeviceError, match=f"no device type {number}"):
            LiteGlobal.get_device_count(number)
    monkeypatch.setattr(devices, "_DEVICES", {0: devices.CPU})
    with pytest.raises(DeviceError, match=r"LITE_ATLAS is not available.*Use device_type=LiteDeviceType.LITE_CPU$"):
        on_device()


def test_count_and_ids_are_asked_of_the_device():
    assert LiteGlobal.get_device_count(OURS) == 2
    assert [on_device(device_id=k).device_id for k in (-1, 0, 1)] == [0, 0, 1]
    for wrong in (2, -2):
        with pytest.raises(DeviceError, match=f"no LITE_ATLAS device {wrong}; there are 2"):
            on_device(device_id=wrong)
        with pytest.raises(DeviceError, match=f"device {wrong}"):
            loaded(config=LiteConfig(OURS), device_id=wrong)
    assert loaded(config=LiteConfig(OURS), device_id=1).get_io_tensor("data").device_id == 1


def test_device_gets_no_id_that_means_any(device, monkeypatch):
    seen = []

    def noted(original, place, *arguments):
        seen.extend(arguments[place : place + 1])
        return original(*arguments)

    for name, place in (("allocate", 1), ("synchronize", 0), ("dlpack_device", 0), ("plan", 3), ("new_arena", 0)):
        monkeypatch.setattr(device, name, functools.partial(noted, getattr(device, name), place))
    tensor = on_device(NUMBERS, device_id=-1)
    tensor.__dlpack__()
    net = loaded(config=LiteConfig(OURS), device_id=-1)
    net.forward()
    net.wait()
    assert len(seen) >= 8 and set(seen) == {0}
    assert net.device_id == net.get_io_tensor("data").device_id == 0
    joined = LiteTensorConcat([on_device(NUMBERS, device_id=1)], 0, OURS, -1)
    assert joined.device_id == 1


def test_storages_of_a_device_take_arguments_of_their_own(device):
    class Numbered(NumpyMemory):
        def __init__(self, nbytes, device, device_id, stream=0):
            super().__init__(nbytes, device)
            self.place = device_id, stream

    memory = Numbered(8, device, 1, stream=2)
    assert (memory.nbytes, memory.device, memory.place) == (8, device, (1, 2))
    named = Numbered(device_id=0, device=device, nbytes=4)
    assert (named.nbytes, named.device, named.place) == (4, device, (0, 0))


def test_unfinished_devices_cannot_be_made():
    for kind in (Device, Plan, Arena):
        with pytest.raises(TypeError, match="abstract"):
            kind()


USES = {
    "read": LiteTensor.to_numpy,
    "write": lambda tensor: tensor.set_data_by_copy(NUMBERS),
    "copy": lambda tensor: on_device().copy_from(tensor),
    "fill_zero": LiteTensor.fill_zero,
    "dlpack_address": LiteTensor.__dlpack__,
}


@pytest.mark.parametrize("method", USES)
def test_what_a_device_does_not_offer_is_told_by_name(monkeypatch, method):
    tensor = on_device(NUMBERS)
    monkeypatch.setattr(NumpyDevice, method, getattr(Device, method))
    with pytest.raises(DeviceError, match=rf"LITE_ATLAS has no method {method} \(NumpyDevice\): it cannot "):
        USES[method](tensor)


FAILING = {
    **USES,
    "allocate": lambda tensor: on_device(NUMBERS),
    "copy in a device": lambda tensor: on_device(device_id=1).copy_from(tensor),
    "synchronize": LiteTensor.__dlpack__,
    "dlpack_device": LiteTensor.__dlpack_device__,
    "read of a window": lambda tensor: tensor.slice([1], [2]).to_numpy(),
    "write of a window": lambda tensor: tensor.slice([0, 1], [4, 3]).fill_zero(),
}


@pytest.mark.parametrize(("error", "told"), [(OSError, InternalError), (MemoryError, LiteMemoryError)])
@pytest.mark.parametrize("use", FAILING)
def test_exceptions_of_a_device_are_told_as_errors_of_this_package(device, monkeypatch, use, error, told):
    def failing(*arguments):
        raise error("lost")

    tensor = on_device(NUMBERS)
    with monkeypatch.context() as patch:
        patch.setattr(device, use.split()[0], failing)
        with pytest.raises(told, match=r"LITE_ATLAS.*lost") as caught:
            FAILING[use](tensor)
    assert type(caught.value.__cause__) is error
    assert tensor.to_numpy().tolist() == NUMBERS.tolist()


def test_a_failing_read_between_two_devices_is_told_by_its_device(device, monkeypatch):
    class Other(NumpyDevice):
        type = LiteDeviceType.LITE_NPU

        def write(self, storage, offset, data):
            raise OSError("lost")

    devices.register_device(Other())
    with pytest.raises(InternalError, match="LITE_NPU has failed: OSError: lost"):
        LiteTensor(device_type=LiteDeviceType.LITE_NPU).copy_from(on_device(NUMBERS))


def test_device_is_one_module_of_the_tests():
    """Adding it has changed nothing of the package: no source names it or what is its own."""
    sources = [p for p in Path(megengine_lite.__file__).parent.rglob("*.py") if "LITE_ATLAS" in p.read_text()]
    assert [p.name for p in sources] == ["struct.py"]


# ---- tensors ---------------------------------------------------------------------------------------------------------


def test_tensor_tells_where_it_is():
    tensor = on_device(NUMBERS, device_id=1)
    assert (tensor.device_type, tensor.device_id, tensor.is_pinned_host) == (OURS, 1, False)
    assert "LITE_ATLAS" in repr(tensor)
    assert (tensor.layout, tensor.nbytes, tensor.is_continue) == (LiteLayout([4, 6], "int32"), 96, True)
    assert isinstance(tensor._storage, NumpyMemory)
    for other in (tensor.slice([1], [2]), copy.deepcopy(tensor), pickle.loads(pickle.dumps(tensor))):
        assert (other.device_type, other.device_id) == (OURS, 1)
        assert isinstance(other._storage, NumpyMemory)


def test_fresh_memory_is_zero_and_lists_fill_it():
    tensor = LiteTensor(LiteLayout([2, 3], "int32"), OURS)
    assert tensor.to_numpy().tolist() == [[0, 0, 0], [0, 0, 0]]
    tensor.set_data_by_copy([1, 2, 3, 4])
    assert tensor.to_numpy().tolist() == [[1, 2, 3], [4, 0, 0]]
    tensor.set_data_by_copy([[5, 5, 5], [6, 6, 6]])
    tensor.set_data_by_copy(bytes(24), 24)
    assert not tensor.to_numpy().any()
    tensor.layout = [40]
    assert tensor.to_numpy().tolist() == [0] * 40


@pytest.mark.parametrize("window", [False, True])
@pytest.mark.parametrize("layout", [None, LiteLayout([4, 6], "int32")])
def test_raw_memory_in_every_form_is_copied_to_the_device(layout, window):
    address = NUMBERS.ctypes.data
    forms = {
        "c_void_p": ctypes.c_void_p(address),
        "address": address,
        "pointer": ctypes.cast(address, ctypes.POINTER(ctypes.c_int32)),
        "byref": ctypes.byref(ctypes.c_int32.from_address(address)),
        "bytes": NUMBERS.tobytes(),
        "ctypes array": (ctypes.c_int32 * 24)(*range(24)),
    }
    for form, data in forms.items():
        tensor = LiteTensor(LiteLayout([6, 6] if window else [4, 6], "int32"), OURS)
        target = tensor.slice([1], [5]) if window else tensor
        target.set_data_by_copy(data, 96, layout)
        assert target.to_numpy().tolist() == NUMBERS.tolist(), form
        assert tensor.to_numpy().sum() == NUMBERS.sum(), form


def test_copies_go_between_all_kinds_of_memory():
    host, pinned = LiteTensor(), on_device(is_pinned_host=True)
    first, second = on_device(), on_device(device_id=1)
    host.set_data_by_copy(NUMBERS)
    chain = [host, first, second, pinned, first, host, second, host]
    for source, target in itertools.pairwise(chain):
        before = target.device_type
        target.copy_from(source)
        assert target.to_numpy().tolist() == NUMBERS.tolist() and target.device_type == before
        source.fill_zero()
        assert not source.to_numpy().any() and target.to_numpy().tolist() == NUMBERS.tolist()


def test_copies_between_two_kinds_of_devices(monkeypatch):
    class Other(NumpyDevice):
        type = LiteDeviceType.LITE_NPU

    devices.register_device(Other())
    there = LiteTensor(device_type=LiteDeviceType.LITE_NPU)
    there.copy_from(on_device(NUMBERS))
    assert there.device_type == LiteDeviceType.LITE_NPU
    assert there.to_numpy().tolist() == NUMBERS.tolist()


WINDOWS = [([1], [3], None), ([0, 1], [4, 5], [2, 2]), ([3, 5], [0, 0], [-1, -2]), ([2], [2], None)]


@pytest.mark.parametrize(("start", "end", "step"), WINDOWS)
def test_slices_share_memory_of_the_device(start, end, step):
    index = tuple(slice(*k) for k in zip(start, end, step or [1] * len(start), strict=True))
    tensor, expected = on_device(NUMBERS), NUMBERS.copy()
    window = tensor.slice(start, end, step)
    assert window.to_numpy().tolist() == expected[index].tolist()
    host = LiteTensor()
    host.copy_from(window)
    assert host.to_numpy().tolist() == expected[index].tolist()
    replacement = -1 - expected[index]
    for source in (LiteTensor(), on_device()):
        source.set_data_by_copy(np.ascontiguousarray(replacement))
        window.copy_from(source)
        expected[index] = replacement
        assert tensor.to_numpy().tolist() == expected.tolist()
        replacement = replacement * 2
    window.fill_zero()
    expected[index] = 0
    assert tensor.to_numpy().tolist() == expected.tolist()
    if window.nbytes:
        window.set_data_by_copy([7, 8])
        expected[index].flat[:2] = [7, 8]  # of a view
        assert tensor.to_numpy().tolist() == expected.tolist()


def test_overlapping_slices_are_copied_as_if_through_a_buffer():
    tensor = on_device(np.arange(8, dtype=np.int32))
    tensor.slice([2], [8]).copy_from(tensor.slice([0], [6]))
    assert tensor.to_numpy().tolist() == [0, 1, 0, 1, 2, 3, 4, 5]


def test_sharing_stays_on_one_side():
    tensor = on_device(NUMBERS, device_id=1)
    twin = on_device()
    twin.share_memory_with(tensor)
    assert twin.device_id == 1
    twin.slice([0], [1]).fill_zero()
    assert tensor.to_numpy()[0].tolist() == [0] * 6
    tensor.set_data_by_copy(np.ones(100, np.int32))  # new memory: the twin keeps the old
    assert twin.to_numpy()[1:].tolist() == NUMBERS[1:].tolist()
    for host in (LiteTensor(), on_device(is_pinned_host=True)):
        with pytest.raises(DeviceError, match="copy_from"):
            host.share_memory_with(twin)
        host.set_data_by_copy(NUMBERS)
        with pytest.raises(DeviceError, match="copy_from"):
            twin.share_memory_with(host)
    assert twin.to_numpy()[1:].tolist() == NUMBERS[1:].tolist()


def test_host_memory_cannot_become_memory_of_the_device():
    tensor = on_device(NUMBERS)
    for data in (NUMBERS, memoryview(NUMBERS), ctypes.c_void_p(NUMBERS.ctypes.data), NUMBERS.ctypes.data):
        with pytest.raises(DeviceError, match=r"LITE_ATLAS.*set_data_by_copy.*is_pinned_host"):
            tensor.set_data_by_share(data, 96)
    pinned, array = on_device(is_pinned_host=True), NUMBERS.copy()
    pinned.set_data_by_share(array)
    array[0, 0] = 99
    assert pinned.to_numpy()[0, 0] == 99 and pinned.get_ctypes_memory().value == array.ctypes.data


DIRECT = {
    "get_ctypes_memory": LiteTensor.get_ctypes_memory,
    "get_data_by_share": LiteTensor.get_data_by_share,
    "asarray": np.asarray,
    "memoryview": memoryview,
    "frombuffer": lambda tensor: np.frombuffer(tensor, np.uint8),
    "__array_interface__": lambda tensor: tensor.__array_interface__,
    "storage": lambda tensor: memoryview(tensor._storage),
    "address": lambda tensor: tensor._storage.address,
}


@pytest.mark.parametrize("access", DIRECT)
def test_direct_access_says_how_to_read(access):
    tensor = on_device(NUMBERS)
    with pytest.raises(DeviceError, match=r"memory of LITE_ATLAS.*to_numpy.*copy_from"):
        DIRECT[access](tensor)
    pinned = on_device(NUMBERS, is_pinned_host=True)
    if access not in ("__array_interface__", "get_ctypes_memory", "address"):
        assert bytes(DIRECT[access](pinned)) == NUMBERS.tobytes()


def test_dlpack_shows_the_device_and_an_address_for_it_only():
    tensor = on_device(NUMBERS, device_id=1)
    assert tensor.__dlpack_device__() == (12, 1)
    assert on_device(is_pinned_host=True, device_id=1).__dlpack_device__() == (1, 0)
    capsule = tensor.slice([1], [2]).__dlpack__(max_version=(1, 0), stream=1)
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    head = get(capsule, b"dltensor_versioned") + 32  # behind version, context, deleter and flags
    assert ctypes.c_void_p.from_address(head).value == tensor._storage.handle + 24
    assert (ctypes.c_int32 * 2).from_address(head + 8)[:] == [12, 1]
    for wrong in ({"dl_device": (2, 0)}, {"dl_device": (1, 0), "copy": False}):
        with pytest.raises(BufferError, match="memory of LITE_ATLAS"):
            tensor.__dlpack__(**wrong)
    on_host = LiteTensor.from_dlpack(tensor.__dlpack__(dl_device=(1, 0), max_version=(1, 0)))
    assert on_host.device_type == LiteDeviceType.LITE_CPU and on_host.to_numpy().tolist() == NUMBERS.tolist()


@pytest.mark.parametrize("copied", [None, True])
@pytest.mark.parametrize("window", [False, True])
def test_memory_that_dlpack_gives_away_is_written(device, copied, window):
    tensor = on_device(NUMBERS)
    source = tensor.slice([1], [3]) if window else tensor
    capsule = source.__dlpack__(copy=copied)
    assert not device._queue  # nobody waits for the device from here on
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    address = ctypes.c_void_p.from_address(get(capsule, b"dltensor")).value
    handle, offset = (tensor._storage.handle, 24 if window else 0) if copied is None else (address, 0)
    assert address == handle + offset
    expected = NUMBERS[1:3] if window else NUMBERS
    assert device._contents[handle][offset:].tobytes()[: expected.nbytes] == expected.tobytes()


def test_concatenation_takes_tensors_of_all_memories():
    host = LiteTensor()
    host.set_data_by_copy(NUMBERS)
    joined = LiteTensorConcat([on_device(NUMBERS, device_id=1), host], 0)
    assert (joined.device_type, joined.device_id) == (OURS, 1)
    assert joined.to_numpy().tolist() == [*NUMBERS.tolist(), *NUMBERS.tolist()]
    back = LiteTensorConcat([joined.slice([0, 0], [8, 6], [4, 5])], 1, LiteDeviceType.LITE_CPU, 0)
    assert back.device_type == LiteDeviceType.LITE_CPU and back.to_numpy().tolist() == [[0, 5], [0, 5]]


def test_a_label_of_the_cpu_is_no_id_of_another_device():
    labelled = LiteTensor(LiteLayout([4, 6], "int32"), device_type=LiteDeviceType.LITE_CPU, device_id=5)
    labelled.set_data_by_copy(NUMBERS)
    joined = LiteTensorConcat([labelled, labelled], 0, OURS)
    assert (joined.device_type, joined.device_id, joined.is_pinned_host) == (OURS, 0, False)
    np.testing.assert_array_equal(joined.to_numpy(), np.concatenate([NUMBERS, NUMBERS]))


def test_batches_are_collected_on_the_device():
    batch = TensorBatchCollector([3, 6], "int32", OURS)
    sample = on_device(NUMBERS[1])
    assert batch.collect(NUMBERS[0]) == 0 and batch.collect_id(sample, 2) == 2
    assert batch.collect_by_ctypes(NUMBERS[3].ctypes.data, 24) == 1
    assert batch.to_numpy().tolist() == [NUMBERS[0].tolist(), NUMBERS[3].tolist(), NUMBERS[1].tolist()]
    assert batch.get().device_type == batch.get_tensor_at(1).device_type == OURS


def test_empty_tensors_and_wrong_data():
    tensor = on_device(np.zeros((0, 3), np.float32))
    assert tensor.to_numpy().shape == tensor.get_data_by_share().shape == (0, 3)
    tensor.fill_zero()
    assert on_device().to_numpy().size == 0
    with pytest.raises(LiteTypeError):
        tensor.set_data_by_copy(np.zeros(3))
    with pytest.raises(LiteArgumentError):
        tensor.set_data_by_copy(NUMBERS[:, ::2])
    with pytest.raises(ShapeError):
        on_device(NUMBERS).slice([0, 0], [2, 2]).copy_from(tensor)


@pytest.mark.parametrize("access", [a for a in DIRECT if a not in ("storage", "address")])
def test_empty_windows_need_no_address(access):
    window = on_device(NUMBERS).slice([2], [2])
    for empty in (window, on_device(NUMBERS).slice([0, 6], [4, 6]), on_device(np.zeros((0, 6), np.int32))):
        got = DIRECT[access](empty)
        if access == "get_ctypes_memory":
            assert got.value is None
        elif access == "__array_interface__":
            assert (got["shape"], got["data"]) == (tuple(empty.layout.shapes), b"")
        else:
            assert got.nbytes == 0 and bytes(got) == b""
    assert memoryview(window).shape == (0, 6)
    assert window.__dlpack_device__() == (12, 0)
    capsule = window.__dlpack__()
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    assert ctypes.c_void_p.from_address(get(capsule, b"dltensor")).value is None
    assert window.__dlpack__(copy=True) is not None
    on_host = LiteTensor.from_dlpack(window.__dlpack__(dl_device=(1, 0)))
    assert on_host.layout == LiteLayout([0, 6], "int32")


def test_memory_is_freed_with_its_last_tensor(device):
    tensor = on_device(NUMBERS)
    window = tensor.slice([1], [2])
    assert len(device._contents) == 1
    del tensor
    assert window.to_numpy().tolist() == NUMBERS[1:2].tolist()
    device.synchronize(0)
    del window
    assert not device._contents
