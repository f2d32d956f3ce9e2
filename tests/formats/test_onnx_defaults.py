"""Attributes that have their default values mean the same as without them: ONNX Runtime writes all of them."""

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, defs, helper
from support.onnx_cases import LEFT_OUT, RANDOM, cases, compare, out_of_scope
from support.onnx_models import load, make, run

from megengine_lite._core.formats.load import load_model

pytestmark = pytest.mark.filterwarnings("ignore")
PARTS = 8


def with_defaults(model):
    """The model with all attributes written, and how many were added."""
    made, count = ModelProto.FromString(model.SerializeToString()), 0
    versions = {opset.domain: opset.version for opset in made.opset_import}
    for node in made.graph.node:
        if not defs.has(node.op_type, versions[node.domain], node.domain):
            continue
        schema = defs.get_schema(node.op_type, versions[node.domain], node.domain)
        given = {attribute.name for attribute in node.attribute}
        for name, attribute in schema.attributes.items():
            if name not in given and attribute.default_value.name:
                node.attribute.append(attribute.default_value)
                count += 1
    return made, count


@pytest.mark.parametrize("part", range(PARTS))
def test_defaults_may_be_written(part):
    left_out = {name for name, reason in out_of_scope().items() if reason not in (RANDOM, LEFT_OUT)}
    tried, faults = 0, {}
    for name in sorted(cases().keys() - left_out)[part::PARTS]:
        case = cases()[name]
        model, count = with_defaults(case.model)
        if not count or out_of_scope().get(name) == LEFT_OUT:
            continue
        tried += 1
        try:
            is_random = out_of_scope().get(name) == RANDOM
            compare(load_model(model.SerializeToString()), case.data_sets, case.rtol, case.atol, is_random)
        except Exception as error:
            faults[name] = f"{type(error).__name__}: {str(error)[:300]}"
    assert not faults
    assert tried > 50


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_more_activations_than_directions(direction):
    """The standard's default of RNN has two, also where there is one direction."""
    rng = np.random.default_rng(0)
    ways = 1 + (direction == "bidirectional")
    given = {"w": rng.standard_normal((ways, 3, 2)), "r": rng.standard_normal((ways, 3, 3))}
    weights = {name: value.astype(np.float32) for name, value in given.items()}
    results = []
    for names in (["Relu", "Tanh"], ["Relu", "Tanh"][:ways]):
        node = helper.make_node("RNN", ["x", "w", "r"], ["y"], direction=direction, hidden_size=3, activations=names)
        model = make([node], [("x", TensorProto.FLOAT, [4, 1, 2])], [("y", TensorProto.FLOAT, None)], weights)
        results += run(load(model), x=np.linspace(-1, 1, 8, dtype=np.float32).reshape(4, 1, 2))
    assert np.array_equal(*results)
    assert results[0].any()
