"""Closing models: while runs wait, during a warmup, by a callback."""

import asyncio
import threading
import time
from concurrent.futures import CancelledError
from contextlib import ExitStack

import numpy as np
import pytest
from support.api_samples import ADD, DIGITS, IMAGES, busy
from support.processes import LIMIT

import megengine_lite
from megengine_lite import LiteError

X = IMAGES[:3]


def test_closed_model_refuses_calls():
    model = megengine_lite.load(DIGITS, workers=2)
    future = model.run_async(X)
    model.close()
    model.close()
    assert future.done() and "closed" in repr(model)
    for call in (lambda: model(X), lambda: model.run_async(X), lambda: list(model.map([X])), lambda: model.warmup()):
        with pytest.raises(LiteError, match="the model is closed: load it again"):
            call()


def test_closing_waits_for_a_warmup():
    model = megengine_lite.load(ADD, workers=2)
    begun, go_on = threading.Event(), threading.Event()
    run_alone = model._run

    def run_slowly(worker, feeds):
        begun.set()
        go_on.wait(LIMIT)
        return run_alone(worker, feeds)

    model._run = run_slowly
    warming = threading.Thread(target=model.warmup, args=(np.ones((2, 3)), np.ones((2, 3))))
    closing = threading.Thread(target=model.close)
    warming.start()
    assert begun.wait(LIMIT)
    closing.start()
    time.sleep(0.05)  # so that it waits for workers, if it ever does before the warmup ends
    go_on.set()
    warming.join(LIMIT)
    closing.join(LIMIT)
    assert not warming.is_alive() and not closing.is_alive()


def test_a_callback_may_close_the_model():
    model = megengine_lite.load(DIGITS)
    closed = threading.Event()

    def close(_):
        model.close()
        closed.set()

    future = model.run_async(X)
    future.add_done_callback(close)
    assert closed.wait(LIMIT)
    with pytest.raises(LiteError, match="closed"):
        model(X)
    assert not model._workers


def test_closing_cancels_runs_that_have_not_begun():
    model = megengine_lite.load(DIGITS, threads=1)
    held = ExitStack()
    held.enter_context(busy(model))
    first, *others = [model.run_async(X) for _ in range(4)]
    while not first.running():
        time.sleep(0.001)

    async def waits():
        return await others[-1]

    back = threading.Timer(0.05, held.close)
    back.start()
    model.close()
    back.join()
    assert first.result(timeout=5)[0].shape == (3, 10)
    for future in others:
        with pytest.raises(CancelledError):
            future.result(timeout=5)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(asyncio.wait_for(waits(), 5))
