"""Functions that MegEngine Lite 1.13 has but that do not work there. Names of tests have the number of a fault."""

import json
import logging
import threading
from ctypes import c_void_p

import numpy as np
import pytest
from support.api_samples import (
    ADD,
    API_MODELS,
    DIGITS,
    IMAGES,
    PROB,
    add,
    close,
    config,
    loaded,
    packed,
    run,
    two_inputs,
)
from support.loader_samples import MODELS, input_operator, to_bytes
from support.processes import isolated

from megengine_lite import (
    LiteConfig,
    LiteDeviceType,
    LiteExtraConfig,
    LiteGlobal,
    LiteLayout,
    LiteLogLevel,
    LiteNetwork,
    LiteTensor,
    LiteTensorConcat,
    decryption_func,
    get_log_level,
    get_model_io_info,
    set_log_level,
)
from megengine_lite._core.formats.containers import cryption
from megengine_lite._core.formats.mge.records import ModelRecord
from megengine_lite._core.ir.dtype import FLOAT16, UINT16
from megengine_lite.errors import LiteError, LiteWarning, ShapeError

CPU = LiteDeviceType.LITE_CPU
SEVEN = (2, 1, 2, 1, 2, 1, 3)
default_key = pytest.mark.filterwarnings("ignore:the model is encrypted with the default key")


# ---- 29: no tensor can be float16 or uint16, or have seven dimensions -----------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "uint16"])
def test_danger_29_tensors_of_two_bytes(dtype):
    array = np.array([[0, 1, 2], [3, 60000, 5]], dtype)
    made = LiteTensor(LiteLayout([2, 3], dtype))
    made.set_data_by_copy(array.tolist())
    taken, shared, copied = LiteTensor(), LiteTensor(), LiteTensor()
    taken.set_data_by_copy(array)
    shared.set_data_by_share(array)
    copied.copy_from(made)
    for tensor in (made, taken, shared, copied):
        assert tensor.layout == LiteLayout([2, 3], dtype) and tensor.nbytes == 12
        assert tensor.to_numpy().dtype == dtype and (tensor.to_numpy() == array).all()
        assert (tensor.slice([0, 1], [2, 3]).get_data_by_share() == array[:, 1:]).all()
    assert LiteTensorConcat([made, shared], 0).to_numpy().tolist() == [*array.tolist()] * 2


def test_danger_29_networks_with_float16_and_uint16():
    network = loaded(two_inputs((2, 3), FLOAT16))
    assert network.get_io_tensor("a").layout.dtype is np.float16
    result = add(network, 0.5, 1024)
    assert result.dtype == np.float16 and result.tolist() == [[1024] * 3] * 2  # the nearest float16
    record = ModelRecord("v2", 101300, [input_operator(0, "a", (3,), UINT16)], [(0, "same")])
    network = loaded(to_bytes(record))
    network.get_io_tensor("a").set_data_by_copy(np.array([1, 2, 65535], "uint16"))
    network.forward()
    network.wait()
    assert network.get_io_tensor("same").to_numpy().tolist() == [1, 2, 65535]


def test_danger_29_seven_dimensions():
    array = np.arange(24, dtype="float32").reshape(SEVEN)
    tensor = LiteTensor(LiteLayout(SEVEN, "float32"))
    tensor.set_data_by_copy(array)
    assert tensor.layout.ndim == 7 and (tensor.to_numpy() == array).all()
    assert (tensor.slice([1] + [0] * 6, SEVEN, [1] * 6 + [2]).to_numpy() == array[1:, ..., ::2]).all()
    tensor.reshape([24])
    tensor.reshape(SEVEN[::-1])
    assert tensor.layout.shapes == list(SEVEN[::-1])
    network = loaded(two_inputs(SEVEN))
    for name in "ab":
        network.get_io_tensor(name).set_data_by_share(array)
    network.forward()
    network.wait()
    assert (network.get_io_tensor("sum").to_numpy() == 2 * array).all()


# ---- 30: a decryption function of the user is called with what is no array ------------------------------------------


def test_danger_30_decryption_function_of_the_user():
    key = [7, 300, 255]  # 300 counts as 44
    sizes = []

    @decryption_func
    def rotate(in_arr, key_arr, out_arr):
        sizes.append((in_arr.size, key_arr.tolist(), None if out_arr is None else out_arr.size))
        if not out_arr:
            return in_arr.size
        out_arr[:] = in_arr ^ np.resize(key_arr, in_arr.size)
        return out_arr.size

    plain = np.frombuffer(DIGITS.read_bytes(), np.uint8)
    hidden = (plain ^ np.resize(np.array([7, 44, 255], np.uint8), plain.size)).tobytes()
    LiteGlobal.register_decryption_and_key("danger_30", rotate, key)
    try:
        made = LiteConfig()
        made.bare_model_cryption_name = "danger_30"
        assert close(run(loaded(hidden, made)), PROB)
        assert sizes == [(plain.size, [7, 44, 255], None), (plain.size, [7, 44, 255], plain.size)]
        LiteGlobal.update_decryption_key("danger_30", [1])
        with pytest.raises(LiteError):
            loaded(hidden, made)
        with pytest.raises(LiteError, match="danger_30"):
            LiteGlobal.register_decryption_and_key("danger_30", rotate, key)
    finally:
        del cryption.METHODS["danger_30"]


# ---- 31: get_log_level always fails ---------------------------------------------------------------------------------


def test_danger_31_get_log_level():
    before = get_log_level()
    try:
        for level in (LiteLogLevel.DEBUG, 1, LiteLogLevel.WARN, 3):
            set_log_level(level)
            assert get_log_level() is LiteLogLevel(level)
    finally:
        set_log_level(before)


# ---- 32: get_static_memory_alloc_info always fails ------------------------------------------------------------------


def test_danger_32_static_memory_info(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = loaded()
    network.get_static_memory_alloc_info()
    run(network, IMAGES[:2])
    network.get_static_memory_alloc_info("/".join(["a", "b-c"]))
    for directory in ("logs/test", "a/b-c"):
        graph = json.loads((tmp_path / directory / "graph.json").read_text())
        info = json.loads((tmp_path / directory / "StaticMemoryInfo.json").read_text())
        assert set(graph) == {"operator", "var", "mem_chunk", "comp_seq"}
        ran = {graph["operator"][number]["name"] for number in graph["comp_seq"]}
        assert {step["name"] for step in info["opr"].values()} == ran and len(ran) > 3
        ends = [int(chunk["logic_addr_end"]) for chunk in info["chunk"].values()]
        assert max(ends) > 1000 and {c["type"] for c in info["chunk"].values()} == {"static_mem", "weight_mem"}
    assert close(run(network, IMAGES[:3]), PROB[:3])


# ---- 33: functions for TensorRT and for physical addresses ----------------------------------------------------------


def test_danger_33_tensorrt_cache(tmp_path):
    with pytest.warns(LiteWarning, match="TensorRT"):
        LiteGlobal.set_tensorrt_cache(str(tmp_path / "cache"))
    with pytest.warns(LiteWarning, match="TensorRT"):
        LiteGlobal.dump_tensorrt_cache()
    assert list(tmp_path.iterdir()) == []


def test_danger_33_memory_pairs():
    pairs = {0x1000: 0x70000, 0x2000: 0x90000}
    for virtual, physical in pairs.items():
        LiteGlobal.register_memory_pair(c_void_p(virtual), c_void_p(physical), 0x800, CPU)
    for virtual, physical in pairs.items():
        assert LiteGlobal.lookup_physic_ptr(c_void_p(virtual + 0x7FF), CPU).value == physical + 0x7FF
        with pytest.raises(LiteError):
            LiteGlobal.lookup_physic_ptr(c_void_p(virtual + 0x800), CPU)
    for virtual, physical in pairs.items():
        LiteGlobal.clear_memory_pair(c_void_p(virtual), c_void_p(physical), CPU)
        with pytest.raises(LiteError):
            LiteGlobal.lookup_physic_ptr(c_void_p(virtual), CPU)


# ---- 34: get_model_io_info reads plain models only ------------------------------------------------------------------


@default_key
@pytest.mark.parametrize("method", ["AES_default", "RC4_default", "SIMPLE_FAST_RC4_default"])
def test_danger_34_information_about_encrypted_and_packed_models(method, tmp_path):
    plain = repr(get_model_io_info(DIGITS))
    assert "'data'" in plain and "'prob'" in plain
    made = LiteConfig()
    made.bare_model_cryption_name = method
    bare, package = tmp_path / "bare.mge", tmp_path / "package.lite"
    bare.write_bytes(cryption.encrypt(method, DIGITS.read_bytes()))
    package.write_bytes(packed(DIGITS.read_bytes(), method=method))
    assert repr(get_model_io_info(str(bare), made)) == plain
    assert repr(get_model_io_info(str(package))) == repr(get_model_io_info(package, made)) == plain
    with pytest.raises(LiteError):
        get_model_io_info(str(bare))


# ---- 35: const_shape refuses models with batch norm -----------------------------------------------------------------


@pytest.mark.parametrize("model", ["conv_bn_relu_raw.mge", "conv_bn_relu_raw.v1.mge"])
def test_danger_35_const_shape_on_convolution_and_batch_norm(model):
    results = []
    for made in (config(const_shape=1), LiteConfig(), config(const_shape=1, graph_opt_level=0)):
        network = loaded(MODELS / model, made)
        data = network.get_io_tensor(network.get_input_name(0))
        shape = data.layout.shapes
        data.set_data_by_copy(np.random.default_rng(35).standard_normal(shape).astype("float32"))
        network.forward()
        network.wait()
        results.append(network.get_io_tensor(network.get_output_name(0)).to_numpy())
        if made.options.const_shape:
            data.set_data_by_copy(np.zeros([shape[0] + 1, *shape[1:]], "float32"))
            with pytest.raises(ShapeError, match="const_shape"):
                network.forward()
    assert np.abs(results[0]).max() > 0.1 and results[0].min() >= 0
    assert close(results[0], results[1]) and close(results[0], results[2])


# ---- 36: LiteExtraConfig(True) leaves threads, device and inplace mode to the package -------------------------------


def test_danger_36_settings_of_a_package_are_switched_off():
    device = {"type": "CPU", "device_id": 4, "number_threads": 2, "enable_inplace_model": True}
    content = packed(information={"device": device})
    for disable, expected in ((True, (3, 1, False)), (False, (2, 4, True))):
        network = LiteNetwork()
        network.extra_configure(LiteExtraConfig(disable))
        network.threads_number, network.device_id = 3, 1
        network.load(content)
        assert (network.threads_number, network.device_id, network.is_cpu_inplace_mode()) == expected
        assert network.get_io_tensor("a").device_id == expected[1]
        assert add(network, 1, 2).tolist() == [[3, 3, 3]] * 2


# ---- 37: an exception in a callback is printed and forgotten --------------------------------------------------------


@pytest.mark.parametrize("kind", ["start", "finish", "async"])
def test_danger_37_exceptions_in_callbacks(kind, caplog, capsys):
    network = loaded(ADD)
    add(network, 1, 1)

    def fail(*_):
        raise ZeroDivisionError(f"in the {kind} callback")

    setter = network.async_with_callback if kind == "async" else getattr(network, f"set_{kind}_callback")
    setter(fail)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError, match=f"in the {kind} callback"):
            add(network, 2, 2)
    setter(None)
    assert add(network, 3, 4).max() == 7
    assert capsys.readouterr().err == ""
    assert all(record.levelno == logging.ERROR for record in caplog.records)


# ---- 38: wait returns at once in asynchronous mode, after calling the callback itself -------------------------------


@isolated
def test_danger_38_wait_in_asynchronous_mode():
    network = loaded()
    calls = []
    network.async_with_callback(lambda: calls.append(threading.get_ident()))
    for n, images in enumerate([IMAGES, IMAGES[::-1].copy()] * 5, 1):
        network.get_io_tensor("data").set_data_by_copy(images)
        view = network.get_io_tensor("prob").get_data_by_share() if n > 1 else None
        network.forward()
        network.wait()
        assert len(calls) == n
        network.wait()
        assert len(calls) == n
        result = network.get_io_tensor("prob").to_numpy() if view is None else view
        assert close(result, PROB if n % 2 else PROB[::-1])
    assert threading.get_ident() not in calls


# ---- 39: exceptions carry the text of whatever failed last in the process -------------------------------------------


def test_danger_39_errors_of_several_threads():
    shown: dict[int, list[str]] = {}

    def work(k: int) -> None:
        network, mine = loaded(ADD), shown.setdefault(k, [])
        for i in range(100):
            try:
                network.get_io_tensor(f"thread {k} call {i}")
            except LiteError as error:
                mine.append(str(error))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(shown) == [0, 1, 2, 3]
    for k, texts in shown.items():
        assert len(texts) == 100 and all(f"'thread {k} call {i}'" in text for i, text in enumerate(texts))


# ---- 40: rewritten models have lost the names of their inputs -------------------------------------------------------


@default_key
@pytest.mark.parametrize("container", ["plain", "encrypted", "packed"])
def test_danger_40_names_in_a_rewritten_model(container, tmp_path):
    plain = (API_MODELS / "multi_io.mge").read_bytes()
    made = LiteConfig()
    source = plain
    if container == "encrypted":
        made.bare_model_cryption_name = "RC4_default"
        source = cryption.encrypt("RC4_default", plain)
    elif container == "packed":
        source = packed(plain, method="AES_default")
    network = LiteNetwork(made)
    network.enable_global_layout_transform()
    network.load(source)
    path = tmp_path / "after.mge"
    network.dump_layout_transform_model(str(path))
    again = loaded(path)
    assert again.get_all_input_name() == network.get_all_input_name() == ["depth", "image", "label"]
    assert again.get_all_output_name() == ["logits", "features", "winner"]
    for name in ("image", "depth", "label"):
        shape = again.get_io_tensor(name).layout
        data = np.random.default_rng(40).integers(0, 3, shape.shapes).astype(shape.dtype)
        for used in (network, again):
            used.get_io_tensor(name).set_data_by_copy(data)
    for used in (network, again):
        used.forward()
        used.wait()
    for name in again.get_all_output_name():
        first, second = (used.get_io_tensor(name).to_numpy() for used in (network, again))
        assert first.size > 0 and (first == second).all()


# ---- 41: a tensor that took nothing once takes nothing any more -----------------------------------------------------


def test_danger_41_tensor_is_used_after_a_copy_of_nothing():
    tensor = LiteTensor(LiteLayout([2, 2], "float32"))
    nothing = LiteTensor(LiteLayout([0, 2], "float32"))
    for empty in (
        lambda: tensor.set_data_by_copy(np.zeros((0, 3), "float32")),
        lambda: tensor.set_data_by_share(np.zeros((2, 0), "float32")),
        lambda: tensor.copy_from(nothing),
        lambda: tensor.share_memory_with(nothing),
    ):
        empty()
        assert tensor.is_continue and tensor.nbytes == 0 and tensor.to_numpy().size == 0
        tensor.set_data_by_copy(np.ones((3, 2), "float32"))
        assert tensor.is_continue and tensor.to_numpy().tolist() == [[1, 1]] * 3
    network = loaded()
    assert run(network, IMAGES[:0]).shape == (0, 10)
    assert close(run(network), PROB)
