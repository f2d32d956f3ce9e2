"""The programs of docs/scaling.md, each on the engine that it is for."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from support import onnx_models
from support.engines import engine
from support.pages import DOCS, blocks_of
from support.places import ROOT

pandas = engine("pandas")

IMAGES = np.random.default_rng(1).integers(0, 256, (40, 3, 224, 224), np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working directory with a model of images and one of tables."""
    from onnx import helper

    pooled = [
        helper.make_node("GlobalAveragePool", ["data"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["prob"]),
    ]
    ends = [("data", 1, ["n", 3, 224, 224])], [("prob", 1, ["n", 10])]
    weight = np.eye(3, 10, dtype="float32")
    images = onnx_models.make(pooled, *ends, {"weight": weight})
    (tmp_path / "model.mge").write_bytes(images.SerializeToString())

    total = [helper.make_node("ReduceSum", ["x", "axes"], ["score"], keepdims=0)]
    table = onnx_models.make(total, [("x", 1, ["n", 3])], [("score", 1, ["n"])], {"axes": np.array([1])})
    (tmp_path / "table.mge").write_bytes(table.SerializeToString())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def program(word: str, folder: Path) -> str:
    """The block with a word in it; models are in the folder instead of /models."""
    (block,) = (b.text for b in blocks_of(DOCS / "scaling.md", "python") if word in b.text)
    return block.replace("/models/", f"{folder}/")


def table() -> "pandas.DataFrame":
    rng = np.random.default_rng(2)
    return pandas.DataFrame({"id": range(50), **{n: rng.random(50) for n in ("width", "height", "weight")}})


def is_total_of(found: "pandas.DataFrame", frame: "pandas.DataFrame") -> bool:
    assert found["id"].tolist() == frame["id"].tolist()
    return bool(np.allclose(found["score"], frame[["width", "height", "weight"]].sum(axis=1), atol=1e-5))


def test_ray_data(folder):
    """With two processors a pool that keeps both would leave none for reading."""
    ray = engine("ray")
    from PIL import Image

    (folder / "images").mkdir()
    for k, image in enumerate(IMAGES[:6]):
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / "images" / f"{k}.png")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        exec(program("import ray", folder), {})
        found = np.stack(pandas.read_parquet(folder / "predictions")["prob"])
    finally:
        ray.shutdown()
    wanted = IMAGES[:6].mean(axis=(2, 3))
    assert np.allclose(sorted(found[:, :3].tolist()), sorted(wanted.tolist()), atol=1e-2)


def test_dask_frames(folder):
    engine("dask.dataframe")
    frame = table()
    frame.to_parquet(folder / "table.parquet")
    names: dict[str, object] = {}
    exec(program("import dask.dataframe", folder), names)
    assert is_total_of(names["result"].compute(), frame)


def test_dask_arrays(folder):
    dask_array = engine("dask.array")
    images = dask_array.from_array(IMAGES.astype("float32"), chunks=(20, 3, 224, 224))
    dask_array.to_npy_stack(folder / "images", images)
    from megengine_lite.batch import Predictor

    names: dict[str, object] = {"Predictor": Predictor}
    exec(program("import dask.array", folder), names)
    found = names["scores"].compute()
    assert found.shape == names["scores"].shape == (40, 10)
    assert np.allclose(found[:, :3], IMAGES.mean(axis=(2, 3)), atol=1e-2)


def test_spark_calls_a_function_of_frames(folder):
    """What the program hands to Spark, called as Spark calls it; test_spark.py does so on Spark itself."""
    from megengine_lite.batch import Predictor

    frame = table()

    class Frame:
        def mapInPandas(self, function, schema):
            assert schema == "id long, score double"
            return pandas.concat(function(iter([frame[:20], frame[20:]])))

    names: dict[str, object] = {"Predictor": Predictor, "frame": Frame()}
    exec(program("mapInPandas", folder), names)
    assert list(names["result"].columns) == ["id", "score"]
    assert is_total_of(names["result"], frame)


def test_settings_of_dask_exist_and_reach_the_workers(folder):
    """A key that Dask does not know would be taken without a word."""
    distributed = engine("distributed")
    import dask

    text = program("dask.config.set", folder)
    keys = re.findall(r'"(distributed\.[a-z.-]+)"', text)
    before = {key: dask.config.get(key) for key in keys}  # raises for others
    assert len(keys) == 4
    try:
        exec(text, {})
        chosen = {key: dask.config.get(key) for key in keys}
        assert all(chosen[key] != before[key] for key in keys)
        benchmark = runpy.run_path(str(ROOT / "benchmarks" / "scaling.py"))
        assert chosen == benchmark["CALM"]
        with (
            distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
            distributed.Client(cluster) as client,
        ):
            assert client.submit(lambda: {key: dask.config.get(key) for key in keys}).result() == chosen
    finally:
        dask.config.set(before)
