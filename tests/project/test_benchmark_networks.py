"""benchmarks/networks.py: its networks are what their names say, and compare.py reads them."""

import math
import sys

import pytest
from support.places import ROOT

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
BENCHMARKS = ROOT / "benchmarks"

# Millions of weights as the papers say, without those of batch normalization: two each of a channel.
MILLIONS = {
    "lstm_2x256": 0.88,
    "mobilenet_v2": 3.5,
    "regnety_004": 4.3,
    "resnet18": 11.7,
    "shufflenet_v2": 2.3,
    "vit_tiny": 5.7,
}


@pytest.fixture
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import compare
    import networks

    yield networks, compare
    for name in ("networks", "compare"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", MILLIONS)
def test_a_network_has_as_many_weights_as_its_paper_says(benchmarks, name):
    networks, _ = benchmarks
    net = networks.Network(name, 1)
    networks.NETWORKS[name](net)
    onnx.checker.check_model(net.model())
    assert sum(math.prod(c.dims) for c in net.constants) / 1e6 == pytest.approx(MILLIONS[name], rel=0.03)


@pytest.mark.parametrize(("name", "batch"), [("lstm_2x256", 1), ("shufflenet_v2", 1), ("regnety_004", 2)])
def test_it_is_compared_without_a_file_of_megengine(benchmarks, tmp_path, name, batch):
    networks, compare = benchmarks
    networks.write(tmp_path, name, batch)
    stem = tmp_path / (name if batch == 1 else f"{name}_x{batch}")
    figures = compare.measure(compare.OURS, stem, threads=1, seconds=0.0, clock="wall")
    assert figures["error"] < compare.TOLERANCE
    assert figures["ms"] > 0
