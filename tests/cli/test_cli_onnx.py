"""The command convert with a name that ends in .onnx, and the function export_onnx."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from support.api_samples import ADD, API_MODELS, DIGITS, IMAGES, PROB, loaded
from support.graphs import GraphBuilder
from support.onnx_exports import run_onnx
from support.onnx_models import run

import megengine_lite
from megengine_lite._api import onnx_export
from megengine_lite._core.ir import params
from megengine_lite.errors import LiteError, LiteValueError, UnsupportedOperatorError

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def test_convert_writes_verified_onnx(run_json, tmp_path):
    out = tmp_path / "digits.onnx"
    result = run_json("convert", DIGITS, out)
    assert result["written"] == {str(out): out.stat().st_size}
    assert result["checked"] is True
    assert result["compared"] == [{"data": [360, 1, 8, 8]}, {"data": [720, 1, 16, 16]}]
    assert result["free_dimensions"] == {"batch": ["data[0]"], "height": ["data[2]"], "width": ["data[3]"]}
    assert result["notes"] == []
    np.testing.assert_allclose(run_onnx(out.read_bytes(), {"data": IMAGES})[0], PROB, atol=1e-5)
    np.testing.assert_allclose(run(loaded(out), data=IMAGES)[0], PROB, atol=1e-5)


def test_convert_says_what_was_verified(capsys, tmp_path):
    from megengine_lite.cli import main

    assert main(["convert", str(DIGITS), str(tmp_path / "out.onnx")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == [
        "may change: batch (data[0]), height (data[2]), width (data[3])",
        "checked by onnx",
        "ONNX Runtime computes the same outputs for data 360x1x8x8",
        "ONNX Runtime computes the same outputs for data 720x1x16x16",
    ]
    assert main(["convert", str(DIGITS), str(tmp_path / "out.onnx"), "--no-verify", "--static"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["may change: nothing", "not verified"]


def test_convert_refuses_flags_that_do_not_go_together(error_of, tmp_path):
    assert "--layout" in error_of("convert", DIGITS, tmp_path / "a.onnx", "--layout", "nchw", status=2)
    assert "--opset" in error_of("convert", DIGITS, tmp_path / "a.mge", "--opset", 17, status=2)
    assert "13 to 23" in error_of("convert", DIGITS, tmp_path / "a.onnx", "--opset", 9)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_packages_that_are_not_installed_are_named(missing, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, missing, None)
    result = megengine_lite.export_onnx(DIGITS, tmp_path / "a.onnx")
    assert result.checked == (missing != "onnx")
    assert bool(result.compared) == (missing != "onnxruntime")
    assert [n for n in result.notes if missing in n and "not installed" in n] == result.notes


@pytest.mark.parametrize("name", ["multi_io", "batch_by_shape", "cond_take"])
def test_small_models_are_exported_and_give_their_outputs(name, tmp_path):
    out = tmp_path / "out.onnx"
    result = megengine_lite.export_onnx(API_MODELS / f"{name}.mge", out)
    assert result.compared
    with np.load(API_MODELS / f"{name}.npz") as data:
        inputs = {key.removeprefix("in_"): data[key] for key in data if key.startswith("in_")}
        expected = [data[f"out_{k}"] for k in range(sum(key.startswith("out_") for key in data))]
    for got, want in zip(run_onnx(out.read_bytes(), inputs), expected, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5 * max(np.abs(want).max(initial=0), 1))


def test_bytes_are_exported(tmp_path):
    result = megengine_lite.export_onnx(ADD, tmp_path / "a.onnx", static=True)
    assert result.dimensions == {}
    a, b = np.ones((2, 3), np.float32), np.full((2, 3), 2, np.float32)
    (total,) = run_onnx((tmp_path / "a.onnx").read_bytes(), {"a": a, "b": b})
    np.testing.assert_array_equal(total, a + b)


def test_model_is_not_written_over_itself(tmp_path, error_of):
    path = tmp_path / "model.onnx"
    path.write_bytes(DIGITS.read_bytes())
    with pytest.raises(LiteValueError, match="write to another one"):
        megengine_lite.export_onnx(path, path)
    assert "write to another one" in error_of("convert", path, path)
    assert path.read_bytes() == DIGITS.read_bytes()


def test_file_stays_as_it_was_if_outputs_differ(monkeypatch, tmp_path):
    out = tmp_path / "out.onnx"
    out.write_bytes(b"before")
    correct = onnx_export._runtime

    def wrong(content, notes):
        runner = correct(content, notes)
        return lambda inputs: [2 * o for o in runner(inputs)]

    monkeypatch.setattr(onnx_export, "_runtime", wrong)
    with pytest.raises(LiteError, match="differs by"):
        megengine_lite.export_onnx(DIGITS, out)
    assert out.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["out.onnx"]


def test_nodes_without_counterpart_are_refused_or_written_in_our_domain(tmp_path, monkeypatch):
    builder = GraphBuilder()
    made = builder.node("MatrixInverse", params.Empty(), [builder.input("x", (2, 3, 3))], name="inverse")
    graph = builder.finish(made)
    model = type("Model", (), {"graph": graph})()
    monkeypatch.setattr(onnx_export, "read_model", lambda source, config: model)
    with pytest.raises(UnsupportedOperatorError, match="MatrixInverse 'inverse'"):
        megengine_lite.export_onnx(b"", tmp_path / "a.onnx")
    result = megengine_lite.export_onnx(b"", tmp_path / "a.onnx", custom_domain=True)
    assert result.checked and not result.compared
    assert "domain megengine" in result.notes[0]


def test_outputs_that_get_other_names_are_told(tmp_path, monkeypatch):
    """ONNX has one value of a name: that of an input here."""
    builder = GraphBuilder()
    graph = builder.finish(builder.node("Identity", params.Empty(), [builder.input("x", (2, 3))]))
    mode = params.Elemwise(mode=params.ElemwiseMode.RELU)
    graph.outputs.append(builder.node("Elemwise", mode, [graph.inputs[0]]))
    for names, notes in ((["x", "y"], []), (["y", "x"], ["'x' is 'x.1'"])):
        graph.output_names = names
        model = type("Model", (), {"graph": graph})()
        monkeypatch.setattr(onnx_export, "read_model", lambda source, config, model=model: model)
        found = megengine_lite.export_onnx(b"", tmp_path / "a.onnx", verify=False).notes
        assert [note.rpartition(": ")[2] for note in found] == notes
