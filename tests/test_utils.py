"""TensorBatchCollector."""

import threading

import numpy as np
import pytest

from megengine_lite import LiteDataType, LiteDeviceType, LiteLayout, LiteTensor, TensorBatchCollector
from megengine_lite.errors import DeviceError, LiteArgumentError, LiteIndexError, LiteTypeError, LiteWarning, ShapeError

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
