"""Recurrent, normalized and quantized layers that are written as ONNX give what ours give."""

from __future__ import annotations

import numpy as np
import pytest
from support.graphs import QuantizedBuilder
from support.onnx_exports import ARITHMETIC, FUNCTION, check_export, exported, floats, one_node, operators_of

from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import FLOAT32, DType, DTypeCode
from megengine_lite._core.ir.params import PoolingMode

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

S8 = DTypeCode.QUANTIZED_S8


@pytest.mark.parametrize("bias", [True, False])
def test_gates_of_lstm_layers_change_their_order(bias):
    p = params.LSTM(num_layers=2, bidirectional=True, bias=bias, hidden_size=3)
    sizes = [12 * (n + 3 + 2 * bias) for n in (4, 4, 6, 6)]
    state = floats(4, 2, 3, seed=2)
    values = floats(5, 2, 4), state, -state, floats(sum(sizes), seed=1) / 2
    model = one_node("LSTMForward", p, *values, constants=[3], outputs=4, taken=3, tolerance=FUNCTION)
    assert operators_of(model).count("LSTM") == 2


@pytest.mark.parametrize("mode", list(params.RNNCellNonlineMode))
def test_plain_recurrent_layers_have_each_activation(mode):
    p = params.RNN(hidden_size=3, nonlineMode=mode)
    values = floats(5, 2, 4), floats(1, 2, 3, seed=2), floats(3 * (4 + 3 + 2), seed=1) / 2
    again = mode != params.RNNCellNonlineMode.IDENTITY
    one_node("RNNForward", p, *values, constants=[2], outputs=3, taken=2, tolerance=FUNCTION, again=again)


def test_layer_norm_is_one_node_and_group_norm_three_steps():
    x = floats(2, 6, 4, 5)
    weight, bias = floats(4, 5, seed=1), floats(4, 5, seed=2)
    p = params.LayerNorm(normalized_dim=2, normalized_size=20)
    model = one_node("LayerNorm", p, x, weight, bias, constants=[1, 2], outputs=3, taken=1, tolerance=FUNCTION)
    assert operators_of(model) == ["LayerNormalization"]
    p = params.GroupNorm(group=3)
    one_node("GroupNorm", p, x, floats(6), floats(6, seed=1), constants=[1, 2], outputs=3, tolerance=FUNCTION)


def quantized_convolution():
    builder = QuantizedBuilder()
    x_type, w_type = DType(S8, 0.05), DType(S8, 0.02)
    x, w = builder.data((1, 4, 6, 6)), builder.weight((8, 4, 3, 3), w_type)
    sums = DType(DTypeCode.QUANTIZED_S32, float(np.float32(0.05) * np.float32(0.02)))
    bias = builder.weight((1, 8, 1, 1), sums, low=-500, high=500)
    stored = builder.node("TypeCvt", params.DTypeTable(dtype=x_type), [x])
    made = builder.typed_node("ConvBiasForward", params.ConvBias(pad_h=1), [stored, w, bias], DType(S8, 0.1))
    out = builder.node("TypeCvt", params.DTypeTable(dtype=FLOAT32), [made])
    return builder.finish(out), builder.values


def test_quantized_convolutions_stand_between_quantize_and_dequantize():
    import onnx
    from onnx import numpy_helper

    graph, values = quantized_convolution()
    content, _ = exported(graph)
    model = onnx.load_from_string(content)
    names = operators_of(model)
    assert names.count("QuantizeLinear") == 1 and names.count("Conv") == 1
    makers = {output: node for node in model.graph.node for output in node.output}
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    (convolution,) = [node for node in model.graph.node if node.op_type == "Conv"]
    kinds = [stored[makers[name].input[0]].dtype.name for name in convolution.input[1:]]
    assert kinds == ["int8", "int32"]
    check_export(graph, values, 0.1 / 12)  # one step


def test_averages_of_quantized_numbers_round_halves_away_from_zero():
    builder = QuantizedBuilder()
    x = builder.data((1, 4, 6, 6), DType(S8, 0.05))
    pooled = builder.typed_node("Pooling", params.Pooling(mode=PoolingMode.AVERAGE), [x])
    graph = builder.finish(builder.node("TypeCvt", params.DTypeTable(dtype=FLOAT32), [pooled]))
    check_export(graph, builder.values, ARITHMETIC)
