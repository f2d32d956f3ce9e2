"""Packages and unusual element types through LiteNetwork."""

import warnings

import numpy as np
import pytest
from support.api_samples import DIGITS, PROB, add, loaded, packed, run, two_inputs
from support.loader_samples import add_record, input_operator, operator, tensor, to_bytes

from megengine_lite import (
    LiteConfig,
    LiteExtraConfig,
    LiteIO,
    LiteIOType,
    LiteLayout,
    LiteNetwork,
    LiteNetworkIO,
    LiteWarning,
    get_model_io_info,
)
from megengine_lite._core.cpu.algorithms.cache import CACHE, serialize_cache
from megengine_lite._core.formats.mge.records import ModelRecord
from megengine_lite._core.ir.dtype import FLOAT16, FLOAT32, INT8, UINT16
from megengine_lite._core.ir.params import Host2DeviceCopy
from megengine_lite.errors import DeviceError, LiteError, ModelFormatError

pytestmark = pytest.mark.filterwarnings("ignore:the model is encrypted with the default key")


SETTINGS = {
    "device": {"type": "CPU", "device_id": 4, "number_threads": 2, "enable_inplace_model": True},
    "options": {"const_shape": True, "graph_opt_level": 0},
    "IO": {
        "inputs": [{"name": "a", "io_type": "value", "dtype": "float32", "shape": {"dim0": 1, "dim1": 3}}],
        "outputs": [{"name": "sum", "io_type": "shape"}],
    },
}


@pytest.mark.parametrize("method", ["NONE", "AES_default", "RC4_default", "SIMPLE_FAST_RC4_default"])
def test_packed_models_run(method):
    assert add(loaded(packed(method=method)), 1, 2).tolist() == [[3, 3, 3]] * 2
    assert [o.name for o in get_model_io_info(packed(method=method)).outputs] == ["sum"]


def test_method_of_the_configuration_is_ignored_for_packages():
    made = LiteConfig()
    made.bare_model_cryption_name = "AES_default"
    assert add(loaded(packed(method="RC4_default"), made), 1, 2).max() == 3


def test_settings_of_the_package_go_before_those_of_the_caller():
    network = loaded(packed(information=SETTINGS), threads_number=4, device_id=1)
    assert (network.threads_number, network.device_id, network.is_cpu_inplace_mode()) == (2, 4, True)
    assert network.get_io_tensor("a").layout == LiteLayout([1, 3], "float32")
    assert network.get_io_tensor("a").device_id == 4
    network.get_io_tensor("a").set_data_by_copy([1, 2, 3])
    network.forward()
    assert network.get_io_tensor("sum").to_numpy().tolist() == [[0, 0, 0]] * 2
    network.get_io_tensor("a").set_data_by_copy(np.zeros((2, 3), "float32"))
    with pytest.raises(LiteError, match="const_shape"):
        network.forward()


def test_settings_of_the_package_can_be_ignored():
    network = LiteNetwork()
    network.extra_configure(LiteExtraConfig(True))
    network.threads_number, network.device_id = 3, 1
    network.load(packed(information=SETTINGS))
    assert (network.threads_number, network.device_id, network.is_cpu_inplace_mode()) == (3, 1, False)
    assert add(network, 1, 2).tolist() == [[3, 3, 3]] * 2


def test_io_of_package_and_caller_are_merged_by_name():
    mine = LiteNetworkIO(
        [LiteIO("a", layout=LiteLayout([2, 3])), LiteIO("b", layout=LiteLayout([1, 3]))],
        [LiteIO("sum", io_type=LiteIOType.LITE_IO_VALUE)],
    )
    network = loaded(packed(information=SETTINGS), io=mine)
    assert network.get_io_tensor("a").layout.shapes == [1, 3]
    assert network.get_io_tensor("b").layout.shapes == [1, 3]


def _shape(*dims):
    return {f"dim{k}": d for k, d in enumerate(dims)}


@pytest.mark.parametrize(
    ("dims", "shape"), [((1, 3, 0, 0), [1, 3]), ((2, 3, 0), [2, 3]), ((0, 0, 0, 0), [2, 3]), ((1, 3), [1, 3])]
)
def test_zeros_at_the_end_of_a_shape_are_dimensions_that_are_not_there(dims, shape):
    """The sample in the original's own manual has ``"dim2": 0, "dim3": 0``."""
    io = {"inputs": [{"name": "a", "shape": _shape(*dims)}], "outputs": [{"name": "sum", "shape": _shape(2, 3, 0, 0)}]}
    network = loaded(packed(information={"IO": io}))
    assert network.get_io_tensor("a").layout.shapes == shape
    network.get_io_tensor("a").set_data_by_copy(np.full(shape, 1, "float32"))
    network.get_io_tensor("b").set_data_by_copy([2] * 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network.forward()
        assert network.get_io_tensor("sum").to_numpy().tolist() == [[3, 3, 3]] * 2


def test_output_layout_of_a_package_that_the_model_does_not_have_is_a_warning():
    io = {"outputs": [{"name": "sum", "dtype": "int8", "shape": _shape(1, 1000, 0, 0)}]}
    network = loaded(packed(information={"IO": io}))
    with pytest.warns(LiteWarning, match=r"output 'sum' has shape \[2, 3\].*the package, says \[1, 1000\] of int8"):
        assert add(network, 1, 2).tolist() == [[3, 3, 3]] * 2


def test_device_of_the_package_that_is_not_there():
    content = packed(information={"device": {"type": "CUDA"}})
    with pytest.raises(DeviceError, match="disable_model_config"):
        loaded(content)
    network = LiteNetwork()
    network.extra_configure(LiteExtraConfig(True))
    network.load(content)
    assert add(network, 1, 2).max() == 3


def test_information_that_is_not_valid_is_ignored():
    network = loaded(packed(information={**SETTINGS, "valid": False}), threads_number=3)
    assert network.threads_number == 3


@pytest.mark.parametrize(
    "content",
    [
        b"packed_model",
        b"packed_model" + b"\xff" * 40,
        b"packed_model" + bytes(40),
        packed()[:200],
        packed(information={"name": "other"}),
        packed(information={"version": None}),
        packed(information={"device": {"type": "TPU"}}),
        packed(information_parser="other"),
        packed(is_fast_run_cache=True, cache_parser="other", algorithm_cache=b"\0\0\0\0"),
    ],
)
def test_packages_that_are_damaged_or_contradict_themselves(content):
    with pytest.raises(ModelFormatError):
        loaded(content)


def test_cache_in_a_package():
    CACHE.clear()
    try:
        content = serialize_cache({b"megengine_lite:test": {b"k": b'[["a", 1.0, 0]]'}})
        network = loaded(packed(DIGITS.read_bytes(), is_fast_run_cache=True, algorithm_cache=content))
        assert network._engine.session.config.measured.lookup("megengine_lite:test", "k")[0].algorithm == "a"
        assert CACHE.lookup("megengine_lite:test", "k") is None
        assert np.abs(run(network) - PROB).max() < 1e-5
        bad = packed(DIGITS.read_bytes(), is_fast_run_cache=True, algorithm_cache=b"\xff" * 20)
        assert np.abs(run(loaded(bad)) - PROB).max() < 1e-5
    finally:
        CACHE.clear()


# ---- element types and dimensions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "name"), [(FLOAT16, "float16"), (INT8, "int8")])
def test_inputs_and_outputs_of_other_types(dtype, name):
    network = loaded(two_inputs((2, 3), dtype))
    source = np.arange(6).reshape(2, 3).astype(name)
    for side in ("a", "b"):
        network.get_io_tensor(side).set_data_by_share(source)
    network.forward()
    result = network.get_io_tensor("sum").to_numpy()
    assert result.dtype == name and result.tolist() == (source * 2).tolist()
    assert [i.config_layout.dtype for i in get_model_io_info(two_inputs((2, 3), dtype)).inputs] == [source.dtype] * 2


def test_uint16_goes_through():
    record = ModelRecord("v2", 101300, [input_operator(0, "a", (3,), UINT16)], [(0, "same")])
    network = loaded(to_bytes(record))
    network.get_io_tensor("a").set_data_by_copy([1, 2, 65535])
    network.forward()
    result = network.get_io_tensor("same").to_numpy()
    assert result.dtype == np.uint16 and result.tolist() == [1, 2, 65535]


def test_seven_dimensions():
    shape = (1, 2, 1, 2, 1, 2, 3)
    network = loaded(two_inputs(shape, add_record().operators[0].tensors[0].dtype))
    source = np.arange(24, dtype="float32").reshape(shape)
    network.get_io_tensor("a").set_data_by_copy(source)
    network.forward()
    assert (network.get_io_tensor("sum").to_numpy() == source).all()


def test_input_and_output_of_the_same_name():
    record = ModelRecord("v2", 101300, [input_operator(0, "x", (2,))], [(0, "x")])
    network = loaded(to_bytes(record))
    network.get_io_tensor("x").set_data_by_copy([1, 2])
    network.forward()
    assert network.get_io_tensor("x") is network.get_io_tensor("x", 1)
    assert network.get_io_tensor("x", 2).to_numpy().tolist() == [1, 2]


def test_default_values_of_inputs():
    content = np.arange(6, dtype="float32").reshape(2, 3)
    with_default = operator(
        "Host2DeviceCopy",
        (),
        (0,),
        Host2DeviceCopy(dump_default_value=True),
        [tensor((2, 3), FLOAT32, content, name="a")],
    )
    record = add_record()
    record.operators[0] = with_default
    network = loaded(to_bytes(record))
    network.forward()
    assert network.get_io_tensor("sum").to_numpy().tolist() == content.tolist()
    assert add(network, 1, 2).max() == 3
    smaller = loaded(to_bytes(record), io=LiteNetworkIO([LiteIO("a", layout=[1, 3])]))
    smaller.forward()
    assert smaller.get_io_tensor("sum").to_numpy().max() == 0
