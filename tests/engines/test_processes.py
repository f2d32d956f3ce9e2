"""Predictors in the processes of ``concurrent.futures``."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from support.api_samples import DIGITS, IMAGES, PROB, close

from megengine_lite.batch import Predictor
from megengine_lite.errors import ShapeError

BATCHES = np.split(IMAGES, 12)


@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
def test_batches_keep_their_order(start):
    predict = Predictor(DIGITS)
    predict(BATCHES[0])  # a forked process finds a model that it did not load
    with ProcessPoolExecutor(2, multiprocessing.get_context(start), predict.warmup) as pool:
        results = list(pool.map(predict, BATCHES))
    assert len(results) == 12
    assert close(np.concatenate(results), PROB)


def test_an_error_comes_back_with_the_number_of_its_row():
    rows = np.empty(3, object)
    rows[:] = [*IMAGES[:2], np.zeros([8, 8])]
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        with pytest.raises(ShapeError, match="row 2 of the batch"):
            pool.submit(Predictor(DIGITS), {"data": rows}).result()
        assert close(pool.submit(Predictor(DIGITS), IMAGES[:4]).result(), PROB[:4])
