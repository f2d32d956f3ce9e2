"""The command report."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.api_samples import DIGITS
from support.loader_samples import input_operator, operator, to_bytes

from megengine_lite._core.formats.mge.records import ModelRecord
from megengine_lite._core.ir import params
from megengine_lite.cli import main

FEW = ("--iter", 1, "--warmup-iter", 0, "--batch-size", 2)


def test_report_is_printed_as_markdown(capsys):
    assert main(["report", str(DIGITS), "--iter", "1", "--batch-size", "2"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("# digits.mge\n") and "## Time by kind of operator" in text
    assert "| input | data float32 2x1x8x8 |" in text


@pytest.mark.parametrize(
    ("name", "begin"), [("r.html", "<!doctype"), ("r.md", "# "), ("r.json", "{"), ("r", "<!doctype")]
)
def test_report_is_written_in_the_form_of_the_name(run_json, tmp_path, name, begin):
    result = run_json("report", DIGITS, "-o", tmp_path / name, *FEW)
    assert result["written"] == {str(tmp_path / name): (tmp_path / name).stat().st_size}
    assert (tmp_path / name).read_text().startswith(begin)


def test_format_goes_before_the_name(run_json, capsys, tmp_path):
    run_json("report", DIGITS, "-o", tmp_path / "r.txt", "--format", "json", *FEW)
    content = json.loads((tmp_path / "r.txt").read_text())
    assert content["reports"][0]["name"] == "digits.mge"
    assert main(["report", str(DIGITS), "--format", "json", *map(str, FEW)]) == 0
    assert json.loads(capsys.readouterr().out)["reports"][0]["settings"]["runs"] == 1


def test_two_settings_stand_side_by_side(run_json):
    result = run_json("report", DIGITS, "--other=--isa base --threads 2", "--layers", *FEW)
    assert [r["name"] for r in result["reports"]] == ["digits.mge", "digits.mge --isa base --threads 2"]
    assert [r["machine"]["threads"] for r in result["reports"]] == [1, 2]
    assert result["reports"][1]["machine"]["kernels"] == "base"
    assert result["comparison"]["names"] == [r["name"] for r in result["reports"]]
    assert len(result["layers"]["layers"]) == 11 and result["layers"]["first"] is None


def test_two_models_stand_side_by_side(run_json, tmp_path):
    (tmp_path / "other.mge").write_bytes(DIGITS.read_bytes())
    result = run_json("report", DIGITS, "--against", tmp_path / "other.mge", *FEW)
    assert [r["name"] for r in result["reports"]] == ["digits.mge", "other.mge"] and "layers" not in result


def test_model_with_unknown_operators_gets_a_report(run_json, tmp_path):
    record = ModelRecord("v2", 101300, [input_operator(0, "x", (2, 3))], [(1, "")], {1: "y"})
    record.operators.append(operator("Frobnicate", (0,), (1,), params.Softmax(axis=1)))
    (tmp_path / "m.mge").write_bytes(to_bytes(record))
    result = run_json("report", tmp_path / "m.mge", "-o", tmp_path / "r.html")
    (report,) = result["reports"]
    assert report["problem"] == "1 operator is not supported"
    assert [n["op"] for n in report["nodes"]] == ["Input", "Frobnicate", "Output"]
    assert "Frobnicate" in (tmp_path / "r.html").read_text()


def test_wrong_usage_is_told_before_anything_is_measured(error_of, tmp_path):
    assert "--layers compares two runs" in error_of("report", DIGITS, "--layers", status=2)
    assert "report --other: error" in error_of("report", DIGITS, "--other=--bogus", status=2)
    assert "cannot be written" in error_of("report", DIGITS, "-o", tmp_path / "no" / "r.html", *FEW)
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    assert "Arrays are inputs" in error_of("report", DIGITS, "--against", tmp_path / "a.npz", *FEW)
