"""Recurrent layers with the rules of ONNX, step by step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from megengine_lite._core.compile.transform.counterparts.pieces import Pieces, dtype_of, shape_of
from megengine_lite._core.compile.transform.counterparts.table import NotWritten, written
from megengine_lite._core.ir.dtype import FLOAT32, INT32
from megengine_lite._core.ir.graph import AnyNode, AnyVar, Var
from megengine_lite._core.ir.onnx_params import Recurrent as Parameters
from megengine_lite._core.ir.params import ElemwiseMode
from megengine_lite._core.operators.onnx_recurrent import optional_names

_M = ElemwiseMode
_MOST_STEPS = 512


def _hard_sigmoid(w: Pieces, x: Var, a: float, b: float) -> Var:
    slope = w.add(w.multiply(x, w.number(a, x)), w.number(b, x))
    return w.elemwise(_M.MIN, w.elemwise(_M.MAX, slope, w.number(0, x)), w.number(1, x))


def _elu(w: Pieces, x: Var, a: float, b: float) -> Var:
    zero = w.number(0, x)
    below = w.multiply(w.elemwise(_M.EXPM1, w.elemwise(_M.MIN, x, zero)), w.number(a, x))
    return w.add(w.elemwise(_M.MAX, x, zero), below)


_ACTIVATIONS: dict[str, Callable[[Pieces, Var, float, float], Var]] = {
    "Relu": lambda w, x, a, b: w.elemwise(_M.RELU, x),
    "Tanh": lambda w, x, a, b: w.elemwise(_M.TANH, x),
    "Sigmoid": lambda w, x, a, b: w.elemwise(_M.SIGMOID, x),
    "Affine": lambda w, x, a, b: w.add(w.multiply(x, w.number(a, x)), w.number(b, x)),
    "LeakyRelu": lambda w, x, a, b: w.add(
        w.elemwise(_M.MAX, x, w.number(0, x)), w.multiply(w.elemwise(_M.MIN, x, w.number(0, x)), w.number(a, x))
    ),
    "ThresholdedRelu": lambda w, x, a, b: w.less(w.number(a, x), x, x),
    "ScaledTanh": lambda w, x, a, b: w.multiply(w.elemwise(_M.TANH, w.multiply(x, w.number(b, x))), w.number(a, x)),
    "HardSigmoid": _hard_sigmoid,
    "Elu": _elu,
    "Softsign": lambda w, x, a, b: w.divide(x, w.add(w.elemwise(_M.ABS, x), w.number(1, x))),
    "Softplus": lambda w, x, a, b: w.add(
        w.elemwise(_M.LOG1P, w.elemwise(_M.EXP, w.elemwise(_M.NEGATE, w.elemwise(_M.ABS, x)))),
        w.elemwise(_M.MAX, x, w.number(0, x)),
    ),
}


@written("Recurrent")
def _recurrent(w: Pieces, node: AnyNode) -> list[Var]:
    p = node.params
    dtype = dtype_of(node.inputs[0])
    x, weights, recurrent = (w.converted(v, FLOAT32) for v in node.inputs[:3])
    given: dict[str, AnyVar] = dict(zip(optional_names(p), node.inputs[3:], strict=True))
    lengths = given.pop("lengths", None)
    (length, batch, size), directions, hidden = x.shape, weights.shape[0], recurrent.shape[2]
    if not 0 < length <= _MOST_STEPS:
        raise NotWritten(f"{length} steps are not written, only 1 to {_MOST_STEPS}")
    alive = None if lengths is None else _alive(w, lengths, length, batch)
    whole, last = [], []
    for k in range(directions):
        own = {name: w.converted(_one(w, v, k), FLOAT32) for name, v in given.items()}
        cell = _RecurrentSteps(w, p, k, _one(w, weights, k), _one(w, recurrent, k), own, batch)
        backward = p.direction == "reverse" or k == 1
        inputs = w.reshaped(cell.inputs(w.reshaped(x, (length * batch, size))), (length, batch, cell.width))
        states: dict[int, Var] = {}
        for t in range(length)[:: -1 if backward else 1]:
            step = w.reshaped(w.part(inputs, 0, t, t + 1), (batch, cell.width))
            states[t] = cell.step(step, None if alive is None else alive[t])
        rows = [w.reshaped(states[t], (1, 1, batch, hidden)) for t in range(length)]
        whole.append(w.joined(rows, 0))
        last.append([w.reshaped(v, (1, batch, hidden)) for v in (cell.state, cell.memory)])
    results = [w.joined(whole, 1), *(w.joined(list(v), 0) for v in zip(*last, strict=True))]
    return [w.converted(v, dtype) for v in results[: len(node.outputs)]]


def _one(w: Pieces, x: AnyVar, k: int) -> Var:
    """What belongs to one direction."""
    if x.const is not None:
        return w.constant(x.const.array[k], dtype_of(x))
    assert isinstance(x, Var)
    return w.reshaped(w.part(x, 0, k, k + 1), shape_of(x)[1:])


def _alive(w: Pieces, lengths: AnyVar, count: int, batch: int) -> list[Var]:
    """Of each step 1 for the sequences that have it, 0 for the others."""
    ends = w.reshaped(w.converted(lengths, INT32), (batch, 1))
    one = w.constant(np.int32(1))
    return [w.converted(w.less(w.constant(np.int32(t)), ends, one), FLOAT32) for t in range(count)]


class _RecurrentSteps:
    """One direction of a layer."""

    def __init__(
        self, w: Pieces, p: Parameters, k: int, weights: Var, recurrent: Var, given: dict[str, Var], batch: int
    ):
        self.w, self.p = w, p
        self.width, self.hidden = recurrent.shape
        per = len(p.activations) // p.directions
        self.functions = p.activations[k * per : (k + 1) * per]
        self.weights, self.recurrent = (w.transposed(v, (1, 0)) for v in (weights, recurrent))
        bias = given.get("bias")
        self.bias = None if bias is None else w.part(bias, 0, 0, self.width)
        self.recurrent_bias = None if bias is None else w.part(bias, 0, self.width, 2 * self.width)
        nothing = w.constant(np.zeros((batch, self.hidden), np.float32))
        self.state, self.memory = given.get("state", nothing), given.get("cell", nothing)
        peepholes = given.get("peepholes")
        self.peepholes = None if peepholes is None else [self._gate(peepholes, n) for n in range(3)]

    def inputs(self, x: Var) -> Var:
        """What the data of all steps give to the gates."""
        return self._biased(self.w.product(x, self.weights), self.bias)

    def step(self, x: Var, alive: Var | None) -> Var:
        """The state after one more step; what counts as one of a sequence that has it, else 0."""
        w = self.w
        state, memory = {"RNN": self._rnn, "GRU": self._gru, "LSTM": self._lstm}[self.p.cell](x)
        if alive is None:
            self.state, self.memory = state, memory
            return state
        self.state, self.memory = w.choice(alive, state, self.state), w.choice(alive, memory, self.memory)
        return w.at_most(w.number(1, alive), alive, state)

    def _biased(self, x: Var, bias: Var | None) -> Var:
        return x if bias is None else self.w.add(x, self.w.reshaped(bias, (1, bias.shape[0])))

    def _gate(self, x: Var, n: int, count: int = 1) -> Var:
        axis = len(x.shape) - 1
        found = self.w.part(x, axis, n * self.hidden, (n + count) * self.hidden)
        return self.w.reshaped(found, (1, self.hidden)) if axis == 0 else found

    def _apply(self, n: int, x: Var, clips: bool = True) -> Var:
        name, a, b = self.functions[n]
        w, most = self.w, self.p.clip
        if most and clips:
            x = w.elemwise(_M.MIN, w.elemwise(_M.MAX, x, w.number(-most, x)), w.number(most, x))
        return _ACTIVATIONS[name](w, x, a, b)

    def _rnn(self, x: Var) -> tuple[Var, Var]:
        w = self.w
        inner = self._biased(w.product(self.state, self.recurrent), self.recurrent_bias)
        return self._apply(0, w.add(x, inner)), self.memory

    def _part_of_recurrent(self, n: int, count: int) -> tuple[Var, Var | None]:
        begin, end = n * self.hidden, (n + count) * self.hidden
        bias = self.recurrent_bias
        return (
            self.w.part(self.recurrent, 1, begin, end),
            None if bias is None else self.w.part(bias, 0, begin, end),
        )

    def _gru(self, x: Var) -> tuple[Var, Var]:
        w, state = self.w, self.state
        matrix, bias = self._part_of_recurrent(0, 2)
        gates = w.add(self._biased(w.product(state, matrix), bias), self._gate(x, 0, 2))
        update, reset = (self._apply(0, self._gate(gates, n)) for n in (0, 1))
        matrix, bias = self._part_of_recurrent(2, 1)
        if self.p.linear_before_reset:
            inner = w.multiply(reset, self._biased(w.product(state, matrix), bias))
        else:
            inner = self._biased(w.product(w.multiply(reset, state), matrix), bias)
        new = self._apply(1, w.add(self._gate(x, 2), inner))
        kept = w.subtract(w.number(1, update), update)
        return w.add(w.multiply(kept, new), w.multiply(update, state)), self.memory

    def _lstm(self, x: Var) -> tuple[Var, Var]:
        w, memory = self.w, self.memory
        gates = w.add(x, self._biased(w.product(self.state, self.recurrent), self.recurrent_bias))
        i, o, f, g = (self._gate(gates, n) for n in range(4))
        enter = self._apply(0, self._seeing(i, 0, memory))
        if self.p.couples:
            forget = w.subtract(w.number(1, enter), enter)
        else:
            forget = self._apply(0, self._seeing(f, 2, memory))
        new = w.add(w.multiply(forget, memory), w.multiply(enter, self._apply(1, g)))
        leave = self._apply(0, self._seeing(o, 1, new))
        return w.multiply(leave, self._apply(2, new, clips=False)), new

    def _seeing(self, gate: Var, n: int, memory: Var) -> Var:
        """A gate that sees the memory, if there are peepholes."""
        return gate if self.peepholes is None else self.w.add(gate, self.w.multiply(self.peepholes[n], memory))
