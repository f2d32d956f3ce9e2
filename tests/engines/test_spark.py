"""Predictors on a local Spark; collected where Spark and Java are installed, in CI only if they install."""

import shutil
import sys

import numpy as np
import pytest
from support.api_samples import DIGITS, IMAGES, PROB, close

spark_sql = pytest.importorskip("pyspark.sql")
pandas = pytest.importorskip("pandas")
if shutil.which("java") is None:
    pytest.skip("Spark needs Java", allow_module_level=True)

from megengine_lite.batch import Predictor  # noqa: E402


@pytest.fixture(scope="module")
def spark():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        builder = spark_sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
        session = builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", "50").getOrCreate()
        yield session
        session.stop()


def test_frames_are_mapped(spark):
    rows = pandas.DataFrame({"id": np.arange(360), "image": [i.reshape(64).tolist() for i in IMAGES]})
    frame = spark.createDataFrame(rows, "id long, image array<float>").repartition(4)
    predict = Predictor(DIGITS.read_bytes(), inputs={"data": "image"}, keep=["id"])

    def mapped(frames):
        for one in frames:
            one["image"] = [np.reshape(i, (1, 8, 8)) for i in one["image"]]
            yield predict(one)

    found = frame.mapInPandas(mapped, "id long, prob array<float>").orderBy("id").toPandas()
    assert found["id"].tolist() == list(range(360))
    assert close(np.stack(list(found["prob"])), PROB)
