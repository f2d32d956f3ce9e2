"""benchmarks/trained_models.py: it measures both engines, and says where no package is installed."""

import json
import os
import subprocess
import sys

import pytest
from support.places import ROOT
from support.trained_models import model_file

pytest.importorskip("onnxruntime")


def run_benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, str(ROOT / "benchmarks" / "trained_models.py"), "--rounds", "1", "--seconds", "0.001"]
    return subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, timeout=300)


def test_both_engines_are_measured_in_both_settings(tmp_path):
    model_file("onnx_asr/preprocessors/data/resample_16_8.onnx")
    done = run_benchmark("--only", "resample_16_8", "--json", str(tmp_path / "rows.json"))
    assert done.returncode == 0, done.stderr
    assert "2 settings: geometric mean" in done.stdout
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["setting"] for row in rows] == [0, 1]
    for row in rows:
        assert row["ours_ms"] > 0 and row["onnxruntime_ms"] > 0
        assert row["ratio"] == pytest.approx(row["ours_ms"] / row["onnxruntime_ms"])


def test_without_models_it_says_what_to_install():
    done = run_benchmark("--only", "no such model")
    assert done.returncode == 1 and done.stdout == ""
    assert ".ci/run" in done.stderr
