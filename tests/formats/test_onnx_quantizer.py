"""What ONNX Runtime's quantizer writes runs here: each of its formats and types, as written and as it is optimized."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_models import load, make, run

quantization = pytest.importorskip("onnxruntime.quantization")
pytestmark = pytest.mark.filterwarnings("ignore")
F = TensorProto.FLOAT
TYPES = quantization.QuantType
QDQ, OPERATORS = quantization.QuantFormat.QDQ, quantization.QuantFormat.QOperator
DYNAMIC = "dynamic"
CASES = [
    *((f, a, w) for f in (QDQ, OPERATORS) for a, w in (("QUInt8", "QInt8"), ("QUInt8", "QUInt8"), ("QInt8", "QInt8"))),
    *((QDQ, a, w) for a in ("QUInt16", "QInt16") for w in ("QInt8", "QInt16")),
    # Of integers with 4 bits, conversions are operators of its own domain; so they are where these are asked for.
    *((QDQ, a, w) for a in ("QUInt8", "QInt8") for w in ("QInt4", "QUInt4")),
    (QDQ, "QUInt8", "QInt8 in its own domain"),
    *((DYNAMIC, "QUInt8", w) for w in ("QInt8", "QUInt8")),
]  # fmt: skip


def network():
    rng = np.random.default_rng(2)

    def real(*shape):
        return (rng.standard_normal(shape) * 0.3).astype(np.float32)

    constants = {"w": real(8, 3, 3, 3), "b": real(8), "d": real(8, 1, 3, 3), "m": real(8, 6), "n": real(6)}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "d"], ["e"], pads=[1, 1, 1, 1], group=8),
        helper.make_node("Sigmoid", ["e"], ["s"]),
        helper.make_node("Mul", ["e", "s"], ["u"]),
        helper.make_node("Add", ["u", "r"], ["a"]),
        helper.make_node("MaxPool", ["a"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["p"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "m", "n"], ["y"]),
    ]
    return make(nodes, [("x", F, ["batch", 3, 8, 8])], [("y", F, ["batch", 6])], constants), real(2, 3, 8, 8)


class Samples(quantization.CalibrationDataReader):
    def __init__(self, x):
        self._left = [{"x": x}, {"x": x * np.float32(0.7)}]

    def get_next(self):
        return self._left.pop() if self._left else None


def quantized(folder, form, activations, weights, per_channel):
    """The file of the network quantized so, and an input."""
    model, x = network()
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    files = str(folder / "model.onnx"), str(folder / "quantized.onnx")
    kind, _, own_domain = weights.partition(" ")
    how = {"weight_type": getattr(TYPES, kind), "per_channel": per_channel}
    if form == DYNAMIC:
        quantization.quantize_dynamic(*files, **how)
    else:
        more = {"extra_options": {"UseQDQContribOps": True}} if own_domain else {}
        kinds = how | {"activation_type": getattr(TYPES, activations)}
        quantization.quantize_static(*files, Samples(x), quant_format=form, **kinds, **more)
    return folder / "quantized.onnx", x


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize(("form", "activations", "weights"), CASES)
def test_quantized_network_gives_what_onnx_runtime_gives(form, activations, weights, per_channel, tmp_path, caplog):
    import onnxruntime

    caplog.set_level(logging.CRITICAL)
    file, x = quantized(tmp_path, form, activations, weights, per_channel)
    levels = onnxruntime.GraphOptimizationLevel
    for level in (levels.ORT_DISABLE_ALL, levels.ORT_ENABLE_EXTENDED):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = level
        options.optimized_model_filepath = str(tmp_path / "saved.onnx")
        (wanted,) = onnxruntime.InferenceSession(str(file), options).run(None, {"x": x})
        for content in (file.read_bytes(), (tmp_path / "saved.onnx").read_bytes()):
            (found,) = run(load(content), x=x)
            # It saturates sums on processors without VNNI, and some roundings fall to the other side.
            np.testing.assert_allclose(found, wanted, rtol=0, atol=0.03 * np.abs(wanted).max())
