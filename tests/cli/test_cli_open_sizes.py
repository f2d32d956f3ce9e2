"""Inputs whose sizes an ONNX model leaves open, on the command line: images, random values, numbers of large types."""

import numpy as np
import pytest

from megengine_lite.cli import main

Image = pytest.importorskip("PIL.Image")
parser = pytest.importorskip("onnx.parser")


def model_of(path, shape, body="y = Identity(x)", kind="float"):
    """Writes a model of one input ``x`` of that shape, and one output ``y``."""
    graph = f"g ({kind}[{shape}] x) => ({kind}[{shape}] y) {{ {body} }}"
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {graph}')
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("n, 3, h, w", [1, 3, 20, 31]),
        ("1, 3, h, w", [1, 3, 20, 31]),
        ("n, 1, h, w", [1, 1, 20, 31]),
        ("n, h, w, 3", [1, 20, 31, 3]),
        ("n, 3, 40, w", [1, 3, 40, 62]),
        ("n, 3, h, 8", [1, 3, 5, 8]),
        ("n, 3, 5, 7", [1, 3, 5, 7]),
    ],
)
def test_sizes_that_are_open_are_those_of_the_image(run_json, tmp_path, shape, expected):
    Image.fromarray(np.random.RandomState(0).randint(0, 255, (20, 31, 3), np.uint8)).save(tmp_path / "a.png")
    model = model_of(tmp_path / "m.onnx", shape)
    (case,) = run_json("run", model, "--input", f"x={tmp_path / 'a.png'}", "--output", tmp_path / "y.npz")["cases"]
    assert case["inputs"]["x"]["shape"] == expected
    if expected[1:] in ([3, 20, 31], [20, 31, 3]):  # it has not been resized
        pixels = np.asarray(Image.open(tmp_path / "a.png"))[..., ::-1]
        y = np.load(tmp_path / "y.npz")["y"][0]
        assert (y == (pixels if shape.endswith("3") else pixels.transpose(2, 0, 1))).all()


@pytest.mark.parametrize("shape", ["n, c, h, w", "n, 5, h, w", "n, 3, w"])
def test_images_that_fit_no_input_are_told_its_shape(error_of, tmp_path, shape):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    text = error_of("run", model_of(tmp_path / "m.onnx", shape), "--input", tmp_path / "a.png")
    assert f"[{shape}]" in text


@pytest.mark.parametrize("command", ["bench", "profile"])
def test_sizes_that_nobody_gives_are_told(tmp_path, command, capsys):
    model = model_of(tmp_path / "m.onnx", "n, 3, h, w", "y = Relu(x)")
    flags = ["--iter", "1", *(["--warmup-iter", "0"] if command == "bench" else [])]
    assert main([command, str(model), *flags]) == 0
    assert "input 'x' is [n, 3, h, w] in the model; random values of 1,3,1,1 are taken" in capsys.readouterr().err
    assert main([command, str(model), *flags, "--input-desc", "x:1,3,8,8"]) == 0
    assert main([command, str(model_of(tmp_path / "b.onnx", "n, 3", "y = Relu(x)")), *flags]) == 0
    assert "warning" not in capsys.readouterr().err


def test_numbers_that_do_not_fit_are_errors(error_of, run_json, tmp_path):
    model = model_of(tmp_path / "m.onnx", "n")
    for values in (np.array([1, 1e39]), np.array([-1e300])):
        np.save(tmp_path / "x.npy", values)
        assert "which cannot hold" in error_of("run", model, "--input", tmp_path / "x.npy")
    np.save(tmp_path / "x.npy", np.array([np.inf, np.nan, 3e38, 1e-300]))
    run_json("run", model, "--input", tmp_path / "x.npy")


def test_unsigned_numbers_have_the_same_bits(run_json, error_of, tmp_path):
    values = np.array([0, 2**31, 2**32 - 1], np.uint32)
    np.save(tmp_path / "x.npy", values)
    unsigned = model_of(tmp_path / "u.onnx", "n", kind="uint32")
    run_json("run", unsigned, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npz")
    assert np.load(tmp_path / "y.npz")["y"].view(np.uint32).tolist() == values.tolist()
    signed = model_of(tmp_path / "s.onnx", "n", kind="int32")
    assert "cannot hold 2147483648" in error_of("run", signed, "--input", tmp_path / "x.npy")


@pytest.fixture
def two_inputs(tmp_path):
    """A model whose inputs share a size; ``c`` belongs to one of them."""
    graph = "g (float[n, 3] x, float[n, c] y) => (float[n, m] z) { z = Concat<axis = 1>(x, y) }"
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {graph}')
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    return tmp_path / "m.onnx"


@pytest.mark.parametrize(
    ("given", "expected", "open_sizes"),
    [
        (["x=4x3"], {"x": [4, 3], "y": [4, 1]}, "'y' has [4, 1]"),
        (["y=4x5"], {"x": [4, 3], "y": [4, 5]}, ""),
        (["x=4x3", "y=4x2"], {"x": [4, 3], "y": [4, 2]}, ""),
        ([], {"x": [1, 3], "y": [1, 1]}, "'x' has [1, 3], 'y' has [1, 1]"),
    ],
)
def test_a_size_with_a_name_is_that_of_all_inputs(run_json, capsys, tmp_path, two_inputs, given, expected, open_sizes):
    flags = [word for shape in given for word in ("--shape", shape)]
    result = run_json("convert", two_inputs, tmp_path / "m.mge", *flags)
    assert result["compared"] == [expected]
    inputs = run_json("info", two_inputs, *flags)["inputs"]
    if given:
        assert {v["name"]: v["shape"] for v in inputs} == expected
    assert main(["convert", str(two_inputs), str(tmp_path / "n.mge"), *flags]) == 0
    told = capsys.readouterr().err
    assert open_sizes in told if open_sizes else "leaves open" not in told


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--input-desc", "x:4,3"], {"x": [4, 3], "y": [4, 1]}),
        (["--input-desc", "x:4,3", "--rng", "y:rand({})"], {"x": [4, 3], "y": [4, 1]}),
        (["--input-desc", "x:4,3", "--input-desc", "y:4,2"], {"x": [4, 3], "y": [4, 2]}),
        (["--input", "y=[[1,2],[3,4]]"], {"x": [2, 3], "y": [2, 2]}),
    ],
)
def test_random_inputs_have_the_sizes_of_those_that_are_given(run_json, two_inputs, flags, expected):
    assert run_json("bench", two_inputs, "--iter", "1", *flags)["inputs"] == expected


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--input-desc", "x:4,3;x:5,3"], "--input-desc names input 'x' twice"),
        (["--input-desc", "x:4,3", "--input-desc", "x:5,3"], "--input-desc names input 'x' twice"),
        (["--rng", "x:rand({})", "--rng", "x:randn({})"], "--rng names input 'x' twice"),
    ],
)
def test_an_input_that_is_described_twice_is_an_error(error_of, two_inputs, flags, message):
    assert message in error_of("run", two_inputs, *flags)
