"""What a device does not do: exceptions of its own, settings that it ignores, and what the debug ladder shows of it."""

import warnings

import numpy as np
import pytest
from support.api_samples import ADD, add, loaded
from support.devices import OURS, device_io, network, on_device, settings
from support.numpy_device import NumpyPlan

from megengine_lite import LiteConfig, LiteGlobal, LiteNetwork, LiteTensor
from megengine_lite._core.device.interface import PLAN_SETTINGS
from megengine_lite._core.system import debug
from megengine_lite.errors import InternalError, LiteError, LiteMemoryError, LiteWarning

pytestmark = pytest.mark.usefixtures("device")


def test_run_that_fails_on_the_device_is_told_by_forward(device, monkeypatch):
    def broken(memory, *arguments):
        raise LiteError("the device has burnt")

    net = network(ADD, async_exec_level=0)
    with monkeypatch.context() as patch:
        patch.setattr("support.numpy_device.run_node", broken)
        with pytest.raises(LiteError, match="burnt"):
            add(net, 1, 1)
    assert add(net, 1, 2).tolist() == [[3] * 3] * 2


@pytest.mark.parametrize("level", [0, 1, 4])
@pytest.mark.parametrize("method", ["plan", "allocate", "write", "read", "synchronize"])
@pytest.mark.parametrize(("error", "told"), [(ValueError, InternalError), (MemoryError, LiteMemoryError)])
def test_exceptions_of_a_device_are_told_as_errors_of_this_package(device, monkeypatch, method, level, error, told):
    def failing(*arguments):
        raise error("lost")

    net = network(ADD, async_exec_level=level)
    runs = [(2, 3)] if method in ("plan", "allocate") else [(2, 3), (2, 3)]
    for k, shape in enumerate(runs):
        for name in "ab":
            net.get_io_tensor(name).set_data_by_copy(np.full(shape, k + 1, np.float32))
        with monkeypatch.context() as patch:
            patch.setattr(device, method, failing)
            with pytest.raises(told, match=r"LITE_ATLAS.*lost") as caught:
                net.forward()
                net.wait()
            assert type(caught.value.__cause__) is error
        assert add(net, k, 2).tolist() == [[k + 2] * 3] * 2


@pytest.mark.parametrize(("error", "told"), [(ValueError, InternalError), (MemoryError, LiteMemoryError)])
@pytest.mark.parametrize("method", ["new_arena", "plan", "allocate", "channels_of_block", "check_id"])
def test_exceptions_of_a_device_are_told_by_load(device, monkeypatch, method, error, told):
    def failing(*arguments):
        raise error("lost")

    # What keeps a plan from being made at load may be no fault, and is left to the first forward.
    net = LiteNetwork(settings(weight_preprocess=error is ValueError), device_io("add"))
    with monkeypatch.context() as patch:
        patch.setattr(device, method, failing)
        with pytest.raises(told, match=r"LITE_ATLAS.*lost") as caught:
            net.load(ADD)
            net.forward()
        assert type(caught.value.__cause__) is error
    if net._engine is None:
        net.load(ADD)
    assert add(net, 1, 2).tolist() == [[3] * 3] * 2


def test_exceptions_of_a_device_are_told_by_all_other_calls(device, monkeypatch, tmp_path):
    def failing(*arguments):
        raise OSError("lost")

    net = network(ADD, device_io("add"))
    add(net, 1, 2)
    tensor = on_device(np.zeros((2, 3), np.float32))
    calls = {
        "count": [lambda: LiteGlobal.get_device_count(OURS)],
        "check_id": [lambda: LiteTensor(device_type=OURS), lambda: setattr(LiteNetwork(settings()), "device_id", 1)],
        "read": [net.get_io_tensor("sum").to_numpy, lambda: net._engine.session.output("sum").array()],
        "run": [lambda: net.get_static_memory_alloc_info(str(tmp_path))],
    }
    assert tensor.to_numpy().sum() == 0
    for method, made in calls.items():
        for call in made:
            with monkeypatch.context() as patch:
                patch.setattr(NumpyPlan if method == "run" else device, method, failing)
                with pytest.raises(InternalError, match=r"LITE_ATLAS has failed: OSError: lost") as caught:
                    call()
                assert type(caught.value.__cause__) is OSError
    assert add(net, 2, 2).tolist() == [[4] * 3] * 2


@pytest.mark.parametrize(
    ("name", "value"),
    [("graph_opt_level", 0), ("jit_level", 1), ("fuse_preprocess", 1), ("no_profiling_on_shape_change", 1)],
)
def test_options_that_plans_of_a_device_ignore_are_named(device, name, value):
    with pytest.warns(LiteWarning, match=f"^{name} {value} has no effect on LITE_ATLAS") as caught:
        net = network(ADD, **{name: value})
    assert len(caught) == 1 and add(net, 1, 2).tolist() == [[3] * 3] * 2
    device.obeys = PLAN_SETTINGS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network(ADD, **{name: value})
        loaded(ADD, LiteConfig())


def test_threads_algorithms_and_layouts_that_a_device_does_not_have_are_named():
    net = LiteNetwork(settings(enable_nchw32=1))
    net.threads_number = 4
    with pytest.warns(LiteWarning) as caught:
        net.load(ADD)
    assert [str(w.message).split(" has no effect on LITE_ATLAS")[0] for w in caught] == [
        "enable_nchw32 is a layout of other devices; it",
        "threads_number 4",
    ]
    with pytest.warns(LiteWarning, match="set_network_algo_policy .* have no effect on LITE_ATLAS"):
        net.set_network_algo_policy(2)
    with pytest.warns(LiteWarning, match="set_network_algo_workspace_limit have no effect on LITE_ATLAS"):
        net.set_network_algo_workspace_limit(0)
    net = LiteNetwork(settings())
    net.set_network_algo_policy(1)  # what is so in any case
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.load(ADD)


@pytest.mark.parametrize("level", [1, 2])
def test_the_debug_ladder_shows_plans_and_steps(monkeypatch, caplog, level):
    monkeypatch.setenv(debug.VARIABLE, str(level))
    debug.level.cache_clear()
    try:
        net = network(ADD)
        add(net, 1, 2)
        add(net, 3, 4)
    finally:
        monkeypatch.undo()
        debug.level.cache_clear()
    summary, *steps = caplog.messages
    shapes = ", ".join(f"'{name}' [2, 3]" for name in ("a", "b"))
    assert summary == f"plan for {shapes} on LITE_ATLAS: 1 steps, arena 0.0 KiB, weights 0.0 KiB"
    step = "step 0: Elemwise 'sum' by numpy: float32[2, 3], float32[2, 3] -> float32[2, 3]"
    assert steps == [step][: level - 1]


def test_exceptions_of_callbacks_stay_as_they_are(device):
    def failing(*arguments):
        raise KeyError("mine")

    net = network(ADD)
    net.set_start_callback(failing)
    with pytest.raises(KeyError, match="mine") as caught:
        add(net, 1, 2)
    assert not isinstance(caught.value, LiteError)
    net.set_start_callback(None)
    net.async_with_callback(failing)
    with pytest.raises(KeyError, match="mine") as caught:
        add(net, 1, 2)
    assert not isinstance(caught.value, LiteError)
