"""Predictors on a local cluster of Dask; collected where Dask is installed."""

import os
import signal

import numpy as np
import pytest
from support.api_samples import DIGITS, IMAGES, PROB, close
from support.engines import engine

distributed = engine("distributed")
pandas = engine("pandas")
dask_array = engine("dask.array")
dask_frame = engine("dask.dataframe")

from megengine_lite.batch import Predictor  # noqa: E402


@pytest.fixture(scope="module")
def _cluster():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs="CRITICAL"
        ) as cluster,
        distributed.Client(cluster),
    ):
        yield


def frame():
    rows = {f"p{i}": IMAGES.reshape(360, 64)[:, i] for i in range(64)}
    return pandas.DataFrame({"id": range(360), **rows})


class Reshaped(Predictor):
    """Takes 64 columns as an image."""

    def __call__(self, batch):
        images = batch[[f"p{i}" for i in range(64)]].to_numpy("float32").reshape(-1, 1, 8, 8)
        return pandas.DataFrame({"id": batch["id"], "digit": super().__call__(images).argmax(1)}, index=batch.index)


class Dying(Reshaped):
    """Kills its process once, in the middle of the work."""

    def __init__(self, flag, model):
        super().__init__(model)
        self._flag = flag

    def __call__(self, batch):
        if 200 in batch["id"].to_numpy() and not os.path.exists(self._flag):
            open(self._flag, "x").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(batch)


@pytest.mark.usefixtures("_cluster")
def test_partitions_of_a_frame():
    parts = dask_frame.from_pandas(frame(), npartitions=6)
    predict = Reshaped(DIGITS)
    result = parts.map_partitions(predict, meta=predict(frame()[:0])).compute()
    assert result["id"].tolist() == list(range(360))
    assert result["digit"].tolist() == PROB.argmax(1).tolist()


@pytest.mark.usefixtures("_cluster")
def test_columns_of_a_frame_become_an_input():
    model = "(float[N, 3] x) => (float[N] s) <int64[1] k = {1}> { s = ReduceSum<keepdims=0>(x, k) }"
    onnx = engine("onnx.parser")
    text = f'<ir_version: 8, opset_import: ["" : 17]> graph {model}'
    predict = Predictor(
        onnx.parse_model(text).SerializeToString(), inputs={"x": ["p10", "p11", "p12"]}, keep=["id"]
    )  # fmt: skip
    parts = dask_frame.from_pandas(frame(), npartitions=4)
    result = parts.map_partitions(predict, meta=predict(frame()[:0])).compute()
    assert np.allclose(result["s"], frame()[["p10", "p11", "p12"]].sum(axis=1))


@pytest.mark.usefixtures("_cluster")
def test_blocks_of_an_array():
    images = dask_array.from_array(IMAGES, chunks=(60, 1, 8, 8))
    result = images.map_blocks(Predictor(DIGITS), dtype="float32", drop_axis=(2, 3), chunks=(60, 10))
    assert close(result.compute(), PROB)


@pytest.mark.usefixtures("_cluster")
def test_a_worker_that_is_killed_loses_nothing(tmp_path):
    flag = tmp_path / "killed"
    parts = dask_frame.from_pandas(frame(), npartitions=6)
    predict = Dying(str(flag), DIGITS)
    result = parts.map_partitions(predict, meta=Reshaped(DIGITS)(frame()[:0])).compute()
    assert result["id"].tolist() == list(range(360))
    assert result["digit"].tolist() == PROB.argmax(1).tolist()
    assert flag.exists()
