"""LiteTensor: construction, properties, slices, shapes, copies between tensors."""

import copy
import gc
import pickle

import numpy as np
import pytest

from megengine_lite import LiteDeviceType, LiteLayout, LiteTensor, LiteTensorConcat
from megengine_lite.errors import (
    DeviceError,
    LiteError,
    LiteIndexError,
    LiteTypeError,
    LiteValueError,
    ShapeError,
)

NAMES = ["float32", "float16", "int32", "int16", "int8", "uint8", "uint16"]


def counting(shape, dtype="int32") -> LiteTensor:
    tensor = LiteTensor(LiteLayout(shape, dtype))
    tensor.set_data_by_copy(np.arange(int(np.prod(shape))).reshape(shape).astype(dtype))
    return tensor


# ---- construction and properties ----------------------------------------------------------------------------------


def test_tensor_without_arguments():
    tensor = LiteTensor()
    assert (tensor.layout.ndim, tensor.layout.dtype, tensor.nbytes, tensor.is_continue) == (0, np.float32, 0, True)
    assert tensor.to_numpy().shape == (0,)


def test_layout_wins_over_shapes():
    assert LiteTensor(LiteLayout([2], "int8"), shapes=[3], dtype="int16").layout == LiteLayout([2], "int8")


def test_shapes_and_dtype():
    assert LiteTensor(shapes=[4, 16], dtype="int16").layout == LiteLayout([4, 16], "int16")
    assert LiteTensor(shapes=np.array([2, 3])).layout == LiteLayout([2, 3])
    assert LiteTensor(dtype="int8").layout == LiteLayout([], "int8")
    assert LiteTensor([2, 3]).layout == LiteLayout([2, 3])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [[3], [2, 1, 2, 1, 2, 1, 3], [0, 3]])
def test_all_types_and_dimensions(name, shape):
    tensor = LiteTensor(LiteLayout(shape, name))
    array = np.arange(np.prod(shape)).reshape(shape).astype(name)
    tensor.set_data_by_copy(array)
    assert tensor.layout == LiteLayout(shape, name)
    assert tensor.nbytes == array.nbytes
    assert tensor.is_continue
    result = tensor.to_numpy()
    assert result.dtype == name and result.shape == tuple(shape) and (result == array).all()


def test_layout_right_after_construction_is_equal_and_not_the_same():
    layout = LiteLayout([4, 16], "float32")
    tensor = LiteTensor(layout)
    assert tensor.layout == layout
    layout.shapes = [1]
    tensor.layout.shapes = [2]
    assert tensor.layout.shapes == [4, 16]


@pytest.mark.parametrize("device", [1, 2, 3, 4, 5, 6, 9, -1, 100])
def test_device_that_is_not_there(device):
    with pytest.raises(DeviceError):
        LiteTensor(shapes=[1], device_type=device)


def test_device_5_explains_the_old_meaning():
    with pytest.raises(DeviceError, match="LITE_DEVICE_DEFAULT"):
        LiteTensor(device_type=5)


def test_default_device_is_the_cpu():
    tensor = LiteTensor(shapes=[1], device_type=LiteDeviceType.LITE_DEVICE_DEFAULT)
    assert tensor.device_type is LiteDeviceType.LITE_CPU
    tensor.set_data_by_share(np.zeros(1, "float32"))


@pytest.mark.parametrize("device_id", [0, 3, 1000, -1])
def test_device_id_stays_what_it_was(device_id):
    tensor = LiteTensor(shapes=[2], device_id=device_id, is_pinned_host=True)
    tensor.set_data_by_copy([1, 2])
    assert (tensor.device_id, tensor.is_pinned_host) == (device_id, True)
    assert tensor.slice([0], [1]).device_id == device_id


def test_device_id_below_minus_one():
    with pytest.raises(DeviceError):
        LiteTensor(device_id=-2)


@pytest.mark.parametrize("name", ["is_pinned_host", "device_type", "device_id", "is_continue", "nbytes"])
def test_read_only_properties(name):
    with pytest.raises(AttributeError):
        setattr(LiteTensor(), name, 1)


def test_size_that_no_machine_has():
    with pytest.raises(LiteValueError, match="address space"):
        LiteTensor(shapes=[2**40, 2**40])


def test_memory_comes_late_aligned_and_zeroed():
    tensor = LiteTensor(shapes=[2**36])  # 256 GiB: never touched
    assert tensor.nbytes == 2**38
    small = LiteTensor(shapes=[3, 5])
    assert not small._storage.is_allocated
    assert small.get_ctypes_memory().value % 64 == 0
    assert small.to_numpy().any() == False  # noqa: E712


def test_layout_setter():
    tensor = counting([2, 4])
    address = tensor.get_ctypes_memory().value
    tensor.layout = [8]
    assert tensor.to_numpy().tolist() == list(range(8))
    tensor.layout = LiteLayout([2, 2], "int16")
    assert tensor.to_numpy().tolist() == [[0, 0], [1, 0]]
    assert tensor.get_ctypes_memory().value == address
    tensor.layout = (4, 4)
    assert tensor.layout == LiteLayout([4, 4], "int16")
    tensor.layout = [64]
    assert tensor.to_numpy().any() == False  # noqa: E712
    tensor.layout = []
    assert tensor.nbytes == 0
    for bad in (None, 3, "ab"):
        with pytest.raises(LiteTypeError):
            tensor.layout = bad


def test_repr():
    assert repr(LiteTensor(LiteLayout([2], "int8"))) == (
        "{'layout': {'shapes': [2], 'ndim': 1, 'data_type': <class 'numpy.int8'>}, "
        "'device_type': <LiteDeviceType.LITE_CPU: 0>, 'device_id': 0, 'is_pinned_host': False}"
    )


def test_update_does_nothing():
    assert counting([2]).update() is None


def test_memory_address_needs_a_layout():
    with pytest.raises(LiteError):
        LiteTensor().get_ctypes_memory()
    assert LiteTensor(shapes=[0, 2]).get_ctypes_memory().value is None


def test_pickle_and_deepcopy_copy_the_elements():
    tensor = counting([2, 3], "int16").slice([0, 1], [2, 3])
    for twin in (pickle.loads(pickle.dumps(tensor)), copy.deepcopy(tensor)):
        assert twin.to_numpy().tolist() == [[1, 2], [4, 5]]
        twin.fill_zero()
    assert tensor.to_numpy().tolist() == [[1, 2], [4, 5]]


# ---- slices -------------------------------------------------------------------------------------------------------

# start, end, step for a [4, 8] tensor, and the same in Python
SLICES = [
    ([1, 4], [3, 8], None, np.s_[1:3, 4:8]),
    ([1], [3], None, np.s_[1:3]),
    ([], [], None, np.s_[:]),
    ([0, 0], [4, 8], [2, 3], np.s_[0:4:2, 0:8:3]),
    ([0, 0], [100, 100], [], np.s_[0:100, 0:100]),
    ([5, 0], [6, 8], None, np.s_[5:6, 0:8]),
    ([2, 0], [1, 8], None, np.s_[2:1, 0:8]),
    ([-3, -4], [-1, -1], None, np.s_[-3:-1, -4:-1]),
    ([3, 7], [0, 0], [-1, -2], np.s_[3:0:-1, 7:0:-2]),
    ([np.int64(1)], (3,), (1,), np.s_[1:3]),
]


@pytest.mark.parametrize(("start", "end", "step", "index"), SLICES)
def test_slice_is_the_view_that_python_gives(start, end, step, index):
    tensor = counting([4, 8])
    expected = tensor.to_numpy()[index]
    window = tensor.slice(start, end, step)
    assert window.layout.shapes == list(expected.shape)
    assert window.is_continue == (expected.flags.c_contiguous or expected.size == 0)
    assert (window.to_numpy() == expected).all()
    view = window.get_data_by_share()
    assert (view == expected).all()
    if expected.size:
        window.fill_zero()
        whole = tensor.to_numpy()
        assert whole[index].any() == False  # noqa: E712
        assert np.count_nonzero(whole == 0) == expected.size + (expected.flat[0] != 0 and 0 not in expected)


def test_slice_of_a_slice_outlives_its_parents():
    tensor = counting([4, 8])
    inner = tensor.slice([1], [4]).slice([1, 2], [3, 6], [1, 2])
    expected = np.arange(32).reshape(4, 8)[2:4, 2:6:2]
    del tensor
    gc.collect()
    assert (inner.to_numpy() == expected).all()


def test_slice_of_memory_that_is_not_there_yet():
    tensor = LiteTensor(LiteLayout([2, 2], "int32"))
    row = tensor.slice([1], [2])
    tensor.set_data_by_copy([1, 2, 3, 4])
    assert row.to_numpy().tolist() == [[3, 4]]


def test_slice_keeps_the_old_memory_when_the_parent_moves():
    tensor = counting([2, 2])
    row = tensor.slice([1], [2])
    tensor.set_data_by_copy(np.zeros((8, 8), "int32"))
    assert row.to_numpy().tolist() == [[2, 3]]


@pytest.mark.parametrize(
    ("start", "end", "step", "error"),
    [
        ([0], [1, 2], None, AssertionError),
        ([0, 0], [1, 2], [1], AssertionError),
        ([0, 0, 0], [1, 1, 1], None, LiteIndexError),
        ([0], [2], [0], LiteValueError),
        ([0.0], [1], None, LiteTypeError),
        (0, 1, None, LiteTypeError),
    ],
)
def test_slice_with_bad_arguments(start, end, step, error):
    with pytest.raises(error) as caught:
        counting([4, 8]).slice(start, end, step)
    assert isinstance(caught.value, LiteError)


def test_contiguous_slice_takes_what_fits_and_nothing_more():
    tensor = counting([4, 2])
    rows = tensor.slice([1], [3])
    rows.set_data_by_copy(np.array([7, 7, 7, 7], "int32"))
    assert rows.layout.shapes == [4]
    assert tensor.to_numpy().tolist() == [[0, 1], [7, 7], [7, 7], [6, 7]]
    bigger = np.zeros((3, 2), "int32")
    source = counting([3, 2])
    for write in (lambda: rows.set_data_by_copy(bigger), lambda: rows.copy_from(source)):
        with pytest.raises(LiteError, match="neighbours"):
            write()
    with pytest.raises(LiteError):
        rows.layout = [3, 2]
    assert rows.layout.shapes == [4]
    assert tensor.to_numpy()[3].tolist() == [6, 7]


def test_strided_slice_refuses_to_change_its_layout():
    window = counting([4, 8]).slice([0, 0], [4, 4])
    with pytest.raises(LiteError, match="copy_from"):
        window.reshape([16])
    with pytest.raises(LiteError, match="copy_from"):
        window.layout = [16]
    assert window.layout.shapes == [4, 4]


def test_strided_slice_takes_arrays_and_lists_of_its_shape():
    tensor = counting([2, 4])
    window = tensor.slice([0, 0], [2, 4], [1, 2])
    window.set_data_by_copy(np.array([[10, 11], [12, 13]], "int32"))
    assert tensor.to_numpy().tolist() == [[10, 1, 11, 3], [12, 5, 13, 7]]
    window.set_data_by_copy([20, 21, 22])
    assert tensor.to_numpy().tolist() == [[20, 1, 21, 3], [22, 5, 13, 7]]
    with pytest.raises(ShapeError):
        window.set_data_by_copy(np.zeros(4, "int32"))
    with pytest.raises(AssertionError):
        window.set_data_by_share(np.zeros((2, 2), "int32"))
    with pytest.raises(AssertionError):
        window.set_data_by_share(tensor.get_ctypes_memory())


@pytest.mark.parametrize("step", [2**70, -(2**70), 2**62])
def test_slice_with_steps_beyond_all_strides(step):
    tensor = counting([4, 4])
    first, last = (3, 0) if step > 0 else (3, -9)
    assert tensor.slice([0, 1], [4, 4], [1, step]).to_numpy().tolist() == (
        [[1], [5], [9], [13]] if step > 0 else [[], [], [], []]
    )
    assert tensor.slice([first], [4 if step > 0 else last], [step]).to_numpy().tolist() == [[12, 13, 14, 15]]
    assert tensor.slice([-(2**70)], [2**70]).layout.shapes == [4, 4]


def test_empty_slice_takes_nothing():
    tensor = counting([4])
    window = tensor.slice([2], [2])
    window.set_data_by_copy([])
    for data in ([1], np.ones(1, "int32"), bytes(4)):
        with pytest.raises(LiteError):
            window.set_data_by_copy(data)
    assert tensor.to_numpy().tolist() == [0, 1, 2, 3]


def test_contiguous_slice_shares_other_memory():
    tensor = counting([4, 2])
    rows, foreign = tensor.slice([1], [2]), np.full(8, 9, "int32")
    rows.set_data_by_share(foreign)
    assert rows.layout.shapes == [8]
    rows.fill_zero()
    assert foreign.max() == 0 and tensor.to_numpy().ravel().tolist() == list(range(8))


def test_layout_of_a_contiguous_slice_shrinks_and_grows_within_the_slice():
    tensor = counting([4, 2])
    row = tensor.slice([1], [2])
    for shape, expected in (([2, 1], [[2], [3]]), ([1], [2]), ([2], [2, 3])):
        row.layout = shape
        assert row.to_numpy().tolist() == expected
    row.layout = LiteLayout([8], "int8")
    assert row.to_numpy().tolist() == [2, 0, 0, 0, 3, 0, 0, 0]


# ---- other methods ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "expected"), [([32], [32]), ([2, -1], [2, 16]), ((8, 4, 1), [8, 4, 1]), ([-1], [32])]
)
def test_reshape(shape, expected):
    tensor = counting([4, 8])
    address = tensor.get_ctypes_memory().value
    assert tensor.reshape(shape) is None
    assert tensor.layout.shapes == expected
    assert tensor.to_numpy().ravel().tolist() == list(range(32))
    assert tensor.get_ctypes_memory().value == address


@pytest.mark.parametrize("shape", [[], [33], [0, 32], [-2, 16], [-1, -1], [-1, 5], [0, -1]])
def test_reshape_to_what_cannot_be(shape):
    with pytest.raises(ShapeError):
        counting([4, 8]).reshape(shape)


def test_reshape_of_other_types():
    with pytest.raises(LiteTypeError):
        counting([4]).reshape([4.0])
    with pytest.raises(AssertionError):
        counting([4]).reshape([1] * 7 + [4])


def test_reshape_of_nothing():
    tensor = LiteTensor(shapes=[0, 3])
    tensor.reshape([3, 0, 2])
    assert tensor.layout.shapes == [3, 0, 2]


def test_fill_zero():
    tensor = counting([4])
    tensor.fill_zero()
    assert tensor.to_numpy().tolist() == [0, 0, 0, 0]
    LiteTensor(shapes=[0, 3]).fill_zero()
    tensor.slice([2], [2]).fill_zero()
    with pytest.raises(LiteError):
        LiteTensor().fill_zero()


def test_copy_from_takes_layout_and_type():
    target = counting([2, 2], "int8")
    target.copy_from(counting([3, 4], "float32"))
    assert target.layout == LiteLayout([3, 4], "float32")
    assert target.to_numpy().ravel().tolist() == list(range(12))
    target.copy_from(counting([2, 4]).slice([0, 1], [2, 3]))
    assert target.to_numpy().tolist() == [[1, 2], [5, 6]]
    assert target.is_continue


def test_copy_from_itself_and_overlapping():
    tensor = counting([6])
    tensor.copy_from(tensor)
    assert tensor.to_numpy().tolist() == [0, 1, 2, 3, 4, 5]
    tensor.slice([1], [6]).copy_from(tensor.slice([0], [5]))
    assert tensor.to_numpy().tolist() == [0, 0, 1, 2, 3, 4]
    shared = LiteTensor()
    shared.share_memory_with(tensor)
    shared.copy_from(tensor)
    assert shared.to_numpy().tolist() == [0, 0, 1, 2, 3, 4]
    # reverse through overlapping strided windows
    tensor.slice([0], [6]).copy_from(tensor.slice([5], [-7], [-1]))
    assert tensor.to_numpy().tolist() == [4, 3, 2, 1, 0, 0]


def test_copy_from_into_a_strided_slice():
    tensor = counting([2, 4])
    window = tensor.slice([0, 0], [2, 4], [1, 2])
    window.copy_from(counting([2, 2]))
    assert tensor.to_numpy().tolist() == [[0, 1, 1, 3], [2, 5, 3, 7]]
    for other in (counting([4]), counting([2, 2], "int16")):
        with pytest.raises(ShapeError):
            window.copy_from(other)


def test_copy_and_share_with_other_things():
    tensor = counting([2])
    for call in (tensor.copy_from, tensor.share_memory_with):
        with pytest.raises(AssertionError):
            call(np.zeros(2))
        with pytest.raises(LiteError):
            call(LiteTensor())


def test_share_memory_with():
    source = counting([4, 8], "int16")
    twin = LiteTensor(device_id=3)
    twin.share_memory_with(source)
    assert twin.layout == source.layout
    assert twin.device_id == 0
    source.slice([0], [1]).fill_zero()
    assert twin.to_numpy()[0].any() == False  # noqa: E712
    window = LiteTensor()
    window.share_memory_with(source.slice([1, 0], [3, 8], [1, 2]))
    assert window.to_numpy().tolist() == [[8, 10, 12, 14], [16, 18, 20, 22]]
    source.set_data_by_copy(np.zeros((9, 9), "int16"))
    assert twin.to_numpy()[1, 1] == 9
    del source
    gc.collect()
    assert window.to_numpy()[1, 0] == 16


def test_share_memory_before_there_is_any():
    source, twin = LiteTensor(shapes=[2]), LiteTensor()
    twin.share_memory_with(source)
    source.set_data_by_copy([1, 2])
    assert twin.to_numpy().tolist() == [1, 2]


def test_sharing_tensor_keeps_the_array_of_the_other():
    source, twin = LiteTensor(), LiteTensor()
    source.set_data_by_share(np.arange(1000, dtype="int32"))
    twin.share_memory_with(source)
    source.set_data_by_share(np.zeros(1000, "int32"))
    gc.collect()
    assert (twin.to_numpy() == np.arange(1000)).all()


# ---- concatenation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [0, 1, -1, -2])
def test_concat_like_numpy(dim):
    a, b = counting([2, 3]), counting([4, 6]).slice([0, 0], [4, 6], [2, 2])
    result = LiteTensorConcat([a, b, a], dim)
    assert (result.to_numpy() == np.concatenate([t.to_numpy() for t in (a, b, a)], dim)).all()
    assert result.is_continue


def test_concat_takes_device_and_type_of_the_first():
    first = LiteTensor(shapes=[1], dtype="int8", device_id=4, is_pinned_host=True)
    result = LiteTensorConcat((first, LiteTensor(shapes=[2], dtype="int8")), 0)
    assert (result.device_id, result.is_pinned_host, result.layout) == (4, True, LiteLayout([3], "int8"))
    assert LiteTensorConcat([first], 0, device_id=7).device_id == 7


def test_concat_of_nothing():
    assert LiteTensorConcat([], 0).layout.ndim == 0
    assert LiteTensorConcat([counting([0, 2]), counting([1, 2])], 0).to_numpy().tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("others", "dim", "error"),
    [
        ([[2, 3]], 2, LiteIndexError),
        ([[2, 3]], -3, LiteIndexError),
        ([[2, 4]], 0, ShapeError),
        ([[2, 3, 1]], 0, ShapeError),
        ([[6]], 0, ShapeError),
    ],
)
def test_concat_of_what_does_not_fit(others, dim, error):
    with pytest.raises(error):
        LiteTensorConcat([counting([2, 3]), *map(counting, others)], dim)


def test_concat_of_other_types():
    with pytest.raises(LiteTypeError):
        LiteTensorConcat([counting([2]), counting([2], "int8")], 0)
    with pytest.raises(AssertionError):
        LiteTensorConcat([counting([2]), np.zeros(2)], 0)


@pytest.mark.parametrize(("tensors", "dim"), [(None, 0), (3, 0), ([], "0"), ([LiteTensor([1])], 0.0)])
def test_concat_with_arguments_of_other_types(tensors, dim):
    with pytest.raises(LiteTypeError):
        LiteTensorConcat(tensors, dim)


def test_concat_on_devices_that_are_not_there():
    for tensors in ([], [LiteTensor([1])]):
        with pytest.raises(DeviceError):
            LiteTensorConcat(tensors, 0, LiteDeviceType.LITE_CUDA)
    with pytest.raises(DeviceError):
        LiteTensorConcat([LiteTensor([1])], 0, device_id=-2)
    assert LiteTensorConcat([LiteTensor([1])], 0, device_type=LiteDeviceType.LITE_CPU).layout.shapes == [1]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ndim", range(1, 8))
def test_concat_of_all_types_and_dimensions(name, ndim):
    a, b = counting([2] * ndim, name), counting([2] * (ndim - 1) + [1], name)
    result = LiteTensorConcat([a, b], -1)
    assert result.layout == LiteLayout([2] * (ndim - 1) + [3], name)
    assert (result.to_numpy() == np.concatenate([a.to_numpy(), b.to_numpy()], -1)).all()
