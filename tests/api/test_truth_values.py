"""Truth values of ONNX models: bytes at inputs, of which all but 0 are true."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, parser
from support.onnx_models import load, make, run

import megengine_lite
from megengine_lite import LiteNetwork, LiteTensor
from megengine_lite.errors import LiteTypeError

BYTES = np.array([255, 2, 0, 1, 128, 0], "uint8")
TRUTHS = BYTES != 0
OUTPUTS = {
    "same": TRUTHS,
    "number": TRUTHS.astype("float32"),
    "equal": TRUTHS,
    "not_x": ~TRUTHS,
    "both": TRUTHS,
    "either": TRUTHS | TRUTHS[::-1],
    "differ": TRUTHS ^ TRUTHS[::-1],
    "count": np.int32(TRUTHS.sum()),
    "chosen": np.where(TRUTHS, 1, 2),
    "places": np.flatnonzero(TRUTHS)[None],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("truths") / "truths.onnx"
    text = """<ir_version: 8, opset_import: ["" : 17]> graph (bool[N] x, bool[N] r)
        => (bool[N] same, float[N] number, bool[N] equal, bool[N] not_x, bool[N] both, bool[N] either, bool[N] differ,
            int64 count, int64[N] chosen, int64[1,M] places)
        <bool one = {1}, int64 a = {1}, int64 b = {2}>
        { same = Identity(x) number = Cast<to = 1>(x) equal = Equal(x, one) not_x = Not(x) both = And(x, one)
          either = Or(x, r) differ = Xor(x, r) c = Cast<to = 7>(x) count = ReduceSum<keepdims = 0>(c)
          chosen = Where(x, a, b) places = NonZero(x) }"""
    path.write_bytes(parser.parse_model(text).SerializeToString())
    return path


def check(found):
    assert found.keys() == OUTPUTS.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array.reshape(np.shape(OUTPUTS[name])), OUTPUTS[name], err_msg=name)


def results(network: LiteNetwork):
    network.forward()
    network.wait()
    return {name: network.get_io_tensor(name).to_numpy() for name in OUTPUTS}


@pytest.mark.parametrize("given", ["copied", "shared", "through other memory", "part of a tensor"])
def test_networks_take_all_bytes_but_0_as_true(model, given):
    network = load(model)
    x, r = network.get_io_tensor("x"), network.get_io_tensor("r")
    r.set_data_by_copy(BYTES[::-1].copy())
    memory = np.ones(len(BYTES), "uint8")
    for numbers in (np.ones_like(BYTES), BYTES, np.zeros_like(BYTES), BYTES):  # the plan of the first run runs again
        if given == "copied":
            x.set_data_by_copy(numbers)
        elif given == "part of a tensor":
            whole = LiteTensor()
            whole.set_data_by_copy(np.concatenate([[7], numbers]).astype("uint8"))
            x.share_memory_with(whole.slice([1], [1 + len(numbers)]))
        else:
            if given == "shared":
                x.set_data_by_share(memory)
            memory[:] = numbers
            if given != "shared":
                x.set_data_by_share(memory.copy())
        found = results(network)
        if numbers is BYTES:
            check(found)
        else:
            assert (found["same"] == numbers).all() and found["count"] == numbers.sum()


def test_memory_of_the_caller_stays_as_it_is(model):
    network = load(model)
    memory = BYTES.copy()
    network.get_io_tensor("x").set_data_by_share(memory)
    network.get_io_tensor("r").set_data_by_copy(BYTES[::-1].copy())
    check(results(network))
    assert (memory == BYTES).all()


def test_models_do_so_too(model):
    truths = BYTES.view("bool")  # as programs make that read masks
    loaded = megengine_lite.load(model)
    for _ in range(2):
        check(dict(loaded(truths, truths[::-1]).items()))


def test_prepared_models_do_so_too(tmp_path):
    text = """<ir_version: 8, opset_import: ["" : 17]> graph (bool[6] x) => (bool[6] y)
        <bool one = {1}> { y = Equal(x, one) }"""
    source = parser.parse_model(text).SerializeToString()
    prepared = tmp_path / "prepared"
    megengine_lite.load(source).prepare(prepared, TRUTHS)
    model = megengine_lite.load(source, prepared=prepared)
    for truths in (TRUTHS, BYTES.view("bool"), ~TRUTHS):
        np.testing.assert_array_equal(model(truths)[0], truths != 0)


@pytest.mark.parametrize("given", [BYTES, TRUTHS.astype("uint8"), TRUTHS.astype("float32"), [1, 0, 1, 0, 1, 0]])
def test_a_model_takes_and_gives_arrays_of_bool_only(model, given):
    loaded = megengine_lite.load(model)
    assert {d.dtype for d in loaded.inputs} == {loaded.outputs[0].dtype} == {np.dtype("bool")}
    assert loaded(x=TRUTHS, r=TRUTHS)["same"].dtype == "bool"
    with pytest.raises(LiteTypeError, match="'x' has elements of bool"):
        loaded(x=given, r=TRUTHS)


def test_the_command_run_does_so_too(model, run_json, tmp_path):
    np.save(tmp_path / "x.npy", BYTES)
    for k, x in enumerate((tmp_path / "x.npy", BYTES.tolist())):
        out = tmp_path / f"{k}.npz"
        run_json("run", model, "--input", f"x={x}", "--input", f"r={BYTES[::-1].tolist()}", "--output", out)
        with np.load(out) as file:
            check(dict(file))


@pytest.mark.parametrize("place", ["bytes", "numbers", "another file"])
def test_stored_truth_values_do_so_too(place, tmp_path):
    model = make([helper.make_node("Equal", ["w", "x"], ["y"])], [("x", 9, [6])], [("y", 9, [6])])
    stored = helper.make_tensor("w", TensorProto.BOOL, [6], BYTES.tobytes(), raw=True)
    if place == "numbers":
        stored = helper.make_tensor("w", TensorProto.BOOL, [6], BYTES.tolist())
        stored.int32_data[:] = BYTES.tolist()
    model.graph.initializer.append(stored)
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=place == "another file", location="values", size_threshold=0)
    assert (tmp_path / "values").exists() == (place == "another file")
    np.testing.assert_array_equal(run(load(path), x=TRUTHS.view("uint8"))[0], np.ones(6))
