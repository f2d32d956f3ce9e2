"""When a forward runs and on which thread: asynchronous mode, several threads, processes, exits."""

import gc
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import timeit

import numpy as np
import pytest
from support.api_samples import ADD, DIGITS, IMAGES, PROB, add, close, config, loaded, run
from support.processes import LIMIT, in_process

from megengine_lite import LiteNetwork
from megengine_lite.errors import LiteError, LiteWarning, ShapeError


def slow() -> LiteNetwork:
    """A network that has run often enough to know that its forward is worth deferring."""
    network = loaded()
    network._engine._may_defer = True  # even if these tests have a single core
    run(network)
    run(network)
    return network


# ---- asynchronous mode --------------------------------------------------------------------------------------------


def test_async_calls_back_once_per_forward_on_another_thread():
    network = loaded()
    threads, done = [], threading.Event()

    def callback():
        threads.append(threading.get_ident())
        done.set()
        return 0

    network.async_with_callback(callback)
    network.get_io_tensor("data").set_data_by_copy(IMAGES)
    network.forward()
    assert done.wait(LIMIT)
    network.wait()
    network.wait()
    assert len(threads) == 1 and threads[0] != threading.get_ident()
    assert close(network.get_io_tensor("prob").to_numpy(), PROB)
    for _ in range(19):
        network.forward()
    network.wait()
    assert len(threads) == 20


def test_async_reading_an_output_waits():
    network = loaded()
    network.async_with_callback(lambda: None)
    network.get_io_tensor("data").set_data_by_copy(IMAGES)
    network.forward()
    assert close(network.get_io_tensor("prob").to_numpy(), PROB)


def test_async_order_of_callbacks():
    network = loaded()
    seen = []
    network.async_with_callback(lambda: seen.append(("async", threading.current_thread().name)))
    network.set_finish_callback(lambda ios: seen.append(("finish", threading.current_thread().name)))
    network.set_start_callback(lambda ios: seen.append(("start", threading.current_thread().name)))
    run(network)
    worker = "megengine_lite-forward"
    assert seen == [("start", threading.current_thread().name), ("async", worker), ("finish", worker)]


def test_async_callback_may_use_its_network():
    network = loaded(ADD)
    results = []

    def callback():
        results.append(network.get_io_tensor("sum").to_numpy().max())
        network.wait()
        if len(results) < 3:
            network.get_io_tensor("a").set_data_by_copy([len(results)] * 6)
            network.forward()
            network.get_io_tensor("sum").to_numpy()

    network.async_with_callback(callback)
    network.get_io_tensor("a").set_data_by_copy([0] * 6)
    network.get_io_tensor("b").set_data_by_copy([10] * 6)
    network.forward()
    deadline = time.monotonic() + LIMIT
    while len(results) < 3 and time.monotonic() < deadline:
        network.wait()
    assert results == [10, 11, 12]


def test_async_exception_is_raised_by_the_next_wait():
    network = loaded()

    def fail():
        raise ZeroDivisionError("from the callback")

    network.async_with_callback(fail)
    network.forward()
    with pytest.raises(ZeroDivisionError, match="from the callback"):
        network.wait()
    network.wait()
    network.async_with_callback(None)
    assert close(run(network), PROB)


def test_async_forward_that_fails_does_not_call_back():
    network = loaded(ADD)
    calls = []
    network.async_with_callback(lambda: calls.append(1))
    network.get_io_tensor("a").set_data_by_copy(np.zeros((4, 5), "float32"))
    with pytest.raises(ShapeError):
        network.forward()
    network.wait()
    assert calls == []
    network.get_io_tensor("a").layout = [2, 3]
    assert add(network, 1, 2).max() == 3
    assert calls == [1]


def test_async_and_inplace_exclude_each_other():
    network = LiteNetwork()
    network.enable_cpu_inplace_mode()
    with pytest.raises(LiteError, match="inplace"):
        network.async_with_callback(lambda: None)
    network = LiteNetwork()
    network.async_with_callback(lambda: None)
    with pytest.warns(LiteWarning):
        network.enable_cpu_inplace_mode()


def test_async_with_user_memory():
    network = loaded(config=config(force_output_use_user_specified_memory=1))
    target = np.zeros(PROB.shape, "float32")
    network.async_with_callback(lambda: None)
    network.get_io_tensor("data").set_data_by_copy(IMAGES)
    network.get_io_tensor("prob").set_data_by_share(target)
    network.forward()
    network.wait()
    assert close(target, PROB)


# ---- forward that returns early -----------------------------------------------------------------------------------


def test_reading_without_wait_gives_the_present_result():
    network = slow()
    prob = network.get_io_tensor("prob")
    reversed_images = IMAGES[::-1].copy()
    network.get_io_tensor("data").set_data_by_share(reversed_images)
    network.forward()
    assert close(prob.to_numpy(), PROB[::-1])
    twin = prob.slice([0], [4])
    network.get_io_tensor("data").set_data_by_copy(IMAGES)
    network.forward()
    assert close(twin.to_numpy(), PROB[:4])


def test_inputs_may_be_set_right_after_forward():
    network = slow()
    data, prob = network.get_io_tensor("data"), network.get_io_tensor("prob")
    network.forward()
    data.set_data_by_copy(IMAGES[::-1].copy())
    assert close(prob.to_numpy(), PROB)
    network.forward()
    data.fill_zero()
    assert close(prob.to_numpy(), PROB[::-1])


def test_several_forwards_without_wait():
    network = slow()
    for _ in range(5):
        network.forward()
    network.wait()
    network.wait()
    assert close(network.get_io_tensor("prob").to_numpy(), PROB)


def test_pending_result_as_input_of_another_network():
    first = slow()
    first.get_io_tensor("data").set_data_by_copy(IMAGES[:6].copy())
    first.forward()
    first.wait()
    second = loaded(ADD)
    second.get_io_tensor("b").set_data_by_copy([0] * 6)
    second.get_io_tensor("a").share_memory_with(first.get_io_tensor("prob").slice([0, 0], [2, 3]))
    for images in (IMAGES[:6], IMAGES[6:12]):
        first.get_io_tensor("data").set_data_by_copy(images.copy())
        first._engine._seconds = 1.0  # let this one run on the worker
        first.forward()
        second.forward()
        second.wait()
        expected = PROB[:2, :3] if images is IMAGES[:6] else first.get_io_tensor("prob").to_numpy()[:2, :3]
        assert close(second.get_io_tensor("sum").to_numpy(), expected)


def test_work_goes_on_while_the_caller_does_something_else():
    network = slow()
    network.get_io_tensor("data").set_data_by_copy(np.tile(IMAGES, (20, 1, 1, 1)))
    network.forward()
    network.wait()
    network.forward()
    deadline = time.monotonic() + LIMIT
    while not network._engine._job.finished and time.monotonic() < deadline:
        time.sleep(0.001)
    assert network._engine._job.finished


def test_inplace_mode_starts_no_threads():
    code = (
        "import os, threading\n"
        "from support.api_samples import run, LiteNetwork, DIGITS\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "network = LiteNetwork()\n"
        "network.enable_cpu_inplace_mode()\n"
        "network.load(DIGITS)\n"
        "for _ in range(3):\n"
        "    run(network)\n"
        "    network.forward()\n"
        "print(threading.active_count(), len(os.listdir('/proc/self/task')) - before)\n"
    )
    assert in_process(code) == "1 0"


# ---- several threads ----------------------------------------------------------------------------------------------


def hammer(work, threads: int = 4) -> None:
    """Runs ``work(k)`` on threads; raises what any of them raised."""
    errors = []

    def guarded(k):
        try:
            work(k)
        except BaseException as error:
            errors.append(error)

    pool = [threading.Thread(target=guarded, args=(k,)) for k in range(threads)]
    for t in pool:
        t.start()
    for t in pool:
        t.join()
    if errors:
        raise errors[0]


def test_networks_that_share_weights_run_at_the_same_time():
    source = loaded()
    networks = [source]
    for _ in range(3):
        networks.append(LiteNetwork())
        networks[-1].share_weights_with(source)

    def work(k):
        for i in range(8):
            n = 1 + (i * 7 + k) % 50
            assert close(run(networks[k], IMAGES[k : k + n]), PROB[k : k + n])

    hammer(work)


def test_networks_that_share_runtime_memory_take_turns():
    first, second = LiteNetwork(), LiteNetwork()
    second.share_runtime_memory(first)
    first.load(DIGITS)
    second.load(DIGITS)

    def work(k):
        for i in range(8):
            n = 1 + (i * 7 + k) % 50
            assert close(run((first, second)[k], IMAGES[:n]), PROB[:n])

    hammer(work, 2)


def test_one_network_on_several_threads_is_serialized():
    network = slow()

    def work(k):
        for _ in range(10):
            network.forward()
            network.wait()

    hammer(work)
    assert close(network.get_io_tensor("prob").to_numpy(), PROB)


def test_other_threads_run_during_forward_in_the_calling_thread():
    network = LiteNetwork()
    network.enable_cpu_inplace_mode()
    network.load(DIGITS)
    many = np.tile(IMAGES, (40, 1, 1, 1))
    run(network, many)
    ran = []

    def later():
        time.sleep(0.002)
        ran.append(threading.get_ident())

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # only a thread that gives Python's lock away lets others run
    try:
        thread = threading.Thread(target=later)
        thread.start()
        network.forward()
        before_any_other_call = list(ran)
    finally:
        sys.setswitchinterval(interval)
    thread.join()
    assert before_any_other_call == [thread.ident]


@pytest.mark.parametrize("device_id", [0, 1, 7])
def test_networks_on_several_device_ids_run_at_the_same_time(device_id):
    networks = [loaded(device_id=device_id * k) for k in range(4)]

    def work(k):
        for n in range(1, 6):
            assert close(run(networks[k], IMAGES[k : k + n]), PROB[k : k + n])

    hammer(work)


def test_errors_carry_their_own_text():
    def work(k):
        for _ in range(50):
            with pytest.raises(LiteError, match=rf"'missing{k}'"):
                network.get_io_tensor(f"missing{k}")

    network = loaded(ADD)
    hammer(work)


# ---- processes ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("mode", ["default", "threads", "inplace", "async"])
def test_fork_after_use(mode):
    code = (
        "import os, sys\n"
        "from support.api_samples import *\n"
        f"mode = {mode!r}\n"
        "network = LiteNetwork()\n"
        "if mode == 'threads': network.threads_number = 2\n"
        "if mode == 'inplace': network.enable_cpu_inplace_mode()\n"
        "network.load(DIGITS)\n"
        "if mode == 'async': network.async_with_callback(lambda: None)\n"
        "run(network); run(network)\n"
        "network.forward()\n"
        "child = os.fork()\n"
        "good = abs(run(network) - PROB).max() < 1e-5 and abs(run(network, IMAGES[:3]) - PROB[:3]).max() < 1e-5\n"
        "if child == 0: os._exit(0 if good else 1)\n"
        "_, status = os.waitpid(child, 0)\n"
        "print(good, status)\n"
    )
    assert in_process(code) == "True 0"


def test_exit_with_a_pending_forward():
    code = (
        "from support.api_samples import *\n"
        "network = loaded()\n"
        "network.async_with_callback(lambda: None)\n"
        "network.get_io_tensor('data').set_data_by_copy(IMAGES)\n"
        "for _ in range(3): network.forward()\n"
        "print('end')\n"
    )
    for _ in range(3):
        assert in_process(code) == "end"


def _predict(network: LiteNetwork) -> np.ndarray:
    return run(network, IMAGES[:8])


def test_networks_go_to_other_processes():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert close(pool.apply(_predict, (loaded(),)), PROB[:8])
    assert pickle.loads(pickle.dumps(loaded())).get_all_input_name() == ["data"]


def test_interrupt_while_waiting():
    code = (
        "import os, signal, threading, time\n"
        "from support.api_samples import *\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # it is ignored in the background of a shell
        "network = loaded()\n"
        "network.async_with_callback(lambda: time.sleep(1))\n"
        "network.forward()\n"
        f"threading.Timer(0.3, os.kill, (os.getpid(), {int(signal.SIGINT)})).start()\n"
        "try:\n"
        "    network.wait()\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    assert in_process(code) == "interrupted"


# ---- no growth ----------------------------------------------------------------------------------------------------


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc")
def test_memory_does_not_grow():
    network = loaded(ADD)
    deferred = slow()

    def forwards():
        for _ in range(2000):
            network.forward()
            network.wait()
            network.get_io_tensor("sum").to_numpy()

    def loads():
        for _ in range(30):
            run(loaded(), IMAGES[:2])

    def shapes():
        for n in range(1, 60):
            run(deferred, IMAGES[: n % 25 + 1])

    for work in (forwards, loads, shapes):
        work()
        gc.collect()
        before = resident()
        work()
        work()
        gc.collect()
        assert resident() - before < 3 << 20, work.__name__


def test_failure_on_the_worker(monkeypatch):
    network = slow()
    prob = network.get_io_tensor("prob")

    def fail():
        raise LiteError("broken on purpose")

    with monkeypatch.context() as patch:
        patch.setattr(network._engine.session, "run", fail)
        network.forward()
        with pytest.raises(LiteError, match="on purpose"):
            prob.to_numpy()
        with pytest.raises(LiteError, match="on purpose"):
            network.wait()
        network.wait()
        network.forward()
        network.get_io_tensor("data").set_data_by_copy(IMAGES)  # does not care how the run ends
    network.forward()
    assert close(prob.to_numpy(), PROB)
    with pytest.raises(LiteError, match="on purpose"):
        network.wait()  # tells of the forward before
    network.wait()
    assert close(prob.to_numpy(), PROB)


def test_small_calls_are_cheap():
    network = loaded(ADD)
    add(network, 1, 2)
    tensor = network.get_io_tensor("a")
    source = np.zeros((2, 3), "float32")
    calls = {
        "forward": (network.forward, 10),
        "get_io_tensor": (lambda: network.get_io_tensor("a"), 3),
        "set_data_by_share": (lambda: tensor.set_data_by_share(source), 5),
        "nbytes": (lambda: tensor.nbytes, 0.5),
        "layout": (lambda: tensor.layout, 2),
    }
    for name, (call, microseconds) in calls.items():
        taken = min(timeit.repeat(call, number=500, repeat=20)) / 500 * 1e6
        assert taken < microseconds, f"{name} takes {taken:.2f} us"
