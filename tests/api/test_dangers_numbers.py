"""Programs that give wrong numbers in MegEngine Lite 1.13 and no error.

Each fault has a number, used in names of tests. Programs that read foreign memory there run in a process of their own.
"""

import ctypes
import gc

import numpy as np
import pytest
from support.api_samples import ADD, API_MODELS, DIGITS, IMAGES, PROB, add, close, loaded, run
from support.processes import in_process, isolated

from megengine_lite import LiteGlobal, LiteLayout, LiteNetwork, LiteTensor
from megengine_lite._core.cpu.algorithms.cache import CACHE, parse_cache, serialize_cache
from megengine_lite.errors import LiteArgumentError, LiteError, LiteTypeError, LiteValueError, ShapeError


def tensor_of(shape, dtype="int32") -> LiteTensor:
    """A tensor with the numbers 0, 1, 2, …"""
    tensor = LiteTensor(LiteLayout(shape, dtype))
    tensor.set_data_by_copy(np.arange(np.prod(shape)).reshape(shape).astype(dtype))
    return tensor


def junk() -> list[np.ndarray]:
    """Memory to take the place of what was just freed."""
    gc.collect()
    return [np.full(size, 99, "float32") for size in (6, 100, 3600, 60_000) * 20]


# ---- 17: a second model is computed with the first one's names, from freed memory -----------------------------------


@isolated
def test_danger_17_second_load_of_a_network():
    source = loaded()
    twin = LiteNetwork()
    twin.share_weights_with(source)
    for network in (source, twin):
        for again in (DIGITS, ADD, API_MODELS / "batch_by_shape.mge"):
            with pytest.raises(LiteError, match="new network"):
                network.load(again)
            keep = junk()
            assert network.get_all_output_name() == ["prob"]
            assert close(run(network), PROB)
            del keep


# ---- 18: the weights are the source's, or those of an attribute of the network --------------------------------------


@isolated
def test_danger_18_weights_of_a_network_that_is_gone():
    content = bytearray(DIGITS.read_bytes())
    source = loaded(content)
    twin, third = LiteNetwork(), LiteNetwork()
    twin.share_weights_with(source)
    content[:] = bytes(len(content))
    del source
    keep = junk()
    third.share_weights_with(twin)
    assert close(run(twin, IMAGES[:50]), PROB[:50])
    del twin
    keep += junk()
    assert close(run(third), PROB)
    del keep


@isolated
def test_danger_18_model_bytes_are_dropped(tmp_path):
    path = tmp_path / "model.mge"
    path.write_bytes(DIGITS.read_bytes())
    networks = [loaded(path), loaded(DIGITS.read_bytes())]
    with open(path, "rb") as file:
        networks.append(loaded(file))
    path.unlink()
    for network in networks:
        network.model_bytes = b"other"
        del network.model_bytes
        keep = junk()
        assert close(run(network), PROB)
        assert close(run(network, IMAGES[:7]), PROB[:7])
        del keep


# ---- 19: a strided slice that gets another shape becomes dense, over its neighbours' bytes --------------------------


def test_danger_19_shape_of_a_strided_slice_is_changed():
    whole = tensor_of([4, 4])
    window = whole.slice([0, 1], [4, 3])
    expected = np.arange(16).reshape(4, 4)[:, 1:3]
    for change in (
        lambda: window.reshape([8]),
        lambda: window.reshape([2, -1]),
        lambda: setattr(window, "layout", [8]),
        lambda: setattr(window, "layout", LiteLayout([2, 2], "int32")),
        lambda: setattr(window, "layout", LiteLayout([4, 2], "float32")),
        lambda: window.set_data_by_copy(np.zeros(8, "int32")),
    ):
        with pytest.raises(LiteError):
            change()
        assert (window.to_numpy() == expected).all() and window.layout == LiteLayout([4, 2], "int32")
    assert (whole.to_numpy().ravel() == np.arange(16)).all()


# ---- 20: the array of a strided slice is dense, so it shows other elements ------------------------------------------


def test_danger_20_view_of_a_strided_slice():
    whole = tensor_of([3, 4, 5], "int16")
    numbers = np.arange(60, dtype="int16").reshape(3, 4, 5)
    for start, end, step in (([0, 1], [3, 3], None), ([0, 0, 4], [3, 4, 0], [1, 2, -2]), ([2, 3], [0, 0], [-1, -1])):
        window = whole.slice(start, end, step)
        view = window.get_data_by_share()
        expected = numbers[tuple(map(slice, start, end, step or [1] * len(start)))]
        assert view.shape == expected.shape and (view == expected).all()
        view[...] += 100
        numbers[tuple(map(slice, start, end, step or [1] * len(start)))] += 100
        assert (whole.to_numpy() == numbers).all()


# ---- 21: shared arrays are taken for what the tensor was before -----------------------------------------------------


@isolated
def test_danger_21_array_of_another_type_is_shared():
    tensor = tensor_of([3], "float32")
    for array in (np.ones(3, "int32"), np.ones(6, "float16"), np.ones(12, "int8")):
        with pytest.raises(LiteTypeError):
            tensor.set_data_by_share(array)
    for array in (np.ones(3), np.ones(3, "int64"), np.ones(12, "bool")):
        with pytest.raises(LiteTypeError):
            tensor.set_data_by_share(array)
    assert tensor.to_numpy().tolist() == [0, 1, 2]
    small = np.arange(12, dtype="int8")
    for before in (LiteLayout([2], "int32"), LiteLayout([100], "int32"), LiteLayout([2, 2], "float16")):
        tensor.layout = before
        tensor.set_data_by_share(small)
        assert tensor.layout == LiteLayout([12], "int8") and tensor.nbytes == 12
        assert tensor.to_numpy().tolist() == list(range(12))
    with pytest.raises(LiteArgumentError):
        tensor.set_data_by_share(small, layout=LiteLayout([4], "int32"))
    network = loaded(ADD)
    with pytest.raises(LiteTypeError, match="'a'"):
        network.get_io_tensor("a").set_data_by_share(np.ones((2, 3), "int32"))
    assert add(network, 1, 2).max() == 3


# ---- 22: lists and bytes that are too short are read to the tensor's end --------------------------------------------


@isolated
def test_danger_22_short_lists_and_short_bytes():
    tensor = tensor_of([2, 4])
    tensor.set_data_by_copy([50, 51])
    assert tensor.to_numpy().tolist() == [[50, 51, 2, 3], [4, 5, 6, 7]]
    tensor.set_data_by_copy([])
    large = tensor_of([1 << 20])
    large.set_data_by_copy([-1])
    assert large.to_numpy()[:3].tolist() == [-1, 1, 2] and large.to_numpy()[-1] == (1 << 20) - 1
    for short in (b"abc", bytes(31), bytearray(31), memoryview(bytes(31)), (ctypes.c_int8 * 31)()):
        for call in (
            lambda data=short: tensor.set_data_by_copy(data, data_length=32),
            lambda data=short: tensor.set_data_by_copy(data, layout=LiteLayout([8], "int32")),
            lambda data=short: tensor.set_data_by_share(data, length=32),
            lambda data=short: tensor.set_data_by_share(data, layout=LiteLayout([8], "int32")),
        ):
            with pytest.raises(LiteArgumentError, match="bytes"):
                call()
    assert tensor.to_numpy().ravel().tolist() == [50, 51, 2, 3, 4, 5, 6, 7]


# ---- 23: a slice that gets more data writes over the rows behind it -------------------------------------------------


def test_danger_23_slice_grows():
    larger = tensor_of([3, 3])
    for change in (
        lambda window: window.set_data_by_copy(np.full((2, 3), -1, "int32")),
        lambda window: window.set_data_by_copy(bytes(24), layout=LiteLayout([6], "int32")),
        lambda window: window.copy_from(larger),
        lambda window: setattr(window, "layout", [2, 3]),
        lambda window: setattr(window, "layout", LiteLayout([1, 4], "int32")),
        lambda window: setattr(window, "layout", [100, 3]),
    ):
        whole = tensor_of([4, 3])
        for row in (1, 3):
            window = whole.slice([row], [row + 1])
            with pytest.raises(LiteError):
                change(window)
            assert window.layout.shapes == [1, 3] and window.nbytes == 12
            assert window.to_numpy().tolist() == [[3 * row, 3 * row + 1, 3 * row + 2]]
        assert (whole.to_numpy().ravel() == np.arange(12)).all()


# ---- 24: an output that gets larger leaves its views in freed memory ------------------------------------------------


@isolated
def test_danger_24_views_of_an_output_that_grows():
    network = loaded()
    views = []
    for n in (1, 2, 20, 200, 360):
        run(network, IMAGES[:n])
        prob = network.get_io_tensor("prob")
        views.append((n, prob.get_data_by_share(), np.asarray(prob), memoryview(prob)))
    keep = junk()
    for n, *arrays in views:
        for array in arrays:
            assert np.asarray(array).shape == (n, 10) and close(np.asarray(array), PROB[:n])
    del keep


# ---- 25: all checks of arguments are assert statements --------------------------------------------------------------


def test_danger_25_checks_hold_in_optimized_python():
    code = (
        "import numpy as np\n"
        "from support.api_samples import *\n"
        "from megengine_lite import *\n"
        "tensor, network = LiteTensor(LiteLayout([4, 4], 'float32')), loaded()\n"
        "tensor.fill_zero()\n"
        "strided = np.ones((4, 8), 'float32')[:, ::2]\n"
        "batch = TensorBatchCollector([2, 4], 'float32', LiteDeviceType.LITE_CPU)\n"
        "calls = [\n"
        "    lambda: LiteLayout([1] * 8),\n"
        "    lambda: tensor.set_data_by_copy(strided),\n"
        "    lambda: tensor.set_data_by_share(strided),\n"
        "    lambda: tensor.set_data_by_share(np.ones(4, 'float32'), length=5),\n"
        "    lambda: tensor.set_data_by_copy([1] * 17),\n"
        "    lambda: tensor.set_data_by_copy(c_void_p(tensor.get_ctypes_memory().value), 5),\n"
        "    lambda: tensor.slice([0, 0], [4, 2]).set_data_by_copy(bytes(32)),\n"
        "    lambda: tensor.slice([0], [1, 2]),\n"
        "    lambda: tensor.copy_from(strided),\n"
        "    lambda: tensor.share_memory_with(None),\n"
        "    lambda: batch.collect(np.ones(5, 'float32')),\n"
        "    lambda: batch.collect(np.ones(4, 'int8')),\n"
        "    lambda: LiteTensorConcat([tensor], 2),\n"
        "    lambda: lite_dtype_2_numpy(3),\n"
        "    lambda: LiteNetwork().share_weights_with(tensor),\n"
        "    lambda: network.load(DIGITS),\n"
        "    lambda: network.get_io_tensor(3),\n"
        "    lambda: LiteGlobal.lookup_physic_ptr(4096, 0),\n"
        "]\n"
        "for number, call in enumerate(calls):\n"
        "    try:\n"
        "        call()\n"
        "    except LiteError:\n"
        "        continue\n"
        "    print('no error from call', number)\n"
        "print(__debug__, abs(run(network) - PROB).max() < 1e-5, tensor.to_numpy().max(), batch.to_numpy().shape)\n"
    )
    assert in_process(code, "-O") == "False True 0.0 (2, 4)"


# ---- 26: outputs that are read before wait are those of the forward before ------------------------------------------


def test_danger_26_outputs_are_read_before_wait():
    network = loaded()
    run(network)
    prob = network.get_io_tensor("prob")
    view = prob.get_data_by_share()
    for name in ("to_numpy", "get_data_by_share", "asarray", "slice", "copy_from", "kept view"):
        for images, expected in ((IMAGES[::-1].copy(), PROB[::-1]), (IMAGES, PROB)):
            network.get_io_tensor("data").set_data_by_copy(images)
            network._engine._seconds = 1.0  # let this one run on the worker
            network.forward()
            if name == "asarray":
                result = np.asarray(prob)
            elif name == "slice":
                result = prob.slice([0], [360]).to_numpy()
            elif name == "copy_from":
                copy = LiteTensor()
                copy.copy_from(prob)
                result = copy.to_numpy()
            elif name == "kept view":
                network.wait()  # an array cannot know of a forward
                result = view
            else:
                result = getattr(prob, name)()
            assert close(result, expected), name


# ---- 27: integers that a type does not have are cut off -------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "number"),
    [("int8", 300), ("int8", -129), ("uint8", -1), ("uint8", 256), ("int16", 2**15), ("uint16", -1), ("int32", 2**31)],
)
def test_danger_27_integers_that_do_not_fit(dtype, number):
    tensor = tensor_of([3], dtype)
    with pytest.raises(LiteValueError, match=dtype):
        tensor.set_data_by_copy([1, number, 1])
    assert tensor.to_numpy().tolist() == [0, 1, 2]
    bounds = np.iinfo(dtype)
    tensor.set_data_by_copy([bounds.min, bounds.max])
    assert tensor.to_numpy().tolist() == [bounds.min, bounds.max, 2]


def test_danger_27_keys_and_shapes_out_of_range():
    for shape in ([-1], [2**64], [2**40, 2**40]):
        with pytest.raises((LiteValueError, ShapeError, LiteArgumentError)):
            LiteTensor(LiteLayout(shape, "float32")).fill_zero()


# ---- 28: a cache that is to be kept up to date is emptied first -----------------------------------------------------


@isolated
def test_danger_28_existing_cache_is_kept_up_to_date(tmp_path):
    path = tmp_path / "cache"
    old = {b"profile:plat=cpu:ConvolutionForwardv5F0": {b"\x01": b"\x02"}}
    path.write_bytes(serialize_cache(old))
    LiteGlobal.set_persistent_cache(str(path), always_sync=True)
    assert parse_cache(path.read_bytes()) == old
    network = LiteNetwork()
    network.set_network_algo_policy(2)
    network.load(DIGITS)
    assert close(run(network), PROB)
    content = parse_cache(path.read_bytes())
    assert len(content) > 1 and old.items() <= content.items()
    # what was measured before is found again, and nothing is written for it
    CACHE.clear()
    LiteGlobal.set_persistent_cache(str(path), always_sync=True)
    assert close(run(network, IMAGES), PROB)
    assert parse_cache(path.read_bytes()) == content
