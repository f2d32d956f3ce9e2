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


AT_EVERY_CALL_OF_OTHERS = """
import os, signal, sys, threading
import numpy as np
from megengine_lite.batch import Predictor

at_a_call, forked = threading.Event(), threading.Event()
seen, stopped, wrong = set(), [], []

def stop(frame, event, argument):
    code = frame.f_code
    if event != "call" or code in seen:
        return
    seen.add(code)
    while frame is not None:
        if "importlib" in frame.f_code.co_filename:  # forks wait for imports
            return
        frame = frame.f_back
    if "megengine_lite" not in code.co_filename:
        stopped.append(code)
        forked.clear()
        at_a_call.set()
        forked.wait(1)  # and not for ever: a fork may wait for a lock that this thread has, as logging's do

def load():
    sys.setprofile(stop)
    predict.warmup()
    sys.setprofile(None)
    stopped.append(None)
    at_a_call.set()

predict = Predictor(sys.argv[1])
thread = threading.Thread(target=load)
thread.start()
while at_a_call.wait():
    at_a_call.clear()
    code = stopped[-1]
    if code is None:
        break
    child = os.fork()
    if child == 0:
        signal.alarm(int(sys.argv[2]))
        os._exit(0 if predict(np.zeros((2, 1, 8, 8), np.float32)).shape == (2, 10) else 3)
    forked.set()
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        wrong.append(code)
thread.join()
print(len(stopped), "forks;", "wrong:", wrong, file=sys.stderr)
assert len(stopped) > 50 and not wrong
"""


def test_a_child_forked_at_any_call_of_other_packages_while_the_parent_loads():
    """Each may hold a lock of its module. A child would wait for it: the thread that holds it is not there."""
    arguments = [sys.executable, "-c", AT_EVERY_CALL_OF_OTHERS, str(DIGITS), str(LIMIT // 10)]
    assert subprocess.run(arguments, timeout=LIMIT).returncode == 0
