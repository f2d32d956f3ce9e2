"""Every example of the API's reference document, on the CPU where it uses a GPU, with a small model of ours."""
# ruff: noqa: C416 - the examples stand as they are in the document

import numpy as np
import pytest
from support.api_samples import DIGITS, IMAGES, PROB

from megengine_lite import *  # noqa: F403 - as the document's programs do
from megengine_lite import (
    LiteConfig,
    LiteDataType,
    LiteDeviceType,
    LiteGlobal,
    LiteIO,
    LiteIOType,
    LiteLayout,
    LiteNetwork,
    LiteNetworkIO,
    LiteTensor,
    TensorBatchCollector,
    decryption_func,
)
from megengine_lite._core.formats.containers import cryption

pytestmark = pytest.mark.filterwarnings("ignore:the model is encrypted with the default key")
model_path = str(DIGITS)


def test_layout_types():
    for name in ("int32", "float32", "uint8", "int8", "int16", "uint16", "float16"):
        for dtype in (name, np.dtype(name), getattr(np, name)):
            assert LiteLayout([1], dtype).dtype is getattr(np, name)
    for dtype in LiteDataType:
        assert LiteLayout([1], dtype).data_type == dtype


def test_make_tensors():
    tensor_cuda2 = LiteTensor(shapes=[4, 16], dtype="float32", device_type=LiteDeviceType.LITE_CPU)
    layout = LiteLayout([4, 16], "float32")
    tensor = LiteTensor(layout, LiteDeviceType.LITE_CPU)
    tensor_cuda = LiteTensor(layout=layout, device_type=LiteDeviceType.LITE_CPU)
    for made in (tensor_cuda2, tensor, tensor_cuda):
        assert made.layout == layout
        assert (made.is_pinned_host, made.device_type, made.device_id) == (False, LiteDeviceType.LITE_CPU, 0)
        assert made.is_continue and made.nbytes == 256


def test_slice():
    layout = LiteLayout([4, 8], "int32")
    tensor1 = LiteTensor(layout)
    tensor1.set_data_by_copy([i for i in range(32)])
    real_data_org = tensor1.to_numpy()
    tensor2 = tensor1.slice([1, 4], [3, 8])
    assert tensor2.layout.shapes[0] == 2
    assert tensor2.layout.shapes[1] == 4
    assert tensor2.is_continue == False  # noqa: E712
    real_data = tensor2.to_numpy()
    for i in range(8):
        row = i // 4
        col = i % 4
        assert real_data[row][col] == real_data_org[row + 1][col + 4]


def test_share_memory_with():
    layout = LiteLayout([4, 8], "int16")
    tensor1 = LiteTensor(layout)
    tensor2 = LiteTensor(layout)
    tensor1.set_data_by_copy([i for i in range(32)])
    tensor2.share_memory_with(tensor1)
    real_data = tensor2.to_numpy()
    for i in range(32):
        assert real_data[i // 8][i % 8] == i


def test_set_data_by_copy():
    layout = LiteLayout([2, 16], "int8")
    tensor = LiteTensor(layout)
    data = [i for i in range(32)]
    tensor.set_data_by_copy(data)
    real_data = tensor.to_numpy()
    for i in range(32):
        assert real_data[i // 16][i % 16] == i


def test_set_data_by_share():
    layout = LiteLayout([2, 16], "int8")
    tensor = LiteTensor(layout)
    arr = np.ones([2, 16], "int8")
    for i in range(32):
        arr[i // 16][i % 16] = i
    tensor.set_data_by_share(arr)
    real_data = tensor.to_numpy()
    for i in range(32):
        assert real_data[i // 16][i % 16] == i


def test_get_data_by_share():
    layout = LiteLayout([4, 32], "int16")
    tensor = LiteTensor(layout)
    assert tensor.nbytes == 4 * 32 * 2
    arr = np.ones([4, 32], "int16")
    for i in range(128):
        arr[i // 32][i % 32] = i
    tensor.set_data_by_copy(arr)
    test_data = tensor.get_data_by_share()
    for i in range(128):
        assert test_data[i // 32][i % 32] == i
    arr[1][18] = 5
    arr[3][7] = 345
    tensor.set_data_by_copy(arr)
    assert test_data[1][18] == 5
    assert test_data[3][7] == 345


def test_network_io():
    input_io1 = LiteIO("data1", is_host=False, io_type=LiteIOType.LITE_IO_VALUE)
    input_io2 = LiteIO(
        "data2",
        is_host=True,
        io_type=LiteIOType.LITE_IO_SHAPE,
        layout=LiteLayout([2, 4, 4]),
    )
    io = LiteNetworkIO([input_io1, input_io2])
    io.add_output("out1", is_host=False)
    io.add_output("out2", is_host=True, layout=LiteLayout([1, 1000]))
    assert len(io.inputs) == 2
    assert len(io.outputs) == 2


def test_make_network():
    config = LiteConfig()
    config.options.var_sanity_check_first_run = 0
    config.device_type = LiteDeviceType.LITE_CPU
    ios = LiteNetworkIO(inputs=[LiteIO("data", False)])
    network = LiteNetwork(config=config, io=ios)
    network.load(model_path)
    assert network.get_all_input_name() == ["data"]


def test_async_callback():
    count = 0
    finished = False

    def async_callback():
        nonlocal finished
        finished = True
        return 0

    config = LiteConfig()
    config.options.var_sanity_check_first_run = 0
    network = LiteNetwork(config=config)
    network.load(model_path)
    network.async_with_callback(async_callback)
    network.get_io_tensor("data").set_data_by_copy(IMAGES)
    output_tensor = network.get_io_tensor(network.get_output_name(0))
    network.forward()
    while not finished:
        count += 1
    assert count > 0
    output_data = output_tensor.to_numpy()
    assert np.abs(output_data - PROB).max() < 1e-5


def test_finish_callback():
    network = LiteNetwork()
    network.load(model_path)
    network.get_io_tensor("data").set_data_by_copy(IMAGES)
    finish_checked = False

    def finish_callback(ios):
        nonlocal finish_checked
        finish_checked = True
        assert len(ios) == 1
        for key in ios:
            assert key.name == "prob"
            data = ios[key].to_numpy().flatten()
            output_data = PROB.flatten()
            assert data.size == output_data.size
            for i in range(data.size):
                assert abs(data[i] - output_data[i]) < 1e-5
        return 0

    network.set_finish_callback(finish_callback)
    network.forward()
    network.wait()
    assert finish_checked == True  # noqa: E712


def test_register_decryption_and_key(tmp_path):
    @decryption_func
    def function(in_arr, key_arr, out_arr):
        if not out_arr:
            return in_arr.size
        else:
            for i in range(in_arr.size):
                out_arr[i] = in_arr[i] ^ key_arr[0] ^ key_arr[0]
            return out_arr.size

    LiteGlobal.register_decryption_and_key("just_for_test", function, [15])
    try:
        config = LiteConfig()
        config.bare_model_cryption_name = b"just_for_test"
        network = LiteNetwork(config)
        network.load(model_path)
        assert network.get_all_output_name() == ["prob"]
    finally:
        del cryption.METHODS["just_for_test"]


def test_update_decryption_key(tmp_path):
    model = tmp_path / "crypt_aes.mge"
    model.write_bytes(cryption.encrypt("AES_default", DIGITS.read_bytes()))
    wrong_key = [0] * 32
    LiteGlobal.update_decryption_key("AES_default", wrong_key)
    with pytest.raises(RuntimeError):
        config = LiteConfig()
        config.bare_model_cryption_name = b"AES_default"
        network = LiteNetwork(config)
        network.load(str(model))
    right_key = [i for i in range(32)]
    LiteGlobal.update_decryption_key("AES_default", right_key)
    config = LiteConfig()
    config.bare_model_cryption_name = b"AES_default"
    network = LiteNetwork(config)
    network.load(str(model))
    assert network.get_all_input_name() == ["data"]


def test_collect_in_order():
    batch_tensor = TensorBatchCollector([4, 8, 8], dtype=LiteDataType.LITE_INT, device_type=LiteDeviceType.LITE_CPU)
    arr = np.ones([8, 8], "int32")
    for _ in range(2):
        for _i in range(4):
            batch_tensor.collect(arr)
            arr += 1
        batch_tensor.free(range(4))
    data = batch_tensor.to_numpy()
    assert data.shape[0] == 4
    assert data.shape[1] == 8
    assert data.shape[2] == 8
    for i in range(4):
        for j in range(64):
            assert data[i][j // 8][j % 8] == i + 4 + 1


def test_collect_by_id():
    batch_tensor = TensorBatchCollector([4, 8, 8], dtype=LiteDataType.LITE_INT, device_type=LiteDeviceType.LITE_CPU)
    arr = np.ones([8, 8], "int32")
    arr += 1  # ==2
    batch_tensor.collect_id(arr, 1)
    arr -= 1  # ==1
    batch_tensor.collect_id(arr, 0)
    arr += 2  # ==3
    batch_tensor.collect_id(arr, 2)
    arr += 1  # ==4
    batch_tensor.collect_id(arr, 3)
    data = batch_tensor.to_numpy()
    batch_tensor.free(range(4))
    assert data.shape == (4, 8, 8)
    for i in range(4):
        for j in range(64):
            assert data[i][j // 8][j % 8] == i + 1


def test_collect_in_a_tensor_of_the_caller():
    all_tensor = LiteTensor(
        LiteLayout([4, 6, 8], dtype=LiteDataType.LITE_INT),
        device_type=LiteDeviceType.LITE_CPU,
    )
    batch_tensor = TensorBatchCollector([4, 6, 8], tensor=all_tensor)
    nparr = np.ones([6, 8], "int32")
    for _ in range(2):
        for _i in range(4):
            batch_tensor.collect(nparr)
            nparr += 1
        batch_tensor.free(range(4))
    data = batch_tensor.to_numpy()
    assert data.shape == (4, 6, 8)
    for i in range(4):
        for j in range(48):
            assert data[i][j // 8][j % 8] == i + 4 + 1


def test_collect_tensors():
    batch_tensor = TensorBatchCollector([4, 6, 8], dtype=LiteDataType.LITE_INT, device_type=LiteDeviceType.LITE_CPU)
    nparr = np.ones([6, 8], "int32")
    tensor = LiteTensor(LiteLayout([6, 8], LiteDataType.LITE_INT))
    for _ in range(2):
        for _i in range(4):
            tensor.set_data_by_share(nparr)
            batch_tensor.collect(tensor)
            nparr += 1
        batch_tensor.free(range(4))
    data = batch_tensor.to_numpy()
    assert data.shape == (4, 6, 8)
    for i in range(4):
        for j in range(48):
            assert data[i][j // 8][j % 8] == i + 4 + 1
