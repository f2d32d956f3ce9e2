"""LiteOptions, LiteConfig, LiteExtraConfig, LiteIO, LiteNetworkIO."""

import copy
import pickle

import numpy as np
import pytest

from megengine_lite import (
    LiteConfig,
    LiteDeviceType,
    LiteExtraConfig,
    LiteIO,
    LiteIOType,
    LiteLayout,
    LiteNetworkIO,
    LiteOptions,
)
from megengine_lite.errors import LiteArgumentError, LiteAttributeError, LiteError, LiteTypeError, LiteValueError

FIELDS = [
    *["weight_preprocess", "fuse_preprocess", "fake_next_exec", "var_sanity_check_first_run", "const_shape"],
    *["force_dynamic_alloc", "force_output_dynamic_alloc", "force_output_use_user_specified_memory"],
    *["no_profiling_on_shape_change", "jit_level", "comp_node_seq_record_level", "graph_opt_level", "async_exec_level"],
    *["enable_nchw44", "enable_nchw44_dot", "enable_nchw88", "enable_nhwcd4", "enable_nchw4", "enable_nchw32"],
    "enable_nchw64",
]
DEFAULTS = {"var_sanity_check_first_run": 1, "graph_opt_level": 2, "async_exec_level": 1}


def test_options_defaults():
    options = LiteOptions()
    assert {name: getattr(options, name) for name in FIELDS} == {name: DEFAULTS.get(name, 0) for name in FIELDS}


def test_options_repr_has_the_first_thirteen():
    shown = eval(repr(LiteOptions()))
    assert list(shown) == FIELDS[:13]
    assert shown["const_shape"] is False and shown["graph_opt_level"] == 2


@pytest.mark.parametrize("value", [1, True, np.int32(1), 7, -3])
def test_options_take_integers(value):
    options = LiteOptions()
    options.const_shape = value
    assert options.const_shape == value and type(options.const_shape) is int


@pytest.mark.parametrize("value", [1.0, "1", None])
def test_options_of_other_types(value):
    options = LiteOptions()
    with pytest.raises(LiteTypeError):
        options.const_shape = value


def test_options_unknown_names():
    options = LiteOptions()
    with pytest.raises(AttributeError, match="did you mean 'weight_preprocess'") as caught:
        options.weight_preproces = 1
    assert isinstance(caught.value, LiteError)
    with pytest.raises(LiteAttributeError, match="did you mean 'weight_preprocess'"):
        _ = options.weight_prepocess
    with pytest.raises(AttributeError, match="CUDA"):
        options.enable_chwn4 = 1
    assert not hasattr(options, "enable_chwn4")


def test_options_record_level_is_another_name():
    options = LiteOptions()
    options.record_level = 2
    assert options.comp_node_seq_record_level == options.record_level == 2


def test_config_defaults_and_repr():
    config = LiteConfig()
    assert (config.has_compression, config.device_id, config.device_type, config.backend) == (0, 0, 0, 0)
    assert (config.bare_model_cryption_name, config.discrete_input_name) == ("", b"")
    assert (config.auto_optimize_inference, config.use_loader_dynamic_param) == (0, 0)
    assert repr(config) == (
        "{'has_compression': False, 'device_id': 0, 'device_type': <LiteDeviceType.LITE_CPU: 0>, "
        "'backend': <LiteBackend.LITE_DEFAULT: 0>, 'bare_model_cryption_name': '', "
        f"'options': {LiteOptions()}, 'auto_optimize_inference': 0, 'discrete_input_name': b''}}"
    )


@pytest.mark.parametrize("device_id", [2, 6, 8, 9])
def test_config_repr_of_any_device_id(device_id):
    config = LiteConfig()
    config.device_id = device_id
    assert f"'device_id': {device_id}," in repr(config)


@pytest.mark.parametrize("name", ["AES_default", b"AES_default"])
def test_config_names_as_text_and_bytes(name):
    config = LiteConfig()
    config.bare_model_cryption_name = name
    config.discrete_input_name = name
    assert (config.bare_model_cryption_name, config.discrete_input_name) == ("AES_default", b"AES_default")
    for wrong in (3, None):
        with pytest.raises(AssertionError):
            config.bare_model_cryption_name = wrong


def test_config_copies_its_options():
    options = LiteOptions()
    config = LiteConfig(LiteDeviceType.LITE_CPU, options)
    options.jit_level = 1
    assert config.options.jit_level == 0
    config.options.jit_level = 2
    assert config.options.jit_level == 2
    config.options = options
    options.jit_level = 5
    assert config.options.jit_level == 1
    with pytest.raises(LiteTypeError):
        config.options = {"jit_level": 1}


def test_config_unknown_names():
    with pytest.raises(AttributeError, match="did you mean 'device_type'"):
        LiteConfig().devicetype = 1
    with pytest.raises(LiteAttributeError, match="LiteExtraConfig has no field 'x'; it has disable_configure_by"):
        _ = LiteExtraConfig().x


@pytest.mark.parametrize("name", ["graph_opt_level", "jit_level", "record_level", "graph_opt_levl", "jit_levle"])
def test_config_says_that_an_option_is_one_of_its_options(name):
    config = LiteConfig()
    meant = {"graph_opt_levl": "graph_opt_level", "jit_levle": "jit_level"}.get(name, name)
    with pytest.raises(LiteAttributeError, match=f"has no field '{name}'; did you mean 'options.{meant}'"):
        getattr(config, name)
    with pytest.raises(LiteAttributeError, match=f"has no field '{name}'; did you mean 'options.{meant}'"):
        setattr(config, name, 0)
    assert not hasattr(config, name)


def test_config_copies_and_pickles():
    config = LiteConfig()
    config.options.const_shape = 1
    config.bare_model_cryption_name = "x"
    for twin in (copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert repr(twin) == repr(config)
        twin.options.const_shape = 0
    assert config.options.const_shape == 1


def test_extra_config():
    assert LiteExtraConfig().disable_configure_by_model_info == 0
    assert repr(LiteExtraConfig(True)) == "{'disable_configure_by_model_info': True}"
    with pytest.raises(LiteTypeError):
        LiteExtraConfig("yes")


@pytest.mark.parametrize("name", ["data", "数据"])
def test_io_name_as_text_and_bytes(name):
    assert LiteIO(name).name == LiteIO(name.encode()).name == name


@pytest.mark.parametrize("name", [None, 3])
def test_io_name_of_other_types(name):
    with pytest.raises(LiteTypeError):
        LiteIO(name)
    with pytest.raises(LiteArgumentError):
        LiteIO("data").name = name


def test_io_fields():
    layout = LiteLayout([2, 3], "int8")
    io = LiteIO("data", False, LiteIOType.LITE_IO_SHAPE, layout)
    layout.shapes = [9]
    assert (io.is_host, io.io_type, io.config_layout) == (0, LiteIOType.LITE_IO_SHAPE, LiteLayout([2, 3], "int8"))
    assert repr(io) == (
        "{'name': 'data', 'is_host': False, 'io_type': <LiteIOType.LITE_IO_SHAPE: 1>, "
        "'config_layout': {'shapes': [2, 3], 'ndim': 2, 'data_type': <class 'numpy.int8'>}}"
    )
    assert LiteIO("data", layout=[4, 5]).config_layout == LiteLayout([4, 5])
    with pytest.raises(LiteValueError):
        LiteIO("data", io_type=7)


def test_io_compares_and_hashes_like_its_name():
    io = LiteIO("data")
    assert io == LiteIO("data", False) and io != LiteIO("other") and io == "data" and io != 3
    table = {io: 1}
    assert table["data"] == table[LiteIO("data")] == 1


def test_network_io():
    io = LiteNetworkIO([LiteIO("a"), ["b", False], ("c", True, LiteIOType.LITE_IO_SHAPE), "d", b"e"], ["out"])
    io.add_input("f", False)
    io.add_input(LiteIO("g"))
    io.add_output(b"out2", layout=LiteLayout([1, 1000]))
    assert [i.name for i in io.inputs] == list("abcdefg")
    assert [i.is_host for i in io.inputs] == [1, 0, 1, 1, 1, 0, 1]
    assert io.inputs[2].io_type == LiteIOType.LITE_IO_SHAPE
    assert [o.config_layout.shapes for o in io.outputs] == [[], [1, 1000]]
    counts = io._create_network_io()
    assert (counts.input_size, counts.output_size) == (7, 2)
    assert repr(io) == str({"inputs": io.inputs, "outputs": io.outputs})


@pytest.mark.parametrize("items", ["data", b"data", LiteIO("data"), 3])
def test_network_io_that_is_no_list(items):
    with pytest.raises(LiteTypeError, match="list"):
        LiteNetworkIO(items)
    with pytest.raises(LiteTypeError, match="list"):
        LiteNetworkIO(outputs=items)


@pytest.mark.parametrize("item", [3, [], None, {"name": "a"}])
def test_network_io_of_other_things(item):
    with pytest.raises(LiteTypeError):
        LiteNetworkIO([item])
