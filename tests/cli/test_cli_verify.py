"""The command verify: what it compares, and what it says of it."""

import json
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pytest
from support.onnx_models import bytes_of_text

import megengine_lite
from megengine_lite._cli import flags, other_run, verify
from megengine_lite._core.formats.load import load_model
from megengine_lite._core.reports.differences import compare, compare_closely
from megengine_lite._core.runtime.session import Session
from megengine_lite._core.session_config import SessionConfig

BUNDLED = Path(megengine_lite.__file__).parent / "bundled"
DIGITS = str(BUNDLED / "digits.mge")


@pytest.fixture(scope="module")
def data():
    with np.load(BUNDLED / "digits.npz") as file:
        return dict(file)


def test_verify_compares_with_stored_outputs(run_json, data, tmp_path):
    case = {"in_data": data["images"][:, None].astype(np.float32), "out_0": data["prob"]}
    np.savez(tmp_path / "case.npz", **case)
    result = run_json("verify", DIGITS, "--against", tmp_path / "case.npz", "--tolerance", 1e-5)
    assert result["outputs"]["prob"]["equal"] and result["outputs"]["prob"]["relative"] < 1e-5
    case["out_0"] = data["prob"] + 0.01
    np.savez(tmp_path / "wrong.npz", **case)
    result = run_json("verify", DIGITS, "--against", tmp_path / "wrong.npz", status=1)
    assert result["outputs"]["prob"]["difference"] == pytest.approx(0.01, rel=1e-3)


def test_files_without_outputs_say_what_they_have(error_of, tmp_path):
    np.savez(tmp_path / "case.npz", in_data=np.ones([1, 1, 8, 8], np.float32))
    message = error_of("verify", DIGITS, "--against", tmp_path / "case.npz")
    assert "case.npz has no outputs: it has in_data, and not prob or out_0" in message
    path = tmp_path / "m.onnx"
    path.write_bytes(bytes_of_text("(float[2] x) => (float[2] out_0) { out_0 = Neg(x) }"))
    np.savez(tmp_path / "case.npz", in_x=np.ones(2, np.float32), other=np.ones(2, np.float32))
    message = error_of("verify", path, "--against", tmp_path / "case.npz")
    assert "case.npz has no outputs: it has in_x, other, and not out_0" in message


def test_verify_compares_models_and_unoptimized_runs(run_json):
    for against in ([], ["--against", DIGITS]):
        result = run_json("verify", DIGITS, "--threads", 2, "--enable-nchw44", *against)
        assert result["outputs"]["prob"]["relative"] < 1e-5 and not result["failed"]


def test_verify_gives_the_other_run_flags_of_its_own(run_json, error_of, monkeypatch):
    loaded = []
    load = flags.load_network
    monkeypatch.setattr(flags, "load_network", lambda args: (loaded.append(args), load(args))[1])
    other = "--other=--isa base --threads 2 --nofast_run --option graph_opt_level=0"
    result = run_json("verify", DIGITS, "--fast-run", "--threads", 1, "--option", "jit_level=1", other)
    assert result["outputs"]["prob"]["relative"] < 1e-5 and result["against"] == other.partition("=")[2]
    first, second = loaded
    assert (first.isa, first.threads, first.fast_run, first.option) == (None, 1, True, ["jit_level=1"])
    assert (second.isa, second.threads, second.fast_run) == ("base", 2, False)
    assert second.option == ["jit_level=1", "graph_opt_level=0"]
    assert "No closing quotation" in error_of("verify", DIGITS, "--other='", status=2)
    assert "--other: error: unrecognized arguments: --bogus" in error_of("verify", DIGITS, "--other=--bogus", status=2)
    assert "is for a second run" in error_of("verify", DIGITS, "--against=x.npz", "--other=--cpu", status=2)


@pytest.mark.parametrize("command", ["verify", "report"])
def test_keys_are_for_those_of_two_models_that_are_encrypted(command, run_json, error_of, tmp_path):
    plain, package = tmp_path / "plain.mge", tmp_path / "package.lite"
    plain.write_bytes(Path(DIGITS).read_bytes())
    one, two = (["AES_default", "11" * 32], ["RC4_default", "22" * 16])
    for name, (method, key) in (("one", one), ("two", two)):
        run_json("encrypt", DIGITS, tmp_path / name, "--method", method, "--key", key)
    run_json("pack", DIGITS, package)
    with_one, with_two = (["--decrypt", m, "--key", k] for m, k in (one, two))
    for model, against, words in (
        ("one", plain, with_one),
        ("one", "one", with_one),
        ("one", package, with_one),
        ("one", "two", [*with_one, f"--other={' '.join(with_two)}"]),
        (plain, "two", [f"--other={' '.join(with_two)}"]),
        ("one", None, with_one),
    ):
        other = [] if against is None else ["--against", tmp_path / against]
        more = ["-o", tmp_path / "report.html"] if command == "report" else []
        run_json(command, tmp_path / model, *other, *words, "--input-desc", "data:1,1,8,8", *more)
    words = [*with_one, "--against", plain, f"--other={' '.join(with_one)}"]
    more = ["-o", tmp_path / "report.html"] if command == "report" else []
    assert "not encrypted by AES_default" in error_of(
        command, tmp_path / "one", *words, "--input-desc", "data:1,1,8,8", *more
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--decrypt RC4_default", ("RC4_default", None)),
        ("--decrypt AES_default", ("AES_default", "11")),
        ("--decrypt RC4_default --key 22", ("RC4_default", "22")),
        ("--key 22", ("AES_default", "22")),
        ("--threads 2", ("AES_default", "11")),
    ],
)
def test_a_key_is_not_lent_to_another_method(tmp_path, words, expected):
    parser = ArgumentParser()
    verify.add(parser)
    args = parser.parse_args(["one", "--against", "two", "--decrypt", "AES_default", "--key", "11", f"--other={words}"])
    (tmp_path / "two").write_bytes(bytes(range(200)))  # it looks encrypted
    args.module, args.against = verify, str(tmp_path / "two")
    other = other_run.other_flags(args)
    assert (other.decrypt, other.key) == expected


def test_verify_runs_packages_without_their_own_options_for_the_unoptimized_run(run_json, tmp_path, monkeypatch):
    settings = {"name": "digits", "valid": True, "version": "1.13.0", "options": {"graph_opt_level": 2}}
    (tmp_path / "info.json").write_text(json.dumps(settings))
    run_json("pack", DIGITS, tmp_path / "m.lite", "--info", tmp_path / "info.json")
    levels = []
    load = flags.load_network

    def watched(args):
        loaded = load(args)
        levels.append(loaded.network._settings.options.graph_opt_level)
        return loaded

    monkeypatch.setattr(flags, "load_network", watched)
    assert run_json("verify", tmp_path / "m.lite", "--batch-size", 2)["outputs"]["prob"]["equal"]
    assert levels == [2, 0]


def test_verify_compares_outputs_of_other_names_by_position(run_json, tmp_path):
    content = Path(DIGITS).read_bytes()
    (tmp_path / "renamed.mge").write_bytes(content.replace(b"prob", b"best"))
    result = run_json("verify", DIGITS, "--against", tmp_path / "renamed.mge")
    assert result["outputs"]["prob"]["difference"] == 0


OTHERS = {
    "channels": "(float[N,3,8,8] data) => (float[N,1,8,8] prob) <float[1,3,1,1] w = {1,2,3}> { prob = Conv(data, w) }",
    "dimensions": "(float[N,8] data) => (float[N,8] prob) { prob = Abs(data) }",
    "inputs": "(float[N,1,8,8] image) => (float[N,1,8,8] prob) { prob = Abs(image) }",
    "data": "(float[N,1,8,8] data) => (float[M] prob) <int64[1] s = {7}> { prob = Reshape(data, s) }",
    "unknown": "(float[N,1,8,8] data) => (float[N,1,8,8] prob) { prob = Frobnicate(data) }",
}


@pytest.mark.parametrize("name", sorted(OTHERS))
@pytest.mark.parametrize("more", [[], ["--layers"]])
def test_what_the_other_model_cannot_do_is_told_of_its_file(error_of, tmp_path, name, more):
    other = tmp_path / "other.onnx"
    other.write_bytes(bytes_of_text(OTHERS[name]))
    assert f"{other}" in error_of("verify", DIGITS, "--against", other, *more)


def test_compare_sees_shapes_and_special_values():
    a = np.array([1, np.nan, np.inf], np.float32)
    assert compare(a, a, 0)["equal"]
    assert not compare(a, np.array([1, 2, np.inf]), 1)["equal"]
    assert not compare(a, a[:2], 1)["equal"]
    assert compare(np.array([1.0, 4.0]), np.array([1.5, 4.0]), 0.1) == {
        "equal": False, "difference": 0.5, "relative": 0.125, "largest": 4.0,
        "unequal": 1, "count": 2, "exact": False, "nan": 0, "infinite": 0,
    }  # fmt: skip
    assert compare(np.zeros((0, 3)), np.zeros((0, 3)), 0)["equal"]


FAR = 2**53
WHOLE = [np.bool_, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]


@pytest.mark.parametrize("how", [compare, compare_closely])
@pytest.mark.parametrize("kind", WHOLE, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("other", [None, np.float32, np.int64])
def test_integers_are_equal_only_if_all_are(how, kind, other):
    numbers = np.arange(1, 2001).astype(kind)
    same = how(numbers, numbers.astype(other or kind), 0.5)
    assert same["equal"] and same["exact"] and same["unequal"] == 0
    wrong = numbers.copy()
    wrong[[3, 1000]] = not numbers[0] if kind is np.bool_ else numbers[[3, 1000]] + kind(1)
    found = how(numbers, wrong.astype(other or kind), 0.5)
    assert (found["equal"], found["unequal"], found["count"], found["difference"]) == (False, 2, 2000, 1)


@pytest.mark.parametrize(
    ("ours", "theirs", "difference"),
    [
        (np.array([FAR + 1]), np.array([FAR]), 1),
        (np.array([FAR + 1]), np.array([float(FAR)]), 1),
        (np.array([2**64 - 1], np.uint64), np.array([-1]), 2.0**64),
        (np.array([-1]), np.array([2**64 - 1], np.uint64), 2.0**64),
        (np.array([-(2**63)]), np.array([2**63 - 1]), 2.0**64),
        (np.array([-FAR - 1]), np.array([-FAR]), 1),
        (np.array([3]), np.array([2.75]), 0.25),
        (np.array([2**63 - 1]), np.array([1e300]), 1e300),
        (np.array([1.0, 30000]), np.array([1, 30001]), 1),  # whole numbers, stored as another type
        (np.array([1]), np.array([True]), 0),
        (np.array([2**63], np.uint64), np.array([2.0**63]), 0),
    ],
)
def test_integers_are_compared_beyond_what_a_float_tells(ours, theirs, difference):
    found = compare(ours, theirs, 1e-3)
    assert (found["exact"], found["equal"], found["difference"]) == (True, not difference, difference)


def test_real_numbers_follow_the_tolerance_whatever_they_are_stored_as():
    assert compare(np.array([0.9999, 2.0]), np.array([1, 2]), 1e-3)["equal"]
    for kind in (np.int8, np.uint8):
        assert compare(np.array([100], kind), np.array([101], kind), 0.01)["equal"]
        assert not compare(np.array([100], kind), np.array([101], kind), 1e-3)["equal"]
    assert compare(np.array([10000]), np.array([10001]), 1e-3, quantized=True)["equal"]


def class_numbers(folder):
    """A network that gives the numbers of classes and whether they are sure, and values that another has stored."""
    pytest.importorskip("onnx")
    from onnx import TensorProto, helper
    from support import onnx_models

    nodes = [
        helper.make_node("ArgMax", ["x"], ["number"], axis=1, keepdims=0),
        helper.make_node("Greater", ["x", "x"], ["sure"]),
    ]
    outputs = [("number", TensorProto.INT64, [2]), ("sure", TensorProto.BOOL, [2, 4000])]
    made = onnx_models.make(nodes, [("x", TensorProto.FLOAT, [2, 4000])], outputs)
    (folder / "m.onnx").write_bytes(made.SerializeToString())
    x = np.zeros((2, 4000), np.float32)
    x[0, 3000] = x[1, 1234] = 1
    return folder / "m.onnx", {"in_x": x, "number": np.array([3000, 1234]), "sure": np.zeros(x.shape, bool)}


@pytest.mark.parametrize("layers", [[], ["--layers"]])
@pytest.mark.parametrize("name", ["number", "sure"])
@pytest.mark.parametrize("kind", [None, np.float32])
def test_wrong_class_numbers_are_found(run_json, capsys, tmp_path, layers, name, kind):
    file, values = class_numbers(tmp_path)
    if kind is not None:
        values = {k: v.astype(kind) for k, v in values.items()}
    words = ("verify", file, *layers, "--against", tmp_path / "v.npz")
    np.savez(tmp_path / "v.npz", **values)
    assert not run_json(*words)["failed"]
    wrong = values[name].copy()
    wrong.reshape(-1)[1] += True
    np.savez(tmp_path / "v.npz", **{**values, name: wrong})
    result = run_json(*words, status=1)
    assert (result["outputs"][name]["equal"], result["outputs"][name]["unequal"]) == (False, 1)
    if layers:
        (layer,) = (x for x in result["layers"]["layers"] if not x["equal"])
        assert layer["unequal"] == 1
    assert megengine_lite_main(*map(str, words)) == 1
    text = capsys.readouterr().out
    count = values[name].size
    if name == "number":
        assert f"DIFFERENT, 1 of {count:,} numbers\n" in text and "must be the same, whatever the tolerance" in text


# ---- layer by layer -------------------------------------------------------------------------------------------------


def layers_of(result) -> dict:
    return {layer["name"]: layer for layer in result["layers"]["layers"]}


@pytest.mark.parametrize("other", [[], ["--other=--isa base --threads 2"]])
def test_layers_of_two_runs_are_compared(run_json, other):
    result = run_json("verify", DIGITS, "--layers", *other)
    layers = layers_of(result)
    assert {"c1.RELU", "c2.RELU", "fc.ADD", "prob"} <= layers.keys() and result["layers"]["first"] is None
    for layer in layers.values():
        assert layer["equal"] and layer["relative"] < 1e-5 and layer["matched_by"] == "number"
        assert layer["mean"] <= layer["difference"] and (layer["snr_db"] is None or layer["snr_db"] > 100)
        assert layer["cosine"] == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("tolerance", ["-1", "nan", "x"])
def test_tolerance_is_a_number_from_0_on(error_of, tolerance):
    for command in ("verify", "report"):
        assert "--tolerance" in error_of(command, DIGITS, "--tolerance", tolerance, status=2)


def test_first_layer_that_parts_is_marked(capsys, run_json):
    result = run_json("verify", DIGITS, "--layers", "--tolerance", 0, status=1)
    first = result["layers"]["first"]
    layers = result["layers"]["layers"]
    assert not layers[first]["equal"] and all(layer["equal"] for layer in layers[:first])
    assert megengine_lite_main("verify", DIGITS, "--layers", "--tolerance", "0") == 1
    text = capsys.readouterr().out
    assert f"the first that differs: {first}, {layers[first]['op']} {layers[first]['name']!r}" in text


def megengine_lite_main(*words) -> int:
    from megengine_lite.cli import main

    return main(list(words))


def test_weights_that_differ_are_found(run_json, tmp_path):
    """Another bias in the third convolution: everything before it is the same."""
    content = Path(DIGITS).read_bytes()
    model = load_model(DIGITS)
    (bias,) = {v.const.array.tobytes() for n in model.graph.nodes for v in n.inputs if v.name == "c3.conv.bias"}
    assert content.count(bias) == 1
    changed = (np.frombuffer(bias, np.float32) + 5).tobytes()
    (tmp_path / "changed.mge").write_bytes(content.replace(bias, changed))
    result = run_json("verify", DIGITS, "--layers", "--against", tmp_path / "changed.mge", status=1)
    layers = result["layers"]["layers"]
    assert layers[result["layers"]["first"]]["name"] == "c3.RELU"
    assert {layer["matched_by"] for layer in layers} == {"name"}
    state = layers_of(result)
    assert state["c2.RELU"]["difference"] == 0 and state["c3.RELU"]["snr_db"] < 40


def test_models_without_common_names_are_compared(run_json, tmp_path):
    content = Path(DIGITS).read_bytes()
    for name in (b"c1.", b"c2.", b"c3.", b"c4.", b"fc.", b"Reduce", b"MUL", b"prob"):
        content = content.replace(name, name[::-1])
    (tmp_path / "renamed.mge").write_bytes(content)
    result = run_json("verify", DIGITS, "--layers", "--against", tmp_path / "renamed.mge")
    layers = result["layers"]["layers"]
    assert len(layers) == 11 and {layer["matched_by"] for layer in layers} == {"value"}
    words = ("verify", DIGITS, "--layers", "--against", tmp_path / "renamed.mge", "--other=--isa base")
    layers = run_json(*words, "--tolerance", 3e-7)["layers"]["layers"]  # the result of Softmax is as near as that
    assert len(layers) == 11 and {layer["matched_by"] for layer in layers} == {"value", "order"}
    assert all(layer["relative"] < 1e-5 for layer in layers)


def test_stored_values_are_compared(run_json, error_of, data, tmp_path):
    images = data["images"][:, None].astype(np.float32)
    session = Session(load_model(DIGITS), SessionConfig(explain=True, fuse=False))
    session.set_array("data", images)
    session.run()
    values: dict[str, np.ndarray] = {}
    session.run_watched(lambda r: values.update({r.variable.name: r.array.copy()}))
    stored = {name: values[name] for name in ("c1.RELU", "c4.RELU", "prob")}
    stored["c4.RELU"] = stored["c4.RELU"] + np.float32(0.5)
    np.savez(tmp_path / "v.npz", in_data=images, **stored, unrelated=np.zeros(3))
    result = run_json("verify", DIGITS, "--layers", "--against", tmp_path / "v.npz")
    layers = result["layers"]["layers"]
    assert [(x["name"], x["equal"]) for x in layers] == [("c1.RELU", True), ("c4.RELU", False), ("prob", True)]
    assert layers[1]["mean"] == pytest.approx(0.5, rel=1e-3) and result["layers"]["first"] == 1
    np.save(tmp_path / "v.npy", values["prob"])
    words = ("verify", DIGITS, "--layers", "--against", tmp_path / "v.npy", "--input", tmp_path / "v.npz")
    assert "--layers compares" in error_of(*words, status=2)


def test_differences_are_measured_on_finite_values():
    x = np.array([1, np.nan, np.inf, 3])
    assert compare_closely(x, x, 0) == {
        "equal": True, "difference": 0, "relative": 0, "largest": 3,
        "exact": False, "count": 4, "nan": 1, "infinite": 1, "unequal": 0, "mean": 0,
        "snr_db": None, "cosine": pytest.approx(1),
    }  # fmt: skip
    y = np.array([1, np.nan, np.inf, 3.5])
    found = compare_closely(x, y, 0.1)
    assert (found["unequal"], found["difference"], found["mean"], found["equal"]) == (1, 0.5, 0.25, False)
    assert found["snr_db"] == pytest.approx(10 * np.log10((1 + 3.5**2) / 0.25))
    assert compare_closely(x, np.array([1, 2, np.inf, 3]), 1)["reason"] == "NaN or infinities differ"
    assert compare_closely(np.zeros(2), np.ones(2), 1)["cosine"] is None
    assert compare_closely(np.ones(2), np.zeros(2), 1)["snr_db"] == 0
    assert compare_closely(np.zeros((0, 3)), np.zeros((0, 3)), 0)["mean"] == 0


@pytest.mark.parametrize("size", [5e-324, 1e-310, 1e-200, 1e-160, 1.0, 1e160, 1e300, 8e307])
@pytest.mark.parametrize("other", [1.0, 0.75, 0.0, -1.0, 5e-324])
@pytest.mark.parametrize("turned", [False, True])
def test_numbers_of_any_size_are_compared(size, other, turned):
    arrays = np.array([size, size, -size]), np.array([size, size * other, -size])
    if turned:
        arrays = arrays[::-1]
    with np.errstate(all="raise", under="ignore"):
        found = compare_closely(*arrays, 0)
    json.dumps(found, allow_nan=False)
    assert 0 < found["cosine"] <= 1 and found["equal"] == (found["snr_db"] is None) == np.array_equal(*arrays)
    if size > 1e-300 and other != 5e-324:
        x, y = (array / size for array in arrays)
        unscaled = compare_closely(x, y, 0)
        assert found["cosine"] == pytest.approx(unscaled["cosine"])
        assert found["relative"] == pytest.approx(unscaled["relative"])
        assert found["snr_db"] == pytest.approx(unscaled["snr_db"], abs=1e-6)


def test_comparisons_of_the_largest_with_the_smallest_number_are_finite():
    for a, b in ((1.7e308, 5e-324), (5e-324, 1.7e308), (1.7e308, -1.7e308), (1.7e308, 0.0)):
        found = compare_closely(np.full(40, a), np.full(40, b), 1e-3)
        assert not found["equal"] and all(v is None or np.isfinite(v) for v in found.values())


NAN, INFINITE = np.nan, np.inf


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([NAN] * 3, "same, all NaN"),
        ([INFINITE, -INFINITE], "same, all infinite"),
        ([NAN, INFINITE, 1, 2], "same, 1 of 4 NaN, 1 of 4 infinite"),
        ([1, 2], "same"),
        ([], "same, no numbers"),
    ],
)
def test_what_is_no_number_is_told(run_json, capsys, tmp_path, values, told):
    onnx = pytest.importorskip("onnx")
    from support import onnx_models

    shape, kind = [len(values)], onnx.TensorProto.FLOAT
    nodes = [onnx.helper.make_node("Neg", ["x"], ["t"]), onnx.helper.make_node("Neg", ["t"], ["y"])]
    made = onnx_models.make(nodes, [("x", kind, shape)], [("y", kind, shape)])
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    x = np.array(values, np.float32)
    np.savez(tmp_path / "v.npz", in_x=x, y=x)
    words = [str(w) for w in ("verify", tmp_path / "m.onnx", "--layers", "--against", tmp_path / "v.npz")]
    assert megengine_lite_main(*words) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.endswith(told)]
    assert len(rows) == 2  # of the output, and of the result of the operator
    if "all" in told or "no numbers" in told:
        assert all("0" not in row.removesuffix(told).split("y", 1)[1] for row in rows)
    found = run_json(*words)["outputs"]["y"]
    assert (found["nan"], found["infinite"], found["count"]) == (np.isnan(x).sum(), np.isinf(x).sum(), x.size)


def test_what_is_rounded_to_zero_has_no_sign(capsys, tmp_path):
    onnx = pytest.importorskip("onnx")
    from support import onnx_models

    kind = onnx.TensorProto.FLOAT
    nodes = [onnx.helper.make_node("Neg", ["x"], ["y"])]
    made = onnx_models.make(nodes, [("x", kind, [2])], [("y", kind, [2])])
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    # the noise is a little larger than the signal, and the vectors are nearly at right angles
    np.savez(tmp_path / "v.npz", in_x=np.array([0, -1e-2], np.float32), y=np.array([1, -1e-9]))
    words = [str(w) for w in ("verify", tmp_path / "m.onnx", "--layers", "--against", tmp_path / "v.npz")]
    assert megengine_lite_main(*words) == 1
    text = capsys.readouterr().out
    assert " 0.0 " in text and " 0.0000000 " in text and "-0.0 " not in text and "-0.0000000" not in text
