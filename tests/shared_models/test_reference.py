"""The numpy definitions of all operators against what the original computed from the same files."""

from __future__ import annotations

import numpy as np
import pytest
from tolerance import DEVIATIONS, MODELS, check_outputs, find_cases, load_case

from megengine_lite._core.formats.load import load_model
from megengine_lite._core.operators.reference import run_nodes, run_reference

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not MODELS.is_dir(), reason="the shared model collection is absent"),
]

# Where the original deviates from what a file means, test_engine.py compares the engine with the definition.
CASES = [(g, n) for g in ("ops", "nets") for n in find_cases(g) if n.removesuffix(".v1") not in DEVIATIONS]


@pytest.mark.parametrize(("group", "name"), CASES, ids=[f"{group}/{name}" for group, name in CASES])
def test_reference_gives_recorded_outputs(group, name):
    path, inputs, expected = load_case(group, name)
    check_outputs(group, name, run_reference(load_model(path).graph, inputs), expected)


def test_reference_gives_shufflenet_output():
    graph = load_model(MODELS / "shufflenet.mge").graph
    (out,) = run_reference(graph, {"data": np.load(MODELS / "input_data.npy")})
    expected = np.load(MODELS / "output_data.npy")
    assert out.shape == expected.shape
    np.testing.assert_allclose(out, expected, atol=1e-4 * expected.max())


def test_reference_gives_discrete_input_output():
    graph = load_model(MODELS / "test_discrete_input.mge").graph
    inputs = {"data": np.load(MODELS / "data_b3.npy"), "roi": np.load(MODELS / "roi.npy")}
    np.testing.assert_allclose(
        run_reference(graph, inputs)[0], np.load(MODELS / "discrete_output.npy"), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize(("name", "key"), [("digits", "prob"), ("digits_int8", "prob_int8")])
def test_reference_classifies_digits_like_the_original(name, key):
    graph = load_model(MODELS / "digits" / f"{name}.mge").graph
    with np.load(MODELS / "digits" / "digits_test.npz") as data:
        images, labels, expected = data["images"], data["labels"], data[key]
    (out,) = run_reference(graph, {"data": images.reshape(-1, 1, 8, 8)})
    np.testing.assert_allclose(out, expected, atol=1e-5)
    assert (out.argmax(1) == labels).mean() > 0.98


def test_run_nodes_yields_every_node():
    path, inputs, expected = load_case("ops", "conv_bn_relu")
    graph = load_model(path).graph
    steps = list(run_nodes(graph, inputs))
    assert [node for node, _ in steps] == graph.nodes
    np.testing.assert_allclose(steps[-1][1][-1], expected[0], atol=1e-4)
