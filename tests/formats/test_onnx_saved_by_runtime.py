"""Models that ONNX Runtime's optimizer has saved run here: what it makes of each layer and the function behind it."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_models import load, make, run

pytestmark = pytest.mark.filterwarnings("ignore")
F = TensorProto.FLOAT
RNG = np.random.default_rng(3)
FUNCTIONS = {
    "Abs": [{}], "Celu": [{"alpha": 0.7}], "Clip": [{}], "Elu": [{}, {"alpha": 0.3}], "Erf": [{}], "Exp": [{}],
    "Gelu": [{}], "HardSigmoid": [{}, {"alpha": 0.3, "beta": 0.4}], "HardSwish": [{}], "Identity": [{}],
    "LeakyRelu": [{}, {"alpha": 0.2}], "Neg": [{}], "Relu": [{}], "Selu": [{}, {"alpha": 1.1, "gamma": 0.9}],
    "Sigmoid": [{}], "Softplus": [{}], "Softsign": [{}], "Tanh": [{}], "ThresholdedRelu": [{}, {"alpha": 0.4}],
}  # fmt: skip
CASES = [(op, how) for op, list_of_attributes in FUNCTIONS.items() for how in list_of_attributes]


def real(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def gemm():
    return real(3, 4), [helper.make_node("Gemm", ["x", "w", "b"], ["v"], alpha=0.5)], {"w": real(4, 5), "b": real(5)}


def product_and_sum():
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["v"])]
    return real(3, 4), nodes, {"w": real(4, 5), "b": real(5)}


def convolution():
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["v"], pads=[1, 1, 1, 1])]
    return real(1, 4, 6, 6), nodes, {"w": real(4, 4, 3, 3), "b": real(4)}


def convolution_and_sum():
    nodes = [helper.make_node("Conv", ["x", "w"], ["p"], pads=[1, 1, 1, 1]), helper.make_node("Add", ["p", "x"], ["v"])]
    return real(1, 4, 6, 6), nodes, {"w": real(4, 4, 3, 3)}


def turned_convolution():
    nodes = [helper.make_node("ConvTranspose", ["x", "w", "b"], ["v"], strides=[2, 2])]
    return real(1, 4, 6, 6), nodes, {"w": real(4, 4, 3, 3), "b": real(4)}


def biased():
    return real(2, 3, 4), [helper.make_node("Add", ["x", "b"], ["v"])], {"b": real(4)}


@pytest.mark.parametrize(("op", "how"), CASES, ids=[f"{op} {how}" for op, how in CASES])
@pytest.mark.parametrize("layer", [gemm, product_and_sum, convolution, convolution_and_sum, turned_convolution, biased])
def test_functions_behind_layers(layer, op, how, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    x, nodes, constants = layer()
    inputs = ["v"]
    if op == "Clip":
        inputs += ["low", "high"]
        constants |= {"low": np.float32(-0.2), "high": np.float32(0.5)}
    nodes.append(helper.make_node(op, inputs, ["y"], **how))
    model = make(nodes, [("x", F, list(x.shape))], [("y", F, None)], constants, 20)
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "saved.onnx")
    (wanted,) = runtime.InferenceSession(model.SerializeToString(), options).run(None, {"x": x})
    (found,) = run(load((tmp_path / "saved.onnx").read_bytes()), x=x)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
