"""Recurrent cells and layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from megengine_lite._core.formats.onnx.export.graph_writer import OnnxValue
from megengine_lite._core.formats.onnx.export.table import NodeCall, NotExported, exports
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.ir.params import RNNCellNonlineMode
from megengine_lite._core.operators.recurrent import LayerWeights, split_weights

_E = ElementType
_ACTIVATIONS = {
    RNNCellNonlineMode.IDENTITY: "Affine",
    RNNCellNonlineMode.RELU: "Relu",
    RNNCellNonlineMode.TANH: "Tanh",
}
# Ours has input, forget, cell and output gate; ONNX wants input, output, forget and cell gate.
_GATE_ORDER = (0, 3, 1, 2)


def _sums(call: NodeCall) -> OnnxValue:
    """What the weights make of the input and the state, with both biases."""
    w = call.writer
    x, w_x, b_x, h, w_h, b_h = (call.real(k) for k in range(6))
    left = w.op("Gemm", x, w_x, w.reshape(b_x, -1), transB=1)
    return left + w.op("Gemm", h, w_h, w.reshape(b_h, -1), transB=1)


@exports("RNNCellForward")
def _rnn_cell(call: NodeCall) -> None:
    w, sums, mode = call.writer, _sums(call), call.params.nonlineMode
    name = {RNNCellNonlineMode.RELU: "Relu", RNNCellNonlineMode.TANH: "Tanh"}.get(mode)
    call.give_real(sums if name is None else w.op(name, sums))


@exports("LSTMCellForward")
def _lstm_cell(call: NodeCall) -> None:
    w, sums, c = call.writer, _sums(call), call.real(6)
    i, f, g, o = w.nodes_of("Split", [sums], [_E.FLOAT] * 4, axis=1, num_outputs=4 if w.opset >= 18 else None)
    cell = w.op("Sigmoid", f) * c + w.op("Sigmoid", i) * w.op("Tanh", g)
    call.give_real(w.op("Sigmoid", o) * w.op("Tanh", cell))
    call.give_real(cell, 1)
    if call.wanted[2]:
        stacked = w.joined([w.unsqueeze(v, [0]) for v in (i, f, g, o)])
        call.give_real(w.op("Reshape", stacked, w.shape(sums)), 2)


def _ordered(rows: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    """Weights or biases with the gates in another order."""
    parts = np.split(rows, len(order))
    return np.concatenate([parts[k] for k in order]).astype(np.float32)


def _layer_inputs(call: NodeCall, weights: list[LayerWeights], order: tuple[int, ...]) -> list[OnnxValue | None]:
    """The weights of the directions of one layer, as ONNX takes them."""
    w = call.writer
    w_x = np.stack([_ordered(part.w_ih, order) for part in weights])
    w_h = np.stack([_ordered(part.w_hh, order) for part in weights])
    bias: OnnxValue | None = None
    biases = [(part.b_ih, part.b_hh) for part in weights]
    if biases[0][0] is not None:
        both = [np.concatenate([_ordered(b, order) for b in pair if b is not None]) for pair in biases]
        bias = w.constant(np.stack(both))
    return [w.constant(w_x), w.constant(w_h), bias]


@exports("RNNForward", "LSTMForward")
def _layers(call: NodeCall) -> None:
    w, p, is_lstm = call.writer, call.params, call.node.op == "LSTMForward"
    gates, states = (4, 2) if is_lstm else (1, 1)
    order = _GATE_ORDER if is_lstm else (0,)
    flat = call.constant(call.count - 1, "the weights").reshape(-1).astype(np.float32)
    size = call.dim(0, 2, "the size of an element of the sequence")
    directions = 2 if p.bidirectional else 1
    weights = split_weights(call.node, flat, gates, size)
    attributes: dict[str, Any] = {"hidden_size": int(p.hidden_size)}
    attributes["direction"] = "bidirectional" if p.bidirectional else "forward"
    if not is_lstm:
        if p.nonlineMode not in _ACTIVATIONS:
            raise NotExported(f"nonlinearity {p.nonlineMode} is not known")
        attributes["activations"] = [_ACTIVATIONS[p.nonlineMode]] * directions
        if p.nonlineMode == RNNCellNonlineMode.IDENTITY:
            attributes |= {"activation_alpha": [1.0] * directions, "activation_beta": [0.0] * directions}
    x = call.real(0)
    last: list[list[OnnxValue]] = [[] for _ in range(states)]
    for first in range(0, len(weights), directions):
        begin = [w.slice(call.real(1 + k), 0, first, first + directions) for k in range(states)]
        inputs = [x, *_layer_inputs(call, weights[first : first + directions], order), None, *begin]
        y, *ends = w.nodes_of("LSTM" if is_lstm else "RNN", inputs, [_E.FLOAT] * (1 + states), **attributes)
        # [steps, directions, batch, hidden] becomes [steps, batch, directions hidden].
        x = w.reshape(w.transpose(y, [0, 2, 1, 3]), 0, 0, directions * p.hidden_size)
        for k, end in enumerate(ends):
            last[k].append(end)
    call.give_real(x)
    for k, parts in enumerate(last):
        call.give_real(w.joined(parts), 1 + k)
