"""LiteNetwork: the order of calls, inputs and outputs."""

import gc
import subprocess
import sys
import warnings

import numpy as np
import pytest
from support.api_samples import ADD, API_MODELS, DIGITS, IMAGES, PROB, add, close, loaded, run

from megengine_lite import (
    LiteConfig,
    LiteDeviceType,
    LiteExtraConfig,
    LiteIO,
    LiteIOType,
    LiteLayout,
    LiteNetwork,
    LiteNetworkIO,
    LiteTensor,
    LiteTensorPhase,
)
from megengine_lite.errors import (
    DeviceError,
    LiteError,
    LiteIndexError,
    LiteTypeError,
    LiteValueError,
    LiteWarning,
    ShapeError,
)

# ---- construction -------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{"config": 3}, {"io": [LiteIO("a")]}])
def test_arguments_of_other_types(wrong):
    with pytest.raises(LiteTypeError):
        LiteNetwork(**wrong)


def test_backend_that_does_not_exist():
    made = LiteConfig()
    made.backend = 1
    with pytest.raises(LiteValueError):
        LiteNetwork(made)


@pytest.mark.parametrize("device", [2, 4, 6, 9, -1])
def test_device_that_cannot_be(device):
    with pytest.raises(DeviceError):
        LiteNetwork(LiteConfig(device))


@pytest.mark.parametrize("device", [1, 3, 5])
def test_device_that_is_not_there_fails_at_load(device):
    network = LiteNetwork(LiteConfig(device))
    with pytest.raises(DeviceError, match="LITE_CPU"):
        network.load(DIGITS)


# ---- the order of calls -------------------------------------------------------------------------------------------

READERS = {
    "forward": (),
    "wait": (),
    "get_io_tensor": ("data",),
    "get_discrete_tensor": ("data", 0),
    "get_all_input_name": (),
    "get_all_output_name": (),
    "get_input_name": (0,),
    "get_output_name": (0,),
    "set_network_algo_workspace_limit": (0,),
    "dump_layout_transform_model": ("x",),
    "get_static_memory_alloc_info": (),
}


@pytest.mark.parametrize("name", READERS)
def test_call_that_needs_a_model(name):
    with pytest.raises(LiteError, match="load"):
        getattr(LiteNetwork(), name)(*READERS[name])


def test_settings_come_before_load():
    network = loaded()
    for name in ("device_id", "stream_id", "threads_number"):
        before = getattr(network, name)
        with pytest.raises(RuntimeError, match="before load"):
            setattr(network, name, 1)
        assert getattr(network, name) == before
    for call in (
        network.enable_cpu_inplace_mode,
        network.use_tensorrt,
        network.enable_global_layout_transform,
        lambda: network.share_runtime_memroy(LiteNetwork()),
        lambda: network.extra_configure(LiteExtraConfig()),
    ):
        with pytest.raises(RuntimeError, match="before load"):
            call()


def test_settings_and_their_defaults():
    network = LiteNetwork()
    assert (network.device_id, network.stream_id, network.threads_number) == (0, 0, 1)
    assert not network.is_cpu_inplace_mode()
    network.device_id, network.stream_id, network.threads_number = 3, 5, 2
    network.enable_cpu_inplace_mode()
    network.load(DIGITS)
    assert (network.device_id, network.stream_id, network.threads_number) == (3, 5, 2)
    assert network.is_cpu_inplace_mode()
    assert network.get_io_tensor("data").device_id == network.get_io_tensor("prob").device_id == 3
    assert close(run(network), PROB)
    made = LiteConfig()
    made.device_id = 7
    assert LiteNetwork(made).device_id == 7


def test_settings_that_cannot_be():
    network = LiteNetwork()
    for threads in (0, -1):
        with pytest.raises(LiteValueError):
            network.threads_number = threads
    for wrong in (1.5, "2", None):
        with pytest.raises(LiteTypeError):
            network.threads_number = wrong
        with pytest.raises(LiteTypeError):
            network.stream_id = wrong
    with pytest.raises(DeviceError):
        network.device_id = -2
    network.threads_number = 4
    network.threads_number = 1
    assert network.threads_number == 1


@pytest.mark.parametrize("threads", [2, 64, 65, 10**6, 2**70])
def test_results_do_not_depend_on_the_number_of_threads(threads):
    network = loaded(threads_number=threads)
    assert (run(network) == run(loaded())).all()
    assert network.threads_number == threads
    assert network.memory_usage["scratch"] <= 64 << 20


def test_inplace_mode_is_for_cpus():
    with pytest.raises(DeviceError):
        LiteNetwork(LiteConfig(LiteDeviceType.LITE_CUDA)).enable_cpu_inplace_mode()


def test_tensorrt_warns():
    with pytest.warns(LiteWarning):
        LiteNetwork().use_tensorrt()


def test_attributes_and_repr():
    made, ios = LiteConfig(), LiteNetworkIO(["data"])
    network = LiteNetwork(made, ios)
    assert network.config is made and network.network_io is ios and network.model_bytes is None
    assert repr(network) == str({"config": made, "IOs": ios})
    assert "'device_id': 9" in repr(LiteConfig()).replace("'device_id': 0", "'device_id': 9")


# ---- inputs and outputs -------------------------------------------------------------------------------------------


def test_names():
    network = loaded(API_MODELS / "multi_io.mge")
    assert network.get_all_input_name() == ["depth", "image", "label"]
    assert network.get_all_output_name() == ["logits", "features", "winner"]
    assert [network.get_input_name(i) for i in range(3)] == network.get_all_input_name()
    assert [network.get_output_name(i) for i in range(3)] == network.get_all_output_name()
    for position in (3, -1):
        with pytest.raises(LiteIndexError):
            network.get_input_name(position)
        with pytest.raises(LiteIndexError):
            network.get_output_name(position)


def test_names_of_the_discrete_model_stand_as_the_original_lists_them():
    assert loaded(API_MODELS / "test_discrete_input.mge").get_all_input_name() == ["roi", "data"]


def test_several_inputs_and_outputs_of_several_types():
    network = loaded(API_MODELS / "multi_io.mge")
    data = np.load(API_MODELS / "multi_io.npz")
    for name in network.get_all_input_name():
        network.get_io_tensor(name).set_data_by_share(data[f"in_{name}"])
    network.forward()
    network.wait()
    for i, name in enumerate(network.get_all_output_name()):
        result = network.get_io_tensor(name).to_numpy()
        assert result.dtype == data[f"out_{i}"].dtype and close(result, data[f"out_{i}"])


def test_io_tensor_by_phase():
    network = loaded()
    tensor = network.get_io_tensor("data")
    assert network.get_io_tensor(b"data") is tensor
    assert network.get_io_tensor("data", LiteTensorPhase.LITE_INPUT) is tensor
    for name, phase in (("prob", 1), ("data", 2), ("none", 0)):
        with pytest.raises(LiteIndexError, match=name):
            network.get_io_tensor(name, phase)
    for phase in (7, -1):
        with pytest.raises(LiteValueError):
            network.get_io_tensor("data", phase)
    for phase in ("LITE_INPUT", None):
        with pytest.raises(LiteTypeError):
            network.get_io_tensor("data", phase)
    for name in (3, None):
        with pytest.raises(LiteTypeError):
            network.get_io_tensor(name)


def test_layouts_before_the_first_forward():
    network = loaded()
    batch = network.get_io_tensor("data").layout.shapes[0]
    assert network.get_io_tensor("data").layout == LiteLayout([batch, 1, 8, 8], "float32")
    assert network.get_io_tensor("prob").layout == LiteLayout([batch, 10], "float32")
    assert network.get_io_tensor("prob").to_numpy().any() == False  # noqa: E712


def test_outputs_change_their_shape_at_the_next_forward():
    network = loaded()
    data, prob = network.get_io_tensor("data"), network.get_io_tensor("prob")
    run(network, IMAGES[:4])
    assert prob.layout.shapes == [4, 10]
    data.set_data_by_copy(IMAGES[:2])
    assert prob.layout.shapes == [4, 10]
    network.forward()
    assert prob.layout.shapes == [2, 10]
    assert close(prob.to_numpy(), PROB[:2])
    data.layout = [3, 1, 8, 8]
    network.forward()
    network.wait()
    assert prob.layout.shapes == [3, 10]


def test_shape_computed_by_the_graph():
    network = loaded(API_MODELS / "batch_by_shape.mge")
    data = np.load(API_MODELS / "batch_by_shape.npz")
    for n in (3, 1, 2):
        network.get_io_tensor("data").set_data_by_copy(data["in_data"][:n].copy())
        network.forward()
        network.wait()
        assert close(network.get_io_tensor(network.get_output_name(0)).to_numpy(), data["out_0"][:n])


def test_output_whose_shape_depends_on_data():
    network = loaded(API_MODELS / "cond_take.mge")
    data = np.load(API_MODELS / "cond_take.npz")
    value, position = map(network.get_io_tensor, network.get_all_output_name())
    assert value.layout.ndim == 0
    for _ in range(2):
        for name in ("x", "m"):
            network.get_io_tensor(name).set_data_by_copy(data[f"in_{name}"])
        network.forward()
        network.wait()
        assert value.to_numpy().tolist() == data["out_0"].tolist()
        assert position.to_numpy().tolist() == data["out_1"].tolist()
        network.get_io_tensor("m").set_data_by_copy(np.full_like(data["in_m"], -77))
        network.forward()
        network.wait()
        assert value.layout.shapes == [0] and position.to_numpy().shape == (0,)


def test_inputs_that_were_never_set_are_zeros():
    network = loaded(ADD)
    network.get_io_tensor("a").set_data_by_copy([1] * 6)
    network.forward()
    network.wait()
    assert network.get_io_tensor("sum").to_numpy().tolist() == [[1, 1, 1], [1, 1, 1]]


def test_inputs_that_do_not_fit_leave_the_network_usable():
    network = loaded(ADD)
    add(network, 1, 2)
    network.get_io_tensor("a").set_data_by_copy(np.zeros((4, 5), "float32"))
    with pytest.raises(ShapeError, match=r"\(4, 5\)|4, 5"):
        network.forward()
    assert add_again(network)
    network.get_io_tensor("a").set_data_by_copy(np.zeros((2, 3), "int32"))
    with pytest.raises(LiteTypeError, match=r"'a'.*float32.*int32"):
        network.forward()
    with pytest.raises(LiteTypeError, match=r"'b'.*float32.*int8"):
        network.get_io_tensor("b").set_data_by_share(np.zeros((2, 3), "int8"))
    assert add_again(network)


def add_again(network) -> bool:
    network.get_io_tensor("a").set_data_by_copy(np.full((2, 3), 4, "float32"))
    network.get_io_tensor("b").set_data_by_copy(np.full((2, 3), 5, "float32"))
    network.forward()
    network.wait()
    return network.get_io_tensor("sum").to_numpy().tolist() == [[9] * 3] * 2


def test_empty_batch():
    network = loaded()
    assert run(network, IMAGES[:0]).shape == (0, 10)
    assert close(run(network, IMAGES[:1]), PROB[:1])


def test_shared_input_of_a_temporary_array():
    network = loaded()
    network.get_io_tensor("data").set_data_by_share(IMAGES.copy())
    gc.collect()
    keep = [np.full(IMAGES.shape, 7, "float32") for _ in range(20)]
    network.forward()
    network.wait()
    assert close(network.get_io_tensor("prob").to_numpy(), PROB)
    del keep


def test_shared_input_is_read_anew():
    network = loaded(ADD)
    source = np.zeros((2, 3), "float32")
    network.get_io_tensor("a").set_data_by_share(source)
    for value in (1, 2):
        source[:] = value
        network.forward()
        network.wait()
        assert network.get_io_tensor("sum").to_numpy().max() == value


def test_strided_input():
    network = loaded(ADD)
    wide = LiteTensor(LiteLayout([2, 6], "float32"))
    wide.set_data_by_copy(list(range(12)))
    network.get_io_tensor("a").share_memory_with(wide.slice([0, 0], [2, 6], [1, 2]))
    for value in (0, 100):
        wide.slice([0, 0], [1, 1]).set_data_by_copy([[value]])
        network.forward()
        network.wait()
        assert network.get_io_tensor("sum").to_numpy().tolist() == [[value, 2, 4], [6, 8, 10]]


def test_read_only_input():
    frozen = IMAGES.copy()
    frozen.flags.writeable = False
    network = loaded()
    network.get_io_tensor("data").set_data_by_share(frozen)
    network.forward()
    assert close(network.get_io_tensor("prob").to_numpy(), PROB)


def test_output_as_input_of_another_network():
    first, second = loaded(ADD), loaded(ADD)
    first.forward()
    second.get_io_tensor("a").share_memory_with(first.get_io_tensor("sum"))
    second.get_io_tensor("b").set_data_by_copy([10] * 6)
    for value in (1, 2):
        add(first, value, value)
        second.forward()
        second.wait()
        assert second.get_io_tensor("sum").to_numpy().max() == 10 + 2 * value


def test_output_memory_is_overwritten_by_the_next_forward_and_stays_where_it_is():
    network = loaded(ADD)
    add(network, 1, 1)
    view = network.get_io_tensor("sum").get_data_by_share()
    address = network.get_io_tensor("sum").get_ctypes_memory().value
    add(network, 2, 3)
    assert view.max() == 5
    assert network.get_io_tensor("sum").get_ctypes_memory().value == address


def test_view_of_an_output_survives_a_larger_one():
    network = loaded()
    run(network, IMAGES[:2])
    view = network.get_io_tensor("prob").get_data_by_share()
    run(network, IMAGES)
    gc.collect()
    assert close(view, PROB[:2])


def test_array_shared_by_an_output_gets_the_result():
    network = loaded()
    target = np.zeros((4, 10), "float32")
    network.get_io_tensor("prob").set_data_by_share(target)
    for images, expected in ((IMAGES[:4], PROB[:4]), (IMAGES[4:8], PROB[4:8])):
        run(network, images)
        assert close(target, expected)


def test_tensors_outlive_their_network():
    network = loaded()
    run(network)
    data, prob = network.get_io_tensor("data"), network.get_io_tensor("prob")
    view = prob.get_data_by_share()
    del network
    gc.collect()
    assert close(prob.to_numpy(), PROB) and close(view, PROB) and close(data.to_numpy(), IMAGES)


# ---- LiteIO -------------------------------------------------------------------------------------------------------


def test_input_layout_is_applied_at_load():
    network = loaded(io=LiteNetworkIO([LiteIO("data", layout=LiteLayout([2, 1, 8, 8]))]))
    assert network.get_io_tensor("data").layout == LiteLayout([2, 1, 8, 8], "float32")
    network.forward()
    assert network.get_io_tensor("prob").layout.shapes == [2, 10]


def test_input_layout_with_another_type():
    with pytest.raises(LiteTypeError, match="'data'"):
        loaded(io=LiteNetworkIO([LiteIO("data", layout=LiteLayout([2, 1, 8, 8], "int8"))]))
    uint8 = LiteNetworkIO([LiteIO("image", layout=LiteLayout([2, 3, 24, 24]))])
    network = loaded(API_MODELS / "multi_io.mge", io=uint8)
    assert network.get_io_tensor("image").layout.dtype is np.uint8


@pytest.mark.parametrize("layout", [LiteLayout([2, 5]), LiteLayout([2, 10], "int8"), LiteLayout([2, 10, 1, 1])])
def test_output_layout_that_the_model_does_not_have_warns_once(layout):
    images = IMAGES[:2]
    network = loaded(io=LiteNetworkIO(outputs=[LiteIO("prob", layout=layout)]))
    with pytest.warns(LiteWarning, match=r"output 'prob' has shape \[2, 10\] of float32; its LiteIO"):
        assert close(run(network, images), PROB[:2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert close(run(network, images), PROB[:2])


def test_output_layout_that_the_model_has_does_not_warn():
    network = loaded(io=LiteNetworkIO(outputs=[LiteIO("prob", layout=LiteLayout([2, 10], "float32"))]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert close(run(network, IMAGES[:2]), PROB[:2])


def test_shape_only_output():
    network = loaded(io=LiteNetworkIO(outputs=[LiteIO("prob", io_type=LiteIOType.LITE_IO_SHAPE)]))
    result = run(network, IMAGES[:5])
    assert result.shape == (5, 10) and result.max() == 0


def test_outputs_that_are_described_keep_their_place():
    network = loaded(API_MODELS / "multi_io.mge", io=LiteNetworkIO(outputs=["winner"]))
    assert network.get_all_output_name() == ["logits", "features", "winner"]
    assert network.get_output_name(2) == "winner"
    network.forward()
    network.wait()
    assert network.get_io_tensor("logits").to_numpy().any()


def test_unknown_and_repeated_names_are_logged(caplog):
    import logging

    from megengine_lite.log import logger

    logger.setLevel(logging.WARNING)
    try:
        ios = LiteNetworkIO([LiteIO("none"), LiteIO("data", layout=[2, 1, 8, 8]), LiteIO("data", layout=[5, 1, 8, 8])])
        network = loaded(io=ios)
    finally:
        logger.setLevel(logging.ERROR)
    assert network.get_io_tensor("data").layout.shapes[0] == 2
    assert ["none" in r.getMessage() or "twice" in r.getMessage() for r in caplog.records] == [True, True]


def test_io_objects_of_the_caller_stay_as_they_are():
    ios = LiteNetworkIO([LiteIO("data", is_host=False)])
    network = loaded(io=ios)
    ios.inputs[0].name = "other"
    assert close(run(network), PROB)
    assert not ios.inputs[0].is_host


# ---- failing constructors --------------------------------------------------------------------------------------------


def test_nothing_is_printed_by_a_constructor_that_fails():
    code = (
        "from megengine_lite import LiteNetwork, LiteTensor\n"
        "for make in (lambda: LiteNetwork(3), lambda: LiteTensor(device_type=1)):\n"
        "    try:\n"
        "        make()\n"
        "    except RuntimeError:\n"
        "        pass\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
