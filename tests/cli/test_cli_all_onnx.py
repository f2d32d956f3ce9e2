"""Every command takes an ONNX model, also one whose weights are computed while it is loaded."""

import json

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.api_samples import loaded
from support.onnx_models import make, run

import megengine_lite
from megengine_lite import LiteConfig

F = TensorProto.FLOAT
RNG = np.random.default_rng(5)
W = RNG.integers(-127, 128, (4, 3)).astype(np.int8)
X = RNG.standard_normal((2, 4)).astype(np.float32)
FEW = ("--input", "x={2,4}", "--iter", 1, "--warmup-iter", 0)
KEY = ("--method", "AES_default")
Y = X @ (W * np.float32(0.01)) + 3


@pytest.fixture
def model(tmp_path):
    """Its weights are dequantized, its bias a sum: both are constants after it is loaded."""
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "scale"], ["w"], "weights"),
        helper.make_node("Add", ["one", "two"], ["three"], "bias"),
        helper.make_node("MatMul", ["x", "w"], ["p"], "product"),
        helper.make_node("Add", ["p", "three"], ["y"], "sum"),
    ]
    numbers = {"q": W, "scale": np.float32(0.01), "one": np.float32([1]), "two": np.float32([2])}
    path = tmp_path / "model.onnx"
    path.write_bytes(make(nodes, [("x", F, ["n", 4])], [("y", F, None)], numbers).SerializeToString())
    np.save(tmp_path / "x.npy", X)
    return path


def gives(path, method=""):
    config = LiteConfig()
    config.bare_model_cryption_name = method
    np.testing.assert_allclose(run(loaded(path, config), x=X)[0], Y, rtol=1e-6)


def test_profile_names_the_nodes_of_the_model(model, run_json, tmp_path):
    result = run_json("profile", model, *FEW, "--output", tmp_path / "p.json", "--form", "megengine")
    assert {"product", "sum"} & {s["name"] for s in result["steps"]}
    names = {o["name"] for o in json.loads((tmp_path / "p.json").read_text())["graph_exec"]["operator"].values()}
    assert "x" in names and len(names) >= 4


def test_all_tensors_of_a_run_are_written(model, run_json, tmp_path):
    run_json("run", model, "--input", f"x={tmp_path / 'x.npy'}", "--io-dump", tmp_path / "dump.txt")
    assert "x" in (tmp_path / "dump.txt").read_text()
    (tmp_path / "tensors").mkdir()
    run_json("run", model, "--input", f"x={tmp_path / 'x.npy'}", "--bin-io-dump", tmp_path / "tensors")
    sizes = [p.stat().st_size for p in (tmp_path / "tensors").iterdir()]
    assert len(sizes) >= 3


def test_info_bench_fit_report_and_verify_read_it(model, run_json, tmp_path):
    assert [i["name"] for i in run_json("info", model)["inputs"]] == ["x"]
    assert run_json("bench", model, *FEW)
    assert run_json("fit", model, "--input", "x={2,4}")
    assert run_json("report", model, *FEW, "--layers", "--other=--isa base", "-o", tmp_path / "r.json")["written"]
    np.savez(tmp_path / "stored.npz", y=Y)
    given = ("--input", f"x={tmp_path / 'x.npy'}")
    assert run_json("verify", model, "--against", tmp_path / "stored.npz", *given)
    assert run_json("verify", model, "--layers", "--other=--isa base", *given)


def test_what_is_written_of_it_gives_the_same(model, run_json, tmp_path):
    run_json("encrypt", model, tmp_path / "secret.onnx", *KEY)
    run_json("decrypt", tmp_path / "secret.onnx", tmp_path / "again.onnx", *KEY)
    assert (tmp_path / "again.onnx").read_bytes() == model.read_bytes()
    run_json("pack", model, tmp_path / "model.lite")
    run_json("prepare", model, "-o", tmp_path / "model.prepared", "--input", "x={2,4}")
    run_json("convert", model, tmp_path / "model.mge", "--shape", "x=2x4")
    run_json("unpack", tmp_path / "model.lite", tmp_path / "unpacked")
    for name in "again.onnx", "model.lite", "model.mge":
        gives(tmp_path / name)
    gives(tmp_path / "secret.onnx", KEY[1])
    with megengine_lite.load(model, prepared=tmp_path / "model.prepared") as prepared:
        np.testing.assert_allclose(prepared(X)[0], Y, rtol=1e-6)


def test_values_in_other_files_come_along(run_json, tmp_path):
    """A package and an encrypted file work alone, also away from what stood beside the model."""
    place = tmp_path / "place"
    place.mkdir()
    weights = np.arange(1200, dtype=np.float32).reshape(4, 300)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    branch = helper.make_graph(
        [helper.make_node("Add", ["y", "v"], ["z"])],
        "b",
        [],
        [helper.make_tensor_value_info("z", F, None)],
        [numpy_helper.from_array(weights[:1], "v")],
    )
    choice = helper.make_node("If", ["yes"], ["out"], then_branch=branch, else_branch=branch)
    made = make(
        [node, choice], [("x", F, [1, 4]), ("yes", TensorProto.BOOL, [])], [("out", F, [1, 300])], {"w": weights}
    )
    for name, tensor in (("w.bin", made.graph.initializer[0]), ("v.bin", branch_tensor(made))):
        (place / name).write_bytes(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=name)
    (place / "model.onnx").write_bytes(made.SerializeToString())
    run_json("pack", place / "model.onnx", tmp_path / "alone.lite")
    run_json("encrypt", place / "model.onnx", tmp_path / "alone.enc", *KEY)
    run_json("unpack", tmp_path / "alone.lite", tmp_path / "parts")
    x = np.arange(4, dtype=np.float32).reshape(1, 4)
    for path, method in (("alone.lite", ""), ("parts/model.onnx", ""), ("alone.enc", KEY[1])):
        config = LiteConfig()
        config.bare_model_cryption_name = method
        (found,) = run(loaded(tmp_path / path, config), x=x, yes=np.array([1], np.uint8))
        np.testing.assert_allclose(found, x @ weights + weights[:1], rtol=1e-6)


def branch_tensor(model):
    return model.graph.node[1].attribute[0].g.initializer[0]


def test_a_model_of_onnx_is_unpacked_under_its_own_suffix(model, run_json, tmp_path):
    run_json("pack", model, tmp_path / "model.lite")
    run_json("unpack", tmp_path / "model.lite", tmp_path / "parts")
    assert [p.name for p in (tmp_path / "parts").iterdir()] == [model.name]
