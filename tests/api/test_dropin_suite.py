"""What the original's own tests do and rely on, under its name, on its fixtures and on bundled models."""
# ruff: noqa: E402, F403, F405 - the package is imported as programs for the original import it

import os
import threading

import numpy as np
import pytest
from support.dropin_resources import make_resources
from support.loader_samples import SHARED, add_record, to_bytes

import megengine_lite

megengine_lite.install_as_megenginelite()

from megenginelite import *
from megenginelite import LiteNetwork, LiteTensor

from megengine_lite._core.cpu.algorithms.cache import CACHE
from megengine_lite._core.formats.containers import cryption

pytestmark = pytest.mark.filterwarnings("ignore:the model is encrypted with the default key")


@pytest.fixture(scope="session")
def bundled_resources(tmp_path_factory):
    directory = tmp_path_factory.mktemp("resources")
    make_resources(directory)
    return directory


on_shared = pytest.mark.skipif(not SHARED.exists(), reason="the model collection is not here")


@pytest.fixture(params=["bundled", pytest.param("shared", marks=[pytest.mark.shared, on_shared])])
def resource(request, monkeypatch, tmp_path):
    """Where the fixtures are; the working directory is an empty one."""
    directory = SHARED if request.param == "shared" else request.getfixturevalue("bundled_resources")
    monkeypatch.setenv("LITE_TEST_RESOURCE", str(directory))
    monkeypatch.chdir(tmp_path)
    return Resource()


class Resource:
    """The model of the original's tests, its input, and what comes out."""

    def __init__(self):
        self.source_dir = os.getenv("LITE_TEST_RESOURCE")
        self.model_path = self.path("shufflenet.mge")
        self.input_data = np.load(self.path("input_data.npy"))
        self.correct_data = np.load(self.path("output_data.npy")).flatten()

    def path(self, name):
        return os.path.join(self.source_dir, name)

    def check_correct(self, out_data, error=1e-4):
        out_data = out_data.flatten()
        assert out_data.size == self.correct_data.size
        assert np.abs(out_data - self.correct_data).max() < error

    def do_forward(self, network, times=3):
        input_tensor = network.get_io_tensor(network.get_input_name(0))
        input_tensor.set_data_by_copy(self.input_data)
        for _ in range(times):
            network.forward()
            network.wait()
        self.check_correct(network.get_io_tensor(network.get_output_name(0)).to_numpy())


@pytest.fixture
def cache():
    CACHE.clear()
    yield
    CACHE.clear()


# ---- tensors ------------------------------------------------------------------------------------------------------


def test_layout_of_a_new_tensor_is_the_one_given():
    layout = LiteLayout([4, 16], "float32")
    tensor = LiteTensor(layout=layout)
    assert tensor.layout == layout
    assert tensor.device_type == LiteDeviceType.LITE_CPU
    assert (tensor.is_pinned_host, tensor.device_id, tensor.is_continue, tensor.nbytes) == (False, 0, True, 256)
    tensor.layout = LiteLayout([4, 32], "int16")
    assert tensor.nbytes == 4 * 32 * 2
    tensor.layout = [4]
    assert tensor.layout == LiteLayout([4], "int16")
    for dtype in (np.int16, "int16", np.dtype("int16"), LiteDataType.LITE_INT16):
        assert LiteLayout([4], dtype).data_type == LiteDataType.LITE_INT16
    assert LiteTensor(layout=layout, device_type=LiteDeviceType.LITE_CPU, is_pinned_host=True).is_pinned_host


def test_arrays_that_are_not_contiguous():
    tensor = LiteTensor(LiteLayout([4, 32], "int16"))
    wide = np.ones([4, 64], "int16")
    for call in (tensor.set_data_by_copy, tensor.set_data_by_share):
        with pytest.raises(AssertionError):
            call(wide[:, ::2])
        call(np.ascontiguousarray(wide[:, ::2]))
        assert tensor.to_numpy().sum() == 128
    window = tensor.slice([0, 0], [4, 16])
    assert not window.is_continue
    with pytest.raises(AssertionError):
        window.set_data_by_share(np.ones([4, 16], "int16"))


def test_pointers_through_ctypes():
    tensor = LiteTensor(LiteLayout([2, 16], "int8"))
    array = np.arange(32, dtype="int8").reshape(2, 16)
    tensor.set_data_by_copy(array.ctypes.data, array.nbytes)
    assert (tensor.to_numpy() == array).all()
    tensor.set_data_by_share(array.ctypes.data, array.nbytes)
    array[1][5] = 99
    assert tensor.to_numpy()[1][5] == 99
    pointer_type = POINTER(c_int8)
    assert cast(tensor.get_ctypes_memory(), pointer_type)[21] == 99
    assert tensor.get_ctypes_memory().value == c_void_p(array.ctypes.data).value


# ---- loading ------------------------------------------------------------------------------------------------------


def test_load_and_run(resource):
    network = LiteNetwork()
    network.load(resource.model_path)
    assert network.get_all_input_name() == [network.get_input_name(0)] == ["data"]
    assert network.get_all_output_name() == [network.get_output_name(0)]
    input_tensor = network.get_io_tensor("data")
    assert input_tensor.device_type == LiteDeviceType.LITE_CPU
    assert input_tensor.layout.shapes == list(resource.input_data.shape)
    resource.do_forward(network)
    shared = network.get_io_tensor("data", LiteTensorPhase.LITE_INPUT)
    shared.set_data_by_share(resource.input_data)
    network.forward()
    network.wait()
    output = network.get_io_tensor(network.get_output_name(0), phase=LiteTensorPhase.LITE_OUTPUT)
    resource.check_correct(output.get_data_by_share())


def test_load_from_an_open_file(resource):
    network = LiteNetwork()
    with open(resource.model_path, "rb") as file:
        network.load(file)
    resource.do_forward(network)


def test_encrypted_model(resource):
    config = LiteConfig()
    config.bare_model_cryption_name = "AES_default"
    network = LiteNetwork(config)
    network.load(resource.path("shufflenet_crypt_aes.mge"))
    resource.do_forward(network)


@pytest.mark.parametrize("disable", [None, False, True])
@pytest.mark.parametrize("name", ["test_packed_model_rc4.lite", "test_pack_cache_to_model.lite"])
def test_packed_model(resource, name, disable, cache):
    network = LiteNetwork()
    if disable is not None:
        network.extra_configure(LiteExtraConfig(disable_model_config=disable))
    network.load(resource.path(name))
    resource.do_forward(network)


def test_batch_is_changed(resource):
    network = LiteNetwork()
    network.load(resource.model_path)
    output = network.get_io_tensor(network.get_output_name(0))
    rows = resource.correct_data.reshape(len(resource.input_data), -1)
    for times in (2, 1, 3):
        network.get_io_tensor("data").set_data_by_copy(np.tile(resource.input_data, (times, 1, 1, 1)))
        network.forward()
        network.wait()
        assert np.abs(output.to_numpy() - np.tile(rows, (times, 1))).max() < 1e-4


def test_information_about_the_model(resource):
    io = get_model_io_info(resource.model_path)
    assert [one.name for one in io.inputs] == ["data"]
    assert io.inputs[0].config_layout == LiteLayout(resource.input_data.shape, "float32")
    network = LiteNetwork()
    network.load(resource.model_path)
    assert [one.name for one in io.outputs] == network.get_all_output_name()
    assert int(np.prod(io.outputs[0].config_layout.shapes)) == resource.correct_data.size
    made = io._create_network_io()
    assert (made.input_size, made.output_size) == (1, 1)


# ---- settings -----------------------------------------------------------------------------------------------------


def test_settings_and_their_order(resource, capsys):
    network = LiteNetwork()
    assert (network.threads_number, network.device_id, network.stream_id) == (1, 0, 0)
    assert not network.is_cpu_inplace_mode()
    network.threads_number = 2
    network.device_id = 1
    network.stream_id = 1
    assert (network.threads_number, network.device_id, network.stream_id) == (2, 1, 1)
    network.load(resource.model_path)
    for name in ("threads_number", "device_id", "stream_id"):
        with pytest.raises(RuntimeError):
            setattr(network, name, 1)
    with pytest.raises(RuntimeError):
        network.enable_cpu_inplace_mode()
    resource.do_forward(network)
    print(LiteConfig())
    assert "bare_model_cryption_name" in capsys.readouterr().out


def test_ios_of_the_configuration(resource):
    ios = LiteNetworkIO(inputs=[["data", False]], outputs=[LiteIO("none")])
    ios.add_input("other", True, LiteIOType.LITE_IO_SHAPE, LiteLayout([2, 4, 4]))
    ios.add_input(LiteIO("data", layout=LiteLayout(resource.input_data.shape)))
    assert [io.name for io in ios.inputs] == ["data", "other", "data"]
    made = ios._create_network_io()
    assert (made.input_size, made.output_size) == (3, 1)
    config = LiteConfig()
    config.options.weight_preprocess = 1
    config.options.var_sanity_check_first_run = 0
    network = LiteNetwork(config=config, io=ios)
    network.load(resource.model_path)
    resource.do_forward(network)


def test_inplace_mode_and_sharing(resource):
    source = LiteNetwork()
    source.enable_cpu_inplace_mode()
    assert source.is_cpu_inplace_mode()
    source.load(resource.model_path)
    twin = LiteNetwork()
    twin.enable_cpu_inplace_mode()
    twin.share_weights_with(source)
    third = LiteNetwork()
    third.enable_cpu_inplace_mode()
    third.share_runtime_memroy(source)
    third.load(resource.model_path)
    for network in (source, twin, third, source):
        assert network.is_cpu_inplace_mode()
        resource.do_forward(network)
        network.get_io_tensor("data").fill_zero()
        network.forward()
        network.wait()
    for network in (third, twin):
        resource.do_forward(network, times=1)


# ---- callbacks ----------------------------------------------------------------------------------------------------


def test_start_callback(resource):
    network = LiteNetwork()
    network.load(resource.model_path)
    start_checked = False

    def start_callback(ios):
        nonlocal start_checked
        start_checked = True
        assert len(ios) == 1
        for key in ios:
            io = key
            data = ios[key].to_numpy().flatten()
            input_data = resource.input_data.flatten()
            assert data.size == input_data.size
            assert io.name == "data"
            assert np.abs(data - input_data).max() < 1e-5
        return 0

    network.set_start_callback(start_callback)
    resource.do_forward(network, 1)
    assert start_checked


def test_finish_callback(resource):
    network = LiteNetwork()
    network.load(resource.model_path)
    finish_checked = 0

    def finish_callback(ios):
        nonlocal finish_checked
        finish_checked += 1
        assert len(ios) == 1
        for key in ios:
            assert key.name == network.get_output_name(0)
            resource.check_correct(ios[key].to_numpy(), 1e-5)
        return 0

    network.set_finish_callback(finish_callback)
    resource.do_forward(network, 2)
    assert finish_checked == 2


@pytest.mark.parametrize("rows", [1, None], ids=["short", "whole"])
def test_async_callback_while_the_main_thread_loops(resource, rows):
    config = LiteConfig()
    config.options.var_sanity_check_first_run = 0
    network = LiteNetwork(config=config)
    network.load(resource.model_path)
    threads = []

    def async_callback():
        threads.append(threading.get_ident())
        return 0

    network.async_with_callback(async_callback)
    network.get_io_tensor("data").set_data_by_share(np.ascontiguousarray(resource.input_data[:rows]))
    output = network.get_io_tensor(network.get_output_name(0))
    expected = resource.correct_data.reshape(len(resource.input_data), -1)[:rows]
    for k in range(5):
        count = 0
        network.forward()
        while len(threads) == k:
            count += 1
        assert count > 0
        assert np.abs(output.to_numpy() - expected).max() < 1e-4
    assert threading.get_ident() not in threads


def test_async_callback_comes_after_forward():
    network = LiteNetwork()
    network.load(to_bytes(add_record()))  # takes a few microseconds
    order = []
    network.async_with_callback(lambda: order.append("callback"))
    for _ in range(50):
        network.forward()
        order.append("forward")
        network.wait()
    assert order == ["forward", "callback"] * 50


# ---- files --------------------------------------------------------------------------------------------------------


def test_files_in_the_working_directory(resource):
    network = LiteNetwork()
    network.load(resource.model_path)
    network.enable_profile_performance("./profile.json")
    resource.do_forward(network, 1)
    assert os.path.getsize("./profile.json") > 1000
    network.io_txt_dump("./io_txt.txt")
    resource.do_forward(network, 1)
    with open("./io_txt.txt") as file:
        assert f"name={network.get_output_name(0)}" in file.read()
    os.mkdir("./out")
    network.io_bin_dump("./out")
    resource.do_forward(network, 1)
    assert len(os.listdir("./out")) > 5
    assert sorted(os.listdir(".")) == ["io_txt.txt", "out", "profile.json"]


# ---- algorithms ---------------------------------------------------------------------------------------------------

PROFILE = LiteAlgoSelectStrategy.LITE_ALGO_PROFILE
REPRODUCIBLE = LiteAlgoSelectStrategy.LITE_ALGO_REPRODUCIBLE


@pytest.mark.parametrize(
    "arguments",
    [
        {"policy": PROFILE},
        {"policy": PROFILE | REPRODUCIBLE},
        {"policy": PROFILE | REPRODUCIBLE, "shared_batch_size": 1, "binary_equal_between_batch": True},
        {"policy": LiteAlgoSelectStrategy.LITE_ALGO_HEURISTIC | REPRODUCIBLE},
    ],
)
def test_policy_after_load(resource, arguments, cache):
    network = LiteNetwork()
    network.load(resource.model_path)
    network.set_network_algo_policy(**arguments)
    network.set_network_algo_workspace_limit(10000)
    resource.do_forward(network)
    first = network.get_io_tensor(network.get_output_name(0)).to_numpy()
    resource.do_forward(network, 1)
    assert (network.get_io_tensor(network.get_output_name(0)).to_numpy() == first).all()
    if arguments.get("binary_equal_between_batch"):
        network.get_io_tensor("data").set_data_by_copy(np.repeat(resource.input_data[:1], 5, axis=0))
        network.forward()
        network.wait()
        rows = network.get_io_tensor(network.get_output_name(0)).to_numpy()
        assert (rows == first[:1]).all() and len(rows) == 5


def test_fast_run_with_layout_transform_and_cache(resource, cache):
    network = LiteNetwork()
    network.enable_global_layout_transform()
    network.load(resource.model_path)
    network.set_network_algo_policy(PROFILE | REPRODUCIBLE)
    resource.do_forward(network)
    network.dump_layout_transform_model("./model_afer_layoutTrans.mgb")
    assert os.path.getsize("./model_afer_layoutTrans.mgb") > 1000
    LiteGlobal.dump_persistent_cache("./algo_cache")
    assert os.path.getsize("./algo_cache") > 100
    LiteGlobal.set_persistent_cache(path="./algo_cache")
    resource.do_forward(network)
    LiteGlobal.set_persistent_cache("./algo_cache", always_sync=True)
    after = LiteNetwork()
    after.load("./model_afer_layoutTrans.mgb")
    assert after.get_input_name(0) == "data"
    after.set_network_algo_policy(PROFILE)
    resource.do_forward(after)
    LiteGlobal.try_coalesce_all_free_memory()
    resource.do_forward(network)


# ---- memory of the caller -----------------------------------------------------------------------------------------


def test_output_in_memory_of_the_caller(resource):
    config = LiteConfig()
    config.options.force_output_use_user_specified_memory = True
    network = LiteNetwork(config=config)
    network.load(resource.model_path)
    output_tensor = network.get_io_tensor(network.get_output_name(0))
    out_array = np.zeros(output_tensor.layout.shapes, output_tensor.layout.dtype)
    output_tensor.set_data_by_share(out_array)
    resource.do_forward(network)
    resource.check_correct(out_array)
    second = np.zeros_like(out_array)
    network.get_io_tensor(network.get_output_name(0)).set_data_by_share(second)
    network.forward()
    network.wait()
    resource.check_correct(second)


def test_discrete_input(resource):
    data = np.load(resource.path("data_b3.npy"))
    roi = np.load(resource.path("roi.npy"))
    whole = LiteNetwork()
    whole.load(resource.path("test_discrete_input.mge"))
    whole.get_io_tensor("data").set_data_by_copy(data)
    whole.get_io_tensor("roi").set_data_by_copy(roi)
    whole.forward()
    whole.wait()
    expected = whole.get_io_tensor(whole.get_output_name(0)).to_numpy()
    assert np.abs(expected).max() > 0

    config = LiteConfig()
    config.discrete_input_name = b"data"
    ios = LiteNetworkIO()
    ios.add_input(LiteIO("data", is_host=True, io_type=LiteIOType.LITE_IO_VALUE, layout=LiteLayout([3, 3, 224, 224])))
    network = LiteNetwork(config, ios)
    network.load(resource.path("test_discrete_input.mge"))
    assert network.get_input_name(1) == "data"
    for k in range(3):
        piece = network.get_discrete_tensor(network.get_input_name(1), k)
        piece.set_data_by_copy(np.load(resource.path(f"data{k}.npy")))
    network.get_io_tensor(network.get_input_name(0)).set_data_by_copy(roi)
    network.forward()
    network.wait()
    assert (network.get_io_tensor(network.get_output_name(0)).to_numpy() == expected).all()
    if resource.source_dir == str(SHARED):
        assert np.abs(expected - np.load(SHARED / "discrete_output.npy")).max() < 1e-3


# ---- settings of the process --------------------------------------------------------------------------------------


def test_decryption_function_with_a_key_of_a_list(resource):
    @decryption_func
    def function(in_arr, key_arr, out_arr):
        if not out_arr:
            return in_arr.size
        out_arr[:] = in_arr ^ key_arr[0] ^ key_arr[0]
        return out_arr.size

    LiteGlobal.register_decryption_and_key("just_for_test", function, [15])
    try:
        config = LiteConfig()
        config.bare_model_cryption_name = "just_for_test"
        network = LiteNetwork(config)
        network.load(resource.model_path)
        resource.do_forward(network, 1)
        with pytest.raises(RuntimeError):
            LiteGlobal.register_decryption_and_key("just_for_test", function, [15])
    finally:
        del cryption.METHODS["just_for_test"]


def test_key_is_replaced_and_put_back(resource):
    def load():
        config = LiteConfig()
        config.bare_model_cryption_name = b"AES_default"
        network = LiteNetwork(config)
        network.load(resource.path("shufflenet_crypt_aes.mge"))
        return network

    LiteGlobal.update_decryption_key("AES_default", [0] * 32)
    try:
        with pytest.raises(RuntimeError):
            load()
    finally:
        LiteGlobal.update_decryption_key("AES_default", list(range(32)))
    resource.do_forward(load(), 1)


def test_devices():
    assert LiteGlobal.get_device_count(LiteDeviceType.LITE_CPU) > 0
    assert LiteGlobal.get_device_count(LiteDeviceType.LITE_CUDA) == 0
    with pytest.raises(RuntimeError):
        LiteTensor(LiteLayout([4, 16]), device_type=LiteDeviceType.LITE_CUDA)
