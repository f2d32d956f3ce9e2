"""Commands that run a model: what they compute, print and refuse."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import parser
from support.loader_samples import constant_operator, to_bytes
from support.places import TESTS

import megengine_lite
from megengine_lite._core.formats.mge.records import ModelRecord
from megengine_lite.cli import main

BUNDLED = Path(megengine_lite.__file__).parent / "bundled"
DIGITS = str(BUNDLED / "digits.mge")
EXTERN = TESTS / "models" / "extern"


@pytest.fixture(scope="module")
def data():
    with np.load(BUNDLED / "digits.npz") as file:
        return dict(file)


def test_run_computes_outputs_of_npy_npz_json_and_text(run_json, data, tmp_path):
    image = data["images"][:1, None].astype(np.float32)
    np.save(tmp_path / "x.npy", image)
    np.savez(tmp_path / "x.npz", data=image)
    np.savez(tmp_path / "in.npz", in_data=image)
    (tmp_path / "x.json").write_text(
        json.dumps({"data": {"shape": [1, 1, 8, 8], "type": "float32", "raw": image.ravel().tolist()}})
    )
    numbers = str(image.tolist()).replace(" ", "")
    for value in (tmp_path / "x.npy", tmp_path / "x.npz", tmp_path / "in.npz", tmp_path / "x.json", numbers):
        for word in (f"data={value}", f"data:{value}", str(value)):
            out = tmp_path / "out.npz"
            result = run_json("run", DIGITS, "--input", word, "--output", out)
            assert result["cases"][0]["outputs"]["prob"]["shape"] == [1, 10]
            with np.load(out) as file:
                np.testing.assert_allclose(file["prob"], data["prob"][:1], atol=1e-6)


def test_run_computes_the_test_cases_behind_a_model(run_json, data, tmp_path):
    cases = [
        to_bytes(ModelRecord("v2", 101300, [constant_operator(0, (1, 1, 8, 8), data=image)], [(0, "")]))
        for image in data["images"][:2].astype(np.float32)
    ]
    content = b"mgbtest0" + len(cases).to_bytes(4, "little") + Path(DIGITS).read_bytes() + b"".join(cases)
    (tmp_path / "with_cases.mge").write_bytes(content)
    results = run_json("run", tmp_path / "with_cases.mge", "--top", 1)["cases"]
    assert [r["outputs"]["prob"]["top"][0]["index"] for r in results] == data["labels"][:2].tolist()
    given = run_json("run", tmp_path / "with_cases.mge", "--input", "{3,1,8,8}")["cases"]
    assert [r["outputs"]["prob"]["shape"] for r in given] == [[3, 10]]


def test_run_shows_the_largest_values(run_json, data, tmp_path):
    np.save(tmp_path / "x.npy", data["images"][3:4, None].astype(np.float32))
    top = run_json("run", DIGITS, "--input", tmp_path / "x.npy", "--top", 3)["cases"][0]["outputs"]["prob"]["top"]
    assert [t["index"] for t in top] == np.argsort(-data["prob"][3])[:3].tolist()
    assert top[0]["value"] == pytest.approx(data["prob"][3].max(), abs=1e-6)


def test_run_reads_images(run_json, data, tmp_path):
    image = pytest.importorskip("PIL.Image")
    image.fromarray(data["images"][5] * 15).save(tmp_path / "digit.png")
    flags = ["--image-std", "15", "--batch-size", "2"]
    result = run_json("run", DIGITS, "--input", tmp_path / "digit.png", "--top", 1, *flags)["cases"][0]
    assert result["inputs"]["data"]["shape"] == [2, 1, 8, 8]
    assert result["inputs"]["data"]["max"] == data["images"][5].max()
    assert result["outputs"]["prob"]["top"][0]["index"] % 10 == data["labels"][5]


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (["--image-mean", "1"], 2, "are for inputs that are images"),
        (["--image-std", "1,2"], 2, "1,2 is neither one number nor three"),
        (["--image-mean", "1,2,3", "--input", "digit.pgm"], 1, "3 numbers for --image-mean or --image-std, 1 channels"),
    ],
)
def test_run_refuses_preparation_of_what_is_no_image(error_of, tmp_path, monkeypatch, flags, status, message):
    pytest.importorskip("PIL.Image")
    monkeypatch.chdir(tmp_path)
    Path("digit.pgm").write_bytes(b"P5 8 8 255\n" + bytes(64))
    given = [] if "--input" in flags else ["--input", "{1,1,8,8}"]
    assert message in error_of("run", DIGITS, *given, *flags, status=status)


def test_run_writes_the_outputs_of_all_test_cases(run_json, data, tmp_path):
    cases = [
        to_bytes(ModelRecord("v2", 101300, [constant_operator(0, (1, 1, 8, 8), data=image)], [(0, "")]))
        for image in data["images"][:2].astype(np.float32)
    ]
    content = b"mgbtest0" + len(cases).to_bytes(4, "little") + Path(DIGITS).read_bytes() + b"".join(cases)
    (tmp_path / "with_cases.mge").write_bytes(content)
    run_json("run", tmp_path / "with_cases.mge", "--output", tmp_path / "outputs")
    with np.load(tmp_path / "outputs") as file:
        assert sorted(file.files) == ["case0_prob", "case1_prob"]
        np.testing.assert_allclose(file["case1_prob"], data["prob"][1:2], atol=1e-6)


def test_run_shows_inputs_and_outputs_even_if_it_fails(capsys):
    assert main(["run", DIGITS, "--model-info"]) == 1
    out, err = capsys.readouterr()
    assert re.search(r"^input +data +float32 +360x1x8x8$", out, re.M)
    assert re.search(r"^output +prob +float32 +360x10$", out, re.M) and "has no value" in err


def test_run_tells_all_times(capsys):
    assert main(["run", DIGITS, "--input", "{1,1,8,8}", "--iter", "2", "--warmup-iter", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"load: \d+\.\d\d ms", lines[1])
    times = r"\d+\.\d{3} ms, forward returned after \d+\.\d{3} ms"
    expected = [
        r"warm-up 0: \d+\.\d{3} ms",
        f"run 0: {times}",
        f"run 1: {times}",
        "total .* ms, mean .*, std .*, min .*, p50 .*, p90 .*, p99 .*, max .*",
    ]
    assert all(re.fullmatch(e, line) for e, line in zip(expected, lines[-4:], strict=True))


def test_run_counts_runs_and_warmups(run_json):
    result = run_json("run", DIGITS, "--input", "data={2,1,8,8}", "--iter", 4, "--warmup_iter", 2)
    assert len(result["cases"][0]["run_ms"]) == result["cases"][0]["time_ms"]["runs"] == 4


def test_run_takes_the_flags_of_load_and_run(run_json):
    flags = "--cpu_default -multithread 2 --enable-nchw88 --weight_preprocess=true --noconst_shape --reproducible"
    result = run_json("run", DIGITS, "--input", "{1,1,8,8}", *flags.split())
    assert sum(result["cases"][0]["outputs"]["prob"]["values"]) <= 1


def test_run_without_input_says_what_is_missing(error_of):
    assert "input 'data' (float32 360x1x8x8) has no value" in error_of("run", DIGITS)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("none=x.npy", "the model has no input 'none'; its inputs are data"),
        ("none=other.npz", "the model has no input 'none'; its inputs are data"),
        ("data=nothing.npy", "nothing.npy"),
        ("data=file.txt", "neither .npy"),
        ("data=[[1,2],[3", "is not a list of numbers"),
        ("data=[[1,2],[3]]", "lists in it have different lengths"),
        ('data=["a"]', "no number"),
        ("data=[1,x]", "x is no number"),
        ("data=[none]", "none is no number"),
        ("data=[1j]", "1j is no number"),
        ("data=[1+1]", "1+1 is no number"),
        ("data=[3e39]", "cannot hold 3e+39"),
        ("data=[1e400]", "1e400 is beyond the range of real numbers"),
        ("data=" + "[" * 5000, "is not a list of numbers"),
        ("{}", "neither .npy"),
        ("no_numbers.npy", "values of type <U1 are no numbers"),
        ("empty.npy", "cannot read empty.npy"),
        ("damaged.npz", "cannot read damaged.npz"),
        ("other.npz", "has none of the inputs data"),
        ("data=other.npz", "other.npz has no array 'data'; there are x"),
        ("data.json", "does not describe input 'data'"),
        ("twice.json", "twice.json has 'data' twice in one object: leave one of them out"),
        ("inside.json", "inside.json has 'raw' twice in one object: leave one of them out"),
        ("x.pickle", "pickle files can run code"),
    ],
)
def test_run_refuses_inputs(error_of, tmp_path, monkeypatch, value, message):
    monkeypatch.chdir(tmp_path)
    np.save("no_numbers.npy", np.array(["a", "b"]))
    Path("empty.npy").touch()
    Path("damaged.npz").write_bytes(b"PK\3\4garbage")
    np.savez("other.npz", x=np.zeros(1))
    Path("data.json").write_text('{"data": 3}')
    entry = '"data": {"shape": [1], "type": "float32", "raw": [1]}'
    Path("twice.json").write_text(f"{{{entry}, {entry}}}")
    Path("inside.json").write_text('{"data": {"shape": [1], "raw": [1], "raw": [2]}}')
    text = error_of("run", DIGITS, "--input", value)
    assert message in text and text.count("\n") == 1


TYPES = {
    "FLOAT": "float32", "DOUBLE": "float64", "FLOAT16": "float16", "INT8": "int8", "UINT8": "uint8", "INT16": "int16",
    "UINT16": "uint16", "INT32": "int32", "UINT32": "uint32", "INT64": "int64", "UINT64": "uint64", "BOOL": "bool",
}  # fmt: skip
TEXTS = {
    "0": 0, "1": 1, "-1": -1, "true": 1, "False": 0, "2": 2, "255": 255, "256": 256, "-129": -129, "65536": 65536,
    "2147483647": 2**31 - 1, "2147483648": 2**31, "4294967295": 2**32 - 1, "4294967296": 2**32, "1e10": 1e10,
    "10000000000": 10**10, "9223372036854775808": 2**63, "1e19": 1e19, "-9223372036854775809": -(2**63) - 1,
    "18446744073709551616": 2**64, "1" + "0" * 400: 10**400, "1.0": 1.0, "1.5": 1.5, "65000": 65000.0, "1e5": 1e5,
    "1.5e38": 1.5e38, "1.5e39": 1.5e39, "-1.5e39": -1.5e39, "1e308": 1e308, "1e400": 10**400, "-1e400": -(10**400),
    "nan": float("nan"), "-nan": float("nan"), "inf": float("inf"), "-inf": float("-inf"), "Infinity": float("inf"),
}  # fmt: skip


@pytest.mark.parametrize("kind", TYPES)
def test_numbers_are_read_in_the_type_of_the_input(kind, capsys, tmp_path):
    """What fits is taken, and nothing else."""
    from onnx import TensorProto, helper
    from support.onnx_models import make

    dtype = np.dtype(TYPES[kind])
    number = getattr(TensorProto, kind)
    model = make([helper.make_node("Identity", ["x"], ["y"])], [("x", number, ["N"])], [("y", number, ["N"])])
    path, out = tmp_path / "model.onnx", tmp_path / "out.npz"
    path.write_bytes(model.SerializeToString())
    # At the API, which has no int64 and no double.
    held = {"DOUBLE": "float32", "INT64": "int32", "UINT64": "int32", "BOOL": "uint8"}.get(kind, TYPES[kind])
    for text, value in TEXTS.items():
        if dtype.kind == "f":
            fits = value != value or abs(value) == float("inf") or abs(value) <= float(np.finfo(held).max)
        else:
            least = 0 if kind == "UINT64" else np.iinfo(held).min
            fits = value == value and abs(value) != float("inf") and value == int(value)
            fits = fits and least <= value <= np.iinfo(held).max
        if kind == "UINT32" and -(2**31) <= value < 0 and value == int(value):
            fits = True  # the bits of a uint32
        array = f"x=[{text},1]"
        status = main(["run", str(path), "--input", array, "--output", str(out)])
        err = capsys.readouterr().err
        assert status == (0 if fits else 1), (text, err)
        if not fits:
            assert "cannot hold" in err or "is beyond the range" in err, err
            assert err.count("\n") == 1 and len(err) < 300 and "<" not in err, err
            continue
        with np.load(out) as file:
            found = file["y"]
        expected = np.array([value != 0 if kind == "BOOL" else value, 1])
        if kind == "UINT32":
            found, expected = found.view("uint32"), expected.astype("int64").astype("uint32")
        np.testing.assert_array_equal(found, expected.astype(found.dtype), err_msg=text)


@pytest.mark.parametrize(
    ("kind", "raw"),
    [("float32", "1.5e39"), ("float32", "1e400"), ("int32", "1.5"), ("int32", "3000000000"), ("uint8", "-1")],
)
def test_numbers_of_json_files_have_the_same_rule(kind, raw, error_of, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(f'{{"data": {{"shape": [1, 1, 1, 1], "type": "{kind}", "raw": [{raw}]}}}}')
    assert re.search("cannot hold|is beyond the range", error_of("run", DIGITS, "--input", f"data={path}"))


def test_wrong_options_are_refused(error_of):
    assert "graph_opt_level" in error_of("run", DIGITS, "--option", "graph_opt_levl=1", "--input", "{1,1,8,8}")
    assert "NAME=N" in error_of("run", DIGITS, "--option", "graph_opt_level", status=2)
    assert "hexadecimal" in error_of("run", DIGITS, "--key", "xyz", "--decrypt", "AES_default")


def test_operators_of_a_library_can_be_opened(error_of):
    message = error_of("run", EXTERN / "affine.mge", "--c_opr_lib", "no_such_library.so", "--input", "{2,3,4,5}")
    assert "no_such_library.so" in message


# ---- info, bench, profile, demo --------------------------------------------------------------------------------


def test_info_counts_operators_parameters_and_work(run_json):
    result = run_json("info", DIGITS, "--shape", "data=1x1x8x8", "--layers")
    assert result["inputs"] == [{"name": "data", "dtype": "float32", "shape": [1, 1, 8, 8]}]
    assert result["outputs"] == [{"name": "prob", "dtype": "float32", "shape": [1, 10]}]
    assert result["operators"]["Convolution"] == 4 and len(result["layers"]) == sum(result["operators"].values())
    # 16 3x3 filters at 64 places, 32 16x3x3 at 16, 32 3x3 at 16, 64x32 at 16; then 64x10.
    convolutions = 16 * 9 * 64 + 32 * 16 * 9 * 16 + 32 * 9 * 16 + 64 * 32 * 16
    assert result["multiply_adds"] == {"Convolution": convolutions, "MatrixMul": 640}
    assert result["unsupported"] == [] and result["problem"] is None and result["complete"]


def test_info_shows_the_names_of_sizes_that_a_model_leaves_open(run_json, capsys, tmp_path):
    path = tmp_path / "model.onnx"
    text = "(float[n, 3, height, ?] x) => (float[n, 3, rows, ?] y) { y = MaxPool<kernel_shape=[2, 2]>(x) }"
    path.write_bytes(parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {text}').SerializeToString())
    result = run_json("info", path)
    (x,), (y,) = result["inputs"], result["outputs"]
    assert x == {"name": "x", "dtype": "float32", "shape": [1, 3, 1, 1], "declared": ["n", 3, "height", "?"]}
    assert y == {"name": "y", "dtype": "float32", "shape": None, "declared": ["n", 3, "rows", "?"]}
    assert result["problem"].endswith(
        "; with other sizes of x, which the model leaves open and which were 1, it may run"
    )
    main(["info", str(path)])
    shown = capsys.readouterr().out
    assert "float32  [n, 3, height, ?]" in shown and "float32  [n, 3, rows, ?]" in shown
    result = run_json("info", path, "--shape", "x=1x3x4x5")
    assert result["outputs"] == [{"name": "y", "dtype": "float32", "shape": [1, 3, 3, 4]}] and result["problem"] is None


def test_info_needs_no_library_of_operators():
    # In a process of its own: what a library has registered in this one stays.
    command = [sys.executable, "-m", "megengine_lite", "info", EXTERN / "rowstat.mge", "--json"]
    result = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert sorted(i["name"] for i in result["inputs"]) == ["img", "scale"]
    assert [o["shape"] for o in result["outputs"]] == [None, None]
    assert "rowstat" in result["problem"]


def test_bench_measures(run_json):
    result = run_json("bench", DIGITS, "--iter", 5, "--batch-size", 1, "--thread", 2, "--share-param-mem")
    assert result["time_ms"]["runs"] == 10 and result["networks"] == 2
    assert result["time_ms"]["p50"] <= result["time_ms"]["p90"] <= result["time_ms"]["p99"]
    assert result["inputs"] == {"data": [1, 1, 8, 8]}
    assert result["gflops"] == pytest.approx(2 * result["multiply_adds"] / result["time_ms"]["p50"] / 1e6)
    assert result["peak_memory_bytes"] > 1 << 20 and result["load_ms"] > 0 and result["first_run_ms"] > 0


def test_demo_is_as_accurate_as_the_original(run_json):
    result = run_json("demo")
    assert result["accuracy"] == result["accuracy_of_batch"] == pytest.approx(356 / 360)
    assert len(result["predictions"]) == 360
    assert result["largest_difference"] < 1e-5


@pytest.mark.parametrize(
    "command",
    [
        ["run", DIGITS, "--input", "{1,1,8,8}", "--iter", "2", "--top", "2"],
        ["info", DIGITS, "--layers"],
        ["bench", DIGITS, "--iter", "3"],
        ["verify", DIGITS, "--input", "{1,1,8,8}"],
        ["demo"],
    ],
)
def test_text_is_for_people(capsys, command):
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert err == "" and len(out.splitlines()) > 4
    assert "prob" in out or "latency" in out or "accuracy 98.9 %" in out


def test_profile_times_every_step(run_json, tmp_path):
    out = tmp_path / "profile.json"
    result = run_json("profile", DIGITS, "--batch-size", 1, "--iter", 3, "--output", out)
    assert {"FusedConv", "Softmax"} <= {s["operator"] for s in result["steps"]}
    assert all(s["ms"] >= 0 and s["algorithm"] for s in result["steps"])
    assert sum(result["operators_ms"].values()) == pytest.approx(result["total_ms"])
    assert any(e["ph"] == "X" for e in json.loads(out.read_text())["traceEvents"])
    run_json("profile", DIGITS, "--batch-size", 1, "--iter", 1, "--output", out, "--form", "megengine")
    assert "opr_footprint" in json.loads(out.read_text())["profiler"]


@pytest.mark.filterwarnings("error")
def test_run_shows_infinities_and_nan_without_a_warning(run_json, tmp_path):
    image = np.resize(np.array([np.inf, -np.inf, np.nan, 3e38]), (2, 1, 8, 8))
    np.save(tmp_path / "x.npy", image)
    (case,) = run_json("run", DIGITS, "--input", tmp_path / "x.npy", "--calc-output-rms")["cases"]
    assert case["inputs"]["data"]["mean"] == "nan" and case["outputs"]["prob"]["shape"] == [2, 10]
    assert not run_json("verify", DIGITS, "--input", tmp_path / "x.npy").get("error")
