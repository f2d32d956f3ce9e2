"""Every declaration of the API's reference document: signatures, enumerations, fields, properties, and their rules."""

import inspect
import json
from ctypes import c_void_p

import numpy as np
import pytest
from support.api_samples import DIGITS, IMAGES, PROB

from megengine_lite import (
    LiteAlgoSelectStrategy,
    LiteBackend,
    LiteConfig,
    LiteDataType,
    LiteDeviceType,
    LiteGlobal,
    LiteIO,
    LiteIOType,
    LiteLayout,
    LiteLogLevel,
    LiteNetwork,
    LiteNetworkIO,
    LiteOptions,
    LiteTensor,
    LiteTensorPhase,
    TensorBatchCollector,
    set_log_level,
)
from megengine_lite.log import LEVELS, logger

REQUIRED = inspect.Parameter.empty
CPU, CUDA = LiteDeviceType.LITE_CPU, LiteDeviceType.LITE_CUDA
SIGNATURES = {
    LiteLayout.__init__: {"shape": None, "dtype": None},
    LiteTensor.__init__: {
        "layout": None,
        "device_type": CPU,
        "device_id": 0,
        "is_pinned_host": False,
        "shapes": None,
        "dtype": None,
    },
    LiteTensor.get_ctypes_memory: {},
    LiteTensor.reshape: {"shape": REQUIRED},
    LiteTensor.slice: {"start": REQUIRED, "end": REQUIRED, "step": None},
    LiteTensor.fill_zero: {},
    LiteTensor.copy_from: {"src_tensor": REQUIRED},
    LiteTensor.share_memory_with: {"src_tensor": REQUIRED},
    LiteTensor.update: {},
    LiteTensor.set_data_by_copy: {"data": REQUIRED, "data_length": 0, "layout": None},
    LiteTensor.set_data_by_share: {"data": REQUIRED, "length": 0, "layout": None},
    LiteTensor.get_data_by_share: {},
    LiteTensor.to_numpy: {},
    LiteNetworkIO.__init__: {"inputs": None, "outputs": None},
    LiteNetwork.__init__: {"config": None, "io": None},
    LiteNetwork.forward: {},
    LiteNetwork.wait: {},
    LiteNetwork.get_input_name: {"index": REQUIRED},
    LiteNetwork.get_output_name: {"index": REQUIRED},
    LiteNetwork.get_all_input_name: {},
    LiteNetwork.get_all_output_name: {},
    LiteNetwork.get_static_memory_alloc_info: {"log_dir": "logs/test"},
    LiteNetwork.is_cpu_inplace_mode: {},
    LiteNetwork.enable_cpu_inplace_mode: {},
    LiteNetwork.use_tensorrt: {},
    LiteNetwork.get_io_tensor: {"name": REQUIRED, "phase": LiteTensorPhase.LITE_IO},
    LiteNetwork.share_weights_with: {"src_network": REQUIRED},
    LiteNetwork.share_runtime_memroy: {"src_network": REQUIRED},
    LiteNetwork.async_with_callback: {"async_callback": REQUIRED},
    LiteNetwork.set_start_callback: {"start_callback": REQUIRED},
    LiteNetwork.set_finish_callback: {"finish_callback": REQUIRED},
    LiteNetwork.enable_profile_performance: {"profile_file": REQUIRED},
    LiteNetwork.set_network_algo_workspace_limit: {"size_limit": REQUIRED},
    LiteNetwork.set_network_algo_policy: {
        "policy": REQUIRED,
        "shared_batch_size": 0,
        "binary_equal_between_batch": False,
    },
    LiteNetwork.io_txt_dump: {"txt_file": REQUIRED},
    LiteNetwork.io_bin_dump: {"bin_dir": REQUIRED},
    LiteGlobal.register_decryption_and_key: {"decryption_name": REQUIRED, "decryption_func": REQUIRED, "key": REQUIRED},
    LiteGlobal.update_decryption_key: {"decryption_name": REQUIRED, "key": REQUIRED},
    LiteGlobal.set_loader_lib_path: {"path": REQUIRED},
    LiteGlobal.set_persistent_cache: {"path": REQUIRED, "always_sync": False},
    LiteGlobal.dump_persistent_cache: {"path": REQUIRED},
    LiteGlobal.get_device_count: {"device_type": REQUIRED},
    LiteGlobal.try_coalesce_all_free_memory: {},
    LiteGlobal.set_tensorrt_cache: {"path": REQUIRED},
    LiteGlobal.dump_tensorrt_cache: {},
    LiteGlobal.register_memory_pair: {
        "vir_ptr": REQUIRED,
        "phy_ptr": REQUIRED,
        "length": REQUIRED,
        "device": REQUIRED,
        "backend": LiteBackend.LITE_DEFAULT,
    },
    LiteGlobal.clear_memory_pair: {
        "vir_ptr": REQUIRED,
        "phy_ptr": REQUIRED,
        "device": REQUIRED,
        "backend": LiteBackend.LITE_DEFAULT,
    },
    LiteGlobal.lookup_physic_ptr: {"vir_ptr": REQUIRED, "device": REQUIRED, "backend": LiteBackend.LITE_DEFAULT},
    TensorBatchCollector.__init__: {
        "shape": REQUIRED,
        "dtype": LiteDataType.LITE_INT8,
        "device_type": CUDA,
        "device_id": 0,
        "is_pinned_host": False,
        "tensor": None,
    },
    TensorBatchCollector.collect_id: {"array": REQUIRED, "batch_id": REQUIRED},
    TensorBatchCollector.collect_by_ctypes: {"data": REQUIRED, "length": REQUIRED},
    TensorBatchCollector.collect: {"array": REQUIRED},
    TensorBatchCollector.free: {"indexes": REQUIRED},
    TensorBatchCollector.get: {},
    TensorBatchCollector.to_numpy: {},
}


@pytest.mark.parametrize("function", SIGNATURES, ids=lambda f: f.__qualname__)
def test_signatures(function):
    found = {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self" and parameter.kind is not inspect.Parameter.KEYWORD_ONLY  # those are ours
    }
    assert found == SIGNATURES[function] and list(found) == list(SIGNATURES[function])


def test_signature_of_load():
    # The document calls the parameter path; in 1.13 it is called file.
    _, file, *ours = inspect.signature(LiteNetwork.load).parameters.values()
    assert file.name == "file"
    assert [(p.name, p.kind, p.default) for p in ours] == [("prepared", inspect.Parameter.KEYWORD_ONLY, None)]


def test_enumerations():
    assert [(d.name, d.value) for d in LiteDeviceType if d.name != "LITE_CAMBRICON"] == [
        ("LITE_CPU", 0),
        ("LITE_CUDA", 1),
        ("LITE_ATLAS", 3),
        ("LITE_NPU", 4),
        ("LITE_DEVICE_DEFAULT", 7),  # 5 in the document, which is older
    ]
    assert {s.name: s.value for s in LiteAlgoSelectStrategy} == {
        "LITE_ALGO_HEURISTIC": 1,
        "LITE_ALGO_PROFILE": 2,
        "LITE_ALGO_REPRODUCIBLE": 4,
        "LITE_ALGO_OPTIMIZED": 8,
    }
    assert {s.name: s.value for s in LiteLogLevel} == {"DEBUG": 0, "INFO": 1, "WARN": 2, "ERROR": 3}
    assert [(p.name, p.value) for p in LiteTensorPhase] == [("LITE_IO", 0), ("LITE_INPUT", 1), ("LITE_OUTPUT", 2)]
    assert [(t.name, t.value) for t in LiteIOType] == [("LITE_IO_VALUE", 0), ("LITE_IO_SHAPE", 1)]


OPTIONS = (
    "weight_preprocess fuse_preprocess fake_next_exec var_sanity_check_first_run const_shape force_dynamic_alloc "
    "force_output_dynamic_alloc force_output_use_user_specified_memory no_profiling_on_shape_change jit_level "
    "comp_node_seq_record_level graph_opt_level async_exec_level enable_nchw44 enable_nchw44_dot enable_nchw88 "
    "enable_nhwcd4 enable_nchw4 enable_nchw32 enable_nchw64"
).split()
FIELDS = {
    LiteOptions: dict.fromkeys(OPTIONS, 0) | dict.fromkeys(["var_sanity_check_first_run", "async_exec_level"], 1),
    LiteConfig: {"has_compression": 0, "device_id": 0, "device_type": 0, "backend": 0, "bare_model_cryption_name": ""},
    LiteIO: {"name": "data", "is_host": True, "io_type": LiteIOType.LITE_IO_VALUE, "config_layout": LiteLayout()},
}
FIELDS[LiteOptions]["graph_opt_level"] = 2


@pytest.mark.parametrize("kind", FIELDS)
def test_fields(kind):
    made = kind("data") if kind is LiteIO else kind()
    assert {name: getattr(made, name) for name in FIELDS[kind]} == FIELDS[kind]
    values = {"bare_model_cryption_name": "AES_default", "name": "other", "config_layout": LiteLayout([2, 3], "int8")}
    for name in FIELDS[kind]:
        value = values.get(name, 1)
        setattr(made, name, value)
        assert getattr(made, name) == value


def test_options_are_a_field_of_the_configuration():
    config = LiteConfig()
    config.options.const_shape = 1
    assert isinstance(config.options, LiteOptions) and config.options.const_shape == 1


def test_properties_of_tensors():
    tensor = LiteTensor(LiteLayout([2, 3], "int16"))
    expected = {"is_pinned_host": False, "device_type": CPU, "device_id": 0, "is_continue": True, "nbytes": 12}
    assert {name: getattr(tensor, name) for name in expected} == expected
    tensor.layout = LiteLayout([4], "float32")
    assert tensor.layout == LiteLayout([4], "float32") and tensor.nbytes == 16
    for name in expected:
        with pytest.raises(AttributeError):
            setattr(tensor, name, 1)


def test_rules_for_tensors():
    tensor, source = LiteTensor(LiteLayout([2, 3], "int16")), LiteTensor(LiteLayout([4], "int8"))
    assert isinstance(tensor.get_ctypes_memory(), c_void_p) and tensor.get_ctypes_memory().value
    with pytest.raises(RuntimeError):
        tensor.reshape([7])  # as many elements as before
    tensor.reshape([3, 2])
    assert tensor.layout.shapes == [3, 2]
    source.set_data_by_copy([1, 2, 3, 4])
    tensor.copy_from(source)  # takes the layout over
    assert tensor.layout == source.layout and tensor.to_numpy().tolist() == [1, 2, 3, 4]
    tensor.update()
    tensor.fill_zero()
    assert tensor.to_numpy().tolist() == [0] * 4 and source.to_numpy().tolist() == [1, 2, 3, 4]
    array = np.arange(4, dtype="int8")
    tensor.set_data_by_copy(c_void_p(array.ctypes.data), data_length=4)
    assert tensor.to_numpy().tolist() == [0, 1, 2, 3]
    tensor.set_data_by_share(c_void_p(array.ctypes.data), layout=LiteLayout([2, 2], "int8"))
    array += 1
    assert tensor.to_numpy().tolist() == [[1, 2], [3, 4]]


def test_settings_of_networks():
    network = LiteNetwork()
    network.device_id, network.stream_id, network.threads_number = 1, 2, 2
    network.enable_cpu_inplace_mode()
    network.load(str(DIGITS))
    assert (network.device_id, network.stream_id, network.threads_number) == (1, 2, 2)
    assert network.is_cpu_inplace_mode()
    for name in ("device_id", "stream_id", "threads_number"):
        with pytest.raises(RuntimeError):
            setattr(network, name, 1)
    for call in (network.enable_cpu_inplace_mode, network.use_tensorrt):
        with pytest.raises(RuntimeError):
            call()


def test_files_of_networks(tmp_path):
    network = LiteNetwork()
    network.load(str(DIGITS))
    network.get_io_tensor("data").set_data_by_copy(IMAGES)
    network.enable_profile_performance(str(tmp_path / "profile.json"))
    network.io_txt_dump(str(tmp_path / "io.txt"))
    network.forward()
    network.wait()
    assert set(json.loads((tmp_path / "profile.json").read_text())) >= {"graph_exec", "profiler"}
    assert "name=prob" in (tmp_path / "io.txt").read_text()
    network.io_bin_dump(str(tmp_path / "io"))
    network.forward()
    network.wait()
    ends = [path.read_bytes()[-PROB.nbytes :] for path in sorted((tmp_path / "io").iterdir())]
    assert any(len(end) == PROB.nbytes and np.allclose(np.frombuffer(end, "float32"), PROB.ravel()) for end in ends)


def test_log_level():
    try:
        for level in LiteLogLevel:
            set_log_level(level)
            assert logger.level == LEVELS[level]
    finally:
        set_log_level(LiteLogLevel.ERROR)
