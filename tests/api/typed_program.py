"""A user's program with strict types: every public name, used as it is meant to be.

``test_typing.py`` runs it, and checks it with ``mypy --strict``.
"""

from __future__ import annotations

import array
import ctypes
import pickle
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

import megengine_lite as lite
from megengine_lite import (
    LiteAlgoSelectStrategy,
    LiteBackend,
    LiteConfig,
    LiteDataType,
    LiteDeviceType,
    LiteExtraConfig,
    LiteGlobal,
    LiteIO,
    LiteIOType,
    LiteLayout,
    LiteLogLevel,
    LiteNetwork,
    LiteNetworkIO,
    LiteOptions,
    LiteTensor,
    LiteTensorConcat,
    LiteTensorPhase,
    TensorBatchCollector,
    ctype_to_lite_dtypes,
    decryption_func,
    get_model_io_info,
    lite_dtype_2_numpy,
    register_operator,
    unregister_operator,
)
from megengine_lite.custom_operator import OperatorInfo, TensorInfo
from megengine_lite.errors import (
    InternalError,
    LiteArgumentError,
    LiteAttributeError,
    LiteFileNotFoundError,
    LiteIndexError,
    LiteIsADirectoryError,
    LiteMemoryError,
    LiteOSError,
    LitePermissionError,
    LiteTypeError,
    LiteValueError,
)
from megengine_lite.model import Model, Outputs

if TYPE_CHECKING:
    from typing_extensions import assert_type
else:
    T = TypeVar("T")

    def assert_type(value: T, _: object) -> T:
        return value


def layouts() -> list[int]:
    layout = LiteLayout([1, 3], "uint8")
    for dtype in (LiteDataType.LITE_HALF, 2, "int16", np.dtype("int8"), np.float32, None):
        layout = LiteLayout((2, 3), dtype)
    layout.shapes = (4, 5)
    layout.ndim = 2
    layout.data_type = LiteDataType.LITE_INT
    assert_type(layout.ndim, int)
    assert_type(layout.data_type, LiteDataType)
    assert_type(layout.dtype, "type[np.generic]")
    assert_type(lite_dtype_2_numpy(LiteDataType.LITE_INT), "type[np.generic]")
    assert_type(ctype_to_lite_dtypes[ctypes.c_int], LiteDataType)
    assert_type(lite.MAX_DIM, int)
    return assert_type(layout.shapes, "list[int]")


def tensors() -> list[float]:
    tensor = LiteTensor(LiteLayout([2, 2], "float32"), LiteDeviceType.LITE_CPU, 0, False)
    other = LiteTensor(shapes=[2, 2], dtype=np.float32, device_type=LiteDeviceType.LITE_DEVICE_DEFAULT)
    tensor.layout = LiteLayout([2, 2])
    tensor.layout = [4]
    tensor.reshape((2, -1))
    tensor.set_data_by_copy([[1.0, 2.0], [3.0, 4.0]])
    tensor.set_data_by_copy(tensor.get_ctypes_memory(), data_length=16)
    tensor.set_data_by_copy(np.ones((2, 2), "float32"), layout=LiteLayout([4]))
    tensor.set_data_by_share(array.array("f", [1, 2, 3, 4]), length=16)
    other.copy_from(tensor)
    other.share_memory_with(tensor)
    other.update()
    window = assert_type(tensor.slice([1], [3], [1]), LiteTensor)
    assert_type(assert_type(tensor.layout, LiteLayout).shapes, "list[int]")
    assert_type((tensor.is_pinned_host, tensor.is_continue), "tuple[bool, bool]")
    assert_type((tensor.nbytes, tensor.device_id), "tuple[int, int]")
    assert_type(tensor.device_type, LiteDeviceType)
    joined = LiteTensorConcat([window, LiteTensor.from_dlpack(np.from_dlpack(tensor))], dim=0)
    memory, view, seen = memoryview(joined), joined.get_data_by_share(), np.asarray(joined)
    assert memory.nbytes == view.nbytes == seen.nbytes
    copied: LiteTensor = pickle.loads(pickle.dumps(joined))
    joined.fill_zero()
    numbers: list[float] = copied.to_numpy().tolist()
    return numbers


def collectors() -> tuple[int, int, int]:
    batch = TensorBatchCollector([4, 2], dtype="int32", device_type=LiteDeviceType.LITE_CPU)
    sample = np.ones(2, "int32")
    ids = (batch.collect(sample), batch.collect_id(sample, 2), batch.collect_by_ctypes(sample.ctypes.data, 8))
    batch.free(range(1))
    assert_type(batch.get_tensor_at(2), LiteTensor).fill_zero()
    assert assert_type(batch.get(), LiteTensor).nbytes == batch.to_numpy().nbytes
    assert_type((batch.dtype, batch.device_id, batch.dev_id), "tuple[int, int, int]")
    assert (batch.shape, batch.dev_type, batch.is_pinned_host) == ([4, 2], batch.device_type, False)
    return assert_type(ids, "tuple[int, int, int]")


def settings() -> LiteConfig:
    options = LiteOptions()
    options.weight_preprocess = True
    options.comp_node_seq_record_level = options.record_level = 0
    config = LiteConfig(LiteDeviceType.LITE_CPU, options)
    config.backend = LiteBackend.LITE_DEFAULT
    config.bare_model_cryption_name = b""
    config.discrete_input_name = ""
    config.options.graph_opt_level = 2
    assert_type(config.bare_model_cryption_name, str)
    return config


def networks(model: Path, folder: Path) -> list[str]:
    ios = LiteNetworkIO(
        [LiteIO("data", is_host=True, io_type=LiteIOType.LITE_IO_VALUE, layout=LiteLayout([1, 1, 8, 8]))]
    )
    ios.add_output("prob")
    network = LiteNetwork(settings(), ios)
    network.device_id, network.stream_id, network.threads_number = 0, 0, 2
    network.precision = "float32"
    assert network.precision == "float32"
    network.narrow_double = False
    assert not network.narrow_double
    network.extra_configure(LiteExtraConfig(False))
    for source in (str(model), model, model.read_bytes()):
        network = LiteNetwork(settings(), ios)
        network.load(source)
    log: list[str] = []

    def on_start(inputs: Any) -> int:
        log.extend(f"start {io.name}" for io in inputs)
        return 0

    def on_finish(outputs: Any) -> None:
        log.extend(f"finish {io.name}" for io in outputs)

    network.set_start_callback(on_start)
    network.set_finish_callback(on_finish)
    network.set_network_algo_policy(
        LiteAlgoSelectStrategy.LITE_ALGO_HEURISTIC | LiteAlgoSelectStrategy.LITE_ALGO_REPRODUCIBLE
    )
    network.set_network_algo_workspace_limit(1 << 20)
    network.enable_profile_performance(folder / "profile.json")
    network.io_txt_dump(folder / "io.txt")
    network.io_bin_dump(folder / "io")
    network.get_static_memory_alloc_info(folder / "memory")
    network.report(runs=1).save(folder / "report.html")
    network.prepare(folder / "prepared")
    assert_type(network.get_io_tensor("data", LiteTensorPhase.LITE_INPUT), LiteTensor).fill_zero()
    network.forward()
    network.wait()
    inplace = LiteNetwork()
    inplace.enable_cpu_inplace_mode()
    assert assert_type(inplace.is_cpu_inplace_mode(), bool)
    twin = LiteNetwork()
    twin.share_runtime_memory(network)
    twin.share_weights_with(network)
    twin.async_with_callback(lambda: log.append("async"))
    twin.get_io_tensor(twin.get_input_name(0)).fill_zero()
    twin.forward()
    twin.wait()
    log += assert_type(network.get_all_input_name(), "list[str]") + network.get_all_output_name()
    log.append(assert_type(network.get_output_name(0), str))
    info = assert_type(get_model_io_info(model, settings()), LiteNetworkIO)
    return log + [f"{io.name} {io.config_layout.shapes}" for io in info.inputs]


def transformed(model: Path, folder: Path) -> bool:
    network = LiteNetwork()
    network.enable_global_layout_transform()
    network.load(model)
    network.dump_layout_transform_model(folder / "transformed.mge")
    return (folder / "transformed.mge").exists()


def global_settings(folder: Path) -> int:
    @decryption_func
    def xor(in_arr: Any, key_arr: Any, out_arr: Any) -> int:
        if not out_arr:
            return int(in_arr.size)
        out_arr[:] = in_arr ^ key_arr[0]
        return int(out_arr.size)

    LiteGlobal.register_decryption_and_key("typed program", xor, [15])
    LiteGlobal.update_decryption_key("typed program", b"\x10")
    LiteGlobal.set_persistent_cache(folder / "cache", always_sync=False)
    LiteGlobal.dump_persistent_cache(folder / "cache")
    LiteGlobal.try_coalesce_all_free_memory()
    virtual, physical = ctypes.c_void_p(4096), ctypes.c_void_p(8192)
    LiteGlobal.register_memory_pair(virtual, physical, 64, LiteDeviceType.LITE_CPU)
    assert_type(LiteGlobal.lookup_physic_ptr(virtual, LiteDeviceType.LITE_CPU), ctypes.c_void_p)
    LiteGlobal.clear_memory_pair(virtual, physical, LiteDeviceType.LITE_CPU, LiteBackend.LITE_DEFAULT)
    lite.set_log_level(LiteLogLevel.ERROR)
    assert_type(lite.get_log_level(), LiteLogLevel)
    assert_type((lite.version, lite.__version__), "tuple[str, str]")
    assert_type(lite.cpu_info(), "dict[str, object]")
    return assert_type(LiteGlobal.get_device_count(LiteDeviceType.LITE_CPU), int)


def operators() -> str:
    def same(op: OperatorInfo, inputs: list[TensorInfo]) -> list[TensorInfo]:
        return inputs

    @register_operator("TypedProgram", infer=same)
    def compute(op: OperatorInfo, inputs: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        return inputs[0]

    unregister_operator("TypedProgram")
    return compute.__name__


def models(file: Path, image: np.ndarray[Any, Any]) -> list[str]:
    with lite.load(file, threads=1, workers=2) as model:
        assert_type(model, Model)
        model.warmup(image)
        assert_type(model(image), Outputs)
        (first,) = model(image)
        assert_type(first, "np.ndarray[tuple[Any, ...], np.dtype[Any]]")
        assert_type(dict(model(image)), "dict[str, np.ndarray[tuple[Any, ...], np.dtype[Any]]]")
        assert_type(model(data=image)["prob"], "np.ndarray[tuple[Any, ...], np.dtype[Any]]")
        assert_type(model.run_async(image).result()[0], "np.ndarray[tuple[Any, ...], np.dtype[Any]]")
        names = [d.name for d in (*model.inputs, *model.outputs)]
        return names + [name for outputs in model.map([image], batch_size=2) for name, _ in outputs.items()]


def exported(file: Path, folder: Path) -> int:
    result = lite.export_onnx(file, folder / "model.onnx", opset=17, static=True, verify=False)
    assert_type(result.checked, bool)
    return len((folder / "model.onnx").read_bytes())


def errors(folder: Path) -> list[str]:
    """Names of the errors that wrong calls raise."""
    network, tensor = LiteNetwork(), LiteTensor([2])
    raised = []
    for call in (
        lambda: network.load(folder / "missing.mge"),
        lambda: network.load(b"no model"),
        lambda: network.forward(),
        lambda: tensor.reshape([3]),
        lambda: tensor.slice([0, 0], [1, 1]),
        lambda: tensor.slice([0], [1], [0]),
        lambda: tensor.copy_from(LiteTensor(device_type=LiteDeviceType.LITE_CUDA)),
        lambda: tensor.set_data_by_copy([1, 2, 3]),
        lambda: tensor.set_data_by_copy(np.zeros(2)),
        lambda: setattr(LiteOptions(), "no_option", 1),
        lambda: LiteGlobal.set_loader_lib_path(folder / "missing.so"),
    ):
        try:
            call()
        except (LiteFileNotFoundError, LiteIsADirectoryError, LitePermissionError, LiteOSError) as error:
            raised.append(type(error).__name__)
        except (LiteMemoryError, LiteIndexError, LiteValueError, LiteArgumentError, LiteTypeError) as error:
            raised.append(type(error).__name__)
        except (lite.DeviceError, lite.ShapeError, lite.ModelFormatError, lite.DecryptionError) as error:
            raised.append(type(error).__name__)
        except (LiteAttributeError, InternalError, lite.UnsupportedOperatorError, lite.LiteError) as error:
            raised.append(type(error).__name__)
    with warnings.catch_warnings():
        warnings.simplefilter("error", lite.LiteWarning)
        try:
            network.use_tensorrt()
        except lite.LiteWarning as warning:
            raised.append(type(warning).__name__)
    return raised
