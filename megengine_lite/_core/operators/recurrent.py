"""Recurrent cells and layers, in double precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import BYTE, DType
from megengine_lite._core.ir.graph import AnyNode, Node, TensorSpec
from megengine_lite._core.ir.params import RNNCellNonlineMode
from megengine_lite._core.ir.quantize import from_float32, to_float64
from megengine_lite._core.operators.base import Operator, ProductOperator, fail, register
from megengine_lite._core.operators.checks import check_count, check_float, check_ndim, check_same_shape
from megengine_lite._core.operators.facts import InOriginal

Array = np.ndarray

_NONLINEARITIES: dict[int, Callable[[Array], Array]] = {
    RNNCellNonlineMode.IDENTITY: lambda x: x,
    RNNCellNonlineMode.RELU: lambda x: np.maximum(x, 0),
    RNNCellNonlineMode.TANH: np.tanh,
}


def _sigmoid(x: Array) -> Array:
    result: np.ndarray = 1 / (1 + np.exp(-x))
    return result


def _lstm_step(gates: Array, c: Array) -> tuple[Array, Array]:
    """h and c after a step; ``gates`` has input, forget, cell and output gate side by side."""
    i, f, g, o = np.split(gates, 4, axis=-1)
    c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    return _sigmoid(o) * np.tanh(c), c


def _load(ins: Sequence[Array], dtype: DType) -> list[Array]:
    return [to_float64(x, dtype) for x in ins]


def _store(x: Array, dtype: DType) -> Array:
    return from_float32(x.astype(np.float32), dtype)


class _Cell(Operator):
    """One step: inputs x [B, I], W_ih [G H, I], b_ih, h [B, H], W_hh [G H, H], b_hh[, c [B, H]]."""

    gates: ClassVar[int]

    def multiply_adds(self, node: Node) -> int:
        return node.inputs[0].shape[0] * (node.inputs[1].spec.size + node.inputs[4].spec.size)

    def _check(self, node: AnyNode, ins: Sequence[TensorSpec]) -> tuple[int, int, DType]:
        dtype = check_float(node, ins)
        batch, size = check_ndim(node, ins[0], 2, "x")
        _, hidden = check_ndim(node, ins[3], 2, "h")
        rows = self.gates * hidden
        check_same_shape(node, ins[3], (batch, hidden), "h")
        check_same_shape(node, ins[1], (rows, size), "the weight of x")
        check_same_shape(node, ins[4], (rows, hidden), "the weight of h")
        for bias in (ins[2], ins[5]):
            if bias.size != rows or bias.shape[-1] != rows:
                raise fail(node, f"a bias must have {rows} elements, its shape is {bias.shape}")
        return batch, hidden, dtype

    @staticmethod
    def _sums(x: Array, w_ih: Array, b_ih: Array, h: Array, w_hh: Array, b_hh: Array) -> Array:
        result: np.ndarray = x @ w_ih.T + b_ih.reshape(-1) + h @ w_hh.T + b_hh.reshape(-1)
        return result


@register
class RNNCellForward(_Cell):
    """One step of a plain recurrent layer."""

    name = "RNNCellForward"
    param = params.RNNCell
    gates = 1
    in_original = InOriginal(label="rnn_cell")
    element_types = "floats"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 6)
        batch, hidden, dtype = self._check(node, ins)
        if node.params.nonlineMode not in _NONLINEARITIES:
            raise fail(node, f"nonlinearity {node.params.nonlineMode} is not known")
        return [TensorSpec((batch, hidden), dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        dtype = out_specs[0].dtype
        sums = self._sums(*_load(ins, dtype))
        return [_store(_NONLINEARITIES[node.params.nonlineMode](sums), dtype)]


@register
class LSTMCellForward(_Cell):
    """One step of an LSTM; outputs h, c and the gates before their activation.

    The gates have the shape [B, 4 H] and, as in the original, the order [4, B, H].
    """

    name = "LSTMCellForward"
    param = params.Empty
    gates = 4
    in_original = InOriginal(type="LSTMCell", label="lstm_cell")
    n_outputs = 3
    element_types = "floats"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 7)
        batch, hidden, dtype = self._check(node, ins)
        check_same_shape(node, ins[6], (batch, hidden), "c")
        state = TensorSpec((batch, hidden), dtype)
        return [state, state, TensorSpec((batch, 4 * hidden), dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        dtype = out_specs[0].dtype
        *operands, c = _load(ins, dtype)
        gates = self._sums(*operands)
        batch, hidden = c.shape
        ordered = gates.reshape(batch, 4, hidden).swapaxes(0, 1).reshape(gates.shape)
        return [_store(v, dtype) for v in (*_lstm_step(gates, c), ordered)]


class LayerWeights(NamedTuple):
    """Weights of one direction of one layer; biases are None in layers without."""

    w_ih: Array
    w_hh: Array
    b_ih: Array | None
    b_hh: Array | None


def split_weights(node: AnyNode, flat: Array, gates: int, input_size: int) -> list[LayerWeights]:
    """The weights of all layers and directions, as views of the flat tensor of a file, in its order."""
    p = node.params
    directions = 2 if p.bidirectional else 1
    rows = gates * p.hidden_size
    found, position = [], 0

    def take(*shape: int) -> Array:
        nonlocal position
        size = int(np.prod(shape))
        part = flat[position : position + size].reshape(shape)
        position += size
        return part

    for layer in range(p.num_layers):
        size = input_size if layer == 0 else p.hidden_size * directions
        for _ in range(directions):
            w_ih, w_hh = take(rows, size), take(rows, p.hidden_size)
            biases = (take(rows), take(rows)) if p.bias else (None, None)
            found.append(LayerWeights(w_ih, w_hh, *biases))
    return found


def count_weights(node: AnyNode, gates: int, input_size: int) -> int:
    """Number of elements of the flat weights."""
    p = node.params
    directions = 2 if p.bidirectional else 1
    rows = gates * p.hidden_size
    biases = 2 if p.bias else 0
    first = rows * (input_size + p.hidden_size + biases)
    later = rows * (p.hidden_size * directions + p.hidden_size + biases)
    result: int = directions * (first + (p.num_layers - 1) * later)
    return result


class _Layers(ProductOperator):
    """Layers over a sequence.

    Inputs x [T, B, I], h0 [layers directions, B, H][, c0], flat weights; outputs y [T, B, H directions], last h[, c],
    and an empty tensor that only training needs.
    """

    gates: ClassVar[int]
    n_states: ClassVar[int]

    def multiply_adds(self, node: Node) -> int:
        p = node.params
        steps, batch = node.inputs[0].shape[:2]
        n_biases = 2 * self.gates * p.hidden_size * p.num_layers * (1 + p.bidirectional) if p.bias else 0
        return steps * batch * (node.inputs[-1].spec.size - n_biases)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, self.n_states + 2)
        p, dtype = node.params, check_float(node, ins)
        if p.num_layers < 1 or p.hidden_size < 1:
            raise fail(node, f"cannot have {p.num_layers} layers of size {p.hidden_size}")
        length, batch, size = check_ndim(node, ins[0], 3, "x")
        directions = 2 if p.bidirectional else 1
        state = (p.num_layers * directions, batch, p.hidden_size)
        for spec in ins[1:-1]:
            check_same_shape(node, spec, state, "an initial state")
        expected = count_weights(node, self.gates, size)
        if ins[-1].size != expected:
            raise fail(node, f"needs {expected} weights, has {ins[-1].size}")
        last = [TensorSpec(state, dtype)] * self.n_states
        return [TensorSpec((length, batch, p.hidden_size * directions), dtype), *last, TensorSpec((0,), BYTE)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        dtype = out_specs[0].dtype
        x, *states, flat = _load(ins, dtype)
        directions = 2 if node.params.bidirectional else 1
        weights = split_weights(node, flat.reshape(-1), self.gates, x.shape[2])
        for first in range(0, len(weights), directions):
            outputs = []
            for direction in range(directions):
                number = first + direction
                sequence = x[::-1] if direction else x
                state = tuple(s[number] for s in states)
                y, last = self._run(node, sequence, state, weights[number])
                outputs.append(y[::-1] if direction else y)
                for s, value in zip(states, last, strict=True):
                    s[number] = value
            x = np.concatenate(outputs, axis=2)
        reserve = np.zeros(0, np.uint8)
        return [*(_store(v, dtype) for v in (x, *states)), reserve]

    def _run(
        self, node: AnyNode, x: Array, state: tuple[Array, ...], weights: LayerWeights
    ) -> tuple[Array, tuple[Array, ...]]:
        """One direction of one layer: h of all steps, and the last state."""
        sums = x @ weights.w_ih.T
        if weights.b_ih is not None:
            sums = sums + weights.b_ih + weights.b_hh
        y = np.empty((*x.shape[:2], node.params.hidden_size))
        for t, gates in enumerate(sums):
            state = self.step(node, gates + state[0] @ weights.w_hh.T, state)
            y[t] = state[0]
        return y, state

    def step(self, node: AnyNode, gates: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
        """The state after a step; h comes first."""
        raise NotImplementedError


@register
class RNNForward(_Layers):
    """Plain recurrent layers; inputs x, h0, weights."""

    name = "RNNForward"
    param = params.RNN
    gates = 1
    n_states = 1
    in_original = InOriginal(type="RNN", label="rnn_fwd", mentioned_inputs=1)
    n_outputs = 3
    element_types = "floats"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        if node.params.nonlineMode not in _NONLINEARITIES:
            raise fail(node, f"nonlinearity {node.params.nonlineMode} is not known")
        return super().infer(node, ins)

    def step(self, node: AnyNode, gates: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
        return (_NONLINEARITIES[node.params.nonlineMode](gates),)


@register
class LSTMForward(_Layers):
    """LSTM layers; inputs x, h0, c0, weights; gates in the order input, forget, cell, output.

    ``proj_size`` changes nothing, as in the original: states and weights have the size ``hidden_size``.
    """

    name = "LSTMForward"
    param = params.LSTM
    gates = 4
    n_states = 2
    in_original = InOriginal(type="LSTM", label="lstm")
    n_outputs = 4
    element_types = "floats"

    def step(self, node: AnyNode, gates: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
        return _lstm_step(gates, state[1])
