"""Predictors on a local cluster of Ray; collected where Ray is installed."""

import os
import signal

import numpy as np
import pytest
from support.api_samples import DIGITS, IMAGES, PROB, close
from support.engines import engine

ray = engine("ray")
engine("ray.data")

from megengine_lite.batch import Predictor  # noqa: E402

IDS = np.arange(len(IMAGES))


@pytest.fixture(scope="module")
def _cluster():
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


def rows_of(dataset) -> np.ndarray:
    """The probabilities in the order of the rows, which Ray keeps only when asked."""
    found = sorted(dataset.take_all(), key=lambda row: row["id"])
    assert [row["id"] for row in found] == IDS.tolist()
    return np.stack([row["prob"] for row in found])


@pytest.mark.parametrize("form", ["numpy", "pandas", "pyarrow"])
@pytest.mark.usefixtures("_cluster")
def test_a_pool_of_actors_maps_batches(form):
    dataset = ray.data.from_items([{"id": int(i), "data": IMAGES[i]} for i in IDS], override_num_blocks=6)
    mapped = dataset.map_batches(
        Predictor,
        fn_constructor_kwargs={"model": DIGITS, "inputs": {"data": "data"}, "keep": ["id"]},
        batch_format=form,
        batch_size=50,
        compute=ray.data.ActorPoolStrategy(size=2),
    )
    assert close(rows_of(mapped), PROB)


@pytest.mark.usefixtures("_cluster")
def test_a_worker_that_is_killed_loses_nothing(tmp_path):
    class DyingPredictor(Predictor):  # in here, because workers cannot import this module
        """Kills its process once, in the middle of the work."""

        def __init__(self, flag, **options):
            super().__init__(**options)
            self._flag = flag

        def __call__(self, batch):
            if 200 in batch["id"] and not os.path.exists(self._flag):
                open(self._flag, "x").close()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__call__(batch)

    flag = tmp_path / "killed"
    dataset = ray.data.from_items([{"id": int(i), "data": IMAGES[i]} for i in IDS], override_num_blocks=6)
    options = {"flag": str(flag), "model": DIGITS, "inputs": {"data": "data"}, "keep": ["id"]}
    mapped = dataset.map_batches(
        DyingPredictor, fn_constructor_kwargs=options, batch_size=50, compute=ray.data.ActorPoolStrategy(size=2)
    )
    assert close(rows_of(mapped), PROB)
    assert flag.exists()
