"""The element that Resize takes as the nearest, for each rule and many pairs of lengths, beside ONNX Runtime.

Places that lie in the middle between two elements, or at one, are where the last bit of a quotient decides.
"""

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_models import load, make, run

PLACES = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "asymmetric", "align_corners"]
RULES = ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"]
LENGTHS = [1, 2, 3, 5, 7, 9, 10, 13, 14, 18, 21, 24, 26, 28, 33, 40, 56]


def model_of(length, rule, numbers, name):
    """A model with an output for each pair of a rule for places and a length or a factor."""
    nodes, constants = [], {}
    for k, number in enumerate(numbers):
        constants[f"s{k}"] = np.array([number])
        inputs = ["x", "", "", f"s{k}"] if name == "sizes" else ["x", "", f"s{k}"]
        nodes += [
            helper.make_node("Resize", inputs, [f"{places} {k}"], mode="nearest", nearest_mode=rule,
                             coordinate_transformation_mode=places)
            for places in (PLACES if name == "sizes" else PLACES[:-1])
        ]  # fmt: skip
    outputs = [(node.output[0], TensorProto.FLOAT, None) for node in nodes]
    return make(nodes, [("x", TensorProto.FLOAT, [length])], outputs, constants, 19)


def compare(model, length):
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    x = np.arange(length, dtype=np.float32)
    theirs = runtime.InferenceSession(model.SerializeToString(), options).run(None, {"x": x})
    ours = run(load(model), x=x)
    assert len(ours) == len(theirs) > 100
    for node, found, wanted in zip(model.graph.node, ours, theirs, strict=True):
        np.testing.assert_array_equal(found, wanted, err_msg=node.output[0])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("length", LENGTHS)
def test_nearest_elements_for_sizes(length, rule):
    compare(model_of(length, rule, range(1, 42), "sizes"), length)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("length", LENGTHS)
def test_nearest_elements_for_factors(length, rule):
    """But those with which the length stays: ONNX Runtime gives the data then, whatever the places are."""
    factors = [np.float32(f) for f in [n / length for n in range(1, 42)] + [0.35, 0.6, 1.3, 1.7, 2.5]]
    others = [f for f in factors if f == 1 or int(f * np.float32(length)) != length]
    compare(model_of(length, rule, others, "scales"), length)
