"""Models in forked processes, which have none of their parent's threads."""

import os
import signal
import subprocess
import sys
import threading
import time
import traceback

import numpy as np
import pytest
from support.api_samples import DIGITS, IMAGES, PROB, busy, close
from support.processes import LIMIT, isolated

import megengine_lite
from megengine_lite import LiteError
from megengine_lite.batch import Predictor

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

X = IMAGES[:6]
CALLS = {
    "call": lambda model: model(X)["prob"],
    "run_async": lambda model: model.run_async(X).result()["prob"],
    "map": lambda model: np.concatenate([o["prob"] for o in model.map(X[:, None], batch_size=4)]),
    "warmup": lambda model: (model.warmup(X), model(X)["prob"])[1],
    "await": lambda model: awaited(model)["prob"],
}


def awaited(model):
    import asyncio

    async def program():
        return await model.run_async(X)

    return asyncio.run(program())


def in_child(work) -> int:
    """The exit status of a forked process: 0 if ``work()`` is true there; a signal ends it if it hangs."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(LIMIT // 10)
            status = 0 if work() else 2
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@isolated
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("workers", [1, 2])
def test_every_call_works_in_a_child(name, workers):
    model = megengine_lite.load(DIGITS, workers=workers)
    for call in CALLS.values():  # so that the parent has threads
        assert close(call(model), PROB[:6])
    assert in_child(lambda: close(CALLS[name](model), PROB[:6])) == 0
    assert in_child(lambda: in_child(lambda: close(CALLS[name](model), PROB[:6])) == 0) == 0
    assert in_child(lambda: model.close() is None and "closed" in repr(model)) == 0
    assert close(CALLS[name](model), PROB[:6])


@isolated
def test_workers_that_are_busy_in_the_parent_are_free_in_a_child():
    model = megengine_lite.load(DIGITS)
    with busy(model):
        for call in CALLS.values():
            assert in_child(lambda call=call: close(call(model), PROB[:6])) == 0


@isolated
def test_children_of_a_parent_that_runs_meanwhile():
    model = megengine_lite.load(DIGITS, workers=2, threads=1)
    for call in CALLS.values():
        call(model)
    end = threading.Event()

    def runs(number):
        while not end.is_set():
            for call in CALLS.values():
                call(model)
            model(IMAGES[: 1 + number + int(1000 * time.monotonic()) % 300])  # new shapes are planned

    threads = [threading.Thread(target=runs, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            for call in CALLS.values():
                assert in_child(lambda call=call: close(call(model), PROB[:6])) == 0
            assert in_child(lambda: model.close() is None) == 0
    finally:
        end.set()
        for thread in threads:
            thread.join()


@isolated
def test_a_run_of_the_parent_is_an_error_in_a_child_at_once():
    model = megengine_lite.load(DIGITS)
    ended = model.run_async(X)
    assert close(ended.result()["prob"], PROB[:6])

    def raises(wait):
        with pytest.raises(LiteError, match=r"was begun by process \d+, and no thread of it is in this process"):
            wait()
        return True

    with busy(model):
        waiting = model.run_async(X)
        for wait in (waiting.result, waiting.exception, lambda: sync(waiting)):
            assert in_child(lambda wait=wait: raises(wait)) == 0
        assert in_child(lambda: close(ended.result()["prob"], PROB[:6]) and ended.exception() is None) == 0
    assert close(waiting.result()["prob"], PROB[:6])


def sync(future):
    import asyncio

    async def program():
        return await future

    return asyncio.run(program())


@isolated
def test_predictor_that_was_used_before_the_fork():
    predict = Predictor(DIGITS)
    assert close(predict({"data": X})["prob"], PROB[:6])
    assert in_child(lambda: close(predict({"data": X})["prob"], PROB[:6])) == 0


WHILE_LOADING = """
import os, signal, sys, threading, time
import numpy as np
from megengine_lite.batch import Predictor

predict = Predictor(sys.argv[1])
threading.Thread(target=predict.warmup).start()
time.sleep(float(sys.argv[2]))
child = os.fork()
if child == 0:
    signal.alarm(int(sys.argv[3]))
    os._exit(0 if predict(np.zeros((2, 1, 8, 8), np.float32)).shape == (2, 10) else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.mark.parametrize("delay", [0, 0.01, 0.02, 0.04, 0.06, 0.09])
def test_a_child_of_a_parent_that_loads_a_model(delay):
    """Which imports modules all the time: a child would wait for the thread that it does not have."""
    arguments = [sys.executable, "-c", WHILE_LOADING, str(DIGITS), str(delay), str(LIMIT // 10)]
    assert subprocess.run(arguments, timeout=LIMIT).returncode == 0
