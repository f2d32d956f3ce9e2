"""Predictors in the processes of ``concurrent.futures``."""

import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest
from support import onnx_models
from support.api_samples import DIGITS, IMAGES, PROB, close
from support.pages import DOCS, blocks_of

import megengine_lite
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


class Dying(Predictor):
    """Kills its process at the batches of these numbers, one after the other."""

    def __init__(self, folder, places):
        super().__init__(DIGITS)
        self._folder, self._places = folder, places

    def __call__(self, batch):
        deaths = len(os.listdir(self._folder))
        if deaths < len(self._places) and np.array_equal(batch, BATCHES[self._places[deaths]]):
            open(os.path.join(self._folder, str(deaths)), "x").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(batch)


@pytest.mark.parametrize("places", [(5,) * 1, (5,) * 2, (5,) * 3, (2, 4, 6, 8, 10)])
def test_the_function_of_the_page_goes_on_after_a_process_is_killed(tmp_path, places):
    """It counts the pools in a row that give no result: processes may die often, but not always in one place."""
    (program,) = (b.text for b in blocks_of(DOCS / "scaling.md", "python") if "BrokenProcessPool" in b.text)
    names = {"ProcessPoolExecutor": ProcessPoolExecutor, "predict": Dying(str(tmp_path), places)}
    exec(program, names)
    results = names["results_of"](BATCHES)
    if places == (5,) * 3:  # it does not try for ever
        with pytest.raises(BrokenProcessPool):
            list(results)
    else:
        assert close(np.concatenate(list(results)), PROB)
    assert len(os.listdir(tmp_path)) == len(places)


def share_of_memory() -> int:
    """Bytes of this process; a page that n processes share counts a n-th."""
    with open("/proc/self/smaps_rollup", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))


def measured(together, predictors, found) -> None:
    """Puts the share of memory into a queue: with a small model, and with a large one beside it."""
    for predict, rows in predictors:
        predict(rows)
        together.wait()  # all have it now
        found.put((predict is predictors[-1][0], share_of_memory()))
        together.wait()


def memory_of_three(predictors, whole):
    """Bytes that three processes have more for the large model, in parts of its weights."""
    workers = 3
    context = multiprocessing.get_context("spawn")
    together, found = context.Barrier(workers, timeout=120), context.Queue()
    processes = [context.Process(target=measured, args=(together, predictors, found)) for _ in range(workers)]
    for process in processes:
        process.start()
    shares = [found.get(timeout=240) for _ in range(2 * workers)]
    for process in processes:
        process.join()
    small, large = (sum(nbytes for is_large, nbytes in shares if is_large == which) for which in (False, True))
    return (large - small) / whole


def product(path, rows, columns):
    """Writes a model whose memory is its weights; gives their bytes."""
    from onnx import helper

    weight = np.random.default_rng(0).random((rows, columns), "float32")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    model = onnx_models.make(nodes, [("x", 1, ["n", rows])], [("y", 1, ["n", columns])], {"w": weight})
    path.write_bytes(model.SerializeToString())
    return weight.nbytes


needs_linux = pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="needs Linux")


@needs_linux
def test_processes_share_the_weights_of_a_prepared_file(tmp_path):
    path, prepared = tmp_path / "m.onnx", tmp_path / "m.prepared"
    nbytes = product(path, 2048, 4096)
    row = np.ones([1, 2048], "float32")
    megengine_lite.load(path, threads=1).prepare(prepared, row)
    predictors = [(Predictor(DIGITS), IMAGES[:1]), (Predictor(path, prepared=prepared, share_weights=False), row)]
    assert 0.5 < memory_of_three(predictors, nbytes) <= 1.2


@needs_linux
def test_processes_share_the_weights_unless_told_not_to(tmp_path):
    nbytes = product(tmp_path / "large.onnx", 2048, 4096)
    product(tmp_path / "small.onnx", 2048, 1)
    row = np.ones([1, 2048], "float32")
    for share, least, most in ((True, 0.9, 1.2), (False, 2.9, 3.2)):
        predictors = [(Predictor(tmp_path / f"{n}.onnx", share_weights=share), row) for n in ("small", "large")]
        assert least < memory_of_three(predictors, nbytes) <= most
