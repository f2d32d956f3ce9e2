"""Programs that make MegEngine Lite 1.13 hang, with one test or more for each.

Each fault has a number, used in names of tests. Each program runs in a process of its own, with a time limit.
"""

import json
import multiprocessing
import os
import threading

import numpy as np
import pytest
from support.api_samples import DIGITS, IMAGES, PROB, close, config, loaded, run
from support.loader_samples import MODELS, input_operator, operator, to_bytes
from support.processes import in_process, isolated

from megengine_lite import LiteConfig, LiteGlobal, LiteNetwork, register_operator, unregister_operator
from megengine_lite._core.formats.mge.records import ModelRecord
from megengine_lite._core.ir.dtype import INT32
from megengine_lite._core.ir.params import Axis
from megengine_lite.errors import LiteError, LiteIndexError

CONV = MODELS / "conv_bn_relu_raw.mge"


def slow(**settings) -> LiteNetwork:
    """A network that has run often enough to hand its next forward to its worker."""
    network = loaded(**settings)
    run(network)
    run(network)
    return network


# ---- 13: a child process has none of the threads that its networks wait for -----------------------------------------


def in_child(work) -> int:
    """The exit status of a forked process that does some work: 0 if that is true."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if work() else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@needs_fork
@isolated
def test_danger_13_forks_while_a_forward_is_under_way():
    network, threaded = slow(), slow(threads_number=2)
    twin = LiteNetwork()
    twin.share_weights_with(network)
    for n in range(1, 20):
        for used in (network, threaded, twin):
            used.get_io_tensor("data").set_data_by_copy(IMAGES[:n])
            used.forward()
        good = in_child(lambda n=n: all(close(run(used, IMAGES[n:]), PROB[n:]) for used in (threaded, twin, network)))
        assert good == 0
        for used in (network, threaded, twin):
            used.wait()
            assert close(used.get_io_tensor("prob").to_numpy(), PROB[:n])


@needs_fork
@isolated
def test_danger_13_child_of_a_child_and_networks_made_there():
    network = slow()
    network.async_with_callback(lambda: None)
    network.forward()

    def grandchild() -> bool:
        return close(run(network), PROB) and close(run(slow(threads_number=2), IMAGES[:7]), PROB[:7])

    assert in_child(lambda: close(run(network), PROB) and in_child(grandchild) == 0) == 0
    network.wait()
    assert close(network.get_io_tensor("prob").to_numpy(), PROB)


_inherited: list[LiteNetwork] = []


def _predict(first: int) -> np.ndarray:
    return run(_inherited[0], IMAGES[first : first + 8])


@needs_fork
@isolated
def test_danger_13_pool_of_forked_workers():
    _inherited.append(slow())
    _inherited[0].forward()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        results = pool.map_async(_predict, range(0, 80, 8)).get(50)
    assert close(np.concatenate(results), PROB[:80])


# ---- 14: the profiler waits for the worker on the worker ------------------------------------------------------------


@isolated
def test_danger_14_asynchronous_forwards_are_profiled(tmp_path):
    path = tmp_path / "profile.json"
    network = loaded()
    calls = []
    network.async_with_callback(lambda: calls.append(threading.get_ident()))
    network.enable_profile_performance(str(path))
    for n in (360, 5, 360):
        assert close(run(network, IMAGES[:n]), PROB[:n])
    assert len(calls) == 3 and threading.get_ident() not in calls
    profile = json.loads(path.read_text())
    steps = profile["graph_exec"]["operator"]
    assert steps and set(profile["profiler"]["device"]) <= set(steps)
    times = [t for place in profile["profiler"]["device"].values() for t in place.values()]
    assert times and all(0 <= t["start"] <= t["kern"] <= t["end"] < 10 for t in times)


# ---- 15: the end of the program waits for a forward that nobody finishes --------------------------------------------


@pytest.mark.parametrize(
    ("callback", "forwards"),
    [
        ("None", 3),
        ("lambda: None", 3),
        ("lambda: time.sleep(30)", 1),
        ("network.wait", 3),
        ("network.forward", 1),  # starts the next one, for ever
        ("lambda: 1 / 0", 3),
    ],
)
def test_danger_15_program_ends_with_a_pending_forward(callback, forwards):
    code = (
        "import time\n"
        "from support.api_samples import *\n"
        "network = loaded()\n"
        "run(network); run(network)\n"
        f"network.async_with_callback({callback})\n"
        f"for _ in range({forwards}): network.forward()\n"
        "print('end')\n"
    )
    assert in_process(code) == "end"


# ---- 16: an exception in a kernel ends the worker, and everybody waits for it for ever ------------------------------


@isolated
def test_danger_16_layouts_that_the_processor_may_not_have():
    shape = loaded(CONV).get_io_tensor(loaded(CONV).get_input_name(0)).layout.shapes
    data = np.random.default_rng(16).standard_normal(shape).astype("float32")

    def output(made: LiteConfig, transform: bool) -> np.ndarray:
        network = LiteNetwork(made)
        if transform:
            network.enable_global_layout_transform()
        network.load(CONV)
        network.get_io_tensor(network.get_input_name(0)).set_data_by_copy(data)
        network.forward()
        network.wait()
        return network.get_io_tensor(network.get_output_name(0)).to_numpy()

    expected = output(LiteConfig(), False)
    assert np.abs(expected).max() > 0.1
    for option in ("enable_nchw44", "enable_nchw44_dot", "enable_nchw88", "enable_nchw4", "enable_nhwcd4"):
        assert close(output(config(**{option: 1}), False), expected)
    made = LiteConfig()
    made.auto_optimize_inference = 1
    assert close(output(made, True), expected)


def one_hot_model() -> bytes:
    """``out[i, 0] = data[i, index[i]]``."""
    operators = [
        input_operator(0, "data", (2, 3)),
        input_operator(1, "index", (2,), INT32),
        operator("IndexingOneHot", (0, 1), (2,), Axis(axis=1)),
    ]
    return to_bytes(ModelRecord("v2", 101300, operators, [(2, "")], {2: "out"}))


@isolated
def test_danger_16_kernel_that_fails_on_the_worker():
    network = loaded(one_hot_model())
    calls = []
    network.async_with_callback(lambda: calls.append(1))
    network.get_io_tensor("data").set_data_by_copy(range(6))
    index = network.get_io_tensor("index")
    for _ in range(3):
        index.set_data_by_copy([2, 3])
        network.forward()
        with pytest.raises(LiteIndexError, match="range"):
            network.wait()
        index.set_data_by_copy([2, 0])
        network.forward()
        network.wait()
        assert network.get_io_tensor("out").to_numpy().ravel().tolist() == [2, 3]
    assert len(calls) == 3
    LiteGlobal.try_coalesce_all_free_memory()


@isolated
def test_danger_16_operator_of_the_user_that_fails_on_the_worker():
    @register_operator("Sometimes", infer=lambda op, inputs: inputs[0])
    def sometimes(op, inputs):
        if inputs[0].max() > 100:
            raise ZeroDivisionError("too much")
        return inputs[0] * 2

    operators = [input_operator(0, "x", (3,)), operator("Sometimes", (0,), (1,))]
    network = loaded(to_bytes(ModelRecord("v2", 101300, operators, [(1, "")], {1: "y"})))
    network.async_with_callback(lambda: None)
    for _ in range(3):
        network.get_io_tensor("x").set_data_by_copy([1, 2, 101])
        network.forward()
        with pytest.raises(LiteError, match="too much") as caught:
            network.wait()
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        network.get_io_tensor("x").set_data_by_copy([1, 2, 3])
        network.forward()
        network.wait()
        assert network.get_io_tensor("y").to_numpy().tolist() == [2, 4, 6]
    unregister_operator("Sometimes")


@isolated
def test_danger_16_callback_that_fails_on_the_worker():
    network = loaded(DIGITS)
    network.async_with_callback(lambda: 1 / 0)
    for _ in range(3):
        network.forward()
        with pytest.raises(ZeroDivisionError):
            network.wait()
    network.async_with_callback(None)
    assert close(run(network), PROB)
