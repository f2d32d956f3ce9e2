"""Random graphs of ONNX operators; ``tools/fuzz_onnx.py`` tries more."""

import pytest

pytest.importorskip("onnxruntime")
from support.onnx_graph_check import faults

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("first", range(0, 120, 10))
def test_random_graphs_give_what_onnx_runtime_gives(first):
    found = {seed: list(faults(seed)) for seed in range(first, first + 10)}
    assert {seed: texts for seed, texts in found.items() if texts} == {}
