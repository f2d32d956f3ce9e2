"""TensorBatchCollector."""

import ctypes
import threading

import numpy as np
import pytest

from megengine_lite import LiteDataType, LiteDeviceType, LiteLayout, LiteTensor, TensorBatchCollector
from megengine_lite.errors import (
    DeviceError,
    LiteArgumentError,
    LiteError,
    LiteIndexError,
    LiteTypeError,
    LiteWarning,
    ShapeError,
)

CPU = LiteDeviceType.LITE_CPU


def collector(shape=(4, 2, 3), dtype="int32", **kw) -> TensorBatchCollector:
    return TensorBatchCollector(list(shape), dtype=dtype, device_type=CPU, **kw)


def sample(value: int, shape=(2, 3)) -> np.ndarray:
    return np.full(shape, value, "int32")


def test_default_device_is_cuda_and_says_what_to_do():
    with pytest.raises(DeviceError, match=r"device_type=LiteDeviceType\.LITE_CPU"):
        TensorBatchCollector([4, 2])


def test_attributes():
    batch = collector()
    assert (batch.shape, batch.dtype, batch.dev_type, batch.dev_id) == ([4, 2, 3], LiteDataType.LITE_INT, CPU, 0)
    assert (batch.device_type, batch.device_id, batch.is_pinned_host) == (CPU, 0, False)
    assert batch.get().layout == LiteLayout([4, 2, 3], "int32")


@pytest.mark.parametrize("dtype", ["float32", np.float32, np.dtype("float32"), LiteDataType.LITE_FLOAT, None])
def test_spellings_of_the_type(dtype):
    assert collector(dtype=dtype).dtype == LiteDataType.LITE_FLOAT


def test_collect_gives_ids_in_order_and_warns_when_full():
    batch = collector()
    assert [batch.collect(sample(k)) for k in range(4)] == [0, 1, 2, 3]
    with pytest.warns(LiteWarning, match="full"):
        assert batch.collect(sample(9)) == -1
    assert batch.to_numpy()[:, 0, 0].tolist() == [0, 1, 2, 3]


def test_freed_ids_are_reused_in_the_order_of_freeing():
    batch = collector()
    for k in range(4):
        batch.collect(sample(k))
    batch.free([3, 0])
    assert [batch.collect(sample(7)), batch.collect(sample(8))] == [3, 0]


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (np.zeros((3, 2), "int32"), ShapeError),
        (np.zeros((2, 3), "float32"), LiteArgumentError),
        ([[1, 2, 3], [4, 5, 6]], LiteArgumentError),
        (None, LiteArgumentError),
    ],
)
def test_refused_sample_leaves_its_place_free(bad, error):
    batch = collector()
    with pytest.raises(error):
        batch.collect(bad)
    assert batch.collect(sample(1)) == 0


def test_strided_arrays_and_tensors_are_copied_right():
    batch = collector()
    wide = np.arange(12, dtype="int32").reshape(2, 6)
    batch.collect(wide[:, ::2])
    tensor = LiteTensor(LiteLayout([2, 6], "int32"))
    tensor.set_data_by_copy(wide)
    batch.collect(tensor.slice([0, 1], [2, 6], [1, 2]))
    assert batch.to_numpy()[0].tolist() == [[0, 2, 4], [6, 8, 10]]
    assert batch.to_numpy()[1].tolist() == [[1, 3, 5], [7, 9, 11]]


def test_uint32_is_taken_as_int32():
    batch = collector()
    batch.collect(np.full((2, 3), 2**32 - 1, "uint32"))
    assert batch.to_numpy()[0].max() == -1


def test_collect_id_writes_there_and_warns_about_overwriting():
    batch = collector()
    assert batch.collect_id(sample(5), 2) == 2
    with pytest.warns(LiteWarning, match="overwritten"):
        batch.collect_id(sample(6), 2)
    assert batch.to_numpy()[2, 0, 0] == 6
    assert [batch.collect(sample(0)) for _ in range(3)] == [0, 1, 3]


@pytest.mark.parametrize("batch_id", [-1, 4])
def test_ids_out_of_range(batch_id):
    batch = collector()
    with pytest.raises(LiteIndexError):
        batch.collect_id(sample(1), batch_id)
    with pytest.raises(LiteIndexError):
        batch.get_tensor_at(batch_id)
    with pytest.raises(LiteIndexError):
        batch.free([batch_id])


def test_id_of_another_type():
    with pytest.raises(LiteTypeError):
        collector().collect_id(sample(1), "0")


def test_collect_by_ctypes():
    batch = collector()
    array = sample(3)
    assert batch.collect_by_ctypes(array.ctypes.data, array.nbytes) == 0
    for wrong in (array.nbytes - 1, 0):
        with pytest.raises(LiteArgumentError):
            batch.collect_by_ctypes(array.ctypes.data, wrong)
    assert batch.collect_by_ctypes(array.ctypes.data, array.nbytes) == 1
    assert batch.to_numpy()[:2].tolist() == [array.tolist()] * 2


def test_collect_by_ctypes_when_full():
    batch = collector((1, 2, 3))
    array = sample(3)
    batch.collect(array)
    with pytest.warns(LiteWarning, match="full"):
        assert batch.collect_by_ctypes(array.ctypes.data, array.nbytes) == -1


def test_free_of_a_free_place_warns_and_gives_it_once():
    batch = collector((2, 2, 3))
    batch.collect(sample(1))
    with pytest.warns(LiteWarning, match="free already"):
        batch.free([0, 0])
    assert [batch.collect(sample(1)), batch.collect(sample(1))] == [1, 0]


def test_tensor_at_is_a_view():
    batch = collector()
    batch.collect(sample(1))
    view = batch.get_tensor_at(0)
    assert view.layout.shapes == [1, 2, 3]
    view.fill_zero()
    assert batch.to_numpy()[0].max() == 0
    with pytest.warns(LiteWarning, match="not collected"):
        batch.get_tensor_at(3)


def test_own_tensor():
    tensor = LiteTensor(LiteLayout([2, 2, 3], "int32"), device_id=5)
    batch = TensorBatchCollector([2, 2, 3], tensor=tensor)
    batch.collect(sample(4))
    assert batch.get() is tensor
    assert (batch.dtype, batch.device_id, batch.dev_type) == (LiteDataType.LITE_INT, 5, CPU)
    assert tensor.to_numpy()[0, 0, 0] == 4
    with pytest.raises(LiteArgumentError):
        TensorBatchCollector([2, 3, 3], tensor=tensor)


def test_scalars():
    batch = collector((3,))
    assert [batch.collect(np.int32(7)), batch.collect(np.array([8], "int32"))] == [0, 1]
    assert batch.to_numpy().tolist() == [7, 8, 0]


@pytest.mark.parametrize(("shape", "error"), [([], LiteIndexError), (3, LiteTypeError)])
def test_shapes_that_cannot_be(shape, error):
    with pytest.raises(error):
        TensorBatchCollector(shape, device_type=CPU)


def test_four_threads_get_distinct_ids():
    batch = collector((64, 2, 3))
    ids: list[int] = []

    def work():
        for _ in range(16):
            ids.append(batch.collect(sample(1)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(ids) == list(range(64))


# ---- arguments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [[4, 2], (4, 2), np.array([4, 2]), range(4, 1, -2)])
def test_shape_in_every_spelling(shape):
    batch = TensorBatchCollector(shape, device_type=CPU)
    assert batch.get().layout == LiteLayout([4, 2], "int8")
    assert batch.shape == [4, 2] and (batch.shape is shape) == isinstance(shape, list)


@pytest.mark.parametrize("name", ["float32", "float16", "int32", "int16", "int8", "uint8", "uint16"])
def test_all_types(name):
    batch = collector((2, 3), name)
    batch.collect(np.array([1, 2, 3], name))
    assert batch.dtype == LiteLayout([1], name).data_type
    assert batch.to_numpy().dtype == name and batch.to_numpy().tolist() == [[1, 2, 3], [0, 0, 0]]


def test_most_dimensions():
    batch = collector((2, 1, 1, 1, 1, 1, 2), "uint16")
    batch.collect(np.full((1, 1, 1, 1, 1, 2), 7, "uint16"))
    assert batch.to_numpy().ravel().tolist() == [7, 7, 0, 0]


def test_tensor_of_the_caller_decides_type_and_device():
    tensor = LiteTensor(LiteLayout([2, 2], "float16"), device_id=3, is_pinned_host=True)
    batch = TensorBatchCollector((2, 2), dtype="int8", tensor=tensor)
    assert (batch.dtype, batch.dev_id, batch.device_id) == (LiteDataType.LITE_HALF, 3, 3)
    assert batch.is_pinned_host is True
    for wrong, error in ((np.zeros((2, 2)), LiteTypeError), (LiteTensor(), LiteArgumentError)):
        with pytest.raises(error):
            TensorBatchCollector([2, 2], tensor=wrong)


def test_strided_tensor_of_the_caller_is_filled_through():
    whole = LiteTensor(LiteLayout([4, 2], "int32"))
    batch = TensorBatchCollector([2, 2], tensor=whole.slice([0, 0], [4, 2], [2, 1]))
    batch.collect(np.array([1, 2], "int32"))
    assert batch.collect_id(np.array([3, 4], "int32"), 1) == 1
    assert whole.to_numpy().tolist() == [[1, 2], [0, 0], [3, 4], [0, 0]]


# ---- errors leave things as they were ------------------------------------------------------------------------------


def test_tensor_with_another_layout_or_read_only_takes_no_place():
    batch = collector()
    batch.get().layout = [2, 2]
    with pytest.raises(ShapeError, match=r"\[4, 2, 3\]"):
        batch.collect(sample(1))
    batch.get().layout = [4, 2, 3]
    assert batch.collect(sample(1)) == 0
    tensor = LiteTensor(LiteLayout([2, 2], "int8"))
    tensor.set_data_by_share(b"abcd")
    frozen = TensorBatchCollector([2, 2], tensor=tensor)
    for collect in (
        lambda: frozen.collect(np.zeros(2, "int8")),
        lambda: frozen.collect_id(np.zeros(2, "int8"), 1),
        lambda: frozen.collect_by_ctypes(bytes(2), 2),
    ):
        with pytest.raises(LiteArgumentError, match="read-only"):
            collect()
    assert bytes(tensor) == b"abcd"
    tensor.set_data_by_share(bytearray(b"efgh"))
    assert frozen.collect(np.zeros(2, "int8")) == 0


@pytest.mark.parametrize(
    ("data", "length", "error"),
    [
        (0, 24, LiteError),
        (ctypes.c_void_p(), 24, LiteError),
        (None, 24, LiteError),
        ([1, 2], 24, LiteTypeError),
        (bytes(20), 24, LiteArgumentError),
        (bytes(24), "24", LiteTypeError),
        (bytes(24), 24.0, LiteTypeError),
        (bytes(24), 12, LiteArgumentError),
    ],
)
def test_raw_memory_that_is_refused_leaves_its_place_free(data, length, error):
    batch = collector()
    with pytest.raises(error):
        batch.collect_by_ctypes(data, length)
    assert batch.collect(sample(1)) == 0


def test_raw_memory_in_every_form():
    batch, array = collector((5, 2, 3)), sample(6)
    pointer = array.ctypes.data_as(ctypes.POINTER(ctypes.c_int))
    forms = [array.ctypes.data, ctypes.c_void_p(array.ctypes.data), pointer, array.tobytes(), array]
    assert [batch.collect_by_ctypes(f, 24) for f in forms] == [0, 1, 2, 3, 4]
    assert (batch.to_numpy() == 6).all()


@pytest.mark.parametrize("indexes", [3, None, [1.0], ["0"], [True]])
def test_free_of_what_is_no_list_of_ids(indexes):
    batch = collector()
    with pytest.raises(LiteTypeError):
        batch.free(indexes)


def test_free_changes_nothing_if_one_id_is_wrong():
    batch = collector()
    batch.collect(sample(1))
    with pytest.raises(LiteIndexError):
        batch.free([0, 4])
    assert [batch.collect(sample(2)) for _ in range(3)] == [1, 2, 3]


def test_samples_of_other_shapes_types_and_kinds_with_their_own_words():
    batch = collector()
    for bad, words in (
        (np.zeros((1, 2, 3), "int32"), r"shape \[2, 3\], not \[1, 2, 3\]"),
        (np.zeros((2, 3)), "int32, not float64"),
        (LiteTensor([2, 3]), "int32, not float32"),
        ([[1, 2, 3]] * 2, "not list"),
    ):
        with pytest.raises(LiteError, match=words):
            batch.collect(bad)
        with pytest.raises(LiteError, match=words):
            batch.collect_id(bad, 0)
    assert batch.collect(sample(1)) == 0


def test_arrays_in_another_order_and_reversed():
    batch = collector()
    source = np.arange(6, dtype="int32").reshape(2, 3)
    assert batch.collect(np.asfortranarray(source)) == 0
    assert batch.collect(source[::-1, ::-1]) == 1
    assert batch.to_numpy()[:2].tolist() == [source.tolist(), [[5, 4, 3], [2, 1, 0]]]


def test_scalars_from_everything():
    batch = collector((4,))
    tensor = LiteTensor(LiteLayout([1], "int32"))
    tensor.set_data_by_copy([3])
    batch.collect(np.array(1, "int32"))
    batch.collect(tensor)
    batch.collect_by_ctypes(tensor.get_ctypes_memory(), 4)
    assert batch.collect_id(np.int32(9), 3) == 3
    assert batch.to_numpy().tolist() == [1, 3, 3, 9]
    assert batch.get_tensor_at(1).to_numpy().tolist() == [3]


def test_batch_without_places_and_samples_without_elements():
    with pytest.warns(LiteWarning, match="full"):
        assert collector((0, 2)).collect(np.zeros(2, "int32")) == -1
    empty = collector((2, 0))
    assert [empty.collect(np.zeros(0, "int32")), empty.collect_by_ctypes(bytes(0), 0)] == [0, 1]
    assert empty.to_numpy().shape == (2, 0)


def test_warnings_point_to_the_caller():
    batch = collector((1, 2, 3))
    with pytest.warns(UserWarning) as caught:
        batch.get_tensor_at(0)
        batch.free([0])
        batch.collect(sample(1))
        batch.collect(sample(1))
        batch.collect_by_ctypes(bytes(24), 24)
        batch.collect_id(sample(1), 0)
    assert [w.filename for w in caught] == [__file__] * 5


def test_the_tensor_is_always_the_same_and_the_copy_a_new_one():
    batch = collector()
    batch.collect(sample(1))
    assert batch.get() is batch.get()
    copied = batch.to_numpy()
    copied[:] = 9
    assert batch.to_numpy()[0].max() == 1 and batch.to_numpy()[1:].max() == 0


def test_threads_collect_and_free():
    batch = collector((8, 64), "int32")

    def work(number: int):
        for _ in range(200):
            batch_id = batch.collect(np.full(64, number, "int32"))
            if not (batch.get_tensor_at(batch_id).to_numpy() == number).all():
                wrong.append(batch_id)
            batch.free([batch_id])

    wrong: list[int] = []
    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []
    assert sorted(batch.collect(np.zeros(64, "int32")) for _ in range(8)) == list(range(8))
