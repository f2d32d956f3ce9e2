"""Networks in awkward hands: callbacks that call back, many threads, forks at bad moments, ends at bad moments."""

import gc
import threading
import time
import weakref

import pytest
from support.api_samples import ADD, DIGITS, IMAGES, PROB, add, close, config, loaded, run
from support.loader_samples import input_operator, operator, to_bytes
from support.processes import LIMIT, in_process, isolated

from megengine_lite import LiteGlobal, LiteNetwork, register_operator, unregister_operator
from megengine_lite._core.formats.mge.records import ModelRecord
from megengine_lite.errors import LiteError

MODES = ["plain", "deferred", "always deferred", "async", "inplace"]


def network_in(mode: str) -> LiteNetwork:
    """The digits model; ``"deferred"`` has run often enough to know that its forward is worth deferring."""
    network = LiteNetwork(config(async_exec_level=4 if mode == "always deferred" else 1))
    if mode == "inplace":
        network.enable_cpu_inplace_mode()
    network.load(DIGITS)
    if mode == "async":
        network.async_with_callback(lambda: None)
    run(network)
    if mode == "deferred":
        run(network)
        network._engine._seconds = 1.0
    return network


def finishes(work, seconds: float = 30) -> None:
    """Runs work on another thread, which must end; raises what it raised."""
    errors = []

    def guarded():
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "it hangs"
    if errors:
        raise errors[0]


def together(*works) -> None:
    """Runs all works at the same time; raises what any of them raised."""
    errors = []

    def guarded(work):
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "it hangs"
    if errors:
        raise errors[0]


# ---- callbacks that call back ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_callbacks_that_use_their_network(mode):
    network = network_in(mode)
    network.get_io_tensor("data").set_data_by_copy(IMAGES)
    calls = []

    def start(ios):
        calls.append("start")
        network.wait()
        network.forward()
        assert close(network.get_io_tensor("prob").to_numpy(), PROB)
        network.forward()  # may still be under way when the callback ends
        ios["data"].set_data_by_copy(IMAGES[::-1].copy())

    def finish(ios):
        calls.append("finish")
        assert len(ios) == 1
        network.wait()
        network.get_io_tensor("data").set_data_by_copy(IMAGES)
        network.forward()

    def use():
        network.set_start_callback(start)
        network.forward()
        assert close(network.get_io_tensor("prob").to_numpy(), PROB[::-1])
        network.set_start_callback(None)
        if mode == "async":
            return
        network.set_finish_callback(finish)
        calls.clear()
        network.wait()
        network.set_finish_callback(None)
        network.wait()
        assert close(network.get_io_tensor("prob").to_numpy(), PROB)
        assert calls == ["start", "finish"] or calls == ["finish"]

    finishes(use)
    assert close(run(network, IMAGES[:4]), PROB[:4])


def test_start_callback_is_not_called_by_a_forward_inside_of_it():
    network = loaded(ADD)
    calls = []

    def start(ios):
        calls.append(1)
        ios["a"].set_data_by_copy([len(calls)] * 6)
        network.forward()

    network.set_start_callback(start)
    for k in (1, 2):
        assert add(network, 0, 10).max() == 10 + k
    assert calls == [1, 1]


def test_finish_callback_is_not_called_by_a_wait_inside_of_it():
    network = loaded(ADD)
    calls = []

    def finish(ios):
        calls.append(ios["sum"].to_numpy().max())
        network.wait()

    network.set_finish_callback(finish)
    add(network, 1, 2)
    network.wait()
    assert calls == [3, 3]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["start", "finish"])
def test_network_that_is_dropped_inside_of_its_callback(mode, kind):
    holder = {"network": network_in(mode)}
    engine = weakref.ref(holder["network"]._engine)
    results = []

    def callback(ios):
        holder.clear()
        gc.collect()
        results.append({io.name: tensor.to_numpy() for io, tensor in ios.items()})

    getattr(holder["network"], f"set_{kind}_callback")(callback)

    def use():
        network = holder["network"]
        network.get_io_tensor("data").set_data_by_copy(IMAGES)
        network.forward()
        network.wait()
        assert close(network.get_io_tensor("prob").to_numpy(), PROB)

    finishes(use)
    ((name, values),) = results[0].items()
    assert close(values, {"data": IMAGES, "prob": PROB}[name])
    deadline = time.monotonic() + LIMIT
    while engine() is not None and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    assert engine() is None


def test_network_that_is_dropped_inside_of_its_asynchronous_callback():
    holder = {"network": loaded()}
    done = threading.Event()

    def callback():
        holder.clear()
        gc.collect()
        done.set()

    holder["network"].async_with_callback(callback)
    output = holder["network"].get_io_tensor("prob")
    holder["network"].get_io_tensor("data").set_data_by_copy(IMAGES)
    holder["network"].forward()
    assert done.wait(LIMIT)
    assert close(output.to_numpy(), PROB)


@pytest.mark.parametrize("mode", MODES)
def test_start_callback_that_raises_leaves_the_network_usable(mode):
    network = network_in(mode)

    def fail(ios):
        ios["data"].set_data_by_copy(IMAGES[:3])
        raise KeyError("no")

    network.set_start_callback(fail)
    for _ in range(3):
        with pytest.raises(KeyError, match="no"):
            network.forward()
    network.set_start_callback(lambda ios: None)
    network.forward()
    network.wait()
    assert close(network.get_io_tensor("prob").to_numpy(), PROB[:3])
    assert close(run(network), PROB)


@pytest.mark.parametrize("mode", MODES)
def test_finish_callback_that_raises_leaves_the_network_usable(mode):
    network = network_in(mode)

    def fail(ios):
        raise KeyError("no")

    network.set_finish_callback(fail)
    for _ in range(3):
        network.forward()
        with pytest.raises(KeyError, match="no"):
            network.wait()
    network.set_finish_callback(None)
    network.wait()
    assert close(run(network), PROB)


def test_failure_of_an_asynchronous_forward_survives_the_next_one():
    network = loaded()
    outcomes = iter([ZeroDivisionError("first"), None, KeyError("third"), None])

    def callback():
        if (outcome := next(outcomes)) is not None:
            raise outcome

    network.async_with_callback(callback)
    for kind in (ZeroDivisionError, KeyError):
        network.forward()
        network.forward()
        with pytest.raises(kind):
            network.wait()
        network.wait()


def test_failure_of_a_callback_that_has_begun_another_forward_is_raised():
    network = loaded()
    rounds = []

    def callback():
        rounds.append(1)
        if len(rounds) == 1:
            network.forward()
            raise ZeroDivisionError("after the next forward")

    network.async_with_callback(callback)
    network.forward()

    def wait_for_both():
        for _ in range(200):
            network.wait()
            time.sleep(0.01)

    with pytest.raises(ZeroDivisionError):
        wait_for_both()
    network.wait()
    assert len(rounds) == 2


def test_callback_that_is_replaced_is_still_called_for_the_forward_before():
    network = loaded()
    calls, may_go_on = [], threading.Event()
    network.async_with_callback(lambda: (calls.append("first"), may_go_on.wait(LIMIT)))
    network.forward()
    network.async_with_callback(lambda: calls.append("second"))
    may_go_on.set()
    network.forward()
    network.wait()
    network.async_with_callback(None)
    network.forward()
    network.wait()
    assert calls == ["first", "second"]


def custom() -> bytes:
    """A model of one operator that this test registers."""
    operators = [input_operator(0, "x", (2,)), operator("StressOperator", (0,), (1,), None)]
    return to_bytes(ModelRecord("v2", 101300, operators, [(1, "")], {1: "y"}))


# ---- several threads ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_one_network_in_many_hands(mode):
    network = network_in(mode)
    network.get_io_tensor("data").set_data_by_copy(IMAGES)

    def forwards():
        for _ in range(30):
            network.forward()
            network.wait()

    def looks():
        for _ in range(30):
            assert {"arena", "outputs", "scratch", "weights"} <= set(network.memory_usage)
            assert close(network.get_io_tensor("prob").to_numpy(), PROB)
            LiteGlobal.try_coalesce_all_free_memory()

    def callbacks():
        for _ in range(30):
            network.set_start_callback(lambda ios: ios["data"].to_numpy())
            network.set_finish_callback(lambda ios: ios["prob"].to_numpy())
            network.set_start_callback(None)
            network.set_finish_callback(None)

    def limits():
        for k in range(6):
            network.set_network_algo_workspace_limit(k << 20)

    together(forwards, forwards, looks, callbacks, limits)
    assert close(run(network), PROB)


def test_networks_that_share_weights_come_and_go():
    source = loaded()

    def lives():
        for k in range(6):
            twin = LiteNetwork(config(weight_preprocess=k % 2))
            twin.share_weights_with(source)
            assert close(run(twin, IMAGES[: 3 + k]), PROB[: 3 + k])

    together(lives, lives, lives, lambda: [run(source, IMAGES[:n]) for n in range(1, 12)])
    assert close(run(source), PROB)


@isolated
def test_first_forwards_of_networks_that_share_weights_at_the_same_time():
    for _ in range(5):
        source = loaded()
        networks = [source, LiteNetwork(), LiteNetwork()]
        for twin in networks[1:]:
            twin.share_weights_with(source)
        barrier = threading.Barrier(3)
        results = {}

        def first(k, networks=networks, barrier=barrier, results=results):
            barrier.wait()
            results[k] = run(networks[k])

        together(*(lambda k=k, first=first: first(k) for k in range(3)))
        assert all(close(results[k], PROB) for k in range(3))


def test_outputs_are_looked_at_while_the_first_forward_runs():
    for _ in range(10):
        network = loaded()
        network.get_io_tensor("data").set_data_by_copy(IMAGES[:5])
        together(network.forward, lambda network=network: network.get_io_tensor("prob").layout)
        network.wait()
        assert close(network.get_io_tensor("prob").to_numpy(), PROB[:5])


# ---- forks and ends -------------------------------------------------------------------------------------------------

FORK = """
import os, threading, time
from support.api_samples import *
from test_network_stress import network_in

def child_runs(network):
    good = abs(run(network) - PROB).max() < 1e-5 and abs(run(network, IMAGES[:3]) - PROB[:3]).max() < 1e-5
    os._exit(0 if good else 1)

def ends_well(child):
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status == 0
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return False
"""


@pytest.mark.parametrize("mode", MODES)
def test_fork_with_pending_forwards(mode):
    code = FORK + (
        f"network = network_in({mode!r})\n"
        "good = []\n"
        "for _ in range(4):\n"
        "    network.forward()\n"
        "    child = os.fork()\n"
        "    if child == 0: child_runs(network)\n"
        "    network.wait()\n"
        "    good.append(ends_well(child))\n"
        "print(good, abs(run(network) - PROB).max() < 1e-5)\n"
    )
    assert in_process(code) == "[True, True, True, True] True"


def test_fork_inside_of_callbacks():
    code = FORK + (
        "good = []\n"
        "def fork(*arguments):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        network.set_start_callback(None)\n"
        "        network.set_finish_callback(None)\n"
        "        network.async_with_callback(None)\n"
        "        network.wait()\n"
        "        child_runs(network)\n"
        "    good.append(ends_well(child))\n"
        "network = loaded()\n"
        "network.set_start_callback(fork)\n"
        "run(network)\n"
        "network.set_start_callback(None)\n"
        "network.set_finish_callback(fork)\n"
        "run(network)\n"
        "network.set_finish_callback(None)\n"
        "network.async_with_callback(fork)\n"
        "run(network)\n"
        "print(good)\n"
    )
    assert in_process(code) == "[True, True, True]"


def test_fork_while_another_thread_is_inside_of_a_callback():
    code = FORK + (
        "network = loaded()\n"
        "inside, go_on, calls = threading.Event(), threading.Event(), []\n"
        "def start(ios):\n"
        "    calls.append(1)\n"
        "    inside.set()\n"
        "    go_on.wait(300)\n"
        "network.set_start_callback(start)\n"
        "thread = threading.Thread(target=run, args=(network,))\n"
        "thread.start()\n"
        "inside.wait(300)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    go_on.set()\n"
        "    calls.clear()\n"
        "    run(network)\n"
        "    if len(calls) != 1: os._exit(2)\n"
        "    child_runs(network)\n"
        "go_on.set()\n"
        "thread.join()\n"
        "print(ends_well(child))\n"
    )
    assert in_process(code) == "True"


@pytest.mark.parametrize("mode", MODES)
def test_end_with_pending_forwards(mode):
    code = (
        "from test_network_stress import *\n"
        f"network = network_in({mode!r})\n"
        "for _ in range(3): network.forward()\n"
        "print('end')\n"
    )
    for _ in range(2):
        assert in_process(code) == "end"


def test_end_while_a_callback_takes_long():
    code = (
        "from test_network_stress import *\n"
        "network = loaded()\n"
        "network.async_with_callback(lambda: time.sleep(600))\n"
        "network.forward()\n"
        "print('end')\n"
    )
    assert in_process(code) == "end"


def test_operator_that_runs_its_own_network_is_refused():
    networks = []

    @register_operator("StressOperator", infer=lambda op, inputs: inputs[0])
    def recurse(op, inputs):
        with pytest.raises(LiteError, match="operator"):
            networks[0].forward()
        LiteGlobal.try_coalesce_all_free_memory()
        return inputs[0] + 1

    try:
        networks.append(loaded(custom()))
        networks[0].get_io_tensor("x").set_data_by_copy([1, 2])
        finishes(networks[0].forward)
        assert networks[0].get_io_tensor("y").to_numpy().tolist() == [2, 3]
    finally:
        unregister_operator("StressOperator")
